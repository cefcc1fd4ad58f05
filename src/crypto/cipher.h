/*
 * cipher.h
 *		The primitives, by OpenSSL: AES-256-GCM, HMAC and HKDF with SHA-256, Ed25519.
 *
 * Free of PostgreSQL, so that the unit test links it alone.  Nothing here raises
 * an error or writes to a log: a function tells by its result, and what it has
 * allocated is freed then.  Objects hold the schedule of one key, ready for use
 * message after message, and zero it when they are freed.
 */
#ifndef SENTIENT_CIPHER_H
#define SENTIENT_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CIPHER_KEY_BYTES		32
#define CIPHER_NONCE_BYTES		12
#define CIPHER_TAG_BYTES		16
#define CIPHER_MAC_BYTES		32
#define CIPHER_SIGNATURE_BYTES	64
#define CIPHER_PUBLIC_BYTES		32

typedef struct CipherKey CipherKey;
typedef struct MacKey MacKey;
typedef struct SignKey SignKey;

extern bool cipher_random(uint8_t *bytes, size_t length);

/* AES-256-GCM; NULL when OpenSSL cannot. */
extern CipherKey *cipher_key_new(const uint8_t key[CIPHER_KEY_BYTES]);
extern void cipher_key_free(CipherKey *key);

/* in and out may be the same place; lengths beyond INT_MAX are refused. */
extern bool cipher_encrypt(CipherKey *key, const void *associated, size_t associated_bytes,
						   const void *in, size_t bytes, const uint8_t nonce[CIPHER_NONCE_BYTES],
						   uint8_t *out, uint8_t tag[CIPHER_TAG_BYTES]);

/* False when the tag does not fit; out is zeroed then. */
extern bool cipher_decrypt(CipherKey *key, const void *associated, size_t associated_bytes,
						   const void *in, size_t bytes, const uint8_t nonce[CIPHER_NONCE_BYTES],
						   const uint8_t tag[CIPHER_TAG_BYTES], uint8_t *out);

/* HMAC-SHA-256 under a key of any length. */
extern MacKey *mac_key_new(const void *key, size_t key_bytes);
extern void mac_key_free(MacKey *key);
extern bool mac_compute(MacKey *key, const void *data, size_t bytes, uint8_t mac[CIPHER_MAC_BYTES]);

/* HKDF-SHA-256 (RFC 5869), extract and expand; salt may be empty, out at most 8160 bytes. */
extern bool cipher_hkdf(const void *secret, size_t secret_bytes, const void *salt, size_t salt_bytes,
						const void *info, size_t info_bytes, uint8_t *out, size_t out_bytes);

/* Ed25519 (RFC 8032) from the seed of 32 bytes. */
extern SignKey *sign_key_new(const uint8_t seed[CIPHER_KEY_BYTES]);
extern void sign_key_free(SignKey *key);
extern bool sign_key_public(const SignKey *key, uint8_t public_key[CIPHER_PUBLIC_BYTES]);
extern bool sign_compute(SignKey *key, const void *data, size_t bytes, uint8_t signature[CIPHER_SIGNATURE_BYTES]);
extern bool sign_fits(const uint8_t public_key[CIPHER_PUBLIC_BYTES], const void *data, size_t bytes,
					  const uint8_t signature[CIPHER_SIGNATURE_BYTES]);

#endif							/* SENTIENT_CIPHER_H */
