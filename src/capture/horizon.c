/*
 * horizon.c
 *		How far back new entries of audit.log have to be looked for.
 *
 * Sealing finds new entries by their transaction, in every partition that can have
 * one: in an old log there are many partitions.  It leaves out those that end
 * before a time, the horizon, which follows the clock at a distance of a day or
 * two.  But a clock may be set back and forth at any time, and what it said when an
 * entry was written nobody knows later.  So nothing is concluded from clocks:
 * whoever writes an entry that lies behind the horizon leaves a note of its time in
 * audit.horizon_notes, in the same transaction.  A snapshot that sees the entry
 * sees the note, and looks that far.
 *
 * Writers keep the horizon in memory, until a relation cache invalidation of
 * audit.horizons, which they take in when their transaction has its number.  A
 * horizon is published by one run of sealing, in force for nothing; a later run,
 * which has waited for the end of the first by the chain's lock, gives it the next
 * transaction id.  Transactions from there on have read it, or a later one, and it
 * holds for them.  For those before, the horizons that were published before hold,
 * and where there is none nothing is left out.
 *
 * Both tables have a few rows at most, and are changed by sealing alone but for the
 * notes.  They are not dumped or replicated: their transaction ids mean something in
 * one cluster.  Nor are they logged: a crash or promotion empties both, and without a
 * horizon in force nothing is left out.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "capture/horizon.h"
#include "compat.h"

/* A new horizon lies so far behind the clock. */
#define HORIZON_DISTANCE_US		USECS_PER_DAY
/* The last one is replaced when it lies farther behind, or nearer, than this. */
#define HORIZON_FAR_US			(2 * USECS_PER_DAY)
#define HORIZON_NEAR_US			(USECS_PER_DAY / 2)

typedef struct Horizon
{
	int64		number;
	TimestampTz since;
	bool		in_force;
	uint64		from_xid;		/* for transactions from here on */
	uint64		published_by;	/* transaction */
} Horizon;

struct Horizons
{
	int			n;
	Horizon    *list;			/* in order of their numbers */
	bool		has_notes;
	TimestampTz noted_since;	/* the earliest of the notes */
};

/* What this session knows of the last horizon. */
static Oid	horizons_relid = InvalidOid;
static bool known = false;
static TimestampTz last_since = DT_NOBEGIN;

/* The last note of this session, which need not be repeated in its subtransaction. */
static uint64 noted_xid = 0;
static SubTransactionId noted_in = InvalidSubTransactionId;
static TimestampTz noted_at = 0;

static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == horizons_relid)
		known = false;
}

void
horizon_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}

/* ---- writers ---- */

/* The last horizon that was published, read without asking for any right. */
static void
look_up(void)
{
	Oid			namespace = get_namespace_oid("audit", true);
	Oid			relid = OidIsValid(namespace) ? get_relname_relid("horizons", namespace) : InvalidOid;
	Relation	rel;
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	int64		last = -1;

	last_since = DT_NOBEGIN;
	horizons_relid = relid;
	known = true;
	if (!OidIsValid(relid))
		return;
	rel = table_open(relid, AccessShareLock);
	/* An invalidation that came with the lock is of what is read now. */
	known = true;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		int64		number = DatumGetInt64(slot_getattr(slot, 1, &isnull));

		if (number <= last)
			continue;
		last = number;
		last_since = DatumGetTimestampTz(slot_getattr(slot, 2, &isnull));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
}

