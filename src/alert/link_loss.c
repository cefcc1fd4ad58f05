/*
 * link_loss.c
 *		Alerts for drones that have gone silent; telemetry.check_link_loss().
 *
 * Run by the scheduler every sentient_edge.alert_check_interval, and by SQL.
 * One session at a time checks: it holds ShareUpdateExclusiveLock on
 * telemetry.alert_states until its transaction ends, which keeps nobody from
 * ingesting; the scheduler leaves the work to a session that holds it already.
 * Which drones are to be looked at tells silence.c; the scheduler keeps its
 * watch from check to check.  The rows of drone_latest of the drones concerned
 * are locked in order of drone_id, as ingest does, and looked at again once
 * locked.  The scheduler passes over those that somebody else has locked, and is
 * back at the next check: whoever leaves a transaction open keeps the alerts of
 * his own drones waiting, not those of the fleet.  The alert is cleared by the
 * drone's next live sample, see evaluate.c.
 * The same run clears the alerts of silent drones whose rule is gone
 * (leftover.c): the first run after a change of the rules, and one a minute, for
 * what was opened meanwhile by transactions that had not heard of the change.
 *
 * A check that fails, even at its commit, has the next one begin with a new
 * watch.
 *
 * Nothing is done while a dump is restored, when foreign keys stand back: the
 * dump's own alerts are still to come.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "alert/batch.h"
#include "alert/leftover.h"
#include "alert/link_loss.h"
#include "alert/silence.h"
#include "base/sql.h"
#include "base/worker.h"
#include "errors.h"

PG_FUNCTION_INFO_V1(telemetry_check_link_loss);

/* How often the scheduler looks for alerts whose rule is gone when no rule has changed. */
#define LEFTOVER_PAUSE_MS		60000

/* Transactions that change a status take so long, as a rule. */
#define STATUS_SLACK_US			(10 * USECS_PER_SEC)

int			alert_check_interval = 1;

static SilenceWatch *scheduler_silence = NULL;
static bool scheduler_checking = false; /* and not yet committed */

static void run_job(bool requested);

static const SchedulerJob link_loss_job = {"link loss", &alert_check_interval, run_job};

void
link_loss_init(void)
{
	(void) scheduler_add_job(&link_loss_job);
}

/*
 * Do the foreign keys of the table stand back?
 */
static bool
is_being_restored(Relation rel)
{
	TriggerDesc *desc = rel->trigdesc;

	for (int i = 0; desc != NULL && i < desc->numtriggers; i++)
	{
		if (desc->triggers[i].tgisinternal && desc->triggers[i].tgenabled == TRIGGER_DISABLED)
			return true;
	}
	return false;
}

static const AlertWatch *
find_link_rule(const AlertRules *rules, const pg_uuid_t *id)
{
	for (int i = rules->first_link; i < rules->nwatches; i++)
	{
		if (memcmp(&rules->watches[i].id, id, UUID_LEN) == 0)
			return &rules->watches[i];
	}
	return NULL;
}

static Datum
drone_array(const pg_uuid_t *drones, int n)
{
	Datum	   *ids = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		ids[i] = UUIDPGetDatum(&drones[i]);
	return sql_array(ids, NULL, n, UUIDOID);
}

/*
 * Of these drones, those that have gone silent and have no alert of it yet: rows
 * of drone, rule and time of the newest sample.
 */
