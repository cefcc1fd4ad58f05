/*
 * seal.c
 *		Sealing entries of audit.log and security events into blocks; audit.seal().
 *		The scheduler's job is seal_job.c.
 *
 * A run takes the chain's lock, then a snapshot, and collects the entries whose
 * transaction that snapshot sees and the snapshot of the last block did not, in
 * blocks of up to 10,000; then the events likewise.  All blocks of a run are one
 * transaction: a crash in the middle leaves none of them, and the next run finds
 * the same entries again.
 *
 * What a run costs depends on what is new, not on the age of the log: entries and
 * events are found by their transaction, through the indexes on it.  Nothing is
 * concluded from the order of audit_ids here: a sequence can be set back (see
 * seal_ids.c), count down, or hand its values to sessions in advance.
 *
 * Transaction ids mean something in one cluster only.  Where the last block was
 * sealed in another one (the database was restored, or upgraded), the run takes
 * every entry that no block names, and ends with a block of this cluster even if
 * that is empty.  Entries up to its foreign_max_audit_id carry ids of another
 * cluster: they are looked up among the sealed ones whenever they seem to be due;
 * events always are.
 *
 * Partitions too old to have new entries are left out, see horizon.c.
 *
 * An entry or event is sealed only if its MAC fits.  Without any key there are no
 * MACs and blocks are unsigned; the first run with a key seals what has no MAC into
 * unsigned blocks, and signs from then on, even if only an empty block.  What comes
 * later without a MAC is left out and reported, until an administrator accepts it:
 * audit.seal(true).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit/entry.h"
#include "audit/mac.h"
#include "audit/seal_snapshot.h"
#include "audit/settled.h"
#include "base/sql.h"
#include "capture/horizon.h"
#include "crypto/data_key_cache.h"
#include "errors.h"
#include "events/events.h"
#include "ledger/ledger.h"
#include "ledger/seal.h"
#include "ledger/seal_ids.h"

#define SEAL_FETCH				1000	/* entries that are read at once */
/* The query of nearly every run; its plan is kept, for planning takes a while with many partitions. */
#define RECENT_ENTRIES			"SELECT l.* FROM audit.log l WHERE l.transaction_id >= $1 AND l.transaction_id <= $2 AND l.occurred_at >= $3"

/* Transactions from next_xid on have audit_ids above this one, as long as the sequence goes upwards. */
typedef struct Given
{
	int64		audit_id;
	uint64		next_xid;
} Given;

typedef struct SealRun
{
	SealSnapshot *now;
	SealSnapshot *before;		/* NULL: every entry that no block names */
	bool		has_last;
	bool		was_signed;		/* the last block before the run */
	LedgerBlock last;
	uint64		system_identifier;
	bool		is_foreign;		/* the last block is of another cluster, or there is none */
	Given		given_now;
	RepeatedIds repeated;
	Horizons   *horizons;
	LedgerKind	kind;			/* of the rows */
	int64		foreign_max;	/* entries up to here may come from another cluster */
	bool		asked_for_key;
	const DataKey *key;
	bool		accept_unkeyed;
	bool		has_unkeyed;	/* among the rows */
	SealRow    *rows;
	int			nrows;
	MemoryContext row_context;
	SealReport *report;
} SealRun;

/*
 * What this backend found up to date: nothing was due since the block up to the
 * snapshot, so that the next run need not look there again.
 */
static struct
{
	bool		valid;
	Oid			database;
	Sha256		block_hash;
	char	   *snapshot;		/* in TopMemoryContext */
}			seal_memo;

PG_FUNCTION_INFO_V1(audit_seal);

static int
compare_events(const void *a, const void *b)
{
	return memcmp(&((const SealRow *) a)->event_id, &((const SealRow *) b)->event_id, UUID_LEN);
}

