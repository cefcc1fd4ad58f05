/*
 * retry_rejected.c
 *		telemetry.retry_rejected(): refused samples taken up again.
 *
 * The rows that are retried stay locked until the transaction ends; rows that
 * another session has locked are left to it, so several may run at once.  The
 * table is read and marked as its owner, the samples are ingested as the caller.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/sql.h"
#include "compat.h"
#include "errors.h"
#include "telemetry/ingest.h"
#include "telemetry/ingest_json.h"
#include "telemetry/rejected.h"

PG_FUNCTION_INFO_V1(telemetry_retry_rejected);

/* A row that waits to be taken up again. */
typedef struct WaitingRow
{
	int64		rejection_id;
	Jsonb	   *payload;
} WaitingRow;

/*
 * Lock the rows to retry; returns how many there are.
 */
static int
lock_waiting(Datum max_rows, WaitingRow **waiting)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[1] = {INT4OID};
	SqlScope	scope = sql_begin(0);
	int			n;

	n = (int) sql_query("SELECT rejection_id, payload FROM telemetry.rejected_samples"
						" WHERE resolved_at IS NULL"
						" ORDER BY retry_count, rejection_id LIMIT $1 FOR UPDATE SKIP LOCKED",
						1, types, &max_rows);
	*waiting = MemoryContextAllocHuge(caller, sizeof(WaitingRow) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);
		bool		isnull;

		(*waiting)[i].rejection_id = DatumGetInt64(sql_value(i, 0, &isnull));
		(*waiting)[i].payload = DatumGetJsonbPCopy(sql_value(i, 1, &isnull));
		MemoryContextSwitchTo(old);
	}
	sql_end(&scope);
	return n;
}

/*
 * Mark the rows that are settled now; the others get their newest reason.
 */
static void
write_outcomes(const WaitingRow *waiting, int n, IngestOutcome *outcomes, RejectedSample *rejected)
{
	Datum	   *id_values = palloc(sizeof(Datum) * n);
	Datum	   *resolutions = palloc(sizeof(Datum) * n);
	bool	   *no_resolution = palloc(sizeof(bool) * n);
	Datum	   *reasons = palloc0(sizeof(Datum) * n);
	Datum	   *states = palloc0(sizeof(Datum) * n);
	bool	   *no_reason = palloc(sizeof(bool) * n);
	Oid			types[4] = {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		args[4];
	SqlScope	scope;

	for (int i = 0; i < n; i++)
	{
		id_values[i] = Int64GetDatum(waiting[i].rejection_id);
		no_resolution[i] = outcomes[i] == INGEST_REJECTED;
		resolutions[i] = no_resolution[i] ? (Datum) 0 :
			CStringGetTextDatum(outcomes[i] == INGEST_ACCEPTED ? "accepted" : "duplicate");
		no_reason[i] = true;
	}
	for (; rejected != NULL; rejected = rejected->next)
	{
		no_reason[rejected->ordinal] = false;
		reasons[rejected->ordinal] = CStringGetTextDatum(rejected->reason);
		states[rejected->ordinal] = CStringGetTextDatum(unpack_sql_state(rejected->sqlerrcode));
	}

	args[0] = sql_array(id_values, NULL, n, INT8OID);
	args[1] = sql_array(resolutions, no_resolution, n, TEXTOID);
	args[2] = sql_array(reasons, no_reason, n, TEXTOID);
	args[3] = sql_array(states, no_reason, n, TEXTOID);

	scope = sql_begin(0);
	(void) sql_query("UPDATE telemetry.rejected_samples r"
					 " SET retry_count = r.retry_count OPERATOR(pg_catalog.+) 1,"
					 " retried_at = pg_catalog.now(),"
					 " reason = COALESCE(o.reason, r.reason),"
					 " sqlstate = COALESCE(o.sqlstate, r.sqlstate),"
					 " resolution = o.resolution,"
					 " resolved_at = CASE WHEN o.resolution IS NOT NULL THEN pg_catalog.now() END"
					 " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
					 " pg_catalog.unnest($4)) AS o (rejection_id, resolution, reason, sqlstate)"
					 " WHERE r.rejection_id OPERATOR(pg_catalog.=) o.rejection_id",
					 4, types, args);
	sql_end(&scope);
}

/*
 * telemetry.retry_rejected(max_rows integer)
 */
Datum
telemetry_retry_rejected(PG_FUNCTION_ARGS)
{
	IngestBatch *batch;
	JsonReader *reader;
	IngestCounts counts;
	IngestOutcome *outcomes;
	RejectedSample *rejected;
	WaitingRow *waiting;
	int			n;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be at least 1")));

	batch = ingest_begin("retry_rejected");
	reader = json_reader_create(batch);
	n = lock_waiting(PG_GETARG_DATUM(0), &waiting);
	for (int i = 0; i < n; i++)
		json_reader_read(reader, waiting[i].payload);
	se_assert(ingest_count_sent(batch) == n);

	outcomes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(IngestOutcome) * Max(n, 1));
	counts = ingest_finish_outcomes(batch, outcomes, &rejected);
	if (n > 0)
		write_outcomes(waiting, n, outcomes, rejected);

	PG_RETURN_DATUM(ingest_counts_datum(fcinfo, counts));
}
