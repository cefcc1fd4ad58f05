/*
 * data_key.h
 *		Data keys by purpose, as the modules above ask for them.
 *
 * Data keys lie in sentient_edge.data_keys, wrapped by the master key, and are
 * unwrapped into secret memory once a backend.  A DataKey is valid until the end
 * of the transaction that asked for it.  None of these functions tells key bytes.
 */
#ifndef SENTIENT_DATA_KEY_H
#define SENTIENT_DATA_KEY_H

#include "utils/uuid.h"

#define CRYPTO_NONCE_BYTES		12
#define CRYPTO_TAG_BYTES		16
#define CRYPTO_MAC_BYTES		32
#define CRYPTO_SIGNATURE_BYTES	64
#define CRYPTO_PUBLIC_BYTES		32

typedef enum KeyPurpose
{
	KEY_FIELD,					/* sealed values */
	KEY_SEARCH,					/* search tags */
	KEY_AUDIT_MAC,				/* audit.log.mac, audit.security_events.mac */
	KEY_LEDGER,					/* Ed25519 seed that signs blocks and digests */
	KEY_TOKEN,					/* tokens of sessions */
} KeyPurpose;

typedef struct DataKey DataKey;

/* Is a master key known to this server?  Raises no error. */
extern bool data_keys_available(void);

/* The one error, 55000 with a hint, unless it is. */
extern void data_keys_require(void);

/*
 * The active key of a purpose, made by a process of its own if there is none
 * yet; an error (55000, with a hint) when there is no master key, the key is
 * wrapped by an unknown one, or none can be made (standby).
 */
extern const DataKey *data_key_active(KeyPurpose purpose);

/* The same, but NULL instead of any of these errors, and no key is made. */
extern const DataKey *data_key_active_if_any(KeyPurpose purpose);

/* A key by its id, active or decrypt-only; NULL when unknown, destroyed or not to be unwrapped. */
extern const DataKey *data_key_find(const pg_uuid_t *key_id, KeyPurpose purpose);

extern const pg_uuid_t *data_key_id(const DataKey *key);

/*
 * AES-256-GCM under the key itself.  encrypt picks a fresh random nonce, counts
 * the message, and raises an error (and asks for a rotation long before) when the
 * key has encrypted too many.  decrypt is false when anything does not fit; what
 * it wrote is zeroed then.  In and out may be the same place.
 */
extern void data_key_encrypt(const DataKey *key, const void *associated, size_t associated_bytes,
							 const void *plain, size_t bytes, uint8 nonce[CRYPTO_NONCE_BYTES],
							 uint8 *cipher, uint8 tag[CRYPTO_TAG_BYTES]);
extern bool data_key_decrypt(const DataKey *key, const void *associated, size_t associated_bytes,
							 const uint8 *cipher, size_t bytes, const uint8 nonce[CRYPTO_NONCE_BYTES],
							 const uint8 tag[CRYPTO_TAG_BYTES], uint8 *plain);

/* HMAC-SHA-256 under a subkey of the key (HKDF with the label as info). */
extern void data_key_mac(const DataKey *key, const char *label, const void *data, size_t bytes,
						 uint8 mac[CRYPTO_MAC_BYTES]);

/* Ed25519 with a KEY_LEDGER key. */
extern void data_key_sign(const DataKey *key, const void *data, size_t bytes,
						  uint8 signature[CRYPTO_SIGNATURE_BYTES]);
extern void data_key_public(const DataKey *key, uint8 public_key[CRYPTO_PUBLIC_BYTES]);

/* Needs no key of ours: does the signature fit the public key? */
extern bool signature_fits(const uint8 public_key[CRYPTO_PUBLIC_BYTES], const void *data, size_t bytes,
						   const uint8 signature[CRYPTO_SIGNATURE_BYTES]);

#endif							/* SENTIENT_DATA_KEY_H */
