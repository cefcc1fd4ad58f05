/*
 * events_restore.c
 *		Security events that have waited for the end of a restore: they move from
 *		audit.restore_events to audit.security_events.
 *
 * Called by the maintenance of partitions in the transaction that ends a restore.
 * What has a MAC moves as it is.  What was written before the dump had brought the
 * key has none; it gets one now, and says that it is of a restore, so that the
 * ledger, which may be a signed one, takes it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"

#include "audit/entry.h"
#include "audit/source.h"
#include "base/sql.h"
#include "crypto/data_key.h"
#include "events/events_restore.h"
#include "events/events_write.h"
#include "partition/partition.h"

static void
take_waiting(Oid parent)
{
	SPITupleTable *unkeyed;
	uint64		n;

	if (parent != get_relname_relid("security_events", get_namespace_oid("audit", false)))
		return;
	(void) sql_query("WITH moved AS (DELETE FROM audit.restore_events WHERE mac IS NOT NULL RETURNING *)"
					 " INSERT INTO audit.security_events SELECT * FROM moved ON CONFLICT DO NOTHING", 0, NULL, NULL);
	if (data_key_active_if_any(KEY_AUDIT_MAC) == NULL)
	{
		(void) sql_query("WITH moved AS (DELETE FROM audit.restore_events RETURNING *)"
						 " INSERT INTO audit.security_events SELECT * FROM moved ON CONFLICT DO NOTHING", 0, NULL, NULL);
		return;
	}

	/* Changed in its place first, for what RETURNING gives to be what is written. */
	(void) sql_query("UPDATE audit.restore_events SET details = details || '{\"restore\": \"true\"}'", 0, NULL, NULL);
	n = sql_query("DELETE FROM audit.restore_events RETURNING *", 0, NULL, NULL);
	unkeyed = SPI_tuptable;
	if (n > 0)
		source_check_columns(&ledger_sources[LEDGER_EVENTS], unkeyed->tupdesc->natts);
	for (uint64 row = 0; row < n; row++)
	{
		Datum		values[EVENT_COLUMNS];
		bool		nulls[EVENT_COLUMNS];

		heap_deform_tuple(unkeyed->vals[row], unkeyed->tupdesc, values, nulls);
		events_insert(values, nulls);
	}
}

void
events_restore_init(void)
{
	partition_restored_hook = take_waiting;
}
