/*
 * mavlink_tlog.c
 *		The stamps of ground stations' telemetry logs.
 *
 * A .tlog is a sequence of records: eight bytes, the ground station's clock in
 * microseconds since 1970, most significant byte first, then one frame.  There
 * is no header and no length, so that the stamp is also what tells a record
 * from garbage.
 *
 * Called by the reader and the sampler.  Pure functions of their arguments.
 */
#include "mavlink_tlog.h"

/* 2000-01-01 and 2100-01-01: before MAVLink, and after anything it can say now. */
#define PLAUSIBLE_FROM_US		UINT64_C(946684800000000)
#define PLAUSIBLE_TO_US			UINT64_C(4102444800000000)

bool
mavlink_time_is_plausible(uint64_t unix_us)
{
	return unix_us >= PLAUSIBLE_FROM_US && unix_us < PLAUSIBLE_TO_US;
}

int64_t
mavlink_tlog_stamp(const uint8_t data[MAVLINK_STAMP_SIZE])
{
	uint64_t	stamp = 0;

	for (int i = 0; i < MAVLINK_STAMP_SIZE; i++)
		stamp = stamp << 8 | data[i];
	return mavlink_time_is_plausible(stamp) ? (int64_t) stamp : MAVLINK_NO_TIME;
}
