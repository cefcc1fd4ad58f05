/*
 * verify_entries.c
 *		The part of audit.verify that compares the entries of audit.log with the
 *		leaf hashes of their blocks.
 *
 * Goes through the ids in windows.  For each it fills a table, addressed by id,
 * with what the blocks expect, then reads the entries of the window straight from
 * the executor, in whatever order.  What is found in only one of the two places,
 * or differs, is a finding.  Memory does not depend on the number of entries; the
 * windows skip ids that neither side has.
 *
 * An error while a window is read (a damaged row) is a finding for the window;
 * it is read in a subtransaction for that.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "audit/entry.h"
#include "audit/mac.h"
#include "audit/verify.h"
#include "base/sql.h"
#include "errors.h"

#define WINDOW_IDS				262144
/* Memory of this many entries is given back at once. */
#define ROWS_A_RESET			64

typedef struct Expected
{
	int64		block_plus_one; /* 0: no block names this id */
	bool		seen;
	Sha256		leaf;
} Expected;

typedef struct Window
{
	DestReceiver receiver;		/* first: the executor hands rows to it */
	Verify	   *verify;
	int64		first;
	int64		last;			/* inclusive */
	Expected   *expected;		/* WINDOW_IDS of them */
	StringInfoData bytes;		/* of one entry */
	int			nrows;			/* since row_context was reset */
	MemoryContext row_context;
} Window;

static const char *
time_literal(TimestampTz time)
{
	return quote_literal_cstr(DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(time))));
}

/* Restricts blocks to those of the span of time, if there is one. */
static char *
block_condition(const Verify *verify)
{
	if (!verify->bounded)
		return "";
	return psprintf(" AND b.last_occurred_at >= %s AND b.first_occurred_at <= %s",
					time_literal(verify->from), time_literal(verify->until));
}

/* The same of entries: those of the span, and all that a block of the span names. */
static char *
entry_condition(const Verify *verify)
{
	bool		isnull;
	TimestampTz from = verify->from;
	TimestampTz until = verify->until;

	if (!verify->bounded)
		return "";
	(void) ledger_read(psprintf("SELECT min(first_occurred_at), max(last_occurred_at) FROM audit.blocks b WHERE true%s",
								block_condition(verify)));
	if (DatumGetTimestampTz(sql_value(0, 0, &isnull)) < from && !isnull)
		from = DatumGetTimestampTz(sql_value(0, 0, &isnull));
	if (DatumGetTimestampTz(sql_value(0, 1, &isnull)) > until && !isnull)
		until = DatumGetTimestampTz(sql_value(0, 1, &isnull));
	return psprintf(" AND l.occurred_at >= %s AND l.occurred_at <= %s", time_literal(from), time_literal(until));
}

/* An entry that no block names: one that waits for its block, or one that should not be there. */
static void
check_unsealed(Window *window, const Datum *values, const bool *nulls, int64 audit_id)
{
	Verify	   *verify = window->verify;
	uint64		xid = DatumGetUInt64(values[AUDIT_TRANSACTION_ID]);
	TimestampTz occurred_at = DatumGetTimestampTz(values[AUDIT_OCCURRED_AT]);

	if (verify->bounded && (occurred_at < verify->from || occurred_at > verify->until))
		return;					/* of a block that is not looked at */
	if (!nulls[AUDIT_MAC])
	{
		MacVerdict	verdict = audit_check_mac(AUDIT_MAC_ENTRY, &window->bytes, DatumGetByteaPP(values[AUDIT_MAC]));

		if (verdict == MAC_FORGED)
		{
			verify_finding(verify, "forged_entry", NO_BLOCK, audit_id, "it is in no block, and its MAC does not fit");
			return;
		}
		if (verdict == MAC_KEY_UNKNOWN && !verify->mac_key_unknown)
		{
			verify->mac_key_unknown = true;
			verify_finding(verify, "unknown_key", NO_BLOCK, audit_id,
						   "the MACs of this and perhaps other entries cannot be checked: their key is not among the data keys that this server's master key unwraps");
		}
	}
	else if (verify->has_head && verify->head.is_signed)
	{
		verify_finding(verify, "unkeyed_entry", NO_BLOCK, audit_id,
					   "it is in no block and has no MAC: forged, or written while the server ran without its key");
		return;
	}

	if (verify->head_snapshot != NULL && seal_snapshot_sees(verify->head_snapshot, xid))
		verify_finding(verify, "unsealed_entry", NO_BLOCK, audit_id,
					   "it is in no block, though its transaction had ended when the last block was sealed");
	else if (verify->head_snapshot != NULL && xid >= verify->now->xmax)
		verify_finding(verify, "unsealed_entry", NO_BLOCK, audit_id, "it is in no block, and no transaction has its number yet");
	else
	{
		if (verify->waiting++ == 0 || occurred_at < verify->waiting_since)
			verify->waiting_since = occurred_at;
	}
}

