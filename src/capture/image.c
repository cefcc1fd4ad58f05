/*
 * image.c
 *		Rows as jsonb objects, made column by column straight from a tuple.
 *
 * Called by capture for every changed row.  jsonb keeps an object's keys sorted
 * by length, then by bytes; the columns are put in that order once per relation,
 * so that the object can be written front to back, in the format of
 * convertJsonbObject (jsonb_util.c), without building and sorting a tree.
 * Numbers, booleans, text and times are written directly; arrays, composites,
 * json and types with a cast to json by to_jsonb; all others by their output
 * function, as to_jsonb does.
 *
 * Results are allocated in the current memory context, and so is what detoasting
 * and output functions leave behind: the caller resets it.  Takes no locks but
 * those of reading TOAST.
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/toast_internals.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "capture/image.h"
#include "capture/pinned_settings.h"
#include "compat.h"

typedef enum ImageKind
{
	IMAGE_BOOL,
	IMAGE_INT2,
	IMAGE_INT4,
	IMAGE_INT8,
	IMAGE_FLOAT4,
	IMAGE_FLOAT8,
	IMAGE_NUMERIC,
	IMAGE_TEXT,
	IMAGE_NAME,
	IMAGE_UUID,
	IMAGE_TIME,					/* date and the timestamps */
	IMAGE_JSONB,
	IMAGE_OUTPUT,				/* output function */
	IMAGE_GENERIC,				/* to_jsonb */
} ImageKind;

typedef struct ImageColumn
{
	int			attribute;		/* index into the tuple's values */
	const char *name;
	int			name_length;
	ImageKind	kind;
	Oid			type;			/* no domain */
	bool		by_value;
	bool		masked;
	bool		in_values;		/* not excluded */
	bool		in_key;
	int16		length;
	int			pins;			/* session's settings that its text depends on */
	FmgrInfo	function;
} ImageColumn;

struct ImageShape
{
	int			ncolumns;
	bool		has_key;
	bool		busy;			/* inside an output function, which may change rows itself */
	ImageColumn *columns;		/* in the order of jsonb's keys */
	int		   *chosen;			/* room for numbers of columns */
	StringInfoData buffer;
};

bool
image_written_by_cast(Oid type)
{
	Oid			cast_function;

	return type >= FirstNormalObjectId && !OidIsValid(get_element_type(type)) && !type_is_rowtype(type) &&
		find_coercion_pathway(JSONOID, type, COERCION_EXPLICIT, &cast_function) == COERCION_PATH_FUNC;
}

/*
 * Which way a type's values are written.
 */
static ImageKind
image_kind(Oid type)
{
	Oid			output;
	bool		is_varlena;

	switch (type)
	{
		case BOOLOID:
			return IMAGE_BOOL;
		case INT2OID:
			return IMAGE_INT2;
		case INT4OID:
			return IMAGE_INT4;
		case INT8OID:
			return IMAGE_INT8;
		case FLOAT4OID:
			return IMAGE_FLOAT4;
		case FLOAT8OID:
			return IMAGE_FLOAT8;
		case NUMERICOID:
			return IMAGE_NUMERIC;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return IMAGE_TEXT;
		case NAMEOID:
			return IMAGE_NAME;
		case UUIDOID:
			return IMAGE_UUID;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return IMAGE_TIME;
		case JSONBOID:
			return IMAGE_JSONB;
		case JSONOID:
		case RECORDOID:
			return IMAGE_GENERIC;
	}
	if (OidIsValid(get_element_type(type)) || type_is_rowtype(type) || image_written_by_cast(type))
		return IMAGE_GENERIC;
	getTypeOutputInfo(type, &output, &is_varlena);
	return IMAGE_OUTPUT;
}

/* The order of keys in a jsonb object. */
static int
compare_columns(const void *a, const void *b)
{
	const ImageColumn *left = a;
	const ImageColumn *right = b;

	if (left->name_length != right->name_length)
		return left->name_length < right->name_length ? -1 : 1;
	return memcmp(left->name, right->name, left->name_length);
}