/* Append a block over the first n rows, which are in order of their ids. */
static void
append_block(SealRun *run, SealRow *rows, int n, bool sign)
{
	LedgerBlock block;
	Sha256	   *leaves = palloc(sizeof(Sha256) * Max(n, 1));
	Datum	   *ids = palloc(sizeof(Datum) * Max(n, 1));
	bytea	   *leaf_hashes = palloc(VARHDRSZ + sizeof(Sha256) * n);
	bytea	   *hash[4];
	pg_uuid_t	key_id;
	Oid			types[23] = {INT8OID, INT2OID, BYTEAOID, BYTEAOID, BYTEAOID, INT4OID, INT8OID, INT8OID, INT8OID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, BOOLOID, UUIDOID, BYTEAOID, BOOLOID,
	INT8ARRAYOID, UUIDARRAYOID, BYTEAOID, TEXTOID, INT8OID, TEXTOID};
	Datum		values[23];
	bool		events = n > 0 && run->kind == LEDGER_EVENTS;

	memset(&block, 0, sizeof(block));
	if (run->has_last)
	{
		block.number = run->last.number + 1;
		block.previous_hash = run->last.block_hash;
	}
	block.kind = events ? LEDGER_EVENTS : LEDGER_ENTRIES;
	block.entry_count = n;
	block.total_entries = (run->has_last ? run->last.total_entries : 0) + n;
	block.sealed_at = GetCurrentTimestamp();
	block.system_identifier = run->system_identifier;
	block.accepts_unkeyed = sign && run->has_unkeyed;
	if (n > 0)
	{
		block.min_audit_id = events ? 0 : rows[0].audit_id;
		block.max_audit_id = events ? 0 : rows[n - 1].audit_id;
		block.first_occurred_at = block.last_occurred_at = rows[0].occurred_at;
	}
	for (int i = 0; i < n; i++)
	{
		ids[i] = events ? UUIDPGetDatum(&rows[i].event_id) : Int64GetDatum(rows[i].audit_id);
		leaves[i] = rows[i].leaf;
		block.first_occurred_at = Min(block.first_occurred_at, rows[i].occurred_at);
		block.last_occurred_at = Max(block.last_occurred_at, rows[i].occurred_at);
	}
	SET_VARSIZE(leaf_hashes, VARHDRSZ + sizeof(Sha256) * n);
	memcpy(VARDATA(leaf_hashes), leaves, sizeof(Sha256) * n);
	block.merkle_root = merkle_root(leaves, n);
	memset(&key_id, 0, sizeof(key_id));
	if (sign)
		block.key_id = key_id = *data_key_id(run->key);
	block.block_hash = block_hash_of(&block);
	block.is_signed = sign;
	if (sign)
	{
		uint8		bytes[BLOCK_SIGNED_BYTES];

		block_signed_bytes(&block, bytes);
		data_key_sign(run->key, bytes, sizeof(bytes), block.signature);
	}

	for (int i = 0; i < 4; i++)
	{
		const void *from = i == 0 ? (void *) &block.previous_hash : i == 1 ? (void *) &block.merkle_root :
			i == 2 ? (void *) &block.block_hash : (void *) block.signature;
		size_t		length = i < 3 ? HASH_BYTES : sign ? CRYPTO_SIGNATURE_BYTES : 0;

		hash[i] = palloc(VARHDRSZ + length);
		SET_VARSIZE(hash[i], VARHDRSZ + length);
		memcpy(VARDATA(hash[i]), from, length);
	}
	values[0] = Int64GetDatum(block.number);
	values[1] = Int16GetDatum(LEDGER_FORMAT);
	values[2] = PointerGetDatum(hash[0]);
	values[3] = PointerGetDatum(hash[1]);
	values[4] = PointerGetDatum(hash[2]);
	values[5] = Int32GetDatum(n);
	values[6] = Int64GetDatum(block.total_entries);
	values[7] = Int64GetDatum(block.min_audit_id);
	values[8] = Int64GetDatum(block.max_audit_id);
	values[9] = TimestampTzGetDatum(block.first_occurred_at);
	values[10] = TimestampTzGetDatum(block.last_occurred_at);
	values[11] = TimestampTzGetDatum(block.sealed_at);
	values[12] = Int64GetDatum((int64) block.system_identifier);
	values[13] = BoolGetDatum(block.accepts_unkeyed);
	values[14] = UUIDPGetDatum(&key_id);
	values[15] = PointerGetDatum(hash[3]);
	values[16] = BoolGetDatum(events);
	values[17] = sql_array(ids, NULL, events ? 0 : n, INT8OID);
	values[18] = sql_array(ids, NULL, events ? n : 0, UUIDOID);
	values[19] = PointerGetDatum(leaf_hashes);
	values[20] = CStringGetTextDatum(seal_snapshot_text(run->now));
	values[21] = Int64GetDatum(run->given_now.audit_id);
	values[22] = CStringGetTextDatum(psprintf(UINT64_FORMAT, run->given_now.next_xid));
	(void) sql_query(psprintf("INSERT INTO audit.blocks (" BLOCK_COLUMNS ", algorithm, entry_ids, event_ids, leaf_hashes,"
							  " visible_snapshot, visible_audit_id, next_transaction_id, foreign_max_audit_id)"
							  " SELECT $1, $2, $3, $4, $5, $6, $7, CASE WHEN $6 > 0 AND NOT $17 THEN $8 END,"
							  " CASE WHEN $6 > 0 AND NOT $17 THEN $9 END,"
							  " CASE WHEN $6 > 0 THEN $10 END, CASE WHEN $6 > 0 THEN $11 END, $12, $13, $14,"
							  " CASE WHEN octet_length($16) > 0 THEN $15 END, CASE WHEN octet_length($16) > 0 THEN $16 END, $17,"
							  " CASE WHEN octet_length($16) > 0 THEN 'ed25519' END, $18, $19, $20, $21::pg_snapshot, $22, $23::xid8, "
							  INT64_FORMAT, run->foreign_max), 23, types, values);
	run->last = block;
	run->has_last = true;
	run->report->blocks++;
	run->report->sealed[block.kind] += n;
}

