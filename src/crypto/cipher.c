/*
 * cipher.c
 *		The primitives, by OpenSSL's EVP interface.
 *
 * Called by the key modules, and alone by the unit test.  Algorithms are fetched
 * once a process and key schedules are set once a key: a message costs its nonce
 * and its bytes only.  OpenSSL's error queue is left empty, because others in
 * the process (libpq, the server's TLS) look at it.
 */
#include "crypto/cipher.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

struct CipherKey
{
	EVP_CIPHER_CTX *encrypt;
	EVP_CIPHER_CTX *decrypt;
};

struct MacKey
{
	EVP_MAC_CTX *context;
};

struct SignKey
{
	EVP_PKEY   *pair;
};

/* Fetched at first use, kept until the process ends. */
static EVP_CIPHER *aes_256_gcm = NULL;
static EVP_MAC *hmac = NULL;
static EVP_KDF *hkdf = NULL;

/* The result of a function, with an empty error queue. */
static bool
finish(bool done)
{
	if (!done)
		ERR_clear_error();
	return done;
}

bool
cipher_random(uint8_t *bytes, size_t length)
{
	return finish(length <= INT_MAX && RAND_bytes(bytes, (int) length) == 1);
}

CipherKey *
cipher_key_new(const uint8_t key[CIPHER_KEY_BYTES])
{
	CipherKey  *made;

	if (aes_256_gcm == NULL)
		aes_256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	made = calloc(1, sizeof(*made));
	if (aes_256_gcm != NULL && made != NULL &&
		(made->encrypt = EVP_CIPHER_CTX_new()) != NULL &&
		(made->decrypt = EVP_CIPHER_CTX_new()) != NULL &&
		EVP_EncryptInit_ex2(made->encrypt, aes_256_gcm, key, NULL, NULL) == 1 &&
		EVP_DecryptInit_ex2(made->decrypt, aes_256_gcm, key, NULL, NULL) == 1)
		return made;
	cipher_key_free(made);
	(void) finish(false);
	return NULL;
}

void
cipher_key_free(CipherKey *key)
{
	if (key == NULL)
		return;
	EVP_CIPHER_CTX_free(key->encrypt);
	EVP_CIPHER_CTX_free(key->decrypt);
	free(key);
}

bool
cipher_encrypt(CipherKey *key, const void *associated, size_t associated_bytes,
			   const void *in, size_t bytes, const uint8_t nonce[CIPHER_NONCE_BYTES],
			   uint8_t *out, uint8_t tag[CIPHER_TAG_BYTES])
{
	EVP_CIPHER_CTX *context = key->encrypt;
	int			written;

	return finish(associated_bytes <= INT_MAX && bytes <= INT_MAX &&
				  EVP_EncryptInit_ex2(context, NULL, NULL, nonce, NULL) == 1 &&
				  (associated_bytes == 0 ||
				   EVP_EncryptUpdate(context, NULL, &written, associated, (int) associated_bytes) == 1) &&
				  (bytes == 0 || EVP_EncryptUpdate(context, out, &written, in, (int) bytes) == 1) &&
				  EVP_EncryptFinal_ex(context, tag, &written) == 1 &&
				  EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, CIPHER_TAG_BYTES, tag) == 1);
}

bool
cipher_decrypt(CipherKey *key, const void *associated, size_t associated_bytes,
			   const void *in, size_t bytes, const uint8_t nonce[CIPHER_NONCE_BYTES],
			   const uint8_t tag[CIPHER_TAG_BYTES], uint8_t *out)
{
	EVP_CIPHER_CTX *context = key->decrypt;
	uint8_t		nothing[CIPHER_TAG_BYTES];
	int			written;

	if (finish(associated_bytes <= INT_MAX && bytes <= INT_MAX &&
			   EVP_DecryptInit_ex2(context, NULL, NULL, nonce, NULL) == 1 &&
			   (associated_bytes == 0 ||
				EVP_DecryptUpdate(context, NULL, &written, associated, (int) associated_bytes) == 1) &&
			   (bytes == 0 || EVP_DecryptUpdate(context, out, &written, in, (int) bytes) == 1) &&
			   EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, CIPHER_TAG_BYTES, (void *) tag) == 1 &&
			   EVP_DecryptFinal_ex(context, nothing, &written) == 1))
		return true;
	if (bytes > 0)
		OPENSSL_cleanse(out, bytes);
	return false;
}

