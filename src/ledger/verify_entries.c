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
 * An id may be there more than once, where the sequence of ids was set back: then
 * each entry is compared with all that the blocks expect under its id.  What fits
 * none is looked at again when all of the window has been read.
 *
 * An error while a window is read (a damaged row) is a finding for the window;
 * it is read in a subtransaction for that.
 *
 * Windows are read through an index, which whoever can write past the server's
 * back can keep an entry out of.  So all are counted in the end without one,
 * unless only a span of time is looked at.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "audit/entry.h"
#include "base/sql.h"
#include "errors.h"
#include "ledger/verify.h"

#define WINDOW_IDS				262144
/* Memory of this many entries is given back at once. */
#define ROWS_A_RESET			64

typedef struct Expected
{
	int64		block_plus_one; /* 0: no block names this id */
	int32		next;			/* another of the same id: its index among "others", and one; or 0 */
	bool		seen;
	Sha256		leaf;
} Expected;

typedef struct Window
{
	DestReceiver receiver;		/* first: the executor hands rows to it */
	Verify	   *verify;
	const char *condition;		/* on the entries */
	bool		log_damaged;	/* and said so */
	bool		unreadable;		/* some window was, and said so */
	int64		first;
	int64		last;			/* inclusive */
	Expected   *expected;		/* WINDOW_IDS of them */
	Expected   *others;			/* further ones of ids that were given again */
	int			nothers;
	int			others_room;
	int64	   *misfits;		/* ids of entries that are like none expected */
	int			nmisfits;
	int			misfits_room;
	bool		is_empty;		/* no block names, and no entry has, one of its ids */
	StringInfoData bytes;		/* of one entry */
	int64		nrows;			/* read so far */
	int64		nstored;		/* counted without an index */
	MemoryContext row_context;
} Window;

static Expected *
next_expected(const Window *window, const Expected *expected)
{
	return expected->next == 0 ? NULL : &window->others[expected->next - 1];
}

/* Expect one more of an id. */
static void
expect_another(Window *window, int64 audit_id, int64 block_number, const uint8 *leaf)
{
	Expected   *first = &window->expected[audit_id - window->first];
	Expected   *expected = first;

	if (first->block_plus_one != 0)
	{
		if (window->nothers == window->others_room)
		{
			window->others_room = Max(2 * window->others_room, 64);
			window->others = window->others == NULL ? palloc(sizeof(Expected) * window->others_room) :
				repalloc_huge(window->others, sizeof(Expected) * window->others_room);
		}
		expected = &window->others[window->nothers++];
		expected->next = first->next;
		first->next = window->nothers;
		expected->seen = false;
	}
	expected->block_plus_one = block_number + 1;
	memcpy(expected->leaf.bytes, leaf, HASH_BYTES);
}

static void
add_misfit(Window *window, int64 audit_id)
{
	if (window->nmisfits == window->misfits_room)
	{
		window->misfits_room = Max(2 * window->misfits_room, 64);
		window->misfits = window->misfits == NULL ?
			MemoryContextAlloc(window->verify->context, sizeof(int64) * window->misfits_room) :
			repalloc_huge(window->misfits, sizeof(int64) * window->misfits_room);
	}
	window->misfits[window->nmisfits++] = audit_id;
}