/* Mark the events that a block names already.  Blocks are found by the times of theirs. */
static void
find_sealed_events(SealRun *run)
{
	Oid			types[2] = {UUIDARRAYOID, TIMESTAMPTZARRAYOID};
	Datum		values[2];
	Datum	   *ids = palloc(sizeof(Datum) * run->nrows);
	Datum	   *times = palloc(sizeof(Datum) * run->nrows);
	uint64		n;

	if (run->before == NULL)
		return;
	for (int i = 0; i < run->nrows; i++)
	{
		ids[i] = UUIDPGetDatum(&run->rows[i].event_id);
		times[i] = TimestampTzGetDatum(run->rows[i].occurred_at);
	}
	values[0] = sql_array(ids, NULL, run->nrows, UUIDOID);
	values[1] = sql_array(times, NULL, run->nrows, TIMESTAMPTZOID);
	n = sql_query("SELECT d.id FROM unnest($1, $2) AS d (id, occurred_at) JOIN audit.blocks b"
				  " ON b.holds_events AND tstzrange(b.first_occurred_at, b.last_occurred_at, '[]') @> d.occurred_at"
				  " AND d.id = ANY (b.event_ids)", 2, types, values);
	for (uint64 row = 0; row < n; row++)
	{
		bool		isnull;
		SealRow		key = {.event_id = *DatumGetUUIDP(sql_value(row, 0, &isnull))};
		SealRow    *found = bsearch(&key, run->rows, run->nrows, sizeof(SealRow), compare_events);

		if (found != NULL)
			found->sealed = true;
	}
}

/* Seal the rows collected so far. */
static void
flush_rows(SealRun *run)
{
	MemoryContext context;
	MemoryContext previous;
	int			n = 0;

	if (run->nrows == 0)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "ledger block", ALLOCSET_DEFAULT_SIZES);
	previous = MemoryContextSwitchTo(context);
	if (run->kind == LEDGER_EVENTS)
	{
		qsort(run->rows, run->nrows, sizeof(SealRow), compare_events);
		find_sealed_events(run);
	}
	else
	{
		qsort(run->rows, run->nrows, sizeof(SealRow), seal_compare_entries);
		seal_find_sealed(run->rows, run->nrows, &run->repeated);
	}
	for (int i = 0; i < run->nrows; i++)
	{
		if (!run->rows[i].sealed)
			run->rows[n++] = run->rows[i];
	}
	/* What has no MAC is signed only when an administrator has accepted it. */
	if (n > 0)
		append_block(run, run->rows, n, run->key != NULL && (!run->has_unkeyed || run->accept_unkeyed));
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(context);
	run->nrows = 0;
	run->has_unkeyed = false;
}