static uint64
query_silent(Datum drones, TimestampTz now)
{
	Oid			types[2] = {TIMESTAMPTZOID, UUIDARRAYOID};
	Datum		args[2] = {TimestampTzGetDatum(now), drones};

	return sql_query("SELECT l.drone_id, r.rule_id, l.recorded_at"
					 " FROM unnest($2) AS c (drone_id)"
					 " JOIN telemetry.drone_latest l ON l.drone_id = c.drone_id"
					 " JOIN core.drones d ON d.drone_id = l.drone_id"
					 " JOIN core.drone_statuses s ON s.status = d.status"
					 " JOIN telemetry.alert_rules r ON r.enabled AND r.metric = '" ALERT_LINK_METRIC "'"
					 " AND (r.drone_id IS NULL OR r.drone_id = l.drone_id)"
					 " AND (r.drone_type IS NULL OR r.drone_type = d.drone_type)"
					 " WHERE l.recorded_at < $1 - r.threshold * interval '1 second'"
					 " AND l.received_at - l.recorded_at < interval '1 hour' AND l.received_at > $1 - interval '1 day'"
					 " AND (s.is_flying OR d.status = 'offline' AND NOT EXISTS"
					 " (SELECT FROM core.drone_status_history h WHERE h.drone_id = d.drone_id))"
					 " AND NOT EXISTS (SELECT FROM telemetry.alert_states a"
					 " WHERE a.drone_id = l.drone_id AND a.watch_id = r.rule_id)"
					 " ORDER BY l.drone_id, r.rule_id",
					 2, types, args);
}

/*
 * Drones that have gone silent; returns how many, *silent is palloc'd.
 */
static int
find_silent(SilenceWatch *watch, TimestampTz now, pg_uuid_t **silent)
{
	pg_uuid_t  *drones;
	int			ndrones = silence_watch_look(watch, now, &drones);
	uint64		n = ndrones > 0 ? query_silent(drone_array(drones, ndrones), now) : 0;
	int			nsilent = 0;
	bool		isnull;

	*silent = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	for (uint64 row = 0; row < n; row++)
	{
		pg_uuid_t  *drone_id = DatumGetUUIDP(sql_value(row, 0, &isnull));

		/* They come in order, once for each rule. */
		if (nsilent == 0 || memcmp(&(*silent)[nsilent - 1], drone_id, UUID_LEN) != 0)
			(*silent)[nsilent++] = *drone_id;
	}
	return nsilent;
}

/*
 * Lock the rows of drones in order of drone_id; returns how many of them, which
 * stand in front then.  Who does not wait for the others takes the locks that an
 * alert's foreign key wants as well.
 */
static int
lock_drones(pg_uuid_t *drones, int n, bool wait)
{
	Oid			types[1] = {UUIDARRAYOID};
	Datum		args[1] = {drone_array(drones, n)};
	uint64		nlocked;
	bool		isnull;

	if (wait)
		nlocked = sql_query("SELECT l.drone_id FROM telemetry.drone_latest l"
							" WHERE l.drone_id = ANY ($1) ORDER BY l.drone_id FOR UPDATE",
							1, types, args);
	else
		nlocked = sql_query("SELECT l.drone_id FROM telemetry.drone_latest l JOIN core.drones d ON d.drone_id = l.drone_id"
							" WHERE l.drone_id = ANY ($1) ORDER BY l.drone_id"
							" FOR UPDATE OF l SKIP LOCKED FOR KEY SHARE OF d SKIP LOCKED",
							1, types, args);
	se_assert(nlocked <= (uint64) n);
	for (uint64 row = 0; row < nlocked; row++)
		drones[row] = *DatumGetUUIDP(sql_value(row, 0, &isnull));
	return (int) nlocked;
}

static int
compare_drones(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

/*
 * Of these drones, leave those that are locked; the others are told by the watch
 * again, if it is given.  Returns how many are left.
 */
static int
keep_locked(pg_uuid_t *drones, int n, const pg_uuid_t *locked, int nlocked, SilenceWatch *watch)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		if (bsearch(&drones[i], locked, nlocked, sizeof(pg_uuid_t), compare_drones) != NULL)
			drones[kept++] = drones[i];
		else if (watch != NULL)
			silence_watch_forget(watch, &drones[i]);
	}
	return kept;
}

/*
 * Put what drones need that have gone silent, and are locked, into the changes.
 */
