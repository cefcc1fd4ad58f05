/*
 * verify.c
 *		audit.verify(from_time, to_time): a row for each thing that is wrong with
 *		audit.log, audit.security_events or their ledger.
 *
 * All is read under one snapshot, so that it may run beside writers and sealing;
 * nothing is written and nothing locked, and it works on a standby.  The anchors
 * come first, for they tell what may be missing; then the chain of blocks, then
 * the entries and the events.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit/mac.h"
#include "base/sql.h"
#include "errors.h"
#include "ledger/verify.h"
#include "partition/partition.h"

/* Entries that wait longer than this have been forgotten by whoever should seal them. */
#define WAITING_TOO_LONG_US		((int64) USECS_PER_HOUR)
/* A restore whose end nobody notices for longer is told. */
#define RESTORE_TOO_LONG		"6 hours"
/* The scheduler gets this long to prove the contrary. */
#define WAIT_FOR_BLOCK_MS		3000
#define WAIT_STEP_MS			250

typedef struct KnownKey
{
	pg_uuid_t	key_id;
	bool		known;
	uint8		public_key[CRYPTO_PUBLIC_BYTES];
} KnownKey;

PG_FUNCTION_INFO_V1(audit_verify);

static void
put_finding(Verify *verify, const char *finding, int64 block_number, int64 audit_id, const pg_uuid_t *event_id, const char *detail)
{
	Datum		values[5];
	bool		nulls[5] = {false};

	values[0] = CStringGetTextDatum(finding);
	values[1] = Int64GetDatum(block_number);
	nulls[1] = block_number == NO_BLOCK;
	values[2] = Int64GetDatum(audit_id);
	nulls[2] = audit_id == NO_ENTRY;
	values[3] = CStringGetTextDatum(detail);
	values[4] = UUIDPGetDatum(event_id);
	nulls[4] = event_id == NULL;
	tuplestore_putvalues(verify->result->setResult, verify->result->setDesc, values, nulls);
	verify->nfindings++;
}

void
verify_finding(Verify *verify, const char *finding, int64 block_number, int64 audit_id, const char *format,...)
{
	char		detail[512];
	va_list		args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	put_finding(verify, finding, block_number, audit_id, NULL, detail);
}

void
verify_finding_of(Verify *verify, LedgerKind kind, const char *what, int64 block_number, Datum id, const char *format,...)
{
	char		detail[512];
	char	   *finding = psprintf("%s_%s", what, ledger_sources[kind].noun);
	va_list		args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	if (kind == LEDGER_EVENTS)
		put_finding(verify, finding, block_number, NO_ENTRY, DatumGetUUIDP(id), detail);
	else
		put_finding(verify, finding, block_number, DatumGetInt64(id), NULL, detail);
	pfree(finding);
}

/* Something is to be sealed by the next run. */
static void
wait_for_block(Verify *verify, TimestampTz occurred_at)
{
	if (verify->waiting++ == 0 || occurred_at < verify->waiting_since)
		verify->waiting_since = occurred_at;
}

void
verify_unsealed(Verify *verify, LedgerKind kind, const Datum *values, const bool *nulls, StringInfo bytes)
{
	const LedgerSource *source = &ledger_sources[kind];
	uint64		xid = DatumGetUInt64(values[source->transaction_id]);
	TimestampTz occurred_at = DatumGetTimestampTz(values[source->occurred_at]);

	if (verify->bounded && (occurred_at < verify->from || occurred_at > verify->until))
		return;					/* of a block that is not looked at */
	if (!nulls[source->mac])
	{
		MacVerdict	verdict = audit_check_mac(source->mac_label, bytes, DatumGetByteaPP(values[source->mac]));

		if (verdict == MAC_FORGED)
		{
			verify_finding_of(verify, kind, "forged", NO_BLOCK, values[0], "it is in no block, and its MAC does not fit");
			return;
		}
		if (verdict == MAC_KEY_UNKNOWN && !verify->mac_key_unknown)
		{
			verify->mac_key_unknown = true;
			put_finding(verify, "unknown_key", NO_BLOCK, kind == LEDGER_ENTRIES ? DatumGetInt64(values[0]) : NO_ENTRY,
						kind == LEDGER_EVENTS ? DatumGetUUIDP(values[0]) : NULL,
						"the MACs of this and perhaps others cannot be checked: their key is not among the data keys that this server's master key unwraps");
		}
	}
	else if (verify->has_head && verify->head.is_signed)
	{
		verify_finding_of(verify, kind, "unkeyed", NO_BLOCK, values[0],
						  "it is in no block and has no MAC: forged, or written while the server ran without its key");
		return;
	}

	if (verify->head_snapshot != NULL && seal_snapshot_sees(verify->head_snapshot, xid))
		verify_finding_of(verify, kind, "unsealed", NO_BLOCK, values[0],
						  "it is in no block, though its transaction had ended when the last block was sealed");
	else if (verify->head_snapshot != NULL && xid >= verify->next_xid)
		verify_finding_of(verify, kind, "unsealed", NO_BLOCK, values[0], "it is in no block, and no transaction has its number yet");
	else
		wait_for_block(verify, occurred_at);
}

