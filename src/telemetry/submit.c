/*
 * submit.c
 *		telemetry.submit() and submit_sample(): samples of many sessions, stored
 *		by one writer in one transaction.
 *
 * The session puts its samples into the queue and waits for the writer's answer,
 * which comes when the writer's transaction has committed and is flushed.
 * Synchronous standbys are waited for by each session.  What this returned
 * survives a crash.
 *
 * Nothing of it belongs to the caller's transaction.  A session that is told to
 * stop while it waits gets 08007: the samples may be stored or not, and sending
 * them again does no harm.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/message.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "queue/queue.h"
#include "queue/queue_parameters.h"
#include "telemetry/ingest.h"
#include "telemetry/ingest_json.h"
#include "telemetry/submit.h"

PG_FUNCTION_INFO_V1(telemetry_submit);
PG_FUNCTION_INFO_V1(telemetry_submit_sample);
PG_FUNCTION_INFO_V1(telemetry_queue_stats);

/* How often a session that waits looks whether all is well. */
#define LOOK_MS			200
/* A writer that does not come up in this time will not. */
#define NO_WRITER_MS	20000

/*
 * Does the writer wait for a lock that this very session holds?
 */
static bool
writer_waits_for_us(int writer_pid)
{
	ArrayType  *blockers = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(writer_pid)));
	int			n = ArrayGetNItems(ARR_NDIM(blockers), ARR_DIMS(blockers));
	int32	   *pids = (int32 *) ARR_DATA_PTR(blockers);

	for (int i = 0; i < n; i++)
	{
		if (pids[i] == MyProcPid)
			return true;
	}
	return false;
}

/*
 * Wait for the answer to a pushed request.
 */
static void
wait_for_answer(QueueRequest *request, QueueAnswer *answer)
{
	TimestampTz without_writer = 0;

	while (!queue_collect(request, answer))
	{
		bool		timed_out = !queue_wait_for_answer(request, LOOK_MS);

		CHECK_FOR_INTERRUPTS();
		if (timed_out)
		{
			int			writer_pid = queue_ensure_writer();

			if (writer_pid > 0)
				without_writer = 0;
			else if (without_writer == 0)
				without_writer = GetCurrentTimestamp();
			else if (writer_pid == -1 &&
					 TimestampDifferenceExceeds(without_writer, GetCurrentTimestamp(), queue_wait))
				ereport(ERROR,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("could not start the ingest writer"),
						 errdetail("No background worker is free."),
						 errhint("Increase max_worker_processes.")));
			else if (TimestampDifferenceExceeds(without_writer, GetCurrentTimestamp(), NO_WRITER_MS))
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("the ingest writer does not start"),
						 errhint("The server log says why.")));
			if (writer_pid > 0 && writer_waits_for_us(writer_pid))
				ereport(ERROR,
						(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
						 errmsg("the ingest writer waits for a lock of the transaction that waits for it"),
						 errdetail("Once this transaction has ended the samples may be stored all the same."),
						 errhint("Call telemetry.submit before the transaction changes telemetry tables, or use telemetry.ingest.")));
		}
	}
}

/*
 * Does this session, as far as it knows, wait for standbys when it commits?  A
 * statement that is under way reads no configuration, and some may have been
 * named meanwhile.
 */
