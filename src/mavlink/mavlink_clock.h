/*
 * mavlink_clock.h
 *		The vehicle's time since boot, and its mapping to UTC.
 */
#ifndef SENTIENT_MAVLINK_CLOCK_H
#define SENTIENT_MAVLINK_CLOCK_H

#include "mavlink_frame.h"

/* Where the mapping of boot time to UTC comes from, best first. */
typedef enum MavlinkTimeSource
{
	MAVLINK_TIME_NONE,
	MAVLINK_TIME_STAMP,			/* the log's stamps */
	MAVLINK_TIME_SYSTEM,		/* the vehicle's SYSTEM_TIME */
	MAVLINK_TIME_CALLER,		/* the caller knows when the vehicle booted */
} MavlinkTimeSource;

typedef struct MavlinkClock
{
	bool		is_running;		/* a boot time has been seen */
	uint32_t	raw_ms;			/* the newest one as sent */
	int64_t		now_ms;			/* the same, counted on through wraps */
	MavlinkTimeSource source;
	int64_t		boot_us;		/* UTC of boot, unless source is NONE */
} MavlinkClock;

/*
 * Take note of a boot time.  Returns it counted on through wraps, or -1, with
 * the clock unchanged, when the vehicle has been booted again since.
 */
extern int64_t mavlink_clock_advance(MavlinkClock *clock, uint32_t boot_ms);

/* Learn the mapping from the vehicle's SYSTEM_TIME or from a log's stamp. */
extern void mavlink_clock_learn_system(MavlinkClock *clock, uint64_t unix_us, int64_t boot_ms);
extern void mavlink_clock_learn_stamp(MavlinkClock *clock, int64_t stamp_us, int64_t boot_ms);

/* UTC of a boot time, or MAVLINK_NO_TIME. */
extern int64_t mavlink_clock_utc(const MavlinkClock *clock, int64_t boot_ms);

#endif							/* SENTIENT_MAVLINK_CLOCK_H */
