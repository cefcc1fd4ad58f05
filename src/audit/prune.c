/*
 * prune.c
 *		audit.prune(before): takes old entries out of audit.log so that the rest
 *		stays verifiable; and the same for partitions that retention takes.
 *
 * Blocks stay, with their place in the chain; those of which nothing is left lose
 * their lists of entries.  A signed row of audit.anchors tells what was taken: of
 * the blocks up to its own, the entries before a time; of blocks that also have
 * later ones, which.  Entries that are in no block stay, whatever their age.  All
 * of it is one transaction under the lock of the chain, which sealing waits for.
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

#include "audit/anchor.h"
#include "audit/append_only.h"
#include "audit/ledger.h"
#include "audit/prune.h"
#include "audit/seal.h"
#include "base/identity.h"
#include "base/sql.h"
#include "errors.h"
#include "partition/partition.h"

PG_FUNCTION_INFO_V1(audit_prune);

typedef struct Prune
{
	TimestampTz before;
	Datum		spared;			/* oid[]: partitions whose entries go by other means */
	const char *note;
	int64		entries;
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

/* Which entries go: sealed ones of before that time. */
#define GOES \
	" FROM audit.log l, audit.blocks b, unnest(b.entry_ids) AS e (id)" \
	" WHERE b.first_occurred_at < $1 AND octet_length(b.leaf_hashes) > 0 AND l.audit_id = e.id AND l.occurred_at < $1"

static void
add_anchor(const Prune *prune, const LedgerBlock *head, const char *partly)
{
	const DataKey *key = ledger_signing_key(head->is_signed);
	const pg_uuid_t *user = identity_user_id();
	uint8		signature[CRYPTO_SIGNATURE_BYTES] = {0};
	pg_uuid_t	none = {{0}};
	Oid			types[9] = {INT8OID, BYTEAOID, TIMESTAMPTZOID, INT8OID, JSONBOID, UUIDOID, BYTEAOID, TEXTOID, UUIDOID};
	Datum		values[9];

	if (key != NULL)
	{
		char	   *message = prune_message(head->number, hash_hex(head->block_hash.bytes, HASH_BYTES), prune->before,
											prune->entries, partly,
											DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(data_key_id(key)))));

		data_key_sign(key, message, strlen(message), signature);
	}
	values[0] = Int64GetDatum(head->number);
	values[1] = PointerGetDatum(make_bytea(head->block_hash.bytes, HASH_BYTES));
	values[2] = TimestampTzGetDatum(prune->before);
	values[3] = Int64GetDatum(prune->entries);
	values[4] = DirectFunctionCall1(jsonb_in, CStringGetDatum(partly));
	values[5] = UUIDPGetDatum(key != NULL ? data_key_id(key) : &none);
	values[6] = PointerGetDatum(make_bytea(signature, key != NULL ? sizeof(signature) : 0));
	values[7] = CStringGetTextDatum(prune->note != NULL ? prune->note : "");
	values[8] = UUIDPGetDatum(user != NULL ? user : &none);
	(void) sql_query("INSERT INTO audit.anchors (kind, block_number, block_hash, pruned_before, pruned_entries, pruned_partly,"
					 " algorithm, key_id, signature, note, created_by)"
					 " SELECT 'prune', $1, $2, $3, $4, $5, CASE WHEN octet_length($7) > 0 THEN 'ed25519' END,"
					 " CASE WHEN octet_length($7) > 0 THEN $6 END, CASE WHEN octet_length($7) > 0 THEN $7 END,"
					 " nullif($8, ''), nullif($9, '00000000-0000-0000-0000-000000000000')", 9, types, values);
}

/* Remove what goes, and say so; the chain is locked. */
static void
prune_entries(Prune *prune, const LedgerBlock *head)
{
	Oid			types[2] = {TIMESTAMPTZOID, OIDARRAYOID};
	Datum		values[2];
	bool		isnull;
	char	   *partly;
	bool		before = append_only_suspend(true);

	values[0] = TimestampTzGetDatum(prune->before);
	values[1] = prune->spared;
	PG_TRY();
	{
		(void) sql_query("SELECT count(*)" GOES, 1, types, values);
		prune->entries = DatumGetInt64(sql_value(0, 0, &isnull));
		(void) sql_query("SELECT coalesce(jsonb_object_agg(block_number, ids), '{}')::text FROM"
						 " (SELECT b.block_number, jsonb_agg(e.id ORDER BY e.id) AS ids" GOES
						 " AND b.last_occurred_at >= $1 GROUP BY b.block_number) AS p", 1, types, values);
		partly = sql_string(0, 0);
		(void) sql_query("DELETE FROM audit.log d USING (SELECT l.audit_id, l.occurred_at" GOES ") AS g"
						 " WHERE d.audit_id = g.audit_id AND d.occurred_at = g.occurred_at AND d.tableoid <> ALL ($2)",
						 2, types, values);
		prune->blocks = sql_query("UPDATE audit.blocks SET entry_ids = '{}', leaf_hashes = ''"
								  " WHERE last_occurred_at < $1 AND octet_length(leaf_hashes) > 0", 1, types, values);
		add_anchor(prune, head, partly);
	}
	PG_FINALLY();
	{
		append_only_suspend(before);
	}
	PG_END_TRY();
}

/* Lock the chain, seal what is due, and prune; false when there is nothing to prune from. */
static bool
prune_run(Prune *prune)
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
	if (has_head)
		prune_entries(prune, &head);
	return has_head;
}

/* Partitions of audit.log are about to be detached or dropped, in this transaction. */
static void
prune_retired(Oid parent, TimestampTz before, const Oid *partitions, int npartitions)
{
	Prune		prune = {.before = before, .note = "retention"};
	Datum	   *oids;

	if (parent != get_relname_relid("log", get_namespace_oid("audit", false)))
		return;
	oids = palloc(sizeof(Datum) * npartitions);
	for (int i = 0; i < npartitions; i++)
		oids[i] = ObjectIdGetDatum(partitions[i]);
	prune.spared = sql_array(oids, NULL, npartitions, OIDOID);
	(void) prune_run(&prune);
}

/* audit.prune(before, note) */
Datum
audit_prune(PG_FUNCTION_ARGS)
{
	Prune		prune = {.before = PG_ARGISNULL(0) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(0)};
	SqlScope	scope;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};

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
	(void) prune_run(&prune);
	sql_end(&scope);
	values[0] = Int64GetDatum(prune.entries);
	values[1] = Int64GetDatum(prune.blocks);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