static bool
standbys_asked_for(void)
{
	return SyncRepRequested() &&
		((SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0') || ConfigReloadPending);
}

/*
 * Has a synchronous standby, if one is asked for, what precedes this position?
 */
static bool
standbys_have(XLogRecPtr position)
{
	int			mode;
	bool		reached;

	switch (synchronous_commit)
	{
		case SYNCHRONOUS_COMMIT_REMOTE_WRITE:
			mode = SYNC_REP_WAIT_WRITE;
			break;
		case SYNCHRONOUS_COMMIT_REMOTE_FLUSH:
			mode = SYNC_REP_WAIT_FLUSH;
			break;
		case SYNCHRONOUS_COMMIT_REMOTE_APPLY:
			mode = SYNC_REP_WAIT_APPLY;
			break;
		default:
			return true;
	}
	LWLockAcquire(SyncRepLock, LW_SHARED);
	reached = WalSndCtl->lsn[mode] >= position;
	LWLockRelease(SyncRepLock);
	return reached;
}

/*
 * Wait for synchronous standbys, as this session's synchronous_commit asks.
 * Those who wait must not do so for the same position, so each writes a record of
 * its own behind what the batch has in common.
 *
 * A wait ends because a standby has it, because no standby is asked for any more,
 * or because it was cancelled, which is a mere warning.  Its caller sees the last
 * by InterruptPending alone: the request itself has been taken back.
 */
static void
wait_for_standbys(XLogRecPtr position)
{
	XLogRecPtr	own;
	bool		cancelled;

	if (!standbys_asked_for() || standbys_have(position))
		return;
	own = compat_log_message("sentient_edge", "", 0, false);
	XLogFlush(own);
	HOLD_INTERRUPTS();
	InterruptPending = false;
	cancelled = QueryCancelPending || ProcDiePending;
	SyncRepWaitForLSN(own, true);
	cancelled = cancelled || InterruptPending;
	InterruptPending = true;	/* whatever it was is looked at in its time */
	RESUME_INTERRUPTS();
	if (cancelled && !standbys_have(position))
		ereport(ERROR,
				(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
				 errmsg("stopped waiting for the synchronous standby"),
				 errdetail("The samples are stored on this server, perhaps not on the standby."),
				 errhint("Send them again: what is stored already is not stored twice.")));
}

/*
 * Push a request whose payload is complete, and wait until it is answered and durable.
 */
static IngestCounts
send_and_wait(QueueRequest *request)
{
	MemoryContext context = CurrentMemoryContext;
	QueueAnswer answer;
	IngestCounts counts;

	PG_TRY();
	{
		queue_push(request);
		wait_for_answer(request, &answer);
	}
	PG_CATCH();
	{
		ErrorData  *error;
		bool		gone = queue_abandon();

		queue_leave();
		/* What this file and the queue report themselves is rare enough to be told apart here. */
		switch (geterrcode())
		{
			case ERRCODE_CONFIGURATION_LIMIT_EXCEEDED:
			case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
				/* They say that nothing is stored, but a writer may have come at the last moment. */
				if (gone)
					PG_RE_THROW();
				break;
			case ERRCODE_T_R_DEADLOCK_DETECTED:
				PG_RE_THROW();
			default:
				break;
		}
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
				 errmsg("stopped waiting for the ingest writer"),
				 errdetail("Reason: %s. The samples may be stored or not.", error->message),
				 errhint("Send them again: what is stored already is not stored twice.")));
	}
	PG_END_TRY();

	queue_leave();
	if (answer.sqlerrcode != 0)
		ereport(ERROR,
				(errcode(answer.sqlerrcode),
				 errmsg("could not store samples: %s", answer.message),
				 answer.sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ?
				 errhint("Another transaction holds their drone or partition. Send them again.") : 0,
				 answer.sqlerrcode == ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN ?
				 errhint("Send them again: what is stored already is not stored twice.") : 0));
	wait_for_standbys(answer.stored_at);

	counts.accepted = answer.accepted;
	counts.duplicate = answer.duplicate;
	counts.rejected = answer.rejected;
	return counts;
}

static IngestCounts
submit_jsonb(Jsonb *payload)
{
	int			nsamples = JB_ROOT_IS_ARRAY(payload) ? JB_ROOT_COUNT(payload) : 1;
	QueueRequest *request = queue_reserve(QUEUE_JSON, nsamples, VARSIZE(payload));

	memcpy(queue_payload(request), payload, VARSIZE(payload));
	return send_and_wait(request);
}

/*
 * telemetry.submit(payload jsonb)
 */
Datum
telemetry_submit(PG_FUNCTION_ARGS)
{
	Jsonb	   *payload = json_payload_argument(fcinfo);

	ingest_require_writable();
	queue_require();
	PG_RETURN_DATUM(ingest_counts_datum(fcinfo, submit_jsonb(payload)));
}

/*
 * The arguments of submit_sample as the JSON object that telemetry.submit takes,
 * for a sample that will be rejected and is to be kept as it was sent.
 */
static Jsonb *
arguments_to_jsonb(FunctionCallInfo fcinfo)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int column = SAMPLE_DRONE_ID; column <= SAMPLE_EXTRA; column++)
	{
		const char *name = sample_columns[column].name;
		int			argument = column - 1;

		if (PG_ARGISNULL(argument))
			continue;
		switch (column)
		{
			case SAMPLE_DRONE_ID:
				sample_push_uuid(&state, name, PG_GETARG_UUID_P(argument));
				break;
			case SAMPLE_RECORDED_AT:
				sample_push_time(&state, name, PG_GETARG_TIMESTAMPTZ(argument));
				break;
			case SAMPLE_FLIGHT_MODE:
				sample_push_string(&state, name, VARDATA_ANY(PG_GETARG_TEXT_PP(argument)),
								   VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(argument)));
				break;
			case SAMPLE_EXTRA:
				sample_push_jsonb(&state, name, PG_GETARG_JSONB_P(argument));
				break;
			default:
				sample_push_number(&state, name, sample_columns[column].integral ?
								   PG_GETARG_INT32(argument) : PG_GETARG_FLOAT8(argument));
				break;
		}
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * telemetry.submit_sample(drone_id, recorded_at, latitude, ...)
 */
