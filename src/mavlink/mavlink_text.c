/*
 * mavlink_text.c
 *		Put status texts together from their chunks.
 *
 * A text of up to 50 bytes comes alone, with id 0 (or from a sender that knows
 * no id).  A longer one comes in chunks of 50 bytes with a common id, counted
 * from 0; the first chunk that contains a zero byte is the last.  Chunks get
 * lost: "..." marks a gap, and a text whose end never comes is handed out when
 * another one needs its place, its id is used anew, or the input ends.
 *
 * Called by the sampler.  Keeps no state but the caller's struct.
 */
#include "mavlink_text.h"

#include <string.h>

static const char gap_mark[] = "...";

static void text_emit(MavlinkTexts *texts, const MavlinkText *text);
static void open_close(MavlinkTexts *texts, MavlinkOpenText *open);
static void text_append(MavlinkText *text, const char *bytes, size_t length);

void
mavlink_texts_add(MavlinkTexts *texts, const MavlinkFrame *frame, const uint8_t *payload, int64_t time_us)
{
	const char *bytes = (const char *) payload + 1;
	const char *zero = memchr(bytes, 0, MAVLINK_TEXT_CHUNK);
	size_t		length = zero != NULL ? (size_t) (zero - bytes) : MAVLINK_TEXT_CHUNK;
	uint16_t	id = (uint16_t) (payload[51] | payload[52] << 8);
	uint8_t		chunk = payload[53];
	MavlinkOpenText *open = NULL;

	for (int i = 0; i < MAVLINK_TEXTS_OPEN && id != 0; i++)
	{
		MavlinkOpenText *candidate = &texts->open[i];

		if (candidate->in_use && candidate->id == id && candidate->text.system == frame->system &&
			candidate->text.component == frame->component)
			open = candidate;
	}

	if (open != NULL && chunk < open->next_chunk)
	{
		/* The same chunk again over another link, unless the id is used anew. */
		if (chunk != 0 || (open->next_chunk == 1 && open->text.length >= length &&
						   memcmp(open->text.text, bytes, length) == 0))
			return;
		open_close(texts, open);
		open = NULL;
	}

	if (open == NULL)
	{
		for (int i = 0; i < MAVLINK_TEXTS_OPEN && open == NULL; i++)
			if (!texts->open[i].in_use)
				open = &texts->open[i];
		if (open == NULL)
		{
			open = &texts->open[texts->next_evicted];
			texts->next_evicted = (texts->next_evicted + 1) % MAVLINK_TEXTS_OPEN;
			open_close(texts, open);
		}
		open->in_use = true;
		open->id = id;
		open->next_chunk = 0;
		open->text.time_us = time_us;
		open->text.severity = payload[0];
		open->text.system = frame->system;
		open->text.component = frame->component;
		open->text.length = 0;
	}

	if (id != 0 && chunk > open->next_chunk)
		text_append(&open->text, gap_mark, sizeof(gap_mark) - 1);
	text_append(&open->text, bytes, length);

	/* With chunk 255 the count is used up, too. */
	if (id == 0 || length < MAVLINK_TEXT_CHUNK || chunk == UINT8_MAX)
		open_close(texts, open);
	else
		open->next_chunk = (uint8_t) (chunk + 1);
}

void
mavlink_texts_flush(MavlinkTexts *texts)
{
	for (int i = 0; i < MAVLINK_TEXTS_OPEN; i++)
		if (texts->open[i].in_use)
			open_close(texts, &texts->open[i]);
}

static void
open_close(MavlinkTexts *texts, MavlinkOpenText *open)
{
	open->in_use = false;
	text_emit(texts, &open->text);
}

static void
text_emit(MavlinkTexts *texts, const MavlinkText *text)
{
	if (text->length > 0)
		texts->on_text(texts->arg, text);
}

/*
 * Append what fits; the rest of a longer text is cut off.
 */
static void
text_append(MavlinkText *text, const char *bytes, size_t length)
{
	size_t		room = MAVLINK_TEXT_SIZE - text->length;

	if (length > room)
		length = room;
	memcpy(text->text + text->length, bytes, length);
	text->length += length;
}
