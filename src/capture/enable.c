/*
 * enable.c
 *		audit.enable and audit.disable: the triggers of an audited table.
 *
 * A table is audited by two triggers, one for rows and one for TRUNCATE, that
 * fire whatever session_replication_role says.  audit.targets notes which tables
 * are to have them, so that their absence shows.  Whoever keeps a record of what
 * changes sets capture_change_hook.  Both functions take ShareRowExclusiveLock on
 * the table, as CREATE TRIGGER does, and on its partitions.  The caller must own
 * the table or be a member of sentient_admin; what is done then is done as the
 * extension's owner.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/sql.h"
#include "capture/enable.h"
#include "capture/table_trigger.h"
#include "capture/targets.h"
#include "compat.h"
#include "partition/managed.h"

/* Masked wherever nothing else is said. */
#define ALWAYS_SECRET			"password_hash"

PG_FUNCTION_INFO_V1(audit_enable);
PG_FUNCTION_INFO_V1(audit_disable);
PG_FUNCTION_INFO_V1(audit_trigger_columns);

capture_change_hook_type capture_change_hook = NULL;

static int	arranging = 0;		/* how many are at it, one inside the other */

static void check_table(Oid relid);
static void lock_table(Oid relid);
static char *qualified_name(Oid relid);
static char *names_literal(Oid relid, ArrayType *names, bool masked);
static bool has_trigger(Oid relid, bool inherited);
static void drop_triggers(Oid relid);

void
capture_arrange(bool begin)
{
	arranging += begin ? 1 : -1;
}

bool
capture_is_arranging(void)
{
	return arranging > 0;
}

/*
 * audit.enable(table_name regclass, exclude name[], mask name[]): have the changes
 * of a table captured; true when they were not, or not so.
 */
Datum
audit_enable(PG_FUNCTION_ARGS)
{
	Oid			relid;
	char	   *table;
	char	   *exclude;
	char	   *mask;
	char	   *arguments;
	SqlScope	scope;
	Oid			types[2] = {OIDOID, TEXTOID};
	Datum		values[2];
	bool		had;
	bool		same;
	bool		isnull;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("table and excluded columns must not be null")));
	relid = PG_GETARG_OID(0);
	lock_table(relid);
	table = qualified_name(relid);
	exclude = names_literal(relid, PG_GETARG_ARRAYTYPE_P(1), false);
	if (PG_ARGISNULL(2))
		mask = get_attnum(relid, ALWAYS_SECRET) > 0 ? "{" ALWAYS_SECRET "}" : "{}";
	else
		mask = names_literal(relid, PG_GETARG_ARRAYTYPE_P(2), true);
	if (has_trigger(relid, true))
	{
		ereport(NOTICE, (errmsg("partition \"%s\" is audited with the table that it belongs to", get_rel_name(relid))));
		PG_RETURN_BOOL(false);
	}
	arguments = psprintf("%s, %s", quote_literal_cstr(exclude), quote_literal_cstr(mask));

	scope = sql_begin(0);
	values[0] = ObjectIdGetDatum(relid);
	values[1] = CStringGetTextDatum(arguments);
	had = sql_query("SELECT right(pg_get_triggerdef(t.oid), length($2) + 2) = '(' || $2 || ')', a.state = 'captured' AND a.enabled_at IS NOT NULL"
					" FROM pg_trigger t JOIN audit.audited_tables a ON a.table_name = $1"
					" WHERE t.tgrelid = $1 AND t.tgname = '" TARGET_ROW_TRIGGER "' AND t.tgfoid = 'audit.capture_row()'::regprocedure",
					2, types, values) > 0;
	same = had && DatumGetBool(sql_value(0, 0, &isnull));
	if (same && DatumGetBool(sql_value(0, 1, &isnull)))
	{
		sql_end(&scope);
		PG_RETURN_BOOL(false);
	}

	capture_arrange(true);
	PG_TRY();
	{
		drop_triggers(relid);
		(void) sql_query(psprintf("CREATE TRIGGER " TARGET_ROW_TRIGGER " AFTER INSERT OR UPDATE OR DELETE ON %s"
								  " FOR EACH ROW EXECUTE FUNCTION audit.capture_row(%s)", table, arguments), 0, NULL, NULL);
		(void) sql_query(psprintf("CREATE TRIGGER " TARGET_TRUNCATE_TRIGGER " BEFORE TRUNCATE ON %s"
								  " FOR EACH STATEMENT EXECUTE FUNCTION audit.capture_truncate()", table), 0, NULL, NULL);
		(void) sql_query(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER " TARGET_ROW_TRIGGER
								  ", ENABLE ALWAYS TRIGGER " TARGET_TRUNCATE_TRIGGER, table), 0, NULL, NULL);
		truncate_triggers_follow(relid);
	}
	PG_FINALLY();
	{
		capture_arrange(false);
	}
	PG_END_TRY();
	values[1] = CStringGetTextDatum(GetUserNameFromId(scope.user, false));
	(void) sql_query("INSERT INTO audit.targets (table_id, enabled_by) VALUES ($1, $2)"
					 " ON CONFLICT (table_id) DO UPDATE SET enabled_by = EXCLUDED.enabled_by, enabled_at = EXCLUDED.enabled_at",
					 2, types, values);
	if (capture_change_hook)
		capture_change_hook(relid, had && !same ? CAPTURE_ALTERED : CAPTURE_BEGUN, exclude, mask);
	sql_end(&scope);
	PG_RETURN_BOOL(true);
}

