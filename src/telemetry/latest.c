/*
 * latest.c
 *		Reads and advances telemetry.drone_latest.
 *
 * Called by ingest.c and by the statement trigger.  The table's rows are
 * changed in the transaction that stores the samples, after them, and in order
 * of drone_id within a call.  Its leading columns are those of
 * telemetry.drone_telemetry.  A row is written by the table's access method
 * straight away: triggers on drone_latest do not fire, indexes on it are kept.
 *
 * A row of drone_latest stands for the drone's existence, since its foreign key
 * keeps the drone from being deleted; only a drone's first sample looks into
 * core.drones, and locks it there (FOR KEY SHARE when its state is read, FOR NO
 * KEY UPDATE when its row is made), until the transaction ends.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "telemetry/latest.h"

/* A table with a unique index on its uuid key alone, open for look-ups. */
typedef struct KeyedTable
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext context;		/* the scan's, which allocates as it goes */
} KeyedTable;

struct LatestTable
{
	MemoryContext context;
	KeyedTable	latest;
	KeyedTable	drones;			/* opened at the first drone without a row */
	ResultRelInfo *rri;
	EState	   *estate;
	TupleTableSlot *new_slot;
	Snapshot	snapshot;
};

static void
keyed_open(KeyedTable *table, char *schema, char *name, LOCKMODE lockmode)
{
	Oid			index;

	table->rel = table_openrv(makeRangeVar(schema, name, -1), lockmode);
	index = compat_primary_key_index(table->rel);
	if (!OidIsValid(index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.%s\" has no primary key", schema, name),
				 errhint("A restore may still be under way.")));
	table->index = index_open(index, lockmode);
	if (table->index->rd_index->indnkeyatts != 1 || table->index->rd_index->indkey.values[0] != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("primary key of \"%s.%s\" is not its first column", schema, name)));
	table->slot = table_slot_create(table->rel, NULL);
	table->context = CurrentMemoryContext;
}

static void
keyed_close(KeyedTable *table)
{
	if (table->rel == NULL)
		return;
	if (table->scan != NULL)
		index_endscan(table->scan);
	ExecDropSingleTupleTableSlot(table->slot);
	index_close(table->index, NoLock);
	table_close(table->rel, NoLock);
}

/*
 * Find the row with that key under the snapshot; it is then in table->slot.
 */
static bool
keyed_find(KeyedTable *table, const pg_uuid_t *key, Snapshot snapshot)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	ScanKeyData scankey;
	bool		found;

	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(key));
	if (table->scan == NULL)
		table->scan = compat_index_beginscan(table->rel, table->index, snapshot, 1);
	table->scan->xs_snapshot = snapshot;
	index_rescan(table->scan, &scankey, 1, NULL, 0);
	found = index_getnext_slot(table->scan, ForwardScanDirection, table->slot);
	MemoryContextSwitchTo(old);
	return found;
}

/*
 * Open drone_latest.
 */
LatestTable *
latest_open(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "drone latest", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	LatestTable *table = palloc0(sizeof(LatestTable));

	table->context = context;
	keyed_open(&table->latest, "telemetry", "drone_latest", RowExclusiveLock);
	table->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(table->rri, table->latest.rel, 1, NULL, 0);
	ExecOpenIndices(table->rri, false);
	table->estate = CreateExecutorState();
	table->new_slot = MakeTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(table->latest.rel)),
										 &TTSOpsVirtual);
	table->snapshot = RegisterSnapshot(GetLatestSnapshot());

	MemoryContextSwitchTo(old);
	return table;
}

/*
 * Does core.drones hold the drone?  If so it is locked: against removal, as a
 * foreign key would lock it, or against another session's first sample of it.
 */
