/*
 * mavlink_frame.h
 *		One MAVLink 1 or 2 frame in a buffer of hostile bytes.
 *
 * Nothing in this folder includes a PostgreSQL header, so that the decoder can
 * be fuzzed and timed by itself.
 */
#ifndef SENTIENT_MAVLINK_FRAME_H
#define SENTIENT_MAVLINK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAVLINK_MAGIC_1			0xFE
#define MAVLINK_MAGIC_2			0xFD
#define MAVLINK_MAX_PAYLOAD		255

/* A time that is not known; all others are microseconds since 1970 in UTC. */
#define MAVLINK_NO_TIME			INT64_MIN

/* The messages that are decoded. */
#define MAVLINK_HEARTBEAT				0
#define MAVLINK_SYS_STATUS				1
#define MAVLINK_SYSTEM_TIME				2
#define MAVLINK_GPS_RAW_INT				24
#define MAVLINK_SCALED_PRESSURE			29
#define MAVLINK_ATTITUDE				30
#define MAVLINK_ATTITUDE_QUATERNION		31
#define MAVLINK_LOCAL_POSITION_NED		32
#define MAVLINK_GLOBAL_POSITION_INT		33
#define MAVLINK_VFR_HUD					74
#define MAVLINK_RADIO_STATUS			109
#define MAVLINK_BATTERY_STATUS			147
#define MAVLINK_RADIO					166
#define MAVLINK_EXTENDED_SYS_STATE		245
#define MAVLINK_STATUSTEXT				253

typedef struct MavlinkFact
{
	uint32_t	id;
	uint8_t		crc_extra;
	uint8_t		min_length;		/* payload without extension fields */
	uint8_t		max_length;		/* payload with all of them */
	const char *name;
} MavlinkFact;

extern const MavlinkFact mavlink_facts[];
extern const int mavlink_nfacts;

extern const MavlinkFact *mavlink_fact(uint32_t id);

typedef struct MavlinkFrame
{
	const MavlinkFact *fact;	/* NULL: the frame could not be checked */
	const uint8_t *payload;
	size_t		size;			/* of the whole frame, signature included */
	int64_t		stamp_us;		/* of a log, or MAVLINK_NO_TIME */
	uint32_t	id;
	uint8_t		length;			/* of the payload as sent */
	uint8_t		version;		/* 1 or 2 */
	uint8_t		system;
	uint8_t		component;
	bool		is_signed;
} MavlinkFrame;

typedef enum MavlinkParse
{
	MAVLINK_PARSE_GOOD,			/* a known message whose CRC is right */
	MAVLINK_PARSE_UNKNOWN,		/* has the form of a frame, cannot be checked */
	MAVLINK_PARSE_BAD_CRC,		/* a known message whose CRC is wrong */
	MAVLINK_PARSE_TRUNCATED,	/* the buffer ends before the frame does */
	MAVLINK_PARSE_NO_FRAME,
} MavlinkParse;

/* Does a frame possibly begin with this byte? */
static inline bool
mavlink_is_magic(uint8_t byte)
{
	return byte == MAVLINK_MAGIC_1 || byte == MAVLINK_MAGIC_2;
}

extern MavlinkParse mavlink_frame_parse(const uint8_t *data, size_t available, MavlinkFrame *frame);

/*
 * The payload as long as the longest form of any message: MAVLink 2 cuts zero
 * bytes off the end, and old senders lack the extension fields.
 */
extern void mavlink_frame_payload(const MavlinkFrame *frame, uint8_t payload[MAVLINK_MAX_PAYLOAD + 1]);

#endif							/* SENTIENT_MAVLINK_FRAME_H */