static bool
receive_entry(TupleTableSlot *slot, DestReceiver *self)
{
	Window	   *window = (Window *) self;
	MemoryContext previous;
	Expected   *expected;
	int64		audit_id;

	slot_getallattrs(slot);
	if (window->nrows++ % ROWS_A_RESET == 0)
		MemoryContextReset(window->row_context);
	previous = MemoryContextSwitchTo(window->row_context);
	audit_id = DatumGetInt64(slot->tts_values[AUDIT_ID]);
	resetStringInfo(&window->bytes);
	audit_entry_canonical(&window->bytes, slot->tts_values, slot->tts_isnull);
	expected = &window->expected[audit_id - window->first];
	if (expected->block_plus_one == 0)
		check_unsealed(window, slot->tts_values, slot->tts_isnull, audit_id);
	else if (expected->seen)
		verify_finding(window->verify, "duplicate_entry", expected->block_plus_one - 1, audit_id, "more than one entry has this id");
	else
	{
		Sha256		leaf = merkle_leaf(window->bytes.data, window->bytes.len);

		expected->seen = true;
		if (!sha256_equal(&leaf, &expected->leaf))
			verify_finding(window->verify, "altered_entry", expected->block_plus_one - 1, audit_id, "it is not what was sealed");
	}
	MemoryContextSwitchTo(previous);
	return true;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	if (desc->natts != AUDIT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("table \"audit.log\" does not have the columns of sentient_edge")));
}

static void
receiver_ends(DestReceiver *self)
{
}

/* What the blocks expect of the window. */
static void
expect_entries(Window *window)
{
	Verify	   *verify = window->verify;
	SPIPlanPtr	plan;
	Portal		portal;

	memset(window->expected, 0, sizeof(Expected) * WINDOW_IDS);
	plan = SPI_prepare(psprintf("SELECT b.block_number, b.entry_ids, b.leaf_hashes FROM audit.blocks b"
								" WHERE int8range(b.min_audit_id, b.max_audit_id, '[]') && int8range('" INT64_FORMAT "', "
								"nullif('" INT64_FORMAT "', '" INT64_FORMAT "')::bigint + 1)%s",
								window->first, window->last, PG_INT64_MAX, block_condition(verify)), 0, NULL);
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	for (;;)
	{
		bool		isnull;
		int64		number;
		ArrayType  *ids;
		bytea	   *leaves;
		const int64 *id;
		const uint8 *leaf;
		int			n;

		SPI_cursor_fetch(portal, true, 1);
		if (SPI_processed == 0)
			break;
		number = DatumGetInt64(sql_value(0, 0, &isnull));
		ids = DatumGetArrayTypePCopy(sql_value(0, 1, &isnull));
		leaves = DatumGetByteaPP(sql_value(0, 2, &isnull));
		id = (const int64 *) ARR_DATA_PTR(ids);
		leaf = (const uint8 *) VARDATA_ANY(leaves);
		n = ARR_HASNULL(ids) ? 0 : ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
		n = Min(n, VARSIZE_ANY_EXHDR(leaves) / HASH_BYTES);
		for (int i = 0; i < n; i++)
		{
			Expected   *expected;

			if (id[i] < window->first || id[i] > window->last)
				continue;
			expected = &window->expected[id[i] - window->first];
			if (expected->block_plus_one != 0)
				verify_finding(verify, "duplicate_entry", number, id[i], "block " INT64_FORMAT " names it, too",
							   expected->block_plus_one - 1);
			expected->block_plus_one = number + 1;
			memcpy(expected->leaf.bytes, leaf + (size_t) i * HASH_BYTES, HASH_BYTES);
		}
		pfree(ids);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	SPI_freeplan(plan);
}

/* Read the entries of the window; false: it could not be read, which is a finding. */
static bool
read_entries(Window *window, const char *condition)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	SPIExecuteOptions options;
	volatile bool readable = true;

	memset(&options, 0, sizeof(options));
	options.read_only = true;
	options.dest = &window->receiver;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		int			result = SPI_execute_extended(psprintf("SELECT l.* FROM audit.log l WHERE l.audit_id >= '" INT64_FORMAT
														   "' AND l.audit_id <= '" INT64_FORMAT "'%s",
														   window->first, window->last, condition), &options);

		if (result < 0)
			elog(ERROR, "SPI returned %d for the entries of audit.log", result);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
			ReThrowError(error);
		verify_finding(window->verify, "unreadable_entries", NO_BLOCK, NO_ENTRY,
					   "entries " INT64_FORMAT " to " INT64_FORMAT " cannot be read: %s", window->first, window->last, error->message);
		readable = false;
	}
	PG_END_TRY();
	return readable;
}

