/*
 * request.c
 *		Having partitions made and rows moved outside the caller's transaction,
 *		and the one-off worker that does it.
 *
 * A transaction that makes a partition itself would hold its locks until it
 * ends, and two of them could make the same one.  So partition_ensure starts a
 * dynamic background worker, which works in a server that does not preload the
 * library too, and waits for it for a while.  partition_request_drain only
 * notes that the transaction has put rows into a default partition: when it
 * has committed, the database's scheduler is woken, or a one-off worker is
 * started where there is none.  What a crash loses of this the scheduler finds
 * again in its next run.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "base/worker.h"
#include "compat.h"
#include "errors.h"
#include "partition/find.h"
#include "partition/maintenance.h"
#include "partition/parameters.h"
#include "partition/partition.h"

/* Times that one worker is given; it is what fits into bgw_extra. */
#define TIMES_A_WORKER			14
/* A backend whose wait was in vain does not wait again for this table so soon. */
#define VAIN_PAUSE_MS			5000
/* How often a session looks whether it is its turn. */
#define TURN_PAUSE_MS			10
/* A backend starts one-off drain workers no faster than this, */
#define DRAIN_PAUSE_MS			1000
/* and each looks again after this, for rows of requests that were not passed on. */
#define DRAIN_AGAIN_MS			2000

/*
 * Turns: locks of the advisory kind whose last field no SQL function uses, so
 * that nobody can take one to stop the work.  However many sessions want a
 * partition or leave rows in a default one, they occupy few of
 * max_worker_processes: one worker a table that sessions wait for, and two for
 * drains, of which one waits for the other to end.
 */
typedef enum Turn
{
	TURN_ENSURE = 0x5E01,		/* of one table: the session that waits for a worker */
	TURN_MAKE,					/* of one table: that worker */
	TURN_DRAIN_NEXT,			/* the drain that will run next */
	TURN_DRAIN,					/* the drain that runs */
} Turn;

/* What a one-off worker is asked to do, in bgw_extra. */
typedef struct PartitionOrder
{
	Oid			database;
	Oid			parent;			/* InvalidOid: a run of maintenance for all tables */
	int32		ntimes;
	int32		padding;
	TimestampTz times[TIMES_A_WORKER];
} PartitionOrder;

StaticAssertDecl(sizeof(PartitionOrder) <= BGW_EXTRALEN, "partition order does not fit into bgw_extra");

static int	partition_job = -1;

/* Subtransactions of this transaction that have put rows into a default partition. */
static List *drain_requests = NIL;	/* in TopTransactionContext */

pg_noreturn PGDLLEXPORT void partition_worker_main(Datum arg);

static bool take_turn(Turn turn, Oid object, bool of_session, bool wait);
static void drop_turn(Turn turn, Oid object, bool of_session);
static bool wait_for_turn(Oid parent, TimestampTz deadline);
static bool take_drain_turn(void);
static bool start_worker(const PartitionOrder *order, BackgroundWorkerHandle **handle);
static void start_drain(void);
static int	still_missing(Oid parent, const TimestampTz *times, int ntimes, TimestampTz *missing, bool *possible);
static void at_transaction_end(XactEvent event, void *arg);
static void at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg);
static void run_job(bool requested);

static const SchedulerJob maintenance_job = {"partitions", &partition_maintenance_interval, run_job};

