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

static int
compare_drone_ids(const void *a, const void *b)
{
	return memcmp(DatumGetUUIDP(*(const Datum *) a), DatumGetUUIDP(*(const Datum *) b), UUID_LEN);
}

/*
 * Count the refused samples of each drone that exists, in order of drone_id.
 */
static void
count_samples(RejectedSample **samples, int n)
{
	Datum	   *drone_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * n);
	Datum	   *counts = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * n);
	Oid			types[2] = {UUIDARRAYOID, INT8ARRAYOID};
	Datum		args[2];
	int			ndrones = 0;
	int			nnamed = 0;

	for (int i = 0; i < n; i++)
	{
		if (samples[i]->has_drone_id)
			drone_ids[nnamed++] = UUIDPGetDatum(&samples[i]->drone_id);
	}
	if (nnamed == 0)
		return;
	qsort(drone_ids, nnamed, sizeof(Datum), compare_drone_ids);
	for (int i = 0; i < nnamed; i++)
	{
		if (ndrones > 0 && compare_drone_ids(&drone_ids[ndrones - 1], &drone_ids[i]) == 0)
		{
			counts[ndrones - 1] = Int64GetDatum(DatumGetInt64(counts[ndrones - 1]) + 1);
			continue;
		}
		drone_ids[ndrones] = drone_ids[i];
		counts[ndrones++] = Int64GetDatum(1);
	}
	args[0] = sql_array(drone_ids, NULL, ndrones, UUIDOID);
	args[1] = sql_array(counts, NULL, ndrones, INT8OID);
	(void) sql_query("INSERT INTO telemetry.rejected_counts AS c (drone_id, samples_rejected)"
					 " SELECT d.drone_id, n.refused FROM core.drones d"
					 " JOIN unnest($1, $2) AS n (drone_id, refused) ON n.drone_id = d.drone_id ORDER BY d.drone_id"
					 " ON CONFLICT (drone_id) DO UPDATE SET samples_rejected = c.samples_rejected + excluded.samples_rejected",
					 2, types, args);
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
	if (n > 0)
		count_samples(samples, n);
	sql_end(&scope);
}
