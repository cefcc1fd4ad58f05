/*
 * managed.c
 *		The partitioned tables that the extension looks after, and how they live
 *		and die with it without being its members.
 *
 * A member of an extension is made by CREATE EXTENSION and not dumped, so its
 * partitions, which are dumped, could not be restored: ATTACH would meet the
 * indexes that CREATE EXTENSION had already made.  Therefore the install script
 * hands these tables to adopt_partitioned_table, which takes them out of the
 * extension and makes them depend on it: DROP EXTENSION drops them, pg_dump
 * dumps them as tables of the user's own.
 *
 * When such a dump is restored, CREATE EXTENSION has made the table already.
 * The event trigger sees the dump's CREATE TABLE and drops the table that is
 * in its way, but only while nothing has happened to it.  From then on the row
 * in sentient_edge.managed_tables is marked, and no worker makes a partition
 * until the table has all the indexes and triggers again that the install script
 * gave it, and all foreign keys are enforced again, which is the end of a restore:
 * a partition made earlier would lack what the dump attaches later.
 * The mark counts only while the table does not depend on the extension, as one that
 * a dump has made: whoever could set the mark could have sealing stand still.
 *
 * Security events come at any time, during a restore as well.  What is in their
 * table when it makes way, and what comes until the restore has ended, waits in a
 * table of its own.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/sql.h"
#include "compat.h"
#include "errors.h"
#include "partition/find.h"
#include "partition/managed.h"
#include "partition/partition.h"
#include "partition/partman.h"

const ManagedTable managed_tables[MANAGED_TABLES] = {
	{"telemetry", "drone_telemetry", "recorded_at", true, offsetof(SentientSettings, telemetry)},
	{"audit", "log", "occurred_at", false, offsetof(SentientSettings, audit)},
	{"audit", "security_events", "occurred_at", true, offsetof(SentientSettings, security_events), "audit.restore_events"},
};

bool		managed_housekeeping = false;
bool		managed_making = false;

PG_FUNCTION_INFO_V1(adopt_partitioned_table);
PG_FUNCTION_INFO_V1(ddl_starts);

static void depend_on_extension(Oid relid, Oid extension);
static void restore_creates(CreateStmt *statement);
static void extension_drops(DropStmt *statement);
static bool managed_pristine(const ManagedTable *table, Relation parent);

bool
partition_housekeeping(void)
{
	return managed_housekeeping;
}

bool
partition_making(void)
{
	return managed_making;
}

char *
managed_name(const ManagedTable *table)
{
	return psprintf("%s.%s", table->schema, table->name);
}

const PartitionSettings *
managed_settings(const ManagedTable *table)
{
	return (const PartitionSettings *) ((const char *) settings_get() + table->settings_offset);
}

Oid
managed_relid(const ManagedTable *table)
{
	Oid			namespace = get_namespace_oid(table->schema, true);

	return OidIsValid(namespace) ? get_relname_relid(table->name, namespace) : InvalidOid;
}

Relation
managed_open(const ManagedTable *table, LOCKMODE lockmode)
{
	Oid			relid = managed_relid(table);
	Relation	rel = OidIsValid(relid) ? try_relation_open(relid, lockmode) : NULL;

	if (rel != NULL && !partition_supported(rel))
	{
		relation_close(rel, lockmode);
		rel = NULL;
	}
	return rel;
}

const ManagedTable *
managed_find(Oid relid)
{
	for (int i = 0; i < MANAGED_TABLES; i++)
	{
		if (managed_relid(&managed_tables[i]) == relid)
			return &managed_tables[i];
	}
	return NULL;
}

bool
managed_restoring(const ManagedTable *table)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(managed_name(table))};

	return sql_query("SELECT FROM sentient_edge.managed_tables m WHERE m.table_name = $1 AND " TABLE_IS_BEING_RESTORED,
					 1, types, values) > 0;
}

/* The rows that have waited for the end of a restore; whoever writes one holds a lock on their table. */
static void
take_waiting(const ManagedTable *table, Oid relid)
{
	bool		before = managed_housekeeping;

	if (table->waiting == NULL || partition_restored_hook == NULL)
		return;
	managed_housekeeping = true;
	PG_TRY();
	{
		partition_restored_hook(relid);
	}
	PG_FINALLY();
	{
		managed_housekeeping = before;
	}
	PG_END_TRY();
}

