/*
 * evaluate.c
 *		The state machine of alerts: one drone's new samples, in order of time.
 *
 * Called by the ingest functions and the statement trigger, see alert.h.  A
 * drone and a watch (a rule, a geofence) are in one of three states:
 *
 *	quiet		no row in telemetry.alert_states
 *	crossed		the limit is crossed, but not yet for hold_for
 *	open		an alert is open
 *
 * A sample that breaks the limit leads from quiet to crossed, and on to open as
 * soon as it lies hold_for after the first one, by the samples' own times.  A
 * sample that does not break it leads from crossed to quiet.  Only one that is
 * on the right side of clear_threshold as well leads from open to quiet.  A
 * sample without the metric says nothing.  An alert whose watch is gone,
 * disabled or does not apply to the drone any more is cleared by the drone's
 * next sample.
 *
 * Nothing is written here: open.c does that once the drone's row of
 * drone_latest, which guards its states, is locked.
 */
#include "postgres.h"

#include "common/shortest_dec.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "alert/batch.h"
#include "errors.h"

/* A watch that is not quiet, or was not when the drone was begun. */
typedef struct Tracked
{
	AlertStateRow row;
	const AlertWatch *watch;	/* NULL when it is gone */
	bool		active;			/* has a state now */
	bool		stored;			/* has a row in the table */
	bool		changed;		/* the row has to be written */
	AlertRecord *record;		/* of the open alert, once it changes */
	AlertRecord *spare;			/* a record to use again */
	int			nclosed;		/* alerts that this call opened and cleared */
	AlertFlapping flapping;		/* of these, what is not written */
} Tracked;

/*
 * Alerts of a drone and a watch that one call opens and clears again: so many
 * are written, the rest is one event.  They are history already, and a long log
 * that flaps must not cost more than its samples.
 */
#define MAX_CLOSED		10

struct AlertBatch
{
	MemoryContext context;
	const AlertRules *rules;
	TimestampTz now;
	AlertStateTable *table;		/* opened when it is needed */
	int		   *tracked_at;		/* by watch: its place in tracked, or -1 */
	AlertChanges kept;

	/* the drone under evaluation */
	pg_uuid_t	drone_id;
	int			ntracked;
	int			allocated;
	Tracked    *tracked;
	AlertChanges changes;		/* its records; states follow at the end */
};

/* What a sample says of a limit. */
typedef enum Verdict
{
	SAYS_NOTHING,
	BREAKS,
	BETWEEN,					/* neither breaks nor clears */
	CLEARS,
} Verdict;

static int	metric_latitude = -1;
static int	metric_longitude;
static int	metric_altitude;

static void
find_metrics(void)
{
	if (metric_latitude >= 0)
		return;
	metric_longitude = alert_metric_by_name("longitude");
	metric_altitude = alert_metric_by_name("altitude_m");
	metric_latitude = alert_metric_by_name("latitude");
}

static inline bool
has_position(const AlertSample *sample)
{
	uint32		both = ALERT_BIT(metric_latitude) | ALERT_BIT(metric_longitude);

	return (sample->present & both) == both;
}

/*
 * Is the sample's place inside the fence's volume?  It says nothing when that
 * depends on an altitude that it does not tell.
 */
static Verdict
judge_fence(const AlertWatch *watch, const AlertSample *sample)
{
	bool		inside;

	if (sample->recorded_at < watch->valid_from || sample->recorded_at >= watch->valid_until)
		return CLEARS;
	if (!has_position(sample))
		return SAYS_NOTHING;
	inside = geofence_contains(watch->fence, sample->values[metric_longitude], sample->values[metric_latitude]);
	if (inside && (watch->floor_m > -get_float8_infinity() || watch->ceiling_m < get_float8_infinity()))
	{
		double		altitude = sample->values[metric_altitude];

		if ((sample->present & ALERT_BIT(metric_altitude)) == 0)
			return SAYS_NOTHING;
		inside = altitude >= watch->floor_m && altitude <= watch->ceiling_m;
	}
	return inside == watch->inclusion ? CLEARS : BREAKS;
}

