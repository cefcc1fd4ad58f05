/*
 * mavlink_text.h
 *		Status texts, put together from their chunks.
 */
#ifndef SENTIENT_MAVLINK_TEXT_H
#define SENTIENT_MAVLINK_TEXT_H

#include "mavlink_frame.h"

#define MAVLINK_TEXT_CHUNK		50
#define MAVLINK_TEXT_SIZE		(24 * MAVLINK_TEXT_CHUNK)
#define MAVLINK_TEXTS_OPEN		4

typedef struct MavlinkText
{
	int64_t		time_us;		/* of its first chunk, or MAVLINK_NO_TIME */
	uint8_t		severity;		/* as sent; 0 to 7 are defined */
	uint8_t		system;
	uint8_t		component;
	size_t		length;
	char		text[MAVLINK_TEXT_SIZE];	/* hostile bytes without a zero byte, not terminated */
} MavlinkText;

/* A text whose last chunk has not come. */
typedef struct MavlinkOpenText
{
	bool		in_use;
	uint16_t	id;
	uint8_t		next_chunk;
	MavlinkText text;
} MavlinkOpenText;

typedef struct MavlinkTexts
{
	MavlinkOpenText open[MAVLINK_TEXTS_OPEN];
	int			next_evicted;
	void		(*on_text) (void *arg, const MavlinkText *text);
	void	   *arg;
} MavlinkTexts;

/* Take a STATUSTEXT's payload (zero-extended) that came at that time. */
extern void mavlink_texts_add(MavlinkTexts *texts, const MavlinkFrame *frame, const uint8_t *payload, int64_t time_us);

/* Hand out what is still incomplete. */
extern void mavlink_texts_flush(MavlinkTexts *texts);

#endif							/* SENTIENT_MAVLINK_TEXT_H */
