/*
 * events_capture.c
 *		Security events of what stops the capture of an audited table, or changes its
 *		rows past it.
 *
 * A table's owner may disable, drop, replace and rename the triggers that capture
 * its changes (src/capture/enable.c), have its rows rewritten by ALTER TABLE, and attach and
 * detach partitions with rows in them.  None of that makes entries; all of it is
 * told here, as an event in the transaction of the command: if it cannot be
 * written, the command fails.  Called by the event triggers of events_ddl.c when a
 * command has ended or has dropped something, and by one of its own before a table
 * is rewritten; works without the preload.
 *
 * What is told is the state that a table has after the command, of all its
 * partitions: triggers are known by their functions, whatever their names are.
 * Takes no locks but those of reading catalogs, and AccessShareLock on a partition
 * that is looked into.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/cmdtag.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/sql.h"
#include "capture/enable.h"
#include "capture/targets.h"
#include "events/events.h"
#include "events/events_capture.h"
#include "events/events_hooks.h"
#include "partition/partition.h"

PG_FUNCTION_INFO_V1(record_rewrite);

/* What rewrites rows otherwise than they were. */
#define REWRITES_VALUES			(AT_REWRITE_DEFAULT_VAL | AT_REWRITE_COLUMN_REWRITE)

/* State of a table with its partitions. */
typedef struct CaptureState
{
	char	   *name;
	bool		audited;
	bool		ours;			/* a table of the extension */
	char	   *stopped;		/* what is not captured, or NULL */
	char	   *evadable;		/* what is not under session_replication_role */
} CaptureState;

/* What a command is about. */
typedef struct CaptureCommand
{
	const EventTriggerData *data;
	bool		all_triggers;
	bool		replaces;		/* a trigger, by whatever name */
	List	   *triggers;		/* names */
	List	   *partitions;		/* of PartitionCmd */
	bool		attach;
} CaptureCommand;

/* The rewrite that was told of last, in its command: a table has many partitions. */
static struct
{
	Node	   *statement;
	TransactionId xid;
	Oid			table;
}			last_rewrite;

static void told_change(Oid relid, CaptureChange change, const char *exclude, const char *mask);

void
events_capture_init(void)
{
	capture_change_hook = told_change;
}

/* ---- what is told ---- */

/* Is the table audited, by itself or with one that it belongs to? */
#define IS_AUDITED(id) \
	"(EXISTS (SELECT FROM audit.targets a WHERE a.table_id = " id \
	"  OR a.table_id IN (SELECT pg_partition_ancestors(" id ")))" \
	" OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = " id " AND t.tgfoid = 'audit.capture_row()'::regprocedure))"

/* False when the table is gone. */
static bool
capture_state(Oid relid, CaptureState *state)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	bool		isnull;

	if (sql_query("WITH RECURSIVE tree (id) AS (SELECT $1"
				  " UNION ALL SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.id"
				  "  JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition),"
				  " f (place, what, id) AS (VALUES (1, 'rows', 'audit.capture_row()'::regprocedure),"
				  "  (2, 'TRUNCATE', 'audit.capture_truncate()'::regprocedure)),"
				  " found AS (SELECT f.place, f.what, bool_or(coalesce(t.tgenabled, 'D') IN ('D', 'R')) AS stopped,"
				  "   bool_or(t.tgenabled = 'O') AS evadable"
				  "  FROM tree JOIN pg_class c ON c.oid = tree.id AND c.relkind IN ('r', 'p') CROSS JOIN f"
				  "  LEFT JOIN pg_trigger t ON t.tgrelid = tree.id AND t.tgfoid = f.id AND t.tgqual IS NULL GROUP BY 1, 2)"
				  " SELECT format('%I.%I', n.nspname, c.relname), " IS_AUDITED("c.oid") ","
				  "  EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'sentient_edge'"
				  "   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_extension'::regclass),"
				  "  (SELECT string_agg(what, ', ' ORDER BY place) FROM found WHERE stopped),"
				  "  (SELECT string_agg(what, ', ' ORDER BY place) FROM found WHERE evadable)"
				  " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1", 1, types, values) == 0)
		return false;
	state->name = sql_string(0, 0);
	state->audited = DatumGetBool(sql_value(0, 1, &isnull));
	state->ours = DatumGetBool(sql_value(0, 2, &isnull));
	state->stopped = sql_string(0, 3);
	state->evadable = sql_string(0, 4);
	return true;
}

