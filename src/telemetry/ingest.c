/*
 * ingest.c
 *		Validates, deduplicates and stores a batch of decoded samples.
 *
 * Called by every ingest function; runs in the caller's transaction.  Order of
 * work, and of the locks that come with it:
 *
 *	1. samples are grouped by drone, each drone's in order of time (ingest_stage.c);
 *	   repeats inside the batch are duplicates;
 *	2. each drone's latest state is read, unlocked: samples newer than it need
 *	   no look-up, a drone that does not exist has its samples rejected;
 *	3. months that have no partition yet get one, by a worker of its own;
 *	4. in a subtransaction, rows are stored in order of (drone_id, recorded_at),
 *	   then drone_latest is advanced in order of drone_id, while the alerts of
 *	   each drone's new samples are evaluated, then the alerts are written.  A
 *	   unique violation means that another session stored the same sample after
 *	   we looked: the subtransaction is rolled back and steps 2 to 4 are done
 *	   again, now looking up every sample;
 *	5. rejected samples are written, those among them that a trigger of the
 *	   user's did not let in.
 *
 * Rows first and drone_latest last is the order in which plain INSERT and its
 * statement trigger come, too, so that the two do not deadlock.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "replication/message.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "compat.h"
#include "errors.h"
#include "partition/partition.h"
#include "telemetry/ingest_private.h"
#include "telemetry/insert_trigger.h"
#include "telemetry/watch.h"

/* Attempts against sessions that store the same samples, before giving up. */
#define MAX_ATTEMPTS	100

/*
 * Of these, such as may end in a deadlock.  An attempt that is rolled back gives up
 * its own locks only: when those that the transaction held before are part of it,
 * the next attempt ends likewise, after another deadlock_timeout.
 */
#define MAX_DEADLOCKS			10
#define MAX_DEADLOCKS_LOCKED	2

/*
 * Error out where samples cannot be stored.
 */
void
ingest_require_writable(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot store samples during recovery"),
				 errhint("Send them to the primary server.")));
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot store samples in a read-only transaction")));
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot store samples during a parallel operation")));
}

/*
 * Read every drone's latest state; samples of drones that do not exist are
 * rejected and their groups emptied.
 */
static void
read_latest(IngestBatch *batch, bool unsure)
{
	LatestTable *table = latest_open();

	for (int i = 0; i < batch->ngroups; i++)
	{
		DroneGroup *group = batch->order[i];

		if (group->nsamples == 0)
			continue;
		group->latest = latest_read(table, &group->drone_id);
		for (StagedSample *staged = group->first; staged != NULL; staged = staged->next)
		{
			if (!group->latest.drone_exists)
				ingest_reject(batch, &staged->sample, SAMPLE_UNKNOWN_DRONE, 0, 0);
			else if (unsure || !group->latest.has_sample ||
					 staged->sample.recorded_at <= group->latest.recorded_at)
				staged->state = SAMPLE_UNSURE;
			else
				staged->state = SAMPLE_NEW;
		}
		if (!group->latest.drone_exists)
		{
			/* Nothing is stored that these would repeat. */
			for (StagedSample *staged = group->repeats; staged != NULL; staged = staged->next)
				ingest_reject(batch, &staged->sample, SAMPLE_UNKNOWN_DRONE, 0, 0);
			group->nsamples = 0;
		}
		else
		{
			for (StagedSample *staged = group->repeats; staged != NULL; staged = staged->next)
				staged->state = SAMPLE_DUPLICATE;
		}
	}
	latest_close(table);
}

/*
 * Have partitions made for the months of the batch that have none.
 */
static void
ensure_partitions(IngestBatch *batch, Relation parent)
{
	PartitionRange range = {0};
	TimestampTz *missing = NULL;
	int			nmissing = 0;
	int			allocated = 0;

	for (int i = 0; i < batch->ngroups; i++)
	{
		DroneGroup *group = batch->order[i];

		if (group->nsamples == 0)
			continue;
		for (StagedSample *staged = group->first; staged != NULL; staged = staged->next)
		{
			TimestampTz time = staged->sample.recorded_at;

			if (OidIsValid(range.relid) && !range.is_default &&
				time >= range.lower && time < range.upper)
				continue;
			range = partition_find(parent, time);
			if (OidIsValid(range.relid) && !range.is_default)
				continue;

			/* Times of one day surely share a partition. */
			if (nmissing > 0 && missing[nmissing - 1] / USECS_PER_DAY == time / USECS_PER_DAY)
				continue;
			if (nmissing == allocated)
			{
				allocated = Max(64, allocated * 2);
				missing = missing == NULL ? palloc(sizeof(TimestampTz) * allocated)
					: repalloc(missing, sizeof(TimestampTz) * allocated);
			}
			missing[nmissing++] = time;
		}
	}

	if (nmissing > 0)
	{
		partition_ensure(RelationGetRelid(parent), missing, nmissing);
		pfree(missing);
	}
}

