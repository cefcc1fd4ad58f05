/*
 * events_mac.c
 *		Has the key made that MACs of security events need.
 *
 * A session never waits for a key: its event may be about the very making of one,
 * or of the extension.  The scheduler has it made, once the database is settled.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "audit/settled.h"
#include "base/sql.h"
#include "crypto/data_key.h"
#include "events/events_mac.h"

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
		if (sql_hold_extension())
		{
			SqlScope	scope = sql_begin(0);
			bool		settled = audit_is_settled();

			sql_end(&scope);
			if (settled)
				(void) data_key_active(KEY_AUDIT_MAC);
		}
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
