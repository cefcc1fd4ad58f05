/*
 * partition.h
 *		Partitions of the tables that grow with time: finding the one that a
 *		time belongs to, and having missing ones made.
 *
 * pg_partman makes and retires the partitions; this module drives it and keeps
 * that work out of the way of readers and of the caller's transaction.
 */
#ifndef SENTIENT_PARTITION_H
#define SENTIENT_PARTITION_H

#include "datatype/timestamp.h"
#include "utils/relcache.h"

typedef struct PartitionRange
{
	Oid			relid;			/* InvalidOid when no partition takes the time */
	bool		is_default;
	TimestampTz lower;			/* inclusive; for the default partition the time asked for */
	TimestampTz upper;			/* exclusive; for the default partition the time asked for */
} PartitionRange;

extern void partition_init(void);

/*
 * Find the partition of parent (range-partitioned by one timestamptz column)
 * that takes the time.  The caller holds a lock on parent.
 */
extern PartitionRange partition_find(Relation parent, TimestampTz time);

/*
 * Have a partition made for each of these times, by a background worker in a
 * transaction of its own, and wait for it within bounds.  The times that still
 * have none afterwards belong to the default partition for now; the caller
 * looks again with partition_find and calls partition_request_drain if so.
 * Never raises an error for want of a partition.  The caller holds
 * RowExclusiveLock on parent at most, and nothing on its default partition.
 */
extern void partition_ensure(Oid parent, const TimestampTz *times, int ntimes);

/*
 * Rows of this transaction went to parent's default partition: once it has
 * committed, have them moved to partitions of their own.  Cheap to repeat.
 */
extern void partition_request_drain(Oid parent);

/*
 * True while rows are moved from a default partition to their own, or a table
 * makes way for the one that a dump restores: for triggers, to which that is no
 * change.
 */
extern bool partition_housekeeping(void);

/* True while a partition is made: for event triggers, to which that is no DDL of anybody's. */
extern bool partition_making(void);

/*
 * Called in the transaction that detaches or drops partitions for their age, just
 * before: none of their rows is of that time or later.
 */
extern void (*partition_retire_hook) (Oid parent, TimestampTz before, const Oid *partitions, int npartitions);

/*
 * Called, inside a sql_begin scope, in the transaction that ends the restore of a
 * table whose rows have waited meanwhile: moves them there.
 */
extern void (*partition_restored_hook) (Oid parent);

/*
 * Conditions on m, a row of sentient_edge.managed_tables, in queries of the sql_begin
 * scopes.  That a dump is being restored into the table is not believed for being
 * written there: the dump has made the table, so that it does not depend on the
 * extension before the restore has ended.
 */
#define TABLE_IS_BEING_RESTORED \
	"(m.restored_at IS NOT NULL AND NOT " TABLE_DEPENDS_ON_EXTENSION ")"
#define TABLE_DEPENDS_ON_EXTENSION \
	"EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'sentient_edge'" \
	" WHERE d.classid = 'pg_class'::regclass AND d.objid = to_regclass(m.table_name)" \
	" AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x')"

/* All that CREATE EXTENSION gave it is there again, and foreign keys are enforced; may be null. */
#define TABLE_IS_COMPLETE \
	"((SELECT count(*) FILTER (WHERE i.indisvalid) >= m.indexes AND bool_and(i.indisvalid)" \
	" FROM pg_index i WHERE i.indrelid = to_regclass(m.table_name))" \
	" AND (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = to_regclass(m.table_name) AND NOT t.tgisinternal) >= m.triggers" \
	" AND NOT EXISTS (SELECT FROM sentient_edge.foreign_keys f WHERE NOT f.is_enforced))"

#endif							/* SENTIENT_PARTITION_H */