Datum
telemetry_submit_sample(PG_FUNCTION_ARGS)
{
	QueuedSample queued;
	Sample	   *sample = &queued.sample;
	text	   *flight_mode = NULL;
	Jsonb	   *extra = NULL;
	QueueRequest *request;
	Size		bytes = MAXALIGN(sizeof(QueuedSample));
	char	   *place;
	bool		fault;

	ingest_require_writable();
	queue_require();
	memset(&queued, 0, sizeof(queued));
	fault = PG_ARGISNULL(0) || PG_ARGISNULL(1);
	if (!PG_ARGISNULL(0))
		sample->drone_id = *PG_GETARG_UUID_P(0);
	if (!PG_ARGISNULL(1))
		sample->recorded_at = PG_GETARG_TIMESTAMPTZ(1);
	sample->present = SAMPLE_BIT(SAMPLE_DRONE_ID) | SAMPLE_BIT(SAMPLE_RECORDED_AT);

	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
	{
		int			argument = column - 1;

		if (!PG_ARGISNULL(argument) &&
			sample_set_number(sample, column, sample_columns[column].integral ?
							  PG_GETARG_INT32(argument) : PG_GETARG_FLOAT8(argument)) != SAMPLE_OK)
			fault = true;
	}
	if (!PG_ARGISNULL(SAMPLE_FLIGHT_MODE - 1))
	{
		flight_mode = PG_GETARG_TEXT_PP(SAMPLE_FLIGHT_MODE - 1);
		queued.flight_mode_offset = bytes;
		bytes = MAXALIGN(bytes + VARSIZE_ANY(flight_mode));
		sample->present |= SAMPLE_BIT(SAMPLE_FLIGHT_MODE);
	}
	if (!PG_ARGISNULL(SAMPLE_EXTRA - 1))
	{
		extra = PG_GETARG_JSONB_P(SAMPLE_EXTRA - 1);
		if (!JB_ROOT_IS_OBJECT(extra))
			fault = true;
		queued.extra_offset = bytes;
		bytes = MAXALIGN(bytes + VARSIZE(extra));
		sample->present |= SAMPLE_BIT(SAMPLE_EXTRA);
	}

	/* The writer rejects it with the reason that the JSON route would give. */
	if (fault)
		PG_RETURN_DATUM(ingest_counts_datum(fcinfo, submit_jsonb(arguments_to_jsonb(fcinfo))));

	request = queue_reserve(QUEUE_SAMPLE, 1, bytes);
	place = queue_payload(request);
	memcpy(place, &queued, sizeof(queued));
	if (flight_mode != NULL)
		memcpy(place + queued.flight_mode_offset, flight_mode, VARSIZE_ANY(flight_mode));
	if (extra != NULL)
		memcpy(place + queued.extra_offset, extra, VARSIZE(extra));
	PG_RETURN_DATUM(ingest_counts_datum(fcinfo, send_and_wait(request)));
}

/*
 * telemetry.queue_stats(): the figures of this database's lane.
 */
Datum
telemetry_queue_stats(PG_FUNCTION_ARGS)
{
	QueueStatistics statistics = queue_statistics();
	TupleDesc	desc;
	Datum		values[11];
	bool		nulls[11] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int32GetDatum(statistics.depth);
	values[1] = Int32GetDatum(statistics.writer_pid);
	nulls[1] = statistics.writer_pid == 0;
	values[2] = Int64GetDatum(Max(statistics.writer_starts - 1, 0));
	values[3] = Int64GetDatum(statistics.batches);
	values[4] = Int64GetDatum(statistics.requests);
	values[5] = Int64GetDatum(statistics.samples);
	values[6] = Float8GetDatum(statistics.batches > 0 ? (double) statistics.samples / statistics.batches : 0);
	nulls[6] = statistics.batches == 0;
	values[7] = Int64GetDatum(statistics.rejected);
	values[8] = Int64GetDatum(statistics.failed);
	values[9] = Float8GetDatum(statistics.wait_us_p50 / 1000.0);
	values[10] = Float8GetDatum(statistics.wait_us_p99 / 1000.0);
	nulls[9] = nulls[10] = statistics.requests == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
