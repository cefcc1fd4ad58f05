/*
 * ingest_writer.c
 *		The ingest writer of a database: stores what waits in the telemetry queue.
 *
 * Started by the first session that submits a sample, ended after a while
 * without work.  Its loop: take all that waits, store it in one transaction,
 * answer; what arrives meanwhile is the next batch.  An answer comes after the
 * commit is flushed, and names its WAL position: each session waits for
 * synchronous standbys on its own (submit.c).
 *
 * A batch that fails is rolled back and stored again in halves, until the
 * request at fault is alone and gets the error.  What waits in vain for a lock
 * makes the later attempts of its batch wait for less.  The writer may die at any
 * instruction: what was not acknowledged is either stored whole or not at all,
 * and may be sent again.  It stores as sentient_operator, who may insert samples
 * and nothing more.  What triggers and other functions of the user's have set for
 * the session, or locked, is undone after each attempt: the next is for others.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/registry.h"
#include "base/worker.h"
#include "compat.h"
#include "errors.h"
#include "queue/queue.h"
#include "queue/queue_parameters.h"
#include "telemetry/ingest.h"
#include "telemetry/ingest_json.h"
#include "telemetry/rejected.h"
#include "telemetry/submit.h"

/* Requests stored in one transaction, and samples, unless a single request has more. */
#define BATCH_REQUESTS		1024
#define BATCH_SAMPLES		10000
/* Without work for this long, the writer ends. */
#define WRITER_IDLE_MS		60000

/* What attempts at the batch may still wait for locks altogether, and whether the first is over. */
static int64 lock_budget_us;
static bool first_attempt;

pg_noreturn PGDLLEXPORT void ingest_writer_main(Datum arg);

/*
 * Add a request's samples to the batch; returns how many there are.  The payload
 * is read where it lies: it stays there until the request is answered.
 */
static int
add_request(IngestBatch *batch, JsonReader *reader, QueueRequest *request)
{
	int			before = ingest_count_sent(batch);
	void	   *payload = queue_payload(request);

	if (queue_kind(request) == QUEUE_SAMPLE)
	{
		QueuedSample *queued = payload;
		Sample	   *sample = ingest_next(batch);
		int32		ordinal = sample->ordinal;

		*sample = queued->sample;
		sample->ordinal = ordinal;
		if (queued->flight_mode_offset != 0)
			sample->flight_mode = (text *) ((char *) payload + queued->flight_mode_offset);
		if (queued->extra_offset != 0)
			sample->extra = (Jsonb *) ((char *) payload + queued->extra_offset);
	}
	else
		json_reader_read_all(reader, payload);
	return ingest_count_sent(batch) - before;
}

/*
 * How long an attempt may wait for a lock.  A batch whose first attempt waited
 * in vain is divided again and again, and each part that is stuck waits anew: so
 * that a thousand requests for a locked table do not take a thousand times as
 * long, the parts share what one attempt more would have taken.
 */
static int
lock_timeout_ms(void)
{
	return first_attempt ? queue_lock_timeout : (int) Max(Min(lock_budget_us / 4000, queue_lock_timeout), 1);
}

/*
 * How the batch commits: as the most careful of its sessions asks, short of the
 * standbys, for which each waits itself.  Only that one waits until standbys have
 * applied it is known to them from the commit alone, whose process then waits, too.
 */
static const char *
synchronous_commit_of(QueueRequest **requests, int n)
{
	bool		flush = false;

	for (int i = 0; i < n; i++)
	{
		int			wanted = queue_synchronous_commit(requests[i]);

		if (wanted == SYNCHRONOUS_COMMIT_REMOTE_APPLY)
			return "remote_apply";
		if (wanted != SYNCHRONOUS_COMMIT_OFF)
			flush = true;
	}
	return flush ? "local" : "off";
}

/*
 * Undo what functions of the user's have left in this session.
 */
static void
forget_session_state(void)
{
	ResetAllOptions();
	LockReleaseAll(USER_LOCKMETHOD, true);
}

/*
 * Put an error's message into an answer, cut at a character's end.
 */
static void
copy_message(QueueAnswer *answer, const char *message)
{
	int			length;

	if (message == NULL)
		message = "missing error text";
	length = pg_mbcliplen(message, strlen(message), sizeof(answer->message) - 1);
	memcpy(answer->message, message, length);
	answer->message[length] = '\0';
}

/*
 * Store requests in one transaction and fill their answers.
 */
