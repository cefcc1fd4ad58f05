/*
 * table_trigger.c
 *		What happens to an audited table as a whole: TRUNCATE and DROP.
 *
 * TRUNCATE comes by a BEFORE STATEMENT trigger, while the rows can still be
 * counted; PostgreSQL clones no such trigger to partitions, so the event trigger
 * audit.follow_partitions() does.  DROP comes by an event trigger after the fact,
 * of tables and partitions that had the row trigger.  Entries have operation T and
 * no key; old_values tells the number of rows, new_values what happened.
 *
 * Rows are counted up to COUNTED_BYTES of table; beyond that the number is
 * estimated from the statistics.  Runs under the lock of TRUNCATE or DROP.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/sql.h"
#include "capture/capture.h"
#include "capture/enable.h"
#include "capture/log_write.h"
#include "capture/table_trigger.h"
#include "capture/targets.h"
#include "compat.h"
#include "partition/partition.h"

#define COUNTED_BYTES			"67108864"

PG_FUNCTION_INFO_V1(audit_capture_truncate);
PG_FUNCTION_INFO_V1(audit_note_drops);
PG_FUNCTION_INFO_V1(audit_follow_partitions);

static void truncate_entry(Oid relid);

/* audit.capture_truncate(): the trigger. */
Datum
audit_capture_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("capture_truncate must be a BEFORE TRUNCATE trigger")));
	truncate_entry(RelationGetRelid(trigger->tg_relation));
	return PointerGetDatum(NULL);
}

/* An entry of a table that is about to lose all its rows. */
static void
truncate_entry(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *table = get_rel_name(relid);
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	bool		isnull;
	bool		exact;
	Jsonb	   *rows;
	Jsonb	   *marker;
	SqlScope	scope = sql_begin(0);

	(void) sql_query("SELECT sum(pg_relation_size(relid)) <= " COUNTED_BYTES
					 " FROM (SELECT relid FROM pg_partition_tree($1) WHERE isleaf"
					 "       UNION SELECT $1::regclass) AS t", 1, types, values);
	exact = DatumGetBool(sql_value(0, 0, &isnull)) && !isnull;
	if (exact)
		(void) sql_query(psprintf("SELECT jsonb_build_object('rows', count(*), 'exact', true),"
								  " jsonb_build_object('event', 'truncate') FROM %s",
								  quote_qualified_identifier(schema, table)), 0, NULL, NULL);
	else
		(void) sql_query("SELECT jsonb_build_object('rows', coalesce(sum(round(c.reltuples"
						 "  * (pg_relation_size(c.oid) / current_setting('block_size')::float8 / c.relpages)))"
						 "  FILTER (WHERE c.relpages > 0 AND c.reltuples > 0), 0)::bigint, 'exact', false),"
						 " jsonb_build_object('event', 'truncate') FROM pg_class c"
						 " WHERE c.relkind = 'r' AND c.oid IN (SELECT relid FROM pg_partition_tree($1) UNION SELECT $1)",
						 1, types, values);
	rows = DatumGetJsonbP(sql_value(0, 0, &isnull));
	marker = DatumGetJsonbP(sql_value(0, 1, &isnull));
	SetUserIdAndSecContext(scope.user, scope.security);
	capture_add('T', schema, table, NULL, rows, marker);
	sql_end(&scope);
}

/*
 * audit.note_drops(): the sql_drop event trigger.  What is dropped is gone by now
 * but for its statistics.
 */
Datum
audit_note_drops(PG_FUNCTION_ARGS)
{
	SqlScope	scope;
	uint64		n;
	bool		isnull;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("note_drops must be called as an event trigger")));
	if (creating_extension || partition_housekeeping() || !log_exists())
		PG_RETURN_NULL();

	scope = sql_begin(0);
	(void) sql_query("DELETE FROM audit.targets WHERE table_id::oid IN (SELECT objid FROM pg_event_trigger_dropped_objects()"
					 " WHERE classid = 'pg_class'::regclass AND objsubid = 0)", 0, NULL, NULL);
	n = sql_query("SELECT d.schema_name, d.object_name,"
				  " jsonb_build_object('rows', coalesce(pg_stat_get_live_tuples(d.objid), 0), 'exact', false),"
				  " jsonb_build_object('event', 'drop')"
				  " FROM pg_event_trigger_dropped_objects() d"
				  " WHERE d.object_type = 'table' AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() t"
				  "       WHERE t.object_type = 'trigger' AND t.address_names ="
				  "             ARRAY[d.schema_name, d.object_name, '" TARGET_ROW_TRIGGER "'])"
				  " ORDER BY 1, 2", 0, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		SetUserIdAndSecContext(scope.user, scope.security);
		capture_add('T', sql_string(i, 0), sql_string(i, 1), NULL,
					DatumGetJsonbP(sql_value(i, 2, &isnull)), DatumGetJsonbP(sql_value(i, 3, &isnull)));
	}
	sql_end(&scope);
	PG_RETURN_NULL();
}