ImageShape *
image_shape(TupleDesc desc, const Bitmapset *excluded, const Bitmapset *masked, const Bitmapset *key, List **composites)
{
	ImageShape *shape = palloc0(sizeof(ImageShape));

	shape->columns = palloc0(sizeof(ImageColumn) * Max(desc->natts, 1));
	shape->chosen = palloc(sizeof(int) * Max(desc->natts, 1));
	shape->has_key = !bms_is_empty(key);
	initStringInfo(&shape->buffer);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		ImageColumn *column = &shape->columns[shape->ncolumns];
		Oid			output;
		bool		is_varlena;

		if (attribute->attisdropped || attribute->attgenerated == COMPAT_GENERATED_VIRTUAL)
			continue;
		column->in_values = !bms_is_member(i + 1, excluded);
		column->in_key = bms_is_member(i + 1, key);
		if (!column->in_values && !column->in_key)
			continue;
		shape->ncolumns++;
		column->attribute = i;
		column->name = pstrdup(NameStr(attribute->attname));
		column->name_length = strlen(column->name);
		column->type = getBaseType(attribute->atttypid);
		column->by_value = attribute->attbyval;
		column->length = attribute->attlen;
		column->masked = bms_is_member(i + 1, masked);
		column->kind = image_kind(column->type);
		if (column->kind == IMAGE_OUTPUT)
		{
			getTypeOutputInfo(column->type, &output, &is_varlena);
			fmgr_info(output, &column->function);
		}
		else if (column->kind == IMAGE_GENERIC)
		{
			/* to_jsonb asks its call for the type of its argument. */
			Const	   *argument = makeNullConst(column->type, -1, InvalidOid);

			fmgr_info(F_TO_JSONB, &column->function);
			fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument), InvalidOid,
													 InvalidOid, COERCE_EXPLICIT_CALL), &column->function);
		}
		if (column->kind == IMAGE_OUTPUT || column->kind == IMAGE_GENERIC)
			column->pins = pins_of_type(column->type, composites);
	}
	qsort(shape->columns, shape->ncolumns, sizeof(ImageColumn), compare_columns);
	return shape;
}

/* Numbers and containers begin at a multiple of four bytes. */
static void
append_padding(StringInfo buffer)
{
	int			pad = INTALIGN(buffer->len) - buffer->len;

	enlargeStringInfo(buffer, pad);
	memset(buffer->data + buffer->len, 0, pad);
	buffer->len += pad;
}

static JEntry
append_string(StringInfo buffer, const char *text, int length)
{
	appendBinaryStringInfo(buffer, text, length);
	return JENTRY_ISSTRING;
}

static JEntry
append_cstring(StringInfo buffer, const char *text)
{
	return append_string(buffer, text, strlen(text));
}

static JEntry
append_numeric(StringInfo buffer, Numeric number)
{
	append_padding(buffer);
	appendBinaryStringInfo(buffer, (const char *) number, VARSIZE(number));
	return JENTRY_ISNUMERIC;
}