void
partition_request_init(void)
{
	partition_job = scheduler_add_job(&maintenance_job);
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

void
partition_ensure(Oid parent, const TimestampTz *times, int ntimes)
{
	static Oid	vain_parent = InvalidOid;
	static TimestampTz vain_until = 0;
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), partition_wait);
	TimestampTz *missing;
	int			nmissing;
	bool		possible;

	se_assert(IsTransactionState());
	if (ntimes == 0 || partition_wait == 0 || RecoveryInProgress() || IsInParallelMode() || IsBinaryUpgrade)
		return;
	if (parent == vain_parent && GetCurrentTimestamp() < vain_until)
		return;

	missing = palloc(sizeof(TimestampTz) * ntimes);
	nmissing = still_missing(parent, times, ntimes, missing, &possible);
	if (nmissing == 0 || !possible)
	{
		pfree(missing);
		return;
	}
	if (!wait_for_turn(parent, deadline))
	{
		vain_parent = parent;
		vain_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), VAIN_PAUSE_MS);
		pfree(missing);
		return;
	}

	/* The session whose turn it was before may have wanted the same. */
	nmissing = still_missing(parent, missing, nmissing, missing, &possible);
	while (nmissing > 0 && possible)
	{
		PartitionOrder order = {.database = MyDatabaseId,.parent = parent};
		BackgroundWorkerHandle *handle;
		pid_t		pid;
		int			before = nmissing;

		order.ntimes = Min(nmissing, TIMES_A_WORKER);
		memcpy(order.times, missing, sizeof(TimestampTz) * order.ntimes);
		if (!start_worker(&order, &handle))
			break;				/* max_worker_processes: the default partition takes them */

		while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
		{
			long		wait_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

			if (wait_ms <= 0)
				break;
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 Min(wait_ms, 1000), PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		pfree(handle);
		nmissing = still_missing(parent, missing, nmissing, missing, &possible);
		if (nmissing == before || GetCurrentTimestamp() >= deadline)
		{
			vain_parent = parent;
			vain_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), VAIN_PAUSE_MS);
			break;
		}
	}
	drop_turn(TURN_ENSURE, parent, false);
	pfree(missing);
}

static void
turn_tag(LOCKTAG *tag, Turn turn, Oid object)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, 0, object, turn);
}