/* An event of a table, a warning or a mere notice; a detail without a value is left out. */
static void
tell(const CaptureState *state, const char *tag, bool notice, const char *message, const char *name, const char *value)
{
	SecurityEvent event;
	bool		restoring = events_restoring();

	/* That the extension's tables stand back is the restore's own event. */
	if (restoring && state->ours)
		return;
	security_event_begin(&event, EVENT_AUDIT_CHANGED, EVENT_SUCCEEDED);
	if (notice || restoring)
		security_event_severity(&event, SEVERITY_NOTICE);
	if (restoring)
		security_event_detail(&event, "restore", "true");
	security_event_object(&event, state->name);
	security_event_message(&event, message);
	security_event_detail(&event, "command", tag);
	if (value != NULL)
		security_event_detail(&event, name, value);
	security_event(&event);
}

static void
tell_state(const CaptureState *state, const char *tag)
{
	if (state->stopped != NULL)
		tell(state, tag, false, "capture was stopped", "of", state->stopped);
	else if (state->evadable != NULL)
		tell(state, tag, false, "session_replication_role stops capture", "of", state->evadable);
	else
		tell(state, tag, true, "capture goes on", NULL, NULL);
}

/* audit.enable or audit.disable has changed what is captured. */
static void
told_change(Oid relid, CaptureChange change, const char *exclude, const char *mask)
{
	static const char *const messages[] = {
		[CAPTURE_BEGUN] = "changes are captured",
		[CAPTURE_ALTERED] = "what is captured was changed",
		[CAPTURE_ENDED] = "changes are no longer captured",
	};
	SecurityEvent event;

	if (creating_extension)
		return;
	security_event_begin(&event, EVENT_AUDIT_CHANGED, EVENT_SUCCEEDED);
	if (change == CAPTURE_BEGUN)
		security_event_severity(&event, SEVERITY_NOTICE);
	security_event_object(&event, quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid)));
	security_event_message(&event, messages[change]);
	security_event_detail(&event, "operation", change == CAPTURE_ENDED ? "disable" : "enable");
	if (exclude != NULL)
		security_event_detail(&event, "exclude", exclude);
	if (mask != NULL)
		security_event_detail(&event, "mask", mask);
	security_event(&event);
}

/* ---- commands that have ended ---- */

/* False when the command has nothing to do with capture. */
static bool
read_command(CaptureCommand *command)
{
	Node	   *statement = command->data->parsetree;
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_CreateTrigStmt:
			/* A trigger that is replaced has another function: whether it captured, nobody knows any more. */
			command->replaces = castNode(CreateTrigStmt, statement)->replace;
			command->all_triggers = command->replaces &&
				(strcmp(castNode(CreateTrigStmt, statement)->trigname, TARGET_ROW_TRIGGER) == 0 ||
				 strcmp(castNode(CreateTrigStmt, statement)->trigname, TARGET_TRUNCATE_TRIGGER) == 0);
			return command->replaces;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType != OBJECT_TRIGGER)
				return false;
			command->triggers = list_make1(castNode(RenameStmt, statement)->newname);
			return true;
		case T_AlterTableStmt:
			foreach(cell, castNode(AlterTableStmt, statement)->cmds)
			{
				AlterTableCmd *part = lfirst_node(AlterTableCmd, cell);

				switch (part->subtype)
				{
					case AT_EnableTrig:
					case AT_EnableAlwaysTrig:
					case AT_EnableReplicaTrig:
					case AT_DisableTrig:
						command->triggers = lappend(command->triggers, part->name);
						break;
					case AT_EnableTrigAll:
					case AT_DisableTrigAll:
					case AT_EnableTrigUser:
					case AT_DisableTrigUser:
						command->all_triggers = true;
						break;
					case AT_AttachPartition:
					case AT_DetachPartition:
					case AT_DetachPartitionFinalize:
						command->attach = part->subtype == AT_AttachPartition;
						command->partitions = lappend(command->partitions, part->def);
						break;
					default:
						break;
				}
			}
			return command->all_triggers || command->triggers != NIL || command->partitions != NIL;
		default:
			return false;
	}
}