/* The alerts of a batch, and the drone whose samples are evaluated. */
typedef struct GroupEvaluation
{
	AlertBatch *alerts;
	const AlertRules *rules;
	uint32		needed;
	DroneGroup *group;
	bool		changed;		/* there is something to keep */
} GroupEvaluation;

/*
 * Evaluate the alerts of a drone's stored samples that are newer than its
 * latest; returns how many alert states the drone has then.
 */
static int
evaluate_group(void *arg, const LatestState *latest)
{
	GroupEvaluation *evaluation = (GroupEvaluation *) arg;
	DroneGroup *group = evaluation->group;
	bool		has_states = !latest->has_sample || latest->alert_states > 0;
	AlertSample seen;

	evaluation->changed = has_states;
	if (has_states)
		alert_drone_begin(evaluation->alerts, &group->drone_id, true);
	for (StagedSample *staged = group->first; staged != NULL; staged = staged->next)
	{
		if (staged->state != SAMPLE_STORED ||
			(latest->has_sample && staged->sample.recorded_at <= latest->recorded_at))
			continue;
		watch_fill(&seen, &staged->sample, evaluation->needed);
		if (!evaluation->changed)
		{
			if (likely(alert_is_quiet(evaluation->rules, &seen)))
				continue;
			alert_drone_begin(evaluation->alerts, &group->drone_id, false);
			evaluation->changed = true;
		}
		alert_drone_sample(evaluation->alerts, &seen);
	}
	return evaluation->changed ? alert_drone_end(evaluation->alerts) : 0;
}

/*
 * Append a drone's samples to the store.  What repeats a sample that a trigger has
 * left out, which is known at once, repeats nothing and has its own chance.
 */
static void
append_group(SampleStore *store, DroneGroup *group)
{
	StagedSample *repeat = group->repeats;

	for (StagedSample *staged = group->first; staged != NULL; staged = staged->next)
	{
		TimestampTz time = staged->sample.recorded_at;
		bool		left_out;

		sample_store_append(store, &staged->sample, &staged->state);
		left_out = staged->state == SAMPLE_LEFT_OUT;
		if (likely(!left_out))
			continue;
		/* Both lists run in order of time. */
		while (repeat != NULL && repeat->sample.recorded_at < time)
			repeat = repeat->next;
		for (; left_out && repeat != NULL && repeat->sample.recorded_at == time; repeat = repeat->next)
		{
			sample_store_append(store, &repeat->sample, &repeat->state);
			left_out = repeat->state == SAMPLE_LEFT_OUT;
		}
	}
}

/*
 * Have the extension's triggers, which have noted what went through the executor,
 * count the other samples of the batch with it: they may be of the same drones.
 */
static void
settle_noted(IngestBatch *batch, Relation parent)
{
	for (int i = 0; i < batch->ngroups; i++)
	{
		DroneGroup *group = batch->order[i];

		if (group->nsamples == 0)
			continue;
		for (StagedSample *staged = group->first; staged != NULL; staged = staged->next)
		{
			if (staged->state != SAMPLE_STORED)
				continue;
			insert_trigger_note(&staged->sample);
			staged->state = SAMPLE_STORED_AND_NOTED;
		}
	}
	insert_trigger_settle(parent);
}

/*
 * Count what became of a drone's samples and find the newest one stored, besides
 * those that the extension's triggers have counted.
 */
static void
count_group(const DroneGroup *group, LatestChange *change)
{
	for (StagedSample *staged = group->repeats; staged != NULL; staged = staged->next)
	{
		if (staged->state == SAMPLE_DUPLICATE)
			change->duplicate++;
	}
	for (StagedSample *staged = group->first; staged != NULL; staged = staged->next)
	{
		if (staged->state == SAMPLE_DUPLICATE)
			change->duplicate++;
		else if (staged->state == SAMPLE_STORED)
		{
			change->newest = &staged->sample;
			change->received++;
			if (group->latest.has_sample && staged->sample.recorded_at < group->latest.recorded_at)
				change->late++;
		}
	}
}

/*
 * Store the batch's rows and advance drone_latest.  False when a drone's
 * state changed under us in a way that needs a new look.
 */
