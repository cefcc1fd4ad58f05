/*
 * source.c
 *		The two tables that the ledger seals: audit.log and audit.security_events.
 *
 * Sealing, verification, proofs and pruning go by what is said here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/typcache.h"

#include "audit/entry.h"
#include "audit/mac.h"
#include "audit/merkle.h"
#include "audit/source.h"
#include "compat.h"

static const Oid entry_types[AUDIT_COLUMNS] = {
	INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, XID8OID, INT8OID, CHAROID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID,
	UUIDOID, TEXTOID, TEXTOID, INETOID, TEXTOID, BYTEAOID,
};
static const Oid event_types[EVENT_COLUMNS] = {
	UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, XID8OID, INT8OID, TEXTOID, TEXTOID, BOOLOID, UUIDOID, TEXTOID, NAMEOID,
	INETOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, BYTEAOID,
};

PG_FUNCTION_INFO_V1(audit_leaf_hash);

const LedgerSource ledger_sources[LEDGER_KINDS] = {
	[LEDGER_ENTRIES] = {
		.table = "audit.log",
		.noun = "entry",
		.plural = "entries",
		.ids = "entry_ids",
		.id = "audit_id",
		.columns = AUDIT_COLUMNS,
		.types = entry_types,
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
		.types = event_types,
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

/* Is the row one of that table? */
static bool
has_columns(const LedgerSource *source, TupleDesc desc)
{
	if (desc->natts != source->columns)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped || TupleDescAttr(desc, i)->atttypid != source->types[i])
			return false;
	}
	return true;
}

/* audit.leaf_hash(row) */
Datum
audit_leaf_hash(PG_FUNCTION_ARGS)
{
	HeapTupleHeader header = PG_GETARG_HEAPTUPLEHEADER(0);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	Datum		values[Max((int) AUDIT_COLUMNS, (int) EVENT_COLUMNS)];
	bool		nulls[Max((int) AUDIT_COLUMNS, (int) EVENT_COLUMNS)];
	const LedgerSource *source = &ledger_sources[LEDGER_ENTRIES];
	StringInfoData bytes;
	Sha256		leaf;
	bytea	   *result = palloc(VARHDRSZ + HASH_BYTES);

	while (source < &ledger_sources[LEDGER_KINDS] && !has_columns(source, desc))
		source++;
	if (source == &ledger_sources[LEDGER_KINDS])
	{
		ReleaseTupleDesc(desc);
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the row is not one of audit.log or audit.security_events"),
				 errhint("Pass whole rows: SELECT audit.leaf_hash(l) FROM audit.log AS l.")));
	}
	heap_deform_tuple(&tuple, desc, values, nulls);
	ReleaseTupleDesc(desc);
	initStringInfo(&bytes);
	source->canonical(&bytes, values, nulls);
	leaf = merkle_leaf(bytes.data, bytes.len);
	SET_VARSIZE(result, VARHDRSZ + HASH_BYTES);
	memcpy(VARDATA(result), leaf.bytes, HASH_BYTES);
	PG_RETURN_BYTEA_P(result);
}