/* Is one of the named triggers one that captures? */
static bool
names_capture(Oid relid, List *names)
{
	Oid			types[2] = {OIDOID, TEXTARRAYOID};
	Datum		values[2] = {ObjectIdGetDatum(relid)};
	Datum	   *elements = palloc(sizeof(Datum) * Max(list_length(names), 1));
	ListCell   *cell;

	foreach(cell, names)
		elements[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
	values[1] = sql_array(elements, NULL, list_length(names), TEXTOID);
	return sql_query("SELECT FROM pg_trigger WHERE tgrelid = $1 AND tgname = ANY ($2)"
					 " AND tgfoid IN ('audit.capture_row()'::regprocedure, 'audit.capture_truncate()'::regprocedure)",
					 2, types, values) > 0;
}

/* Has the table rows?  Nobody asks another server: foreign tables among its partitions count as rows. */
static bool
has_rows(Oid relid, const char *name)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};

	return sql_query("SELECT FROM pg_class c WHERE c.relkind = 'f'"
					 " AND (c.oid = $1 OR c.oid IN (SELECT p.relid FROM pg_partition_tree($1) p))", 1, types, values) > 0 ||
		sql_query(psprintf("SELECT FROM %s LIMIT 1", name), 0, NULL, NULL) > 0;
}

/* Rows came with a partition, or went with one. */
static void
tell_partition(const CaptureState *state, const CaptureCommand *command, Oid partition)
{
	char	   *name;

	if (!OidIsValid(partition) || partition_making() || partition_housekeeping())
		return;
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(partition)), get_rel_name(partition));
	if (!has_rows(partition, name))
		return;
	tell(state, GetCommandTagName(command->data->tag), false,
		 command->attach ? "rows came in without entries" : "rows left without entries", "partition", name);
}

/* What the command has done to one of its tables. */
static void
tell_command(const CaptureCommand *command, Oid relid, const List *partitions)
{
	const char *tag = GetCommandTagName(command->data->tag);
	const char *renamed = IsA(command->data->parsetree, RenameStmt) ? linitial(command->triggers) : NULL;
	CaptureState state;
	ListCell   *cell;

	if ((command->triggers != NIL && !command->all_triggers && command->partitions == NIL && !names_capture(relid, command->triggers)) ||
		!capture_state(relid, &state) || !state.audited)
		return;
	if (renamed != NULL && strcmp(renamed, TARGET_ROW_TRIGGER) != 0 && strcmp(renamed, TARGET_TRUNCATE_TRIGGER) != 0)
		tell(&state, tag, false, "a trigger that captures was renamed", "trigger", renamed);
	else if (command->partitions == NIL && (!command->replaces || command->all_triggers || state.stopped != NULL))
		tell_state(&state, tag);
	foreach(cell, partitions)
		tell_partition(&state, command, lfirst_oid(cell));
}

/* The oids that a query finds. */
static List *
find_relations(const char *query)
{
	uint64		n = sql_query(query, 0, NULL, NULL);
	List	   *relids = NIL;
	bool		isnull;

	for (uint64 i = 0; i < n; i++)
		relids = lappend_oid(relids, DatumGetObjectId(sql_value(i, 0, &isnull)));
	return relids;
}

void
events_capture_command(const EventTriggerData *data)
{
	CaptureCommand command = {.data = data};
	List	   *partitions = NIL;
	ListCell   *cell;
	SqlScope	scope;
	List	   *relids;

	last_rewrite.statement = NULL;
	if (capture_is_arranging() || !OidIsValid(sql_extension()) || !read_command(&command))
		return;
	foreach(cell, command.partitions)
		partitions = lappend_oid(partitions, RangeVarGetRelid(castNode(PartitionCmd, lfirst(cell))->name, NoLock, true));

	scope = sql_begin(0);
	/* ALTER TABLE may make sequences and indexes before it is told of itself. */
	relids = find_relations("SELECT DISTINCT coalesce(t.tgrelid, c.objid) FROM pg_event_trigger_ddl_commands() c"
							" LEFT JOIN pg_trigger t ON c.classid = 'pg_trigger'::regclass AND t.oid = c.objid"
							" LEFT JOIN pg_class r ON r.oid = c.objid"
							" WHERE (c.classid = 'pg_trigger'::regclass OR c.classid = 'pg_class'::regclass AND r.relkind IN ('r', 'p'))"
							"  AND NOT c.in_extension AND c.schema_name IS DISTINCT FROM 'pg_temp'");
	foreach(cell, relids)
		tell_command(&command, lfirst_oid(cell), partitions);
	sql_end(&scope);
}