/*
 * audit.disable(table_name regclass): capture no more; true when it was captured.
 */
Datum
audit_disable(PG_FUNCTION_ARGS)
{
	Oid			relid;
	SqlScope	scope;
	Oid			types[1] = {OIDOID};
	Datum		values[1];
	bool		had;

	sql_refuse_nulls(fcinfo, "audit.disable");
	relid = PG_GETARG_OID(0);
	values[0] = ObjectIdGetDatum(relid);
	lock_table(relid);
	if (has_trigger(relid, true))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition \"%s\" is audited with the table that it belongs to", get_rel_name(relid)),
				 errhint("Call audit.disable for the partitioned table.")));

	scope = sql_begin(0);
	had = has_trigger(relid, false);
	capture_arrange(true);
	PG_TRY();
	{
		drop_triggers(relid);
	}
	PG_FINALLY();
	{
		capture_arrange(false);
	}
	PG_END_TRY();
	if (sql_query("DELETE FROM audit.targets WHERE table_id = $1 RETURNING 1", 1, types, values) > 0)
		had = true;
	if (had && capture_change_hook)
		capture_change_hook(relid, CAPTURE_ENDED, NULL, NULL);
	sql_end(&scope);
	PG_RETURN_BOOL(had);
}

/*
 * audit.trigger_columns(trigger_id oid): what the arguments of a row trigger say.
 */
