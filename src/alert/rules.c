/*
 * rules.c
 *		The rules and geofences of this database, compiled for evaluation, in
 *		every backend.
 *
 * Compiled at the first use after a change.  A change of telemetry.alert_rules
 * or telemetry.geofences, or of a drone's type, fires a trigger that invalidates
 * alert_rules in every relation cache (rule_check.c), so that the rules cost no
 * look-up while they stay the same.  Reading takes AccessShareLock on the tables
 * and looks past the caller's privileges.  A set that was replaced is freed when
 * the transaction ends, since a call further up may still use it.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "alert/rules.h"
#include "compat.h"
#include "errors.h"

/* Attribute numbers of telemetry.alert_rules. */
#define RULE_ID				1
#define RULE_NAME			2
#define RULE_METRIC			3
#define RULE_COMPARISON		4
#define RULE_THRESHOLD		5
#define RULE_CLEAR			6
#define RULE_HOLD_FOR		7
#define RULE_SEVERITY		8
#define RULE_DRONE_TYPE		9
#define RULE_DRONE_ID		10
#define RULE_ENABLED		11

/* Attribute numbers of telemetry.geofences. */
#define FENCE_ID			1
#define FENCE_NAME			2
#define FENCE_KIND			3
#define FENCE_BOUNDARY		4
#define FENCE_FLOOR			5
#define FENCE_CEILING		6
#define FENCE_VALID_FROM	7
#define FENCE_VALID_UNTIL	8
#define FENCE_SEVERITY		9
#define FENCE_DRONE_TYPE	10
#define FENCE_DRONE_ID		11
#define FENCE_ENABLED		12

/* A rectangle that is narrower is not cut into cells. */
#define MIN_GRID_DEG		1e-6

/* Drones whose type is remembered, at most. */
#define MAX_DRONE_TYPES		200000

typedef struct DroneType
{
	pg_uuid_t	drone_id;
	char		status;			/* of the hash table */
	int			type;			/* a place in types; -1 none of them */
} DroneType;

#define SH_PREFIX		drone_type
#define SH_ELEMENT_TYPE	DroneType
#define SH_KEY			drone_id
#include "base/uuid_hash.h"

static const char *const comparison_names[] = {
	[ALERT_LESS] = "<",
	[ALERT_LESS_EQUAL] = "<=",
	[ALERT_GREATER] = ">",
	[ALERT_GREATER_EQUAL] = ">=",
	[ALERT_EQUAL] = "=",
	[ALERT_NOT_EQUAL] = "<>",
};

static AlertRules *compiled = NULL;
static bool compiled_valid = false;
static bool changed_since = false;	/* while compiling */
static Oid	rules_relid = InvalidOid;

/* Under construction. */
typedef struct Compiler
{
	AlertRules *rules;
	int			allocated;
} Compiler;

static void compile(void);

int
alert_comparison_by_name(const char *name)
{
	for (int i = 0; i < lengthof(comparison_names); i++)
	{
		if (strcmp(comparison_names[i], name) == 0)
			return i;
	}
	return -1;
}

const char *
alert_comparison_name(AlertComparison comparison)
{
	return comparison_names[comparison];
}

/* Relation cache callback; runs at any lock acquisition, must not fail. */
static void
rules_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == rules_relid || !OidIsValid(rules_relid))
	{
		compiled_valid = false;
		changed_since = true;
	}
}

void
alert_rules_init(void)
{
	CacheRegisterRelcacheCallback(rules_changed, (Datum) 0);
}

const AlertRules *
alert_rules_get(void)
{
	if (!compiled_valid)
		compile();
	return compiled;
}

