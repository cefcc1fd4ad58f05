/*
 * sealed_envelope.h
 *		The bytes of a sealed value.
 *
 * Free of PostgreSQL, so that the fuzz target links it alone.  No byte order and
 * no padding: everything is a string of bytes.  Version 1:
 *
 *		 1	version = 1
 *		 1	algorithm (low four bits) and flags (high four)
 *		16	search tag					only with SEALED_SEARCHABLE
 *		16	id of the search key		only with SEALED_SEARCHABLE
 *		16	id of the field key			from here on: not in a token
 *		12	nonce
 *		 n	ciphertext, as long as the plaintext
 *		16	authentication tag
 *
 * The search part stands in front so that a search token, which is an envelope
 * that ends behind it, compares as a sealed value does, and so that the first
 * SEALED_HEAD_MAX bytes tell everything about the keys.
 */
#ifndef SENTIENT_SEALED_ENVELOPE_H
#define SENTIENT_SEALED_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEALED_VERSION			1
#define SEALED_ALGORITHM_MASK	0x0F
#define SEALED_AES_256_GCM		0x01
#define SEALED_SEARCHABLE		0x10
#define SEALED_TOKEN			0x20	/* a search token: nothing behind the search part */

#define SEALED_START_BYTES		2
#define SEALED_KEY_ID_BYTES		16
#define SEALED_SEARCH_TAG_BYTES 16
#define SEALED_SEARCH_BYTES		(SEALED_KEY_ID_BYTES + SEALED_SEARCH_TAG_BYTES)
#define SEALED_NONCE_BYTES		12
#define SEALED_TAG_BYTES		16

#define SEALED_TOKEN_BYTES		(SEALED_START_BYTES + SEALED_SEARCH_BYTES)

/* What precedes the nonce; all of it is associated data. */
#define SEALED_HEAD_MAX			(SEALED_TOKEN_BYTES + SEALED_KEY_ID_BYTES)

/* What an envelope adds to the plaintext. */
#define SEALED_OVERHEAD			(SEALED_START_BYTES + SEALED_KEY_ID_BYTES + SEALED_NONCE_BYTES + SEALED_TAG_BYTES)
#define SEALED_OVERHEAD_MAX		(SEALED_OVERHEAD + SEALED_SEARCH_BYTES)

/* What stands before the bytes wherever they leave the server. */
#define SEALED_PREFIX			"sealed:"
#define SEALED_PREFIX_BYTES		7

typedef struct SealedEnvelope
{
	const uint8_t *head;		/* the first byte of the envelope */
	size_t		head_bytes;		/* what precedes the nonce */
	const uint8_t *search_tag;	/* NULL unless searchable or a token */
	const uint8_t *search_key;	/* likewise, behind the tag */
	const uint8_t *field_key;	/* NULL in a token, as the rest */
	const uint8_t *nonce;
	const uint8_t *cipher;
	size_t		cipher_bytes;
	const uint8_t *tag;
} SealedEnvelope;

/*
 * Find the parts of an envelope of size bytes, of which the first available ones
 * are at hand: at least SEALED_HEAD_MAX of them, or all.  Parts that are not at
 * hand must not be looked at.  False: no envelope of a known version.
 */
extern bool sealed_envelope_parse(const uint8_t *bytes, size_t available, size_t size, SealedEnvelope *envelope);

/*
 * The SEALED_SEARCH_BYTES that searchable values and tokens are compared by: tag
 * and key.  NULL for any other value.  Arguments as above.
 */
extern const uint8_t *sealed_envelope_search(const uint8_t *bytes, size_t available, size_t size);

/*
 * The text form: the prefix, then base64url (RFC 4648) without padding.  A text
 * stands for at most one string of bytes, and the other way round.
 */
extern size_t sealed_text_size(size_t bytes);
extern void sealed_text_write(const uint8_t *bytes, size_t size, char *text);

/* bytes has room for sealed_text_room(length) bytes; false: no such text. */
extern size_t sealed_text_room(size_t length);
extern bool sealed_text_read(const char *text, size_t length, uint8_t *bytes, size_t *size);

#endif							/* SENTIENT_SEALED_ENVELOPE_H */