static bool
receive_entry(TupleTableSlot *slot, DestReceiver *self)
{
	Window	   *window = (Window *) self;
	MemoryContext previous;
	Expected   *expected;
	int64		audit_id;

	slot_getallattrs(slot);
	window->is_empty = false;
	if (window->nrows++ % ROWS_A_RESET == 0)
		MemoryContextReset(window->row_context);
	previous = MemoryContextSwitchTo(window->row_context);
	audit_id = DatumGetInt64(slot->tts_values[AUDIT_ID]);
	resetStringInfo(&window->bytes);
	audit_entry_canonical(&window->bytes, slot->tts_values, slot->tts_isnull);
	expected = &window->expected[audit_id - window->first];
	if (expected->block_plus_one == 0)
		verify_unsealed(window->verify, LEDGER_ENTRIES, slot->tts_values, slot->tts_isnull, &window->bytes);
	else
	{
		Sha256		leaf = merkle_leaf(window->bytes.data, window->bytes.len);

		bool		copied = false;

		for (; expected != NULL; expected = next_expected(window, expected))
		{
			if (!sha256_equal(&leaf, &expected->leaf))
				continue;
			if (!expected->seen)
				break;
			copied = true;
		}
		if (expected != NULL)
			expected->seen = true;
		else if (copied || !verify_waits(window->verify, LEDGER_ENTRIES, slot->tts_values, slot->tts_isnull, &window->bytes))
			add_misfit(window, audit_id);
	}
	MemoryContextSwitchTo(previous);
	return true;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	source_check_columns(&ledger_sources[LEDGER_ENTRIES], desc->natts);
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
	window->others = NULL;		/* they were in the memory of the window before */
	window->nothers = window->others_room = 0;
	window->nmisfits = 0;
	plan = SPI_prepare(psprintf("SELECT b.block_number, b.entry_ids, b.leaf_hashes FROM audit.blocks b"
								" WHERE " BLOCK_IDS " && int8range('" INT64_FORMAT "', "
								"nullif('" INT64_FORMAT "', '" INT64_FORMAT "')::bigint + 1)%s",
								window->first, window->last, PG_INT64_MAX, verify_block_condition(verify)), 0, NULL);
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
			window->is_empty = false;
			for (expected = &window->expected[id[i] - window->first];
				 expected != NULL && expected->block_plus_one != 0; expected = next_expected(window, expected))
			{
				if (memcmp(expected->leaf.bytes, leaf + (size_t) i * HASH_BYTES, HASH_BYTES) == 0)
					verify_finding(verify, "duplicate_entry", number, id[i], "block " INT64_FORMAT " names it, too",
								   expected->block_plus_one - 1);
			}
			expect_another(window, id[i], number, leaf + (size_t) i * HASH_BYTES);
		}
		pfree(ids);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	SPI_freeplan(plan);
}

static void
read_window(void *arg)
{
	Window	   *window = arg;
	SPIExecuteOptions options;
	int			result;

	memset(&options, 0, sizeof(options));
	options.read_only = true;
	options.dest = &window->receiver;
	result = SPI_execute_extended(psprintf("SELECT l.* FROM audit.log l WHERE l.audit_id >= '" INT64_FORMAT
										   "' AND l.audit_id <= '" INT64_FORMAT "'%s",
										   window->first, window->last, window->condition), &options);
	if (result < 0)
		elog(ERROR, "SPI returned %d for the entries of audit.log", result);
}

/* Read the entries of the window; false: it could not be read, which is a finding. */
static bool
read_entries(Window *window)
{
	char	   *problem = verify_attempt(read_window, window);

	if (problem == NULL)
		return true;
	window->is_empty = false;
	window->unreadable = true;
	verify_finding(window->verify, "unreadable_entries", NO_BLOCK, NO_ENTRY,
				   "entries " INT64_FORMAT " to " INT64_FORMAT " cannot be read: %s", window->first, window->last, problem);
	return false;
}

/* Entries that are like none expected: in the place of one that is not there, or beside it. */
static void
report_misfits(Window *window)
{
	for (int i = 0; i < window->nmisfits; i++)
	{
		int64		audit_id = window->misfits[i];
		Expected   *first = &window->expected[audit_id - window->first];
		Expected   *expected = first;

		while (expected != NULL && expected->seen)
			expected = next_expected(window, expected);
		if (expected == NULL)
			verify_finding(window->verify, "duplicate_entry", first->block_plus_one - 1, audit_id, "more than one entry has this id");
		else
		{
			expected->seen = true;
			verify_finding(window->verify, "altered_entry", expected->block_plus_one - 1, audit_id, "it is not what was sealed");
		}
	}
}

static void
report_missing(Window *window)
{
	for (int64 i = 0; i <= window->last - window->first; i++)
	{
		int64		audit_id = window->first + i;

		for (const Expected *expected = &window->expected[i]; expected != NULL && expected->block_plus_one != 0;
			 expected = next_expected(window, expected))
		{
			if (!expected->seen &&
				!verify_pruned(window->verify, LEDGER_ENTRIES, expected->block_plus_one - 1, Int64GetDatum(audit_id)))
				verify_finding(window->verify, "missing_entry", expected->block_plus_one - 1, audit_id, "it was sealed and is gone");
		}
	}
}

/* The least id from first on that an entry of the log has, or a block names. */
typedef struct NextId
{
	Verify	   *verify;
	const char *condition;		/* on entries */
	int64		first;
	bool		of_log;
	bool		found;
	int64		id;
} NextId;

