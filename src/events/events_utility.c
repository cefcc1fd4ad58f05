/*
 * events_utility.c
 *		Security events of commands, seen by a ProcessUtility hook in a preloaded
 *		server: roles, databases, parameters, what a superuser reads and writes
 *		past the tables, and what fails.
 *
 * Only names are taken from a command, and before it runs: never its text, nor
 * a password, nor the value of a parameter.  A change that its transaction can
 * take back is written in that transaction, and fails when it cannot be written;
 * what cannot be taken back (ALTER SYSTEM, DROP DATABASE), or changes no table,
 * goes through shared memory when it has succeeded.  DDL on the objects of
 * a database is recorded by event triggers (events_ddl.c), so that it is without
 * the preload; the event triggers themselves are looked after here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_type.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "events/events_hooks.h"
#include "events/events_watch.h"

/* How the event of a command is recorded. */
typedef enum Recording
{
	RECORD_NOTHING,
	RECORD_FAILURE,				/* an event trigger records the success */
	RECORD_IN_TRANSACTION,
	RECORD_AFTERWARDS,
} Recording;

/* What is known of a command before it runs. */
typedef struct Command
{
	Recording	recording;
	Oid			copied;			/* the watched table that it copies out, or InvalidOid */
	bool		sets_parameter;
	const char *tag;
	QueryCompletion *completion;
} Command;

/*
 * Parameters of which a session's SET is an event: what others see, or whether it is recorded, depends on them.
 * Those that events_session_look sees, by whatever means they are set, are not among them.
 */
static const char *const watched_parameters[] = {
	"log_connections", "log_min_messages", "log_statement",
};

static ProcessUtility_hook_type previous_utility = NULL;

static void hook_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
						 ProcessUtilityContext context, ParamListInfo params,
						 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion);
static Recording describe(Node *statement, SecurityEvent *event, Oid *copied);
static void bulk_copy(Oid copied, int64 rows, bool succeeded);

void
events_utility_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = hook_utility;
}

static void
run_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (previous_utility)
		previous_utility(planned, query, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context, params, environment, dest, completion);
}

static void
hook_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *statement = planned->utilityStmt;
	SecurityEvent event;
	Command		said = {RECORD_NOTHING};
	QueryCompletion own_completion;

	/* COMMIT and its like; an aborted transaction runs nothing else. */
	if (IsA(statement, TransactionStmt) || !events_session_watched() || creating_extension || IsBinaryUpgrade)
	{
		run_utility(planned, query, read_only_tree, context, params, environment, dest, completion);
		return;
	}

	(void) watch_list_load();
	events_session_look();
	/* A CALL that commits leaves nothing of the statement: what is asked of it is asked now. */
	said.tag = GetCommandTagName(CreateCommandTag(statement));
	said.sets_parameter = IsA(statement, VariableSetStmt);
	said.recording = describe(statement, &event, &said.copied);
	if (said.recording != RECORD_NOTHING)
		security_event_detail(&event, "command", said.tag);
	InitializeQueryCompletion(&own_completion);
	said.completion = &own_completion;
	if (completion != NULL)
		said.completion = completion;

	PG_TRY();
	{
		run_utility(planned, query, read_only_tree, context, params, environment, dest, said.completion);
	}
	PG_CATCH();
	{
		if (OidIsValid(said.copied))
			bulk_copy(said.copied, 0, false);
		if (!events_error_caught(said.tag) && said.recording != RECORD_NOTHING)
		{
			SecurityEvent failed;

			security_event_begin(&failed, event.key.type, EVENT_FAILED);
			memcpy(failed.key.database, event.key.database, sizeof(failed.key.database));
			memcpy(failed.key.object, event.key.object, sizeof(failed.key.object));
			memcpy(failed.key.details, event.key.details, sizeof(failed.key.details));
			security_event_detail(&failed, "sqlstate", unpack_sql_state(geterrcode()));
			(void) security_event_queue(&failed);
			events_error_recorded();
		}
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (said.recording == RECORD_AFTERWARDS)
		(void) security_event_queue(&event);
	else if (said.recording == RECORD_IN_TRANSACTION)
	{
		if (watch_list_load())
			security_event(&event);
		else
			(void) security_event_queue(&event);
	}
	if (OidIsValid(said.copied))
		bulk_copy(said.copied, (int64) said.completion->nprocessed, true);
	if (said.sets_parameter)
		events_session_look();
}