static Verdict
judge(const AlertBatch *batch, const AlertWatch *watch, const AlertSample *sample)
{
	double		value;

	switch (watch->kind)
	{
		case ALERT_GEOFENCE:
			return judge_fence(watch, sample);
		case ALERT_LINK_LOSS:
			/* Data that the drone had buffered does not say that the link is back. */
			return batch->now - sample->recorded_at <= watch->threshold * USECS_PER_SEC ? CLEARS : SAYS_NOTHING;
		case ALERT_RULE:
			break;
	}
	if ((sample->present & ALERT_BIT(watch->metric)) == 0)
		return SAYS_NOTHING;
	value = sample->values[watch->metric];
	if (alert_compare(watch->comparison, value, watch->threshold))
		return BREAKS;
	if (alert_compare(watch->comparison, value, watch->clear_threshold))
		return BETWEEN;
	return CLEARS;
}

/*
 * Is the sample, which has a position, inside an exclusion area?
 */
static bool
breaks_exclusion(const AlertRules *rules, const AlertSample *sample, double longitude, double latitude)
{
	for (int i = 0; i < rules->nboxes; i++)
	{
		const AlertBox *box = &rules->boxes[i];

		if (latitude < box->south)
			break;
		if (latitude <= box->north && longitude >= box->west && longitude <= box->east &&
			judge_fence(&rules->watches[box->watch], sample) == BREAKS)
			return true;
	}
	return false;
}

/*
 * False when the sample may break a rule or a geofence.
 */
bool
alert_is_quiet(const AlertRules *rules, const AlertSample *sample)
{
	for (int i = 0; i < rules->nbands; i++)
	{
		const AlertBand *band = &rules->bands[i];

		if ((sample->present & ALERT_BIT(band->metric)) != 0 &&
			(sample->values[band->metric] <= band->below || sample->values[band->metric] >= band->above))
			return false;
	}
	for (int i = 0; i < rules->nexact; i++)
	{
		const AlertWatch *watch = &rules->watches[rules->exact[i]];

		if ((sample->present & ALERT_BIT(watch->metric)) != 0 &&
			alert_compare(watch->comparison, sample->values[watch->metric], watch->threshold))
			return false;
	}
	if (rules->first_link > rules->first_fence)
	{
		double		latitude;
		double		longitude;

		find_metrics();
		if (!has_position(sample))
			return true;
		latitude = sample->values[metric_latitude];
		longitude = sample->values[metric_longitude];
		if (alert_grid_hit(&rules->grid, longitude, latitude) && breaks_exclusion(rules, sample, longitude, latitude))
			return false;
		se_assert(!breaks_exclusion(rules, sample, longitude, latitude));
		for (int i = 0; i < rules->ninclusions; i++)
		{
			if (judge_fence(&rules->watches[rules->inclusions[i]], sample) == BREAKS)
				return false;
		}
	}
	return true;
}

/*
 * Start a call's evaluation.
 */
AlertBatch *
alert_begin(const AlertRules *rules)
{
	AlertBatch *batch = palloc0(sizeof(AlertBatch));

	find_metrics();
	batch->context = CurrentMemoryContext;
	batch->rules = rules;
	batch->now = GetCurrentTimestamp();
	batch->tracked_at = palloc(sizeof(int) * Max(rules->nwatches, 1));
	for (int i = 0; i < rules->nwatches; i++)
		batch->tracked_at[i] = -1;
	alert_changes_init(&batch->kept);
	return batch;
}

static Tracked *
track(AlertBatch *batch, const AlertWatch *watch)
{
	Tracked    *tracked;

	if (batch->ntracked == batch->allocated)
	{
		batch->allocated = Max(8, batch->allocated * 2);
		batch->tracked = batch->tracked == NULL ?
			MemoryContextAlloc(batch->context, sizeof(Tracked) * batch->allocated) :
			repalloc(batch->tracked, sizeof(Tracked) * batch->allocated);
	}
	tracked = &batch->tracked[batch->ntracked];
	memset(tracked, 0, sizeof(Tracked));
	tracked->watch = watch;
	if (watch != NULL)
	{
		tracked->row.watch_id = watch->id;
		batch->tracked_at[watch - batch->rules->watches] = batch->ntracked;
	}
	batch->ntracked++;
	return tracked;
}

static const AlertWatch *
find_watch(const AlertRules *rules, const pg_uuid_t *id)
{
	for (int i = 0; i < rules->nwatches; i++)
	{
		if (memcmp(&rules->watches[i].id, id, UUID_LEN) == 0)
			return &rules->watches[i];
	}
	return NULL;
}

