/*
 * latest.c
 *		Reads and advances telemetry.drone_latest.
 *
 * Called by ingest.c and by the statement trigger.  The table's rows are
 * changed in the transaction that stores the samples, after them, and in order
 * of drone_id within a call.  Its leading columns are those of
 * telemetry.drone_telemetry.  A row is written by the table's access method
 * straight away: triggers on drone_latest do not fire, indexes on it are kept.
 * The row also counts the drone's samples and its alert states; the lock that
 * comes with its change guards those states.
 *
 * A row of drone_latest stands for the drone's existence, since its foreign key
 * keeps the drone from being deleted; only a drone's first sample looks into
 * core.drones, and locks it there (FOR KEY SHARE when its state is read, FOR NO
 * KEY UPDATE when its row is made), until the transaction ends.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "telemetry/latest.h"
#include "telemetry/latest_place.h"

/* Attribute numbers of drone_latest behind the sample's. */
#define LATEST_RECEIVED		(SAMPLE_NCOLUMNS + 1)
#define LATEST_LATE			(SAMPLE_NCOLUMNS + 2)
#define LATEST_DUPLICATE	(SAMPLE_NCOLUMNS + 3)
#define LATEST_ALERT_STATES	(SAMPLE_NCOLUMNS + 4)

/* A table with a unique index on its uuid key alone, open for look-ups. */
typedef struct KeyedTable
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext context;		/* the scan's, which allocates as it goes */
	IndexFetchTableData *guess; /* of a table whose rows' places are remembered */
	BlockNumber nblocks;		/* of that table, when it was opened */
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
	if (table->guess != NULL)
		table_index_fetch_end(table->guess);
	index_close(table->index, NoLock);
	table_close(table->rel, NoLock);
}

/*
 * Have the places of the rows remembered.  They are meaningful in a heap, and
 * the lock on it keeps what has been there from being truncated away.
 */
static void
keyed_guess(KeyedTable *table)
{
	if (table->rel->rd_tableam != GetHeapamTableAmRoutine())
		return;
	table->guess = table_index_fetch_begin(table->rel);
	table->nblocks = RelationGetNumberOfBlocks(table->rel);
}

/* Is the row with that key where it was found before?  Of a unique key one version is visible. */
static bool
guess_right(KeyedTable *table, const pg_uuid_t *key, Snapshot snapshot)
{
	ItemPointerData tid;
	bool		again = false;
	bool		isnull;

	if (!latest_place_get(key, &tid) || ItemPointerGetBlockNumber(&tid) >= table->nblocks ||
		!table_index_fetch_tuple(table->guess, &tid, snapshot, table->slot, &again, NULL))
		return false;
	return memcmp(DatumGetUUIDP(slot_getattr(table->slot, SAMPLE_DRONE_ID, &isnull)), key, UUID_LEN) == 0;
}

/*
 * Find the row with that key under the snapshot; it is then in table->slot.
 */
static bool
keyed_find(KeyedTable *table, const pg_uuid_t *key, Snapshot snapshot)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	ScanKeyData scankey;
	ItemPointer tid;
	bool		found = false;

	if (table->guess != NULL && guess_right(table, key, snapshot))
	{
		MemoryContextSwitchTo(old);
		return true;
	}
	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(key));
	if (table->scan == NULL)
		table->scan = compat_index_beginscan(table->rel, table->index, snapshot, 1);
	table->scan->xs_snapshot = snapshot;
	index_rescan(table->scan, &scankey, 1, NULL, 0);
	while (!found && (tid = index_getnext_tid(table->scan, ForwardScanDirection)) != NULL)
	{
		ItemPointerData place = *tid;

		found = index_fetch_heap(table->scan, table->slot);
		if (found && table->guess != NULL)
			latest_place_put(key, &place);
	}
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
	sample_require_types(table->latest.rel);
	keyed_guess(&table->latest);
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
	state->received = DatumGetInt64(slot_getattr(table->latest.slot, LATEST_RECEIVED, &isnull));
	state->late = DatumGetInt64(slot_getattr(table->latest.slot, LATEST_LATE, &isnull));
	state->duplicate = DatumGetInt64(slot_getattr(table->latest.slot, LATEST_DUPLICATE, &isnull));
	state->alert_states = DatumGetInt32(slot_getattr(table->latest.slot, LATEST_ALERT_STATES, &isnull));
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

/*
 * Look at a drone's latest state in passing.
 */
