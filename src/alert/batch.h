/*
 * batch.h
 *		What an evaluation changes, between evaluate.c, link_loss.c and open.c.
 */
#ifndef SENTIENT_ALERT_BATCH_H
#define SENTIENT_ALERT_BATCH_H

#include "alert/rules.h"
#include "alert/state.h"

/* A row of telemetry.real_time_alerts that is new or changes. */
typedef struct AlertRecord
{
	struct AlertRecord *next;
	pg_uuid_t	drone_id;
	pg_uuid_t	alert_id;
	const AlertWatch *watch;	/* NULL: gone; never so for a new alert */
	bool		is_new;
	bool		unused;			/* opened and cleared too often in this call: not written */
	TimestampTz opened_at;		/* of a new one */
	char	   *message;		/* of a new one */
	bool		has_value;		/* geofences have none */
	double		opened_value;	/* of a new one */
	bool		seen;			/* the limit was broken in this call: */
	double		last_value;
	TimestampTz last_seen_at;
	bool		cleared;
	TimestampTz cleared_at;
} AlertRecord;

/* A row of telemetry.alert_states that is written or deleted. */
typedef struct AlertStateChange
{
	struct AlertStateChange *next;
	pg_uuid_t	drone_id;
	bool		deleted;
	AlertStateRow row;
} AlertStateChange;

/* Alerts of a drone and a watch that one call opened and cleared, and did not write. */
typedef struct AlertFlapping
{
	struct AlertFlapping *next;
	pg_uuid_t	drone_id;
	const AlertWatch *watch;
	int64		count;
	TimestampTz since;			/* opened first */
	TimestampTz until;			/* cleared last */
} AlertFlapping;

typedef struct AlertChanges
{
	int			nrecords;
	AlertRecord *first_record;
	AlertRecord **last_record;	/* where the next one goes */
	int			nstates;
	AlertStateChange *first_state;
	AlertStateChange **last_state;
	AlertFlapping *flapping;	/* newest first */
} AlertChanges;

extern void alert_changes_init(AlertChanges *changes);
extern void alert_changes_record(AlertChanges *changes, AlertRecord *record);
extern void alert_changes_state(AlertChanges *changes, AlertStateChange *state);

/* Its name in real_time_alerts.alert_type. */
extern const char *alert_kind_name(AlertKind kind);

/* A new alert's id. */
extern pg_uuid_t alert_new_id(void);

/* Write the changes: alerts, events, states and the notification. */
extern void alert_changes_apply(AlertChanges *changes);

#endif							/* SENTIENT_ALERT_BATCH_H */