/*
 * Begin a drone.
 */
void
alert_drone_begin(AlertBatch *batch, const pg_uuid_t *drone_id, bool has_states)
{
	for (int i = 0; i < batch->ntracked; i++)
	{
		if (batch->tracked[i].watch != NULL)
			batch->tracked_at[batch->tracked[i].watch - batch->rules->watches] = -1;
	}
	batch->drone_id = *drone_id;
	batch->ntracked = 0;
	alert_changes_init(&batch->changes);

	if (has_states)
	{
		MemoryContext old = MemoryContextSwitchTo(batch->context);
		AlertStateRow *rows;
		int			n;

		if (batch->table == NULL)
			batch->table = alert_state_open();
		n = alert_state_read(batch->table, drone_id, &rows);
		for (int i = 0; i < n; i++)
		{
			const AlertWatch *watch = find_watch(batch->rules, &rows[i].watch_id);
			Tracked    *tracked;

			if (watch != NULL && !alert_watch_applies(batch->rules, watch, drone_id))
				watch = NULL;
			tracked = track(batch, watch);
			tracked->row = rows[i];
			tracked->active = tracked->stored = true;
		}
		pfree(rows);
		MemoryContextSwitchTo(old);
	}
}

/* The alert's name, and what is wrong. */
static char *
describe(const AlertWatch *watch, double value)
{
	if (watch->kind == ALERT_GEOFENCE)
		return psprintf("%s: %s", watch->name,
						watch->inclusion ? "outside the inclusion area" : "inside the exclusion area");
	return psprintf("%s: %s %g %s %g", watch->name, alert_metric(watch->metric)->name, value,
					alert_comparison_name(watch->comparison), watch->threshold);
}

/*
 * The value as it is kept in an alert: a real as its shortest decimal reads.
 */
static double
value_of(const AlertWatch *watch, const AlertSample *sample)
{
	char		digits[FLOAT_SHORTEST_DECIMAL_LEN];

	if (watch->kind != ALERT_RULE)
		return 0;
	if (!alert_metric(watch->metric)->is_real)
		return sample->values[watch->metric];
	float_to_shortest_decimal_buf((float4) sample->values[watch->metric], digits);
	return strtod(digits, NULL);
}

/*
 * The record of the tracked open alert, made at its first change.
 */
static AlertRecord *
record_of(AlertBatch *batch, Tracked *tracked)
{
	if (tracked->record == NULL)
	{
		AlertRecord *record = tracked->spare;

		if (record != NULL)
		{
			AlertRecord *next = record->next;

			memset(record, 0, sizeof(AlertRecord));
			record->next = next;	/* it stands in the list already */
			tracked->spare = NULL;
		}
		else
		{
			record = MemoryContextAllocZero(batch->context, sizeof(AlertRecord));
			alert_changes_record(&batch->changes, record);
		}
		record->drone_id = batch->drone_id;
		record->alert_id = tracked->row.alert_id;
		record->watch = tracked->watch;
		record->has_value = tracked->watch != NULL && tracked->watch->kind == ALERT_RULE;
		tracked->record = record;
	}
	return tracked->record;
}

static void
see(AlertBatch *batch, Tracked *tracked, const AlertSample *sample)
{
	AlertRecord *record = record_of(batch, tracked);

	record->seen = true;
	record->last_value = value_of(tracked->watch, sample);
	record->last_seen_at = sample->recorded_at;
}

static void
open_alert(AlertBatch *batch, Tracked *tracked, const AlertSample *sample)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	AlertRecord *record;

	tracked->row.open = true;
	tracked->row.since = sample->recorded_at;
	tracked->row.alert_id = alert_new_id();
	tracked->changed = true;
	tracked->record = NULL;
	record = record_of(batch, tracked);
	record->is_new = true;
	record->opened_at = sample->recorded_at;
	record->opened_value = value_of(tracked->watch, sample);
	record->message = describe(tracked->watch, record->opened_value);
	MemoryContextSwitchTo(old);
	see(batch, tracked, sample);
}

static void
clear_alert(AlertBatch *batch, Tracked *tracked, TimestampTz at)
{
	AlertRecord *record = record_of(batch, tracked);

	record->cleared = true;
	record->cleared_at = Max(at, tracked->row.since);
	tracked->record = NULL;
	if (!record->is_new || ++tracked->nclosed <= MAX_CLOSED)
		return;

	if (tracked->flapping.count++ == 0)
		tracked->flapping.since = record->opened_at;
	tracked->flapping.until = record->cleared_at;
	pfree(record->message);
	record->unused = true;
	tracked->spare = record;
}