static void
store_requests(QueueRequest **requests, QueueAnswer *answers, int n)
{
	IngestBatch *batch;
	JsonReader *reader;
	IngestOutcome *outcomes;
	RejectedSample *rejected;
	int		   *nsamples = palloc(sizeof(int) * n);
	IngestCounts counts;
	XLogRecPtr	stored_at;
	const char *commit = synchronous_commit_of(requests, n);
	char		lock_timeout[32];
	Oid			user;
	int			security;
	int			at = 0;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(get_role_oid("sentient_operator", false), SECURITY_LOCAL_USERID_CHANGE);
	snprintf(lock_timeout, sizeof(lock_timeout), "%d", lock_timeout_ms());
	(void) set_config_option("lock_timeout", lock_timeout, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	(void) set_config_option("synchronous_commit", commit, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);

	batch = ingest_begin("submit");
	reader = json_reader_create(batch);
	for (int i = 0; i < n; i++)
		nsamples[i] = add_request(batch, reader, requests[i]);
	outcomes = MemoryContextAllocHuge(CurrentMemoryContext,
									  sizeof(IngestOutcome) * Max(ingest_count_sent(batch), 1));
	counts = ingest_finish_outcomes(batch, outcomes, &rejected);
	if (rejected != NULL)
		rejected_write("submit", rejected);

	for (int i = 0; i < n; i++)
	{
		memset(&answers[i], 0, offsetof(QueueAnswer, message) + 1);
		for (int s = 0; s < nsamples[i]; s++, at++)
		{
			if (outcomes[at] == INGEST_ACCEPTED)
				answers[i].accepted++;
			else if (outcomes[at] == INGEST_DUPLICATE)
				answers[i].duplicate++;
			else
				answers[i].rejected++;
		}
	}

	PopActiveSnapshot();
	XactLastCommitEnd = InvalidXLogRecPtr;
	/* Still as the operator: deferred triggers of the user's run now. */
	CommitTransactionCommand();
	SetUserIdAndSecContext(user, security);

	/* The originals of duplicates come before this commit, and it has one if there are any. */
	stored_at = XactLastCommitEnd;
	/* A trigger may have set synchronous_commit for its transaction. */
	if (strcmp(commit, "off") != 0)
		XLogFlush(stored_at);
	for (int i = 0; i < n; i++)
		answers[i].stored_at = stored_at;
	queue_count_batch(at, counts.rejected);
}

/*
 * Store and answer; what fails is divided until the fault is alone.
 */
static void
serve(QueueRequest **requests, QueueAnswer *answers, int n, MemoryContext context)
{
	TimestampTz started = GetCurrentTimestamp();
	volatile bool stored = false;

	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		store_requests(requests, answers, n);
		stored = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && !first_attempt)
			lock_budget_us -= GetCurrentTimestamp() - started;
		if (n == 1)
		{
			memset(&answers[0], 0, sizeof(QueueAnswer));
			/* 0 would say that it is stored. */
			answers[0].sqlerrcode = error->sqlerrcode != 0 ? error->sqlerrcode : ERRCODE_INTERNAL_ERROR;
			copy_message(&answers[0], error->message);
		}
	}
	PG_END_TRY();

	first_attempt = false;
	forget_session_state();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(context);
	if (stored || n == 1)
	{
		queue_answer(requests, answers, n);
		return;
	}
	CHECK_FOR_INTERRUPTS();
	serve(requests, answers, n / 2, context);
	serve(requests + n / 2, answers + n / 2, n - n / 2, context);
}

/*
 * Is the extension there, and is the database not wanted by somebody else?
 * Without the extension nobody will ever store what waits.
 */
static bool
may_go_on(QueueRequest **requests)
{
	bool		present;
	int			n;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	present = OidIsValid(get_extension_oid("sentient_edge", true));
	CommitTransactionCommand();
	if (!present)
	{
		QueueAnswer gone = {.sqlerrcode = ERRCODE_UNDEFINED_OBJECT};

		strlcpy(gone.message, "extension \"sentient_edge\" is not installed in this database any more",
				sizeof(gone.message));
		while ((n = queue_take(requests, BATCH_REQUESTS, BATCH_SAMPLES)) > 0)
		{
			for (int i = 0; i < n; i++)
				queue_answer(&requests[i], &gone, 1);
		}
	}
	return present && registry_writer_may_run();
}

/*
 * The worker's loop.
 */
void
ingest_writer_main(Datum arg)
{
	static QueueRequest *requests[BATCH_REQUESTS];
	QueueAnswer *answers;
	MemoryContext context;
	TimestampTz idle_since;

	worker_prepare();
	worker_connect(DatumGetObjectId(arg), "sentient_edge ingest writer");
	/* The sessions were asked already. */
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_OVERRIDE);

	answers = palloc(sizeof(QueueAnswer) * BATCH_REQUESTS);
	context = AllocSetContextCreate(TopMemoryContext, "ingest batch", ALLOCSET_DEFAULT_SIZES);
	if (!queue_attach_writer())
		proc_exit(0);
	registry_writer_attach();
	if (!may_go_on(requests))
		proc_exit(0);
	idle_since = GetCurrentTimestamp();

	for (;;)
	{
		int			n = queue_take(requests, BATCH_REQUESTS, BATCH_SAMPLES);

		/* Now, so that what was submitted after a reload is stored under it. */
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (n > 0)
		{
			pgstat_report_activity(STATE_RUNNING, "storing submitted samples");
			first_attempt = true;
			lock_budget_us = (int64) queue_lock_timeout * 1000;
			serve(requests, answers, n, context);
			pgstat_report_stat(false);
			idle_since = 0;
		}
		else
		{
			int			event;

			if (idle_since == 0)
			{
				idle_since = GetCurrentTimestamp();
				pgstat_report_stat(true);
				pgstat_report_activity(STATE_IDLE, NULL);
			}
			event = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1000, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			if ((event & WL_TIMEOUT) != 0 &&
				(!may_go_on(requests) ||
				 TimestampDifferenceExceeds(idle_since, GetCurrentTimestamp(), WRITER_IDLE_MS)))
				proc_exit(0);
		}
		CHECK_FOR_INTERRUPTS();
	}
}