static bool
take_turn(Turn turn, Oid object, bool of_session, bool wait)
{
	LOCKTAG		tag;

	turn_tag(&tag, turn, object);
	return LockAcquire(&tag, ExclusiveLock, of_session, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

static void
drop_turn(Turn turn, Oid object, bool of_session)
{
	LOCKTAG		tag;

	turn_tag(&tag, turn, object);
	(void) LockRelease(&tag, ExclusiveLock, of_session);
}

/*
 * Wait until no other session waits for a partition of the table, and no worker
 * that another session has given up is still at it; false after the deadline.
 */
static bool
wait_for_turn(Oid parent, TimestampTz deadline)
{
	while (GetCurrentTimestamp() < deadline)
	{
		if (take_turn(TURN_ENSURE, parent, false, false))
		{
			if (take_turn(TURN_MAKE, parent, false, false))
			{
				drop_turn(TURN_MAKE, parent, false);
				return true;
			}
			drop_turn(TURN_ENSURE, parent, false);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TURN_PAUSE_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

/*
 * For a drain worker, until it ends.  False when another is yet to begin: that
 * one will see whatever this one was started for.
 */
static bool
take_drain_turn(void)
{
	bool		taken;

	StartTransactionCommand();
	taken = take_turn(TURN_DRAIN_NEXT, InvalidOid, true, false);
	if (taken)
	{
		(void) take_turn(TURN_DRAIN, InvalidOid, true, true);
		drop_turn(TURN_DRAIN_NEXT, InvalidOid, true);
	}
	CommitTransactionCommand();
	return taken;
}

/*
 * Which of the times have no partition?  missing may be times.  It is not
 * possible for a worker to make them while this transaction itself holds a lock
 * on the default partition.
 */
static int
still_missing(Oid parent, const TimestampTz *times, int ntimes, TimestampTz *missing, bool *possible)
{
	Relation	rel;
	Oid			default_relid;
	int			nmissing = 0;

	AcceptInvalidationMessages();
	rel = table_open(parent, AccessShareLock);
	for (int i = 0; i < ntimes; i++)
	{
		if (!TIMESTAMP_NOT_FINITE(times[i]) && partition_find(rel, times[i]).is_default)
			missing[nmissing++] = times[i];
	}
	*possible = true;
	default_relid = partition_default(rel);
	if (OidIsValid(default_relid))
	{
		Relation	default_rel = RelationIdGetRelation(default_relid);

		if (RelationIsValid(default_rel))
		{
			*possible = !CheckRelationLockedByMe(default_rel, AccessShareLock, true);
			RelationClose(default_rel);
		}
	}
	table_close(rel, NoLock);
	return nmissing;
}

void
partition_request_drain(Oid parent)
{
	SubTransactionId current = GetCurrentSubTransactionId();
	MemoryContext previous;

	if (drain_requests != NIL && list_member_int(drain_requests, (int) current))
		return;
	previous = MemoryContextSwitchTo(TopTransactionContext);
	drain_requests = lappend_int(drain_requests, (int) current);
	MemoryContextSwitchTo(previous);
}

/* What a subtransaction asked for becomes its parent's wish, or is forgotten. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	ListCell   *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(cell, drain_requests)
	{
		if (lfirst_int(cell) != (int) subid)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			lfirst_int(cell) = (int) parent;
		else
			drain_requests = foreach_delete_current(drain_requests, cell);
	}
}

/*
 * A prepared transaction's rows become visible in another session's COMMIT
 * PREPARED, which knows nothing of them: the scheduler's next run finds them.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (drain_requests != NIL)
			{
				drain_requests = NIL;
				/* The transaction has committed: nothing here may raise an error. */
				if (!scheduler_request(partition_job))
					start_drain();
			}
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			drain_requests = NIL;
			break;
		default:
			break;
	}
}

/* Start a one-off worker for a run of maintenance, unless this was done just now. */
static void
start_drain(void)
{
	static TimestampTz started_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	PartitionOrder order = {.database = MyDatabaseId};

	if (IsBinaryUpgrade || !TimestampDifferenceExceeds(started_at, now, DRAIN_PAUSE_MS))
		return;
	if (start_worker(&order, NULL))
		started_at = now;
}

/* Ask the postmaster for a one-off worker; with a handle, this process is told when it ends. */
static bool
start_worker(const PartitionOrder *order, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	worker_describe(&worker, "partition_worker_main", "sentient_edge partition worker");
	memcpy(worker.bgw_extra, order, sizeof(*order));
	worker.bgw_notify_pid = handle ? MyProcPid : 0;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* Does the database have the extension, visibly? */
static bool
extension_visible(void)
{
	bool		visible;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	visible = OidIsValid(sql_extension());
	CommitTransactionCommand();
	return visible;
}

/* The managed table of that oid, asked in a transaction of its own. */
static const ManagedTable *
find_table(Oid relid)
{
	const ManagedTable *table;

	StartTransactionCommand();
	table = managed_find(relid);
	CommitTransactionCommand();
	return table;
}

/* The one-off worker: carries out one order and ends. */
void
partition_worker_main(Datum arg)
{
	PartitionOrder order;
	MemoryContext context;

	worker_prepare();
	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	worker_connect(order.database, "sentient_edge partition worker");
	pgstat_report_activity(STATE_RUNNING, OidIsValid(order.parent) ? "making partitions" : "partition maintenance");

	context = AllocSetContextCreate(TopMemoryContext, "sentient_edge partitions", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	if (!extension_visible())
		proc_exit(0);
	if (OidIsValid(order.parent))
	{
		Maintenance maintenance = {.may_register = true,.tries = 10};
		const ManagedTable *table = find_table(order.parent);

		StartTransactionCommand();
		(void) take_turn(TURN_MAKE, order.parent, true, true);
		CommitTransactionCommand();
		if (table != NULL)
			maintenance_ensure(&maintenance, table, order.times, order.ntimes);
		/* A new table wants partitions ahead of now too, but nobody waits for them. */
		if (maintenance.registered && !scheduler_request(partition_job))
			start_drain();
		if (maintenance.failures > 0)
			ereport(LOG,
					(errmsg("could not make a partition for samples"),
					 errdetail("%s", maintenance.first_failure)));
		proc_exit(0);
	}

	if (!take_drain_turn())
		proc_exit(0);
	for (int round = 0; round < 2; round++)
	{
		Maintenance maintenance = {.may_register = true,.stop_writers = true,.tries = 20};

		maintenance_run(&maintenance);
		if (maintenance.failures > 0)
			ereport(LOG,
					(errmsg("partition maintenance is incomplete"),
					 errdetail("%s", maintenance.first_failure)));
		if (round == 0)
		{
			(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, DRAIN_AGAIN_MS, PG_WAIT_EXTENSION);
			CHECK_FOR_INTERRUPTS();
		}
	}
	proc_exit(0);
}

/*
 * The scheduler's job.  Unasked, it leaves tables alone that pg_partman does not
 * know: the database may be one that a dump is being restored into.
 */
static void
run_job(bool requested)
{
	Maintenance maintenance = {.may_register = requested,.stop_writers = true,.tries = 5};

	maintenance_run(&maintenance);
	if (maintenance.failures > 0)
		ereport(ERROR,
				(errcode(ERRCODE_SE_PARTITION_UNAVAILABLE),
				 errmsg("partition maintenance is incomplete: %s", maintenance.first_failure),
				 errhint("It is tried again. Look for long transactions that hold locks on the tables.")));
}