static bool
store_batch(IngestBatch *batch, Relation parent)
{
	TimestampTz received_at = GetCurrentTransactionStartTimestamp();
	SampleStore *store = sample_store_open(parent, received_at);
	LatestTable *table;
	GroupEvaluation evaluation = {0};
	bool		triggers_fired;

	for (int i = 0; i < batch->ngroups; i++)
	{
		DroneGroup *group = batch->order[i];

		if (group->nsamples == 0)
			continue;
		CHECK_FOR_INTERRUPTS();
		append_group(store, group);
	}
	triggers_fired = sample_store_used_executor(store);
	batch->used_default = sample_store_close(store);
	if (triggers_fired)
		settle_noted(batch, parent);

	evaluation.rules = alert_rules_get();
	evaluation.needed = alert_needed_metrics(evaluation.rules);
	evaluation.alerts = alert_begin(evaluation.rules);
	table = latest_open();
	for (int i = 0; i < batch->ngroups; i++)
	{
		DroneGroup *group = batch->order[i];
		LatestChange change = {.evaluate = evaluate_group,.arg = &evaluation};

		if (group->nsamples == 0)
			continue;
		count_group(group, &change);
		if (triggers_fired)
			group->latest = latest_read(table, &group->drone_id);	/* they advanced it */
		evaluation.group = group;
		evaluation.changed = false;
		if (!latest_advance(table, &group->drone_id, &group->latest, &change, received_at))
			return false;		/* the subtransaction's end releases the rest */
		if (evaluation.changed)
			alert_drone_keep(evaluation.alerts);
	}
	latest_close(table);
	alert_apply(evaluation.alerts);
	return true;
}

/*
 * Does the error come of other sessions that store the same samples?  A unique
 * index of the user's own, on his table or on ours, is none of ours: its violation
 * is the caller's, and comes again.
 */
static bool
is_race(const ErrorData *error, Relation parent)
{
	HeapTuple	tuple;
	Oid			index;
	Oid			table;
	bool		primary;

	if (error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED)
		return true;
	if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION ||
		error->schema_name == NULL || error->constraint_name == NULL)
		return false;
	index = get_relname_relid(error->constraint_name, get_namespace_oid(error->schema_name, true));
	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	if (!HeapTupleIsValid(tuple))
		return false;
	primary = ((Form_pg_index) GETSTRUCT(tuple))->indisprimary;
	table = ((Form_pg_index) GETSTRUCT(tuple))->indrelid;
	ReleaseSysCache(tuple);
	return primary &&
		(list_member_oid(get_partition_ancestors(table), RelationGetRelid(parent)) ||
		 getExtensionOfObject(RelationRelationId, table) == sql_extension());
}

/*
 * One attempt at storing, in a subtransaction.  False when it met another
 * session's work and was rolled back.
 */
static bool
try_store(IngestBatch *batch, Relation parent, bool last_attempt, int *deadlocks_left)
{
	MemoryContext old_context = CurrentMemoryContext;
	ResourceOwner old_owner = CurrentResourceOwner;
	volatile bool stored = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old_context);

	PG_TRY();
	{
		stored = store_batch(batch, parent);
		if (stored)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old_context);
		CurrentResourceOwner = old_owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(old_context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old_context);
		CurrentResourceOwner = old_owner;
		if (error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED && --*deadlocks_left == 0)
			last_attempt = true;
		if (last_attempt || !is_race(error, parent))
			ReThrowError(error);
		FreeErrorData(error);
		stored = false;
	}
	PG_END_TRY();

	if (stored && batch->used_default)
		partition_request_drain(RelationGetRelid(parent));
	return stored;
}

/*
 * Reject what a trigger has left out.
 */
static void
reject_left_out(IngestBatch *batch)
{
	for (int i = 0; i < batch->ngroups; i++)
	{
		DroneGroup *group = batch->order[i];
		StagedSample *lists[2] = {group->first, group->repeats};

		for (int list = 0; list < 2 && group->nsamples > 0; list++)
		{
			for (StagedSample *staged = lists[list]; staged != NULL; staged = staged->next)
			{
				if (staged->state == SAMPLE_LEFT_OUT)
					ingest_reject(batch, &staged->sample, SAMPLE_LEFT_OUT_BY_TRIGGER, 0, 0);
			}
		}
	}
}

/*
 * Count what became of the samples, and tell of each if the caller wants it.
 */
