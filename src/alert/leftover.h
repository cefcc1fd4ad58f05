/*
 * leftover.h
 *		Alerts whose rule or geofence is in force no more.
 */
#ifndef SENTIENT_ALERT_LEFTOVER_H
#define SENTIENT_ALERT_LEFTOVER_H

#include "datatype/timestamp.h"

/*
 * Clear them.  Inside an SQL scope, with ShareUpdateExclusiveLock on
 * telemetry.alert_states.
 */
extern void alert_clear_leftovers(TimestampTz now);

#endif							/* SENTIENT_ALERT_LEFTOVER_H */