/* ---- names ---- */

static void
append_name(StringInfo names, const char *name)
{
	if (name == NULL)
		return;
	if (names->len > 0)
		appendStringInfoString(names, ", ");
	appendStringInfoString(names, name);
}

static const char *
role_name(const RoleSpec *role)
{
	if (role == NULL)
		return NULL;
	switch (role->roletype)
	{
		case ROLESPEC_CSTRING:
			return role->rolename;
		case ROLESPEC_PUBLIC:
			return "public";
		case ROLESPEC_SESSION_USER:
			return GetUserNameFromId(GetSessionUserId(), true);
		default:
			return GetUserNameFromId(GetUserId(), true);
	}
}

static char *
role_names(List *roles)
{
	StringInfoData names;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, roles)
	{
		if (IsA(lfirst(cell), RoleSpec))
			append_name(&names, role_name(lfirst_node(RoleSpec, cell)));
		else if (IsA(lfirst(cell), AccessPriv))
			append_name(&names, lfirst_node(AccessPriv, cell)->priv_name);
	}
	return names.data;
}

static char *
object_names(List *objects)
{
	StringInfoData names;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, objects)
	{
		Node	   *object = lfirst(cell);

		if (IsA(object, RangeVar))
		{
			RangeVar   *relation = castNode(RangeVar, object);

			append_name(&names, quote_qualified_identifier(relation->schemaname, relation->relname));
		}
		else if (IsA(object, ObjectWithArgs))
			append_name(&names, NameListToString(castNode(ObjectWithArgs, object)->objname));
		else if (IsA(object, TypeName))
			append_name(&names, NameListToString(castNode(TypeName, object)->names));
		else if (IsA(object, List) && IsA(linitial(castNode(List, object)), TypeName))
		{
			/* A cast: its two types; a transform: its type and language. */
			append_name(&names, TypeNameToString(linitial_node(TypeName, castNode(List, object))));
			if (IsA(lsecond(castNode(List, object)), TypeName))
				append_name(&names, TypeNameToString(lsecond_node(TypeName, castNode(List, object))));
			else
				append_name(&names, strVal(lsecond(castNode(List, object))));
		}
		else if (IsA(object, List))
			append_name(&names, NameListToString(castNode(List, object)));
		else if (IsA(object, String))
			append_name(&names, strVal(object));
	}
	return names.data;
}

/* The names of options, without what is given for them. */
static char *
option_names(List *options)
{
	StringInfoData names;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, options)
		append_name(&names, lfirst_node(DefElem, cell)->defname);
	return names.data;
}

void
events_describe_grant(SecurityEvent *event, const GrantStmt *statement)
{
	security_event_object(event, object_names(statement->objects));
	security_event_detail(event, "privileges",
						  statement->privileges == NIL ? "all" : role_names(statement->privileges));
	security_event_detail(event, statement->is_grant ? "to" : "from", role_names(statement->grantees));
	if (statement->targtype == ACL_TARGET_ALL_IN_SCHEMA)
		security_event_detail(event, "all_in_schema", "true");
}

/* ---- commands ---- */

/* CREATE ROLE ... SUPERUSER and the like, whatever they are set to, weigh more. */
static void
weigh_role_options(SecurityEvent *event, List *options)
{
	static const char *const weighty[] = {"superuser", "createrole", "bypassrls", "isreplication"};
	ListCell   *cell;

	foreach(cell, options)
	{
		for (int i = 0; i < lengthof(weighty); i++)
		{
			if (strcmp(lfirst_node(DefElem, cell)->defname, weighty[i]) == 0)
				security_event_severity(event, SEVERITY_WARNING);
		}
	}
	if (options != NIL)
		security_event_detail(event, "options", option_names(options));
}

static Recording
begin_named(SecurityEvent *event, SecurityEventType type, const char *object, Recording recording)
{
	security_event_begin(event, type, EVENT_SUCCEEDED);
	if (object != NULL)
		security_event_object(event, object);
	/* Of the whole server, whichever database it is done from. */
	if ((type == EVENT_ROLE_CHANGED || type == EVENT_DATABASE_CHANGED) && !watch_list_extension_seen())
		memset(event->key.database, 0, sizeof(event->key.database));
	return recording;
}

/* Objects that no event trigger is told of. */
static bool
is_shared(ObjectType type)
{
	return type == OBJECT_DATABASE || type == OBJECT_TABLESPACE || type == OBJECT_ROLE;
}