static void
open_alerts(const AlertRules *rules, const pg_uuid_t *drones, int ndrones, AlertChanges *changes, TimestampTz now)
{
	uint64		n = query_silent(drone_array(drones, ndrones), now);

	for (uint64 row = 0; row < n; row++)
	{
		bool		isnull;
		const AlertWatch *watch = find_link_rule(rules, DatumGetUUIDP(sql_value(row, 1, &isnull)));
		TimestampTz recorded_at = DatumGetTimestampTz(sql_value(row, 2, &isnull));
		AlertRecord *record;
		AlertStateChange *state;

		if (watch == NULL)
			continue;			/* made since the rules were compiled; next time */
		record = palloc0(sizeof(AlertRecord));
		record->drone_id = *DatumGetUUIDP(sql_value(row, 0, &isnull));
		record->alert_id = alert_new_id();
		record->watch = watch;
		record->is_new = true;
		record->opened_at = recorded_at + (int64) (watch->threshold * USECS_PER_SEC);
		record->message = psprintf("%s: no sample for more than %g s", watch->name, watch->threshold);
		record->has_value = true;
		record->opened_value = record->last_value = (now - recorded_at) / (double) USECS_PER_SEC;
		record->last_seen_at = now;
		alert_changes_record(changes, record);

		state = palloc0(sizeof(AlertStateChange));
		state->drone_id = record->drone_id;
		state->row.watch_id = watch->id;
		state->row.since = record->opened_at;
		state->row.open = true;
		state->row.alert_id = record->alert_id;
		alert_changes_state(changes, state);
	}
}

/*
 * Count the new states in the drones' rows, which are locked already.
 */
static void
count_states(AlertChanges *changes)
{
	Datum	   *ids = palloc(sizeof(Datum) * changes->nstates);
	Oid			types[1] = {UUIDARRAYOID};
	Datum		args[1];
	int			n = 0;

	for (AlertStateChange *state = changes->first_state; state != NULL; state = state->next)
		ids[n++] = UUIDPGetDatum(&state->drone_id);
	args[0] = sql_array(ids, NULL, n, UUIDOID);
	(void) sql_query("UPDATE telemetry.drone_latest l SET alert_states = l.alert_states + n.states"
					 " FROM (SELECT u.drone_id, count(*)::integer AS states FROM unnest($1) AS u (drone_id)"
					 " GROUP BY u.drone_id) n"
					 " WHERE l.drone_id = n.drone_id",
					 1, types, args);
}

/*
 * Drones with alerts whose rule is gone, if it is time to look for them; returns
 * how many.
 */
static int
find_leftovers(const AlertRules *rules, TimestampTz now, bool at_once, pg_uuid_t **drones)
{
	static uint64 generation = 0;
	static TimestampTz looked_at = 0;

	*drones = NULL;
	if (!at_once && generation == rules->generation && looked_at <= now &&
		!TimestampDifferenceExceeds(looked_at, now, LEFTOVER_PAUSE_MS))
		return 0;
	generation = rules->generation;
	looked_at = now;
	return alert_find_leftovers(drones);
}

/*
 * The scheduler's watch, made anew when it is stale or the check before failed.
 */
static SilenceWatch *
scheduler_watch(const AlertRules *rules, bool failed, TimestampTz now)
{
	int64		check_us = alert_check_interval * USECS_PER_SEC;

	if (scheduler_silence != NULL &&
		(failed || silence_watch_is_stale(scheduler_silence, rules, check_us, now)))
	{
		silence_watch_free(scheduler_silence);
		scheduler_silence = NULL;
	}
	if (scheduler_silence == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		scheduler_silence = silence_watch_create(rules, check_us, now);
		MemoryContextSwitchTo(old);
	}
	return scheduler_silence;
}

/*
 * A silent drone whose status has changed may be flying now.
 */