static Oid
find_table(const char *name)
{
	Oid			schema = get_namespace_oid("telemetry", true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

void
alert_rules_invalidate(void)
{
	Oid			relid = find_table("alert_rules");

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

uint32
alert_needed_metrics(const AlertRules *rules)
{
	return rules->needed;
}

/*
 * The place of a drone type in types, added if need be.
 */
static int
intern_type(AlertRules *rules, const char *name)
{
	for (int i = 0; i < rules->ntypes; i++)
	{
		if (strcmp(rules->types[i], name) == 0)
			return i;
	}
	rules->types = rules->types == NULL ? palloc(sizeof(char *)) :
		repalloc(rules->types, sizeof(char *) * (rules->ntypes + 1));
	rules->types[rules->ntypes] = pstrdup(name);
	return rules->ntypes++;
}

static AlertWatch *
add_watch(Compiler *compiler)
{
	AlertRules *rules = compiler->rules;
	AlertWatch *watch;

	if (rules->nwatches == compiler->allocated)
	{
		compiler->allocated = Max(32, compiler->allocated * 2);
		rules->watches = rules->watches == NULL ? palloc(sizeof(AlertWatch) * compiler->allocated) :
			repalloc(rules->watches, sizeof(AlertWatch) * compiler->allocated);
	}
	watch = &rules->watches[rules->nwatches++];
	memset(watch, 0, sizeof(AlertWatch));
	watch->drone_type = -1;
	return watch;
}

static char *
text_of(TupleTableSlot *slot, int attno)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attno, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/*
 * What rules and geofences have in common.
 */
static void
fill_common(AlertRules *rules, AlertWatch *watch, TupleTableSlot *slot,
			int id, int name, int severity, int drone_type, int drone_id)
{
	bool		isnull;
	Datum		value;
	char	   *type;

	watch->id = *DatumGetUUIDP(slot_getattr(slot, id, &isnull));
	watch->name = text_of(slot, name);
	watch->severity = text_of(slot, severity);
	type = text_of(slot, drone_type);
	if (type != NULL)
		watch->drone_type = intern_type(rules, type);
	value = slot_getattr(slot, drone_id, &isnull);
	watch->has_drone = !isnull;
	if (!isnull)
		watch->drone_id = *DatumGetUUIDP(value);
}

/*
 * The value with the precision of a real.  Volatile, because without it the code
 * that gcc 12 makes at -O2 of two such conversions in a row does not round.
 */
static double
round_to_real(double value)
{
	volatile float4 real = (float4) value;

	return real;
}

/*
 * One row of telemetry.alert_rules.  Its trigger has seen to it that the row
 * makes sense; what does not, after all, is left out.
 */
static void
add_rule(Compiler *compiler, TupleTableSlot *slot, bool link)
{
	char	   *metric_name = text_of(slot, RULE_METRIC);
	int			metric = alert_metric_by_name(metric_name);
	int			comparison = alert_comparison_by_name(text_of(slot, RULE_COMPARISON));
	bool		is_link = strcmp(metric_name, ALERT_LINK_METRIC) == 0;
	AlertWatch *watch;
	Interval   *hold_for;
	Datum		value;
	bool		isnull;

	if (is_link != link || (!is_link && metric < 0) || comparison < 0)
		return;
	watch = add_watch(compiler);
	fill_common(compiler->rules, watch, slot, RULE_ID, RULE_NAME, RULE_SEVERITY, RULE_DRONE_TYPE, RULE_DRONE_ID);
	watch->kind = is_link ? ALERT_LINK_LOSS : ALERT_RULE;
	watch->metric = metric;
	watch->comparison = comparison;
	watch->threshold = DatumGetFloat8(slot_getattr(slot, RULE_THRESHOLD, &isnull));
	value = slot_getattr(slot, RULE_CLEAR, &isnull);
	watch->clear_threshold = isnull ? watch->threshold : DatumGetFloat8(value);
	hold_for = DatumGetIntervalP(slot_getattr(slot, RULE_HOLD_FOR, &isnull));
	watch->hold_us = hold_for->time + (hold_for->day + (int64) hold_for->month * DAYS_PER_MONTH) * USECS_PER_DAY;

	/* 0.1 as a real is not 0.1 as a double precision. */
	if (!is_link && alert_metric(metric)->is_real)
	{
		watch->threshold = round_to_real(watch->threshold);
		watch->clear_threshold = round_to_real(watch->clear_threshold);
	}
}

static double
real_or(TupleTableSlot *slot, int attno, double otherwise)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attno, &isnull);

	return isnull ? otherwise : DatumGetFloat4(value);
}

static TimestampTz
time_or(TupleTableSlot *slot, int attno, TimestampTz otherwise)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attno, &isnull);

	return isnull ? otherwise : DatumGetTimestampTz(value);
}

static void
add_fence(Compiler *compiler, TupleTableSlot *slot)
{
	AlertWatch *watch = add_watch(compiler);
	bool		isnull;

	fill_common(compiler->rules, watch, slot, FENCE_ID, FENCE_NAME, FENCE_SEVERITY, FENCE_DRONE_TYPE, FENCE_DRONE_ID);
	watch->kind = ALERT_GEOFENCE;
	watch->inclusion = strcmp(text_of(slot, FENCE_KIND), "inclusion") == 0;
	watch->fence = geofence_compile(DatumGetPolygonP(slot_getattr(slot, FENCE_BOUNDARY, &isnull)));
	watch->floor_m = real_or(slot, FENCE_FLOOR, -get_float8_infinity());
	watch->ceiling_m = real_or(slot, FENCE_CEILING, get_float8_infinity());
	watch->valid_from = time_or(slot, FENCE_VALID_FROM, DT_NOBEGIN);
	watch->valid_until = time_or(slot, FENCE_VALID_UNTIL, DT_NOEND);
}