/* The shortest text that reads as the number again, unless it is none. */
static JEntry
append_float(StringInfo buffer, Datum value, bool single)
{
	char	   *text = DatumGetCString(single ? DirectFunctionCall1(float4out, value)
									   : DirectFunctionCall1(float8out, value));
	double		number = single ? (double) DatumGetFloat4(value) : DatumGetFloat8(value);

	if (isnan(number) || isinf(number))
		return append_cstring(buffer, text);
	return append_numeric(buffer, DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
																	  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
}

static JEntry
append_jsonb(StringInfo buffer, Jsonb *jsonb)
{
	JsonbValue	scalar;

	if (!JB_ROOT_IS_SCALAR(jsonb))
	{
		append_padding(buffer);
		appendBinaryStringInfo(buffer, (const char *) &jsonb->root, VARSIZE(jsonb) - VARHDRSZ);
		return JENTRY_ISCONTAINER;
	}
	(void) JsonbExtractScalar(&jsonb->root, &scalar);
	switch (scalar.type)
	{
		case jbvNull:
			return JENTRY_ISNULL;
		case jbvBool:
			return scalar.val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		case jbvNumeric:
			return append_numeric(buffer, scalar.val.numeric);
		case jbvString:
			return append_string(buffer, scalar.val.string.val, scalar.val.string.len);
		default:
			elog(ERROR, "unexpected type of a jsonb scalar: %d", (int) scalar.type);
	}
	return JENTRY_ISNULL;
}

/* Append one value; returns its type. */
static JEntry
append_value(StringInfo buffer, ImageColumn *column, Datum value)
{
	char		text[MAXDATELEN + 1];
	int			utc = 0;

	if (column->masked)
		return append_cstring(buffer, IMAGE_MASK);
	switch (column->kind)
	{
		case IMAGE_BOOL:
			return DatumGetBool(value) ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		case IMAGE_INT2:
			return append_numeric(buffer, int64_to_numeric(DatumGetInt16(value)));
		case IMAGE_INT4:
			return append_numeric(buffer, int64_to_numeric(DatumGetInt32(value)));
		case IMAGE_INT8:
			return append_numeric(buffer, int64_to_numeric(DatumGetInt64(value)));
		case IMAGE_FLOAT4:
		case IMAGE_FLOAT8:
			return append_float(buffer, value, column->kind == IMAGE_FLOAT4);
		case IMAGE_NUMERIC:
			{
				Numeric		number = DatumGetNumeric(value);

				if (numeric_is_nan(number) || numeric_is_inf(number))
					return append_cstring(buffer, DatumGetCString(DirectFunctionCall1(numeric_out, value)));
				return append_numeric(buffer, number);
			}
		case IMAGE_TEXT:
			{
				struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

				return append_string(buffer, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
			}
		case IMAGE_NAME:
			return append_cstring(buffer, NameStr(*DatumGetName(value)));
		case IMAGE_UUID:
			return append_cstring(buffer, DatumGetCString(DirectFunctionCall1(uuid_out, value)));
		case IMAGE_TIME:
			return append_cstring(buffer, JsonEncodeDateTime(text, value, column->type,
															 column->type == TIMESTAMPTZOID ? &utc : NULL));
		case IMAGE_JSONB:
			return append_jsonb(buffer, DatumGetJsonbP(value));
		case IMAGE_OUTPUT:
			return append_cstring(buffer, OutputFunctionCall(&column->function, value));
		case IMAGE_GENERIC:
			return append_jsonb(buffer, DatumGetJsonbP(FunctionCall1(&column->function, value)));
	}
	return JENTRY_ISNULL;
}

/* Every so many entries tell where they end, the others how long they are. */
static void
put_entry(char *entries, int i, JEntry type, uint32 length, uint32 total)
{
	JEntry		entry = type | (i % JB_OFFSET_STRIDE == 0 ? total | JENTRY_HAS_OFF : length);

	memcpy(entries + sizeof(JEntry) * i, &entry, sizeof(JEntry));
}

/*
 * An object of the chosen columns.
 */
static Jsonb *
build_object(ImageShape *shape, int nchosen, const Datum *values, const bool *nulls)
{
	StringInfo	buffer = &shape->buffer;
	uint32		header = (uint32) nchosen | JB_FOBJECT;
	int			entries = VARHDRSZ + sizeof(header);
	uint32		total = 0;
	Jsonb	   *object;

	resetStringInfo(buffer);
	enlargeStringInfo(buffer, entries + 2 * nchosen * sizeof(JEntry));
	memcpy(buffer->data + VARHDRSZ, &header, sizeof(header));
	buffer->len = entries + 2 * nchosen * sizeof(JEntry);

	for (int i = 0; i < nchosen; i++)
	{
		ImageColumn *column = &shape->columns[shape->chosen[i]];

		appendBinaryStringInfo(buffer, column->name, column->name_length);
		total += column->name_length;
		put_entry(buffer->data + entries, i, JENTRY_ISSTRING, column->name_length, total);
	}
	for (int i = 0; i < nchosen; i++)
	{
		ImageColumn *column = &shape->columns[shape->chosen[i]];
		int			start = buffer->len;
		JEntry		type = JENTRY_ISNULL;

		if (!nulls[column->attribute])
			type = append_value(buffer, column, values[column->attribute]);
		total += buffer->len - start;
		if (total > JENTRY_OFFLENMASK)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("row is too large for an audit entry"),
					 errdetail("The values of a row may take %u bytes there.", (unsigned) JENTRY_OFFLENMASK),
					 errhint("Exclude the large column with audit.enable(table, exclude => ...).")));
		put_entry(buffer->data + entries, nchosen + i, type, buffer->len - start, total);
	}
	object = palloc(buffer->len);
	memcpy(object, buffer->data, buffer->len);
	SET_VARSIZE(object, buffer->len);

	/* One large row shall not keep its memory for the session. */
	if (buffer->maxlen > 64 * 1024)
	{
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(shape));

		pfree(buffer->data);
		initStringInfo(buffer);
		MemoryContextSwitchTo(old);
	}
	return object;
}