ManagedState
managed_state(const ManagedTable *table, Relation parent, bool declare_complete)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(managed_name(table))};
	bool		restoring;
	bool		complete;
	bool		depends;
	bool		has_key;
	bool		isnull;

	if (!OidIsValid(partition_default(parent)))
		return MANAGED_BROKEN;
	if (sql_query("SELECT " TABLE_IS_BEING_RESTORED ", coalesce(" TABLE_IS_COMPLETE ", false), " TABLE_DEPENDS_ON_EXTENSION ","
				  " EXISTS (SELECT FROM pg_index i WHERE i.indrelid = to_regclass(m.table_name) AND i.indisprimary AND i.indisvalid)"
				  " FROM sentient_edge.managed_tables m WHERE m.table_name = $1", 1, types, values) != 1)
		return MANAGED_BROKEN;
	restoring = DatumGetBool(sql_value(0, 0, &isnull));
	complete = DatumGetBool(sql_value(0, 1, &isnull));
	depends = DatumGetBool(sql_value(0, 2, &isnull));
	has_key = DatumGetBool(sql_value(0, 3, &isnull));

	if (restoring && !complete && !declare_complete)
		return MANAGED_RESTORING;
	if (restoring || declare_complete)
	{
		if (table->waiting != NULL)
			(void) sql_query(psprintf("LOCK TABLE %s IN SHARE MODE", table->waiting), 0, NULL, NULL);
		(void) sql_query("UPDATE sentient_edge.managed_tables SET restored_at = NULL WHERE table_name = $1 AND restored_at IS NOT NULL",
						 1, types, values);
	}
	/* Neither does it after pg_upgrade. */
	if (!depends)
		depend_on_extension(RelationGetRelid(parent), sql_extension());
	if (restoring || declare_complete)
		take_waiting(table, RelationGetRelid(parent));
	return !table->has_key || has_key ? MANAGED_READY : MANAGED_BROKEN;
}

/* Have DROP EXTENSION drop the table too. */
static void
depend_on_extension(Oid relid, Oid extension)
{
	ObjectAddress table;
	ObjectAddress owner;

	ObjectAddressSet(table, RelationRelationId, relid);
	ObjectAddressSet(owner, ExtensionRelationId, extension);
	deleteDependencyRecordsForSpecific(RelationRelationId, relid, DEPENDENCY_AUTO_EXTENSION,
									   ExtensionRelationId, extension);
	recordDependencyOn(&table, &owner, DEPENDENCY_AUTO_EXTENSION);
}

/* Take one table out of the extension whose script is running. */
static void
leave_extension(Oid relid)
{
	char	   *command = psprintf("ALTER EXTENSION sentient_edge DROP TABLE %s",
								   quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
															  get_rel_name(relid)));

	if (getExtensionOfObject(RelationRelationId, relid) == sql_extension())
		(void) sql_query(command, 0, NULL, NULL);
}

/*
 * sentient_edge.adopt_partitioned_table(regclass): for the install script, when
 * the table has all its indexes and triggers.  May be repeated.
 */
Datum
adopt_partitioned_table(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	const ManagedTable *managed = managed_find(relid);
	Relation	parent;
	SqlScope	scope;
	Oid			types[2] = {TEXTOID, OIDOID};
	Datum		values[2];

	if (!creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("adopt_partitioned_table can be called by the extension's scripts only")));
	if (managed == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not managed by sentient_edge", get_rel_name(relid))));
	parent = managed_open(managed, AccessExclusiveLock);
	if (parent == NULL || !OidIsValid(partition_default(parent)))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" cannot be adopted", get_rel_name(relid)),
				 errdetail("It must be partitioned by range of one timestamptz column and have a default partition.")));

	scope = sql_begin(0);
	leave_extension(relid);
	leave_extension(partition_default(parent));
	depend_on_extension(relid, sql_extension());

	/*
	 * A GRANT by the install script leaves a row in pg_init_privs, relative to
	 * which pg_dump would dump the table's privileges: they would be lost.
	 */
	values[0] = CStringGetTextDatum(managed_name(managed));
	values[1] = ObjectIdGetDatum(relid);
	sql_set_local("allow_system_table_mods", "on");
	(void) sql_query("DELETE FROM pg_init_privs WHERE classoid = 'pg_class'::regclass"
					 " AND objoid IN (SELECT $2 UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = $2)"
					 " AND $1 IS NOT NULL", 2, types, values);
	(void) sql_query("INSERT INTO sentient_edge.managed_tables (table_name, indexes, triggers)"
					 " SELECT $1, (SELECT count(*) FROM pg_index i WHERE i.indrelid = $2),"
					 " (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = $2 AND NOT t.tgisinternal)"
					 " ON CONFLICT (table_name) DO UPDATE SET indexes = EXCLUDED.indexes, triggers = EXCLUDED.triggers",
					 2, types, values);
	sql_end(&scope);
	table_close(parent, NoLock);
	PG_RETURN_VOID();
}

