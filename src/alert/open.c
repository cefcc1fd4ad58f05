/*
 * open.c
 *		Writes what an evaluation changed: rows of telemetry.real_time_alerts,
 *		drone_events and alert_states, and one notification a transaction.
 *
 * Called at the end of an ingest call, in its subtransaction, when the rows of
 * drone_latest of all drones concerned have been changed and so are locked until
 * the transaction ends.  The alerts and states of a drone are changed by nobody
 * else then, but for an acknowledgement.  Rows are written in the order in which
 * the drones were evaluated, by drone_id.  Writes as the owner of the tables:
 * past the executor (direct.c) while these are as the extension made them, else
 * by the statements here, which do the same.
 *
 * The statements see what is committed by now, whatever the isolation level, as
 * ingest does: the drone's lock is what orders the sessions.
 *
 * The notification has no payload: the server sends equal ones of a transaction
 * once.  Listeners read the open alerts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "alert/batch.h"
#include "alert/direct.h"
#include "base/sql.h"
#include "errors.h"

#define NOTIFY_CHANNEL	"telemetry_alerts"

/* Rows that one statement writes. */
#define SLICE			1000

typedef enum Statement
{
	UPDATE_ALERTS,
	INSERT_ALERTS,
	INSERT_FLAPPING,
	DELETE_STATES,
	WRITE_STATES,
	STATEMENTS,
} Statement;

#define MAX_ARGS		11

