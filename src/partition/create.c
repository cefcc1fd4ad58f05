/*
 * create.c
 *		Making the partition of one time, with the rows of it that wait in the
 *		default partition.
 *
 * Called by steps.c only.  Locks, in this order:
 *
 * - On the parent SHARE ROW EXCLUSIVE, which waits until no transaction has
 *   written to it, and has new ones wait.  An INSERT that has chosen the default
 *   partition for its row and then waits for the lock on it would fail with a
 *   violated partition constraint once the row's own partition is there.  When
 *   an ingest call waits for the partition, it has written to the parent itself:
 *   then it is SHARE UPDATE EXCLUSIVE, which keeps a second maintainer out and
 *   nobody else; ingest looks again after it has the lock, and only a plain
 *   INSERT of the same new month at the same moment can fail.
 * - On the default partition SHARE ROW EXCLUSIVE, so that no row of the range
 *   comes to it while it is looked at and emptied, though readers go on.
 * - ACCESS EXCLUSIVE on the default partition for the moment of ATTACH and, when
 *   rows have been moved, before that on the parent: queries that come then look
 *   at the partitions afterwards.  This is what jams behind a long reader.
 *
 * All are asked for under lock_timeout, and the whole is undone and tried again
 * if need be.  One transaction, so a crash leaves either nothing or all of it.
 *
 * pg_partman makes the partition when it is an aligned one, nothing has to be
 * moved into it, and it may be called (partman.c).  Otherwise it is made here: pg_partman cannot make one of a
 * different length, nor one whose name is taken by a detached partition, and
 * its partition_data_time moves rows through a temporary table while writers
 * may still add to the default partition, which makes its ATTACH fail.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "errors.h"
#include "partition/create.h"
#include "partition/find.h"
#include "partition/interval.h"
#include "partition/partman.h"

/* What is to be made, and where. */
typedef struct PartitionPlan
{
	const ManagedTable *table;
	Oid			parent;
	Oid			namespace;
	Oid			owner;
	Oid			tablespace;
	char	   *default_name;	/* quoted and qualified */
	char	   *columns;		/* those that can be written, quoted */
} PartitionPlan;

static bool partition_there(const ManagedTable *table, Oid parent, TimestampTz time, PartitionMade *made, PartitionPlan *plan);
static char *partition_name(const PartitionPlan *plan, TimestampTz lower, bool *first_choice);
static bool default_holds(const PartitionPlan *plan, TimestampTz lower, TimestampTz upper);
static uint64 partition_build(const PartitionPlan *plan, const PartitionMade *made, bool move);
static uint64 partition_fill(const PartitionPlan *plan, const PartitionMade *made);

PartitionMade
partition_create(const ManagedTable *table, Oid parent, TimestampTz time, bool stop_writers)
{
	PartitionMade made;
	PartitionMade check;
	PartitionPlan plan = {0};
	bool		first_choice;
	bool		move;

	LockRelationOid(parent, stop_writers ? ShareRowExclusiveLock : ShareUpdateExclusiveLock);
	if (partition_there(table, parent, time, &made, &plan))
		return made;
	made.name = partition_name(&plan, made.lower, &first_choice);
	move = default_holds(&plan, made.lower, made.upper);

	managed_making = true;
	PG_TRY();
	{
		if (made.clipped || move || !first_choice || !partman_create_partition(table, made.lower))
			made.moved = partition_build(&plan, &made, move);
	}
	PG_FINALLY();
	{
		managed_making = false;
	}
	PG_END_TRY();

	CommandCounterIncrement();
	if (!partition_there(table, parent, time, &check, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_SE_PARTITION_UNAVAILABLE),
				 errmsg("partition \"%s\" of table \"%s\" was not made", made.name, managed_name(table)),
				 errdetail("pg_partman reported no error.")));
	return made;
}

/*
 * Does the time have a partition?  If not, and there is a plan to make, lock
 * the default partition and find out what the new one's range will be.
 */
