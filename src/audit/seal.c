/*
 * seal.c
 *		Sealing entries of audit.log into blocks; audit.seal() and the job
 *		"ledger" of the scheduler.
 *
 * A run takes the chain's lock, then a snapshot, and collects the entries whose
 * transaction that snapshot sees and the snapshot of the last block did not, in
 * blocks of up to 10,000.  All blocks of a run are one transaction: a crash in
 * the middle leaves none of them, and the next run finds the same entries again.
 * Transaction ids mean something in one cluster only.  Where the last block was
 * sealed in another one (the database was restored, or upgraded), the run takes
 * every entry that no block names, and ends with a block of this cluster even if
 * that is empty; entries up to its foreign_max_audit_id carry ids of another
 * cluster, and are looked up among the sealed ones whenever they seem to be due.
 *
 * An entry is sealed only if its MAC fits.  Without any key there are no MACs
 * and blocks are unsigned; the first run with a key seals what has no MAC into
 * unsigned blocks, and signs from then on, even if only an empty block.  Later entries without a MAC are left
 * out and reported, until an administrator accepts them: audit.seal(true).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit/entry.h"
#include "audit/ledger.h"
#include "audit/mac.h"
#include "audit/seal.h"
#include "audit/seal_snapshot.h"
#include "base/sql.h"
#include "base/worker.h"
#include "errors.h"

#define SEAL_FETCH				1000	/* entries that are read at once */

typedef struct SealRow
{
	int64		audit_id;
	TimestampTz occurred_at;
	Sha256		leaf;
	bool		sealed;			/* it is in a block already */
} SealRow;

