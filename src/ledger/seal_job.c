/*
 * seal_job.c
 *		The job "ledger" of the scheduler: seals what is due, or tells that it cannot.
 *
 * Whoever else has the chain locked seals as well, so the job leaves it to him.  But
 * he may keep his transaction open, and nothing that anybody writes is sealed until
 * it ends: after a while the job fails with who it is, and queues a security event,
 * once for each time.  Nothing is kept but since when; a crash forgets it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "base/worker.h"
#include "events/events.h"
#include "ledger/ledger.h"
#include "ledger/seal.h"
#include "ledger/seal_job.h"

/* To seal or prune what has piled up takes no longer, as a rule. */
#define HELD_UP_MS		30000

int			ledger_interval = 1;

static TimestampTz held_up_since = 0;	/* 0: not held up */
static bool told = false;

static void run_job(bool requested);

static const SchedulerJob job = {"ledger", &ledger_interval, run_job};

void
seal_job_init(void)
{
	(void) scheduler_add_job(&job);
}

/* An error once it has taken too long. */
static void
held_up(void)
{
	TimestampTz now = GetCurrentTimestamp();
	char	   *pid;
	char	   *role;

	if (held_up_since == 0 || held_up_since > now)
		held_up_since = now;
	if (!TimestampDifferenceExceeds(held_up_since, now, HELD_UP_MS))
		return;
	if (sql_query(psprintf("SELECT l.pid, s.usename FROM pg_locks l LEFT JOIN pg_stat_activity s ON s.pid = l.pid"
						   " JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()"
						   " WHERE l.locktype = 'object' AND l.classid = 'pg_class'::regclass AND l.objid = 'audit.blocks'::regclass"
						   " AND l.objsubid = %d AND l.granted", LEDGER_LOCK_SUBID), 0, NULL, NULL) == 0)
		return;					/* it has just ended */
	pid = sql_string(0, 0);
	role = sql_string(0, 1);
	if (!told)
	{
		SecurityEvent event;

		security_event_begin(&event, EVENT_INTEGRITY, EVENT_NO_OUTCOME);
		security_event_severity(&event, SEVERITY_WARNING);
		security_event_object(&event, "audit.blocks");
		security_event_message(&event, "sealing is held up");
		if (pid != NULL)
			security_event_detail(&event, "pid", pid);
		if (role != NULL)
			security_event_detail(&event, "role", role);
		told = security_event_queue(&event);
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("sealing is held up by another session"),
			 pid == NULL ? errdetail("A prepared transaction has called audit.seal() or audit.prune().") :
			 errdetail("Process %s of role \"%s\" is in a transaction that has called audit.seal() or audit.prune().",
					   pid, role ? role : ""),
			 errhint("Entries and events are sealed once that transaction has ended.")));
}

static void
run_job(bool requested)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (sql_hold_extension())
	{
		SqlScope	scope = sql_begin(0);
		SealReport	report;

		if (ledger_seal(false, false, &report) || !report.held_up)
		{
			held_up_since = 0;
			told = false;
		}
		else
			held_up();
		sql_end(&scope);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}
