/*
 * maintenance.c
 *		Keeping the managed tables: partitions ahead of now, rows out of the
 *		default partition, old partitions retired.
 *
 * The work is cut into steps (steps.c).  In a worker each step is a transaction,
 * in the foreground (telemetry.run_maintenance) a subtransaction of the
 * caller's.  A step waits for its locks no longer than
 * sentient_edge.partition_lock_timeout, is undone and tried again a few times,
 * and then left for the next run: nobody queues behind maintenance that itself
 * queues behind a long reader.  See create.c for the locks.  A step that a
 * crash interrupts is found undone.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "errors.h"
#include "partition/interval.h"
#include "partition/maintenance.h"
#include "partition/parameters.h"
#include "partition/steps.h"

/* Pause before the second try of a step; it grows with each. */
#define RETRY_PAUSE_MS		50
/* Partitions that one run makes of one table at most: a wrong setting must not flood the catalog. */
#define PARTITIONS_A_RUN	1000

typedef void (*StepFunction) (Step *step, Oid relid);

static bool run_step(Step *step, StepFunction function);
static bool try_step(Step *step, StepFunction function);
static bool worth_another_try(const ErrorData *error);
static bool create_one(Step *step, TimestampTz time);
static void maintain_table(Maintenance *maintenance, const ManagedTable *table);

PG_FUNCTION_INFO_V1(run_maintenance);

void
maintenance_run(Maintenance *maintenance)
{
	for (int i = 0; i < MANAGED_TABLES; i++)
		maintain_table(maintenance, &managed_tables[i]);
}

void
maintenance_ensure(Maintenance *maintenance, const ManagedTable *table, const TimestampTz *times, int ntimes)
{
	Step		step = {.maintenance = maintenance,.table = table,.context = CurrentMemoryContext};

	if (!run_step(&step, step_prepare) || step.done)
		return;
	for (int i = 0; i < ntimes; i++)
		create_one(&step, times[i]);
}

