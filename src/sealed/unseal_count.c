/*
 * unseal_count.c
 *		Counts the values that people unseal, and tells of them once a statement.
 *
 * Called by the functions that hand out cleartext, in the session's own process:
 * they are PARALLEL RESTRICTED.  Counts belong to the client's statement, which
 * its start time names, not to the transaction: rows may have been sent before it
 * failed.  They are told
 *
 *		when a query that the client has sent ends;
 *		else when a later statement unseals, or the transaction ends, for there
 *		are statements that end without that: DO, CALL, those that change rows.
 *
 * A session that is killed in between (SIGKILL) has not told.  The totals in
 * shared memory are atomic and begin anew at every start of the server.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "tcop/pquery.h"

#include "sealed/unseal_count.h"

PG_FUNCTION_INFO_V1(sealed_counts);

/* Both protected by being atomic. */
typedef struct UnsealTotals
{
	pg_atomic_uint64 opened;
	pg_atomic_uint64 refused;
} UnsealTotals;

unseal_event_hook_type unseal_event_hook = NULL;

static UnsealTotals *totals = NULL;
static UnsealEvent pending;		/* none when both counts are zero */

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;
static ExecutorEnd_hook_type previous_executor_end = NULL;

static void count_request(void);
static void count_startup(void);
static void count_executor_end(QueryDesc *query);
static void count_transaction(XactEvent event, void *arg);
static void tell(bool aborted);

void
unseal_count_init(void)
{
	if (process_shared_preload_libraries_in_progress)
	{
		previous_shmem_request = shmem_request_hook;
		shmem_request_hook = count_request;
		previous_shmem_startup = shmem_startup_hook;
		shmem_startup_hook = count_startup;
	}
	previous_executor_end = ExecutorEnd_hook;
	ExecutorEnd_hook = count_executor_end;
	RegisterXactCallback(count_transaction, NULL);
}

static void
count_request(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(sizeof(UnsealTotals));
}

static void
count_startup(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	totals = ShmemInitStruct("sentient_edge unseal totals", sizeof(UnsealTotals), &found);
	if (!found)
	{
		pg_atomic_init_u64(&totals->opened, 0);
		pg_atomic_init_u64(&totals->refused, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
unseal_count_note(bool opened)
{
	TimestampTz statement_at = GetCurrentStatementStartTimestamp();

	if (pending.opened + pending.refused > 0 && pending.statement_at != statement_at)
		tell(false);
	pending.statement_at = statement_at;
	if (opened)
		pending.opened++;
	else
		pending.refused++;
}

bool
unseal_count_totals(int64 *opened, int64 *refused)
{
	if (totals == NULL)
		return false;
	*opened = pg_atomic_read_u64(&totals->opened);
	*refused = pg_atomic_read_u64(&totals->refused);
	return true;
}

/* A query ends; those inside a function end while the client's portal is active. */
static void
count_executor_end(QueryDesc *query)
{
	if (unlikely(pending.opened + pending.refused > 0) && ActivePortal == NULL)
		tell(false);
	if (previous_executor_end)
		previous_executor_end(query);
	else
		standard_ExecutorEnd(query);
}

static void
count_transaction(XactEvent event, void *arg)
{
	if (likely(pending.opened + pending.refused == 0))
		return;
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		tell(false);
	else if (event == XACT_EVENT_ABORT)
		tell(true);
}

static void
tell(bool aborted)
{
	UnsealEvent event = pending;

	/* First of all: what the hook does may come here again, by an error or a query. */
	memset(&pending, 0, sizeof(pending));
	event.aborted = aborted;
	if (totals != NULL)
	{
		pg_atomic_fetch_add_u64(&totals->opened, event.opened);
		pg_atomic_fetch_add_u64(&totals->refused, event.refused);
	}
	if (unseal_event_hook != NULL)
		unseal_event_hook(&event);
}

/* sealed_counts(): the totals; nulls when the library is not preloaded. */
Datum
sealed_counts(PG_FUNCTION_ARGS)
{
	TupleDesc	descriptor;
	int64		opened = 0;
	int64		refused = 0;
	Datum		values[2];
	bool		nulls[2];

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	nulls[0] = nulls[1] = !unseal_count_totals(&opened, &refused);
	values[0] = Int64GetDatum(opened);
	values[1] = Int64GetDatum(refused);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
