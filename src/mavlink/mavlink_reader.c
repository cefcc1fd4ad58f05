/*
 * mavlink_reader.c
 *		Walk through the frames of a byte string or of a .tlog.
 *
 * The reader is in step when the previous frame ended where it stands.  What
 * it then finds is judged mildly; out of step (the input's damage lies between)
 * a candidate must prove itself, for any garbage contains the two magic bytes:
 *
 *	- A frame with a good CRC is always taken; out of step in a .tlog, only
 *	  behind a plausible stamp.
 *	- A frame that cannot be checked is taken when the end or a frame's first
 *	  byte follows it; out of step, only when a good frame follows.
 *	- A bad CRC is counted when the frame stood in step, or when the end or a
 *	  frame's first byte follows it; never twice for overlapping candidates.
 *
 * Whatever is not taken costs one byte, and the search goes on behind it: the
 * length of a damaged frame is as doubtful as the rest of it.
 *
 * Called by the sampler and the report.  Allocates nothing, keeps no state but
 * the caller's struct.
 */
#include "mavlink_reader.h"

#include "mavlink_tlog.h"

/* After so many bytes without a frame the caller gets a turn. */
#define BUSY_BYTES				4096

static bool frame_begins(const MavlinkReader *reader, size_t position, bool must_be_good);
static MavlinkRead reader_end(MavlinkReader *reader);

void
mavlink_reader_init(MavlinkReader *reader, const uint8_t *data, size_t size, bool is_tlog)
{
	*reader = (MavlinkReader) {
		.data = data,
		.size = size,
		.truncated_from = SIZE_MAX,
		.stamp_size = is_tlog ? MAVLINK_STAMP_SIZE : 0,
	};
}

/*
 * Find the next frame.
 */
MavlinkRead
mavlink_reader_next(MavlinkReader *reader, MavlinkFrame *frame)
{
	size_t		began = reader->position;

	while (reader->position - began < BUSY_BYTES)
	{
		size_t		position = reader->position;
		bool		in_step = position == reader->accepted_end;
		const uint8_t *at;
		size_t		end;
		MavlinkParse parse;

		if (reader->size - position <= reader->stamp_size)
		{
			/* What is left of a log that was cut inside a stamp. */
			if (in_step && position < reader->size)
				reader->truncated_from = position;
			return reader_end(reader);
		}

		at = reader->data + position + reader->stamp_size;
		if (!mavlink_is_magic(*at))
		{
			reader->position++;
			continue;
		}

		parse = mavlink_frame_parse(at, reader->size - position - reader->stamp_size, frame);
		if (parse == MAVLINK_PARSE_NO_FRAME)
		{
			reader->position++;
			continue;
		}
		if (parse == MAVLINK_PARSE_TRUNCATED)
		{
			if (reader->truncated_from == SIZE_MAX)
				reader->truncated_from = position;
			reader->position++;
			continue;
		}

		end = position + reader->stamp_size + frame->size;
		frame->stamp_us = reader->stamp_size > 0 ?
			mavlink_tlog_stamp(reader->data + position) : MAVLINK_NO_TIME;

		if (parse == MAVLINK_PARSE_BAD_CRC)
		{
			if (position >= reader->counted_end && (in_step || frame_begins(reader, end, false)))
			{
				reader->counts.bad_crc++;
				reader->counted_end = end;
			}
			reader->position++;
			continue;
		}

		if ((!in_step && reader->stamp_size > 0 && frame->stamp_us == MAVLINK_NO_TIME) ||
			(parse == MAVLINK_PARSE_UNKNOWN && !frame_begins(reader, end, !in_step)))
		{
			reader->position++;
			continue;
		}

		reader->counts.bytes_skipped += position - reader->accepted_end;
		reader->accepted_end = reader->position = end;
		reader->truncated_from = SIZE_MAX;
		if (parse == MAVLINK_PARSE_UNKNOWN)
		{
			reader->counts.unknown++;
			return MAVLINK_READ_UNKNOWN;
		}
		reader->counts.frames++;
		return MAVLINK_READ_FRAME;
	}
	return MAVLINK_READ_BUSY;
}

/*
 * Does the input end at position, or a frame begin there?
 */
static bool
frame_begins(const MavlinkReader *reader, size_t position, bool must_be_good)
{
	const uint8_t *at;
	MavlinkFrame frame;

	if (position == reader->size)
		return !must_be_good;
	if (reader->size - position <= reader->stamp_size)
		return false;
	if (reader->stamp_size > 0 && mavlink_tlog_stamp(reader->data + position) == MAVLINK_NO_TIME)
		return false;
	at = reader->data + position + reader->stamp_size;
	if (!must_be_good)
		return mavlink_is_magic(*at);
	return mavlink_frame_parse(at, reader->size - position - reader->stamp_size, &frame) == MAVLINK_PARSE_GOOD;
}

/*
 * Account for what lies behind the last frame.
 */
static MavlinkRead
reader_end(MavlinkReader *reader)
{
	size_t		skipped_to = reader->truncated_from < reader->size ? reader->truncated_from : reader->size;

	reader->counts.bytes_skipped += skipped_to - reader->accepted_end;
	reader->counts.bytes_truncated += reader->size - skipped_to;
	reader->accepted_end = reader->position = reader->size;
	reader->truncated_from = SIZE_MAX;
	return MAVLINK_READ_END;
}