/* Run the commands that the last query has written, n of them. */
static void
run_commands(uint64 n)
{
	char	  **commands = palloc(sizeof(char *) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
		commands[i] = sql_string(i, 0);
	for (uint64 i = 0; i < n; i++)
		(void) sql_query(commands[i], 0, NULL, NULL);
}

void
truncate_triggers_follow(Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	uint64		n;

	n = sql_query("SELECT format('CREATE TRIGGER %1$I BEFORE TRUNCATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION %3$s;"
				  " ALTER TABLE %2$s ENABLE ALWAYS TRIGGER %1$I', t.tgname, p.child::regclass, t.tgfoid::regprocedure)"
				  " FROM (SELECT inhrelid, inhparent FROM pg_inherits WHERE inhrelid = $1"
				  "       UNION SELECT relid, $1 FROM pg_partition_tree($1) WHERE relid <> $1) AS p (child, parent)"
				  " JOIN pg_trigger t ON t.tgrelid = p.parent AND t.tgenabled <> 'D' AND t.tgtype & 34 = 34"
				  "  AND t.tgfoid IN ('audit.capture_truncate()'::regprocedure, 'audit.append_only()'::regprocedure)"
				  " WHERE NOT EXISTS (SELECT FROM pg_trigger o WHERE o.tgrelid = p.child AND o.tgname = t.tgname)"
				  "   AND EXISTS (SELECT FROM pg_class c WHERE c.oid = p.child AND c.relispartition AND c.relkind IN " COMPAT_TRUNCATE_KINDS ")",
				  1, types, values);
	capture_arrange(true);
	PG_TRY();
	{
		run_commands(n);
	}
	PG_FINALLY();
	{
		capture_arrange(false);
	}
	PG_END_TRY();
}

/*
 * Partitions of a table that only grows tell subscribers of removed rows as it
 * does; PostgreSQL hands that down to none, and pg_partman since 5.
 */
static void
replica_identity_follows(Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	uint64		n;

	n = sql_query("SELECT format('ALTER TABLE %s REPLICA IDENTITY FULL', c.oid::regclass)"
				  " FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid JOIN pg_class p ON p.oid = i.inhparent"
				  " WHERE $1 IN (c.oid, p.oid) AND c.relispartition AND c.relreplident = 'd' AND p.relreplident = 'f'"
				  "   AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = p.oid AND t.tgfoid = 'audit.append_only()'::regprocedure)",
				  1, types, values);
	run_commands(n);
}

/* Does the statement bring a partition?  A dump attaches partitions before it makes triggers. */
static bool
brings_partition(Node *statement)
{
	ListCell   *cell;

	if (IsA(statement, CreateStmt))
		return castNode(CreateStmt, statement)->partbound != NULL;
	if (IsA(statement, AlterTableStmt))
	{
		foreach(cell, castNode(AlterTableStmt, statement)->cmds)
		{
			if (lfirst_node(AlterTableCmd, cell)->subtype == AT_AttachPartition)
				return true;
		}
	}
	return false;
}

/* audit.follow_partitions(): the ddl_command_end event trigger. */
Datum
audit_follow_partitions(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = (EventTriggerData *) fcinfo->context;
	SqlScope	scope;
	Oid		   *relids;
	uint64		n;
	bool		isnull;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("follow_partitions must be called as an event trigger")));
	if (IsBinaryUpgrade || !brings_partition(event->parsetree))
		PG_RETURN_NULL();

	scope = sql_begin(0);
	n = sql_query("SELECT objid FROM pg_event_trigger_ddl_commands()"
				  " WHERE classid = 'pg_class'::regclass AND object_type = 'table'", 0, NULL, NULL);
	relids = palloc(sizeof(Oid) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
		relids[i] = DatumGetObjectId(sql_value(i, 0, &isnull));
	for (uint64 i = 0; i < n; i++)
	{
		truncate_triggers_follow(relids[i]);
		replica_identity_follows(relids[i]);
	}
	sql_end(&scope);
	PG_RETURN_NULL();
}