static void
maintain_table(Maintenance *maintenance, const ManagedTable *table)
{
	Step		step = {.maintenance = maintenance,.table = table,.context = CurrentMemoryContext};
	ListCell   *cell;

	if (!run_step(&step, step_prepare) || step.done)
		return;

	/* Rows out of the default partition first: they block what comes next. */
	step.time = DT_NOBEGIN;
	for (int made = 0; made < PARTITIONS_A_RUN; made++)
	{
		if (!run_step(&step, step_default_row) || step.done)
			break;
		if (!create_one(&step, step.time) && step.error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			break;				/* the next one would meet the same lock */
	}

	/* Partitions ahead of now, without a gap. */
	step.time = GetCurrentTimestamp();
	for (int made = 0; made < PARTITIONS_A_RUN; made++)
	{
		if (!run_step(&step, step_ahead) || step.done)
			break;
		if (!create_one(&step, step.time))
			break;
	}

	/*
	 * pg_partman reckons the end of a partition as its begin and the interval
	 * that is configured now: after a change of the interval it would retire
	 * partitions that are not old yet.  So it is asked only while all
	 * partitions have that interval.
	 */
	if (run_step(&step, step_survey) && step.relids != NIL)
	{
		if (step.uniform)
			(void) run_step(&step, step_retire_all);
		else
			foreach(cell, step.relids)
			{
				step.relid = lfirst_oid(cell);
				(void) run_step(&step, step_retire);
			}
	}

	(void) run_step(&step, step_stray_rows);
	(void) run_step(&step, step_runway);
}

/*
 * Make the partition of a time and say so.  step->time becomes the time from
 * which on to look for more, whether it was made or not.
 */
static bool
create_one(Step *step, TimestampTz time)
{
	TimestampTz lower;

	step->time = time;
	if (!run_step(step, step_create))
	{
		interval_range(PARTITION_BY_DAY, time, &lower, &step->time);
		return false;
	}
	if (step->done)
	{
		step->time = DT_NOEND;	/* the table is gone */
		return true;
	}
	if (step->made.moved > 0)
		(void) run_step(step, step_analyze);	/* autovacuum comes later than the first query */
	step->time = step->made.upper;
	return true;
}

/*
 * Run one step in a (sub)transaction of its own, several times if need be.
 * False when it was given up, which is reported and counted.  Errors that ask
 * the process to stop are passed on.
 */
static bool
run_step(Step *step, StepFunction function)
{
	Maintenance *maintenance = step->maintenance;

	for (int attempt = 1;; attempt++)
	{
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		if (try_step(step, function))
		{
			ListCell   *cell;

			/* What the step says counts only now that it is committed. */
			foreach(cell, step->says)
			{
				StepReport *says = lfirst(cell);

				step_report(step, says->action, says->detail);
			}
			step->says = NIL;
			return true;
		}
		error = step->error;

		/* pg_partman puts context, detail and hint into the message too. */
		error->message[strcspn(error->message, "\n")] = '\0';
		step->says = NIL;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		if (attempt >= maintenance->tries || !worth_another_try(error))
		{
			if (maintenance->failures++ == 0)
				snprintf(maintenance->first_failure, sizeof(maintenance->first_failure), "%s", error->message);
			step_report(step, "postponed", error->message);
			return false;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) RETRY_PAUSE_MS * attempt, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* One try; on an error everything is undone, and the error is left in step->error. */
static bool
try_step(Step *step, StepFunction function)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bool		foreground = step->maintenance->foreground;
	volatile bool success = true;

	step->done = false;
	step->says = NIL;
	if (foreground)
		BeginInternalSubTransaction(NULL);
	else
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		sql_commit_locally();
		PushActiveSnapshot(GetTransactionSnapshot());
	}

	PG_TRY();
	{
		/* The extension may have been dropped since the last step, or is about to be. */
		if (foreground ? !OidIsValid(sql_extension()) : !sql_hold_extension())
			step->done = true;
		else
		{
			SqlScope	scope = sql_begin(partition_lock_timeout);
			Relation	parent = managed_open(step->table, AccessShareLock);

			if (parent == NULL)
				step->done = true;
			else
			{
				Oid			relid = RelationGetRelid(parent);

				/* Locked, but not open: ALTER TABLE wants nobody to have it open. */
				table_close(parent, NoLock);
				function(step, relid);
			}
			sql_end(&scope);
		}

		if (foreground)
			ReleaseCurrentSubTransaction();
		else
		{
			PopActiveSnapshot();
			CommitTransactionCommand();
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(step->context);
		step->error = CopyErrorData();
		FlushErrorState();
		if (foreground)
			RollbackAndReleaseCurrentSubTransaction();
		else
			AbortOutOfAnyTransaction();
		success = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (foreground)
		CurrentResourceOwner = owner;
	return success;
}

/*
 * Does the error pass?  A lock that was not to be had does, and what comes of a
 * race with a writer or another maintainer; pg_partman 4.7 and 5 raise every
 * error again as a RAISE EXCEPTION of their own.
 */
static bool
worth_another_try(const ErrorData *error)
{
	switch (error->sqlerrcode)
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_CHECK_VIOLATION:
		case ERRCODE_UNIQUE_VIOLATION:
		case ERRCODE_DUPLICATE_TABLE:
		case ERRCODE_RAISE_EXCEPTION:
			return true;
		default:
			return false;
	}
}

void
step_report(Step *step, const char *action, const char *detail)
{
	Maintenance *maintenance = step->maintenance;

	if (maintenance->report)
		maintenance->report(maintenance->report_arg, step->table, action, detail);
	else
		ereport(DEBUG1,
				(errmsg_internal("maintenance of %s.%s: %s: %s", step->table->schema, step->table->name, action, detail)));
}

static void
report_row(void *arg, const ManagedTable *table, const char *action, const char *detail)
{
	ReturnSetInfo *result = arg;
	Datum		values[3];
	bool		nulls[3] = {false};

	values[0] = CStringGetTextDatum(managed_name(table));
	values[1] = CStringGetTextDatum(action);
	values[2] = CStringGetTextDatum(detail);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* telemetry.run_maintenance(): the whole in the caller's transaction, with a report. */
Datum
run_maintenance(PG_FUNCTION_ARGS)
{
	Maintenance maintenance = {.foreground = true,.may_register = true,.declare_complete = true,
	.stop_writers = true,.tries = 5};

	PreventCommandIfReadOnly("telemetry.run_maintenance()");
	PreventCommandIfParallelMode("telemetry.run_maintenance()");
	InitMaterializedSRF(fcinfo, 0);
	maintenance.report = report_row;
	maintenance.report_arg = fcinfo->resultinfo;
	maintenance_run(&maintenance);
	return (Datum) 0;
}
