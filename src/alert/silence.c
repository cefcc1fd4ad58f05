/*
 * silence.c
 *		Which drones may have gone silent since they were last asked for.
 *
 * Called by link_loss.c, at every check.  A drone goes silent without anything
 * being written, so its newest sample has to be looked at; but not before it can
 * have become too old.  telemetry.drone_latest is read from end to end once in
 * half the smallest threshold.  What the next such pass would find too late is
 * remembered with its time, and told at the check after that time.  A drone that
 * sends is neither remembered nor told, as long as its samples come more often
 * than that.
 *
 * What was told is not told again: a parked fleet costs a look a drone, not a
 * look a check.  Whether a drone flies is not known here; link_loss.c has drones
 * forgotten whose status changes, and begins anew now and then.
 *
 * The pass takes AccessShareLock on drone_latest and is over with its snapshot
 * before the caller goes on.  All this is the caller's memory: after a restart
 * the first check reads everything, as it does on a standby that was promoted.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "alert/silence.h"
#include "compat.h"

/* Attribute numbers of telemetry.drone_latest. */
#define LATEST_DRONE_ID		1
#define LATEST_RECORDED_AT	2

/* Between two passes, at most. */
#define MAX_PASS_US			(10 * USECS_PER_SEC)

/* After this time everything is looked at again. */
#define MAX_WATCH_US		(60 * USECS_PER_SEC)

/* Samples that came this late, or this long ago, are not live. */
#define MAX_DELAY_US		USECS_PER_HOUR
#define MAX_RECEIVED_US		USECS_PER_DAY

/* A drone whose newest sample is, or will soon be, too old. */
typedef struct SilentDrone
{
	pg_uuid_t	drone_id;
	char		status;			/* of the hash table */
	TimestampTz recorded_at;	/* its newest sample */
	int			told;			/* it was told for so many of the thresholds */
} SilentDrone;

#define SH_PREFIX		silent
#define SH_ELEMENT_TYPE	SilentDrone
#define SH_KEY			drone_id
#include "base/uuid_hash.h"

struct SilenceWatch
{
	MemoryContext context;
	uint64		generation;		/* of the rules */
	int64		check_us;
	TimestampTz begun_at;
	TimestampTz looked_at;
	TimestampTz next_pass;
	int			nthresholds;
	int64	   *thresholds_us;	/* of the rules, each once, ascending */
	silent_hash *drones;
	bool		has_told;
};

static int
compare_int64(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

SilenceWatch *
silence_watch_create(const AlertRules *rules, int64 check_us, TimestampTz now)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "silent drones", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SilenceWatch *watch = palloc0(sizeof(SilenceWatch));
	int			nlinks = rules->nwatches - rules->first_link;
	int			n = 0;

	watch->context = context;
	watch->generation = rules->generation;
	watch->check_us = check_us;
	watch->begun_at = watch->looked_at = watch->next_pass = now;
	watch->drones = silent_create(context, 64, NULL);
	watch->thresholds_us = palloc(sizeof(int64) * nlinks);
	for (int i = 0; i < nlinks; i++)
		watch->thresholds_us[i] = (int64) (rules->watches[rules->first_link + i].threshold * USECS_PER_SEC);
	qsort(watch->thresholds_us, nlinks, sizeof(int64), compare_int64);
	for (int i = 0; i < nlinks; i++)
	{
		if (n == 0 || watch->thresholds_us[n - 1] != watch->thresholds_us[i])
			watch->thresholds_us[n++] = watch->thresholds_us[i];
	}
	watch->nthresholds = n;
	MemoryContextSwitchTo(old);
	return watch;
}

bool
silence_watch_is_stale(const SilenceWatch *watch, const AlertRules *rules, int64 check_us, TimestampTz now)
{
	return watch->generation != rules->generation || watch->check_us != check_us ||
		now < watch->looked_at || now - watch->begun_at >= MAX_WATCH_US;
}

/*
 * Remember the drone of the row if its newest sample will have become too old
 * by the end.
 */
static void
remember(SilenceWatch *watch, silent_hash *drones, TupleTableSlot *slot, AttrNumber received, TimestampTz now,
		 TimestampTz end)
{
	bool		isnull;
	TimestampTz recorded_at = DatumGetTimestampTz(slot_getattr(slot, LATEST_RECORDED_AT, &isnull));
	TimestampTz received_at;
	pg_uuid_t	drone_id;
	SilentDrone *drone;
	SilentDrone *before;
	bool		found;

	if (TIMESTAMP_NOT_FINITE(recorded_at) || recorded_at >= end - watch->thresholds_us[0])
		return;
	received_at = DatumGetTimestampTz(slot_getattr(slot, received, &isnull));
	if (isnull || received_at - recorded_at >= MAX_DELAY_US || received_at <= now - MAX_RECEIVED_US)
		return;
	drone_id = *DatumGetUUIDP(slot_getattr(slot, LATEST_DRONE_ID, &isnull));
	drone = silent_insert(drones, drone_id, &found);
	before = silent_lookup(watch->drones, drone_id);
	drone->recorded_at = recorded_at;
	drone->told = before != NULL && before->recorded_at == recorded_at ? before->told : 0;
}

/*
 * Look at every drone's newest sample.
 */
static void
pass(SilenceWatch *watch, TimestampTz now)
{
	int64		interval = watch->check_us == 0 ? 0 : Min(watch->thresholds_us[0] / 2, MAX_PASS_US);
	silent_hash *drones = silent_create(watch->context, 64, NULL);
	Relation	rel = table_openrv(makeRangeVar("telemetry", "drone_latest", -1), AccessShareLock);
	AttrNumber	received = get_attnum(RelationGetRelid(rel), "received_at");
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	/* The next pass comes with a check, which may come late. */
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		remember(watch, drones, slot, received, now, now + interval + 2 * watch->check_us);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);

	silent_destroy(watch->drones);
	watch->drones = drones;
	watch->next_pass = now + interval;
}

int
silence_watch_look(SilenceWatch *watch, TimestampTz now, pg_uuid_t **drones)
{
	silent_iterator iterator;
	SilentDrone *drone;
	int			allocated = 16;
	int			n = 0;

	if (now >= watch->next_pass)
		pass(watch, now);
	watch->looked_at = now;
	watch->has_told = false;
	*drones = palloc(sizeof(pg_uuid_t) * allocated);
	silent_start_iterate(watch->drones, &iterator);
	while ((drone = silent_iterate(watch->drones, &iterator)) != NULL)
	{
		int			told = drone->told;

		while (drone->told < watch->nthresholds && drone->recorded_at < now - watch->thresholds_us[drone->told])
			drone->told++;
		watch->has_told |= drone->told > 0;
		if (drone->told == told)
			continue;
		if (n == allocated)
		{
			allocated *= 2;
			*drones = repalloc_huge(*drones, sizeof(pg_uuid_t) * allocated);
		}
		(*drones)[n++] = drone->drone_id;
	}
	return n;
}

bool
silence_watch_has_told(const SilenceWatch *watch)
{
	return watch->has_told;
}

void
silence_watch_forget(SilenceWatch *watch, const pg_uuid_t *drone_id)
{
	SilentDrone *drone = silent_lookup(watch->drones, *drone_id);

	if (drone != NULL)
		drone->told = 0;
}

void
silence_watch_free(SilenceWatch *watch)
{
	MemoryContextDelete(watch->context);
}
