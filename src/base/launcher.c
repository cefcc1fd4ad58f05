/*
 * launcher.c
 *		The one static worker: finds the databases that have the extension and
 *		keeps a scheduler in each.
 *
 * It sees pg_database only; whether a database has the extension is found out
 * by the scheduler that it starts there, which ends at once if not and leaves
 * that in the registry.  Such a database is looked at again after CREATE
 * EXTENSION (database_hook.c) and every few minutes.  Started when recovery has
 * finished, so a standby runs nothing until it is promoted.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/launcher.h"
#include "base/registry.h"
#include "base/scheduler.h"
#include "compat.h"

#define LAUNCHER_NAP_MS			10000
/* A worker that has not shown up after this long is asked for again. */
#define LAUNCHER_START_MS		30000
/* How often a database without the extension is looked at without being asked. */
#define LAUNCHER_EXAMINE_MS		300000

pg_noreturn PGDLLEXPORT void launcher_main(Datum arg);

static void launcher_exit(int code, Datum arg);
static List *launcher_databases(void);
static void launcher_turn(List *databases);
static Oid	launcher_next_unknown(List *databases);

void
launcher_init(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	worker_describe(&worker, "launcher_main", "sentient_edge launcher");
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}

void
launcher_examine(Oid database)
{
	int			launcher;
	int			scheduler = 0;

	if (registry == NULL)
		return;
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	if (OidIsValid(database))
	{
		DatabaseSlot *slot = registry_claim(database);

		if (slot != NULL)
		{
			slot->examine = true;
			scheduler = slot->pid;
		}
	}
	launcher = registry->launcher_pid;
	LWLockRelease(registry->lock);
	registry_wake(scheduler);
	registry_wake(launcher);
}

void
launcher_main(Datum arg)
{
	MemoryContext context;

	worker_prepare();

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	registry->launcher_pid = MyProcPid;
	LWLockRelease(registry->lock);
	before_shmem_exit(launcher_exit, (Datum) 0);

	/* No database: shared catalogs only. */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("sentient_edge launcher");
	context = AllocSetContextCreate(TopMemoryContext, "sentient_edge launcher", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContextSwitchTo(context);
		launcher_turn(launcher_databases());
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(context);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LAUNCHER_NAP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

static void
launcher_exit(int code, Datum arg)
{
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	if (registry->launcher_pid == MyProcPid)
		registry->launcher_pid = 0;
	LWLockRelease(registry->lock);
}

/* The databases that take connections, as oids in the current context. */
static List *
launcher_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		/* A connection limit of -2 marks a database whose DROP was interrupted. */
		if (database->datallowconn && !database->datistemplate && database->datconnlimit != -2)
		{
			MemoryContext previous = MemoryContextSwitchTo(context);

			databases = lappend_oid(databases, database->oid);
			MemoryContextSwitchTo(previous);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return databases;
}

/* Bring the registry in line with the databases, and start what is missing. */
static void
launcher_turn(List *databases)
{
	static bool complained_workers = false;
	static bool complained_slots = false;
	static TimestampTz replaced_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	List	   *start = NIL;
	ListCell   *cell;
	bool		full = false;
	Oid			unknown;

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	registry->launcher_last_run_at = now;
	registry->launcher_runs++;

	for (int i = 0; i < registry->nslots; i++)
	{
		DatabaseSlot *slot = &registry->slots[i];

		if (OidIsValid(slot->database) && slot->pid == 0 && slot->writer == 0 &&
			!list_member_oid(databases, slot->database))
			memset(slot, 0, sizeof(*slot));
	}

	/*
	 * Databases without the extension must not keep those with it from having
	 * a slot, however many there are: now and then one that has none is looked
	 * at in place of one that is known not to have the extension.
	 */
	while (OidIsValid(unknown = launcher_next_unknown(databases)) && registry_find(InvalidOid) != NULL)
		(void) registry_claim(unknown);
	if (OidIsValid(unknown) && TimestampDifferenceExceeds(replaced_at, now, LAUNCHER_NAP_MS))
	{
		/* Not at every turn: the end of a scheduler makes one. */
		full = registry_claim(unknown) == NULL;
		replaced_at = now;
	}

	foreach(cell, databases)
	{
		DatabaseSlot *slot = registry_find(lfirst_oid(cell));

		if (slot == NULL)
			continue;

		if (slot->blocker != 0 && !registry_alive(slot->blocker, InvalidOid))
			slot->blocker = 0;
		if (slot->pid != 0 && !registry_alive(slot->pid, InvalidOid))
		{
			slot->pid = 0;
			slot->state = SCHEDULER_STOPPED;
		}
		if (slot->pid != 0 || slot->blocker != 0)
			continue;
		if (slot->state == SCHEDULER_STARTING &&
			!TimestampDifferenceExceeds(slot->started_at, now, LAUNCHER_START_MS))
			continue;
		if (slot->state == SCHEDULER_ABSENT && !slot->examine &&
			!TimestampDifferenceExceeds(slot->started_at, now, LAUNCHER_EXAMINE_MS))
			continue;
		if (slot->state == SCHEDULER_STOPPED && !slot->examine && slot->not_before > now)
			continue;
		slot->examine = false;
		slot->state = SCHEDULER_STARTING;
		slot->started_at = now;
		start = lappend_oid(start, slot->database);
	}
	LWLockRelease(registry->lock);

	foreach(cell, start)
	{
		if (!scheduler_start(lfirst_oid(cell)))
		{
			if (!complained_workers)
				ereport(LOG,
						(errmsg("could not start a sentient_edge scheduler: no free background worker"),
						 errhint("Increase max_worker_processes.")));
			complained_workers = true;
			LWLockAcquire(registry->lock, LW_EXCLUSIVE);
			{
				DatabaseSlot *slot = registry_find(lfirst_oid(cell));

				if (slot != NULL && slot->state == SCHEDULER_STARTING)
				{
					slot->state = SCHEDULER_STOPPED;
					slot->not_before = TimestampTzPlusMilliseconds(now, LAUNCHER_NAP_MS);
				}
			}
			LWLockRelease(registry->lock);
		}
	}
	if (full && !complained_slots)
	{
		ereport(LOG,
				(errmsg("more databases than sentient_edge.worker_max_databases"),
				 errhint("Increase sentient_edge.worker_max_databases and restart the server.")));
		complained_slots = true;
	}
}

/* The database after the last one asked for, in order of oid, that has no slot; the caller holds the lock. */
static Oid
launcher_next_unknown(List *databases)
{
	static Oid	last = InvalidOid;
	Oid			next = InvalidOid;
	Oid			first = InvalidOid;
	ListCell   *cell;

	foreach(cell, databases)
	{
		Oid			database = lfirst_oid(cell);

		if (registry_find(database) != NULL)
			continue;
		if (!OidIsValid(first) || database < first)
			first = database;
		if (database > last && (!OidIsValid(next) || database < next))
			next = database;
	}
	last = OidIsValid(next) ? next : first;
	return last;
}
