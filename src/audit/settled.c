/*
 * settled.c
 *		Has a database had the extension long enough to be no target of a restore?
 *
 * A restore begins with CREATE EXTENSION, and the workers notice that at once,
 * while the dump's own tables, keys and blocks are still to come.  Security events
 * come from the first moment on, if only of the login; what they would have made
 * for them (keys, blocks, partitions) would be in the restore's way, so it waits.
 *
 * A restore whose CREATE EXTENSION is long ago may still be at what comes before
 * its tables: as long as the session that was there then is at work it counts as
 * one, up to a limit, since it may be any session of an application as well.
 *
 * Neither audit.log nor the events are looked at: whoever reads a default partition
 * and writes to it later in his transaction deadlocks with maintenance.
 */
#include "postgres.h"

#include "audit/settled.h"
#include "base/sql.h"
#include "partition/partition.h"

#define SETTLED_AFTER			"30 s"
#define SETTLED_IN_ANY_CASE		"10 min"

bool
audit_is_restoring(void)
{
	return sql_read("SELECT FROM sentient_edge.managed_tables m"
					" WHERE m.table_name IN ('audit.log', 'audit.security_events') AND " TABLE_IS_BEING_RESTORED) > 0;
}

bool
audit_is_settled(void)
{
	static bool settled = false;
	bool		isnull;

	if (audit_is_restoring())
		return false;
	if (!settled)
	{
		(void) sql_read("SELECT EXISTS (SELECT FROM audit.blocks) OR EXISTS (SELECT FROM sentient_edge.managed_tables m"
						" WHERE m.created_at < clock_timestamp() - interval '" SETTLED_IN_ANY_CASE "'"
						" OR m.created_at < clock_timestamp() - interval '" SETTLED_AFTER "' AND NOT EXISTS"
						" (SELECT FROM pg_stat_activity s WHERE s.datname = current_database()"
						" AND s.backend_type = 'client backend' AND s.pid <> pg_backend_pid() AND s.backend_start < m.created_at"
						" AND (s.state <> 'idle' OR s.state_change > clock_timestamp() - interval '" SETTLED_AFTER "')))");
		settled = DatumGetBool(sql_value(0, 0, &isnull));
	}
	return settled;
}
