/*
 * ingest_json.c
 *		telemetry.ingest(jsonb): samples out of JSON objects.
 *
 * The JSON is walked in its binary form.  A value that does not fit its column
 * rejects its sample, never the call.  Keys that are no column go to extra.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "compat.h"
#include "errors.h"
#include "telemetry/ingest_json.h"
#include "telemetry/sample_text.h"

PG_FUNCTION_INFO_V1(telemetry_ingest);

/* Objects of one sender have the same keys in the same places: remember them. */
#define REMEMBERED_KEYS		32
#define REMEMBERED_LENGTH	32

typedef struct RememberedKey
{
	int			length;			/* 0: nothing remembered */
	char		key[REMEMBERED_LENGTH];
	SampleColumn column;
} RememberedKey;

struct JsonReader
{
	IngestBatch *batch;
	RememberedKey keys[REMEMBERED_KEYS];
	JsonbValue **sent;			/* the samples' values by ordinal, for rejections */
	int			sent_size;
	const char *fault_reason;	/* of the sample being read; NULL while it is sound */
	int			fault_sqlerrcode;
};

/*
 * The payload of a rejected sample: what was sent.
 */
static Jsonb *
sent_payload(void *arg, const Sample *sample)
{
	JsonReader *reader = arg;

	/* Other samples of the batch may not have come as JSON. */
	if (sample->ordinal >= reader->sent_size || reader->sent[sample->ordinal] == NULL)
		return sample_to_jsonb(sample);
	return JsonbValueToJsonb(reader->sent[sample->ordinal]);
}

/*
 * Remember what was sent for a sample.
 */
static void
remember_sent(JsonReader *reader, int32 ordinal, const JsonbValue *value)
{
	JsonbValue *copy = palloc(sizeof(JsonbValue));

	if (ordinal >= reader->sent_size)
	{
		int			size = Max(reader->sent_size * 2, ordinal + 1);

		reader->sent = repalloc_huge(reader->sent, sizeof(JsonbValue *) * size);
		memset(reader->sent + reader->sent_size, 0, sizeof(JsonbValue *) * (size - reader->sent_size));
		reader->sent_size = size;
	}
	*copy = *value;
	reader->sent[ordinal] = copy;
}

/*
 * A reader for the batch.
 */
JsonReader *
json_reader_create(IngestBatch *batch)
{
	JsonReader *reader = palloc0(sizeof(JsonReader));

	reader->batch = batch;
	reader->sent_size = 64;
	reader->sent = palloc0(sizeof(JsonbValue *) * reader->sent_size);
	ingest_set_payload(batch, sent_payload, reader);
	return reader;
}

/*
 * The column that the key at this place of an object stands for, or 0.
 */
static SampleColumn
column_of(JsonReader *reader, int place, const char *key, int length)
{
	RememberedKey *remembered;
	SampleColumn column;

	if (place >= REMEMBERED_KEYS || length >= REMEMBERED_LENGTH || length == 0)
		return sample_column_by_key(key, length);

	remembered = &reader->keys[place];
	if (remembered->length == length && memcmp(remembered->key, key, length) == 0)
		return remembered->column;

	column = sample_column_by_key(key, length);
	remembered->length = length;
	memcpy(remembered->key, key, length);
	remembered->column = column;
	return column;
}

/*
 * Note why the sample being read cannot be taken; the first reason stays.  The
 * rest of it is read all the same, so that its drone and time are known.
 */
static void
note_fault(JsonReader *reader, int sqlerrcode, const char *reason)
{
	if (reader->fault_reason != NULL)
		return;
	reader->fault_sqlerrcode = sqlerrcode;
	reader->fault_reason = reason;
}

static void
note_type(JsonReader *reader, SampleColumn column, const char *expected)
{
	note_fault(reader, ERRCODE_INVALID_TEXT_REPRESENTATION,
			   psprintf("%s is not %s", sample_columns[column].name, expected));
}

/*
 * Put a number into its column.
 */
static void
read_number(JsonReader *reader, Sample *sample, SampleColumn column, JsonbValue *value)
{
	SampleFault fault;
	double		number;

	if (value->type != jbvNumeric)
	{
		note_type(reader, column, "a number");
		return;
	}
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												NumericGetDatum(value->val.numeric)));
	fault = sample_set_number(sample, column, number);
	if (fault != SAMPLE_OK)
		note_fault(reader, sample_fault_sqlstate(fault),
				   sample_fault_reason(fault, sample, column, number));
}

/*
 * Put a value into its column.
 */