static void
refuse(SealRun *run, Datum id)
{
	if (run->report->refused++ > 0)
		return;
	if (run->kind == LEDGER_EVENTS)
		snprintf(run->report->first_refused, sizeof(run->report->first_refused), "event %s",
				 DatumGetCString(DirectFunctionCall1(uuid_out, id)));
	else
		snprintf(run->report->first_refused, sizeof(run->report->first_refused), "entry " INT64_FORMAT, DatumGetInt64(id));
}

/* Take one row of the query's result; its first column is its id. */
static void
take_row(SealRun *run, HeapTuple tuple, TupleDesc desc)
{
	const LedgerSource *source = &ledger_sources[run->kind];
	Datum		values[Max((int) AUDIT_COLUMNS, (int) EVENT_COLUMNS)];
	bool		nulls[Max((int) AUDIT_COLUMNS, (int) EVENT_COLUMNS)];
	StringInfoData bytes;
	MemoryContext previous;
	uint64		xid;
	bool		takes;
	SealRow    *row;

	heap_deform_tuple(tuple, desc, values, nulls);
	xid = DatumGetUInt64(values[source->transaction_id]);
	if (run->before != NULL && (seal_snapshot_sees(run->before, xid) || !seal_snapshot_sees(run->now, xid)))
		return;
	if (run->kind == LEDGER_ENTRIES && DatumGetInt64(values[AUDIT_ID]) == PG_INT64_MAX)
	{
		refuse(run, values[AUDIT_ID]);	/* no sequence gave it, and no range has an end behind it */
		return;
	}
	if (!run->asked_for_key)
	{
		run->key = ledger_signing_key(run->was_signed);
		run->asked_for_key = true;
	}

	MemoryContextReset(run->row_context);
	previous = MemoryContextSwitchTo(run->row_context);
	initStringInfo(&bytes);
	source->canonical(&bytes, values, nulls);
	if (!nulls[source->mac])
		takes = audit_check_mac(source->mac_label, &bytes, DatumGetByteaPP(values[source->mac])) == MAC_FITS;
	else
		takes = run->key == NULL || !run->was_signed || run->accept_unkeyed;
	if (!takes)
	{
		MemoryContextSwitchTo(previous);
		refuse(run, values[0]);
		return;
	}

	/* Before the first signed block come, unsigned, all entries from before the key. */
	if (run->nrows > 0 && (run->nrows == LEDGER_BLOCK_ENTRIES ||
						   (!run->accept_unkeyed && run->has_unkeyed != nulls[source->mac])))
	{
		MemoryContextSwitchTo(previous);
		flush_rows(run);
		MemoryContextSwitchTo(run->row_context);
	}
	row = &run->rows[run->nrows++];
	if (run->kind == LEDGER_EVENTS)
		row->event_id = *DatumGetUUIDP(values[EVENT_ID]);
	else
		row->audit_id = DatumGetInt64(values[AUDIT_ID]);
	row->occurred_at = DatumGetTimestampTz(values[source->occurred_at]);
	row->leaf = merkle_leaf(bytes.data, bytes.len);
	row->sealed = false;
	run->has_unkeyed |= nulls[source->mac];
	if (run->is_foreign && run->kind == LEDGER_ENTRIES)
		run->foreign_max = Max(run->foreign_max, row->audit_id);
	MemoryContextSwitchTo(previous);
}

/*
 * The query that finds what is due, of rows that fulfil the condition as well; NULL when nothing can be.
 * Its arguments are the first and last transaction, and the least time, of entries.
 */
