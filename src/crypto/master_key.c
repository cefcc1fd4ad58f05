/*
 * master_key.c
 *		The master keys of this server, by fingerprint, and wrapping with them.
 *
 * Filled by key_provider.c in the postmaster, before any child; from then on
 * read only.  Of a key only two things derived from it are kept: the fingerprint,
 * which may be told, and the wrapping key.  No locks; nothing survives the
 * postmaster, which is the point.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "crypto/master_key.h"
#include "crypto/secret.h"

/* Part of the derivation of keys that exist: never to be changed. */
static const char fingerprint_info[] = "sentient_edge master key fingerprint, version 1";
static const char wrapping_info[] = "sentient_edge data key wrapping, version 1";

static MasterKey master_keys[MASTER_KEYS];
static int	nmaster_keys = 0;
static char problem[256] = "";

int
master_key_count(void)
{
	return nmaster_keys;
}

const MasterKey *
master_key(int number)
{
	return &master_keys[number];
}

const MasterKey *
master_key_find(const char *fingerprint)
{
	for (int i = 0; i < nmaster_keys; i++)
	{
		if (strcmp(master_keys[i].fingerprint, fingerprint) == 0)
			return &master_keys[i];
	}
	return NULL;
}

const char *
master_key_problem(void)
{
	return problem;
}

void
master_key_require(void)
{
	if (nmaster_keys > 0)
		return;
	/* A library that was not preloaded has never looked for one. */
	if (problem[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no master key is known to this server"),
				 errdetail("sentient_edge reads master keys only in a server that loads it at start."),
				 errhint("Add sentient_edge to shared_preload_libraries, provide a master key as sentient_edge.key_provider says, and restart the server.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no master key is known to this server"),
			 errdetail("When it started: %s.", problem),
			 errhint("Provide a master key as sentient_edge.key_provider says and restart the server.")));
}

bool
master_key_add(const uint8 key[CIPHER_KEY_BYTES], const char *source)
{
	MasterKey  *added = &master_keys[nmaster_keys];
	uint8		digest[FINGERPRINT_LENGTH / 2];
	char		fingerprint[FINGERPRINT_LENGTH + 1];

	if (!cipher_hkdf(key, CIPHER_KEY_BYTES, NULL, 0, fingerprint_info, sizeof(fingerprint_info) - 1,
					 digest, sizeof(digest)))
		return false;
	for (int i = 0; i < lengthof(digest); i++)
		snprintf(fingerprint + i * 2, 3, "%02x", digest[i]);
	if (master_key_find(fingerprint) != NULL)
		return true;
	if (nmaster_keys == MASTER_KEYS)
		return false;

	added->wrapping = secret_new();
	if (added->wrapping == NULL)
		return false;
	if (!cipher_hkdf(key, CIPHER_KEY_BYTES, NULL, 0, wrapping_info, sizeof(wrapping_info) - 1,
					 added->wrapping, CIPHER_KEY_BYTES))
	{
		secret_free(added->wrapping);
		return false;
	}
	strlcpy(added->fingerprint, fingerprint, sizeof(added->fingerprint));
	strlcpy(added->source, source, sizeof(added->source));
	nmaster_keys++;
	return true;
}

void
master_key_refuse(const char *why)
{
	for (int i = 0; i < nmaster_keys; i++)
		secret_free(master_keys[i].wrapping);
	memset(master_keys, 0, sizeof(master_keys));
	nmaster_keys = 0;
	strlcpy(problem, why, sizeof(problem));
}

bool
master_key_wrap(const MasterKey *master, const uint8 key[CIPHER_KEY_BYTES],
				const void *metadata, size_t metadata_bytes, uint8 wrapped[WRAPPED_KEY_BYTES])
{
	CipherKey  *cipher = cipher_key_new(master->wrapping);
	bool		done;

	done = cipher != NULL && cipher_random(wrapped, CIPHER_NONCE_BYTES) &&
		cipher_encrypt(cipher, metadata, metadata_bytes, key, CIPHER_KEY_BYTES, wrapped,
					   wrapped + CIPHER_NONCE_BYTES, wrapped + CIPHER_NONCE_BYTES + CIPHER_KEY_BYTES);
	cipher_key_free(cipher);
	return done;
}

bool
master_key_unwrap(const MasterKey *master, const uint8 wrapped[WRAPPED_KEY_BYTES],
				  const void *metadata, size_t metadata_bytes, uint8 key[CIPHER_KEY_BYTES])
{
	CipherKey  *cipher = cipher_key_new(master->wrapping);
	bool		done;

	done = cipher != NULL &&
		cipher_decrypt(cipher, metadata, metadata_bytes, wrapped + CIPHER_NONCE_BYTES, CIPHER_KEY_BYTES,
					   wrapped, wrapped + CIPHER_NONCE_BYTES + CIPHER_KEY_BYTES, key);
	cipher_key_free(cipher);
	return done;
}