typedef enum CompilePass
{
	PASS_RULES,
	PASS_FENCES,
	PASS_LINKS,
} CompilePass;

static void
read_table(Compiler *compiler, Oid relid, CompilePass pass)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		if (!DatumGetBool(slot_getattr(slot, pass == PASS_FENCES ? FENCE_ENABLED : RULE_ENABLED, &isnull)))
			continue;
		if (pass == PASS_FENCES)
			add_fence(compiler, slot);
		else
			add_rule(compiler, slot, pass == PASS_LINKS);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
}

/*
 * Reduce the rules with inequalities to one band a metric.
 */
static void
make_bands(AlertRules *rules)
{
	rules->bands = palloc(sizeof(AlertBand) * Max(rules->nwatches, 1));
	rules->exact = palloc(sizeof(int) * Max(rules->nwatches, 1));

	for (int i = 0; i < rules->first_fence; i++)
	{
		const AlertWatch *watch = &rules->watches[i];
		AlertBand  *band = NULL;

		rules->needed |= ALERT_BIT(watch->metric);
		if (watch->comparison == ALERT_EQUAL || watch->comparison == ALERT_NOT_EQUAL)
		{
			rules->exact[rules->nexact++] = i;
			continue;
		}
		for (int b = 0; b < rules->nbands; b++)
		{
			if (rules->bands[b].metric == watch->metric)
				band = &rules->bands[b];
		}
		if (band == NULL)
		{
			band = &rules->bands[rules->nbands++];
			band->metric = watch->metric;
			band->below = -get_float8_infinity();
			band->above = get_float8_infinity();
		}
		if (watch->comparison == ALERT_LESS || watch->comparison == ALERT_LESS_EQUAL)
			band->below = Max(band->below, watch->threshold);
		else
			band->above = Min(band->above, watch->threshold);
	}

	if (rules->first_link > rules->first_fence)
		rules->needed |= ALERT_BIT(alert_metric_by_name("latitude")) |
			ALERT_BIT(alert_metric_by_name("longitude")) | ALERT_BIT(alert_metric_by_name("altitude_m"));
}

static int
compare_boxes(const void *a, const void *b)
{
	double		left = ((const AlertBox *) a)->south;
	double		right = ((const AlertBox *) b)->south;

	return left < right ? -1 : left > right;
}

/*
 * Put the boxes of the exclusion areas, which every position is held against,
 * close together, from south to north.
 */
static void
make_boxes(AlertRules *rules)
{
	int			nfences = rules->first_link - rules->first_fence;

	rules->inclusions = palloc(sizeof(int) * Max(nfences, 1));
	rules->boxes = palloc(sizeof(AlertBox) * Max(nfences, 1) * 3);
	for (int i = rules->first_fence; i < rules->first_link; i++)
	{
		const AlertWatch *watch = &rules->watches[i];

		if (watch->inclusion)
		{
			rules->inclusions[rules->ninclusions++] = i;
			continue;
		}
		for (int turn = -360; turn <= 360; turn += 360)
		{
			AlertBox   *box = &rules->boxes[rules->nboxes];

			box->west = watch->fence->west + turn;
			box->east = watch->fence->east + turn;
			box->south = watch->fence->south;
			box->north = watch->fence->north;
			box->watch = i;
			if (box->west <= 180 && box->east >= -180)
				rules->nboxes++;
		}
	}
	qsort(rules->boxes, rules->nboxes, sizeof(AlertBox), compare_boxes);
}

/*
 * Draw the boxes into the grid.
 */
