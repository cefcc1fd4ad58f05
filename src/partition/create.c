/*
 * create.c
 *		Making the partition of one time, with the rows of it that wait in the
 *		default partition.
 *
 * Called by maintenance.c only.  Locks, in this order: SHARE UPDATE EXCLUSIVE on
 * the parent, which keeps a second maintainer out and nobody else; SHARE ROW
 * EXCLUSIVE on the default partition, so that no row of the range comes to it
 * while it is looked at and emptied, though readers go on; and ACCESS EXCLUSIVE
 * on the default partition for the moment of ATTACH.  The last one is what jams
 * behind a long reader: it is asked for under lock_timeout, and the whole is
 * undone and tried again if need be.  One transaction, so a crash leaves either
 * nothing or all of it.
 *
 * pg_partman makes the partition when it is an aligned one and nothing has to be
 * moved into it.  Otherwise it is made here: pg_partman cannot make one of a
 * different length, nor one whose name is taken by a detached partition, and
 * its partition_data_time moves rows through a temporary table while writers
 * may still add to the default partition, which makes its ATTACH fail.
 */
#include "postgres.h"

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

static char *partition_name(const ManagedTable *table, Relation parent, TimestampTz lower, bool *first_choice);
static bool default_holds(const ManagedTable *table, Oid default_relid, TimestampTz lower, TimestampTz upper);
static uint64 partition_build(const ManagedTable *table, Relation parent, const PartitionMade *made, bool move);
static uint64 partition_fill(const ManagedTable *table, Relation parent, const PartitionMade *made);

PartitionMade
partition_create(const ManagedTable *table, Relation parent, TimestampTz time)
{
	PartitionInterval interval = managed_settings(table)->interval;
	PartitionMade made;
	PartitionRange there;
	PartitionRange gap;
	Oid			default_relid;
	bool		first_choice;
	bool		move;

	memset(&made, 0, sizeof(made));
	LockRelationOid(RelationGetRelid(parent), ShareUpdateExclusiveLock);
	there = partition_find(parent, time);
	if (!there.is_default)
	{
		made.existed = true;
		made.name = get_rel_name(there.relid);
		made.lower = there.lower;
		made.upper = there.upper;
		return made;
	}

	default_relid = partition_default(parent);
	LockRelationOid(default_relid, ShareRowExclusiveLock);

	/* The aligned range, or what the neighbours leave of it. */
	interval_range(interval, time, &made.lower, &made.upper);
	gap = partition_gap(parent, time);
	if (gap.lower > made.lower || gap.upper < made.upper)
	{
		made.clipped = true;
		made.lower = Max(made.lower, gap.lower);
		made.upper = Min(made.upper, gap.upper);
	}
	made.name = partition_name(table, parent, made.lower, &first_choice);
	move = default_holds(table, default_relid, made.lower, made.upper);

	if (!made.clipped && !move && first_choice)
		partman_create_partition(table, made.lower);
	else
		made.moved = partition_build(table, parent, &made, move);

	CommandCounterIncrement();
	there = partition_find(parent, time);
	if (there.is_default)
		ereport(ERROR,
				(errcode(ERRCODE_SE_PARTITION_UNAVAILABLE),
				 errmsg("partition \"%s\" of table \"%s\" was not made", made.name, managed_name(table)),
				 errdetail("pg_partman reported no error.")));
	return made;
}

/* A name that is free: "<table>_p20180101", else with a number after it. */
static char *
partition_name(const ManagedTable *table, Relation parent, TimestampTz lower, bool *first_choice)
{
	char	   *suffix = interval_suffix(lower);
	char	   *name = psprintf("%s_p%s", table->name, suffix);

	*first_choice = true;
	for (int i = 2; OidIsValid(get_relname_relid(name, RelationGetNamespace(parent))); i++)
	{
		*first_choice = false;
		name = psprintf("%s_p%s_%d", table->name, suffix, i);
	}
	return name;
}

static bool
default_holds(const ManagedTable *table, Oid default_relid, TimestampTz lower, TimestampTz upper)
{
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2] = {TimestampTzGetDatum(lower), TimestampTzGetDatum(upper)};
	const char *control = quote_identifier(table->control);

	return sql_query(psprintf("SELECT FROM ONLY %s WHERE %s >= $1 AND %s < $2 LIMIT 1",
							  quote_qualified_identifier(table->schema, get_rel_name(default_relid)),
							  control, control),
					 2, types, values) > 0;
}

/* Make the table, fill it, attach it; returns how many rows were moved. */
static uint64
partition_build(const ManagedTable *table, Relation parent, const PartitionMade *made, bool move)
{
	char	   *partition = quote_qualified_identifier(table->schema, made->name);
	char	   *whole = quote_qualified_identifier(table->schema, table->name);
	Oid			owner = parent->rd_rel->relowner;
	char	   *tablespace = get_tablespace_name(parent->rd_rel->reltablespace);
	uint64		moved = 0;

	/* No indexes: ATTACH builds them, once the rows are there. */
	(void) sql_query(psprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY)%s%s",
							  partition, whole, tablespace ? " TABLESPACE " : "",
							  tablespace ? quote_identifier(tablespace) : ""), 0, NULL, NULL);
	partman_inherit_template(table, made->name);
	if (owner != GetUserId())
		(void) sql_query(psprintf("ALTER TABLE %s OWNER TO %s", partition,
								  quote_identifier(GetUserNameFromId(owner, false))), 0, NULL, NULL);
	if (move)
		moved = partition_fill(table, parent, made);
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
partition_fill(const ManagedTable *table, Relation parent, const PartitionMade *made)
{
	const char *control = quote_identifier(table->control);
	TupleDesc	desc = RelationGetDescr(parent);
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2] = {TimestampTzGetDatum(made->lower), TimestampTzGetDatum(made->upper)};
	StringInfoData columns;
	Oid			user;
	int			security;
	int			nest_level = NewGUCNestLevel();
	uint64		moved;

	initStringInfo(&columns);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || attribute->attgenerated != '\0')
			continue;
		appendStringInfo(&columns, "%s%s", columns.len > 0 ? ", " : "",
						 quote_identifier(NameStr(attribute->attname)));
	}

	sql_set_local("session_replication_role", "replica");
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(parent->rd_rel->relowner, security | SECURITY_RESTRICTED_OPERATION);
	moved = sql_query(psprintf("WITH moved AS (DELETE FROM ONLY %s WHERE %s >= $1 AND %s < $2 RETURNING %s)"
							   " INSERT INTO %s (%s) SELECT %s FROM moved",
							   quote_qualified_identifier(table->schema, get_rel_name(partition_default(parent))),
							   control, control, columns.data,
							   quote_qualified_identifier(table->schema, made->name), columns.data, columns.data),
					  2, types, values);
	SetUserIdAndSecContext(user, security);
	AtEOXact_GUC(false, nest_level);
	return moved;
}
