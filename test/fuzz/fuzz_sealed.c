/*
 * fuzz_sealed.c
 *		libFuzzer target: hostile bytes as envelopes of sealed values.
 *
 * The first byte chooses: bit 0, the rest is the text form, else the bytes; bit 1,
 * only the head is at hand, as of a value that lies in a TOAST table.  Besides what
 * the sanitizers see, in blocks of exactly the right size, the promises of the
 * header are checked: the parts of an envelope lie in it and make up the whole, a
 * text and its bytes stand for each other alone.
 */
#include <stdlib.h>
#include <string.h>

#include "sealed/sealed_envelope.h"

#define CHECK(condition)	do { if (!(condition)) abort(); } while (0)

/* Where what was read goes, so that the reading is not left out. */
static volatile uint8_t touched;

static void
check_bytes(const uint8_t *data, size_t available, size_t size)
{
	uint8_t    *bytes = malloc(available + 1);
	uint8_t    *block = bytes + 1;	/* nothing is aligned */
	const uint8_t *search;
	SealedEnvelope envelope;

	memcpy(block, data, available);
	search = sealed_envelope_search(block, available, size);
	if (sealed_envelope_parse(block, available, size, &envelope))
	{
		uint8_t		sum = 0;

		CHECK(envelope.head == block && envelope.head_bytes <= available && envelope.head_bytes <= SEALED_HEAD_MAX);
		for (size_t i = 0; i < envelope.head_bytes; i++)
			sum ^= envelope.head[i];
		CHECK((envelope.search_key == NULL) == (envelope.search_tag == NULL));
		CHECK(search == envelope.search_tag);
		CHECK(envelope.search_key != NULL || envelope.field_key != NULL);
		if (envelope.search_key != NULL)
			for (size_t i = 0; i < SEALED_SEARCH_BYTES; i++)
				sum ^= search[i];
		if (envelope.field_key == NULL)
			CHECK(envelope.head_bytes == size && envelope.tag == NULL);
		else
		{
			for (size_t i = 0; i < SEALED_KEY_ID_BYTES; i++)
				sum ^= envelope.field_key[i];
			CHECK(envelope.nonce == block + envelope.head_bytes);
			CHECK(envelope.head_bytes + SEALED_NONCE_BYTES + envelope.cipher_bytes + SEALED_TAG_BYTES == size);
			CHECK(envelope.tag + SEALED_TAG_BYTES == block + size);
			for (size_t i = envelope.head_bytes; i < available; i++)
				sum ^= block[i];
		}
		touched = sum;
	}
	else
		CHECK(search == NULL);
	free(bytes);
}

static void
check_text(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size + 1);
	uint8_t    *bytes = malloc(sealed_text_room(size));
	size_t		n = 0;

	memcpy(text, data, size);
	if (sealed_text_read(text, size, bytes, &n))
	{
		char	   *again = malloc(sealed_text_size(n));

		CHECK(n > 0 && n <= sealed_text_room(size));
		CHECK(sealed_text_size(n) == size);
		sealed_text_write(bytes, n, again);
		CHECK(memcmp(again, text, size) == 0);
		check_bytes(bytes, n, n);
		free(again);
	}
	free(bytes);
	free(text);
}

static void
check_round_trip(const uint8_t *data, size_t size)
{
	size_t		length = sealed_text_size(size);
	char	   *text = malloc(length);
	uint8_t    *bytes = malloc(sealed_text_room(length));
	size_t		n = 0;

	sealed_text_write(data, size, text);
	CHECK(sealed_text_read(text, length, bytes, &n) == (size > 0));
	CHECK(size == 0 || (n == size && memcmp(bytes, data, n) == 0));
	free(bytes);
	free(text);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t		flags;

	if (size < 1)
		return 0;
	flags = *data++;
	size--;
	if (flags & 1)
		check_text(data, size);
	else
	{
		size_t		available = (flags & 2) != 0 && size > SEALED_HEAD_MAX ? SEALED_HEAD_MAX : size;

		check_bytes(data, available, size);
		check_round_trip(data, size);
	}
	return 0;
}
