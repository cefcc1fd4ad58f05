/*
 * events_ddl.c
 *		Security events of DDL on the objects of a database: event triggers, which
 *		work without the preload as well.
 *
 * One event for each command that has ended, in its transaction: a command whose
 * event cannot be written fails.  Not recorded are temporary objects, but for
 * functions, which may act as their owner; what the script of an extension does; and
 * what the extension's own maintenance makes.
 * What a command does to the capture of a table is told besides (events_capture.c).
 * That a dump is being restored is an event; its commands, and whatever else comes
 * until the restore has ended, are recorded as ever, and say so.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "postmaster/bgworker.h"
#include "tcop/cmdtag.h"
#include "utils/builtins.h"

#include "base/sql.h"
#include "compat.h"
#include "events/events.h"
#include "events/events_capture.h"
#include "events/events_hooks.h"
#include "partition/partition.h"

PG_FUNCTION_INFO_V1(record_ddl);
PG_FUNCTION_INFO_V1(record_drop);

/* Is this one of the extension's own workers? */
static bool
own_worker(void)
{
	return MyBgworkerEntry != NULL && strcmp(MyBgworkerEntry->bgw_library_name, "sentient_edge") == 0;
}

static const EventTriggerData *
check_call(FunctionCallInfo fcinfo, const char *function)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s must be called as an event trigger", function)));
	return (const EventTriggerData *) fcinfo->context;
}

/* Has a dump begun to restore audit.log, and is not done yet? */
bool
events_restoring(void)
{
	return sql_query("SELECT FROM sentient_edge.managed_tables m"
					 " WHERE m.table_name = 'audit.log' AND " TABLE_IS_BEING_RESTORED, 0, NULL, NULL) > 0;
}

static SecurityEventType
type_of(const char *tag, const char *object_type)
{
	if (strcmp(tag, "GRANT") == 0 || strcmp(tag, "REVOKE") == 0 || strcmp(tag, "ALTER DEFAULT PRIVILEGES") == 0)
		return EVENT_PRIVILEGE_CHANGED;
	if (object_type != NULL && strcmp(object_type, "extension") == 0)
		return EVENT_EXTENSION_CHANGED;
	return EVENT_DDL;
}

/* What one command has made or changed, as the given query tells: type, identity, how many. */
static void
record(const EventTriggerData *data, const char *query)
{
	const char *tag = GetCommandTagName(data->tag);
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(tag)};
	SecurityEvent event;
	char	   *object_type;
	char	   *identity;
	char	   *others;
	SqlScope	scope;

	if (!OidIsValid(sql_extension()))
		return;
	scope = sql_begin(0);
	if (sql_query(query, 1, types, values) == 0)
	{
		sql_end(&scope);
		return;
	}
	object_type = sql_string(0, 0);
	identity = sql_string(0, 1);
	others = sql_string(0, 2);
	security_event_begin(&event, type_of(tag, object_type), EVENT_SUCCEEDED);
	if (events_restoring())
	{
		/* Whoever restores makes this table. */
		if (identity != NULL && strcmp(identity, "audit.log") == 0 && strcmp(tag, "CREATE TABLE") == 0)
		{
			security_event_begin(&event, EVENT_RESTORE, EVENT_SUCCEEDED);
			security_event_message(&event, "a dump is being restored");
		}
		security_event_detail(&event, "restore", "true");
	}
	if (identity != NULL)
		security_event_object(&event, identity);
	if (IsA(data->parsetree, GrantStmt))
		events_describe_grant(&event, (const GrantStmt *) data->parsetree);
	security_event_detail(&event, "command", tag);
	if (object_type != NULL)
		security_event_detail(&event, "object_type", object_type);
	if (others != NULL && strcmp(others, "1") != 0)
		security_event_detail(&event, "objects", others);
	security_event(&event);
	sql_end(&scope);
}

/* audit.record_ddl(): event trigger on ddl_command_end. */
Datum
record_ddl(PG_FUNCTION_ARGS)
{
	const EventTriggerData *data = check_call(fcinfo, "record_ddl");

	if (!creating_extension && !IsBinaryUpgrade && !own_worker() && !partition_making())
	{
		record(data, "SELECT object_type, object_identity, count(*) OVER ()"
			   " FROM pg_event_trigger_ddl_commands()"
			   " WHERE NOT in_extension AND (schema_name IS DISTINCT FROM 'pg_temp' OR object_type IN ('function', 'procedure'))"
			   " ORDER BY command_tag = $1 DESC LIMIT 1");
		events_capture_command(data);
	}
	PG_RETURN_NULL();
}

/* audit.record_drop(): event trigger on sql_drop. */
Datum
record_drop(PG_FUNCTION_ARGS)
{
	const EventTriggerData *data = check_call(fcinfo, "record_drop");

	/* What workers drop, retention has dropped: that is told. */
	if (!creating_extension && !IsBinaryUpgrade && !partition_making() && !partition_housekeeping())
	{
		record(data, "WITH forgotten AS (DELETE FROM audit.watched_tables w USING pg_event_trigger_dropped_objects() d"
			   "  WHERE d.classid = 'pg_class'::regclass AND d.objid = w.watched_table RETURNING 1)"
			   " SELECT d.object_type, d.object_identity, count(*) OVER () + 0 * (SELECT count(*) FROM forgotten)"
			   " FROM pg_event_trigger_dropped_objects() d"
			   " WHERE d.original AND NOT d.is_temporary AND $1 IS NOT NULL LIMIT 1");
		events_capture_dropped(data);
	}
	PG_RETURN_NULL();
}
