/*
 * key_row.c
 *		A row of sentient_edge.data_keys: names, decoding, and the binding of a
 *		wrapped key to the rest of its row.
 *
 * The id, the purpose, the time and the public key are associated data of the
 * wrap.  A row whose key was exchanged for another's, or that was given another
 * purpose, does not unwrap.  The state is not bound: anybody who may write the
 * table can take a key out of use anyway.
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "crypto/key_row.h"
#include "crypto/secret.h"
#include "errors.h"

#define METADATA_VERSION	1

/* The codes are part of what a key is bound to: never to be changed. */
static const struct
{
	const char *name;
	uint8		code;
}			purposes[] = {
	[KEY_FIELD] = {"field", 1},
	[KEY_SEARCH] = {"search", 2},
	[KEY_AUDIT_MAC] = {"audit_mac", 3},
	[KEY_LEDGER] = {"ledger", 4},
	[KEY_TOKEN] = {"token", 5},
};

StaticAssertDecl(lengthof(purposes) == KEY_PURPOSES, "a purpose has no name");

static const char *const states[] = {
	[KEY_ACTIVE] = "active",
	[KEY_DECRYPT_ONLY] = "decrypt_only",
	[KEY_DESTROYED] = "destroyed",
};

const char *
key_purpose_name(KeyPurpose purpose)
{
	return purposes[purpose].name;
}

bool
key_purpose_find(const char *name, KeyPurpose *purpose)
{
	for (int i = 0; i < lengthof(purposes); i++)
	{
		if (strcmp(purposes[i].name, name) == 0)
		{
			*purpose = (KeyPurpose) i;
			return true;
		}
	}
	return false;
}

const char *
key_state_name(KeyState state)
{
	return states[state];
}

bool
key_state_find(const char *name, KeyState *state)
{
	for (int i = 0; i < lengthof(states); i++)
	{
		if (strcmp(states[i], name) == 0)
		{
			*state = (KeyState) i;
			return true;
		}
	}
	return false;
}

/* Copy a bytea of exactly this length; false for any other. */
static bool
copy_bytes(Datum value, uint8 *to, size_t length)
{
	bytea	   *bytes = DatumGetByteaPP(value);

	if (VARSIZE_ANY_EXHDR(bytes) != length)
		return false;
	memcpy(to, VARDATA_ANY(bytes), length);
	return true;
}

bool
key_row_decode(const Datum *values, const bool *nulls, KeyRow *row)
{
	memset(row, 0, sizeof(*row));
	if (nulls[0] || nulls[1] || nulls[2] || nulls[3])
		return false;
	row->id = *DatumGetUUIDP(values[0]);
	if (!key_purpose_find(TextDatumGetCString(values[1]), &row->purpose) ||
		!key_state_find(TextDatumGetCString(values[2]), &row->state))
		return false;
	row->created_at = DatumGetTimestampTz(values[3]);
	if (!nulls[4])
		strlcpy(row->fingerprint, TextDatumGetCString(values[4]), sizeof(row->fingerprint));
	row->has_public = !nulls[5] && copy_bytes(values[5], row->public_key, sizeof(row->public_key));
	row->has_wrapped = !nulls[6] && copy_bytes(values[6], row->wrapped, sizeof(row->wrapped));
	return true;
}

static void
make_metadata(const KeyRow *row, uint8 metadata[KEY_METADATA_BYTES])
{
	uint8	   *to = metadata;
	uint64		created_at = pg_hton64((uint64) row->created_at);

	memset(metadata, 0, KEY_METADATA_BYTES);
	*to++ = METADATA_VERSION;
	*to++ = purposes[row->purpose].code;
	memcpy(to, row->id.data, UUID_LEN);
	to += UUID_LEN;
	memcpy(to, &created_at, sizeof(created_at));
	to += sizeof(created_at);
	*to++ = row->has_public;
	memcpy(to, row->public_key, CRYPTO_PUBLIC_BYTES);
	to += CRYPTO_PUBLIC_BYTES;
	memcpy(to, row->fingerprint, strlen(row->fingerprint));
	se_assert(to + FINGERPRINT_LENGTH == metadata + KEY_METADATA_BYTES);
}

bool
key_row_wrap(KeyRow *row, const MasterKey *master, const uint8 key[CIPHER_KEY_BYTES])
{
	uint8		metadata[KEY_METADATA_BYTES];

	strlcpy(row->fingerprint, master->fingerprint, sizeof(row->fingerprint));
	make_metadata(row, metadata);
	row->has_wrapped = master_key_wrap(master, key, metadata, sizeof(metadata), row->wrapped);
	return row->has_wrapped;
}

UnwrapResult
key_row_unwrap(const KeyRow *row, uint8 key[CIPHER_KEY_BYTES])
{
	const MasterKey *master = master_key_find(row->fingerprint);
	uint8		metadata[KEY_METADATA_BYTES];

	if (master == NULL)
		return UNWRAP_UNKNOWN_MASTER;
	make_metadata(row, metadata);
	if (row->has_wrapped && master_key_unwrap(master, row->wrapped, metadata, sizeof(metadata), key))
		return UNWRAP_DONE;
	return UNWRAP_DAMAGED;
}

char *
key_id_text(const pg_uuid_t *key_id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(key_id)));
}
