/*
 * prune.c
 *		audit.prune(before): takes old entries and security events out of their
 *		tables so that the rest stays verifiable; and the same for partitions that
 *		retention takes.
 *
 * Blocks stay, with their place in the chain; those of which nothing is left lose
 * their lists of entries.  A signed row of audit.anchors tells what was taken: of
 * the blocks up to its own, the entries before a time; of blocks that also have
 * later ones, which.  Entries and events have an anchor each, since retention takes
 * them at different ages.  What is in no block stays, whatever its age.  All of it
 * is one transaction under the lock of the chain, which sealing waits for.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit/append_only.h"
#include "base/identity.h"
#include "base/sql.h"
#include "errors.h"
#include "events/events.h"
#include "ledger/anchor.h"
#include "ledger/ledger.h"
#include "ledger/prune.h"
#include "ledger/seal.h"
#include "partition/partition.h"

PG_FUNCTION_INFO_V1(audit_prune);

typedef struct Prune
{
	TimestampTz before;
	Datum		spared;			/* oid[]: partitions whose entries go by other means */
	const char *note;
	int64		removed[LEDGER_KINDS];
	int64		blocks;
} Prune;

static void prune_retired(Oid parent, TimestampTz before, const Oid *partitions, int npartitions);

void
prune_init(void)
{
	partition_retire_hook = prune_retired;
}

static bytea *
make_bytea(const void *from, size_t length)
{
	bytea	   *bytes = palloc(VARHDRSZ + length);

	SET_VARSIZE(bytes, VARHDRSZ + length);
	memcpy(VARDATA(bytes), from, length);
	return bytes;
}

static void
add_anchor(const Prune *prune, LedgerKind kind, const LedgerBlock *head, const char *partly)
{
	const DataKey *key = ledger_signing_key(head->is_signed);
	const pg_uuid_t *user = identity_user_id();
	uint8		signature[CRYPTO_SIGNATURE_BYTES] = {0};
	pg_uuid_t	none = {{0}};
	Oid			types[10] = {INT8OID, BYTEAOID, TIMESTAMPTZOID, INT8OID, JSONBOID, UUIDOID, BYTEAOID, TEXTOID, UUIDOID, TEXTOID};
	Datum		values[10];

	if (key != NULL)
	{
		char	   *message = prune_message(head->number, hash_hex(head->block_hash.bytes, HASH_BYTES),
											ledger_sources[kind].plural, prune->before, prune->removed[kind], partly,
											DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(data_key_id(key)))));

		data_key_sign(key, message, strlen(message), signature);
	}
	values[0] = Int64GetDatum(head->number);
	values[1] = PointerGetDatum(make_bytea(head->block_hash.bytes, HASH_BYTES));
	values[2] = TimestampTzGetDatum(prune->before);
	values[3] = Int64GetDatum(prune->removed[kind]);
	values[4] = DirectFunctionCall1(jsonb_in, CStringGetDatum(partly));
	values[5] = UUIDPGetDatum(key != NULL ? data_key_id(key) : &none);
	values[6] = PointerGetDatum(make_bytea(signature, key != NULL ? sizeof(signature) : 0));
	values[7] = CStringGetTextDatum(prune->note != NULL ? prune->note : "");
	values[8] = UUIDPGetDatum(user != NULL ? user : &none);
	values[9] = CStringGetTextDatum(ledger_sources[kind].plural);
	(void) sql_query("INSERT INTO audit.anchors (kind, block_number, block_hash, pruned_before, pruned_entries, pruned_partly,"
					 " algorithm, key_id, signature, note, created_by, pruned_from)"
					 " SELECT 'prune', $1, $2, $3, $4, $5, CASE WHEN octet_length($7) > 0 THEN 'ed25519' END,"
					 " CASE WHEN octet_length($7) > 0 THEN $6 END, CASE WHEN octet_length($7) > 0 THEN $7 END,"
					 " nullif($8, ''), nullif($9, '00000000-0000-0000-0000-000000000000'), $10", 10, types, values);
}

/* Ids that several entries share, because they were given again: the leaf hash tells which of them a block names. */
static Datum
repeated_ids(LedgerKind kind, Datum before)
{
	bool		isnull;

	if (kind == LEDGER_EVENTS)
		return sql_array(NULL, NULL, 0, INT8OID);
	(void) sql_query("SELECT coalesce(array_agg(r.id), '{}') FROM (SELECT e.id FROM audit.blocks b, unnest(b.entry_ids) AS e (id)"
					 " WHERE b.first_occurred_at < $1 GROUP BY 1 HAVING count(*) > 1) AS r", 1, (Oid[]) {TIMESTAMPTZOID}, &before);
	return sql_value(0, 0, &isnull);
}

