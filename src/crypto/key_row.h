/*
 * key_row.h
 *		A row of sentient_edge.data_keys, as the key modules share it.
 */
#ifndef SENTIENT_KEY_ROW_H
#define SENTIENT_KEY_ROW_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "crypto/data_key.h"
#include "crypto/master_key.h"

#define KEY_PURPOSES		(KEY_TOKEN + 1)
/* Version, purpose, id, time, public key with a flag, fingerprint. */
#define KEY_METADATA_BYTES	(1 + 1 + UUID_LEN + 8 + 1 + CRYPTO_PUBLIC_BYTES + FINGERPRINT_LENGTH)

typedef enum KeyState
{
	KEY_ACTIVE,
	KEY_DECRYPT_ONLY,
	KEY_DESTROYED,
} KeyState;

typedef struct KeyRow
{
	pg_uuid_t	id;
	KeyPurpose	purpose;
	KeyState	state;
	TimestampTz created_at;
	char		fingerprint[FINGERPRINT_LENGTH + 1];
	bool		has_public;
	uint8		public_key[CRYPTO_PUBLIC_BYTES];
	bool		has_wrapped;
	uint8		wrapped[WRAPPED_KEY_BYTES];
} KeyRow;

typedef enum UnwrapResult
{
	UNWRAP_DONE,
	UNWRAP_UNKNOWN_MASTER,		/* wrapped by a master key that is not here */
	UNWRAP_DAMAGED,				/* the row is not as it was made */
} UnwrapResult;

/* Names of purposes and states in SQL; find returns false for any other. */
extern const char *key_purpose_name(KeyPurpose purpose);
extern bool key_purpose_find(const char *name, KeyPurpose *purpose);
extern const char *key_state_name(KeyState state);
extern bool key_state_find(const char *name, KeyState *state);

/*
 * What a SQL query or a scan has found, as columns key_id, purpose, state,
 * created_at, master_fingerprint, public_key, wrapped_key; false for a row of a
 * purpose or state that this version does not know.
 */
#define KEY_ROW_COLUMNS "key_id, purpose, state, created_at, master_fingerprint, public_key, wrapped_key"
#define KEY_ROW_NATTS	7
extern bool key_row_decode(const Datum *values, const bool *nulls, KeyRow *row);

/* Wrap or unwrap the key of a row; wrap sets fingerprint and wrapped, unwrap writes key. */
extern bool key_row_wrap(KeyRow *row, const MasterKey *master, const uint8 key[CIPHER_KEY_BYTES]);
extern UnwrapResult key_row_unwrap(const KeyRow *row, uint8 key[CIPHER_KEY_BYTES]);

/* The id as text, in the current context. */
extern char *key_id_text(const pg_uuid_t *key_id);

#endif							/* SENTIENT_KEY_ROW_H */