/* The same with the session's settings out of the way. */
static Jsonb *
image_object(ImageShape *shape, int nchosen, const Datum *values, const bool *nulls)
{
	PinnedSettings saved;
	Jsonb	   *object = NULL;
	int			pins = extra_float_digits > 0 ? 0 : PIN_VARIABLES;

	for (int i = 0; i < nchosen; i++)
		pins |= shape->columns[shape->chosen[i]].pins;
	if (pins == 0)
		return build_object(shape, nchosen, values, nulls);

	image_check_idle(shape);
	shape->busy = true;
	pin_settings(&saved, pins);
	PG_TRY();
	{
		object = build_object(shape, nchosen, values, nulls);
	}
	PG_CATCH();
	{
		unpin_settings(&saved, true);
		shape->busy = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	unpin_settings(&saved, false);
	shape->busy = false;
	return object;
}

void
image_check_idle(const ImageShape *shape)
{
	if (shape->busy)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("a function that writes a value for its audit entry has changed the same table")));
}

Jsonb *
image_row(ImageShape *shape, const Datum *values, const bool *nulls)
{
	int			n = 0;

	for (int i = 0; i < shape->ncolumns; i++)
	{
		if (shape->columns[i].in_values)
			shape->chosen[n++] = i;
	}
	return image_object(shape, n, values, nulls);
}

Jsonb *
image_key(ImageShape *shape, const Datum *values, const bool *nulls)
{
	int			n = 0;

	if (!shape->has_key)
		return NULL;
	for (int i = 0; i < shape->ncolumns; i++)
	{
		if (shape->columns[i].in_key)
			shape->chosen[n++] = i;
	}
	return image_object(shape, n, values, nulls);
}

/*
 * Do two values of one variable-length column have the same bytes?
 */
static bool
same_varlena(Datum a, Datum b)
{
	struct varlena *left = (struct varlena *) DatumGetPointer(a);
	struct varlena *right = (struct varlena *) DatumGetPointer(b);
	struct varlena *left_plain;
	struct varlena *right_plain;
	bool		same;

	/* An UPDATE that leaves a value alone keeps its pointer to the TOAST table. */
	if (VARATT_IS_EXTERNAL(left) && VARATT_IS_EXTERNAL(right) &&
		VARSIZE_EXTERNAL(left) == VARSIZE_EXTERNAL(right) &&
		memcmp(left, right, VARSIZE_EXTERNAL(left)) == 0)
		return true;
	if (toast_raw_datum_size(a) != toast_raw_datum_size(b))
		return false;
	left_plain = PG_DETOAST_DATUM_PACKED(a);
	right_plain = PG_DETOAST_DATUM_PACKED(b);
	same = VARSIZE_ANY_EXHDR(left_plain) == VARSIZE_ANY_EXHDR(right_plain) &&
		memcmp(VARDATA_ANY(left_plain), VARDATA_ANY(right_plain), VARSIZE_ANY_EXHDR(left_plain)) == 0;
	if (left_plain != left)
		pfree(left_plain);
	if (right_plain != right)
		pfree(right_plain);
	return same;
}

static bool
same_value(const ImageColumn *column, Datum a, Datum b)
{
	if (column->length == -1)
		return same_varlena(a, b);
	return datumIsEqual(a, b, column->by_value, column->length);
}

bool
image_changes(ImageShape *shape, const Datum *old_values, const bool *old_nulls,
			  const Datum *new_values, const bool *new_nulls, Jsonb **before, Jsonb **after)
{
	int			n = 0;

	for (int i = 0; i < shape->ncolumns; i++)
	{
		const ImageColumn *column = &shape->columns[i];
		int			at = column->attribute;

		if (!column->in_values)
			continue;
		if (old_nulls[at] || new_nulls[at] ? old_nulls[at] != new_nulls[at] :
			!same_value(column, old_values[at], new_values[at]))
			shape->chosen[n++] = i;
	}
	if (n == 0)
		return false;
	*before = image_object(shape, n, old_values, old_nulls);
	*after = image_object(shape, n, new_values, new_nulls);
	return true;
}
