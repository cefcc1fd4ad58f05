/*
 * events_watch.c
 *		The tables whose bulk reads are security events.
 *
 * A session keeps audit.watched_tables with the partitions of each table, and
 * the schemas of the extension.  It reads them again, at its next statement, when
 * one of the tables or the list has changed, which the relation cache tells.
 * Access share locks on the list only, for as long as it is read.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/sql.h"
#include "compat.h"
#include "errors.h"
#include "events/events.h"
#include "events/events_watch.h"

static const char *const own_schemas[] = {"core", "auth", "telemetry", "analytics", "audit", "sentient_edge"};

static bool list_valid = false;
static bool list_changing = false;	/* a change came while it was read */
static Oid	list_table = InvalidOid;	/* audit.watched_tables; invalid: no extension here */
static Oid	list_schemas[lengthof(own_schemas)];
static HTAB *list = NULL;			/* of WatchedTable; NULL: nothing is watched */

PG_FUNCTION_INFO_V1(watch_table);
PG_FUNCTION_INFO_V1(unwatch_table);
PG_FUNCTION_INFO_V1(watched_tables_changed);

/* Relation cache callback; runs at any lock acquisition, must not fail. */
static void
list_invalidate(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || !OidIsValid(list_table) || relid == list_table || watch_list_find(relid) != NULL)
	{
		list_valid = false;
		list_changing = true;
	}
}

void
watch_list_init(void)
{
	CacheRegisterRelcacheCallback(list_invalidate, (Datum) 0);
}

static void
add_table(HTAB *tables, Oid table, int64 rows_threshold)
{
	List	   *relids = find_all_inheritors(table, NoLock, NULL);
	const char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), get_rel_name(table));
	ListCell   *cell;

	foreach(cell, relids)
	{
		Oid			relid = lfirst_oid(cell);
		bool		found;
		WatchedTable *watched = hash_search(tables, &relid, HASH_ENTER, &found);

		/* A partition that is watched itself keeps its own threshold. */
		if (found && watched->table == relid)
			continue;
		watched->table = table;
		watched->rows_threshold = rows_threshold;
		strlcpy(watched->name, name, sizeof(watched->name));
	}
	list_free(relids);
}

static HTAB *
read_list(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(WatchedTable), .hcxt = TopMemoryContext};
	Relation	rel = table_open(list_table, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HTAB	   *tables = NULL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Oid			table = DatumGetObjectId(heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull));
		int64		rows_threshold = DatumGetInt64(heap_getattr(tuple, 2, RelationGetDescr(rel), &isnull));

		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table)))
			continue;
		if (tables == NULL)
			tables = hash_create("sentient_edge watched tables", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		add_table(tables, table, rows_threshold);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return tables;
}

bool
watch_list_load(void)
{
	Oid			audit;
	HTAB	   *old;

	if (list_valid)
		return OidIsValid(list_table);

	list_changing = false;
	audit = get_namespace_oid("audit", true);
	list_table = OidIsValid(audit) && OidIsValid(sql_extension()) ? get_relname_relid("watched_tables", audit) : InvalidOid;
	old = list;
	list = NULL;
	if (old != NULL)
		hash_destroy(old);
	if (OidIsValid(list_table))
	{
		list = read_list();
		for (int i = 0; i < lengthof(own_schemas); i++)
			list_schemas[i] = get_namespace_oid(own_schemas[i], true);
	}
	list_valid = !list_changing;
	return OidIsValid(list_table);
}

bool
watch_list_extension_seen(void)
{
	return OidIsValid(list_table);
}

bool
watch_list_empty(void)
{
	return list == NULL;
}

const WatchedTable *
watch_list_find(Oid relid)
{
	return list == NULL ? NULL : hash_search(list, &relid, HASH_FIND, NULL);
}

bool
watch_list_own_schema(Oid namespace)
{
	if (!OidIsValid(list_table))
		return false;
	for (int i = 0; i < lengthof(own_schemas); i++)
	{
		if (list_schemas[i] == namespace)
			return true;
	}
	return false;
}

/* Raise an error unless this is a table with rows of its own, or partitions. */
static void
check_watchable(Oid relid)
{
	char		kind = get_rel_relkind(relid);

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE && kind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" cannot be watched", get_rel_name(relid) ? get_rel_name(relid) : "?"),
				 errdetail("Only tables, partitioned tables and materialized views can be.")));
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("temporary table \"%s\" cannot be watched", get_rel_name(relid))));
}

static void
record_change(Oid relid, const char *operation)
{
	SecurityEvent event;
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	security_event_begin(&event, EVENT_AUDIT_CHANGED, EVENT_SUCCEEDED);
	if (schema != NULL && name != NULL)
		security_event_object(&event, quote_qualified_identifier(schema, name));
	security_event_detail(&event, "operation", operation);
	security_event(&event);
}

/* audit.watch(watched regclass, rows_threshold bigint) */
Datum
watch_table(PG_FUNCTION_ARGS)
{
	Oid			types[2] = {REGCLASSOID, INT8OID};
	Datum		values[2];
	SqlScope	scope;

	sql_refuse_nulls(fcinfo, "audit.watch");
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	check_watchable(PG_GETARG_OID(0));
	if (PG_GETARG_INT64(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rows_threshold must be positive")));
	scope = sql_begin(0);
	(void) sql_query("INSERT INTO audit.watched_tables (watched_table, rows_threshold) VALUES ($1, $2)"
					 " ON CONFLICT (watched_table) DO UPDATE SET rows_threshold = EXCLUDED.rows_threshold",
					 2, types, values);
	sql_end(&scope);
	record_change(PG_GETARG_OID(0), "watch");
	PG_RETURN_VOID();
}

/* audit.unwatch(watched regclass): whether it was watched. */
Datum
unwatch_table(PG_FUNCTION_ARGS)
{
	Oid			types[1] = {REGCLASSOID};
	Datum		values[1];
	SqlScope	scope;
	bool		removed;

	sql_refuse_nulls(fcinfo, "audit.unwatch");
	values[0] = PG_GETARG_DATUM(0);
	scope = sql_begin(0);
	removed = sql_query("DELETE FROM audit.watched_tables WHERE watched_table = $1 RETURNING 1", 1, types, values) > 0;
	sql_end(&scope);
	if (removed)
		record_change(PG_GETARG_OID(0), "unwatch");
	PG_RETURN_BOOL(removed);
}

/* Statement trigger of audit.watched_tables: every session reads it again. */
Datum
watched_tables_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("watched_tables_changed must be called as a trigger")));
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}
