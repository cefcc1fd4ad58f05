/*
 * find.h
 *		The partitions of a parent as the relation cache knows them; callers hold
 *		a lock on the parent.
 */
#ifndef SENTIENT_PARTITION_FIND_H
#define SENTIENT_PARTITION_FIND_H

#include "partition/partition.h"

/* Is the relation range-partitioned by one timestamptz column? */
extern bool partition_supported(Relation parent);

/* The default partition, or InvalidOid. */
extern Oid	partition_default(Relation parent);

/* The widest range around the time, which has no partition, that no partition covers; relid is unused. */
extern PartitionRange partition_gap(Relation parent, TimestampTz time);

/* All but the default partition in order of time; returns how many. */
extern int	partition_list(Relation parent, PartitionRange **ranges);

#endif							/* SENTIENT_PARTITION_FIND_H */
