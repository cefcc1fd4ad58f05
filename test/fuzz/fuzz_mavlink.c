/*
 * fuzz_mavlink.c
 *		libFuzzer target: hostile bytes through the MAVLink decoder.
 *
 * The first byte chooses the form (bit 0: a .tlog; bit 1: the caller knows the
 * time of boot; bit 2: nothing may be old), the rest is the input.  Besides
 * what the sanitizers see, the promises of the headers are checked: every byte
 * is accounted for, the sampler sees the frames that the reader sees, no sample
 * holds an infinity or a number outside its field, no text a zero byte.
 *
 * A mutation rarely leaves a CRC right, so that every other one has the CRCs of
 * what looks like frames put right afterwards: else little would get past them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mavlink_sampler.h"

#define CHECK(condition)	do { if (!(condition)) abort(); } while (0)

typedef struct Seen
{
	uint64_t	samples;
	uint64_t	texts;
} Seen;

static void
on_sample(void *arg, const MavlinkSample *sample)
{
	const double *value = sample->value;

	((Seen *) arg)->samples++;
	for (int i = 0; i < MAVLINK_NVALUES; i++)
		CHECK(!isinf(value[i]));
	CHECK(isnan(value[MAVLINK_HEADING_DEG]) ||
		  (value[MAVLINK_HEADING_DEG] >= 0 && value[MAVLINK_HEADING_DEG] <= 360));
	CHECK(isnan(value[MAVLINK_ROLL_DEG]) || fabs(value[MAVLINK_ROLL_DEG]) <= 180);
	CHECK(isnan(value[MAVLINK_PITCH_DEG]) || fabs(value[MAVLINK_PITCH_DEG]) <= 180);
	CHECK(isnan(value[MAVLINK_BATTERY_PERCENTAGE]) ||
		  (value[MAVLINK_BATTERY_PERCENTAGE] >= 0 && value[MAVLINK_BATTERY_PERCENTAGE] <= 100));
	CHECK(sample->flight_mode == NULL || strlen(sample->flight_mode) < MAVLINK_MODE_NAME_SIZE);
	CHECK(sample->armed >= -1 && sample->armed <= 1);
}

static void
on_text(void *arg, const MavlinkText *text)
{
	((Seen *) arg)->texts++;
	CHECK(text->length > 0 && text->length <= MAVLINK_TEXT_SIZE);
	CHECK(memchr(text->text, 0, text->length) == NULL);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Seen		seen = {0};
	MavlinkSamplerOptions options = {.on_sample = on_sample,.on_text = on_text,.arg = &seen};
	MavlinkReader reader;
	MavlinkSampler sampler;
	MavlinkFrame frame;
	MavlinkRead read;
	uint64_t	positions = 0;
	uint64_t	bytes = 0;
	uint8_t		flags;

	if (size < 1)
		return 0;
	flags = *data++;
	size--;

	mavlink_reader_init(&reader, data, size, (flags & 1) != 0);
	while ((read = mavlink_reader_next(&reader, &frame)) != MAVLINK_READ_END)
	{
		if (read == MAVLINK_READ_BUSY)
			continue;
		CHECK(frame.payload >= data && frame.payload + frame.length <= data + size);
		CHECK((read == MAVLINK_READ_FRAME) == (frame.fact != NULL));
		bytes += frame.size + reader.stamp_size;
		positions += read == MAVLINK_READ_FRAME && frame.id == MAVLINK_GLOBAL_POSITION_INT;
	}
	CHECK(bytes + reader.counts.bytes_skipped + reader.counts.bytes_truncated == size);

	options.boot_us = (flags & 2) != 0 ? INT64_C(1533736536883000) : MAVLINK_NO_TIME;
	options.state_age_us = (flags & 4) != 0 ? 0 : INT64_C(5000000);
	mavlink_sampler_init(&sampler, data, size, (flags & 1) != 0, &options);
	while (mavlink_sampler_step(&sampler))
		;
	CHECK(memcmp(&sampler.reader.counts, &reader.counts, sizeof(reader.counts)) == 0);
	CHECK(seen.samples <= positions);
	(void) mavlink_sampler_time(&sampler);
	return 0;
}

size_t		LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t		LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	size_t		at = 1;

	size = LLVMFuzzerMutate(data, size, max_size);
	while (seed % 2 == 0 && at < size)
	{
		MavlinkFrame frame;
		MavlinkParse parse = mavlink_frame_parse(data + at, size - at, &frame);
		size_t		crc_at;
		uint16_t	crc = 0xFFFF;

		if (parse != MAVLINK_PARSE_GOOD && parse != MAVLINK_PARSE_BAD_CRC)
		{
			at++;
			continue;
		}
		crc_at = (size_t) (frame.payload - data) + frame.length;
		for (size_t i = at + 1; i <= crc_at; i++)
		{
			crc ^= i < crc_at ? data[i] : frame.fact->crc_extra;
			for (int bit = 0; bit < 8; bit++)
				crc = (uint16_t) (crc & 1 ? crc >> 1 ^ 0x8408 : crc >> 1);
		}
		data[crc_at] = (uint8_t) crc;
		data[crc_at + 1] = (uint8_t) (crc >> 8);
		at += frame.size;
	}
	return size;
}
