/*
 * sealed_users.c
 *		Counts the stored values that are sealed under a key, before it is
 *		destroyed.
 *
 * Asked by way of key_users.h.  Columns of type sealed, of domains over it and of
 * arrays of it are looked through in every table and materialized view of the
 * database; each table is locked in SHARE mode until the transaction ends, in
 * order of oid, so that no value comes after the look.  Other types that contain
 * sealed values are not taken apart: a row that has one counts as a user.
 * Temporary tables of other sessions cannot be read, and envelopes that were
 * written elsewhere as text, such as in the audit log, are not looked for.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "base/sql.h"
#include "crypto/key_users.h"
#include "sealed/sealed.h"
#include "sealed/sealed_users.h"

/* Where sealed values may be, in the order of locking. */
#define COLUMNS \
	"WITH RECURSIVE holder (type, form) AS (" \
	" SELECT 'sentient_edge.sealed'::regtype::oid, 'value'" \
	" UNION" \
	" SELECT t.oid, CASE WHEN t.typtype = 'd' THEN h.form" \
	"  WHEN t.typcategory = 'A' AND t.typelem = h.type AND h.form = 'value' THEN 'array' ELSE 'other' END" \
	"  FROM holder h JOIN pg_type t ON t.typbasetype = h.type OR (t.typcategory = 'A' AND t.typelem = h.type)" \
	"   OR (t.typrelid <> 0 AND EXISTS (SELECT FROM pg_attribute a" \
	"    WHERE a.attrelid = t.typrelid AND a.atttypid = h.type AND NOT a.attisdropped))" \
	"   OR EXISTS (SELECT FROM pg_range r WHERE r.rngsubtype = h.type AND t.oid IN (r.rngtypid, r.rngmultitypid)))" \
	"SELECT c.oid, a.attnum, format('%I.%I.%I', n.nspname, c.relname, a.attname), h.form, c.relkind = 'r'" \
	" FROM holder h JOIN pg_attribute a ON a.atttypid = h.type AND a.attnum > 0 AND NOT a.attisdropped" \
	" JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'm')" \
	"  AND (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())" \
	" JOIN pg_namespace n ON n.oid = c.relnamespace" \
	" ORDER BY c.oid, a.attnum"

typedef struct Column
{
	Oid			table;
	AttrNumber	number;
	char	   *place;			/* for people: table and column */
	char	   *form;
	bool		is_table;
} Column;

static bool
has_key(const struct varlena *value, const pg_uuid_t *key_id, KeyPurpose purpose)
{
	pg_uuid_t	field;
	pg_uuid_t	search;

	(void) sealed_key_ids(value, &field, &search);
	return memcmp(purpose == KEY_FIELD ? &field : &search, key_id, sizeof(*key_id)) == 0;
}

/* How many sealed values in a column's value have the key? */
static int64
count_value(const Column *column, Datum value, const pg_uuid_t *key_id, KeyPurpose purpose)
{
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;
	int			nelements;
	int64		n = 0;

	if (strcmp(column->form, "value") == 0)
		return has_key((struct varlena *) DatumGetPointer(value), key_id, purpose);
	if (strcmp(column->form, "array") != 0)
		return 1;
	array = DatumGetArrayTypeP(value);
	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_INT, &elements, &nulls, &nelements);
	for (int i = 0; i < nelements; i++)
		n += !nulls[i] && has_key((struct varlena *) DatumGetPointer(elements[i]), key_id, purpose);
	return n;
}

/*
 * Tables belong to others: a query of them would have the planner call functions
 * of theirs, in the predicate of an index, say.  A scan calls nothing.
 */
static int64
count_column(const Column *column, const pg_uuid_t *key_id, KeyPurpose purpose)
{
	MemoryContext mine = AllocSetContextCreate(CurrentMemoryContext, "sentient_edge key users", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller;
	LOCKMODE	lock = column->is_table ? ShareLock : AccessShareLock;
	Relation	rel = try_relation_open(column->table, lock);
	Snapshot	snapshot;
	TupleTableSlot *slot;
	TableScanDesc scan;
	int64		n = 0;

	/* It was dropped, or the column was, while others were looked through. */
	if (rel == NULL)
		return 0;
	if (TupleDescAttr(RelationGetDescr(rel), column->number - 1)->attisdropped)
	{
		relation_close(rel, NoLock);
		return 0;
	}

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);
	caller = MemoryContextSwitchTo(mine);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, column->number, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (!isnull)
			n += count_value(column, value, key_id, purpose);
		MemoryContextReset(mine);
	}
	MemoryContextSwitchTo(caller);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	relation_close(rel, NoLock);
	MemoryContextDelete(mine);
	return n;
}

/* As key_users.h says. */
static int64
count_users(const pg_uuid_t *key_id, KeyPurpose purpose, char **place)
{
	StringInfoData places;
	Column	   *columns;
	uint64		ncolumns;
	int64		total = 0;

	if (purpose != KEY_FIELD && purpose != KEY_SEARCH)
		return 0;

	ncolumns = sql_query(COLUMNS, 0, NULL, NULL);
	columns = palloc(ncolumns * sizeof(Column) + 1);
	for (uint64 i = 0; i < ncolumns; i++)
	{
		bool		isnull;

		columns[i].table = DatumGetObjectId(sql_value(i, 0, &isnull));
		columns[i].number = DatumGetInt16(sql_value(i, 1, &isnull));
		columns[i].place = sql_string(i, 2);
		columns[i].form = sql_string(i, 3);
		columns[i].is_table = DatumGetBool(sql_value(i, 4, &isnull));
	}

	initStringInfo(&places);
	for (uint64 i = 0; i < ncolumns; i++)
	{
		int64		n = count_column(&columns[i], key_id, purpose);

		if (n > 0)
			appendStringInfo(&places, "%s%s (" INT64_FORMAT ")", places.len > 0 ? ", " : "", columns[i].place, n);
		total += n;
	}
	*place = places.data;
	return total;
}

void
sealed_users_init(void)
{
	key_users_add(count_users);
}