static char *
due_query(SealRun *run, const char *condition, Datum arguments[3])
{
	const LedgerSource *source = &ledger_sources[run->kind];
	StringInfoData transactions;
	XidSpan		spans[SEAL_MAX_SPANS];
	int			nspans;

	arguments[0] = UInt64GetDatum(0);
	arguments[1] = UInt64GetDatum(PG_UINT64_MAX);
	arguments[2] = TimestampTzGetDatum(DT_NOBEGIN);
	if (run->before == NULL)
		return psprintf("SELECT l.* FROM %s l WHERE (NOT EXISTS (SELECT FROM audit.blocks b CROSS JOIN LATERAL unnest(b.%s) AS e (id)"
						" WHERE e.id = l.%s)%s)%s", source->table, source->ids, source->id,
						/* Of those that share an id, only some may be named; the one that is named may have been pruned. */
						run->kind == LEDGER_ENTRIES ? " OR l.audit_id IN (SELECT r.audit_id FROM audit.log r GROUP BY 1 HAVING count(*) > 1)"
						" OR l.audit_id::text IN (SELECT p.id #>> '{}' FROM audit.anchors a"
						" CROSS JOIN jsonb_path_query(a.pruned_partly, '$.*[*]') AS p (id) WHERE a.pruned_from = 'entries')" : "",
						condition);

	nspans = seal_snapshot_spans(run->before, run->now, spans);
	if (nspans == 0)
		return NULL;
	initStringInfo(&transactions);
	for (int i = 0; i < nspans; i++)
		appendStringInfo(&transactions, "%sl.transaction_id >= '" UINT64_FORMAT "'::xid8 AND l.transaction_id <= '"
						 UINT64_FORMAT "'::xid8", i > 0 ? " OR " : "", spans[i].first, spans[i].last);
	if (run->kind == LEDGER_EVENTS)
		return psprintf("SELECT l.* FROM audit.security_events l WHERE (%s)%s", transactions.data, condition);

	arguments[0] = UInt64GetDatum(spans[0].first);
	arguments[1] = UInt64GetDatum(spans[nspans - 1].last);
	arguments[2] = TimestampTzGetDatum(horizon_since(run->horizons, spans[0].first));
	if (nspans == 1)
		return psprintf(RECENT_ENTRIES "%s", condition);

	/* A transaction that was open for long has ended. */
	return psprintf(RECENT_ENTRIES " AND (%s)%s", transactions.data, condition);
}

static void
remember(const SealRun *run)
{
	if (seal_memo.snapshot != NULL)
		pfree(seal_memo.snapshot);
	seal_memo.snapshot = NULL;
	seal_memo.valid = run->has_last && run->system_identifier == run->last.system_identifier;
	if (seal_memo.valid)
	{
		seal_memo.database = MyDatabaseId;
		seal_memo.block_hash = run->last.block_hash;
		seal_memo.snapshot = MemoryContextStrdup(TopMemoryContext, seal_snapshot_text(run->now));
	}
}

/* Where the chain stands, and from which snapshot on this run looks. */
static void
begin_run(SealRun *run, bool accept_unkeyed)
{
	char	   *before;

	run->now = seal_snapshot_now();
	run->horizons = horizon_read();
	run->system_identifier = GetSystemIdentifier();
	run->accept_unkeyed = accept_unkeyed;
	run->has_last = block_last(&run->last);
	if (run->has_last)
	{
		bool		isnull;

		run->was_signed = run->last.is_signed;
		/* All blocks are looked at only where the chain goes over to another cluster. */
		(void) sql_read(psprintf("SELECT visible_snapshot::text, foreign_max_audit_id,"
									" CASE WHEN system_identifier <> '" INT64_FORMAT "' OR visible_snapshot IS NULL"
									" THEN (SELECT max(max_audit_id) FROM audit.blocks) END, visible_audit_id"
									" FROM audit.blocks WHERE block_number = " INT64_FORMAT,
									(int64) run->system_identifier, run->last.number));
		before = sql_string(0, 0);
		run->repeated.set_back = DatumGetInt64(sql_value(0, 3, &isnull)) > run->given_now.audit_id && !isnull;
		run->repeated.last_sealed_at = run->last.sealed_at;
		if (run->last.system_identifier == run->system_identifier && before != NULL)
		{
			run->foreign_max = DatumGetInt64(sql_value(0, 1, &isnull));
			if (!accept_unkeyed)
				run->before = seal_snapshot_parse(before);
		}
		else
			run->foreign_max = DatumGetInt64(sql_value(0, 2, &isnull));
		if (run->before != NULL && seal_memo.valid && seal_memo.database == MyDatabaseId &&
			sha256_equal(&seal_memo.block_hash, &run->last.block_hash))
			run->before = seal_snapshot_parse(seal_memo.snapshot);
	}
	run->is_foreign = !run->has_last || run->last.system_identifier != run->system_identifier;
	run->rows = palloc(sizeof(SealRow) * LEDGER_BLOCK_ENTRIES);
	run->row_context = AllocSetContextCreate(CurrentMemoryContext, "ledger entry", ALLOCSET_DEFAULT_SIZES);
}

