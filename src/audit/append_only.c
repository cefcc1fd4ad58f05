/*
 * append_only.c
 *		The trigger that keeps the audit trail append-only.
 *
 * BEFORE UPDATE or DELETE of a row, and BEFORE TRUNCATE, of audit.log, the ledger
 * and the security events; it fires whatever session_replication_role says, and
 * refuses everybody, superusers as well.  What passes is audit.prune, and
 * maintenance that moves entries from the default partition to their own.  A
 * superuser who drops or disables the trigger leaves traces that audit.verify
 * finds.  Takes no locks.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/rel.h"

#include "audit/append_only.h"
#include "partition/partition.h"

PG_FUNCTION_INFO_V1(audit_append_only);

static bool suspended = false;

bool
append_only_suspend(bool suspend)
{
	bool		before = suspended;

	suspended = suspend;
	return before;
}

bool
append_only_suspended(void)
{
	return suspended || partition_housekeeping();
}

Datum
audit_append_only(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("append_only must be a BEFORE trigger for UPDATE, DELETE or TRUNCATE")));
	if (!append_only_suspended())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table \"%s\" is append-only", RelationGetRelationName(trigger->tg_relation)),
				 errdetail("What the audit trail holds is not changed or removed by anybody."),
				 errhint("Use audit.prune, or the setting audit.retention, for what is old.")));
	if (TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple);
}
