/*
 * sealed_context.c
 *		The context of a row's sealed value, and the trigger that demands it.
 *
 * A context "schema.table.column:key" binds a value to its place.  Names are as
 * they are, or in double quotes where they have other characters than lower-case
 * letters, digits and underscores.  A single key is as it is; of several each is
 * separated by a comma, and a comma or backslash within one follows a backslash.
 * So two rows never have the same context.  A partition's rows have that of the
 * topmost parent.
 *
 * The trigger opens a new value with the context of its own row and throws the
 * plaintext away.  A value that stays as it is, in a row that keeps its key, is
 * not looked at: other columns can be changed without a key.  While a dump is
 * restored the triggers on the extension's own tables stand back, as its foreign
 * keys do; those on other tables are created after the data.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "errors.h"
#include "sealed/sealed.h"

PG_FUNCTION_INFO_V1(sealed_context);
PG_FUNCTION_INFO_V1(sealed_require_context);

/* Like quote_identifier, but the same in every version: that one knows keywords. */
static void
append_name(StringInfo out, const char *name)
{
	bool		plain = name[0] != '\0' && !(name[0] >= '0' && name[0] <= '9');

	for (const char *at = name; *at != '\0' && plain; at++)
		plain = (*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9') || *at == '_';
	if (plain)
	{
		appendStringInfoString(out, name);
		return;
	}
	appendStringInfoChar(out, '"');
	for (const char *at = name; *at != '\0'; at++)
	{
		if (*at == '"')
			appendStringInfoChar(out, '"');
		appendStringInfoChar(out, *at);
	}
	appendStringInfoChar(out, '"');
}

char *
sealed_row_context(Oid table, const char *column, int nkeys, char **keys)
{
	StringInfoData out;
	char	   *name;

	if (get_rel_relispartition(table))
		table = llast_oid(get_partition_ancestors(table));
	name = get_rel_name(table);
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", table)));

	initStringInfo(&out);
	append_name(&out, get_namespace_name(get_rel_namespace(table)));
	appendStringInfoChar(&out, '.');
	append_name(&out, name);
	appendStringInfoChar(&out, '.');
	append_name(&out, column);
	appendStringInfoChar(&out, ':');
	for (int i = 0; i < nkeys; i++)
	{
		if (nkeys == 1)
			appendStringInfoString(&out, keys[i]);
		else
		{
			if (i > 0)
				appendStringInfoChar(&out, ',');
			for (const char *at = keys[i]; *at != '\0'; at++)
			{
				if (*at == ',' || *at == '\\')
					appendStringInfoChar(&out, '\\');
				appendStringInfoChar(&out, *at);
			}
		}
	}
	return out.data;
}

char *
sealed_tuple_context(Relation table, HeapTuple row, AttrNumber column, int nkeys, const AttrNumber *key_columns)
{
	TupleDesc	descriptor = RelationGetDescr(table);
	char	  **keys = palloc(nkeys * sizeof(char *));

	for (int i = 0; i < nkeys; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, key_columns[i] - 1);
		Oid			type = getBaseType(attribute->atttypid);
		Oid			output;
		bool		is_varlena;
		bool		isnull;
		Datum		key;

		if (type != UUIDOID && type != INT2OID && type != INT4OID && type != INT8OID &&
			type != TEXTOID && type != VARCHAROID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of type %s cannot be the key of a context",
							NameStr(attribute->attname), format_type_be(attribute->atttypid)),
					 errdetail("The types uuid, smallint, integer, bigint, text and varchar read the same in every session.")));
		key = heap_getattr(row, key_columns[i], descriptor, &isnull);
		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" must not be null in a row with a sealed value", NameStr(attribute->attname)),
					 errtablecol(table, key_columns[i])));
		getTypeOutputInfo(type, &output, &is_varlena);
		keys[i] = OidOutputFunctionCall(output, key);
	}
	return sealed_row_context(RelationGetRelid(table),
							  NameStr(TupleDescAttr(descriptor, column - 1)->attname), nkeys, keys);
}

