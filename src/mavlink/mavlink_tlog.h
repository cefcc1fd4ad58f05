/*
 * mavlink_tlog.h
 *		The stamps of ground stations' telemetry logs.
 */
#ifndef SENTIENT_MAVLINK_TLOG_H
#define SENTIENT_MAVLINK_TLOG_H

#include "mavlink_frame.h"

#define MAVLINK_STAMP_SIZE		8

/* The stamp at data, or MAVLINK_NO_TIME when no ground station can have meant it. */
extern int64_t mavlink_tlog_stamp(const uint8_t data[MAVLINK_STAMP_SIZE]);

/* Is a clock's reading, in microseconds since 1970, plausible? */
extern bool mavlink_time_is_plausible(uint64_t unix_us);

#endif							/* SENTIENT_MAVLINK_TLOG_H */
