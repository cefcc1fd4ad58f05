/*
 * leftover.h
 *		Alerts whose rule or geofence is in force no more.
 */
#ifndef SENTIENT_ALERT_LEFTOVER_H
#define SENTIENT_ALERT_LEFTOVER_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/*
 * Both inside an SQL scope, with ShareUpdateExclusiveLock on
 * telemetry.alert_states.
 */

/* Drones that have such alerts; returns how many, *drones is palloc'd. */
extern int	alert_find_leftovers(pg_uuid_t **drones);

/*
 * Clear those of an array of drones, whose rows of drone_latest are locked; either
 * wait for alerts that somebody else has locked, or leave them.
 */
extern void alert_clear_leftovers(Datum drones, TimestampTz now, bool wait);

#endif							/* SENTIENT_ALERT_LEFTOVER_H */