static void
forget_changed(SilenceWatch *watch, TimestampTz now)
{
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		args[1] = {TimestampTzGetDatum(now - alert_check_interval * USECS_PER_SEC - STATUS_SLACK_US)};
	uint64		n;
	bool		isnull;

	if (!silence_watch_has_told(watch))
		return;
	n = sql_query("SELECT DISTINCT h.drone_id FROM core.drone_status_history h WHERE h.changed_at > $1", 1, types, args);
	for (uint64 row = 0; row < n; row++)
		silence_watch_forget(watch, DatumGetUUIDP(sql_value(row, 0, &isnull)));
}

/*
 * The drones that have to be looked at; returns how many alerts were opened.
 */
static int
check_drones(bool by_scheduler)
{
	TimestampTz now = GetCurrentTimestamp();
	const AlertRules *rules = alert_rules_get();
	bool		failed = scheduler_checking;
	pg_uuid_t  *leftover;
	pg_uuid_t  *silent = NULL;
	int			nleftover = find_leftovers(rules, now, !by_scheduler || failed, &leftover);
	int			nsilent = 0;
	SilenceWatch *watch = NULL;
	pg_uuid_t  *all;
	int			nlocked;
	AlertChanges changes;

	scheduler_checking = by_scheduler;
	if (rules->first_link < rules->nwatches)
	{
		if (by_scheduler)
		{
			watch = scheduler_watch(rules, failed, now);
			forget_changed(watch, now);
		}
		else
			watch = silence_watch_create(rules, 0, now);
		nsilent = find_silent(watch, now, &silent);
	}
	if (nleftover + nsilent == 0)
		return 0;

	/* All of them at once, for the order. */
	all = palloc(sizeof(pg_uuid_t) * (nleftover + nsilent));
	if (nleftover > 0)
		memcpy(all, leftover, sizeof(pg_uuid_t) * nleftover);
	if (nsilent > 0)
		memcpy(all + nleftover, silent, sizeof(pg_uuid_t) * nsilent);
	nlocked = lock_drones(all, nleftover + nsilent, !by_scheduler);
	nleftover = keep_locked(leftover, nleftover, all, nlocked, NULL);
	nsilent = keep_locked(silent, nsilent, all, nlocked, watch);

	if (nleftover > 0)
		alert_clear_leftovers(drone_array(leftover, nleftover), now, !by_scheduler);
	alert_changes_init(&changes);
	if (nsilent > 0)
		open_alerts(rules, silent, nsilent, &changes, now);
	if (changes.nstates > 0)
		count_states(&changes);
	alert_changes_apply(&changes);
	return changes.nrecords;
}

/*
 * Open alerts for drones that have gone silent; returns how many.  The scheduler
 * does nothing while another session is at it.
 */
static int
check(bool by_scheduler)
{
	Oid			schema = get_namespace_oid("telemetry", true);
	Oid			relid = OidIsValid(schema) ? get_relname_relid("alert_states", schema) : InvalidOid;
	int			opened = 0;
	Relation	rel;

	if (!OidIsValid(relid))
		return 0;
	if (!by_scheduler)
		LockRelationOid(relid, ShareUpdateExclusiveLock);
	else if (!ConditionalLockRelationOid(relid, ShareUpdateExclusiveLock))
		return 0;
	rel = try_table_open(relid, NoLock);
	if (rel == NULL)
		return 0;
	if (!is_being_restored(rel))
	{
		SqlScope	scope = sql_begin(0);

		opened = check_drones(by_scheduler);
		sql_end(&scope);
	}
	table_close(rel, NoLock);
	return opened;
}

/* The scheduler's job. */
static void
run_job(bool requested)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	sql_commit_locally();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (sql_hold_extension())
		(void) check(true);
	PopActiveSnapshot();
	CommitTransactionCommand();
	scheduler_checking = false;
}

/*
 * telemetry.check_link_loss()
 */
Datum
telemetry_check_link_loss(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("telemetry.check_link_loss()");
	PreventCommandDuringRecovery("telemetry.check_link_loss()");
	PG_RETURN_INT32(check(false));
}