/* ddl_command_start event trigger for CREATE TABLE and DROP EXTENSION. */
Datum
ddl_starts(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = (EventTriggerData *) fcinfo->context;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("ddl_starts must be called as an event trigger")));
	if (creating_extension || IsBinaryUpgrade)
		PG_RETURN_NULL();
	if (IsA(event->parsetree, CreateStmt))
		restore_creates(castNode(CreateStmt, event->parsetree));
	else if (IsA(event->parsetree, DropStmt))
		extension_drops(castNode(DropStmt, event->parsetree));
	PG_RETURN_NULL();
}

/* Drop a table that nothing is in, or whose rows can wait elsewhere. */
static void
make_way(const ManagedTable *table)
{
	char	   *name = quote_qualified_identifier(table->schema, table->name);

	if (table->waiting != NULL)
		(void) sql_query(psprintf("INSERT INTO %s SELECT * FROM %s ON CONFLICT DO NOTHING", table->waiting, name), 0, NULL, NULL);
	managed_housekeeping = true;
	PG_TRY();
	{
		(void) sql_query(psprintf("DROP TABLE %s", name), 0, NULL, NULL);
	}
	PG_FINALLY();
	{
		managed_housekeeping = false;
	}
	PG_END_TRY();
}

/* A table is about to be created: make way if a dump brings a managed one. */
static void
restore_creates(CreateStmt *statement)
{
	const ManagedTable *table = NULL;
	Relation	parent;
	Oid			relid;
	SqlScope	scope;

	if (statement->relation->schemaname == NULL || statement->partspec == NULL || statement->if_not_exists)
		return;
	for (int i = 0; i < MANAGED_TABLES; i++)
	{
		if (strcmp(statement->relation->schemaname, managed_tables[i].schema) == 0 &&
			strcmp(statement->relation->relname, managed_tables[i].name) == 0)
			table = &managed_tables[i];
	}
	if (table == NULL)
		return;
	relid = managed_relid(table);
	if (!OidIsValid(relid) || !compat_table_ownercheck(relid, GetUserId()))
		return;

	parent = managed_open(table, AccessShareLock);
	if (parent == NULL)
		return;
	scope = sql_begin(0);
	if (managed_pristine(table, parent))
	{
		Oid			types[1] = {TEXTOID};
		Datum		values[1] = {CStringGetTextDatum(managed_name(table))};

		table_close(parent, AccessShareLock);
		(void) sql_query("UPDATE sentient_edge.managed_tables SET restored_at = statement_timestamp() WHERE table_name = $1",
						 1, types, values);
		make_way(table);
		ereport(DEBUG1, (errmsg_internal("dropped pristine table \"%s.%s\" for the one that is restored",
										 table->schema, table->name)));
	}
	else
		table_close(parent, AccessShareLock);
	sql_end(&scope);
}

/* Is the table as the install script left it: no rows but such as can wait, nothing registered? */
static bool
managed_pristine(const ManagedTable *table, Relation parent)
{
	PartitionRange *ranges;
	Oid			default_relid = partition_default(parent);

	if (!OidIsValid(default_relid) || partition_list(parent, &ranges) > 0 || partman_registered(table))
		return false;
	return table->waiting != NULL ||
		sql_query(psprintf("SELECT FROM %s LIMIT 1", quote_qualified_identifier(table->schema, table->name)),
				  0, NULL, NULL) == 0;
}

/*
 * The extension is about to be dropped: so are its partitioned tables, of which
 * a restored one does not say so yet, and what pg_partman knows of them.
 */
static void
extension_drops(DropStmt *statement)
{
	bool		ours = false;
	Oid			extension = sql_extension();
	ListCell   *cell;
	SqlScope	scope;

	if (statement->removeType != OBJECT_EXTENSION || !OidIsValid(extension))
		return;
	foreach(cell, statement->objects)
	{
		const char *name = strVal(lfirst(cell));

		if (strcmp(name, "sentient_edge") == 0 ||
			(statement->behavior == DROP_CASCADE &&
			 (strcmp(name, "pgcrypto") == 0 || strcmp(name, "btree_gin") == 0 || strcmp(name, "pg_partman") == 0)))
			ours = true;
	}
	if (!ours || !compat_extension_ownercheck(extension, GetUserId()))
		return;

	/* As DROP EXTENSION itself does, before any table: workers that hold it need those. */
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessExclusiveLock);
	scope = sql_begin(0);
	for (int i = 0; i < MANAGED_TABLES; i++)
	{
		Relation	parent = managed_open(&managed_tables[i], AccessExclusiveLock);

		if (parent == NULL)
			continue;
		depend_on_extension(RelationGetRelid(parent), extension);
		table_close(parent, NoLock);
		partman_forget(&managed_tables[i]);
	}
	sql_end(&scope);
}
