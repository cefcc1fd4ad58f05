/*
 * ingest_batch.c
 *		telemetry.ingest_batch(): samples out of arrays, one a column.
 *
 * The arrays are read in place; nothing is formed between them and the samples.
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "telemetry/ingest.h"

PG_FUNCTION_INFO_V1(telemetry_ingest_batch);

/* An argument while it is being read.  Arguments stand in the order of the columns. */
typedef struct ColumnReader
{
	SampleColumn column;
	bool		absent;			/* no sample has the column */
	ArrayType  *array;
	const char *data;			/* the next value */
	const bits8 *nulls;			/* NULL when there are none */
	Datum	   *elements;		/* all of them, once a payload needed one */
	bool	   *element_nulls;
} ColumnReader;

typedef struct ColumnReaders
{
	int			nsamples;
	ColumnReader columns[SAMPLE_EXTRA];
} ColumnReaders;

static void
open_column(ColumnReaders *readers, ColumnReader *reader, SampleColumn column, FunctionCallInfo fcinfo)
{
	ArrayType  *array;
	int			n;

	reader->column = column;
	reader->absent = PG_ARGISNULL(column - 1);
	if (reader->absent)
	{
		if (column <= SAMPLE_RECORDED_AT)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("array %s must not be null", column == SAMPLE_DRONE_ID ? "drone_ids" : "recorded_at"),
					 errhint("Every sample needs a drone and a time.")));
		return;
	}

	array = PG_GETARG_ARRAYTYPE_P(column - 1);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("array %s has %d dimensions",
						column == SAMPLE_DRONE_ID ? "drone_ids" : sample_columns[column].name, ARR_NDIM(array)),
				 errhint("Send one-dimensional arrays of equal lengths.")));
	n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (column == SAMPLE_DRONE_ID)
		readers->nsamples = n;
	else if (n != readers->nsamples)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("array %s has %d elements, drone_ids has %d", sample_columns[column].name, n, readers->nsamples),
				 errhint("Send one-dimensional arrays of equal lengths; a column that no sample has is a NULL array.")));

	reader->array = array;
	reader->data = ARR_DATA_PTR(array);
	reader->nulls = ARR_NULLBITMAP(array);
}

/* Is element i NULL? */
static inline bool
element_is_null(const ColumnReader *reader, int i)
{
	return reader->nulls != NULL && (reader->nulls[i / 8] & (1 << (i % 8))) == 0;
}

/* The next varlena element, detoasted. */
static struct varlena *
next_varlena(ColumnReader *reader)
{
	struct varlena *value = (struct varlena *) reader->data;

	reader->data = (const char *) att_align_nominal(reader->data + VARSIZE_ANY(value), TYPALIGN_INT);
	return pg_detoast_datum(value);
}

/* The next number. */
static inline double
next_number(ColumnReader *reader)
{
	double		number;

	if (sample_columns[reader->column].integral)
	{
		int32		value;

		memcpy(&value, reader->data, sizeof(value));
		reader->data += sizeof(value);
		return value;
	}
	memcpy(&number, reader->data, sizeof(number));
	reader->data += sizeof(number);
	return number;
}

/*
 * Take the array apart, so that every element is at hand: rejected samples come
 * in any order, and finding one element of many walks past all before it.
 */
static void
open_elements(ColumnReader *reader)
{
	Oid			type = ARR_ELEMTYPE(reader->array);
	int16		length;
	bool		by_value;
	char		align;
	int			n;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(reader->array, type, length, by_value, align,
					  &reader->elements, &reader->element_nulls, &n);
}

/*
 * The payload of a rejected sample: its elements, out-of-range ones included.
 */
