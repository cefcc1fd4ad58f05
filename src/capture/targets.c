/*
 * targets.c
 *		What the row trigger needs of each table, kept for the session.
 *
 * A table's trigger carries, as its two arguments, the columns that are excluded
 * and those that are masked; so they go wherever the table goes: to its
 * partitions, into a dump, to another name.  Called for every captured row.
 * Takes no locks: the caller has the relation open.
 *
 * Kept until the relation cache, or a renamed schema or changed cast, says that
 * it may have changed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "capture/image.h"
#include "capture/targets.h"
#include "compat.h"

static HTAB *targets = NULL;
static Target *last_target = NULL;

static void relation_changed(Datum arg, Oid relid);
static void anything_changed(Datum arg, int cache, uint32 hash);
static void target_build(Target *target, Relation rel, const Trigger *trigger);
static Oid	trigger_origin(Oid trigger, Oid relid);
static Bitmapset *named_columns(Relation rel, const char *names, bool must_exist);

void
targets_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, anything_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(CASTSOURCETARGET, anything_changed, (Datum) 0);
}

static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	Target	   *target;

	if (targets == NULL)
		return;
	hash_seq_init(&scan, targets);
	while ((target = hash_seq_search(&scan)) != NULL)
	{
		/* Entries of a partition have the name of its table; a composite type has a relation. */
		if (!OidIsValid(relid) || target->relid == relid || target->origin == relid || list_member_oid(target->composites, relid))
			target->stale = true;
	}
}

static void
anything_changed(Datum arg, int cache, uint32 hash)
{
	relation_changed(arg, InvalidOid);
}

Target *
target_get(Relation rel, const Trigger *trigger)
{
	Oid			relid = RelationGetRelid(rel);
	Target	   *target = last_target;
	bool		found;

	if (target != NULL && target->relid == relid && !target->stale)
		return target;
	if (targets == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(Target)};

		targets = hash_create("audited tables", 64, &control, HASH_ELEM | HASH_BLOBS);
	}
	target = hash_search(targets, &relid, HASH_ENTER, &found);
	if (!found)
	{
		target->context = NULL;
		target->shape = NULL;
		target->origin = InvalidOid;
		target->composites = NIL;
		target->stale = true;
	}
	if (target->stale)
		target_build(target, rel, trigger);
	last_target = target;
	return target;
}

static void
target_build(Target *target, Relation rel, const Trigger *trigger)
{
	Oid			origin = trigger_origin(trigger->tgoid, RelationGetRelid(rel));
	Bitmapset  *excluded = NULL;
	Bitmapset  *masked = NULL;
	MemoryContext old;

	if (target->shape != NULL)
		image_check_idle(target->shape);
	if (trigger->tgnargs >= 1)
		excluded = named_columns(rel, trigger->tgargs[0], false);
	if (trigger->tgnargs >= 2)
		masked = named_columns(rel, trigger->tgargs[1], true);

	target->composites = NIL;
	if (target->context == NULL)
		target->context = AllocSetContextCreate(TopMemoryContext, "audited table", ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(target->context);

	/* What is invalidated from here on makes it stale again. */
	target->shape = NULL;
	target->origin = origin;
	target->stale = false;
	old = MemoryContextSwitchTo(target->context);
	target->schema_name = get_namespace_name(get_rel_namespace(origin));
	target->table_name = get_rel_name(origin);
	target->shape = image_shape(RelationGetDescr(rel), excluded, masked, target_key_columns(rel), &target->composites);
	MemoryContextSwitchTo(old);
	if (target->schema_name == NULL || target->table_name == NULL)
	{
		target->stale = true;
		elog(ERROR, "audited relation %u has no name", origin);
	}
}

/* The table whose trigger was cloned for this partition, or this table. */
static Oid
trigger_origin(Oid trigger, Oid relid)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);

	while (OidIsValid(trigger))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
		scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		trigger = InvalidOid;
		if (HeapTupleIsValid(tuple))
		{
			relid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
			trigger = ((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid;
		}
		systable_endscan(scan);
	}
	table_close(catalog, AccessShareLock);
	return relid;
}

/*
 * Attribute numbers of the columns that an array of names lists.  A column that
 * was to be masked and is not there any more may have been renamed: then its
 * values would come out.
 */
static Bitmapset *
named_columns(Relation rel, const char *names, bool must_exist)
{
	ArrayType  *array = DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN, unconstify(char *, names), NAMEOID, -1));
	Bitmapset  *columns = NULL;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attribute = nulls[i] ? InvalidAttrNumber :
			get_attnum(RelationGetRelid(rel), NameStr(*DatumGetName(elements[i])));

		if (attribute > 0)
			columns = bms_add_member(columns, attribute);
		else if (must_exist && !nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("column \"%s\" of table \"%s\", which audit entries mask, does not exist",
							NameStr(*DatumGetName(elements[i])), RelationGetRelationName(rel)),
					 errhint("Say what is to be masked now with audit.enable(table, mask => ...).")));
	}
	return columns;
}

List *
target_key_order(Relation rel)
{
	Oid			index;
	HeapTuple	tuple;
	List	   *columns = NIL;

	/* Fills rd_pkindex. */
	list_free(RelationGetIndexList(rel));
	index = compat_primary_key_index(rel);
	if (!OidIsValid(index))
		return NIL;
	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", index);
	for (int i = 0; i < ((Form_pg_index) GETSTRUCT(tuple))->indnkeyatts; i++)
		columns = lappend_int(columns, ((Form_pg_index) GETSTRUCT(tuple))->indkey.values[i]);
	ReleaseSysCache(tuple);
	return columns;
}

Bitmapset *
target_key_columns(Relation rel)
{
	List	   *order = target_key_order(rel);
	Bitmapset  *columns = NULL;
	ListCell   *cell;

	foreach(cell, order)
		columns = bms_add_member(columns, lfirst_int(cell));
	list_free(order);
	return columns;
}
