/*
 * mavlink_reader.h
 *		The frames of a byte string or of a .tlog, one after the other.
 */
#ifndef SENTIENT_MAVLINK_READER_H
#define SENTIENT_MAVLINK_READER_H

#include "mavlink_frame.h"

/*
 * What was seen so far.  At the end the bytes of good and unknown frames (with
 * their stamps), bytes_skipped and bytes_truncated add up to the input's size.
 */
typedef struct MavlinkCounts
{
	uint64_t	frames;			/* good ones */
	uint64_t	bad_crc;
	uint64_t	unknown;
	uint64_t	bytes_skipped;	/* in no frame, or in one with a bad CRC */
	uint64_t	bytes_truncated;	/* at the end, of a frame that is cut off */
} MavlinkCounts;

/* A position in the input.  A copy of the struct reads on independently. */
typedef struct MavlinkReader
{
	const uint8_t *data;
	size_t		size;
	size_t		position;		/* where the next record may begin */
	size_t		accepted_end;	/* end of the last frame handed out */
	size_t		counted_end;	/* end of the last frame counted as bad */
	size_t		truncated_from; /* first candidate that runs past the end, or SIZE_MAX */
	size_t		stamp_size;		/* bytes in front of each frame: 0, or 8 in a .tlog */
	MavlinkCounts counts;
} MavlinkReader;

typedef enum MavlinkRead
{
	MAVLINK_READ_END,
	MAVLINK_READ_FRAME,			/* a good frame */
	MAVLINK_READ_UNKNOWN,		/* a frame that could not be checked */
	MAVLINK_READ_BUSY,			/* much garbage: call again, after a look at interrupts */
} MavlinkRead;

extern void mavlink_reader_init(MavlinkReader *reader, const uint8_t *data, size_t size, bool is_tlog);
extern MavlinkRead mavlink_reader_next(MavlinkReader *reader, MavlinkFrame *frame);

#endif							/* SENTIENT_MAVLINK_READER_H */
