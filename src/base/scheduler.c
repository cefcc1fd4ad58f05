/*
 * scheduler.c
 *		The worker of one database: runs each job when it is due or asked for.
 *
 * Started by the launcher (dynamically, never restarted by the postmaster: the
 * launcher does that).  It ends by itself when the database does not have the
 * extension (any more), or a session wants the database for itself.  Between
 * jobs it holds no lock and no transaction.  A job that fails is logged once
 * for each different message, counted, and run again after a growing pause; so
 * is one that does not get a lock within SCHEDULER_LOCK_TIMEOUT.  The scheduler
 * may die at any instruction: the registry slot is cleaned by the exit callback,
 * or, after a crash, made anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/registry.h"
#include "base/scheduler.h"
#include "base/sql.h"
#include "base/worker.h"
#include "compat.h"
#include "errors.h"

/* An idle scheduler looks around this often at the latest. */
#define SCHEDULER_NAP_MS		60000
/* First and longest pause after an error; the longest one after a lock timeout. */
#define SCHEDULER_RETRY_MS		1000
#define SCHEDULER_RETRY_MAX_MS	300000
#define SCHEDULER_LOCK_RETRY_MS	10000
/* No job waits longer for a lock, for all others would wait with it. */
#define SCHEDULER_LOCK_TIMEOUT	"2s"

static const SchedulerJob *scheduler_jobs[SCHEDULER_MAX_JOBS];
static int	scheduler_njobs = 0;

pg_noreturn PGDLLEXPORT void scheduler_main(Datum arg);

static void scheduler_attach(Oid database);
static void scheduler_detach(int code, Datum arg);
static void scheduler_run(Oid database, int job, bool requested, TimestampTz *due, int *failures);
static bool extension_present(void);

int
scheduler_add_job(const SchedulerJob *job)
{
	se_assert(scheduler_njobs < SCHEDULER_MAX_JOBS);
	scheduler_jobs[scheduler_njobs] = job;
	return scheduler_njobs++;
}

int
scheduler_job_count(void)
{
	return scheduler_njobs;
}

const SchedulerJob *
scheduler_job(int job)
{
	return scheduler_jobs[job];
}

bool
scheduler_request(int job)
{
	return scheduler_request_in(MyDatabaseId, job);
}

bool
scheduler_request_in(Oid database, int job)
{
	DatabaseSlot *slot;
	int			pid = 0;

	if (registry == NULL)
		return false;
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	slot = registry_find(database);
	if (slot != NULL && slot->state == SCHEDULER_RUNNING)
	{
		slot->jobs[job].requested = true;
		pid = slot->pid;
	}
	LWLockRelease(registry->lock);
	registry_wake(pid);
	return pid != 0;
}

bool
scheduler_start(Oid database)
{
	BackgroundWorker worker;

	worker_describe(&worker, "scheduler_main", "sentient_edge scheduler");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

void
scheduler_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	TimestampTz due[SCHEDULER_MAX_JOBS];
	int			failures[SCHEDULER_MAX_JOBS] = {0};
	bool		requested[SCHEDULER_MAX_JOBS] = {false};	/* and not yet done */
	MemoryContext job_context;

	worker_prepare();
	scheduler_attach(database);
	worker_connect(database, "sentient_edge scheduler");
	SetConfigOption("lock_timeout", SCHEDULER_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);

	job_context = AllocSetContextCreate(TopMemoryContext, "sentient_edge job", ALLOCSET_DEFAULT_SIZES);
	for (int job = 0; job < scheduler_njobs; job++)
		due[job] = GetCurrentTimestamp();

	for (;;)
	{
		TimestampTz now;
		long		wait_ms = SCHEDULER_NAP_MS;
		bool		blocked;
		bool		absent = !extension_present();

		LWLockAcquire(registry->lock, LW_EXCLUSIVE);
		{
			DatabaseSlot *slot = registry_find(database);

			blocked = slot == NULL || slot->blocker != 0;
			if (slot != NULL && absent)
			{
				slot->state = SCHEDULER_ABSENT;
				slot->not_before = 0;
			}
			else if (slot != NULL && slot->scheduler.last_run_at == 0)
				slot->scheduler.last_run_at = GetCurrentTimestamp();
		}
		LWLockRelease(registry->lock);
		if (absent || blocked)
			proc_exit(0);

		for (int job = 0; job < scheduler_njobs; job++)
		{
			LWLockAcquire(registry->lock, LW_EXCLUSIVE);
			{
				DatabaseSlot *slot = registry_find(database);

				if (slot != NULL && slot->jobs[job].requested)
				{
					slot->jobs[job].requested = false;
					requested[job] = true;
				}
			}
			LWLockRelease(registry->lock);

			/* A job that has just failed keeps its pause, whoever asks. */
			if (due[job] > GetCurrentTimestamp() && (!requested[job] || failures[job] > 0))
				continue;
			MemoryContextSwitchTo(job_context);
			scheduler_run(database, job, requested[job], &due[job], &failures[job]);
			if (failures[job] == 0)
				requested[job] = false;
			MemoryContextSwitchTo(TopMemoryContext);
			MemoryContextReset(job_context);
		}

		now = GetCurrentTimestamp();
		for (int job = 0; job < scheduler_njobs; job++)
			wait_ms = Min(wait_ms, TimestampDifferenceMilliseconds(now, due[job]));
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(wait_ms, 1), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			/* A shorter interval counts from now on, not after the old one. */
			for (int job = 0; job < scheduler_njobs; job++)
				due[job] = Min(due[job], TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
																	 (int64) *scheduler_jobs[job]->interval_s * 1000));
		}
	}
}