bool
verify_waits(Verify *verify, LedgerKind kind, const Datum *values, const bool *nulls, StringInfo bytes)
{
	const LedgerSource *source = &ledger_sources[kind];
	uint64		xid = DatumGetUInt64(values[source->transaction_id]);
	TimestampTz occurred_at = DatumGetTimestampTz(values[source->occurred_at]);

	if (verify->bounded && (occurred_at < verify->from || occurred_at > verify->until))
		return true;			/* of a block that is not looked at */
	if (nulls[source->mac] ? verify->has_head && verify->head.is_signed :
		audit_check_mac(source->mac_label, bytes, DatumGetByteaPP(values[source->mac])) != MAC_FITS)
		return false;
	/* Numbers of transactions say nothing yet where the chain comes from another cluster. */
	if (verify->head_snapshot != NULL && (seal_snapshot_sees(verify->head_snapshot, xid) || xid >= verify->next_xid))
		return false;
	wait_for_block(verify, occurred_at);
	return true;
}

char *
verify_attempt(void (*work) (void *arg), void *arg)
{
	ErrorData  *error = sql_attempt(work, arg, CurrentMemoryContext);

	if (error == NULL)
		return NULL;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
		ReThrowError(error);
	return error->message;
}

static const char *
time_literal(TimestampTz time)
{
	return quote_literal_cstr(DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(time))));
}

char *
verify_block_condition(const Verify *verify)
{
	if (!verify->bounded)
		return "";
	return psprintf(" AND b.last_occurred_at >= %s AND b.first_occurred_at <= %s",
					time_literal(verify->from), time_literal(verify->until));
}

char *
verify_row_condition(const Verify *verify, LedgerKind kind)
{
	bool		isnull;
	TimestampTz from = verify->from;
	TimestampTz until = verify->until;

	if (!verify->bounded)
		return "";
	(void) sql_read(psprintf("SELECT min(first_occurred_at), max(last_occurred_at) FROM audit.blocks b WHERE %sholds_events%s",
								kind == LEDGER_EVENTS ? "" : "NOT ", verify_block_condition(verify)));
	if (DatumGetTimestampTz(sql_value(0, 0, &isnull)) < from && !isnull)
		from = DatumGetTimestampTz(sql_value(0, 0, &isnull));
	if (DatumGetTimestampTz(sql_value(0, 1, &isnull)) > until && !isnull)
		until = DatumGetTimestampTz(sql_value(0, 1, &isnull));
	return psprintf(" AND l.occurred_at >= %s AND l.occurred_at <= %s", time_literal(from), time_literal(until));
}

static KnownKey *
find_key(Verify *verify, const pg_uuid_t *key_id)
{
	KnownKey   *found;
	const DataKey *key;

	for (int i = 0; i < verify->nkeys; i++)
	{
		if (memcmp(&verify->keys[i].key_id, key_id, UUID_LEN) == 0)
			return &verify->keys[i];
	}
	verify->keys = verify->nkeys == 0 ? MemoryContextAlloc(verify->context, sizeof(KnownKey)) :
		repalloc(verify->keys, sizeof(KnownKey) * (verify->nkeys + 1));
	found = &verify->keys[verify->nkeys++];
	memset(found, 0, sizeof(*found));
	found->key_id = *key_id;
	key = data_keys_available() ? data_key_find(key_id, KEY_LEDGER) : NULL;
	found->known = key != NULL;
	if (found->known)
		data_key_public(key, found->public_key);
	else
		verify_finding(verify, "unknown_key", NO_BLOCK, NO_ENTRY,
					   "signatures of key %s cannot be checked: it is not among the data keys that this server's master key unwraps",
					   DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(key_id))));
	return found;
}