static void
read_column(JsonReader *reader, Sample *sample, SampleColumn column, JsonbValue *value)
{
	if (value->type == jbvNull)
		return;					/* as if it were absent */

	if (sample_has(sample, column))
	{
		note_fault(reader, ERRCODE_INVALID_PARAMETER_VALUE,
				   psprintf("%s is given twice", sample_columns[column].name));
		return;
	}

	switch (column)
	{
		case SAMPLE_DRONE_ID:
			if (value->type != jbvString ||
				!sample_parse_uuid(value->val.string.val, value->val.string.len, &sample->drone_id))
			{
				note_type(reader, column, "a UUID");
				return;
			}
			break;

		case SAMPLE_RECORDED_AT:
			if (value->type != jbvString ||
				!sample_parse_time(value->val.string.val, value->val.string.len, &sample->recorded_at))
			{
				note_type(reader, column, "an ISO 8601 time");
				return;
			}
			break;

		case SAMPLE_FLIGHT_MODE:
			if (value->type != jbvString)
			{
				note_type(reader, column, "a string");
				return;
			}
			sample->flight_mode = cstring_to_text_with_len(value->val.string.val, value->val.string.len);
			break;

		default:
			read_number(reader, sample, column, value);
			return;
	}
	sample->present |= SAMPLE_BIT(column);
}

/*
 * Copy the pairs of an object into the one under construction.
 */
static void
push_pairs(JsonbParseState **state, JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	v;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY || token == WJB_VALUE)
			pushJsonbValue(state, token, &v);
	}
}

/*
 * Read an object's pairs into the sample.
 */
static void
read_object(JsonReader *reader, Sample *sample, JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbParseState *extra = NULL;
	uint32		nextra = 0;
	JsonbValue	key;
	JsonbValue	value;
	JsonbIteratorToken token;
	int			place = 0;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		SampleColumn column;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		column = column_of(reader, place++, key.val.string.val, key.val.string.len);

		if (column != 0 && column != SAMPLE_EXTRA)
		{
			read_column(reader, sample, column, &value);
			continue;
		}
		if (column == SAMPLE_EXTRA && value.type == jbvNull)
			continue;
		if (column == SAMPLE_EXTRA &&
			(value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data)))
		{
			note_type(reader, column, "an object");
			continue;
		}

		if (extra == NULL)
			pushJsonbValue(&extra, WJB_BEGIN_OBJECT, NULL);
		if (column == SAMPLE_EXTRA)
		{
			push_pairs(&extra, value.val.binary.data);
			nextra += JsonContainerSize(value.val.binary.data);
		}
		else
		{
			nextra++;
			pushJsonbValue(&extra, WJB_KEY, &key);
			pushJsonbValue(&extra, WJB_VALUE, &value);
		}
	}

	if (extra != NULL)
	{
		sample->extra = JsonbValueToJsonb(pushJsonbValue(&extra, WJB_END_OBJECT, NULL));
		sample->present |= SAMPLE_BIT(SAMPLE_EXTRA);
		if (JB_ROOT_COUNT(sample->extra) != nextra)
			note_fault(reader, ERRCODE_INVALID_PARAMETER_VALUE,
					   "a key of extra is given beside it, too");
	}
}

static void
read_value(JsonReader *reader, const JsonbValue *value)
{
	Sample	   *sample = ingest_next(reader->batch);

	remember_sent(reader, sample->ordinal, value);

	reader->fault_reason = NULL;
	if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		read_object(reader, sample, value->val.binary.data);
	else
		note_fault(reader, ERRCODE_INVALID_PARAMETER_VALUE, "sample is not a JSON object");
	if (reader->fault_reason != NULL)
		ingest_reject_last_because(reader->batch, reader->fault_sqlerrcode, reader->fault_reason);
}

/*
 * Read one sample.
 */
void
json_reader_read(JsonReader *reader, Jsonb *jsonb)
{
	JsonbValue	value;

	if (!JsonbExtractScalar(&jsonb->root, &value))
	{
		value.type = jbvBinary;
		value.val.binary.data = &jsonb->root;
		value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	read_value(reader, &value);
}

/*
 * Read one sample, or an array of them.
 */
void
json_reader_read_all(JsonReader *reader, Jsonb *jsonb)
{
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_ARRAY(jsonb) || JB_ROOT_IS_SCALAR(jsonb))
	{
		json_reader_read(reader, jsonb);
		return;
	}
	it = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			read_value(reader, &value);
	}
}

/*
 * The payload argument of telemetry.ingest and telemetry.submit.
 */
Jsonb *
json_payload_argument(FunctionCallInfo fcinfo)
{
	Jsonb	   *payload;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("payload must not be null"),
				 errhint("Send one sample as a JSON object, or an array of them.")));
	payload = PG_GETARG_JSONB_P(0);
	if (JB_ROOT_IS_SCALAR(payload))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("payload is neither a JSON object nor an array"),
				 errhint("Send one sample as a JSON object, or an array of them.")));
	return payload;
}

/*
 * telemetry.ingest(payload jsonb)
 */
Datum
telemetry_ingest(PG_FUNCTION_ARGS)
{
	Jsonb	   *payload = json_payload_argument(fcinfo);
	IngestBatch *batch = ingest_begin("ingest");

	json_reader_read_all(json_reader_create(batch), payload);
	PG_RETURN_DATUM(ingest_counts_datum(fcinfo, ingest_finish(batch)));
}