static Recording
describe_object(SecurityEvent *event, ObjectType type, const char *name)
{
	switch (type)
	{
		case OBJECT_ROLE:
			return begin_named(event, EVENT_ROLE_CHANGED, name, RECORD_IN_TRANSACTION);
		case OBJECT_DATABASE:
		case OBJECT_TABLESPACE:
			return begin_named(event, EVENT_DATABASE_CHANGED, name, RECORD_IN_TRANSACTION);
		case OBJECT_EVENT_TRIGGER:
			return begin_named(event, EVENT_AUDIT_CHANGED, name, RECORD_IN_TRANSACTION);
		case OBJECT_EXTENSION:
			return begin_named(event, EVENT_EXTENSION_CHANGED, name, RECORD_FAILURE);
		default:
			return begin_named(event, EVENT_DDL, name, RECORD_FAILURE);
	}
}

static Recording
describe_parameter(SecurityEvent *event, const VariableSetStmt *statement)
{
	bool		ours;
	bool		weighty = false;

	if (statement->name == NULL)
		return RECORD_NOTHING;
	ours = pg_strncasecmp(statement->name, "sentient_edge.", strlen("sentient_edge.")) == 0 && superuser();
	for (int i = 0; i < lengthof(watched_parameters); i++)
		weighty = weighty || pg_strcasecmp(statement->name, watched_parameters[i]) == 0;
	if (!ours && !weighty)
		return RECORD_NOTHING;
	return begin_named(event, EVENT_SETTING_CHANGED, statement->name, RECORD_AFTERWARDS);
}

/* Tables of the extension, or catalogs, that a superuser reads or writes with a command. */
static Recording
describe_superuser(SecurityEvent *event, List *relations, bool writes)
{
	Recording	recording = RECORD_NOTHING;
	StringInfoData names;
	ListCell   *cell;

	if (!events_superuser_acts())
		return RECORD_NOTHING;
	initStringInfo(&names);
	foreach(cell, relations)
	{
		Oid			relid = RangeVarGetRelid(lfirst_node(RangeVar, cell), NoLock, true);
		SecurityEvent of_table;

		if (!OidIsValid(relid) || !events_superuser_begin(&of_table, relid, writes))
			continue;
		/* The weightiest counts. */
		if (recording == RECORD_NOTHING || of_table.key.severity < event->key.severity)
			*event = of_table;
		append_name(&names, of_table.key.object);
		recording = RECORD_AFTERWARDS;
	}
	if (recording != RECORD_NOTHING)
		security_event_object(event, names.data);
	return recording;
}

static Recording
describe_copy(SecurityEvent *event, const CopyStmt *statement, Oid *copied)
{
	Recording	recording = RECORD_NOTHING;

	if (statement->relation != NULL && !statement->is_from && !watch_list_empty())
	{
		Oid			relid = RangeVarGetRelid(statement->relation, NoLock, true);

		if (OidIsValid(relid) && watch_list_find(relid) != NULL)
			*copied = relid;
	}
	if (statement->relation != NULL)
		recording = describe_superuser(event, list_make1(statement->relation), statement->is_from);
	/* What it reads or writes is on the server itself. */
	if (statement->filename != NULL)
	{
		SecurityEvent of_table;

		if (recording != RECORD_NOTHING)
			of_table = *event;
		(void) begin_named(event, EVENT_SUPERUSER, statement->is_program ? "program" : "file", RECORD_AFTERWARDS);
		if (recording != RECORD_NOTHING)
		{
			security_event_severity(event, Min(event->key.severity, of_table.key.severity));
			memcpy(event->key.database, of_table.key.database, sizeof(event->key.database));
			security_event_detail(event, "table", of_table.key.object);
		}
	}
	if (recording != RECORD_NOTHING)
		security_event_detail(event, "direction", statement->is_from ? "from" : "to");
	return statement->filename != NULL ? RECORD_AFTERWARDS : recording;
}

