/*
 * rejected.c
 *		Keeps refused samples in telemetry.rejected_samples.
 *
 * Called by ingest.c in the transaction that refused them.  Writes as the owner
 * of the table: who may call the ingest functions needs no right on it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "compat.h"
#include "telemetry/rejected.h"

/* Rows written by one statement: their payloads must fit into an array. */
#define REJECTED_SLICE	1000

static void
write_slice(const char *route, RejectedSample **samples, int n)
{
	Datum		drone_ids[REJECTED_SLICE];
	Datum		times[REJECTED_SLICE];
	Datum		reasons[REJECTED_SLICE];
	Datum		states[REJECTED_SLICE];
	Datum		payloads[REJECTED_SLICE];
	bool		no_drone_id[REJECTED_SLICE];
	bool		no_time[REJECTED_SLICE];
	Oid			types[6] = {TEXTOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID};
	Datum		args[6];

	for (int i = 0; i < n; i++)
	{
		const RejectedSample *sample = samples[i];

		drone_ids[i] = UUIDPGetDatum(&sample->drone_id);
		no_drone_id[i] = !sample->has_drone_id;
		times[i] = TimestampTzGetDatum(sample->recorded_at);
		no_time[i] = !sample->has_recorded_at;
		reasons[i] = CStringGetTextDatum(sample->reason);
		states[i] = CStringGetTextDatum(unpack_sql_state(sample->sqlerrcode));
		payloads[i] = JsonbPGetDatum(sample->payload);
	}

	args[0] = CStringGetTextDatum(route);
	args[1] = sql_array(drone_ids, no_drone_id, n, UUIDOID);
	args[2] = sql_array(times, no_time, n, TIMESTAMPTZOID);
	args[3] = sql_array(reasons, NULL, n, TEXTOID);
	args[4] = sql_array(states, NULL, n, TEXTOID);
	args[5] = sql_array(payloads, NULL, n, JSONBOID);

	(void) sql_query("INSERT INTO telemetry.rejected_samples"
					 " (route, drone_id, recorded_at, reason, sqlstate, payload)"
					 " SELECT $1, s.drone_id, s.recorded_at, s.reason, s.sqlstate, s.payload"
					 " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
					 " pg_catalog.unnest($5), pg_catalog.unnest($6))"
					 " AS s (drone_id, recorded_at, reason, sqlstate, payload)",
					 6, types, args);
}

/*
 * Write refused samples, oldest first.
 */
void
rejected_write(const char *route, RejectedSample *newest)
{
	RejectedSample **samples;
	SqlScope	scope;
	int			n = 0;
	int			i;

	for (RejectedSample *sample = newest; sample != NULL; sample = sample->next)
		n++;
	samples = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(RejectedSample *) * Max(n, 1));
	i = n;
	for (RejectedSample *sample = newest; sample != NULL; sample = sample->next)
		samples[--i] = sample;

	scope = sql_begin(0);
	for (i = 0; i < n; i += REJECTED_SLICE)
	{
		MemoryContext slice = AllocSetContextCreate(CurrentMemoryContext,
													"rejected samples", ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(slice);

		write_slice(route, samples + i, Min(REJECTED_SLICE, n - i));
		MemoryContextSwitchTo(old);
		MemoryContextDelete(slice);
	}
	sql_end(&scope);
}
