/*
 * mac_users.c
 *		The audit trail as a user of data keys: entries and events whose MAC nobody
 *		could check any more if its key were destroyed.
 *
 * Asked by way of key_users.h.  A signature needs no data key to be verified: the
 * public key of a ledger key stays when the key is destroyed.  Tables that
 * retention has detached are not looked through.  New MACs are made under the
 * active key only, so the tables need no lock.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/uuid.h"

#include "audit/mac_users.h"
#include "base/sql.h"
#include "crypto/key_users.h"

/* As key_users.h says. */
static int64
count_macs(const pg_uuid_t *key_id, KeyPurpose purpose, char **place)
{
	Oid			types[1] = {UUIDOID};
	Datum		values[1] = {UUIDPGetDatum(key_id)};
	int64		entries;
	int64		events;
	bool		isnull;

	if (purpose != KEY_AUDIT_MAC)
		return 0;
	/* A MAC begins with the id of its key. */
	(void) sql_query("SELECT (SELECT count(*) FROM audit.log WHERE substr(mac, 1, 16) = uuid_send($1)), "
					 "(SELECT count(*) FROM audit.security_events WHERE substr(mac, 1, 16) = uuid_send($1))", 1, types, values);
	entries = DatumGetInt64(sql_value(0, 0, &isnull));
	events = DatumGetInt64(sql_value(0, 1, &isnull));
	*place = psprintf("audit.log (" INT64_FORMAT "), audit.security_events (" INT64_FORMAT ")", entries, events);
	return entries + events;
}

void
mac_users_init(void)
{
	key_users_add(count_macs);
}