static Jsonb *
array_payload(void *arg, const Sample *sample)
{
	ColumnReaders *readers = arg;
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < lengthof(readers->columns); i++)
	{
		ColumnReader *reader = &readers->columns[i];
		const char *name = sample_columns[reader->column].name;
		Datum		value;

		if (reader->absent)
			continue;
		if (reader->elements == NULL)
			open_elements(reader);
		if (reader->element_nulls[sample->ordinal])
			continue;
		value = reader->elements[sample->ordinal];
		switch (ARR_ELEMTYPE(reader->array))
		{
			case UUIDOID:
				sample_push_uuid(&state, name, DatumGetUUIDP(value));
				break;
			case TIMESTAMPTZOID:
				sample_push_time(&state, name, DatumGetTimestampTz(value));
				break;
			case INT4OID:
				sample_push_number(&state, name, DatumGetInt32(value));
				break;
			case TEXTOID:
				sample_push_string(&state, name, VARDATA_ANY(DatumGetTextPP(value)),
								   VARSIZE_ANY_EXHDR(DatumGetTextPP(value)));
				break;
			case JSONBOID:
				sample_push_jsonb(&state, name, DatumGetJsonbP(value));
				break;
			default:
				sample_push_number(&state, name, DatumGetFloat8(value));
				break;
		}
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * Read sample i.  Every column's reader moves on, whatever becomes of the sample.
 */
static void
read_sample(IngestBatch *batch, ColumnReaders *readers, int i)
{
	Sample	   *sample = ingest_next(batch);
	SampleFault fault = SAMPLE_OK;
	SampleColumn fault_column = 0;
	double		fault_value = 0;
	bool		bad_extra = false;

	for (int at = 0; at < lengthof(readers->columns); at++)
	{
		ColumnReader *reader = &readers->columns[at];
		SampleColumn column = reader->column;

		if (reader->absent || element_is_null(reader, i))
			continue;

		switch (column)
		{
			case SAMPLE_DRONE_ID:
				memcpy(&sample->drone_id, reader->data, UUID_LEN);
				reader->data += UUID_LEN;
				break;
			case SAMPLE_RECORDED_AT:
				memcpy(&sample->recorded_at, reader->data, sizeof(TimestampTz));
				reader->data += sizeof(TimestampTz);
				break;
			case SAMPLE_FLIGHT_MODE:
				sample->flight_mode = (text *) next_varlena(reader);
				break;
			case SAMPLE_EXTRA:
				sample->extra = (Jsonb *) next_varlena(reader);
				if (!JB_ROOT_IS_OBJECT(sample->extra))
					bad_extra = true;
				break;
			default:
				{
					double		number = next_number(reader);
					SampleFault this_fault = sample_set_number(sample, column, number);

					if (unlikely(this_fault != SAMPLE_OK) && fault == SAMPLE_OK)
					{
						fault = this_fault;
						fault_column = column;
						fault_value = number;
					}
					continue;
				}
		}
		sample->present |= SAMPLE_BIT(column);
	}

	if (unlikely(fault != SAMPLE_OK))
		ingest_reject_last(batch, fault, fault_column, fault_value);
	else if (unlikely(bad_extra))
		ingest_reject_last_because(batch, ERRCODE_INVALID_TEXT_REPRESENTATION, "extra is not an object");
}

/*
 * telemetry.ingest_batch(drone_ids uuid[], recorded_at timestamptz[], ...)
 */
Datum
telemetry_ingest_batch(PG_FUNCTION_ARGS)
{
	ColumnReaders *readers = palloc0(sizeof(ColumnReaders));
	IngestBatch *batch;

	for (int column = SAMPLE_DRONE_ID; column <= SAMPLE_EXTRA; column++)
		open_column(readers, &readers->columns[column - 1], column, fcinfo);

	batch = ingest_begin("ingest_batch");
	ingest_set_payload(batch, array_payload, readers);
	for (int i = 0; i < readers->nsamples; i++)
		read_sample(batch, readers, i);

	PG_RETURN_DATUM(ingest_counts_datum(fcinfo, ingest_finish(batch)));
}
