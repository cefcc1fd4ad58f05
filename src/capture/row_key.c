/*
 * row_key.c
 *		audit.row_key(table_name, key): the key of a row as entries have it, however
 *		it was spelled.
 *
 * Whoever asks for the history of a row gives its key as an object: an integer as
 * "1" or 1.0, a uuid in capitals, a time in his zone.  Here its values are read by
 * the types of the columns of today's primary key, which capture takes as well, and
 * written by the code that writes entries (image.c).  So they are found by the
 * index, which knows one spelling only.
 *
 * Values are read under the settings that entries are written under: a time without
 * a zone is one in UTC.  Checks of domains and what else belongs to the table's
 * owner run as he, restricted, as index functions do.  Takes AccessShareLock on the
 * table until the transaction ends.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "capture/image.h"
#include "capture/pinned_settings.h"
#include "capture/targets.h"

PG_FUNCTION_INFO_V1(audit_row_key);

/* What is asked for. */
typedef struct KeyRequest
{
	Relation	rel;
	Bitmapset  *columns;		/* of the primary key */
	bool		as_given;		/* a column has a type whose json only its owner can read */
	Jsonb	   *key;
	const char *rounded;		/* a column that would not keep the value given */
} KeyRequest;

/* The columns of the key with their types, in its order. */
static const char *
key_hint(const KeyRequest *request)
{
	StringInfoData names;
	List	   *order = target_key_order(request->rel);
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, order)
	{
		Form_pg_attribute column = TupleDescAttr(RelationGetDescr(request->rel), lfirst_int(cell) - 1);

		appendStringInfo(&names, "%s%s %s", names.len > 0 ? ", " : "", quote_identifier(NameStr(column->attname)),
						 format_type_with_typemod(column->atttypid, column->atttypmod));
	}
	return names.data;
}

#define KEY_DETAIL		"Entries name rows of the table by %s."
#define OTHER_KEYS_HINT	"Entries from before the primary key changed are found by audit.row_history(schema_name, table_name, key), which takes the key as they have it."

/*
 * Read the object given: its columns must be those of the key.  Numbers lose
 * zeros at their end where the column's type is another number: no integer reads 1.0.
 */
static void
check_columns(KeyRequest *request, Jsonb *given)
{
	Relation	rel = request->rel;
	const char *table = RelationGetRelationName(rel);
	JsonbParseState *state = NULL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	Bitmapset  *missing = bms_copy(request->columns);
	AttrNumber	attribute = InvalidAttrNumber;

	if (!JB_ROOT_IS_OBJECT(given))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key is no object"),
				 errdetail(KEY_DETAIL, key_hint(request))));

	iterator = JsonbIteratorInit(&given->root);
	(void) JsonbIteratorNext(&iterator, &value, true);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_END_OBJECT)
	{
		if (token == WJB_KEY)
		{
			char	   *name = pnstrdup(value.val.string.val, value.val.string.len);

			attribute = get_attnum(RelationGetRelid(rel), name);
			if (attribute <= 0 || !bms_is_member(attribute, request->columns))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_COLUMN),
						 errmsg("column \"%s\" is not in the primary key of table \"%s\"", name, table),
						 errdetail(KEY_DETAIL, key_hint(request)),
						 errhint(OTHER_KEYS_HINT)));
			missing = bms_del_member(missing, attribute);
		}
		else
		{
			Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rel), attribute - 1);
			Oid			type = getBaseType(column->atttypid);
			char		category;
			bool		preferred;

			if (value.type == jbvNull)
				ereport(ERROR,
						(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						 errmsg("column \"%s\" of the primary key of table \"%s\" is never null", NameStr(column->attname), table),
						 errdetail(KEY_DETAIL, key_hint(request))));
			get_type_category_preferred(type, &category, &preferred);
			if (value.type == jbvNumeric && category == TYPCATEGORY_NUMERIC && type != NUMERICOID)
				value.val.numeric = DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value.val.numeric)));
			request->as_given |= image_written_by_cast(type);
		}
		(void) pushJsonbValue(&state, token, &value);
	}
	request->key = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));

	if (!bms_is_empty(missing))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key lacks column \"%s\" of the primary key of table \"%s\"",
						get_attname(RelationGetRelid(rel), bms_next_member(missing, -1), false), table),
				 errdetail(KEY_DETAIL, key_hint(request)),
				 errhint(OTHER_KEYS_HINT)));
}

/*
 * Numbers and times are rounded to what their column keeps: that would be the key
 * of another row.
 */
