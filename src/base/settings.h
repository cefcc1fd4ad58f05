/*
 * settings.h
 *		The rows of sentient_edge.settings, decoded and cached.
 */
#ifndef SENTIENT_SETTINGS_H
#define SENTIENT_SETTINGS_H

#include "datatype/timestamp.h"

typedef struct SentientSettings
{
	TimestampTz accept_from;	/* telemetry.accept_from: oldest recorded_at taken */
	int64		accept_ahead_us;	/* telemetry.accept_ahead: how far ahead of now */
	int64		mavlink_state_age_us;	/* telemetry.mavlink_state_age: oldest value a sample is made of */
} SentientSettings;

/*
 * The settings in force: committed changes of other sessions are seen from the
 * next transaction on, own changes at once.  The pointer is valid until the
 * next call.
 */
extern const SentientSettings *settings_get(void);

#endif							/* SENTIENT_SETTINGS_H */