/* Remove what goes of one kind, and say so; the chain is locked. */
static void
prune_rows(Prune *prune, LedgerKind kind, const LedgerBlock *head)
{
	const LedgerSource *source = &ledger_sources[kind];
	Oid			types[3] = {TIMESTAMPTZOID, OIDARRAYOID, INT8ARRAYOID};
	Datum		values[3];
	bool		isnull;
	char	   *goes;			/* sealed rows of before that time */
	char	   *partly;
	int64		emptied;
	bool		before = append_only_suspend(true);

	values[0] = TimestampTzGetDatum(prune->before);
	values[1] = prune->spared;
	PG_TRY();
	{
		values[2] = repeated_ids(kind, values[0]);
		goes = psprintf(" FROM %s l, audit.blocks b, unnest(b.%s) WITH ORDINALITY AS e (id, n)"
						" WHERE b.first_occurred_at < $1 AND octet_length(b.leaf_hashes) > 0 AND l.%s = e.id AND l.occurred_at < $1%s",
						source->table, source->ids, source->id, kind == LEDGER_EVENTS ? "" :
						psprintf(" AND (e.id <> ALL ($3) OR audit.leaf_hash(l) = substr(b.leaf_hashes, (e.n::integer - 1) * %d + 1, %d))",
								 HASH_BYTES, HASH_BYTES));
		(void) sql_query(psprintf("SELECT count(*)%s", goes), 3, types, values);
		prune->removed[kind] = DatumGetInt64(sql_value(0, 0, &isnull));
		(void) sql_query(psprintf("SELECT coalesce(jsonb_object_agg(block_number, ids), '{}')::text FROM"
								  " (SELECT b.block_number, jsonb_agg(e.id ORDER BY e.id) AS ids%s"
								  " AND b.last_occurred_at >= $1 GROUP BY b.block_number) AS p", goes), 3, types, values);
		partly = sql_string(0, 0);
		(void) sql_query(psprintf("DELETE FROM %s d USING (SELECT l.%s AS id, l.occurred_at%s) AS g"
								  " WHERE d.%s = g.id AND d.occurred_at = g.occurred_at AND d.tableoid <> ALL ($2)",
								  source->table, source->id, goes, source->id),
						 3, types, values);
		emptied = sql_query(psprintf("UPDATE audit.blocks SET %s = '{}', leaf_hashes = ''"
									 " WHERE last_occurred_at < $1 AND cardinality(%s) > 0", source->ids, source->ids), 1, types, values);
		prune->blocks += emptied;
		if (kind == LEDGER_ENTRIES || prune->removed[kind] > 0 || emptied > 0)
			add_anchor(prune, kind, head, partly);
	}
	PG_FINALLY();
	{
		append_only_suspend(before);
	}
	PG_END_TRY();
}

/* Lock the chain, seal what is due, and prune; false when there is nothing to prune from. */
static bool
prune_run(Prune *prune, bool entries, bool events)
{
	SealReport	report;
	LedgerBlock head;
	bool		has_head;

	(void) ledger_lock(true);
	if (!ledger_seal(false, true, &report))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing can be pruned while a dump is being restored")));
	PushActiveSnapshot(GetLatestSnapshot());
	has_head = block_last(&head);
	PopActiveSnapshot();
	if (has_head && entries)
		prune_rows(prune, LEDGER_ENTRIES, &head);
	if (has_head && events)
		prune_rows(prune, LEDGER_EVENTS, &head);
	return has_head;
}

/* Partitions are about to be detached or dropped, in this transaction. */
static void
prune_retired(Oid parent, TimestampTz before, const Oid *partitions, int npartitions)
{
	Prune		prune = {.before = before, .note = "retention"};
	Datum	   *oids;

	Oid			namespace = get_namespace_oid("audit", false);
	bool		entries = parent == get_relname_relid("log", namespace);
	bool		events = parent == get_relname_relid("security_events", namespace);

	if (!entries && !events)
		return;
	oids = palloc(sizeof(Datum) * npartitions);
	for (int i = 0; i < npartitions; i++)
		oids[i] = ObjectIdGetDatum(partitions[i]);
	prune.spared = sql_array(oids, NULL, npartitions, OIDOID);
	(void) prune_run(&prune, entries, events);
}

static void
record_pruning(const Prune *prune)
{
	SecurityEvent event;

	security_event_begin(&event, EVENT_AUDIT_CHANGED, EVENT_SUCCEEDED);
	security_event_object(&event, "audit.log, audit.security_events");
	security_event_detail(&event, "operation", "prune");
	security_event_detail(&event, "before", anchor_time(prune->before));
	security_event_detail(&event, "entries", psprintf(INT64_FORMAT, prune->removed[LEDGER_ENTRIES]));
	security_event_detail(&event, "events", psprintf(INT64_FORMAT, prune->removed[LEDGER_EVENTS]));
	security_event(&event);
}

/* audit.prune(before, note) */
Datum
audit_prune(PG_FUNCTION_ARGS)
{
	Prune		prune = {.before = PG_ARGISNULL(0) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(0)};
	SqlScope	scope;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};

	PreventCommandIfReadOnly("audit.prune()");
	PreventCommandDuringRecovery("audit.prune()");
	if (TIMESTAMP_NOT_FINITE(prune.before) || prune.before > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("entries can be pruned up to a time in the past only")));
	if (!PG_ARGISNULL(1))
		prune.note = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	scope = sql_begin(0);
	prune.spared = sql_array(NULL, NULL, 0, OIDOID);
	if (prune_run(&prune, true, true))
		record_pruning(&prune);
	sql_end(&scope);
	values[0] = Int64GetDatum(prune.removed[LEDGER_ENTRIES]);
	values[1] = Int64GetDatum(prune.blocks);
	values[2] = Int64GetDatum(prune.removed[LEDGER_EVENTS]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