Datum
audit_trigger_columns(PG_FUNCTION_ARGS)
{
	Oid			trigger_id = PG_GETARG_OID(0);
	TupleDesc	desc;
	Datum		values[2] = {0};
	bool		nulls[2] = {true, true};
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	Relation	catalog;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger_id));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) && ((Form_pg_trigger) GETSTRUCT(tuple))->tgnargs == 2 &&
		strcmp(NameStr(((Form_pg_trigger) GETSTRUCT(tuple))->tgname), TARGET_ROW_TRIGGER) == 0)
	{
		bool		isnull;
		bytea	   *arguments = DatumGetByteaPP(fastgetattr(tuple, Anum_pg_trigger_tgargs, RelationGetDescr(catalog), &isnull));
		char	   *argument = VARDATA_ANY(arguments);

		/* Each ends with a zero byte. */
		for (int i = 0; i < 2; i++)
		{
			values[i] = OidInputFunctionCall(F_ARRAY_IN, argument, NAMEOID, -1);
			nulls[i] = false;
			argument += strlen(argument) + 1;
		}
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * Lock a table to change its triggers.  Who may not have it audited must not wait
 * for it, or all who write to it would wait behind him; who may, may no more once
 * it was given away meanwhile.
 */
static void
lock_table(Oid relid)
{
	check_table(relid);
	LockRelationOid(relid, ShareRowExclusiveLock);
	check_table(relid);
}

/* May the caller have this table audited, and can it be? */
static void
check_table(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	Oid			extension;
	bool		ours;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (!compat_table_ownercheck(relid, GetUserId()) &&
		!has_privs_of_role(GetUserId(), get_role_oid("sentient_admin", false)))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(form->relkind), NameStr(form->relname));
	if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" cannot be audited", NameStr(form->relname)),
				 errdetail("Only tables and partitioned tables of this database can be.")));
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("temporary table \"%s\" cannot be audited", NameStr(form->relname))));
	if (IsCatalogRelationOid(relid) || form->relnamespace == get_namespace_oid("information_schema", true))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("system table \"%s\" cannot be audited", NameStr(form->relname))));

	extension = getExtensionOfObject(RelationRelationId, relid);
	ours = managed_find(relid) != NULL ||
		(form->relispartition && managed_find(get_partition_parent(relid, true)) != NULL);
	if ((OidIsValid(extension) || ours) && !creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" belongs to extension \"%s\"", NameStr(form->relname),
						ours ? "sentient_edge" : get_extension_name(extension)),
				 errdetail("Which tables of sentient_edge are audited is fixed; those of other extensions cannot be.")));
	ReleaseSysCache(tuple);
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* The columns, which must be there and not in the key, as the text of an array. */
static char *
names_literal(Oid relid, ArrayType *names, bool masked)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	Relation	rel = table_open(relid, NoLock);
	Bitmapset  *key = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	Oid			output;
	bool		is_varlena;

	deconstruct_array(names, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		const char *name = nulls[i] ? NULL : NameStr(*DatumGetName(elements[i]));
		AttrNumber	attribute = name == NULL ? InvalidAttrNumber : get_attnum(relid, name);

		if (name == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("name of a column must not be null")));
		if (attribute <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist", name, RelationGetRelationName(rel))));
		if (bms_is_member(attribute - FirstLowInvalidHeapAttributeNumber, key))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" of table \"%s\" cannot be %s", name, RelationGetRelationName(rel),
							masked ? "masked" : "excluded"),
					 errdetail("Entries name the row by its primary key.")));
	}
	table_close(rel, NoLock);
	getTypeOutputInfo(NAMEARRAYOID, &output, &is_varlena);
	return OidOutputFunctionCall(output, PointerGetDatum(names));
}

/* Does the table have the row trigger, of its own or from its parent? */
static bool
has_trigger(Oid relid, bool inherited)
{
	Relation	rel = table_open(relid, NoLock);
	bool		found = false;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (strcmp(trigger->tgname, TARGET_ROW_TRIGGER) == 0 && (!inherited || trigger->tgisclone))
			found = true;
	}
	table_close(rel, NoLock);
	return found;
}

/* Drop the triggers of the table, and those that its partitions have of their own. */
static void
drop_triggers(Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	uint64		n = sql_query("SELECT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass), t.tgrelid"
							  " FROM pg_trigger t WHERE t.tgparentid = 0 AND NOT t.tgisinternal"
							  "  AND (t.tgname IN ('" TARGET_ROW_TRIGGER "', '" TARGET_TRUNCATE_TRIGGER "')"
							  "   OR t.tgfoid IN ('audit.capture_row()'::regprocedure, 'audit.capture_truncate()'::regprocedure))"
							  "  AND t.tgrelid IN (SELECT $1 UNION SELECT relid FROM pg_partition_tree($1))"
							  " ORDER BY t.tgrelid, t.tgname", 1, types, values);
	char	  **commands = palloc(sizeof(char *) * Max(n, 1));
	Oid		   *relids = palloc(sizeof(Oid) * Max(n, 1));
	bool		isnull;

	for (uint64 i = 0; i < n; i++)
	{
		commands[i] = sql_string(i, 0);
		relids[i] = DatumGetObjectId(sql_value(i, 1, &isnull));
	}
	for (uint64 i = 0; i < n; i++)
	{
		(void) sql_query(commands[i], 0, NULL, NULL);
		if (relids[i] != relid)
		{
			values[0] = ObjectIdGetDatum(relids[i]);
			(void) sql_query("DELETE FROM audit.targets WHERE table_id = $1", 1, types, values);
		}
	}
}
