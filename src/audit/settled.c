/*
 * settled.c
 *		Has a database had the extension long enough to be no target of a restore?
 *
 * A restore begins with CREATE EXTENSION, and the workers notice that at once,
 * while the dump's own tables, keys and blocks are still to come.  Security events
 * come from the first moment on, if only of the login; what they would have made
 * for them (keys, blocks, partitions) would be in the restore's way, so it waits.
 *
 * Neither audit.log nor the events are looked at: whoever reads a default partition
 * and writes to it later in his transaction deadlocks with maintenance.
 */
#include "postgres.h"

#include "audit/ledger.h"
#include "audit/settled.h"
#include "base/sql.h"

#define SETTLED_AFTER			"30 s"

bool
audit_is_settled(void)
{
	static bool settled = false;
	bool		isnull;

	if (ledger_is_restoring())
		return false;
	if (!settled)
	{
		(void) ledger_read("SELECT EXISTS (SELECT FROM audit.blocks) OR EXISTS (SELECT FROM sentient_edge.managed_tables"
						   " WHERE created_at < clock_timestamp() - interval '" SETTLED_AFTER "')");
		settled = DatumGetBool(sql_value(0, 0, &isnull));
	}
	return settled;
}
