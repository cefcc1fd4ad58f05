/*
 * silence.h
 *		Which drones may have gone silent since they were last asked for.
 */
#ifndef SENTIENT_SILENCE_H
#define SENTIENT_SILENCE_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "alert/rules.h"

typedef struct SilenceWatch SilenceWatch;

/*
 * Start to watch, for the link-loss rules, of which there is one at least.  It
 * is asked every check_us, or only once when that is 0.  Lives in the current
 * context.
 */
extern SilenceWatch *silence_watch_create(const AlertRules *rules, int64 check_us, TimestampTz now);

/* Is it time to start anew: are the rules others, has the clock gone back, is it too long ago? */
extern bool silence_watch_is_stale(const SilenceWatch *watch, const AlertRules *rules, int64 check_us, TimestampTz now);

/*
 * Drones whose newest sample has become older than the threshold of a rule;
 * returns how many, *drones is palloc'd.  Each is told once for a sample and a
 * threshold.  Inside a transaction.
 */
extern int	silence_watch_look(SilenceWatch *watch, TimestampTz now, pg_uuid_t **drones);

/* Were drones told that may be told again? */
extern bool silence_watch_has_told(const SilenceWatch *watch);

/* Forget that the drone was told. */
extern void silence_watch_forget(SilenceWatch *watch, const pg_uuid_t *drone_id);

extern void silence_watch_free(SilenceWatch *watch);

#endif							/* SENTIENT_SILENCE_H */