typedef struct SealRun
{
	SealSnapshot *now;
	SealSnapshot *before;		/* NULL: every entry that no block names */
	bool		has_last;
	bool		was_signed;		/* the last block before the run */
	LedgerBlock		last;
	uint64		system_identifier;
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

int			ledger_interval = 1;

PG_FUNCTION_INFO_V1(audit_seal);

static void seal_job_run(bool requested);

static const SchedulerJob seal_job = {"ledger", &ledger_interval, seal_job_run};

void
seal_init(void)
{
	(void) scheduler_add_job(&seal_job);
}

static int
compare_rows(const void *a, const void *b)
{
	int64		left = ((const SealRow *) a)->audit_id;
	int64		right = ((const SealRow *) b)->audit_id;

	return (left > right) - (left < right);
}

/* Append a block over the first n rows, in order of audit_id. */
static void
append_block(SealRun *run, const SealRow *rows, int n, bool sign)
{
	LedgerBlock		block;
	Sha256	   *leaves = palloc(sizeof(Sha256) * Max(n, 1));
	Datum	   *ids = palloc(sizeof(Datum) * Max(n, 1));
	bytea	   *leaf_hashes = palloc(VARHDRSZ + sizeof(Sha256) * n);
	bytea	   *hash[4];
	pg_uuid_t	key_id;
	Oid			types[19] = {INT8OID, INT2OID, BYTEAOID, BYTEAOID, BYTEAOID, INT4OID, INT8OID, INT8OID, INT8OID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, BOOLOID, UUIDOID, BYTEAOID, INT8ARRAYOID, BYTEAOID, TEXTOID};
	Datum		values[19];

	memset(&block, 0, sizeof(block));
	if (run->has_last)
	{
		block.number = run->last.number + 1;
		block.previous_hash = run->last.block_hash;
	}
	block.entry_count = n;
	block.total_entries = (run->has_last ? run->last.total_entries : 0) + n;
	block.sealed_at = GetCurrentTimestamp();
	block.system_identifier = run->system_identifier;
	block.accepts_unkeyed = sign && run->has_unkeyed;
	if (n > 0)
	{
		block.min_audit_id = rows[0].audit_id;
		block.max_audit_id = rows[n - 1].audit_id;
		block.first_occurred_at = block.last_occurred_at = rows[0].occurred_at;
	}
	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(rows[i].audit_id);
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
	values[16] = sql_array(ids, NULL, n, INT8OID);
	values[17] = PointerGetDatum(leaf_hashes);
	values[18] = CStringGetTextDatum(seal_snapshot_text(run->now));
	(void) sql_query(psprintf("INSERT INTO audit.blocks (" BLOCK_COLUMNS ", algorithm, entry_ids, leaf_hashes,"
							  " visible_snapshot, foreign_max_audit_id)"
							  " SELECT $1, $2, $3, $4, $5, $6, $7, CASE WHEN $6 > 0 THEN $8 END, CASE WHEN $6 > 0 THEN $9 END,"
							  " CASE WHEN $6 > 0 THEN $10 END, CASE WHEN $6 > 0 THEN $11 END, $12, $13, $14,"
							  " CASE WHEN octet_length($16) > 0 THEN $15 END, CASE WHEN octet_length($16) > 0 THEN $16 END,"
							  " CASE WHEN octet_length($16) > 0 THEN 'ed25519' END, $17, $18, $19::pg_snapshot, "
							  INT64_FORMAT, run->foreign_max), 19, types, values);
	run->last = block;
	run->has_last = true;
	run->report->blocks++;
	run->report->entries += n;
}

/* Mark the rows that a block names already: only those of another cluster may be. */
static void
find_sealed(SealRun *run)
{
	int64		low = run->rows[0].audit_id;
	int64		high = Min(run->rows[run->nrows - 1].audit_id, run->foreign_max);
	uint64		n;

	if (run->before == NULL || low > run->foreign_max)
		return;
	n = ledger_read(psprintf("SELECT e.id FROM audit.blocks b CROSS JOIN LATERAL unnest(b.entry_ids) AS e (id)"
							 " WHERE int8range(b.min_audit_id, b.max_audit_id, '[]') && int8range('" INT64_FORMAT "', '"
							 INT64_FORMAT "', '[]') AND e.id BETWEEN '" INT64_FORMAT "' AND '" INT64_FORMAT "'",
							 low, high, low, high));
	for (uint64 row = 0; row < n; row++)
	{
		bool		isnull;
		SealRow		key = {.audit_id = DatumGetInt64(sql_value(row, 0, &isnull))};
		SealRow    *found = bsearch(&key, run->rows, run->nrows, sizeof(SealRow), compare_rows);

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
	qsort(run->rows, run->nrows, sizeof(SealRow), compare_rows);
	find_sealed(run);
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
refuse(SealRun *run, int64 audit_id)
{
	if (run->report->refused++ == 0)
		run->report->first_refused = audit_id;
}

/* Take one entry of the query's result. */
static void
take_row(SealRun *run, HeapTuple tuple, TupleDesc desc)
{
	Datum		values[AUDIT_COLUMNS];
	bool		nulls[AUDIT_COLUMNS];
	StringInfoData bytes;
	MemoryContext previous;
	int64		audit_id;
	uint64		xid;
	bool		takes;
	SealRow    *row;

	heap_deform_tuple(tuple, desc, values, nulls);
	audit_id = DatumGetInt64(values[AUDIT_ID]);
	xid = DatumGetUInt64(values[AUDIT_TRANSACTION_ID]);
	if (run->before != NULL && (seal_snapshot_sees(run->before, xid) || !seal_snapshot_sees(run->now, xid)))
		return;
	if (audit_id == PG_INT64_MAX)
	{
		refuse(run, audit_id);	/* no sequence gave it, and no range has an end behind it */
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
	audit_entry_canonical(&bytes, values, nulls);
	if (!nulls[AUDIT_MAC])
		takes = audit_check_mac(AUDIT_MAC_ENTRY, &bytes, DatumGetByteaPP(values[AUDIT_MAC])) == MAC_FITS;
	else
		takes = run->key == NULL || !run->was_signed || run->accept_unkeyed;
	if (!takes)
	{
		MemoryContextSwitchTo(previous);
		refuse(run, audit_id);
		return;
	}

	/* Before the first signed block come, unsigned, all entries from before the key. */
	if (run->nrows > 0 && (run->nrows == LEDGER_BLOCK_ENTRIES ||
						   (!run->accept_unkeyed && run->has_unkeyed != nulls[AUDIT_MAC])))
	{
		MemoryContextSwitchTo(previous);
		flush_rows(run);
		MemoryContextSwitchTo(run->row_context);
	}
	row = &run->rows[run->nrows++];
	row->audit_id = audit_id;
	row->occurred_at = DatumGetTimestampTz(values[AUDIT_OCCURRED_AT]);
	row->leaf = merkle_leaf(bytes.data, bytes.len);
	row->sealed = false;
	run->has_unkeyed |= nulls[AUDIT_MAC];
	MemoryContextSwitchTo(previous);
}

/* The query that finds what is due; NULL when nothing can be. */
static char *
due_query(SealRun *run)
{
	StringInfoData query;
	XidSpan		spans[SEAL_MAX_SPANS];
	int			nspans;

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT l.* FROM audit.log l WHERE ");
	if (run->before == NULL)
		appendStringInfoString(&query, "NOT EXISTS (SELECT FROM audit.blocks b CROSS JOIN LATERAL unnest(b.entry_ids) AS e (id)"
							   " WHERE e.id = l.audit_id)");
	else
	{
		nspans = seal_snapshot_spans(run->before, run->now, spans);
		if (nspans == 0)
			return NULL;
		for (int i = 0; i < nspans; i++)
			appendStringInfo(&query, "%sl.transaction_id >= '" UINT64_FORMAT "'::xid8 AND l.transaction_id <= '"
							 UINT64_FORMAT "'::xid8", i > 0 ? " OR " : "", spans[i].first, spans[i].last);
	}
	if (!run->was_signed && !run->accept_unkeyed)
		appendStringInfoString(&query, " ORDER BY l.mac IS NOT NULL");
	return query.data;
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
	run->system_identifier = GetSystemIdentifier();
	run->accept_unkeyed = accept_unkeyed;
	run->has_last = block_last(&run->last);
	if (run->has_last)
	{
		bool		isnull;

		run->was_signed = run->last.is_signed;
		(void) ledger_read(psprintf("SELECT visible_snapshot::text, foreign_max_audit_id, (SELECT max(max_audit_id) FROM audit.blocks)"
									" FROM audit.blocks WHERE block_number = " INT64_FORMAT, run->last.number));
		before = sql_string(0, 0);
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
	run->rows = palloc(sizeof(SealRow) * LEDGER_BLOCK_ENTRIES);
	run->row_context = AllocSetContextCreate(CurrentMemoryContext, "ledger entry", ALLOCSET_DEFAULT_SIZES);
}

/* Read what is due and seal it. */
static void
seal_due(SealRun *run, const char *query)
{
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);
	Portal		portal;
	bool		is_foreign = !run->has_last || run->last.system_identifier != run->system_identifier;

	if (plan == NULL)
		elog(ERROR, "SPI returned %d for: %s", SPI_result, query);
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	for (;;)
	{
		SPITupleTable *table;
		uint64		n;

		SPI_cursor_fetch(portal, true, SEAL_FETCH);
		table = SPI_tuptable;
		n = SPI_processed;
		if (n == 0)
			break;
		if (table->tupdesc->natts != AUDIT_COLUMNS)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("table \"audit.log\" does not have the columns of sentient_edge")));
		for (uint64 row = 0; row < n; row++)
		{
			take_row(run, table->vals[row], table->tupdesc);
			if (is_foreign)
				run->foreign_max = Max(run->foreign_max,
									   run->nrows > 0 ? run->rows[run->nrows - 1].audit_id : 0);
		}
		SPI_freetuptable(table);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	flush_rows(run);
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

bool
ledger_seal(bool accept_unkeyed, bool wait, SealReport *report)
{
	SealRun		run = {.report = report};
	char	   *query;

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
	if (!ledger_lock(wait))
		return false;

	/* Taken after the lock: it sees the block of whoever had the lock before. */
	PushActiveSnapshot(GetLatestSnapshot());
	if (ledger_is_restoring())
	{
		PopActiveSnapshot();
		return false;
	}
	begin_run(&run, accept_unkeyed);
	query = due_query(&run);
	if (query != NULL)
	{
		int			nest_level = NewGUCNestLevel();

		/* Fresh partitions have no statistics that would speak for the index. */
		if (run.before != NULL)
			sql_set_local("enable_seqscan", "off");
		seal_due(&run, query);
		AtEOXact_GUC(false, nest_level);
	}
	mark_passage(&run);
	PopActiveSnapshot();
	if (report->blocks == 0)
		remember(&run);
	if (report->refused > 0)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("%lld audit entries were not sealed", (long long) report->refused),
				 errdetail("Their MAC is missing or does not fit; one of them is entry %lld.", (long long) report->first_refused),
				 errhint("See audit.verify().")));
	return true;
}

/* The scheduler's turn: whoever else seals right now does the work as well. */
static void
seal_job_run(bool requested)
{
	SealReport	report;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(sql_extension()))
	{
		SqlScope	scope = sql_begin(0);

		(void) ledger_seal(false, false, &report);
		sql_end(&scope);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* audit.seal(accept_unkeyed) */
Datum
audit_seal(PG_FUNCTION_ARGS)
{
	SqlScope	scope;
	SealReport	report;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};
	bool		done;

	PreventCommandIfReadOnly("audit.seal()");
	PreventCommandDuringRecovery("audit.seal()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	scope = sql_begin(0);
	done = ledger_seal(PG_GETARG_BOOL(0), true, &report);
	sql_end(&scope);
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing can be sealed while a dump is being restored"),
				 errhint("Once all is restored, telemetry.run_maintenance() notices it.")));
	values[0] = Int64GetDatum(report.blocks);
	values[1] = Int64GetDatum(report.entries);
	values[2] = Int64GetDatum(report.refused);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
