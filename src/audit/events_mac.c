/*
 * events_mac.c
 *		The MAC of a security event: who has the master key can tell an event that
 *		the server wrote from one that was written past it.
 *
 * Made like that of an audit entry: the id of the data key and the first 16 bytes
 * of HMAC-SHA-256 over the canonical bytes, under a subkey of its own.  A session
 * never waits for a key here: its event may be about the very making of one, or of
 * the extension.  The scheduler has it made.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "audit/events_mac.h"
#include "crypto/data_key.h"

#define MAC_LABEL				"security event 1"
#define MAC_KEPT_BYTES			16
#define MAC_VALUE_BYTES			(UUID_LEN + MAC_KEPT_BYTES)

bytea *
event_mac(StringInfo bytes)
{
	const DataKey *key = data_key_active_if_any(KEY_AUDIT_MAC);
	uint8		mac[CRYPTO_MAC_BYTES];
	bytea	   *value;

	if (key == NULL)
		return NULL;
	data_key_mac(key, MAC_LABEL, bytes->data, bytes->len, mac);
	value = palloc(VARHDRSZ + MAC_VALUE_BYTES);
	SET_VARSIZE(value, VARHDRSZ + MAC_VALUE_BYTES);
	memcpy(VARDATA(value), data_key_id(key)->data, UUID_LEN);
	memcpy(VARDATA(value) + UUID_LEN, mac, MAC_KEPT_BYTES);
	return value;
}

MacVerdict
event_check_mac(StringInfo bytes, const bytea *mac)
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
	data_key_mac(key, MAC_LABEL, bytes->data, bytes->len, computed);
	for (int i = 0; i < MAC_KEPT_BYTES; i++)
		difference |= computed[i] ^ value[UUID_LEN + i];
	return difference == 0 ? MAC_FITS : MAC_FORGED;
}

void
event_mac_prepare(void)
{
	static bool complained = false;
	MemoryContext context = CurrentMemoryContext;

	if (!data_keys_available())
		return;
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		(void) data_key_active(KEY_AUDIT_MAC);
		PopActiveSnapshot();
		CommitTransactionCommand();
		complained = false;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* Events are written all the same. */
		MemoryContextSwitchTo(context);
		HOLD_INTERRUPTS();
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
		MemoryContextSwitchTo(context);
		if (!complained)
			ereport(LOG,
					(errmsg("security events are written without a MAC: %s", error->message)));
		complained = true;
		FreeErrorData(error);
	}
	PG_END_TRY();
}
