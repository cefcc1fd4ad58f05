/*
 * create.h
 *		Making the partition of one time.
 */
#ifndef SENTIENT_PARTITION_CREATE_H
#define SENTIENT_PARTITION_CREATE_H

#include "partition/managed.h"
#include "partition/partition.h"

typedef struct PartitionMade
{
	bool		existed;		/* the time had one already */
	bool		clipped;		/* shorter than the configured interval */
	char	   *name;			/* without its schema */
	TimestampTz lower;
	TimestampTz upper;
	uint64		moved;			/* rows that came from the default partition */
} PartitionMade;

/*
 * Have a partition made for the time, which must be finite, in the current
 * transaction, inside a sql_begin scope, and move the rows there that the
 * default partition holds for it.  With stop_writers no INSERT into the parent
 * is under way meanwhile.  Raises an error when a lock cannot be had in time.
 */
extern PartitionMade partition_create(const ManagedTable *table, Oid parent, TimestampTz time,
									  bool stop_writers);

#endif							/* SENTIENT_PARTITION_CREATE_H */
