/*
 * fuzz_json.c
 *		libFuzzer target: hostile JSON through telemetry.ingest's reader.
 *
 * The reader needs jsonb, numerics and errors, so that this is a module which
 * fuzz_json.sh loads into a single-user server: fuzz_json(arguments) hands the
 * process to libFuzzer, which ends it.  ingest_json.c, sample.c and
 * sample_text.c are linked in, instrumented; the batch behind them is a small
 * one of this file's, which stores nothing but checks every sample:
 *
 *	- it has only values inside their columns' ranges;
 *	- written as JSON and read again it is the same sample;
 *	- a rejected one's payload is what was sent;
 *	- as many samples come out as the input has elements.
 *
 * The jsonb is copied to a block of exactly its size, in which the address
 * sanitizer sees every byte read past its end.  Bytes that are no JSON go
 * to the parsers of times and UUIDs.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "telemetry/ingest.h"
#include "telemetry/ingest_json.h"
#include "telemetry/sample_text.h"

#define CHECK(condition)	do { if (!(condition)) abort(); } while (0)

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(fuzz_json);

extern Datum telemetry_ingest(PG_FUNCTION_ARGS);
extern int	LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback) (const uint8_t *data, size_t size));

struct IngestBatch
{
	IngestPayload payload;
	void	   *payload_arg;
	int			nsent;
	bool		open;			/* sample is being read */
	Sample		sample;
	Sample		kept;			/* the last one that was not rejected */
	int			nkept;
};

static MemoryContext input_context;
static IngestBatch *batch_of_call;
static int	sent_by_call;

static bool check_again = true;

static bool
same_number(double a, double b)
{
	/* A jsonb number that was a double has 15 digits. */
	return fabs(a - b) <= fabs(a) * 1e-14;
}

/*
 * Write the sample as JSON, read that, and compare.
 */
static void
check_round_trip(const Sample *sample)
{
	IngestBatch *again;
	const Sample *copy;

	check_again = false;
	again = ingest_begin("again");
	json_reader_read(json_reader_create(again), sample_to_jsonb(sample));
	(void) ingest_finish(again);
	check_again = true;

	CHECK(again->nsent == 1 && again->nkept == 1);
	copy = &again->kept;
	CHECK(copy->present == sample->present);
	CHECK(memcmp(&copy->drone_id, &sample->drone_id, UUID_LEN) == 0);
	CHECK(copy->recorded_at == sample->recorded_at);
	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
		CHECK(!sample_has(sample, column) ||
			  same_number(sample_get_number(sample, column), sample_get_number(copy, column)));
	if (sample_has(sample, SAMPLE_FLIGHT_MODE))
		CHECK(VARSIZE_ANY_EXHDR(copy->flight_mode) == VARSIZE_ANY_EXHDR(sample->flight_mode) &&
			  memcmp(VARDATA_ANY(copy->flight_mode), VARDATA_ANY(sample->flight_mode),
					 VARSIZE_ANY_EXHDR(sample->flight_mode)) == 0);
	if (sample_has(sample, SAMPLE_EXTRA))
		CHECK(compareJsonbContainers(&copy->extra->root, &sample->extra->root) == 0);
}

static void
check_sample(const Sample *sample)
{
	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
	{
		const SampleColumnInfo *info = &sample_columns[column];

		if (!sample_has(sample, column))
			continue;
		CHECK(sample_get_number(sample, column) >= info->lower &&
			  sample_get_number(sample, column) <= info->upper);
	}
	if (sample_has(sample, SAMPLE_EXTRA))
		CHECK(JB_ROOT_IS_OBJECT(sample->extra));

	/* Times before the year 1 are written in a form that only the accepted window keeps out. */
	if (check_again && sample_has(sample, SAMPLE_DRONE_ID) &&
		(!sample_has(sample, SAMPLE_RECORDED_AT) ||
		 (sample->recorded_at > -1000 * 365 * USECS_PER_DAY && sample->recorded_at < 7000 * 365 * USECS_PER_DAY)))
		check_round_trip(sample);
}

/*
 * The interface of ingest.h.
 */
