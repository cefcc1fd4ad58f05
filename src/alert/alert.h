/*
 * alert.h
 *		Alerts: rules and geofences, watched while samples are stored.
 *
 *		AlertBatch *batch = alert_begin();
 *		for each drone, in order of drone_id, under the lock of its drone_latest row:
 *			alert_drone_begin(batch, drone_id, has_states);
 *			for each sample newer than the drone's latest, in order of time:
 *				alert_drone_sample(batch, sample);
 *			drone_latest.alert_states = alert_drone_end(batch);
 *			alert_drone_keep(batch), once that row is written
 *		alert_apply(batch);
 *
 * A drone whose samples are all quiet, and which has no alert state, may be left
 * out.  What is evaluated and not kept changes nothing: the caller may begin the
 * same drone again.
 */
#ifndef SENTIENT_ALERT_H
#define SENTIENT_ALERT_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* A metric's number is below this; its bit in a mask of metrics. */
#define ALERT_METRICS			32
#define ALERT_BIT(metric)		((uint32) 1 << (metric))

/* A sample as the rules see it. */
typedef struct AlertSample
{
	TimestampTz recorded_at;
	uint32		present;		/* ALERT_BIT(metric): the value is not NULL */
	double		values[ALERT_METRICS];
} AlertSample;

/* What the caller's metrics are. */
typedef struct AlertMetric
{
	const char *name;			/* NULL: this number is no metric */
	bool		is_real;		/* its values have the precision of float4 */
} AlertMetric;

typedef struct AlertRules AlertRules;
typedef struct AlertBatch AlertBatch;

/* Start-up; metrics is by number and must stay, latitude, longitude and altitude_m are among them. */
extern void alert_init(const AlertMetric *metrics, int nmetrics);

/* The number of a metric, or -1. */
extern int	alert_metric_by_name(const char *name);
extern const AlertMetric *alert_metric(int metric);

/* The rules in force in this call. */
extern const AlertRules *alert_rules_get(void);

/* Which metrics have to be filled in a sample: bits of ALERT_BIT. */
extern uint32 alert_needed_metrics(const AlertRules *rules);

/* False when the sample may break a rule or a geofence; exact enough to be asked for every sample. */
extern bool alert_is_quiet(const AlertRules *rules, const AlertSample *sample);

/* Start a call's evaluation; everything is allocated in the current context. */
extern AlertBatch *alert_begin(const AlertRules *rules);

/*
 * Begin a drone.  With has_states its rows of telemetry.alert_states are read.
 * The caller has read the drone's row of drone_latest already, and locks that
 * version of it before alert_drone_keep: so the states are of that version, too.
 */
extern void alert_drone_begin(AlertBatch *batch, const pg_uuid_t *drone_id, bool has_states);
extern void alert_drone_sample(AlertBatch *batch, const AlertSample *sample);

/* How many states the drone has now. */
extern int	alert_drone_end(AlertBatch *batch);

/* Keep what the drone's evaluation changed, for alert_apply. */
extern void alert_drone_keep(AlertBatch *batch);

/* Write what was kept: alerts, events, states, and the notification. */
extern void alert_apply(AlertBatch *batch);

#endif							/* SENTIENT_ALERT_H */
