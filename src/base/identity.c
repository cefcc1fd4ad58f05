/*
 * identity.c
 *		Who acts: the application's user and client.
 *
 * The one place where a verified identity comes from.  No sessions are verified
 * yet, so the user is unknown, and the client's address is the connection's.
 * Called by the audit triggers for every changed row: the address is converted
 * once a backend, nothing else is looked up.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "base/identity.h"

const pg_uuid_t *
identity_user_id(void)
{
	return NULL;
}

const inet *
identity_client_address(void)
{
	static bool known = false;
	static inet *address = NULL;

	if (!known)
	{
		LOCAL_FCINFO(fcinfo, 0);
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		Datum		connected;

		InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
		connected = inet_client_addr(fcinfo);
		if (!fcinfo->isnull)
			address = DatumGetInetPP(connected);
		MemoryContextSwitchTo(old);
		known = true;
	}
	return address;
}
