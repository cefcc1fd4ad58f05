/*
 * mac.c
 *		MACs of the audit trail: who has the master key can tell an entry or an event
 *		that the server wrote from one that was written past it.
 *
 * The value is the id of the data key (16 bytes) and the first 16 bytes of
 * HMAC-SHA-256 over the canonical bytes, under the subkey of the label.  No key is
 * made here: log_write.c and events_mac.c have that done if it can be.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/uuid.h"

#include "audit/mac.h"
#include "crypto/data_key.h"

#define MAC_KEPT_BYTES			16
#define MAC_VALUE_BYTES			(UUID_LEN + MAC_KEPT_BYTES)

bytea *
audit_mac(const char *label, StringInfo bytes)
{
	const DataKey *key = data_key_active_if_any(KEY_AUDIT_MAC);
	uint8		mac[CRYPTO_MAC_BYTES];
	bytea	   *value;

	if (key == NULL)
		return NULL;
	data_key_mac(key, label, bytes->data, bytes->len, mac);
	value = palloc(VARHDRSZ + MAC_VALUE_BYTES);
	SET_VARSIZE(value, VARHDRSZ + MAC_VALUE_BYTES);
	memcpy(VARDATA(value), data_key_id(key)->data, UUID_LEN);
	memcpy(VARDATA(value) + UUID_LEN, mac, MAC_KEPT_BYTES);
	return value;
}

MacVerdict
audit_check_mac(const char *label, StringInfo bytes, const bytea *mac)
{
	const uint8 *value = (const uint8 *) VARDATA_ANY(mac);
	const DataKey *key;
	pg_uuid_t	key_id;
	uint8		computed[CRYPTO_MAC_BYTES];
	uint8		difference = 0;

	if (VARSIZE_ANY_EXHDR(mac) != MAC_VALUE_BYTES)
		return MAC_FORGED;
	memcpy(key_id.data, value, UUID_LEN);
	key = data_key_find(&key_id, KEY_AUDIT_MAC);
	if (key == NULL)
		return MAC_KEY_UNKNOWN;
	data_key_mac(key, label, bytes->data, bytes->len, computed);
	for (int i = 0; i < MAC_KEPT_BYTES; i++)
		difference |= computed[i] ^ value[UUID_LEN + i];
	return difference == 0 ? MAC_FITS : MAC_FORGED;
}
