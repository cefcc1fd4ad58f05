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

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "base/sql.h"
#include "crypto/key_users.h"
#include "crypto/sealed_users.h"

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
	"SELECT format('%I.%I', n.nspname, c.relname), format('%I', a.attname), h.form, c.relkind = 'r'" \
	" FROM holder h JOIN pg_attribute a ON a.atttypid = h.type AND a.attnum > 0 AND NOT a.attisdropped" \
	" JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'm')" \
	"  AND (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())" \
	" JOIN pg_namespace n ON n.oid = c.relnamespace" \
	" ORDER BY c.oid, a.attnum"

typedef struct Column
{
	char	   *table;
	char	   *name;
	char	   *form;
	bool		is_table;
} Column;

static int64
count_column(const Column *column, const pg_uuid_t *key_id, const char *function)
{
	Oid			types[1] = {UUIDOID};
	Datum		values[1] = {UUIDPGetDatum(key_id)};
	bool		isnull;

	if (column->is_table)
		(void) sql_query(psprintf("LOCK TABLE ONLY %s IN SHARE MODE", column->table), 0, NULL, NULL);
	if (strcmp(column->form, "value") == 0)
		(void) sql_query(psprintf("SELECT count(*) FROM ONLY %s WHERE %s(%s) OPERATOR(pg_catalog.=) $1",
								  column->table, function, column->name), 1, types, values);
	else if (strcmp(column->form, "array") == 0)
		(void) sql_query(psprintf("SELECT count(*) FROM ONLY %s, unnest(%s) AS element"
								  " WHERE %s(element) OPERATOR(pg_catalog.=) $1",
								  column->table, column->name, function), 1, types, values);
	else
		(void) sql_query(psprintf("SELECT count(%s) FROM ONLY %s", column->name, column->table), 0, NULL, NULL);
	return DatumGetInt64(sql_value(0, 0, &isnull));
}

/* As key_users.h says. */
static int64
count_users(const pg_uuid_t *key_id, KeyPurpose purpose, char **place)
{
	const char *function;
	StringInfoData places;
	Column	   *columns;
	uint64		ncolumns;
	int64		total = 0;

	if (purpose == KEY_FIELD)
		function = "sentient_edge.sealed_key_id";
	else if (purpose == KEY_SEARCH)
		function = "sentient_edge.sealed_search_key_id";
	else
		return 0;

	ncolumns = sql_query(COLUMNS, 0, NULL, NULL);
	columns = palloc(ncolumns * sizeof(Column) + 1);
	for (uint64 i = 0; i < ncolumns; i++)
	{
		bool		isnull;

		columns[i].table = sql_string(i, 0);
		columns[i].name = sql_string(i, 1);
		columns[i].form = sql_string(i, 2);
		columns[i].is_table = DatumGetBool(sql_value(i, 3, &isnull));
	}

	initStringInfo(&places);
	for (uint64 i = 0; i < ncolumns; i++)
	{
		int64		n = count_column(&columns[i], key_id, function);

		if (n > 0)
			appendStringInfo(&places, "%s%s.%s (" INT64_FORMAT ")", places.len > 0 ? ", " : "",
							 columns[i].table, columns[i].name, n);
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