MacKey *
mac_key_new(const void *key, size_t key_bytes)
{
	char		digest[] = "SHA256";
	OSSL_PARAM	parameters[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end()
	};
	MacKey	   *made = calloc(1, sizeof(*made));

	if (hmac == NULL)
		hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (hmac != NULL && made != NULL &&
		(made->context = EVP_MAC_CTX_new(hmac)) != NULL &&
		EVP_MAC_init(made->context, key, key_bytes, parameters) == 1)
		return made;
	mac_key_free(made);
	(void) finish(false);
	return NULL;
}

void
mac_key_free(MacKey *key)
{
	if (key == NULL)
		return;
	EVP_MAC_CTX_free(key->context);
	free(key);
}

bool
mac_compute(MacKey *key, const void *data, size_t bytes, uint8_t mac[CIPHER_MAC_BYTES])
{
	size_t		written;

	/* Without a key, init begins the next message under the same one. */
	return finish(EVP_MAC_init(key->context, NULL, 0, NULL) == 1 &&
				  EVP_MAC_update(key->context, data, bytes) == 1 &&
				  EVP_MAC_final(key->context, mac, &written, CIPHER_MAC_BYTES) == 1 &&
				  written == CIPHER_MAC_BYTES);
}

bool
cipher_hkdf(const void *secret, size_t secret_bytes, const void *salt, size_t salt_bytes,
			const void *info, size_t info_bytes, uint8_t *out, size_t out_bytes)
{
	char		digest[] = "SHA256";
	OSSL_PARAM	parameters[5];
	int			n = 0;
	EVP_KDF_CTX *context;
	bool		done;

	parameters[n++] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	parameters[n++] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *) secret, secret_bytes);
	parameters[n++] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *) info, info_bytes);
	if (salt_bytes > 0)
		parameters[n++] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *) salt, salt_bytes);
	parameters[n] = OSSL_PARAM_construct_end();

	if (hkdf == NULL)
		hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	context = hkdf == NULL ? NULL : EVP_KDF_CTX_new(hkdf);
	done = context != NULL && EVP_KDF_derive(context, out, out_bytes, parameters) == 1;
	EVP_KDF_CTX_free(context);
	return finish(done);
}

SignKey *
sign_key_new(const uint8_t seed[CIPHER_KEY_BYTES])
{
	SignKey    *made = calloc(1, sizeof(*made));

	if (made != NULL &&
		(made->pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, CIPHER_KEY_BYTES)) != NULL)
		return made;
	sign_key_free(made);
	(void) finish(false);
	return NULL;
}

void
sign_key_free(SignKey *key)
{
	if (key == NULL)
		return;
	EVP_PKEY_free(key->pair);
	free(key);
}

bool
sign_key_public(const SignKey *key, uint8_t public_key[CIPHER_PUBLIC_BYTES])
{
	size_t		written = CIPHER_PUBLIC_BYTES;

	return finish(EVP_PKEY_get_raw_public_key(key->pair, public_key, &written) == 1 &&
				  written == CIPHER_PUBLIC_BYTES);
}

bool
sign_compute(SignKey *key, const void *data, size_t bytes, uint8_t signature[CIPHER_SIGNATURE_BYTES])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	size_t		written = CIPHER_SIGNATURE_BYTES;
	bool		done;

	done = context != NULL &&
		EVP_DigestSignInit(context, NULL, NULL, NULL, key->pair) == 1 &&
		EVP_DigestSign(context, signature, &written, data, bytes) == 1 &&
		written == CIPHER_SIGNATURE_BYTES;
	EVP_MD_CTX_free(context);
	return finish(done);
}

bool
sign_fits(const uint8_t public_key[CIPHER_PUBLIC_BYTES], const void *data, size_t bytes,
		  const uint8_t signature[CIPHER_SIGNATURE_BYTES])
{
	EVP_PKEY   *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, CIPHER_PUBLIC_BYTES);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool		fits;

	fits = key != NULL && context != NULL &&
		EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
		EVP_DigestVerify(context, signature, CIPHER_SIGNATURE_BYTES, data, bytes) == 1;
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	return finish(fits);
}
