/*
 * master_key.h
 *		The master keys of this server, by fingerprint, and wrapping with them.
 */
#ifndef SENTIENT_MASTER_KEY_H
#define SENTIENT_MASTER_KEY_H

#include "crypto/cipher.h"

#define MASTER_KEYS				8
#define FINGERPRINT_LENGTH		16	/* hexadecimal digits */
#define WRAPPED_KEY_BYTES		(CIPHER_NONCE_BYTES + CIPHER_KEY_BYTES + CIPHER_TAG_BYTES)

typedef struct MasterKey
{
	char		fingerprint[FINGERPRINT_LENGTH + 1];
	char		source[128];	/* where it came from, for people */
	uint8	   *wrapping;		/* what wraps; the key itself is not kept */
} MasterKey;

/* How many there are, which is none unless the library is preloaded; 0 is the active one. */
extern int	master_key_count(void);
extern const MasterKey *master_key(int number);

/* The key with this fingerprint, or NULL. */
extern const MasterKey *master_key_find(const char *fingerprint);

/* Why there is none, or what is wrong with the configuration; "" when all is well. */
extern const char *master_key_problem(void);

/* 55000 with a hint unless there is one. */
extern void master_key_require(void);

/* While the server starts: make one known; false when OpenSSL or the memory fails or there are too many. */
extern bool master_key_add(const uint8 key[CIPHER_KEY_BYTES], const char *source);

/* While the server starts: there shall be none, for this reason. */
extern void master_key_refuse(const char *problem);

/* Wrap a data key, bound to metadata; false when OpenSSL fails. */
extern bool master_key_wrap(const MasterKey *master, const uint8 key[CIPHER_KEY_BYTES],
							const void *metadata, size_t metadata_bytes, uint8 wrapped[WRAPPED_KEY_BYTES]);

/* The other way; false when it was not this master key, or key or metadata were changed. */
extern bool master_key_unwrap(const MasterKey *master, const uint8 wrapped[WRAPPED_KEY_BYTES],
							  const void *metadata, size_t metadata_bytes, uint8 key[CIPHER_KEY_BYTES]);

#endif							/* SENTIENT_MASTER_KEY_H */