static void
make_grid(AlertRules *rules)
{
	AlertGrid  *grid = &rules->grid;
	AlertBox   *around = &grid->around;

	around->west = around->south = get_float8_infinity();
	around->east = around->north = -get_float8_infinity();
	for (int i = 0; i < rules->nboxes; i++)
	{
		around->west = Min(around->west, rules->boxes[i].west);
		around->east = Max(around->east, rules->boxes[i].east);
		around->south = Min(around->south, rules->boxes[i].south);
		around->north = Max(around->north, rules->boxes[i].north);
	}
	if (around->east - around->west > MIN_GRID_DEG)
		grid->columns_per_deg = ALERT_GRID_CELLS / (around->east - around->west);
	if (around->north - around->south > MIN_GRID_DEG)
		grid->rows_per_deg = ALERT_GRID_CELLS / (around->north - around->south);
	for (int i = 0; i < rules->nboxes; i++)
	{
		const AlertBox *box = &rules->boxes[i];
		int			first = alert_grid_cell(box->west, around->west, grid->columns_per_deg);
		int			last = alert_grid_cell(box->east, around->west, grid->columns_per_deg);
		uint64		columns = (PG_UINT64_MAX >> (ALERT_GRID_CELLS - 1 - last)) & (PG_UINT64_MAX << first);
		int			top = alert_grid_cell(box->north, around->south, grid->rows_per_deg);

		for (int row = alert_grid_cell(box->south, around->south, grid->rows_per_deg); row <= top; row++)
			grid->rows[row] |= columns;
	}
}

static void
compile(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "alert rules", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	AlertRules *rules = palloc0(sizeof(AlertRules));
	Compiler	compiler = {.rules = rules};
	Oid			relid = find_table("alert_rules");
	Oid			fences_relid = find_table("geofences");

	static uint64 generation = 0;

	se_assert(IsTransactionState());
	rules->context = context;
	rules->generation = ++generation;
	rules_relid = relid;

	/* An invalidation that arrives from here on makes the result stale again. */
	changed_since = false;
	if (OidIsValid(relid))
		read_table(&compiler, relid, PASS_RULES);
	rules->first_fence = rules->nwatches;
	if (OidIsValid(fences_relid))
		read_table(&compiler, fences_relid, PASS_FENCES);
	rules->first_link = rules->nwatches;
	if (OidIsValid(relid))
		read_table(&compiler, relid, PASS_LINKS);
	make_bands(rules);
	make_boxes(rules);
	make_grid(rules);
	MemoryContextSwitchTo(old);

	MemoryContextSetParent(context, CacheMemoryContext);
	if (compiled != NULL)
		MemoryContextSetParent(compiled->context, TopTransactionContext);
	compiled = rules;
	compiled_valid = !changed_since;
}

/*
 * The drone's type by core.drones, as a place in types; -1 when no watch names it.
 * *lasting: it may be remembered, for whoever changes it invalidates the rules; a
 * drone that this transaction registers goes without that when it is rolled back.
 */
static int
read_drone_type(const AlertRules *rules, const pg_uuid_t *drone_id, bool *lasting)
{
	Oid			relid = get_relname_relid("drones", get_namespace_oid("core", false));
	Relation	rel = table_open(relid, AccessShareLock);
	Relation	index = index_open(compat_primary_key_index(rel), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = compat_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;
	int			type = -1;

	*lasting = false;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(drone_id));
	index_rescan(scan, &key, 1, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		char	   *name = text_of(slot, get_attnum(relid, "drone_type"));
		bool		isnull;
		Datum		xmin = slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull);

		*lasting = !TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
		for (int i = 0; i < rules->ntypes && name != NULL; i++)
		{
			if (strcmp(rules->types[i], name) == 0)
				type = i;
		}
		if (name != NULL)
			pfree(name);
	}
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return type;
}

/*
 * Does the watch apply to the drone?
 */
bool
alert_watch_applies(const AlertRules *rules, const AlertWatch *watch, const pg_uuid_t *drone_id)
{
	AlertRules *cache = unconstify(AlertRules *, rules);
	DroneType  *entry;
	bool		found;
	bool		lasting;
	int			type;

	if (watch->has_drone)
		return memcmp(&watch->drone_id, drone_id, UUID_LEN) == 0;
	if (watch->drone_type < 0)
		return true;

	if (cache->drone_types != NULL && cache->drone_types->members >= MAX_DRONE_TYPES)
		drone_type_reset(cache->drone_types);
	if (cache->drone_types == NULL)
		cache->drone_types = drone_type_create(cache->context, 256, NULL);
	entry = drone_type_lookup(cache->drone_types, *drone_id);
	if (entry != NULL)
		return entry->type == watch->drone_type;
	type = read_drone_type(rules, drone_id, &lasting);
	if (lasting)
		drone_type_insert(cache->drone_types, *drone_id, &found)->type = type;
	return type == watch->drone_type;
}
