/*
 * source.c
 *		The two tables that the ledger seals: audit.log and audit.security_events.
 *
 * Sealing, verification, proofs and pruning go by what is said here.
 */
#include "postgres.h"

#include "audit/entry.h"
#include "audit/mac.h"
#include "audit/source.h"

const LedgerSource ledger_sources[LEDGER_KINDS] = {
	[LEDGER_ENTRIES] = {
		.table = "audit.log",
		.noun = "entry",
		.plural = "entries",
		.ids = "entry_ids",
		.id = "audit_id",
		.columns = AUDIT_COLUMNS,
		.occurred_at = AUDIT_OCCURRED_AT,
		.transaction_id = AUDIT_TRANSACTION_ID,
		.mac = AUDIT_MAC,
		.canonical = audit_entry_canonical,
		.mac_label = AUDIT_MAC_ENTRY,
	},
	[LEDGER_EVENTS] = {
		.table = "audit.security_events",
		.noun = "event",
		.plural = "events",
		.ids = "event_ids",
		.id = "event_id",
		.columns = EVENT_COLUMNS,
		.occurred_at = EVENT_OCCURRED_AT,
		.transaction_id = EVENT_TRANSACTION_ID,
		.mac = EVENT_MAC,
		.canonical = audit_event_canonical,
		.mac_label = AUDIT_MAC_EVENT,
	},
};

void
source_check_columns(const LedgerSource *source, int columns)
{
	if (columns != source->columns)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("table \"%s\" does not have the columns of sentient_edge", source->table)));
}