/* sealed_context(table, column, keys...): the context that require_context demands. */
Datum
sealed_context(PG_FUNCTION_ARGS)
{
	Oid			table = PG_GETARG_OID(0);
	const char *column = NameStr(*PG_GETARG_NAME(1));
	Datum	   *datums;
	bool	   *nulls;
	int			nkeys;
	char	  **keys;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &datums, &nulls, &nkeys);
	if (nkeys == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a context needs a key")));
	if (get_attnum(table, column) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", column, get_rel_name(table))));
	keys = palloc(nkeys * sizeof(char *));
	for (int i = 0; i < nkeys; i++)
	{
		if (nulls[i])
			PG_RETURN_NULL();
		keys[i] = TextDatumGetCString(datums[i]);
	}
	PG_RETURN_TEXT_P(cstring_to_text(sealed_row_context(table, column, nkeys, keys)));
}

/* A column of the trigger's table by one of the trigger's arguments. */
static AttrNumber
argument_column(TriggerData *trigger, int argument)
{
	const char *name = trigger->tg_trigger->tgargs[argument];
	TupleDesc	descriptor = RelationGetDescr(trigger->tg_relation);

	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
			return i + 1;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of relation \"%s\" does not exist", name,
					RelationGetRelationName(trigger->tg_relation)),
			 errhint("Trigger \"%s\" names it: drop the trigger and create it with the columns of today.",
					 trigger->tg_trigger->tgname)));
	return InvalidAttrNumber;	/* not reached */
}

/* Only the type itself is safe to look into: any other's bytes may be anything. */
static void
require_sealed(Relation table, AttrNumber column)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(table), column - 1);
	Oid			namespace = get_namespace_oid("sentient_edge", false);

	if (getBaseType(attribute->atttypid) !=
		GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("sealed"), ObjectIdGetDatum(namespace)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of relation \"%s\" is not of type sentient_edge.sealed",
						NameStr(attribute->attname), RelationGetRelationName(table)),
				 errtablecol(table, column)));
}

/* Has the column the same bytes in both versions of the row? */
static bool
is_unchanged(TriggerData *trigger, AttrNumber column)
{
	TupleDesc	descriptor = RelationGetDescr(trigger->tg_relation);
	Form_pg_attribute attribute = TupleDescAttr(descriptor, column - 1);
	bool		old_isnull;
	bool		new_isnull;
	Datum		old_value = heap_getattr(trigger->tg_trigtuple, column, descriptor, &old_isnull);
	Datum		new_value = heap_getattr(trigger->tg_newtuple, column, descriptor, &new_isnull);

	if (old_isnull || new_isnull)
		return old_isnull && new_isnull;
	return datumIsEqual(old_value, new_value, attribute->attbyval, attribute->attlen);
}

/*
 * require_context('column', 'key column', ...): BEFORE INSERT OR UPDATE trigger
 * that takes a sealed value only if it was sealed for its own row.
 */
Datum
sealed_require_context(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	table;
	HeapTuple	row;
	AttrNumber	column;
	AttrNumber *keys;
	int			nkeys;
	bool		is_update;
	bool		unchanged;
	bool		isnull;
	Datum		value;
	char	   *context;
	text	   *utf8;
	struct varlena *plain;
	SealedStatus status;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("sentient_edge.require_context() must be a trigger BEFORE INSERT OR UPDATE, FOR EACH ROW")));
	if (trigger->tg_trigger->tgnargs < 2)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("sentient_edge.require_context() needs the names of the sealed column and of its key columns")));
	table = trigger->tg_relation;
	is_update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	row = is_update ? trigger->tg_newtuple : trigger->tg_trigtuple;

	column = argument_column(trigger, 0);
	require_sealed(table, column);
	value = heap_getattr(row, column, RelationGetDescr(table), &isnull);
	if (isnull)
		PG_RETURN_POINTER(row);

	nkeys = trigger->tg_trigger->tgnargs - 1;
	keys = palloc(nkeys * sizeof(AttrNumber));
	unchanged = is_update && is_unchanged(trigger, column);
	for (int i = 0; i < nkeys; i++)
	{
		keys[i] = argument_column(trigger, i + 1);
		unchanged = unchanged && is_unchanged(trigger, keys[i]);
	}
	if (unchanged)
		PG_RETURN_POINTER(row);

	context = sealed_tuple_context(table, row, column, nkeys, keys);
	utf8 = sealed_context_argument(cstring_to_text(context));
	status = sealed_open((struct varlena *) DatumGetPointer(value),
						 VARDATA_ANY(utf8), VARSIZE_ANY_EXHDR(utf8), &plain);
	sealed_plain_free(plain);
	if (status == SEALED_REFUSED)
		ereport(ERROR,
				(errcode(ERRCODE_SE_SEALED_REFUSED),
				 errmsg("value of column \"%s\" of relation \"%s\" is not sealed for its own row",
						NameStr(TupleDescAttr(RelationGetDescr(table), column - 1)->attname),
						RelationGetRelationName(table)),
				 errhint("Seal it with the context sentient_edge.sealed_context() tells."),
				 errtablecol(table, column)));
	if (status != SEALED_OPENED)
		sealed_raise(status);
	PG_RETURN_POINTER(row);
}