static void
look_for_id(void *arg)
{
	NextId	   *next = arg;
	bool		isnull;
	Datum		value;

	if (next->of_log)
		(void) sql_read(psprintf("SELECT min(l.audit_id) FROM audit.log l WHERE l.audit_id >= '" INT64_FORMAT
									"' AND l.audit_id <= '" INT64_FORMAT "'%s",
									next->first, next->found ? next->id : PG_INT64_MAX, next->condition));
	else
		(void) sql_read(psprintf("SELECT least((SELECT b.min_audit_id FROM audit.blocks b WHERE b.min_audit_id >= '" INT64_FORMAT
									"' AND octet_length(b.leaf_hashes) > 0%s ORDER BY b.min_audit_id LIMIT 1),"
									" (SELECT min(e.id) FROM audit.blocks b CROSS JOIN LATERAL unnest(b.entry_ids) AS e (id)"
									" WHERE " BLOCK_IDS " @> '" INT64_FORMAT "'::bigint AND e.id >= '" INT64_FORMAT "'%s))",
									next->first, verify_block_condition(next->verify), next->first, next->first,
									verify_block_condition(next->verify)));
	value = sql_value(0, 0, &isnull);
	if (isnull || (next->found && next->id <= DatumGetInt64(value)))
		return;
	next->found = true;
	next->id = DatumGetInt64(value);
}

/*
 * The least id from first on that an entry has or a block names; false when there
 * is none.  Ids of entries have no order that an index knows, but hardly any is
 * below the next that a block names.
 */
static bool
next_id(Window *window, int64 first, int64 *id)
{
	NextId		next = {.verify = window->verify, .condition = window->condition, .first = first};

	look_for_id(&next);
	next.of_log = true;
	if (!window->log_damaged)
	{
		char	   *problem = verify_attempt(look_for_id, &next);

		/* Where the blocks have entries is looked at all the same. */
		window->log_damaged = problem != NULL;
		if (problem != NULL)
			verify_finding(window->verify, "unreadable_entries", NO_BLOCK, NO_ENTRY, "entries from " INT64_FORMAT " on cannot be found: %s",
						   first, problem);
	}
	*id = next.id;
	return next.found;
}

static void
count_entries(void *arg)
{
	Window	   *window = arg;
	bool		isnull;

	(void) sql_read("SELECT count(*) FROM audit.log");
	window->nstored = DatumGetInt64(sql_value(0, 0, &isnull));
}

/* Do indexes lead to all entries? */
static void
check_hidden(Window *window)
{
	int			nest_level = NewGUCNestLevel();
	char	   *problem;

	sql_set_local("enable_seqscan", "on");
	sql_set_local("enable_indexscan", "off");
	sql_set_local("enable_indexonlyscan", "off");
	sql_set_local("enable_bitmapscan", "off");
	problem = verify_attempt(count_entries, window);
	AtEOXact_GUC(false, nest_level);
	if (problem != NULL)
		verify_finding(window->verify, "unreadable_entries", NO_BLOCK, NO_ENTRY, "entries cannot be counted: %s", problem);
	else if (window->nstored != window->nrows)
		verify_finding(window->verify, "hidden_entries", NO_BLOCK, NO_ENTRY,
					   "audit.log has " INT64_FORMAT " entries, and its indexes lead to " INT64_FORMAT
					   " of them: after REINDEX TABLE audit.log this function can say more", window->nstored, window->nrows);
}

void
verify_entries(Verify *verify)
{
	Window	   *window = palloc0(sizeof(Window));
	const char *condition = verify_row_condition(verify, LEDGER_ENTRIES);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ledger window", ALLOCSET_DEFAULT_SIZES);
	int			nest_level = NewGUCNestLevel();
	int64		first = PG_INT64_MIN;
	bool		found;

	/* Windows are found by the index on block ranges, whatever the statistics say. */
	sql_set_local("enable_seqscan", "off");
	window->receiver.receiveSlot = receive_entry;
	window->receiver.rStartup = receiver_startup;
	window->receiver.rShutdown = receiver_ends;
	window->receiver.rDestroy = receiver_ends;
	window->receiver.mydest = DestNone;
	window->verify = verify;
	window->condition = condition;
	window->expected = palloc(sizeof(Expected) * WINDOW_IDS);
	window->row_context = AllocSetContextCreate(CurrentMemoryContext, "ledger entry", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&window->bytes);
	found = next_id(window, first, &first);
	while (found)
	{
		MemoryContext previous = MemoryContextSwitchTo(context);
		bool		whole;

		window->first = first;
		window->is_empty = true;
		window->last = first > PG_INT64_MAX - WINDOW_IDS ? PG_INT64_MAX : first + WINDOW_IDS - 1;
		expect_entries(window);
		whole = read_entries(window);
		report_misfits(window);
		if (whole)
			report_missing(window);
		MemoryContextSwitchTo(previous);
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
		if (window->last == PG_INT64_MAX)
			break;
		first = window->last + 1;
		if (window->is_empty)
			found = next_id(window, first, &first);
	}
	AtEOXact_GUC(false, nest_level);
	if (!verify->bounded && !window->unreadable && !window->log_damaged)
		check_hidden(window);
}
