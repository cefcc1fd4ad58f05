/*
 * mavlink_clock.c
 *		The vehicle's time since boot, and its mapping to UTC.
 *
 * Most messages say when they were taken in milliseconds since boot, a 32-bit
 * count that wraps after 49.7 days and begins anew at a reboot.  UTC is one
 * constant, the time of boot, plus that count.  The constant comes from, in
 * this order, the caller, the vehicle's SYSTEM_TIME, the log's stamps.
 *
 * It is kept until what it was learned from contradicts it by more than a
 * tolerance, not averaged or followed: so the distances between samples are
 * those that the vehicle measured, whatever the link delayed, and the same
 * input gives the same times however often it is imported.  Stamps are the last
 * resort for that reason: they tell when the ground station wrote a frame, with
 * the link's delays and the station's own clock error in them.
 *
 * Called by the sampler.  Pure functions of their arguments.
 */
#include "mavlink_clock.h"

#include "mavlink_tlog.h"

#define US_PER_MS				INT64_C(1000)

/* Messages that overtake each other on several links are not a reboot. */
#define LATE_MS					5000

/* The count wraps when it was this close to its end and is this close to 0. */
#define WRAP_MS					600000

/* More wraps than these are not a long flight but hostile bytes: a new boot. */
#define MAX_WRAPS				4

/* A mapping is learned anew when it is wrong by more. */
#define SYSTEM_TOLERANCE_US		INT64_C(1000000)
#define STAMP_TOLERANCE_US		INT64_C(10000000)

int64_t
mavlink_clock_advance(MavlinkClock *clock, uint32_t boot_ms)
{
	if (!clock->is_running)
	{
		clock->is_running = true;
		clock->raw_ms = boot_ms;
		clock->now_ms = boot_ms;
	}
	else if (boot_ms >= clock->raw_ms)
	{
		uint32_t	ahead = boot_ms - clock->raw_ms;

		/* A late message from before the wrap? */
		if (ahead > UINT32_MAX - LATE_MS && clock->now_ms > UINT32_MAX)
			return clock->now_ms + ahead - ((int64_t) UINT32_MAX + 1);
		clock->raw_ms = boot_ms;
		clock->now_ms += ahead;
	}
	else
	{
		uint32_t	behind = clock->raw_ms - boot_ms;

		if (behind <= LATE_MS)
			return clock->now_ms - behind;
		if (clock->raw_ms < UINT32_MAX - WRAP_MS || boot_ms > WRAP_MS ||
			clock->now_ms / UINT32_MAX >= MAX_WRAPS)
			return -1;
		clock->now_ms += (int64_t) UINT32_MAX + 1 - behind;
		clock->raw_ms = boot_ms;
	}
	return clock->now_ms;
}

/*
 * Learn that at that boot time it is utc_us, unless the mapping says so already.
 */
static void
clock_learn(MavlinkClock *clock, MavlinkTimeSource source, int64_t utc_us, int64_t boot_ms, int64_t tolerance_us)
{
	int64_t		boot_us = utc_us - boot_ms * US_PER_MS;
	int64_t		error = boot_us - clock->boot_us;

	if (clock->source > source)
		return;
	if (clock->source == source && error <= tolerance_us && error >= -tolerance_us)
		return;
	clock->source = source;
	clock->boot_us = boot_us;
}

void
mavlink_clock_learn_system(MavlinkClock *clock, uint64_t unix_us, int64_t boot_ms)
{
	if (mavlink_time_is_plausible(unix_us) && clock->source != MAVLINK_TIME_CALLER)
		clock_learn(clock, MAVLINK_TIME_SYSTEM, (int64_t) unix_us, boot_ms, SYSTEM_TOLERANCE_US);
}

void
mavlink_clock_learn_stamp(MavlinkClock *clock, int64_t stamp_us, int64_t boot_ms)
{
	if (stamp_us != MAVLINK_NO_TIME && clock->source <= MAVLINK_TIME_STAMP)
		clock_learn(clock, MAVLINK_TIME_STAMP, stamp_us, boot_ms, STAMP_TOLERANCE_US);
}

int64_t
mavlink_clock_utc(const MavlinkClock *clock, int64_t boot_ms)
{
	if (clock->source == MAVLINK_TIME_NONE)
		return MAVLINK_NO_TIME;
	return clock->boot_us + boot_ms * US_PER_MS;
}
