/*
 * rejected.c
 *		Keeps refused samples, and takes them up again.
 *
 * rejected_write is called by ingest.c in the transaction that refused them.
 * telemetry.retry_rejected locks the rows it retries (SKIP LOCKED, so several
 * may run at once) until its transaction ends.  Both act as the owner of the
 * table: who may call the ingest functions needs no right on it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "compat.h"
#include "errors.h"
#include "telemetry/ingest.h"
#include "telemetry/ingest_json.h"
#include "telemetry/rejected.h"

PG_FUNCTION_INFO_V1(telemetry_retry_rejected);

/* One array of values for unnest. */
static Datum
make_array(Datum *values, bool *nulls, int n, Oid type, int length, bool by_value, char align)
{
	int			dims[1] = {n};
	int			lower[1] = {1};

	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, type, length, by_value, align));
}

/*
 * Write refused samples, oldest first.
 */
void
rejected_write(const char *route, RejectedSample *newest)
{
	Datum	   *columns[5];
	bool	   *nulls[2];
	Datum		args[6];
	Oid			types[6] = {TEXTOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID};
	SqlScope	scope;
	int			n = 0;
	int			i;

	for (RejectedSample *rejected = newest; rejected != NULL; rejected = rejected->next)
		n++;
	for (i = 0; i < lengthof(columns); i++)
		columns[i] = palloc(sizeof(Datum) * n);
	for (i = 0; i < lengthof(nulls); i++)
		nulls[i] = palloc(sizeof(bool) * n);

	i = n;
	for (RejectedSample *rejected = newest; rejected != NULL; rejected = rejected->next)
	{
		i--;
		columns[0][i] = UUIDPGetDatum(&rejected->drone_id);
		nulls[0][i] = !rejected->has_drone_id;
		columns[1][i] = TimestampTzGetDatum(rejected->recorded_at);
		nulls[1][i] = !rejected->has_recorded_at;
		columns[2][i] = CStringGetTextDatum(rejected->reason);
		columns[3][i] = CStringGetTextDatum(unpack_sql_state(rejected->sqlerrcode));
		columns[4][i] = JsonbPGetDatum(rejected->payload);
	}

	args[0] = CStringGetTextDatum(route);
	args[1] = make_array(columns[0], nulls[0], n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
	args[2] = make_array(columns[1], nulls[1], n, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	args[3] = make_array(columns[2], NULL, n, TEXTOID, -1, false, TYPALIGN_INT);
	args[4] = make_array(columns[3], NULL, n, TEXTOID, -1, false, TYPALIGN_INT);
	args[5] = make_array(columns[4], NULL, n, JSONBOID, -1, false, TYPALIGN_INT);

	scope = sql_begin(0);
	(void) sql_query("INSERT INTO telemetry.rejected_samples"
					 " (route, drone_id, recorded_at, reason, sqlstate, payload)"
					 " SELECT $1, s.drone_id, s.recorded_at, s.reason, s.sqlstate, s.payload"
					 " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
					 " pg_catalog.unnest($5), pg_catalog.unnest($6))"
					 " AS s (drone_id, recorded_at, reason, sqlstate, payload)",
					 6, types, args);
	sql_end(&scope);
}

/* Write back what became of the retried rows. */
static void
write_outcomes(int64 *ids, int n, IngestOutcome *outcomes, RejectedSample *rejected)
{
	Datum	   *id_values = palloc(sizeof(Datum) * n);
	Datum	   *resolutions = palloc(sizeof(Datum) * n);
	bool	   *no_resolution = palloc(sizeof(bool) * n);
	Datum	   *reasons = palloc0(sizeof(Datum) * n);
	Datum	   *states = palloc0(sizeof(Datum) * n);
	bool	   *no_reason = palloc(sizeof(bool) * n);
	Oid			types[4] = {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		args[4];

	for (int i = 0; i < n; i++)
	{
		id_values[i] = Int64GetDatum(ids[i]);
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

	args[0] = make_array(id_values, NULL, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	args[1] = make_array(resolutions, no_resolution, n, TEXTOID, -1, false, TYPALIGN_INT);
	args[2] = make_array(reasons, no_reason, n, TEXTOID, -1, false, TYPALIGN_INT);
	args[3] = make_array(states, no_reason, n, TEXTOID, -1, false, TYPALIGN_INT);

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
}

/*
 * telemetry.retry_rejected(max_rows integer)
 */
Datum
telemetry_retry_rejected(PG_FUNCTION_ARGS)
{
	IngestCounts counts = {0};
	Oid			types[1] = {INT4OID};
	Datum		args[1];
	SqlScope	scope;
	int			n;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be at least 1")));
	args[0] = PG_GETARG_DATUM(0);

	scope = sql_begin(0);
	n = (int) sql_query("SELECT rejection_id, payload FROM telemetry.rejected_samples"
						" WHERE resolved_at IS NULL"
						" ORDER BY retry_count, rejection_id LIMIT $1 FOR UPDATE SKIP LOCKED",
						1, types, args);
	if (n > 0)
	{
		int64	   *ids = palloc(sizeof(int64) * n);
		IngestOutcome *outcomes = palloc(sizeof(IngestOutcome) * n);
		RejectedSample *rejected;
		IngestBatch *batch = ingest_begin("retry_rejected");
		JsonReader *reader = json_reader_create(batch);

		for (int i = 0; i < n; i++)
		{
			bool		isnull;

			ids[i] = DatumGetInt64(sql_value(i, 0, &isnull));
			json_reader_read(reader, DatumGetJsonbP(sql_value(i, 1, &isnull)));
		}
		se_assert(ingest_count_sent(batch) == n);
		counts = ingest_finish_outcomes(batch, outcomes, &rejected);
		write_outcomes(ids, n, outcomes, rejected);
	}
	sql_end(&scope);

	PG_RETURN_DATUM(ingest_counts_datum(fcinfo, counts));
}