void
events_capture_dropped(const EventTriggerData *data)
{
	SqlScope	scope;
	List	   *relids;
	ListCell   *cell;

	if (capture_is_arranging() || !OidIsValid(sql_extension()))
		return;
	scope = sql_begin(0);
	/* Triggers of partitions go with that of the table. */
	relids = find_relations("WITH d AS MATERIALIZED (SELECT DISTINCT to_regclass(format('%I.%I', address_names[1], address_names[2]))::oid AS id"
							"  FROM pg_event_trigger_dropped_objects() WHERE object_type = 'trigger' AND NOT is_temporary)"
							" SELECT d.id FROM d WHERE d.id IS NOT NULL AND NOT EXISTS (SELECT FROM d o"
							"  WHERE o.id <> d.id AND o.id IN (SELECT pg_partition_ancestors(d.id)))");
	foreach(cell, relids)
	{
		CaptureState state;

		if (capture_state(lfirst_oid(cell), &state) && state.audited && state.stopped != NULL)
			tell_state(&state, GetCommandTagName(data->tag));
	}
	sql_end(&scope);
}

/* ---- rewrites ---- */

/* The columns that a command adds or gives another type; NULL when it tells none. */
static char *
rewritten_columns(Node *statement)
{
	StringInfoData names;
	ListCell   *cell;

	if (!IsA(statement, AlterTableStmt))
		return NULL;
	initStringInfo(&names);
	foreach(cell, castNode(AlterTableStmt, statement)->cmds)
	{
		AlterTableCmd *part = lfirst_node(AlterTableCmd, cell);
		const char *name = NULL;

		if (part->subtype == AT_AlterColumnType)
			name = part->name;
		else if (part->subtype == AT_AddColumn && part->def != NULL && IsA(part->def, ColumnDef))
			name = castNode(ColumnDef, part->def)->colname;
		if (name != NULL)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", name);
	}
	return names.len > 0 ? names.data : NULL;
}

/*
 * audit.record_rewrite(): event trigger on table_rewrite.  A new persistence or
 * access method leaves values as they are.
 */
Datum
record_rewrite(PG_FUNCTION_ARGS)
{
	const EventTriggerData *data = (const EventTriggerData *) fcinfo->context;
	CaptureState state;
	SqlScope	scope;
	bool		isnull;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("record_rewrite must be called as an event trigger")));
	if (creating_extension || IsBinaryUpgrade || !OidIsValid(sql_extension()))
		PG_RETURN_NULL();

	scope = sql_begin(0);
	/* The table that audit.enable was called for; ancestors come from the nearest on. */
	if (sql_query("SELECT r.id, pg_event_trigger_table_rewrite_reason() FROM"
				  " (SELECT pg_event_trigger_table_rewrite_oid() AS id, 0 AS height UNION ALL"
				  "  SELECT p.id, p.height FROM pg_partition_ancestors(pg_event_trigger_table_rewrite_oid()) WITH ORDINALITY AS p (id, height)) r"
				  " WHERE " IS_AUDITED("r.id") " ORDER BY EXISTS (SELECT FROM audit.targets a WHERE a.table_id = r.id) DESC, r.height DESC LIMIT 1",
				  0, NULL, NULL) > 0 &&
		(DatumGetInt32(sql_value(0, 1, &isnull)) & REWRITES_VALUES) != 0)
	{
		Oid			table = DatumGetObjectId(sql_value(0, 0, &isnull));
		TransactionId xid = GetTopTransactionIdIfAny();

		if ((last_rewrite.statement != data->parsetree || last_rewrite.table != table || last_rewrite.xid != xid) &&
			capture_state(table, &state))
		{
			tell(&state, GetCommandTagName(data->tag), false, "rows were rewritten without entries",
				 "columns", rewritten_columns(data->parsetree));
			last_rewrite.statement = data->parsetree;
			last_rewrite.table = table;
			last_rewrite.xid = GetTopTransactionIdIfAny();
		}
	}
	sql_end(&scope);
	PG_RETURN_NULL();
}