bool
latest_peek(const pg_uuid_t *drone_id, TimestampTz *recorded_at, int *alert_states)
{
	LatestTable table = {.context = CurrentMemoryContext};
	LatestState state = {0};

	keyed_open(&table.latest, "telemetry", "drone_latest", RowExclusiveLock);
	keyed_guess(&table.latest);
	if (find_row_again(&table, drone_id, &state))
	{
		*recorded_at = state.recorded_at;
		*alert_states = state.alert_states;
	}
	keyed_close(&table.latest);
	return state.has_sample;
}

/*
 * Put the row that is to be written into new_slot: the newest sample or, when it
 * is none, the sample that is there, with the counts.
 */
static void
fill_row(LatestTable *table, const LatestState *state, const Sample *newest, const LatestChange *change,
		 int alert_states, TimestampTz received_at)
{
	TupleTableSlot *slot = table->new_slot;

	if (newest != NULL)
		sample_store_slot(newest, received_at, slot);
	else
	{
		TupleTableSlot *present = table->latest.slot;
		ItemPointerData tid = state->tid;

		if (!table_tuple_fetch_row_version(table->latest.rel, &tid, SnapshotAny, present))
			elog(ERROR, "a row of telemetry.drone_latest is gone");
		slot_getallattrs(present);
		ExecClearTuple(slot);
		memcpy(slot->tts_values, present->tts_values, sizeof(Datum) * slot->tts_tupleDescriptor->natts);
		memcpy(slot->tts_isnull, present->tts_isnull, sizeof(bool) * slot->tts_tupleDescriptor->natts);
		ExecStoreVirtualTuple(slot);
	}
	slot->tts_values[LATEST_RECEIVED - 1] = Int64GetDatum(state->received + change->received);
	slot->tts_values[LATEST_LATE - 1] = Int64GetDatum(state->late + change->late);
	slot->tts_values[LATEST_DUPLICATE - 1] = Int64GetDatum(state->duplicate + change->duplicate);
	slot->tts_values[LATEST_ALERT_STATES - 1] = Int32GetDatum(alert_states);
	for (int attno = LATEST_RECEIVED; attno <= LATEST_ALERT_STATES; attno++)
		slot->tts_isnull[attno - 1] = false;
	slot->tts_tableOid = RelationGetRelid(table->latest.rel);
}

static void
insert_row(LatestTable *table, const LatestState *state, const LatestChange *change, TimestampTz received_at)
{
	int			alert_states = change->evaluate != NULL ? change->evaluate(change->arg, state) : 0;

	fill_row(table, state, change->newest, change, alert_states, received_at);
	table_tuple_insert(table->latest.rel, table->new_slot, GetCurrentCommandId(true), 0, NULL);
	list_free(compat_exec_insert_index_tuples(table->rri, table->new_slot, table->estate, false));
}

/*
 * Count what came of a drone, and make its newest sample the latest unless a
 * newer one is there.
 */
bool
latest_advance(LatestTable *table, const pg_uuid_t *drone_id, LatestState *state,
			   const LatestChange *change, TimestampTz received_at)
{
	/*
	 * Two sessions may store a drone's first samples at once: the second waits
	 * for the drone's lock until the first has ended, then finds its row.
	 */
	if (!state->has_sample)
	{
		if (!lock_drone(table, drone_id, LockTupleNoKeyExclusive))
			return false;
		if (!find_row_again(table, drone_id, state))
		{
			if (change->newest != NULL)
				insert_row(table, state, change, received_at);
			return true;
		}
	}

	for (;;)
	{
		TM_FailureData failure;
		LockTupleMode lockmode;
		CompatUpdateIndexes update_indexes;
		TM_Result	result;
		bool		moves = change->newest != NULL && change->newest->recorded_at > state->recorded_at;
		int			alert_states = state->alert_states;

		if (!moves && change->received == 0 && change->late == 0 && change->duplicate == 0)
			return true;
		if (moves && change->evaluate != NULL)
			alert_states = change->evaluate(change->arg, state);

		fill_row(table, state, moves ? change->newest : NULL, change, alert_states, received_at);
		result = table_tuple_update(table->latest.rel, &state->tid, table->new_slot,
									GetCurrentCommandId(true), table->snapshot, InvalidSnapshot,
									true, &failure, &lockmode, &update_indexes);
		if (!moves)
			ExecClearTuple(table->latest.slot);
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
				if (!find_row_again(table, drone_id, state))
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