/* Run one job; an error ends here. */
static void
scheduler_run(Oid database, int job, bool requested, TimestampTz *due, int *failures)
{
	const SchedulerJob *what = scheduler_jobs[job];
	MemoryContext context = CurrentMemoryContext;
	DatabaseSlot *slot;
	char		message[WORKER_ERROR_LENGTH] = "";
	volatile int64 pause_ms = (int64) *what->interval_s * 1000;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	slot = registry_find(database);
	if (slot != NULL)
		slot->jobs[job].running = true;
	LWLockRelease(registry->lock);

	PG_TRY();
	{
		pgstat_report_activity(STATE_RUNNING, what->name);
		what->run(requested);
		se_assert(!IsTransactionState());
		*failures = 0;
	}
	PG_CATCH();
	{
		ErrorData  *error;
		bool		repeated;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		snprintf(message, sizeof(message), "%s", error->message);

		LWLockReleaseAll();
		LWLockAcquire(registry->lock, LW_SHARED);
		slot = registry_find(database);
		repeated = *failures > 0 && slot != NULL && strcmp(slot->jobs[job].last_error, message) == 0;
		LWLockRelease(registry->lock);
		if (!repeated)
			EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();

		pause_ms = Min((int64) SCHEDULER_RETRY_MS << Min(*failures, 16),
					   error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? SCHEDULER_LOCK_RETRY_MS : SCHEDULER_RETRY_MAX_MS);
		*failures += 1;
	}
	PG_END_TRY();

	*due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause_ms);
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	slot = registry_find(database);
	if (slot != NULL)
	{
		JobStatus  *status = &slot->jobs[job];

		status->running = false;
		status->last_run_at = GetCurrentTimestamp();
		status->runs++;
		if (message[0] != '\0')
		{
			status->errors++;
			strlcpy(status->last_error, message, sizeof(status->last_error));
		}
		slot->failures = 0;		/* it lives long enough to run a job */
	}
	LWLockRelease(registry->lock);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static bool
extension_present(void)
{
	bool		present;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	present = OidIsValid(sql_extension());
	CommitTransactionCommand();
	return present;
}

/* Take the database's slot, or end when another scheduler or a session has it. */
static void
scheduler_attach(Oid database)
{
	DatabaseSlot *slot;
	bool		taken;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	slot = registry_find(database);
	taken = slot == NULL || slot->blocker != 0 ||
		(slot->pid != 0 && slot->pid != MyProcPid && registry_alive(slot->pid, InvalidOid));
	if (!taken)
	{
		slot->pid = MyProcPid;
		slot->state = SCHEDULER_RUNNING;
		slot->started_at = GetCurrentTimestamp();
		slot->scheduler.runs++;
		for (int job = 0; job < SCHEDULER_MAX_JOBS; job++)
			slot->jobs[job].running = false;
	}
	LWLockRelease(registry->lock);
	if (taken)
		proc_exit(0);
	before_shmem_exit(scheduler_detach, ObjectIdGetDatum(database));
}

static void
scheduler_detach(int code, Datum arg)
{
	DatabaseSlot *slot;
	int			launcher;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	slot = registry_find(DatumGetObjectId(arg));
	if (slot != NULL && slot->pid == MyProcPid)
	{
		slot->pid = 0;
		if (slot->state == SCHEDULER_RUNNING)
		{
			slot->state = SCHEDULER_STOPPED;
			slot->failures++;
			if (code != 0)
				slot->scheduler.errors++;
			slot->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														   Min((int64) SCHEDULER_RETRY_MS << Min(slot->failures - 1, 16),
															   SCHEDULER_RETRY_MAX_MS));
		}
	}
	launcher = registry->launcher_pid;
	LWLockRelease(registry->lock);
	registry_wake(launcher);
}