static void
report_missing(Window *window)
{
	for (int64 i = 0; i <= window->last - window->first; i++)
	{
		const Expected *expected = &window->expected[i];
		int64		audit_id = window->first + i;

		if (expected->block_plus_one == 0 || expected->seen)
			continue;
		if (window->verify->pruned_ids != NULL &&
			hash_search(window->verify->pruned_ids, &audit_id, HASH_FIND, NULL) != NULL)
			continue;
		verify_finding(window->verify, "missing_entry", expected->block_plus_one - 1, audit_id, "it was sealed and is gone");
	}
}

/* The least id from first on that an entry has or a block names; false when there is none. */
static bool
next_id(const Verify *verify, int64 first, const char *condition, int64 *next)
{
	bool		isnull;
	Datum		value;

	(void) ledger_read(psprintf("SELECT least((SELECT min(l.audit_id) FROM audit.log l WHERE l.audit_id >= '" INT64_FORMAT "'%s),"
								" (SELECT b.min_audit_id FROM audit.blocks b WHERE b.min_audit_id >= '" INT64_FORMAT
								"' AND octet_length(b.leaf_hashes) > 0%s ORDER BY b.min_audit_id LIMIT 1),"
								" (SELECT min(e.id) FROM audit.blocks b CROSS JOIN LATERAL unnest(b.entry_ids) AS e (id)"
								" WHERE int8range(b.min_audit_id, b.max_audit_id, '[]') @> '" INT64_FORMAT "'::bigint AND e.id >= '" INT64_FORMAT "'%s))",
								first, condition, first, block_condition(verify), first, first, block_condition(verify)));
	value = sql_value(0, 0, &isnull);
	if (isnull)
		return false;
	*next = DatumGetInt64(value);
	return true;
}

void
verify_entries(Verify *verify)
{
	Window	   *window = palloc0(sizeof(Window));
	const char *condition = entry_condition(verify);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ledger window", ALLOCSET_DEFAULT_SIZES);
	int64		first = PG_INT64_MIN;

	window->receiver.receiveSlot = receive_entry;
	window->receiver.rStartup = receiver_startup;
	window->receiver.rShutdown = receiver_ends;
	window->receiver.rDestroy = receiver_ends;
	window->receiver.mydest = DestNone;
	window->verify = verify;
	window->expected = palloc(sizeof(Expected) * WINDOW_IDS);
	window->row_context = AllocSetContextCreate(CurrentMemoryContext, "ledger entry", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&window->bytes);
	while (next_id(verify, first, condition, &first))
	{
		MemoryContext previous = MemoryContextSwitchTo(context);

		window->first = first;
		window->last = first > PG_INT64_MAX - WINDOW_IDS ? PG_INT64_MAX : first + WINDOW_IDS - 1;
		expect_entries(window);
		if (read_entries(window, condition))
			report_missing(window);
		MemoryContextSwitchTo(previous);
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
		if (window->last == PG_INT64_MAX)
			break;
		first = window->last + 1;
	}
}