static bool
lock_drone(LatestTable *table, const pg_uuid_t *drone_id, LockTupleMode mode)
{
	KeyedTable *drones = &table->drones;

	if (drones->rel == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(table->context);

		keyed_open(drones, "core", "drones", RowShareLock);
		MemoryContextSwitchTo(old);
	}

	for (;;)
	{
		TM_FailureData failure;
		Snapshot	snapshot;
		TM_Result	result;
		ItemPointerData tid;

		CHECK_FOR_INTERRUPTS();
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		if (!keyed_find(drones, drone_id, snapshot))
		{
			UnregisterSnapshot(snapshot);
			return false;
		}
		tid = drones->slot->tts_tid;
		result = table_tuple_lock(drones->rel, &tid, snapshot, drones->slot,
								  GetCurrentCommandId(false), mode, LockWaitBlock,
								  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
		UnregisterSnapshot(snapshot);
		ExecClearTuple(drones->slot);
		if (result == TM_Ok)
			return true;
		/* It was deleted while we waited, or moved: look again. */
	}
}

/*
 * Find the drone's row under the snapshot; false when it has none.
 */
static bool
find_row(LatestTable *table, const pg_uuid_t *drone_id, Snapshot snapshot, LatestState *state)
{
	bool		isnull;

	state->has_sample = keyed_find(&table->latest, drone_id, snapshot);
	if (!state->has_sample)
		return false;
	state->drone_exists = true;
	state->tid = table->latest.slot->tts_tid;
	state->recorded_at = DatumGetTimestampTz(slot_getattr(table->latest.slot, SAMPLE_RECORDED_AT, &isnull));
	ExecClearTuple(table->latest.slot);
	return true;
}

/* The same as committed by now. */
static bool
find_row_again(LatestTable *table, const pg_uuid_t *drone_id, LatestState *state)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = find_row(table, drone_id, snapshot, state);

	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Read a drone's state.
 */
LatestState
latest_read(LatestTable *table, const pg_uuid_t *drone_id)
{
	LatestState state = {0};

	if (!find_row(table, drone_id, table->snapshot, &state))
		state.drone_exists = lock_drone(table, drone_id, LockTupleKeyShare);
	return state;
}

static void
insert_row(LatestTable *table, const Sample *sample, TimestampTz received_at)
{
	sample_store_slot(sample, received_at, table->new_slot);
	table->new_slot->tts_tableOid = RelationGetRelid(table->latest.rel);
	table_tuple_insert(table->latest.rel, table->new_slot, GetCurrentCommandId(true), 0, NULL);
	list_free(compat_exec_insert_index_tuples(table->rri, table->new_slot, table->estate, false));
}

/*
 * Make the sample the drone's latest unless a newer one is there.
 */
bool
latest_advance(LatestTable *table, LatestState *state, const Sample *sample, TimestampTz received_at)
{
	/*
	 * Two sessions may store a drone's first samples at once: the second waits
	 * for the drone's lock until the first has ended, then finds its row.
	 */
	if (!state->has_sample)
	{
		if (!lock_drone(table, &sample->drone_id, LockTupleNoKeyExclusive))
			return false;
		if (!find_row_again(table, &sample->drone_id, state))
		{
			insert_row(table, sample, received_at);
			return true;
		}
	}

	for (;;)
	{
		TM_FailureData failure;
		LockTupleMode lockmode;
		CompatUpdateIndexes update_indexes;
		TM_Result	result;

		if (state->recorded_at >= sample->recorded_at)
			return true;

		sample_store_slot(sample, received_at, table->new_slot);
		table->new_slot->tts_tableOid = RelationGetRelid(table->latest.rel);
		result = table_tuple_update(table->latest.rel, &state->tid, table->new_slot,
									GetCurrentCommandId(true), table->snapshot, InvalidSnapshot,
									true, &failure, &lockmode, &update_indexes);
		switch (result)
		{
			case TM_Ok:
				if (compat_must_insert_indexes(update_indexes))
					list_free(compat_exec_insert_index_tuples(table->rri, table->new_slot,
															  table->estate,
															  compat_only_summarizing(update_indexes)));
				return true;

			case TM_Updated:
			case TM_Deleted:
				/* Somebody else changed the row and has committed: read it again. */
				if (!find_row_again(table, &sample->drone_id, state))
					return false;
				break;

			default:
				elog(ERROR, "unexpected result %d of updating telemetry.drone_latest", (int) result);
		}
	}
}

/*
 * Release everything but the locks.
 */
void
latest_close(LatestTable *table)
{
	UnregisterSnapshot(table->snapshot);
	ExecCloseIndices(table->rri);
	FreeExecutorState(table->estate);
	keyed_close(&table->latest);
	keyed_close(&table->drones);
	MemoryContextDelete(table->context);
}
