/*
 * registry.c
 *		The registry of workers in shared memory, and its view in SQL.
 *
 * Made by the postmaster when the library is preloaded.  The lock is held for a
 * few assignments only, never across a wait.  Nothing in it survives a crash,
 * and nothing needs to: the launcher finds the databases again.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/registry.h"
#include "base/scheduler.h"

Registry   *registry = NULL;

static int	worker_max_databases = 64;
static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static void registry_request(void);
static void registry_startup(void);
static Size registry_size(void);

PG_FUNCTION_INFO_V1(workers_status);

void
registry_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	DefineCustomIntVariable("sentient_edge.worker_max_databases",
							"How many databases of this server can have a scheduler.",
							"Each takes about 3 kB of shared memory and one of max_worker_processes.",
							&worker_max_databases, 64, 1, 4096,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = registry_request;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = registry_startup;
}

static Size
registry_size(void)
{
	return add_size(offsetof(Registry, slots), mul_size(worker_max_databases, sizeof(DatabaseSlot)));
}

static void
registry_request(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(registry_size());
	RequestNamedLWLockTranche("sentient_edge", 1);
}

static void
registry_startup(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	registry = ShmemInitStruct("sentient_edge workers", registry_size(), &found);
	if (!found)
	{
		memset(registry, 0, registry_size());
		registry->lock = &(GetNamedLWLockTranche("sentient_edge"))->lock;
		registry->nslots = worker_max_databases;
	}
	LWLockRelease(AddinShmemInitLock);
}

void
registry_require(void)
{
	if (registry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sentient_edge is not preloaded"),
				 errdetail("Its background workers run only in a server that loads it at start."),
				 errhint("Add sentient_edge to shared_preload_libraries and restart the server.")));
}

DatabaseSlot *
registry_find(Oid database)
{
	for (int i = 0; i < registry->nslots; i++)
	{
		if (registry->slots[i].database == database)
			return &registry->slots[i];
	}
	return NULL;
}

DatabaseSlot *
registry_claim(Oid database)
{
	DatabaseSlot *slot = registry_find(database);

	if (slot != NULL)
		return slot;
	slot = registry_find(InvalidOid);
	if (slot == NULL)
	{
		for (int i = 0; i < registry->nslots; i++)
		{
			DatabaseSlot *other = &registry->slots[i];

			if (other->state == SCHEDULER_ABSENT && other->pid == 0 && other->writer == 0 &&
				other->blocker == 0 && !other->examine &&
				(slot == NULL || other->started_at < slot->started_at))
				slot = other;
		}
	}
	if (slot != NULL)
	{
		memset(slot, 0, sizeof(*slot));
		slot->database = database;
	}
	return slot;
}

void
registry_wake(int pid)
{
	PGPROC	   *proc = pid == 0 ? NULL : BackendPidGetProc(pid);

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

bool
registry_alive(int pid, Oid database)
{
	PGPROC	   *proc = pid == 0 ? NULL : BackendPidGetProc(pid);

	return proc != NULL && (!OidIsValid(database) || proc->databaseId == database);
}

/* Its number may soon be that of a process which is none of ours to signal. */
static void
writer_detach(int code, Datum arg)
{
	DatabaseSlot *slot;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	slot = registry_find(MyDatabaseId);
	if (slot != NULL && slot->writer == MyProcPid)
		slot->writer = 0;
	LWLockRelease(registry->lock);
}

void
registry_writer_attach(void)
{
	DatabaseSlot *slot;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	/* The launcher may not have seen the database yet. */
	slot = registry_claim(MyDatabaseId);
	if (slot != NULL)
		slot->writer = MyProcPid;
	LWLockRelease(registry->lock);
	before_shmem_exit(writer_detach, (Datum) 0);
}

bool
registry_writer_may_run(void)
{
	DatabaseSlot *slot;
	bool		blocked;

	LWLockAcquire(registry->lock, LW_SHARED);
	slot = registry_find(MyDatabaseId);
	blocked = slot != NULL && slot->blocker != 0;
	LWLockRelease(registry->lock);
	return !blocked;
}

/* One row of sentient_edge.workers. */
static void
put_row(ReturnSetInfo *result, Oid database, const char *worker, int pid, const char *state, const JobStatus *status)
{
	Datum		values[8];
	bool		nulls[8] = {false};
	char	   *name = OidIsValid(database) ? get_database_name(database) : NULL;

	if (OidIsValid(database) && name == NULL)
		return;					/* dropped meanwhile */
	if (name == NULL)
		nulls[0] = true;
	else
		values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(worker);
	values[2] = Int32GetDatum(pid);
	nulls[2] = pid == 0;
	values[3] = CStringGetTextDatum(state);
	values[4] = TimestampTzGetDatum(status->last_run_at);
	nulls[4] = status->last_run_at == 0;
	if (status->last_error[0] == '\0')
		nulls[5] = true;
	else
		values[5] = CStringGetTextDatum(status->last_error);
	values[6] = Int64GetDatum(status->runs);
	values[7] = Int64GetDatum(status->errors);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* sentient_edge.workers_status(): the rows of the view sentient_edge.workers. */
Datum
workers_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	JobStatus	launcher;
	DatabaseSlot *slots;
	int			launcher_pid;
	int			nslots = 0;

	registry_require();
	InitMaterializedSRF(fcinfo, 0);

	/* The rows are built from a copy: no catalog look-up under the lock. */
	memset(&launcher, 0, sizeof(launcher));
	slots = palloc(mul_size(registry->nslots, sizeof(DatabaseSlot)));
	LWLockAcquire(registry->lock, LW_SHARED);
	launcher_pid = registry->launcher_pid;
	launcher.last_run_at = registry->launcher_last_run_at;
	launcher.runs = registry->launcher_runs;
	for (int i = 0; i < registry->nslots; i++)
	{
		if (OidIsValid(registry->slots[i].database) && registry->slots[i].state != SCHEDULER_ABSENT &&
			registry->slots[i].state != SCHEDULER_UNKNOWN)
			slots[nslots++] = registry->slots[i];
	}
	LWLockRelease(registry->lock);

	put_row(result, InvalidOid, "launcher", launcher_pid, launcher_pid != 0 ? "running" : "stopped", &launcher);
	for (int i = 0; i < nslots; i++)
	{
		DatabaseSlot *slot = &slots[i];
		bool		running = slot->state == SCHEDULER_RUNNING && slot->pid != 0;
		const char *state = running ? "running" : slot->state == SCHEDULER_STARTING ? "starting" : "stopped";

		put_row(result, slot->database, "scheduler", slot->pid, state, &slot->scheduler);
		for (int job = 0; job < scheduler_job_count(); job++)
			put_row(result, slot->database, scheduler_job(job)->name, slot->pid,
					!running ? state : slot->jobs[job].running ? "running" : "waiting", &slot->jobs[job]);
	}
	return (Datum) 0;
}
