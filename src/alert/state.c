/*
 * state.c
 *		Reads telemetry.alert_states.
 *
 * Called by evaluate.c, and only for drones whose drone_latest row says that
 * there are rows.  The rows of a drone are changed by open.c and link_loss.c in
 * transactions that have changed, and so locked, its row of drone_latest.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "alert/state.h"
#include "compat.h"
#include "errors.h"

/* Attribute numbers of telemetry.alert_states. */
#define STATE_WATCH_ID		2
#define STATE_SINCE			3
#define STATE_ALERT_ID		4

struct AlertStateTable
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext context;		/* of the scan */
};

AlertStateTable *
alert_state_open(void)
{
	AlertStateTable *table = palloc0(sizeof(AlertStateTable));
	Oid			index;

	table->context = CurrentMemoryContext;
	table->rel = table_openrv(makeRangeVar("telemetry", "alert_states", -1), AccessShareLock);
	index = compat_primary_key_index(table->rel);
	if (!OidIsValid(index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.%s\" has no primary key", "telemetry", "alert_states"),
				 errhint("A restore may still be under way.")));
	table->index = index_open(index, AccessShareLock);
	table->slot = table_slot_create(table->rel, NULL);
	return table;
}

int
alert_state_read(AlertStateTable *table, const pg_uuid_t *drone_id, AlertStateRow **rows)
{
	MemoryContext caller = CurrentMemoryContext;
	int			allocated = 4;
	int			n = 0;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;

	*rows = palloc(sizeof(AlertStateRow) * allocated);

	/* The scan allocates where it lives. */
	MemoryContextSwitchTo(table->context);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(drone_id));
	if (table->scan == NULL)
		table->scan = compat_index_beginscan(table->rel, table->index, snapshot, 1);
	table->scan->xs_snapshot = snapshot;
	index_rescan(table->scan, &key, 1, NULL, 0);
	while (index_getnext_slot(table->scan, ForwardScanDirection, table->slot))
	{
		AlertStateRow *row;
		Datum		value;
		bool		isnull;

		if (n == allocated)
		{
			allocated *= 2;
			*rows = repalloc(*rows, sizeof(AlertStateRow) * allocated);
		}
		row = &(*rows)[n++];
		memset(row, 0, sizeof(AlertStateRow));
		row->watch_id = *DatumGetUUIDP(slot_getattr(table->slot, STATE_WATCH_ID, &isnull));
		row->since = DatumGetTimestampTz(slot_getattr(table->slot, STATE_SINCE, &isnull));
		value = slot_getattr(table->slot, STATE_ALERT_ID, &isnull);
		row->open = !isnull;
		if (!isnull)
			row->alert_id = *DatumGetUUIDP(value);
	}
	ExecClearTuple(table->slot);
	UnregisterSnapshot(snapshot);
	MemoryContextSwitchTo(caller);
	return n;
}

void
alert_state_close(AlertStateTable *table)
{
	if (table->scan != NULL)
		index_endscan(table->scan);
	ExecDropSingleTupleTableSlot(table->slot);
	index_close(table->index, NoLock);
	table_close(table->rel, NoLock);
	pfree(table);
}