static SPIPlanPtr
prepare(const char *query)
{
	Oid			types[3] = {XID8OID, XID8OID, TIMESTAMPTZOID};
	SPIPlanPtr	plan = SPI_prepare_cursor(query, lengthof(types), types, CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "SPI returned %d for: %s", SPI_result, query);
	return plan;
}

/* Read what is due of one kind and seal it. */
static void
seal_kind(SealRun *run, LedgerKind kind, const char *condition)
{
	static SPIPlanPtr recent_entries = NULL;
	char	   *query;
	bool		keep;
	SPIPlanPtr	plan;
	Portal		portal;
	Datum		arguments[3];

	run->kind = kind;
	query = due_query(run, condition, arguments);
	if (query == NULL)
		return;
	keep = strcmp(query, RECENT_ENTRIES) == 0;
	plan = keep && recent_entries != NULL ? recent_entries : prepare(query);
	if (keep && recent_entries == NULL)
	{
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "cannot keep a plan");
		recent_entries = plan;
	}
	portal = SPI_cursor_open(NULL, plan, arguments, NULL, true);
	for (;;)
	{
		SPITupleTable *table;
		uint64		n;

		SPI_cursor_fetch(portal, true, SEAL_FETCH);
		table = SPI_tuptable;
		n = SPI_processed;
		if (n == 0)
			break;
		source_check_columns(&ledger_sources[kind], table->tupdesc->natts);
		for (uint64 row = 0; row < n; row++)
			take_row(run, table->vals[row], table->tupdesc);
		SPI_freetuptable(table);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	if (!keep)
		SPI_freeplan(plan);
	flush_rows(run);
}

static void
seal_due(SealRun *run)
{
	int			nest_level = NewGUCNestLevel();

	/* Fresh partitions have no statistics that would speak for the index. */
	if (run->before != NULL)
		sql_set_local("enable_seqscan", "off");
	if (run->was_signed || run->accept_unkeyed)
	{
		seal_kind(run, LEDGER_ENTRIES, "");
		seal_kind(run, LEDGER_EVENTS, "");
	}
	else
	{
		/* What was written before the key comes before the first signed block. */
		seal_kind(run, LEDGER_ENTRIES, " AND l.mac IS NULL");
		seal_kind(run, LEDGER_EVENTS, " AND l.mac IS NULL");
		seal_kind(run, LEDGER_ENTRIES, " AND l.mac IS NOT NULL");
		seal_kind(run, LEDGER_EVENTS, " AND l.mac IS NOT NULL");
	}
	AtEOXact_GUC(false, nest_level);
}

/*
 * Append a block without entries where the chain goes over to this cluster, so
 * that the ids of its transactions count from here on, or to signatures.
 */
static void
mark_passage(SealRun *run)
{
	bool		changes_cluster = run->last.system_identifier != run->system_identifier;
	bool		begins_to_sign = !run->last.is_signed && data_keys_available();

	if (!run->has_last || (!changes_cluster && !begins_to_sign))
		return;
	if (!run->asked_for_key)
		run->key = ledger_signing_key(run->was_signed);
	append_block(run, NULL, 0, run->key != NULL);
}

/* Read before a snapshot is taken.  Entries get their ids after their transaction has its number. */
static Given
what_is_given(void)
{
	Given		given;
	bool		isnull;

	(void) sql_read("SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM audit.log_audit_id_seq");
	given.audit_id = DatumGetInt64(sql_value(0, 0, &isnull));
	pg_memory_barrier();
	given.next_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
	return given;
}