SignatureVerdict
verify_signature(Verify *verify, const pg_uuid_t *key_id, const void *data, size_t bytes,
				 const uint8 signature[CRYPTO_SIGNATURE_BYTES])
{
	const KnownKey *key = find_key(verify, key_id);

	if (!key->known)
		return SIGNATURE_KEY_UNKNOWN;
	return signature_fits(key->public_key, data, bytes, signature) ? SIGNATURE_FITS : SIGNATURE_WRONG;
}

/* Where the chain ends. */
static void
read_head(Verify *verify)
{
	bool		isnull;
	char	   *snapshot;

	verify->has_head = block_last(&verify->head);
	if (!verify->has_head)
		return;
	(void) sql_read(psprintf("SELECT visible_snapshot::text, foreign_max_audit_id FROM audit.blocks"
								" WHERE block_number = " INT64_FORMAT, verify->head.number));
	snapshot = sql_string(0, 0);
	verify->foreign_max = DatumGetInt64(sql_value(0, 1, &isnull));
	if (snapshot != NULL && verify->head.system_identifier == GetSystemIdentifier())
		verify->head_snapshot = seal_snapshot_parse(snapshot);
}

/* The last block as it is now, whatever the snapshot. */
static int64
newest_block(void)
{
	int64		number = NO_BLOCK;
	bool		isnull;

	PushActiveSnapshot(GetLatestSnapshot());
	if (sql_read("SELECT block_number FROM audit.blocks ORDER BY block_number DESC LIMIT 1") > 0)
		number = DatumGetInt64(sql_value(0, 0, &isnull));
	PopActiveSnapshot();
	return number;
}

/*
 * What has waited for long is a finding, unless it was committed
 * just now by a transaction that took that long: then the next block has them.
 */