static void
write_note(TimestampTz at)
{
	Relation	rel = table_open(get_relname_relid("horizon_notes", get_namespace_oid("audit", false)), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	slot->tts_values[0] = UInt64GetDatum(U64FromFullTransactionId(GetTopFullTransactionId()));
	slot->tts_isnull[0] = false;
	slot->tts_values[1] = TimestampTzGetDatum(at);
	slot->tts_isnull[1] = false;
	ExecStoreVirtualTuple(slot);
	/* It has no index, no trigger and no constraint. */
	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}

void
horizon_note(const LogEntry *entries, int n)
{
	TimestampTz at = DT_NOEND;
	uint64		xid = U64FromFullTransactionId(GetTopFullTransactionId());
	SubTransactionId subtransaction = GetCurrentSubTransactionId();

	/* Behind the transaction id, and not only where a lock happens to be new. */
	AcceptInvalidationMessages();
	if (!known)
		look_up();
	for (int i = 0; i < n; i++)
		at = Min(at, entries[i].occurred_at);
	if (at >= last_since || (noted_xid == xid && noted_in == subtransaction && noted_at <= at))
		return;
	write_note(at);
	noted_xid = xid;
	noted_in = subtransaction;
	noted_at = at;
}

/* ---- sealing ---- */

Horizons *
horizon_read(void)
{
	static SPIPlanPtr plan = NULL;
	Horizons   *horizons = palloc0(sizeof(Horizons));
	bool		isnull;

	if (plan == NULL)
	{
		SPIPlanPtr	prepared = SPI_prepare("SELECT h.horizon_number, h.entries_since, h.from_transaction_id, h.published_by,"
										   " (SELECT min(n.occurred_at) FROM audit.horizon_notes n)"
										   " FROM audit.horizons h ORDER BY h.horizon_number", 0, NULL);

		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "cannot prepare the query of horizons");
		plan = prepared;
	}
	if (SPI_execute_plan(plan, NULL, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "cannot read the horizons");
	horizons->n = (int) SPI_processed;
	horizons->list = palloc(sizeof(Horizon) * (horizons->n + 1));
	for (int i = 0; i < horizons->n; i++)
	{
		Horizon    *horizon = &horizons->list[i];

		horizon->number = DatumGetInt64(sql_value(i, 0, &isnull));
		horizon->since = DatumGetTimestampTz(sql_value(i, 1, &isnull));
		horizon->from_xid = DatumGetUInt64(sql_value(i, 2, &isnull));
		horizon->in_force = !isnull;
		horizon->published_by = DatumGetUInt64(sql_value(i, 3, &isnull));
		horizons->noted_since = DatumGetTimestampTz(sql_value(i, 4, &isnull));
		horizons->has_notes = !isnull;
	}
	return horizons;
}

/* The last horizon that all transactions from xid on have read, it or a later one; -1: none. */
static int
governing(const Horizons *horizons, uint64 xid)
{
	for (int i = horizons->n - 1; i >= 0; i--)
	{
		if (horizons->list[i].in_force && horizons->list[i].from_xid <= xid)
			return i;
	}
	return -1;
}

TimestampTz
horizon_since(const Horizons *horizons, uint64 xid)
{
	int			first = governing(horizons, xid);
	TimestampTz since;

	if (first < 0)
		return DT_NOBEGIN;
	since = horizons->list[first].since;
	for (int i = first + 1; i < horizons->n; i++)
		since = Min(since, horizons->list[i].since);
	return horizons->has_notes ? Min(since, horizons->noted_since) : since;
}

/* Publish a horizon: writers hear of it when this transaction commits. */
static void
publish(int64 number, TimestampTz since)
{
	Oid			types[2] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int64GetDatum(number), TimestampTzGetDatum(since)};

	(void) sql_query("INSERT INTO audit.horizons (horizon_number, entries_since) VALUES ($1, $2)", 2, types, values);
	CacheInvalidateRelcacheByRelid(get_relname_relid("horizons", get_namespace_oid("audit", false)));
}

void
horizon_keep(const Horizons *horizons, const SealSnapshot *before, const SealSnapshot *now)
{
	const Horizon *last = horizons->n > 0 ? &horizons->list[horizons->n - 1] : NULL;
	TimestampTz clock = GetCurrentTimestamp();
	int			first = before != NULL ? governing(horizons, before->xmin) : -1;

	if (horizons->has_notes)
		(void) sql_query("DELETE FROM audit.horizon_notes WHERE pg_visible_in_snapshot(transaction_id, $1::pg_snapshot)", 1,
						 (Oid[]) {TEXTOID}, (Datum[]) {CStringGetTextDatum(seal_snapshot_text(now))});
	if (first > 0)
		(void) sql_query("DELETE FROM audit.horizons WHERE horizon_number < $1", 1,
						 (Oid[]) {INT8OID}, (Datum[]) {Int64GetDatum(horizons->list[first].number)});
	if (last == NULL)
		publish(0, clock - HORIZON_DISTANCE_US);
	else if (!last->in_force)
	{
		/* Unless it is this very transaction that has published it. */
		if (seal_snapshot_sees(now, last->published_by))
			(void) sql_query("UPDATE audit.horizons SET from_transaction_id = $2::xid8 WHERE horizon_number = $1", 2, (Oid[]) {INT8OID, TEXTOID},
							 (Datum[]) {Int64GetDatum(last->number),
							 CStringGetTextDatum(psprintf(UINT64_FORMAT, U64FromFullTransactionId(ReadNextFullTransactionId())))});
	}
	else if (last->since < clock - HORIZON_FAR_US || last->since > clock - HORIZON_NEAR_US)
		publish(last->number + 1, clock - HORIZON_DISTANCE_US);
}