static bool
partition_there(const ManagedTable *table, Oid parent, TimestampTz time, PartitionMade *made, PartitionPlan *plan)
{
	Relation	rel = table_open(parent, NoLock);
	PartitionRange there = partition_find(rel, time);
	PartitionRange gap;
	StringInfoData columns;

	memset(made, 0, sizeof(*made));
	made->existed = !there.is_default;
	if (made->existed)
	{
		made->name = get_rel_name(there.relid);
		made->lower = there.lower;
		made->upper = there.upper;
	}
	if (made->existed || plan == NULL)
	{
		table_close(rel, NoLock);
		return made->existed;
	}

	LockRelationOid(partition_default(rel), ShareRowExclusiveLock);

	/* The aligned range, or what the neighbours leave of it. */
	interval_range(managed_settings(table)->interval, time, &made->lower, &made->upper);
	gap = partition_gap(rel, time);
	if (gap.lower > made->lower || gap.upper < made->upper)
	{
		made->clipped = true;
		made->lower = Max(made->lower, gap.lower);
		made->upper = Min(made->upper, gap.upper);
	}

	plan->table = table;
	plan->parent = parent;
	plan->namespace = RelationGetNamespace(rel);
	plan->owner = rel->rd_rel->relowner;
	plan->tablespace = rel->rd_rel->reltablespace;
	plan->default_name = quote_qualified_identifier(table->schema, get_rel_name(partition_default(rel)));
	initStringInfo(&columns);
	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), i);

		if (attribute->attisdropped || attribute->attgenerated != '\0')
			continue;
		appendStringInfo(&columns, "%s%s", columns.len > 0 ? ", " : "",
						 quote_identifier(NameStr(attribute->attname)));
	}
	plan->columns = columns.data;
	table_close(rel, NoLock);
	return false;
}

/* A name that is free: "<table>_p20180101", else with a number after it. */
static char *
partition_name(const PartitionPlan *plan, TimestampTz lower, bool *first_choice)
{
	char	   *suffix = interval_suffix(lower);
	char	   *name = psprintf("%s_p%s", plan->table->name, suffix);

	*first_choice = true;
	for (int i = 2; OidIsValid(get_relname_relid(name, plan->namespace)); i++)
	{
		*first_choice = false;
		name = psprintf("%s_p%s_%d", plan->table->name, suffix, i);
	}
	return name;
}

static bool
default_holds(const PartitionPlan *plan, TimestampTz lower, TimestampTz upper)
{
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2] = {TimestampTzGetDatum(lower), TimestampTzGetDatum(upper)};
	const char *control = quote_identifier(plan->table->control);

	return sql_query(psprintf("SELECT FROM ONLY %s WHERE %s >= $1 AND %s < $2 LIMIT 1",
							  plan->default_name, control, control), 2, types, values) > 0;
}

/* Make the table, fill it, attach it; returns how many rows were moved. */
static uint64
partition_build(const PartitionPlan *plan, const PartitionMade *made, bool move)
{
	char	   *partition = quote_qualified_identifier(plan->table->schema, made->name);
	char	   *whole = quote_qualified_identifier(plan->table->schema, plan->table->name);
	char	   *tablespace = get_tablespace_name(plan->tablespace);
	uint64		moved = 0;

	/* No indexes: ATTACH builds them, once the rows are there. */
	(void) sql_query(psprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY)%s%s",
							  partition, whole, tablespace ? " TABLESPACE " : "",
							  tablespace ? quote_identifier(tablespace) : ""), 0, NULL, NULL);
	partman_inherit_template(plan->table, made->name);
	if (plan->owner != GetUserId())
		(void) sql_query(psprintf("ALTER TABLE %s OWNER TO %s", partition,
								  quote_identifier(GetUserNameFromId(plan->owner, false))), 0, NULL, NULL);
	if (move)
	{
		moved = partition_fill(plan, made);

		/*
		 * A query that waited on the default partition only would go on with
		 * the list of partitions it took before, and miss what has moved.
		 */
		LockRelationOid(plan->parent, AccessExclusiveLock);
	}
	(void) sql_query(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)", whole, partition,
							  quote_literal_cstr(interval_bound(made->lower)),
							  quote_literal_cstr(interval_bound(made->upper))), 0, NULL, NULL);
	return moved;
}

/*
 * Move the rows of the range from the default partition to the new table.  They
 * are moved, not changed, so no trigger may see it.  Checks and the like run as
 * the table's owner, as they would on any write.
 */
static uint64
partition_fill(const PartitionPlan *plan, const PartitionMade *made)
{
	const char *control = quote_identifier(plan->table->control);
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2] = {TimestampTzGetDatum(made->lower), TimestampTzGetDatum(made->upper)};
	Oid			user;
	int			security;
	int			nest_level = NewGUCNestLevel();
	uint64		moved = 0;

	sql_set_local("session_replication_role", "replica");
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(plan->owner, security | SECURITY_RESTRICTED_OPERATION);
	managed_housekeeping = true;
	PG_TRY();
	{
		moved = sql_query(psprintf("WITH moved AS (DELETE FROM ONLY %s WHERE %s >= $1 AND %s < $2 RETURNING %s)"
								   " INSERT INTO %s (%s) SELECT %s FROM moved",
								   plan->default_name, control, control, plan->columns,
								   quote_qualified_identifier(plan->table->schema, made->name), plan->columns, plan->columns),
						  2, types, values);
	}
	PG_FINALLY();
	{
		managed_housekeeping = false;
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, security);
	AtEOXact_GUC(false, nest_level);
	return moved;
}