bool
ledger_seal(bool accept_unkeyed, bool wait, SealReport *report)
{
	SealRun		run = {.report = report};
	LedgerBlock last;
	pg_uuid_t	key_id;

	memset(report, 0, sizeof(*report));
	if (accept_unkeyed && TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("entries without a MAC can be accepted only in a transaction that has changed nothing before")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("the ledger can be continued only in a READ COMMITTED transaction"),
				 errdetail("Others may have added blocks that this transaction does not see.")));
	/* An entry would be in the way of a restore itself: then nothing needs to wait. */
	if (!wait && !audit_is_settled() && sql_read("SELECT FROM audit.log LIMIT 1") == 0)
		return false;
	if (!ledger_lock(wait))
	{
		report->held_up = true;
		return false;
	}

	PushActiveSnapshot(GetLatestSnapshot());
	if (audit_is_restoring())
	{
		PopActiveSnapshot();
		return false;
	}
	/* That it was made is an event without a MAC, which must be visible before anything is signed. */
	if (data_keys_available() && !data_key_active_row(KEY_AUDIT_MAC, &key_id))
		(void) data_key_active(KEY_AUDIT_MAC);
	/* From the first signed block on nothing without a MAC may come: wait for events that are being written. */
	if (data_keys_available() && !(block_last(&last) && last.is_signed))
	{
		Oid			events = get_relname_relid("security_events", get_namespace_oid("audit", false));

		if (wait)
			LockRelationOid(events, ShareLock);
		else if (!ConditionalLockRelationOid(events, ShareLock))
		{
			PopActiveSnapshot();
			return false;
		}
	}
	run.given_now = what_is_given();
	PopActiveSnapshot();

	/* Taken after the lock: it sees the block of whoever had the lock before. */
	PushActiveSnapshot(GetLatestSnapshot());
	begin_run(&run, accept_unkeyed);
	seal_due(&run);
	mark_passage(&run);
	seal_report_repeated(&run.repeated);
	horizon_keep(run.horizons, run.before, run.now);
	PopActiveSnapshot();
	if (report->blocks == 0)
		remember(&run);
	if (report->refused > 0)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("%lld audit entries or events were not sealed", (long long) report->refused),
				 errdetail("Their MAC is missing or does not fit; one of them is %s.", report->first_refused),
				 errhint("See audit.verify().")));
	return true;
}

/* Somebody had what has no MAC sealed. */
static void
record_acceptance(const SealReport *report)
{
	SecurityEvent event;

	security_event_begin(&event, EVENT_AUDIT_CHANGED, EVENT_SUCCEEDED);
	security_event_object(&event, "audit.blocks");
	security_event_detail(&event, "operation", "accept_unkeyed");
	security_event_detail(&event, "entries", psprintf(INT64_FORMAT, report->sealed[LEDGER_ENTRIES]));
	security_event_detail(&event, "events", psprintf(INT64_FORMAT, report->sealed[LEDGER_EVENTS]));
	security_event(&event);
}

/* audit.seal(accept_unkeyed) */
Datum
audit_seal(PG_FUNCTION_ARGS)
{
	SqlScope	scope;
	SealReport	report;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};
	bool		done;

	sql_refuse_nulls(fcinfo, "audit.seal");
	PreventCommandIfReadOnly("audit.seal()");
	PreventCommandDuringRecovery("audit.seal()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	scope = sql_begin(0);
	done = ledger_seal(PG_GETARG_BOOL(0), true, &report);
	if (done && PG_GETARG_BOOL(0))
		record_acceptance(&report);
	sql_end(&scope);
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing can be sealed while a dump is being restored"),
				 errhint("Once all is restored, telemetry.run_maintenance() notices it.")));
	values[0] = Int64GetDatum(report.blocks);
	values[1] = Int64GetDatum(report.sealed[LEDGER_ENTRIES]);
	values[2] = Int64GetDatum(report.refused);
	values[3] = Int64GetDatum(report.sealed[LEDGER_EVENTS]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
