/*
 * sealed_envelope.c
 *		Takes an envelope apart, and writes and reads its text form.
 *
 * Called by everything that looks into a sealed value.  The bytes come from
 * clients, dumps and disks and may be anything.  No memory, no locks.
 */
#include "sealed/sealed_envelope.h"

#include <string.h>

_Static_assert(sizeof(SEALED_PREFIX) - 1 == SEALED_PREFIX_BYTES, "length of the prefix");
_Static_assert(SEALED_TOKEN_BYTES == 34 && SEALED_HEAD_MAX == 50, "sizes of version 1");
_Static_assert(SEALED_OVERHEAD == 46 && SEALED_OVERHEAD_MAX == 78, "sizes of version 1");

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* The second byte when the length fits it, else 0, which no envelope has there. */
static uint8_t
envelope_form(const uint8_t *bytes, size_t available, size_t size)
{
	uint8_t		form;

	if (available > size || available < SEALED_START_BYTES || bytes[0] != SEALED_VERSION)
		return 0;
	if (available < size && available < SEALED_HEAD_MAX)
		return 0;
	form = bytes[1];
	if ((form == (SEALED_AES_256_GCM | SEALED_SEARCHABLE) && size >= SEALED_OVERHEAD_MAX) ||
		(form == SEALED_AES_256_GCM && size >= SEALED_OVERHEAD) ||
		(form == (SEALED_TOKEN | SEALED_SEARCHABLE) && size == SEALED_TOKEN_BYTES))
		return form;
	return 0;
}

bool
sealed_envelope_parse(const uint8_t *bytes, size_t available, size_t size, SealedEnvelope *envelope)
{
	uint8_t		form = envelope_form(bytes, available, size);
	size_t		at = SEALED_START_BYTES;

	memset(envelope, 0, sizeof(*envelope));
	if (form == 0)
		return false;
	envelope->head = bytes;
	if (form & SEALED_SEARCHABLE)
	{
		envelope->search_tag = bytes + at;
		envelope->search_key = envelope->search_tag + SEALED_SEARCH_TAG_BYTES;
		at += SEALED_SEARCH_BYTES;
	}
	if (!(form & SEALED_TOKEN))
	{
		envelope->field_key = bytes + at;
		at += SEALED_KEY_ID_BYTES;
		envelope->nonce = bytes + at;
		envelope->cipher = envelope->nonce + SEALED_NONCE_BYTES;
		envelope->cipher_bytes = size - at - SEALED_NONCE_BYTES - SEALED_TAG_BYTES;
		envelope->tag = envelope->cipher + envelope->cipher_bytes;
	}
	envelope->head_bytes = at;
	return true;
}

const uint8_t *
sealed_envelope_search(const uint8_t *bytes, size_t available, size_t size)
{
	return envelope_form(bytes, available, size) & SEALED_SEARCHABLE ? bytes + SEALED_START_BYTES : NULL;
}

size_t
sealed_text_size(size_t bytes)
{
	return SEALED_PREFIX_BYTES + bytes / 3 * 4 + (bytes % 3 == 0 ? 0 : bytes % 3 + 1);
}

void
sealed_text_write(const uint8_t *bytes, size_t size, char *text)
{
	size_t		i = 0;

	memcpy(text, SEALED_PREFIX, SEALED_PREFIX_BYTES);
	text += SEALED_PREFIX_BYTES;
	for (; size - i >= 3; i += 3)
	{
		uint32_t	group = (uint32_t) bytes[i] << 16 | (uint32_t) bytes[i + 1] << 8 | bytes[i + 2];

		*text++ = digits[group >> 18];
		*text++ = digits[group >> 12 & 63];
		*text++ = digits[group >> 6 & 63];
		*text++ = digits[group & 63];
	}
	if (size - i > 0)
	{
		uint32_t	group = (uint32_t) bytes[i] << 16 | (size - i > 1 ? (uint32_t) bytes[i + 1] << 8 : 0);

		*text++ = digits[group >> 18];
		*text++ = digits[group >> 12 & 63];
		if (size - i > 1)
			*text++ = digits[group >> 6 & 63];
	}
}

size_t
sealed_text_room(size_t length)
{
	return length / 4 * 3 + 3;
}

static int
digit_value(char digit)
{
	if (digit >= 'A' && digit <= 'Z')
		return digit - 'A';
	if (digit >= 'a' && digit <= 'z')
		return digit - 'a' + 26;
	if (digit >= '0' && digit <= '9')
		return digit - '0' + 52;
	if (digit == '-')
		return 62;
	if (digit == '_')
		return 63;
	return -1;
}

bool
sealed_text_read(const char *text, size_t length, uint8_t *bytes, size_t *size)
{
	uint32_t	group = 0;
	int			bits = 0;
	size_t		n = 0;

	if (length < SEALED_PREFIX_BYTES || memcmp(text, SEALED_PREFIX, SEALED_PREFIX_BYTES) != 0)
		return false;
	text += SEALED_PREFIX_BYTES;
	length -= SEALED_PREFIX_BYTES;

	/* one digit cannot be left over, nor none at all be given */
	if (length % 4 == 1 || length == 0)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		int			value = digit_value(text[i]);

		if (value < 0)
			return false;
		group = (group << 6 | (uint32_t) value) & 0xFFFFFF;
		bits += 6;
		if (bits >= 8)
		{
			bits -= 8;
			bytes[n++] = (uint8_t) (group >> bits);
		}
	}
	/* bits that stand for nothing must be zero: else two texts would stand for one value */
	if ((group & ((1u << bits) - 1)) != 0)
		return false;
	*size = n;
	return true;
}