static void
count_outcomes(IngestBatch *batch, IngestOutcome *outcomes)
{
	if (outcomes != NULL)
	{
		for (int i = 0; i < batch->nsent; i++)
			outcomes[i] = INGEST_DUPLICATE;
		for (RejectedSample *rejected = batch->rejected; rejected != NULL; rejected = rejected->next)
			outcomes[rejected->ordinal] = INGEST_REJECTED;
	}

	for (int i = 0; i < batch->ngroups; i++)
	{
		DroneGroup *group = batch->order[i];
		StagedSample *lists[2] = {group->first, group->repeats};

		for (int list = 0; list < 2 && group->nsamples > 0; list++)
		{
			for (StagedSample *staged = lists[list]; staged != NULL; staged = staged->next)
			{
				if (staged->state == SAMPLE_LEFT_OUT)
					continue;	/* is among the rejected */
				if (!sample_was_stored(staged->state))
				{
					batch->counts.duplicate++;
					continue;
				}
				batch->counts.accepted++;
				if (outcomes != NULL)
					outcomes[staged->sample.ordinal] = INGEST_ACCEPTED;
			}
		}
	}

	se_assert(batch->counts.accepted + batch->counts.duplicate + batch->counts.rejected == batch->nsent);
}

/*
 * A duplicate says that its original is stored.  The ingest writer's commits can
 * be seen before they are durable, and the commit of a transaction that has
 * written nothing waits for nothing: one record of its own makes it wait for
 * all that precedes it, on synchronous standbys as well.
 */
static void
make_duplicates_durable(void)
{
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()) || XactLastRecEnd == InvalidXLogRecPtr)
		(void) compat_log_message("sentient_edge", "", 0, true);
}

static IngestCounts
finish(IngestBatch *batch, IngestOutcome *outcomes)
{
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "ingest", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	Relation	parent;
	int			deadlocks_left;

	ingest_stage_last(batch);
	ingest_put_in_order(batch);

	/* What the calling statement itself has done to the drones is to be seen. */
	CommandCounterIncrement();

	deadlocks_left = TransactionIdIsValid(GetTopTransactionIdIfAny()) ? MAX_DEADLOCKS_LOCKED : MAX_DEADLOCKS;
	if (batch->ngroups > 0)
	{
		parent = table_openrv(makeRangeVar("telemetry", "drone_telemetry", -1), RowExclusiveLock);
		for (int attempt = 1;; attempt++)
		{
			read_latest(batch, attempt > 1);
			if (attempt == 1)
				ensure_partitions(batch, parent);
			if (try_store(batch, parent, attempt == MAX_ATTEMPTS, &deadlocks_left))
				break;
			if (attempt == MAX_ATTEMPTS)
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("could not store samples because of concurrent changes to their drones"),
						 errhint("Send them again.")));
		}
		table_close(parent, NoLock);
		reject_left_out(batch);
	}

	count_outcomes(batch, outcomes);
	if (batch->counts.duplicate > 0)
		make_duplicates_durable();
	if (batch->rejected != NULL && outcomes == NULL)
		rejected_write(batch->route, batch->rejected);

	/* A later call of the same statement must see, and may change, what this one wrote. */
	CommandCounterIncrement();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return batch->counts;
}

/*
 * Validate, deduplicate and store; what is rejected is kept.
 */
IngestCounts
ingest_finish(IngestBatch *batch)
{
	return finish(batch, NULL);
}

/*
 * The same for samples that are kept elsewhere already: outcomes, one a sample
 * sent, tells what became of each, and the rejected ones are returned instead
 * of written.
 */
IngestCounts
ingest_finish_outcomes(IngestBatch *batch, IngestOutcome *outcomes, RejectedSample **rejected)
{
	IngestCounts counts = finish(batch, outcomes);

	*rejected = batch->rejected;
	return counts;
}

/* How many samples have been handed out. */
int
ingest_count_sent(const IngestBatch *batch)
{
	return batch->nsent;
}

/*
 * The composite (accepted, duplicate, rejected).
 */
Datum
ingest_counts_datum(FunctionCallInfo fcinfo, IngestCounts counts)
{
	static TupleDesc desc = NULL;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	/* All functions that return it declare the same; looking that up costs as much as a small call. */
	if (desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		TupleDesc	counted = CreateTemplateTupleDesc(3);

		TupleDescInitEntry(counted, 1, "accepted", INT4OID, -1, 0);
		TupleDescInitEntry(counted, 2, "duplicate", INT4OID, -1, 0);
		TupleDescInitEntry(counted, 3, "rejected", INT4OID, -1, 0);
		desc = BlessTupleDesc(counted);
		MemoryContextSwitchTo(old);
	}
	values[0] = Int32GetDatum(counts.accepted);
	values[1] = Int32GetDatum(counts.duplicate);
	values[2] = Int32GetDatum(counts.rejected);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
