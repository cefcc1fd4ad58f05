/*
 * partman.h
 *		What the extension asks of pg_partman.  Every function runs inside a
 *		sql_begin scope.
 */
#ifndef SENTIENT_PARTITION_PARTMAN_H
#define SENTIENT_PARTITION_PARTMAN_H

#include "datatype/timestamp.h"

#include "partition/managed.h"

/* Does part_config have the table's row? */
extern bool partman_registered(const ManagedTable *table);

/* Register the table, or bring its row in line with the settings; true when something changed. */
extern bool partman_configure(const ManagedTable *table);

/* Delete its row. */
extern void partman_forget(const ManagedTable *table);

/*
 * Have the partition that begins at this time made, one configured interval
 * long; false when pg_partman must not be called here.
 */
extern bool partman_create_partition(const ManagedTable *table, TimestampTz lower);

/* Give a partition what the template table has and a parent cannot hold. */
extern void partman_inherit_template(const ManagedTable *table, const char *partition);

/* May pg_partman be called here to retire partitions? */
extern bool partman_can_retire(void);

/* Have the partitions that are past their retention detached or dropped. */
extern void partman_retire(const ManagedTable *table);

#endif							/* SENTIENT_PARTITION_PARTMAN_H */