/* What event a command is, if it succeeds. */
static Recording
describe(Node *statement, SecurityEvent *event, Oid *copied)
{
	Recording	recording;

	switch (nodeTag(statement))
	{
		case T_CreateRoleStmt:
			recording = describe_object(event, OBJECT_ROLE, castNode(CreateRoleStmt, statement)->role);
			weigh_role_options(event, castNode(CreateRoleStmt, statement)->options);
			return recording;
		case T_AlterRoleStmt:
			recording = describe_object(event, OBJECT_ROLE, role_name(castNode(AlterRoleStmt, statement)->role));
			weigh_role_options(event, castNode(AlterRoleStmt, statement)->options);
			return recording;
		case T_AlterRoleSetStmt:
			recording = describe_object(event, OBJECT_ROLE, role_name(castNode(AlterRoleSetStmt, statement)->role));
			if (castNode(AlterRoleSetStmt, statement)->setstmt->name != NULL)
				security_event_detail(event, "parameter", castNode(AlterRoleSetStmt, statement)->setstmt->name);
			return recording;
		case T_DropRoleStmt:
			return describe_object(event, OBJECT_ROLE, role_names(castNode(DropRoleStmt, statement)->roles));
		case T_ReassignOwnedStmt:
			recording = describe_object(event, OBJECT_ROLE, role_names(castNode(ReassignOwnedStmt, statement)->roles));
			security_event_detail(event, "to", role_name(castNode(ReassignOwnedStmt, statement)->newrole));
			return recording;
		case T_DropOwnedStmt:
			/* The event trigger tells of one object, and of no privilege. */
			return describe_object(event, OBJECT_ROLE, role_names(castNode(DropOwnedStmt, statement)->roles));
		case T_GrantRoleStmt:
			{
				GrantRoleStmt *grant = castNode(GrantRoleStmt, statement);

				recording = describe_object(event, OBJECT_ROLE, role_names(grant->granted_roles));
				security_event_detail(event, grant->is_grant ? "to" : "from", role_names(grant->grantee_roles));
				return recording;
			}
		case T_GrantStmt:
			{
				GrantStmt  *grant = castNode(GrantStmt, statement);
				bool		seen = !(is_shared(grant->objtype) || grant->objtype == OBJECT_PARAMETER_ACL);

				security_event_begin(event, EVENT_PRIVILEGE_CHANGED, EVENT_SUCCEEDED);
				events_describe_grant(event, grant);
				return seen ? RECORD_FAILURE : RECORD_IN_TRANSACTION;
			}

		case T_CreatedbStmt:
			return begin_named(event, EVENT_DATABASE_CHANGED, castNode(CreatedbStmt, statement)->dbname, RECORD_AFTERWARDS);
		case T_DropdbStmt:
			return begin_named(event, EVENT_DATABASE_CHANGED, castNode(DropdbStmt, statement)->dbname, RECORD_AFTERWARDS);
		case T_AlterDatabaseStmt:
			return begin_named(event, EVENT_DATABASE_CHANGED, castNode(AlterDatabaseStmt, statement)->dbname, RECORD_AFTERWARDS);
		case T_AlterDatabaseSetStmt:
			recording = describe_object(event, OBJECT_DATABASE, castNode(AlterDatabaseSetStmt, statement)->dbname);
			if (castNode(AlterDatabaseSetStmt, statement)->setstmt->name != NULL)
				security_event_detail(event, "parameter", castNode(AlterDatabaseSetStmt, statement)->setstmt->name);
			return recording;
		case T_CreateTableSpaceStmt:
			return begin_named(event, EVENT_DATABASE_CHANGED, castNode(CreateTableSpaceStmt, statement)->tablespacename,
							   RECORD_AFTERWARDS);
		case T_AlterTableSpaceOptionsStmt:
			recording = describe_object(event, OBJECT_TABLESPACE, castNode(AlterTableSpaceOptionsStmt, statement)->tablespacename);
			security_event_detail(event, "options", option_names(castNode(AlterTableSpaceOptionsStmt, statement)->options));
			return recording;
		case T_AlterDatabaseRefreshCollStmt:
			return begin_named(event, EVENT_DATABASE_CHANGED, castNode(AlterDatabaseRefreshCollStmt, statement)->dbname,
							   RECORD_IN_TRANSACTION);
		case T_DropTableSpaceStmt:
			return begin_named(event, EVENT_DATABASE_CHANGED, castNode(DropTableSpaceStmt, statement)->tablespacename,
							   RECORD_AFTERWARDS);

		case T_RenameStmt:
			{
				RenameStmt *rename = castNode(RenameStmt, statement);

				if (rename->renameType == OBJECT_EVENT_TRIGGER)
					return describe_object(event, rename->renameType, strVal(rename->object));
				if (is_shared(rename->renameType))
					return describe_object(event, rename->renameType, rename->subname);
				return describe_object(event, rename->renameType,
									   rename->relation != NULL ? object_names(list_make1(rename->relation)) : NULL);
			}
		case T_AlterOwnerStmt:
			{
				AlterOwnerStmt *owner = castNode(AlterOwnerStmt, statement);

				recording = describe_object(event, owner->objectType,
											owner->object != NULL ? object_names(list_make1(owner->object)) : NULL);
				security_event_detail(event, "owner", role_name(owner->newowner) ? role_name(owner->newowner) : "?");
				return recording;
			}
		case T_DropStmt:
			return describe_object(event, castNode(DropStmt, statement)->removeType,
								   object_names(castNode(DropStmt, statement)->objects));
		case T_CreateEventTrigStmt:
			return describe_object(event, OBJECT_EVENT_TRIGGER, castNode(CreateEventTrigStmt, statement)->trigname);
		case T_AlterEventTrigStmt:
			recording = describe_object(event, OBJECT_EVENT_TRIGGER, castNode(AlterEventTrigStmt, statement)->trigname);
			/* Without its own, DDL goes unrecorded. */
			if (castNode(AlterEventTrigStmt, statement)->tgenabled == TRIGGER_DISABLED &&
				strncmp(castNode(AlterEventTrigStmt, statement)->trigname, "sentient_edge_", strlen("sentient_edge_")) == 0)
				security_event_severity(event, SEVERITY_ALERT);
			security_event_detail(event, "enabled", castNode(AlterEventTrigStmt, statement)->tgenabled == TRIGGER_DISABLED ? "no" : "yes");
			return recording;
		case T_CreateExtensionStmt:
			return describe_object(event, OBJECT_EXTENSION, castNode(CreateExtensionStmt, statement)->extname);
		case T_AlterExtensionStmt:
			return describe_object(event, OBJECT_EXTENSION, castNode(AlterExtensionStmt, statement)->extname);
		case T_AlterExtensionContentsStmt:
			return describe_object(event, OBJECT_EXTENSION, castNode(AlterExtensionContentsStmt, statement)->extname);

		case T_AlterSystemStmt:
			recording = begin_named(event, EVENT_SETTING_CHANGED,
									castNode(AlterSystemStmt, statement)->setstmt->name ?
									castNode(AlterSystemStmt, statement)->setstmt->name : "all", RECORD_AFTERWARDS);
			security_event_severity(event, SEVERITY_WARNING);
			if (!watch_list_extension_seen())
				memset(event->key.database, 0, sizeof(event->key.database));
			return recording;
		case T_VariableSetStmt:
			return describe_parameter(event, castNode(VariableSetStmt, statement));
		case T_LoadStmt:
			return begin_named(event, EVENT_SUPERUSER, "library", RECORD_AFTERWARDS);
		case T_CopyStmt:
			return describe_copy(event, castNode(CopyStmt, statement), copied);
		case T_TruncateStmt:
			return describe_superuser(event, castNode(TruncateStmt, statement)->relations, true);

		case T_CreateStmt:
		case T_CreateForeignTableStmt:
			/* Also the first member of a CreateForeignTableStmt. */
			return describe_object(event, OBJECT_TABLE, object_names(list_make1(((CreateStmt *) statement)->relation)));
		case T_AlterTableStmt:
			return describe_object(event, OBJECT_TABLE, object_names(list_make1(castNode(AlterTableStmt, statement)->relation)));
		default:
			if (GetCommandLogLevel(statement) == LOGSTMT_DDL)
				return describe_object(event, OBJECT_TABLE, NULL);
			return RECORD_NOTHING;
	}
}

/* COPY table TO, of a watched table. */
static void
bulk_copy(Oid copied, int64 rows, bool succeeded)
{
	const WatchedTable *watched = watch_list_find(copied);
	SecurityEvent event;

	/* How many rows one that was broken off had read is not known: it counts. */
	if (watched == NULL || (succeeded && rows < watched->rows_threshold))
		return;
	security_event_begin(&event, EVENT_BULK_READ, succeeded ? EVENT_SUCCEEDED : EVENT_FAILED);
	if (watched->name[0] != '\0')
		security_event_object(&event, watched->name);
	security_event_detail(&event, "command", "COPY");
	event.amount = rows;
	(void) security_event_queue(&event);
}