static void
check_waiting(Verify *verify)
{
	int64		head = verify->has_head ? verify->head.number : NO_BLOCK;

	if (verify->waiting == 0 || verify->waiting_since > GetCurrentTimestamp() - WAITING_TOO_LONG_US)
		return;
	for (int waited = 0; waited < WAIT_FOR_BLOCK_MS; waited += WAIT_STEP_MS)
	{
		if (newest_block() != head)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	verify_finding(verify, "sealing_stopped", NO_BLOCK, NO_ENTRY,
				   "%lld entries or events wait to be sealed, the oldest since %s", (long long) verify->waiting,
				   timestamptz_to_str(verify->waiting_since));
}

/* While a dump is restored little is checked and nothing sealed: that must end, and be true.  Are triggers still to come? */
static bool
check_restore(Verify *verify)
{
	uint64		n = sql_read("SELECT m.table_name, m.restored_at, " TABLE_IS_BEING_RESTORED ", coalesce(" TABLE_IS_COMPLETE ", false),"
							 " m.restored_at < clock_timestamp() - interval '" RESTORE_TOO_LONG "' OR m.restored_at > clock_timestamp()"
							 " FROM sentient_edge.managed_tables m WHERE m.restored_at IS NOT NULL ORDER BY 1");
	bool		incomplete = false;
	bool		isnull;

	for (uint64 row = 0; row < n; row++)
	{
		bool		complete = DatumGetBool(sql_value(row, 3, &isnull));

		if (!DatumGetBool(sql_value(row, 2, &isnull)))
			verify_finding(verify, "restore_unfinished", NO_BLOCK, NO_ENTRY,
						   "sentient_edge.managed_tables says that a restore of %s began at %s, and there is none",
						   sql_string(row, 0), sql_string(row, 1));
		else if (!complete || DatumGetBool(sql_value(row, 4, &isnull)))
			verify_finding(verify, "restore_unfinished", NO_BLOCK, NO_ENTRY,
						   "a restore of %s began at %s and has not ended: nothing is sealed until telemetry.run_maintenance() declares that it has",
						   sql_string(row, 0), sql_string(row, 1));
		incomplete = incomplete || (DatumGetBool(sql_value(row, 2, &isnull)) && !complete);
	}
	if (sql_read("SELECT FROM audit.restore_events WHERE NOT EXISTS (SELECT FROM sentient_edge.managed_tables m"
				 " WHERE m.table_name = 'audit.security_events' AND " TABLE_IS_BEING_RESTORED ") LIMIT 1") > 0)
		verify_finding(verify, "restore_unfinished", NO_BLOCK, NO_ENTRY,
					   "events wait in audit.restore_events for the end of a restore, and there is none: telemetry.run_maintenance() takes them over");
	return incomplete;
}

/* What should write entries, and what should keep them, must not have been switched off. */
static void
check_triggers(Verify *verify)
{
	uint64		n;

	if (check_restore(verify))
		return;
	/* As audit.audited_tables, which somebody may have replaced; tables that nobody can have left out must be there. */
	n = sql_read("SELECT * FROM (SELECT w.id::regclass::text, CASE WHEN r.oid IS NULL OR t.oid IS NULL THEN 'missing'"
				 " WHEN r.tgenabled <> 'A' OR t.tgenabled <> 'A' THEN 'suspended'"
				 " WHEN r.tgqual IS NOT NULL OR t.tgqual IS NOT NULL OR r.tgattr::text <> '' OR r.tgtype & 25 <> 25 OR t.tgtype & 32 = 0"
				 "  OR (r.tgtype & 4 = 0 AND w.id <> 'telemetry.drone_telemetry'::regclass) THEN 'changed' END AS state"
				 " FROM (SELECT table_id::oid AS id FROM audit.targets"
				 "  UNION SELECT tgrelid FROM pg_trigger WHERE tgname = 'sentient_audit_row' AND tgparentid = 0 AND tgfoid = 'audit.capture_row()'::regprocedure"
				 "  UNION SELECT c.oid FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'"
				 "   WHERE c.relkind = 'r' AND c.relnamespace IN ('core'::regnamespace, 'auth'::regnamespace)) w"
				 " LEFT JOIN pg_trigger r ON r.tgrelid = w.id AND r.tgname = 'sentient_audit_row' AND r.tgparentid = 0 AND r.tgfoid = 'audit.capture_row()'::regprocedure"
				 " LEFT JOIN pg_trigger t ON t.tgrelid = w.id AND t.tgname = 'sentient_audit_truncate' AND t.tgfoid = 'audit.capture_truncate()'::regprocedure) AS s"
				 " WHERE state IS NOT NULL ORDER BY 1");
	for (uint64 row = 0; row < n; row++)
		verify_finding(verify, "capture_off", NO_BLOCK, NO_ENTRY, "changes of %s are not captured: its triggers are %s",
					   sql_string(row, 0), sql_string(row, 1));

	/* Partitions have triggers of their own. */
	n = sql_read("WITH RECURSIVE part (id) AS (SELECT i.inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition"
				 " WHERE i.inhparent IN (SELECT table_id::oid FROM audit.targets UNION SELECT tgrelid FROM pg_trigger"
				 "  WHERE tgparentid = 0 AND tgfoid = 'audit.capture_row()'::regprocedure)"
				 " UNION ALL SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.id)"
				 " SELECT part.id::regclass::text, CASE WHEN bool_or(t.oid IS NULL) THEN 'missing' ELSE 'suspended' END"
				 " FROM part JOIN pg_class c ON c.oid = part.id AND c.relkind IN ('r', 'p')"
				 " CROSS JOIN (VALUES ('audit.capture_row()'::regprocedure), ('audit.capture_truncate()'::regprocedure)) AS f (id)"
				 " LEFT JOIN pg_trigger t ON t.tgrelid = part.id AND t.tgfoid = f.id"
				 " WHERE t.oid IS NULL OR t.tgenabled <> 'A' GROUP BY part.id ORDER BY 1");
	for (uint64 row = 0; row < n; row++)
		verify_finding(verify, "capture_off", NO_BLOCK, NO_ENTRY, "changes of partition %s are not captured: its triggers are %s",
					   sql_string(row, 0), sql_string(row, 1));

	/* pg_partition_tree does not go by the snapshot: it would name partitions whose triggers are not seen yet. */
	n = sql_read("WITH RECURSIVE r (id) AS (SELECT unnest('{audit.log,audit.security_events,audit.restore_events,audit.blocks,audit.anchors}'::regclass[])"
				 " UNION ALL SELECT i.inhrelid::regclass FROM r JOIN pg_inherits i ON i.inhparent = r.id)"
				 " SELECT r.id::text FROM r WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.id AND t.tgfoid = 'audit.append_only()'::regprocedure"
				 " AND t.tgtype & 27 = 27 AND t.tgqual IS NULL AND t.tgattr::text = '' AND t.tgenabled = 'A') ORDER BY 1");
	for (uint64 row = 0; row < n; row++)
		verify_finding(verify, "protection_off", NO_BLOCK, NO_ENTRY, "%s can be changed: its trigger is disabled or was dropped",
					   sql_string(row, 0));

	/* What keeps events from the table, or changes them on their way; entries are written past both. */
	n = sql_read("SELECT i.id::text, i.name FROM (SELECT tgrelid::regclass AS id, tgname AS name FROM pg_trigger WHERE tgtype & 7 = 7 AND NOT tgisinternal"
				 " UNION ALL SELECT ev_class, rulename FROM pg_rewrite WHERE ev_type = '3') AS i"
				 " WHERE i.id IN (SELECT unnest('{audit.security_events,audit.restore_events}'::regclass[])"
				 " UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.security_events'::regclass) ORDER BY 1, 2");
	for (uint64 row = 0; row < n; row++)
		verify_finding(verify, "protection_off", NO_BLOCK, NO_ENTRY, "what is written to %s passes through %s, which is not the extension's",
					   sql_string(row, 0), sql_string(row, 1));
}

/* The functions that write and protect must be the library's, and the event triggers that call them in force. */
static void
check_code(Verify *verify)
{
	uint64		n;

	n = sql_read("SELECT f.name, f.finding FROM (VALUES ('audit.capture_row()', 'audit_capture_row', 'capture_off'),"
				 " ('audit.capture_truncate()', 'audit_capture_truncate', 'capture_off'), ('audit.note_drops()', 'audit_note_drops', 'capture_off'),"
				 " ('audit.follow_partitions()', 'audit_follow_partitions', 'capture_off'), ('audit.record_ddl()', 'record_ddl', 'capture_off'),"
				 " ('audit.record_drop()', 'record_drop', 'capture_off'), ('audit.record_rewrite()', 'record_rewrite', 'capture_off'),"
				 " ('audit.append_only()', 'audit_append_only', 'protection_off')) AS f (name, symbol, finding)"
				 " WHERE NOT EXISTS (SELECT FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid = to_regprocedure(f.name)"
				 " AND l.lanname = 'c' AND p.probin = '$libdir/sentient_edge' AND p.prosrc = f.symbol) ORDER BY 1");
	for (uint64 row = 0; row < n; row++)
		verify_finding(verify, sql_string(row, 1), NO_BLOCK, NO_ENTRY, "function %s was replaced or dropped", sql_string(row, 0));

	n = sql_read("SELECT f.name FROM (VALUES ('sentient_edge_note_drops', 'audit.note_drops()'), ('sentient_edge_follow_partitions', 'audit.follow_partitions()'),"
				 " ('sentient_edge_record_ddl', 'audit.record_ddl()'), ('sentient_edge_record_drop', 'audit.record_drop()'),"
				 " ('sentient_edge_record_rewrite', 'audit.record_rewrite()')) AS f (name, function)"
				 " WHERE NOT EXISTS (SELECT FROM pg_event_trigger t WHERE t.evtname = f.name AND t.evtenabled = 'A'"
				 " AND t.evtfoid = to_regprocedure(f.function) AND (t.evttags IS NULL OR f.name = 'sentient_edge_follow_partitions')) ORDER BY 1");
	for (uint64 row = 0; row < n; row++)
		verify_finding(verify, "capture_off", NO_BLOCK, NO_ENTRY, "event trigger %s is disabled, or was changed or dropped", sql_string(row, 0));
}

Datum
audit_verify(PG_FUNCTION_ARGS)
{
	Verify		verify = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	SqlScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	verify.bounded = !PG_ARGISNULL(0) || !PG_ARGISNULL(1);
	verify.from = PG_ARGISNULL(0) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(0);
	verify.until = PG_ARGISNULL(1) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(1);
	/* No finding would say that all is well. */
	if (verify.from > verify.until)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_time must not be after to_time")));

	scope = sql_begin(0);
	verify.context = CurrentMemoryContext;
	PushActiveSnapshot(GetLatestSnapshot());
	verify.next_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
	read_head(&verify);
	verify_anchors(&verify);
	verify_chain(&verify);
	verify_entries(&verify);
	verify_sealed_events(&verify);
	check_triggers(&verify);
	check_code(&verify);
	check_waiting(&verify);
	PopActiveSnapshot();
	sql_end(&scope);
	return (Datum) 0;
}