static const struct
{
	const char *text;
	int			nargs;
	Oid			elements[MAX_ARGS];
}			statements[STATEMENTS] = {
	[UPDATE_ALERTS] = {
		"WITH changed AS ("
		"UPDATE telemetry.real_time_alerts a"
		" SET last_value = coalesce(n.last_value, a.last_value),"
		" last_seen_at = coalesce(n.last_seen_at, a.last_seen_at),"
		" cleared_at = CASE WHEN n.cleared_at IS NOT NULL THEN greatest(n.cleared_at, a.opened_at) END"
		" FROM unnest($1, $2, $3, $4) AS n (alert_id, last_value, last_seen_at, cleared_at)"
		" WHERE a.alert_id = n.alert_id AND a.cleared_at IS NULL RETURNING a.*)"
		" INSERT INTO telemetry.drone_events (drone_id, occurred_at, event_type, severity, message, payload, source)"
		" SELECT c.drone_id, c.cleared_at, 'alert_cleared', 'info', c.message,"
		" jsonb_build_object('alert_id', c.alert_id), 'alert'"
		" FROM changed c WHERE c.cleared_at IS NOT NULL ON CONFLICT DO NOTHING",
		4, {UUIDOID, FLOAT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	},
	/* A rule may have gone since it was compiled. */
	[INSERT_ALERTS] = {
		"WITH opened AS ("
		"INSERT INTO telemetry.real_time_alerts (alert_id, drone_id, rule_id, fence_id, alert_type, severity, message,"
		" opened_at, opened_value, last_value, last_seen_at, cleared_at)"
		" SELECT n.alert_id, n.drone_id,"
		" CASE WHEN n.alert_type <> 'geofence' THEN"
		" (SELECT r.rule_id FROM telemetry.alert_rules r WHERE r.rule_id = n.watch_id FOR KEY SHARE) END,"
		" CASE WHEN n.alert_type = 'geofence' THEN"
		" (SELECT f.fence_id FROM telemetry.geofences f WHERE f.fence_id = n.watch_id FOR KEY SHARE) END,"
		" n.alert_type, n.severity, n.message, n.opened_at, n.opened_value, n.last_value, n.last_seen_at, n.cleared_at"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS n (alert_id, drone_id, watch_id, alert_type,"
		" severity, message, opened_at, opened_value, last_value, last_seen_at, cleared_at)"
		" RETURNING *)"
		" INSERT INTO telemetry.drone_events (drone_id, occurred_at, event_type, severity, message, payload, source)"
		" SELECT o.drone_id, o.opened_at, 'alert_opened', o.severity, o.message,"
		" jsonb_build_object('alert_id', o.alert_id), 'alert' FROM opened o"
		" UNION ALL"
		" SELECT o.drone_id, o.cleared_at, 'alert_cleared', 'info', o.message,"
		" jsonb_build_object('alert_id', o.alert_id), 'alert' FROM opened o WHERE o.cleared_at IS NOT NULL"
		" ON CONFLICT DO NOTHING",
		11, {UUIDOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, FLOAT8OID, FLOAT8OID,
		TIMESTAMPTZOID, TIMESTAMPTZOID},
	},
	[INSERT_FLAPPING] = {
		"INSERT INTO telemetry.drone_events (drone_id, occurred_at, event_type, severity, message, payload, source)"
		" SELECT n.drone_id, n.until, 'alert_flapping', n.severity, n.message,"
		" jsonb_build_object('count', n.flaps, 'since', n.since), 'alert'"
		" FROM unnest($1, $2, $3, $4, $5, $6) AS n (drone_id, until, severity, message, flaps, since)"
		" ON CONFLICT DO NOTHING",
		6, {UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, FLOAT8OID, TIMESTAMPTZOID},
	},
	[DELETE_STATES] = {
		"DELETE FROM telemetry.alert_states s USING unnest($1, $2) AS n (drone_id, watch_id)"
		" WHERE s.drone_id = n.drone_id AND s.watch_id = n.watch_id",
		2, {UUIDOID, UUIDOID},
	},
	[WRITE_STATES] = {
		"INSERT INTO telemetry.alert_states (drone_id, watch_id, since, alert_id)"
		" SELECT n.drone_id, n.watch_id, n.since, n.alert_id"
		" FROM unnest($1, $2, $3, $4) AS n (drone_id, watch_id, since, alert_id)"
		" ON CONFLICT (drone_id, watch_id) DO UPDATE SET since = excluded.since, alert_id = excluded.alert_id",
		4, {UUIDOID, UUIDOID, TIMESTAMPTZOID, UUIDOID},
	},
};

/* The arguments of a statement, column by column. */
typedef struct Slice
{
	int			n;
	Datum		values[MAX_ARGS][SLICE];
	bool		nulls[MAX_ARGS][SLICE];
} Slice;

static SPIPlanPtr plans[STATEMENTS];

void
alert_changes_init(AlertChanges *changes)
{
	memset(changes, 0, sizeof(AlertChanges));
	changes->last_record = &changes->first_record;
	changes->last_state = &changes->first_state;
}

void
alert_changes_record(AlertChanges *changes, AlertRecord *record)
{
	record->next = NULL;
	*changes->last_record = record;
	changes->last_record = &record->next;
	changes->nrecords++;
}

void
alert_changes_state(AlertChanges *changes, AlertStateChange *state)
{
	state->next = NULL;
	*changes->last_state = state;
	changes->last_state = &state->next;
	changes->nstates++;
}

pg_uuid_t
alert_new_id(void)
{
	pg_uuid_t	id;

	if (!pg_strong_random(id.data, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	id.data[6] = (id.data[6] & 0x0f) | 0x40;	/* version 4 */
	id.data[8] = (id.data[8] & 0x3f) | 0x80;
	return id;
}

/*
 * Run a statement on the rows of the slice, and empty it.
 */
static void
run(Statement which, Slice *slice)
{
	int			nargs = statements[which].nargs;
	Datum		args[MAX_ARGS];
	Snapshot	snapshot;
	int			result;

	if (slice->n == 0)
		return;
	if (plans[which] == NULL)
	{
		Oid			types[MAX_ARGS];
		SPIPlanPtr	plan;

		for (int i = 0; i < nargs; i++)
		{
			Oid			element = statements[which].elements[i];

			types[i] = element == UUIDOID ? UUIDARRAYOID : element == TEXTOID ? TEXTARRAYOID :
				element == FLOAT8OID ? FLOAT8ARRAYOID : TIMESTAMPTZARRAYOID;
		}
		plan = SPI_prepare(statements[which].text, nargs, types);
		if (plan == NULL)
			elog(ERROR, "could not prepare a statement of alerts: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		plans[which] = plan;
	}
	for (int i = 0; i < nargs; i++)
		args[i] = sql_array(slice->values[i], slice->nulls[i], slice->n, statements[which].elements[i]);

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	result = SPI_execute_snapshot(plans[which], args, NULL, snapshot, InvalidSnapshot, false, true, 0);
	if (result < 0)
		elog(ERROR, "SPI returned %d for a statement of alerts", result);
	UnregisterSnapshot(snapshot);
	SPI_freetuptable(SPI_tuptable);
	slice->n = 0;
}

static void
put(Slice *slice, int column, Datum value, bool isnull)
{
	slice->values[column][slice->n] = value;
	slice->nulls[column][slice->n] = isnull;
}

static void
put_update(Slice *slice, AlertRecord *record)
{
	put(slice, 0, UUIDPGetDatum(&record->alert_id), false);
	put(slice, 1, Float8GetDatum(record->last_value), !record->seen || !record->has_value);
	put(slice, 2, TimestampTzGetDatum(record->last_seen_at), !record->seen);
	put(slice, 3, TimestampTzGetDatum(record->cleared_at), !record->cleared);
	slice->n++;
}

const char *
alert_kind_name(AlertKind kind)
{
	static const char *const names[] = {
		[ALERT_RULE] = "rule",
		[ALERT_GEOFENCE] = "geofence",
		[ALERT_LINK_LOSS] = "link_loss",
	};

	return names[kind];
}

static void
put_insert(Slice *slice, AlertRecord *record)
{
	put(slice, 0, UUIDPGetDatum(&record->alert_id), false);
	put(slice, 1, UUIDPGetDatum(&record->drone_id), false);
	put(slice, 2, UUIDPGetDatum(&record->watch->id), false);
	put(slice, 3, CStringGetTextDatum(alert_kind_name(record->watch->kind)), false);
	put(slice, 4, CStringGetTextDatum(record->watch->severity), false);
	put(slice, 5, CStringGetTextDatum(record->message), false);
	put(slice, 6, TimestampTzGetDatum(record->opened_at), false);
	put(slice, 7, Float8GetDatum(record->opened_value), !record->has_value);
	put(slice, 8, Float8GetDatum(record->last_value), !record->has_value);
	put(slice, 9, TimestampTzGetDatum(record->last_seen_at), false);
	put(slice, 10, TimestampTzGetDatum(record->cleared_at), !record->cleared);
	slice->n++;
}

static void
put_state(Slice *slice, AlertStateChange *state)
{
	put(slice, 0, UUIDPGetDatum(&state->drone_id), false);
	put(slice, 1, UUIDPGetDatum(&state->row.watch_id), false);
	if (!state->deleted)
	{
		put(slice, 2, TimestampTzGetDatum(state->row.since), false);
		put(slice, 3, UUIDPGetDatum(&state->row.alert_id), !state->row.open);
	}
	slice->n++;
}

/*
 * Write the alerts that are new, or those that are not.
 */
static bool
write_alerts(Statement which, AlertChanges *changes, Slice *slice)
{
	bool		any = false;

	for (AlertRecord *record = changes->first_record; record != NULL; record = record->next)
	{
		if (record->unused || record->is_new != (which == INSERT_ALERTS))
			continue;
		any = true;
		if (which == INSERT_ALERTS)
			put_insert(slice, record);
		else
			put_update(slice, record);
		if (slice->n == SLICE)
			run(which, slice);
	}
	run(which, slice);
	return any;
}

static void
write_flapping(AlertChanges *changes, Slice *slice)
{
	for (AlertFlapping *flapping = changes->flapping; flapping != NULL; flapping = flapping->next)
	{
		put(slice, 0, UUIDPGetDatum(&flapping->drone_id), false);
		put(slice, 1, TimestampTzGetDatum(flapping->until), false);
		put(slice, 2, CStringGetTextDatum(flapping->watch->severity), false);
		put(slice, 3, CStringGetTextDatum(psprintf("%s: opened and cleared " INT64_FORMAT " more times",
												   flapping->watch->name, flapping->count)), false);
		put(slice, 4, Float8GetDatum((double) flapping->count), false);
		put(slice, 5, TimestampTzGetDatum(flapping->since), false);
		if (++slice->n == SLICE)
			run(INSERT_FLAPPING, slice);
	}
	run(INSERT_FLAPPING, slice);
}

static void
write_states(Statement which, AlertChanges *changes, Slice *slice)
{
	for (AlertStateChange *state = changes->first_state; state != NULL; state = state->next)
	{
		if (state->deleted != (which == DELETE_STATES))
			continue;
		put_state(slice, state);
		if (slice->n == SLICE)
			run(which, slice);
	}
	run(which, slice);
}

/*
 * Write the changes by SQL.  What clears comes before what opens: a drone has
 * one open alert of a rule.
 */
static bool
write_by_sql(AlertChanges *changes, Slice *slice)
{
	bool		opened;

	write_alerts(UPDATE_ALERTS, changes, slice);
	opened = write_alerts(INSERT_ALERTS, changes, slice);
	write_states(DELETE_STATES, changes, slice);
	write_states(WRITE_STATES, changes, slice);
	return opened;
}

/*
 * Write the changes.
 */
void
alert_changes_apply(AlertChanges *changes)
{
	SqlScope	scope;
	Slice	   *slice;
	bool		direct;
	bool		opened;

	if (changes->nrecords == 0 && changes->nstates == 0)
		return;

	scope = sql_begin(0);
	direct = alert_write_direct(changes, &opened);
	if (!direct || changes->flapping != NULL)
	{
		/*
		 * The statements are planned once, perhaps when the tables are empty, and
		 * must stay fast when they have grown: by key, row by row.
		 */
		sql_set_local("plan_cache_mode", "force_generic_plan");
		sql_set_local("enable_seqscan", "off");
		sql_set_local("enable_hashjoin", "off");
		sql_set_local("enable_mergejoin", "off");
		slice = palloc(sizeof(Slice));
		slice->n = 0;
		if (!direct)
			opened = write_by_sql(changes, slice);
		write_flapping(changes, slice);
	}
	sql_end(&scope);

	if (opened)
		Async_Notify(NOTIFY_CHANNEL, "");
}