static void
check_precision(KeyRequest *request, const Datum *values)
{
	int			at = -1;

	while ((at = bms_next_member(request->columns, at)) >= 0)
	{
		Form_pg_attribute column = TupleDescAttr(RelationGetDescr(request->rel), at - 1);
		int32		typmod = column->atttypmod;
		Oid			type = getBaseTypeAndTypmod(column->atttypid, &typmod);
		Oid			input;
		Oid			parameter;
		JsonbValue	buffer;
		JsonbValue *given;
		char	   *text;
		Datum		exact;

		if (typmod < 0 || (type != NUMERICOID && type != TIMEOID && type != TIMETZOID && type != TIMESTAMPOID &&
						   type != TIMESTAMPTZOID && type != INTERVALOID))
			continue;
		given = getKeyJsonValueFromContainer(&request->key->root, NameStr(column->attname), strlen(NameStr(column->attname)), &buffer);
		if (given->type == jbvString)
			text = pnstrdup(given->val.string.val, given->val.string.len);
		else
			text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(given->val.numeric)));
		getTypeInputInfo(type, &input, &parameter);
		exact = OidInputFunctionCall(input, text, parameter, -1);
		if (type == NUMERICOID ? !DatumGetBool(DirectFunctionCall2(numeric_eq, exact, values[at - 1])) :
			!datumIsEqual(exact, values[at - 1], column->attbyval, column->attlen))
			request->rounded = NameStr(column->attname);
	}
}

/* The values read, and written again. */
static Jsonb *
rewrite_key(KeyRequest *request)
{
	TupleDesc	desc = RelationGetDescr(request->rel);
	Oid			row_type = request->rel->rd_rel->reltype;
	Bitmapset  *all = bms_add_range(NULL, 1, desc->natts);
	Datum	   *values = palloc0(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	FmgrInfo	function;
	Datum		empty;
	HeapTupleData row = {0};

	/* A row, not null: columns that are not given are not looked at. */
	memset(nulls, true, sizeof(bool) * desc->natts);
	empty = heap_copy_tuple_as_datum(heap_form_tuple(desc, values, nulls), desc);
	fmgr_info(F_JSONB_POPULATE_RECORD, &function);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_JSONB_POPULATE_RECORD, row_type,
											 list_make2(makeNullConst(row_type, -1, InvalidOid), makeNullConst(JSONBOID, -1, InvalidOid)),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL), &function);
	row.t_data = DatumGetHeapTupleHeader(FunctionCall2(&function, empty, JsonbPGetDatum(request->key)));
	row.t_len = HeapTupleHeaderGetDatumLength(row.t_data);
	heap_deform_tuple(&row, desc, values, nulls);
	check_precision(request, values);
	return image_key(image_shape(desc, all, NULL, request->columns, NULL), values, nulls);
}

/* What a value's type has against it is told with what the key is. */
static void
tell_error(const KeyRequest *request, MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_INVALID_SCHEMA_NAME:
			FlushErrorState();
			ereport(ERROR,
					(errcode(error->sqlerrcode),
					 errmsg("key is not valid for table \"%s\"", RelationGetRelationName(request->rel)),
					 errdetail_internal("%s", error->message),
					 errhint(KEY_DETAIL, key_hint(request))));
			break;
		default:
			break;
	}
	PG_RE_THROW();
}

Datum
audit_row_key(PG_FUNCTION_ARGS)
{
	KeyRequest	request = {0};
	PinnedSettings saved;
	MemoryContext context = CurrentMemoryContext;
	Jsonb	   *result = NULL;
	Oid			user;
	int			security;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("table and key must not be null")));
	request.rel = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	if (request.rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", PG_GETARG_OID(0)),
				 errhint("Entries of a table that is gone are found by audit.row_history(schema_name, table_name, key).")));
	request.columns = target_key_columns(request.rel);
	if (bms_is_empty(request.columns))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(request.rel)),
				 errdetail("Entries name rows by the primary key, and have no key without one."),
				 errhint(OTHER_KEYS_HINT)));
	check_columns(&request, PG_GETARG_JSONB_P(1));
	if (request.as_given)
	{
		relation_close(request.rel, NoLock);
		PG_RETURN_JSONB_P(request.key);
	}

	pin_settings(&saved, PIN_VARIABLES | PIN_NAMES | PIN_MONEY);
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(request.rel->rd_rel->relowner, security | SECURITY_RESTRICTED_OPERATION);
	PG_TRY();
	{
		result = rewrite_key(&request);
	}
	PG_CATCH();
	{
		SetUserIdAndSecContext(user, security);
		unpin_settings(&saved, true);
		tell_error(&request, context);
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, security);
	unpin_settings(&saved, false);
	if (request.rounded != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value of column \"%s\" has more digits than the column keeps", request.rounded),
				 errdetail(KEY_DETAIL, key_hint(&request))));
	relation_close(request.rel, NoLock);
	PG_RETURN_JSONB_P(result);
}