/*
 * One watch that has, or may get, a state.
 */
static void
step(AlertBatch *batch, Tracked *tracked, const AlertSample *sample)
{
	Verdict		verdict = tracked->watch != NULL ? judge(batch, tracked->watch, sample) : CLEARS;

	if (verdict == SAYS_NOTHING)
		return;
	if (tracked->active && tracked->row.open)
	{
		if (verdict == BREAKS)
			see(batch, tracked, sample);
		else if (verdict == CLEARS)
		{
			clear_alert(batch, tracked, sample->recorded_at);
			tracked->active = false;
			tracked->changed = true;
		}
		return;
	}
	if (verdict != BREAKS)
	{
		if (tracked->active)
		{
			tracked->active = false;
			tracked->changed = true;
		}
		return;
	}
	if (!tracked->active)
	{
		tracked->active = tracked->changed = true;
		tracked->row.open = false;
		tracked->row.since = sample->recorded_at;
	}
	if (sample->recorded_at - tracked->row.since >= tracked->watch->hold_us)
		open_alert(batch, tracked, sample);
}

/*
 * Evaluate the drone's next sample.
 */
void
alert_drone_sample(AlertBatch *batch, const AlertSample *sample)
{
	const AlertRules *rules = batch->rules;
	int			before = batch->ntracked;

	for (int i = 0; i < before; i++)
	{
		/* A watch that is gone has nothing to say once it is settled. */
		if (batch->tracked[i].active || batch->tracked[i].watch != NULL)
			step(batch, &batch->tracked[i], sample);
	}

	if (alert_is_quiet(rules, sample))
		return;
	for (int i = 0; i < rules->first_link; i++)
	{
		const AlertWatch *watch = &rules->watches[i];

		if (batch->tracked_at[i] < 0 && judge(batch, watch, sample) == BREAKS &&
			alert_watch_applies(rules, watch, &batch->drone_id))
			step(batch, track(batch, watch), sample);
	}
}

/*
 * End the drone; returns how many states it has now.
 */
int
alert_drone_end(AlertBatch *batch)
{
	int			active = 0;

	for (int i = 0; i < batch->ntracked; i++)
	{
		Tracked    *tracked = &batch->tracked[i];

		if (tracked->active)
			active++;
		if (tracked->flapping.count > 0)
		{
			AlertFlapping *flapping = MemoryContextAlloc(batch->context, sizeof(AlertFlapping));

			*flapping = tracked->flapping;
			flapping->drone_id = batch->drone_id;
			flapping->watch = tracked->watch;
			flapping->next = batch->changes.flapping;
			batch->changes.flapping = flapping;
		}
		if (tracked->changed && (tracked->active || tracked->stored))
		{
			AlertStateChange *change = MemoryContextAllocZero(batch->context, sizeof(AlertStateChange));

			change->drone_id = batch->drone_id;
			change->deleted = !tracked->active;
			change->row = tracked->row;
			alert_changes_state(&batch->changes, change);
		}
	}
	return active;
}

/*
 * Keep what the drone's evaluation changed.
 */
void
alert_drone_keep(AlertBatch *batch)
{
	AlertRecord *record = batch->changes.first_record;
	AlertStateChange *state = batch->changes.first_state;

	while (record != NULL)
	{
		AlertRecord *next = record->next;

		alert_changes_record(&batch->kept, record);
		record = next;
	}
	while (batch->changes.flapping != NULL)
	{
		AlertFlapping *flapping = batch->changes.flapping;

		batch->changes.flapping = flapping->next;
		flapping->next = batch->kept.flapping;
		batch->kept.flapping = flapping;
	}
	while (state != NULL)
	{
		AlertStateChange *next = state->next;

		alert_changes_state(&batch->kept, state);
		state = next;
	}
	alert_changes_init(&batch->changes);
}

/*
 * Write what was kept.
 */
void
alert_apply(AlertBatch *batch)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);

	if (batch->table != NULL)
		alert_state_close(batch->table);
	batch->table = NULL;
	alert_changes_apply(&batch->kept);
	MemoryContextSwitchTo(old);
}