IngestBatch *
ingest_begin(const char *route)
{
	batch_of_call = palloc0(sizeof(IngestBatch));
	return batch_of_call;
}

void
ingest_set_payload(IngestBatch *batch, IngestPayload payload, void *arg)
{
	batch->payload = payload;
	batch->payload_arg = arg;
}

static void
keep_open_sample(IngestBatch *batch)
{
	if (!batch->open)
		return;
	batch->open = false;
	batch->kept = batch->sample;
	batch->nkept++;
	check_sample(&batch->kept);
}

Sample *
ingest_next(IngestBatch *batch)
{
	keep_open_sample(batch);
	memset(&batch->sample, 0, sizeof(Sample));
	batch->sample.ordinal = batch->nsent++;
	batch->open = true;
	return &batch->sample;
}

void
ingest_reject_last_because(IngestBatch *batch, int sqlerrcode, const char *reason)
{
	Jsonb	   *payload;

	CHECK(batch->open);
	batch->open = false;
	CHECK(sqlerrcode != 0 && strlen(reason) > 0);
	payload = batch->payload(batch->payload_arg, &batch->sample);
	CHECK(VARSIZE(payload) >= VARHDRSZ + sizeof(uint32));
}

void
ingest_reject_last(IngestBatch *batch, SampleFault fault, SampleColumn column, double value)
{
	ingest_reject_last_because(batch, sample_fault_sqlstate(fault),
							   sample_fault_reason(fault, &batch->sample, column, value));
}

IngestCounts
ingest_finish(IngestBatch *batch)
{
	IngestCounts counts = {0};

	keep_open_sample(batch);
	sent_by_call = batch->nsent;
	return counts;
}

Datum
ingest_counts_datum(FunctionCallInfo fcinfo, IngestCounts counts)
{
	return Int32GetDatum(counts.accepted);
}

/*
 * One input.
 */
static int
run_input(const uint8_t *data, size_t size)
{
	static char *copy = NULL;
	MemoryContext old = MemoryContextSwitchTo(input_context);
	TimestampTz time;
	pg_uuid_t	uuid;

	free(copy);
	copy = malloc(size == 0 ? 1 : size);
	CHECK(copy != NULL);
	memcpy(copy, data, size);
	if (sample_parse_time(copy, (int) size, &time))
		CHECK(IS_VALID_TIMESTAMP(time));
	(void) sample_parse_uuid(copy, (int) size, &uuid);
	(void) sample_column_by_key(copy, (int) size);

	/* The server checks what clients send before a type's input function sees it. */
	if (memchr(data, 0, size) == NULL && pg_verify_mbstr(PG_UTF8, (const char *) data, (int) size, true))
	{
		check_again = true;
		PG_TRY();
		{
			Jsonb	   *jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(pnstrdup((const char *) data, size))));
			int			length = (int) VARSIZE(jsonb);

			free(copy);
			copy = malloc(length);
			CHECK(copy != NULL);
			memcpy(copy, jsonb, length);
			jsonb = (Jsonb *) copy;
			(void) DirectFunctionCall1(telemetry_ingest, JsonbPGetDatum(jsonb));
			CHECK(sent_by_call == (JB_ROOT_IS_OBJECT(jsonb) ? 1 : (int) JB_ROOT_COUNT(jsonb)));
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(input_context);
			FlushErrorState();
		}
		PG_END_TRY();
	}

	MemoryContextSwitchTo(old);
	MemoryContextReset(input_context);
	return 0;
}

/*
 * fuzz_json(arguments text): run libFuzzer with these, separated by spaces.  It
 * ends the process.
 */
Datum
fuzz_json(PG_FUNCTION_ARGS)
{
	char	   *arguments = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	  **argv = palloc(sizeof(char *) * (strlen(arguments) + 3));
	int			argc = 0;

	argv[argc++] = "fuzz_json";
	for (char *word = strtok(arguments, " "); word != NULL; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;

	input_context = AllocSetContextCreate(TopMemoryContext, "fuzz input", ALLOCSET_DEFAULT_SIZES);
	PG_RETURN_INT32(LLVMFuzzerRunDriver(&argc, &argv, run_input));
}
