/*
 * verify_events.c
 *		The part of audit.verify that compares the security events with the leaf
 *		hashes of their blocks.
 *
 * Events are known by ids that follow no order, so all of them, or those of the
 * span of time, are joined with what the blocks list, and read in order of the id:
 * what one side has and the other has not, or has twice, is a finding.  The join
 * spills to disk; memory does not depend on the number of events.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "audit/entry.h"
#include "base/sql.h"
#include "ledger/verify.h"

#define EVENTS_FETCH			1000

/* Columns of the join, behind those of the event. */
#define COLUMN_BLOCK			EVENT_COLUMNS
#define COLUMN_LEAF				(EVENT_COLUMNS + 1)
#define COLUMN_SEALED_ID		(EVENT_COLUMNS + 2)
#define COLUMNS					(EVENT_COLUMNS + 3)

typedef struct EventWalk
{
	Verify	   *verify;
	bool		started;
	pg_uuid_t	id;				/* of the row before */
	int64		block;			/* its block, or NO_BLOCK */
} EventWalk;

static void
check_row(EventWalk *walk, const Datum *values, const bool *nulls)
{
	Verify	   *verify = walk->verify;
	bool		sealed = !nulls[COLUMN_BLOCK];
	bool		stored = !nulls[EVENT_ID];
	int64		block = sealed ? DatumGetInt64(values[COLUMN_BLOCK]) : NO_BLOCK;
	Datum		id = stored ? values[EVENT_ID] : values[COLUMN_SEALED_ID];
	bool		again = walk->started && memcmp(&walk->id, DatumGetUUIDP(id), UUID_LEN) == 0;
	StringInfoData bytes;

	if (again && block != walk->block)
		verify_finding_of(verify, LEDGER_EVENTS, "duplicate", block, id, "block " INT64_FORMAT " names it, too", walk->block);
	else if (again)
		verify_finding_of(verify, LEDGER_EVENTS, "duplicate", block, id, "more than one event has this id");
	walk->started = true;
	walk->id = *DatumGetUUIDP(id);
	walk->block = block;

	if (!stored)
	{
		if (!verify_pruned(verify, LEDGER_EVENTS, block, id))
			verify_finding_of(verify, LEDGER_EVENTS, "missing", block, id, "it was sealed and is gone");
		return;
	}
	initStringInfo(&bytes);
	audit_event_canonical(&bytes, values, nulls);
	if (!sealed)
		verify_unsealed(verify, LEDGER_EVENTS, values, nulls, &bytes);
	else
	{
		Sha256		leaf = merkle_leaf(bytes.data, bytes.len);
		bytea	   *expected = DatumGetByteaPP(values[COLUMN_LEAF]);

		if (VARSIZE_ANY_EXHDR(expected) != HASH_BYTES || memcmp(VARDATA_ANY(expected), leaf.bytes, HASH_BYTES) != 0)
			verify_finding_of(verify, LEDGER_EVENTS, "altered", block, id, "it is not what was sealed");
	}
}

static void
read_events(void *arg)
{
	EventWalk  *walk = arg;
	SPIPlanPtr	plan = SPI_prepare(psprintf("SELECT e.*, s.block_number, s.leaf, s.id"
											" FROM (SELECT l.* FROM audit.security_events l WHERE true%s) e"
											" FULL JOIN (SELECT b.block_number, i.id, substr(b.leaf_hashes, (i.n::integer - 1) * %d + 1, %d) AS leaf"
											"   FROM audit.blocks b CROSS JOIN LATERAL unnest(b.event_ids) WITH ORDINALITY AS i (id, n)"
											"   WHERE b.holds_events%s) s ON s.id = e.event_id"
											" ORDER BY coalesce(e.event_id, s.id), s.block_number",
											verify_row_condition(walk->verify, LEDGER_EVENTS), HASH_BYTES, HASH_BYTES,
											verify_block_condition(walk->verify)), 0, NULL);
	Portal		portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ledger events", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		SPI_cursor_fetch(portal, true, EVENTS_FETCH);
		if (SPI_processed == 0)
			break;
		source_check_columns(&ledger_sources[LEDGER_EVENTS], SPI_tuptable->tupdesc->natts - (COLUMNS - EVENT_COLUMNS));
		for (uint64 row = 0; row < SPI_processed; row++)
		{
			MemoryContext previous = MemoryContextSwitchTo(context);
			Datum		values[COLUMNS];
			bool		nulls[COLUMNS];

			heap_deform_tuple(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, values, nulls);
			check_row(walk, values, nulls);
			MemoryContextSwitchTo(previous);
			MemoryContextReset(context);
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(context);
}

void
verify_sealed_events(Verify *verify)
{
	EventWalk	walk = {.verify = verify};
	int			nest_level = NewGUCNestLevel();
	char	   *problem;

	/* An index may lack an event that somebody wrote past it. */
	if (!verify->bounded)
	{
		sql_set_local("enable_indexscan", "off");
		sql_set_local("enable_bitmapscan", "off");
	}
	problem = verify_attempt(read_events, &walk);
	AtEOXact_GUC(false, nest_level);
	if (problem != NULL)
		verify_finding(verify, "unreadable_events", NO_BLOCK, NO_ENTRY, "security events cannot be read: %s", problem);
}
