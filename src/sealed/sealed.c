/*
 * sealed.c
 *		Seals bytes into an envelope and opens it again.
 *
 * Called by the SQL functions, the trigger that checks contexts, and the modules
 * that keep sealed columns.  AES-256-GCM under the field key; associated data are
 * everything that precedes the nonce, the length of the context (two bytes, big
 * endian) and the context.  Thereby nothing of an envelope can be changed, and
 * none can be moved to another row or column, without its being noticed.
 *
 * Plaintexts are encrypted from where they lie and decrypted to where they go.
 * What was copied on the way is zeroed.  No locks; nothing outlives a call.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "fmgr.h"
#include "utils/memutils.h"

#include "crypto/data_key.h"
#include "crypto/secret.h"
#include "errors.h"
#include "sealed/reencrypt.h"
#include "sealed/sealed.h"
#include "sealed/sealed_users.h"
#include "sealed/search.h"
#include "sealed/unseal_count.h"

#define ASSOCIATED_MAX		(SEALED_HEAD_MAX + 2 + SEALED_CONTEXT_MAX)

StaticAssertDecl(SEALED_KEY_ID_BYTES == UUID_LEN && SEALED_NONCE_BYTES == CRYPTO_NONCE_BYTES &&
				 SEALED_TAG_BYTES == CRYPTO_TAG_BYTES && SEALED_SEARCH_TAG_BYTES <= CRYPTO_MAC_BYTES,
				 "parts of an envelope are as long as what the ciphers make");

static size_t
associated_data(const uint8 *head, size_t head_bytes, const char *context, size_t context_bytes,
				uint8 associated[ASSOCIATED_MAX])
{
	se_assert(head_bytes <= SEALED_HEAD_MAX && context_bytes >= 1 && context_bytes <= SEALED_CONTEXT_MAX);
	memcpy(associated, head, head_bytes);
	associated[head_bytes] = (uint8) (context_bytes >> 8);
	associated[head_bytes + 1] = (uint8) context_bytes;
	memcpy(associated + head_bytes + 2, context, context_bytes);
	return head_bytes + 2 + context_bytes;
}

struct varlena *
sealed_make(const void *plain, size_t bytes, const char *context, size_t context_bytes, bool searchable)
{
	size_t		overhead = searchable ? SEALED_OVERHEAD_MAX : SEALED_OVERHEAD;
	uint8		associated[ASSOCIATED_MAX];
	size_t		associated_bytes;
	const DataKey *search_key = NULL;
	const DataKey *key;
	struct varlena *result;
	uint8	   *start;
	uint8	   *at;

	/* The text form must fit into a string, too. */
	if (bytes > MaxAllocSize / 4 * 3 - SEALED_OVERHEAD_MAX - 1024)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("value is too long to be sealed"),
				 errdetail("A sealed value can be as long as %zu bytes.",
						   (size_t) MaxAllocSize / 4 * 3 - SEALED_OVERHEAD_MAX - 1024)));

	if (searchable)
		search_key = data_key_active(KEY_SEARCH);
	key = data_key_active(KEY_FIELD);

	result = palloc(VARHDRSZ + overhead + bytes);
	SET_VARSIZE(result, VARHDRSZ + overhead + bytes);
	at = start = (uint8 *) VARDATA(result);
	*at++ = SEALED_VERSION;
	*at++ = SEALED_AES_256_GCM | (searchable ? SEALED_SEARCHABLE : 0);
	if (searchable)
	{
		search_tag(search_key, context, context_bytes, plain, bytes, at);
		at += SEALED_SEARCH_TAG_BYTES;
		memcpy(at, data_key_id(search_key)->data, SEALED_KEY_ID_BYTES);
		at += SEALED_KEY_ID_BYTES;
	}
	memcpy(at, data_key_id(key)->data, SEALED_KEY_ID_BYTES);
	at += SEALED_KEY_ID_BYTES;
	associated_bytes = associated_data(start, at - start, context, context_bytes, associated);
	data_key_encrypt(key, associated, associated_bytes, plain, bytes,
					 at, at + SEALED_NONCE_BYTES, at + SEALED_NONCE_BYTES + bytes);
	return result;
}

SealedStatus
sealed_open(const struct varlena *value, const char *context, size_t context_bytes, struct varlena **plain)
{
	struct varlena *flat = pg_detoast_datum_packed(unconstify(struct varlena *, value));
	size_t		size = VARSIZE_ANY_EXHDR(flat);
	SealedStatus status = SEALED_REFUSED;
	uint8		associated[ASSOCIATED_MAX];
	size_t		associated_bytes;
	SealedEnvelope envelope;
	const DataKey *key;
	pg_uuid_t	id;

	*plain = NULL;
	if (!sealed_envelope_parse((const uint8 *) VARDATA_ANY(flat), size, size, &envelope))
		goto done;
	if (envelope.field_key == NULL)
	{
		status = SEALED_IS_TOKEN;
		goto done;
	}
	memcpy(id.data, envelope.field_key, UUID_LEN);
	key = data_key_find(&id, KEY_FIELD);
	if (key == NULL)
	{
		/* A server that has its keys knows them all: then the key is a foreign or destroyed one. */
		if (data_key_active_if_any(KEY_FIELD) == NULL)
			status = SEALED_NO_KEY;
		goto done;
	}

	associated_bytes = associated_data(envelope.head, envelope.head_bytes, context, context_bytes, associated);
	*plain = palloc(VARHDRSZ + envelope.cipher_bytes);
	SET_VARSIZE(*plain, VARHDRSZ + envelope.cipher_bytes);
	if (data_key_decrypt(key, associated, associated_bytes, envelope.cipher, envelope.cipher_bytes,
						 envelope.nonce, envelope.tag, (uint8 *) VARDATA(*plain)))
		status = SEALED_OPENED;
	else
	{
		pfree(*plain);
		*plain = NULL;
	}

done:
	if (flat != value)
		pfree(flat);
	return status;
}

void
sealed_raise(SealedStatus status)
{
	if (status == SEALED_IS_TOKEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a search token holds no value"),
				 errhint("Compare columns with it; store what sentient_edge.seal() returns.")));

	/* These say by themselves what is wrong with the keys. */
	if (status == SEALED_NO_KEY)
	{
		data_keys_require();
		(void) data_key_active(KEY_FIELD);
	}

	ereport(ERROR,
			(errcode(ERRCODE_SE_SEALED_REFUSED),
			 errmsg("sealed value cannot be opened"),
			 errdetail("It was changed or cut short, or it was sealed for another context, under a key that is not known here, or by a later version.")));
}

void
sealed_plain_free(struct varlena *plain)
{
	if (plain == NULL)
		return;
	secret_zero(VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
	pfree(plain);
}

struct varlena *
sealed_renew(const struct varlena *value, const char *context, size_t context_bytes)
{
	static const pg_uuid_t nil = {{0}};
	struct varlena *plain;
	struct varlena *volatile result = NULL;
	pg_uuid_t	key;
	pg_uuid_t	search_key;
	SealedStatus status;

	(void) sealed_key_ids(value, &key, &search_key);
	status = sealed_open(value, context, context_bytes, &plain);
	if (status != SEALED_OPENED)
		sealed_raise(status);

	PG_TRY();
	{
		result = sealed_make(VARDATA(plain), VARSIZE(plain) - VARHDRSZ, context, context_bytes,
							 memcmp(&search_key, &nil, sizeof(nil)) != 0);
	}
	PG_FINALLY();
	{
		sealed_plain_free(plain);
	}
	PG_END_TRY();
	return result;
}

bool
sealed_key_ids(const struct varlena *value, pg_uuid_t *key, pg_uuid_t *search_key)
{
	struct varlena *head = pg_detoast_datum_slice(unconstify(struct varlena *, value), 0, SEALED_HEAD_MAX);
	SealedEnvelope envelope;
	bool		known;

	memset(key, 0, sizeof(*key));
	memset(search_key, 0, sizeof(*search_key));
	known = sealed_envelope_parse((const uint8 *) VARDATA_ANY(head), VARSIZE_ANY_EXHDR(head),
								  toast_raw_datum_size(PointerGetDatum(value)) - VARHDRSZ, &envelope);
	if (known && envelope.field_key != NULL)
		memcpy(key->data, envelope.field_key, UUID_LEN);
	if (known && envelope.search_key != NULL)
		memcpy(search_key->data, envelope.search_key, UUID_LEN);
	if (head != value)
		pfree(head);
	return known;
}

void
sealed_init(void)
{
	unseal_count_init();
	sealed_users_init();
	reencrypt_init();
}
