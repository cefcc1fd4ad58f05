/*
 * insert_trigger.c
 *		The triggers behind plain INSERT and COPY into telemetry.drone_telemetry.
 *
 * A row trigger notes each drone's newest time among the statement's rows; the
 * statement trigger, which fires after the last of them, then takes those rows
 * from the table by primary key and advances drone_latest in order of drone_id,
 * the order in which ingest.c does it.  Together they check what a constraint
 * cannot: the drones exist and the times lie in the accepted window.
 *
 * For alerts the row trigger only asks of each row whether it may break a rule,
 * which takes no memory and no look-up.  From the first such row of a drone on,
 * or from the first row of a drone with an alert state, it keeps what the rules
 * need of the rows; the statement trigger evaluates them in order of time.  Where
 * that does not do, because of the order in which they came or for want of room,
 * it reads the drone's rows from the table again.
 *
 * A transition table would do with one trigger, but takes COPY into a
 * partitioned table off its multi-insert path and copies every row once more.
 *
 * What was noted lives until the statement trigger, or until the subtransaction
 * that noted it is rolled back.  MERGE and ON CONFLICT DO UPDATE fire the triggers
 * of UPDATE and DELETE first, which make drone_latest anew from the table: what was
 * inserted has to count before that.  When ingest.c stores rows through the executor,
 * each by a statement of its own, it waits for the last of them, and has those noted
 * that it stores without the executor: a drone's samples count together, in order of
 * time, and its row of drone_latest is changed once.
 *
 * What was noted may name rows that are not there in the end: an UPDATE that moves a
 * row to another partition fires the row trigger, too, but not the one before the
 * statement, which tells an INSERT from it; and rows that are inserted straight into
 * a partition are never asked for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/sql.h"
#include "compat.h"
#include "errors.h"
#include "partition/partition.h"
#include "telemetry/insert_trigger.h"
#include "telemetry/latest.h"
#include "telemetry/watch.h"

PG_FUNCTION_INFO_V1(telemetry_before_insert_samples);
PG_FUNCTION_INFO_V1(telemetry_after_insert_sample);
PG_FUNCTION_INFO_V1(telemetry_after_insert_samples);

/* Rows that are read at a time when a drone's rows are evaluated. */
#define ROWS_A_FETCH	1000

/* Room for what is kept of the rows of a statement; beyond it they are read again. */
#define KEPT_BYTES		(64 * 1024 * 1024)

/* What the rules need of a row. */
typedef struct KeptRow
{
	TimestampTz recorded_at;
	uint32		present;		/* as in AlertSample */
	double		values[FLEXIBLE_ARRAY_MEMBER];	/* in the order of NotedRows.metrics */
} KeptRow;

typedef struct KeptRows
{
	struct KeptRows *next;
	int			nrows;
	int			allocated;
	char		rows[FLEXIBLE_ARRAY_MEMBER];	/* each as long as kept_size says */
} KeptRows;

typedef struct NewestTime
{
	pg_uuid_t	drone_id;
	char		status;			/* of the hash table */
	TimestampTz recorded_at;
	TimestampTz latest;			/* of drone_latest at the drone's first row; -infinity if none */
	int64		nrows;
	int64		nlate;			/* rows older than latest */
	bool		had_states;		/* the drone has alert states */
	bool		watched;		/* it has, or a row may have broken a rule: rows are kept from then on */
	bool		reread;			/* what was kept does not do: read the rows again */
	bool		in_order;		/* the rows were kept in order of time */
	TimestampTz last_kept;
	TimestampTz unkept_until;	/* rows up to then were not kept: an older one must not come after */
	KeptRows   *first_kept;
	KeptRows   *newest_kept;
} NewestTime;

#define SH_PREFIX		newest
#define SH_ELEMENT_TYPE	NewestTime
#define SH_KEY			drone_id
#include "base/uuid_hash.h"

/* What the row trigger has noted, in one subtransaction, since the last statement trigger. */
typedef struct NotedRows
{
	struct NotedRows *outer;	/* what enclosing subtransactions have noted */
	SubTransactionId subid;
	MemoryContext context;
	newest_hash *drones;
	TimestampTz accept_from;
	TimestampTz accept_until;
	Oid			last_partition;	/* of the last row */
	AttrNumber	drone_id_attno; /* in the last partition */
	AttrNumber	recorded_at_attno;
	bool		used_default;	/* rows went to the default partition */
	bool		held;			/* not for the statement trigger */
	int			inserting;		/* statements under way that insert: an UPDATE merely moves rows */
	const AlertRules *rules;	/* NULL before the first row */
	int			nmetrics;		/* columns that the rules need: */
	int			metrics[SAMPLE_NCOLUMNS];
	AttrNumber	metric_attnos[SAMPLE_NCOLUMNS]; /* in the last partition */
	Size		kept_size;		/* of one KeptRow */
	Size		kept_bytes;		/* of all */
} NotedRows;

static NotedRows *noted = NULL;

static int
compare_newest(const void *a, const void *b)
{
	return memcmp(&((const NewestTime *) a)->drone_id, &((const NewestTime *) b)->drone_id, UUID_LEN);
}

static void
forget_innermost(void)
{
	NotedRows  *innermost = noted;

	noted = innermost->outer;
	MemoryContextDelete(innermost->context);
}

/* Has the current subtransaction noted rows? */
static inline bool
have_noted(void)
{
	return noted != NULL && noted->subid == GetCurrentSubTransactionId();
}

static void
forget_at_xact_end(XactEvent event, void *arg)
{
	/* The memory goes with the transaction's. */
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		noted = NULL;
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (noted != NULL && noted->subid == subid)
			forget_innermost();
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (NotedRows *rows = noted; rows != NULL && rows->subid == subid; rows = rows->outer)
			rows->subid = parent;
	}
}

static void
begin_noting(void)
{
	static bool registered = false;
	MemoryContext context;
	NotedRows  *rows;

	if (!registered)
	{
		RegisterXactCallback(forget_at_xact_end, NULL);
		RegisterSubXactCallback(at_subxact_end, NULL);
		registered = true;
	}
	/* An error takes it away with the subtransaction, also while it is settled. */
	context = AllocSetContextCreate(CurTransactionContext, "inserted samples", ALLOCSET_DEFAULT_SIZES);
	rows = MemoryContextAllocZero(context, sizeof(NotedRows));
	rows->context = context;
	rows->drones = newest_create(context, 16, NULL);
	rows->subid = GetCurrentSubTransactionId();
	rows->outer = noted;
	noted = rows;
}

/*
 * The window and the rules that hold for the rows: as they are when the first of
 * them is noted, which for a COPY is after the last has come.
 */
static void
begin_rows(NotedRows *rows)
{
	const SentientSettings *settings = settings_get();

	rows->accept_from = settings->accept_from;
	rows->accept_until = GetCurrentTimestamp() + settings->accept_ahead_us;
	rows->rules = alert_rules_get();
	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
	{
		if ((alert_needed_metrics(rows->rules) & ALERT_BIT(column)) != 0)
			rows->metrics[rows->nmetrics++] = column;
	}
	rows->kept_size = MAXALIGN(offsetof(KeptRow, values) + sizeof(double) * rows->nmetrics);
}

/*
 * Note which partition the rows come from.  One that was attached may have its
 * columns in another order than the parent's.
 */
static void
note_partition(Relation partition)
{
	Oid			relid = RelationGetRelid(partition);
	bool		is_ours;

	noted->last_partition = relid;
	noted->drone_id_attno = get_attnum(relid, "drone_id");
	noted->recorded_at_attno = get_attnum(relid, "recorded_at");
	is_ours = get_atttype(relid, noted->drone_id_attno) == UUIDOID &&
		get_atttype(relid, noted->recorded_at_attno) == TIMESTAMPTZOID;
	for (int i = 0; i < noted->nmetrics; i++)
	{
		int			column = noted->metrics[i];
		Oid			type = column < SAMPLE_FIRST_REAL ? FLOAT8OID : column <= SAMPLE_LAST_REAL ? FLOAT4OID : INT2OID;

		noted->metric_attnos[i] = get_attnum(relid, sample_columns[column].name);
		is_ours = is_ours && get_atttype(relid, noted->metric_attnos[i]) == type;
	}
	if (!is_ours)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("after_insert_sample is a trigger of telemetry.drone_telemetry only")));
	if (partition->rd_rel->relispartition &&
		get_default_partition_oid(get_partition_parent(relid, true)) == relid)
		noted->used_default = true;
}

/*
 * Keep what the rules need of a row.
 */
static void
keep_row(NewestTime *newest, const AlertSample *seen)
{
	KeptRows   *block = newest->newest_kept;
	KeptRow    *kept;

	if (block == NULL || block->nrows == block->allocated)
	{
		int			allocated = block == NULL ? 4 : Min(block->allocated * 4, 256);
		Size		size = offsetof(KeptRows, rows) + noted->kept_size * allocated;

		if (noted->kept_bytes + size > KEPT_BYTES)
		{
			newest->reread = true;
			return;
		}
		noted->kept_bytes += size;
		block = MemoryContextAlloc(noted->context, size);
		block->next = NULL;
		block->nrows = 0;
		block->allocated = allocated;
		if (newest->newest_kept != NULL)
			newest->newest_kept->next = block;
		else
			newest->first_kept = block;
		newest->newest_kept = block;
	}
	kept = (KeptRow *) (block->rows + noted->kept_size * block->nrows++);
	kept->recorded_at = seen->recorded_at;
	kept->present = seen->present;
	for (int i = 0; i < noted->nmetrics; i++)
		kept->values[i] = seen->values[noted->metrics[i]];
	if (seen->recorded_at < newest->last_kept)
		newest->in_order = false;
	newest->last_kept = seen->recorded_at;
}

/*
 * The drone's entry, made when it has none: at its first row, of that time.
 */
static NewestTime *
newest_of(const pg_uuid_t *drone_id, TimestampTz recorded_at)
{
	bool		found;
	NewestTime *newest = newest_insert(noted->drones, *drone_id, &found);

	if (!found)
	{
		int			alert_states = 0;

		memset((char *) newest + offsetof(NewestTime, recorded_at), 0, sizeof(NewestTime) - offsetof(NewestTime, recorded_at));
		newest->recorded_at = recorded_at;
		if (!latest_peek(drone_id, &newest->latest, &alert_states))
			newest->latest = DT_NOBEGIN;
		newest->had_states = newest->watched = alert_states > 0;
		newest->in_order = true;
		newest->last_kept = newest->unkept_until = DT_NOBEGIN;
	}
	return newest;
}

/*
 * Count a row; false when the rules need not see it.
 */
static inline bool
count_row(NewestTime *newest, TimestampTz recorded_at)
{
	newest->nrows++;
	if (recorded_at < newest->latest)
	{
		newest->nlate++;
		return false;
	}
	return (noted->nmetrics > 0 || newest->watched) && !newest->reread;
}

/*
 * Take what the rules need from a row of the last partition.
 */
static void
fill_from_row(AlertSample *seen, HeapTuple row, TupleDesc desc, TimestampTz recorded_at)
{
	seen->recorded_at = recorded_at;
	seen->present = 0;
	for (int i = 0; i < noted->nmetrics; i++)
	{
		bool		isnull;
		Datum		value = heap_getattr(row, noted->metric_attnos[i], desc, &isnull);

		if (!isnull)
			watch_fill_datum(seen, noted->metrics[i], value);
		else
			seen->values[noted->metrics[i]] = 0;
	}
}

/*
 * Hold a row against the rules: may it break one?  That needs no state of the
 * drone.  From the first row on that may, the drone's rows are kept.
 */
static void
watch_row(NewestTime *newest, const AlertSample *seen)
{
	if (!newest->watched)
	{
		if (likely(alert_is_quiet(noted->rules, seen)))
			return;
		newest->watched = true;
		if (newest->nrows > 1)
			newest->unkept_until = newest->recorded_at;
	}
	if (unlikely(seen->recorded_at < newest->unkept_until))
		newest->reread = true;
	else
		keep_row(newest, seen);
}

/*
 * telemetry.before_insert_samples(): the trigger before a statement that inserts.
 */
Datum
telemetry_before_insert_samples(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		trigger->tg_relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("before_insert_samples must be a BEFORE INSERT statement trigger of the partitioned table")));
	if (!have_noted())
		begin_noting();
	noted->inserting++;
	return PointerGetDatum(NULL);
}

/*
 * telemetry.after_insert_sample(): the row trigger.
 */
Datum
telemetry_after_insert_sample(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	partition;
	NewestTime *newest;
	pg_uuid_t	drone_id;
	TimestampTz recorded_at;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("after_insert_sample must be an AFTER INSERT row trigger")));
	if (!have_noted())
		begin_noting();
	if (noted->rules == NULL)
		begin_rows(noted);
	partition = trigger->tg_relation;
	if (unlikely(RelationGetRelid(partition) != noted->last_partition))
		note_partition(partition);

	/* Both are NOT NULL. */
	drone_id = *DatumGetUUIDP(heap_getattr(trigger->tg_trigtuple, noted->drone_id_attno,
										   RelationGetDescr(partition), &isnull));
	recorded_at = DatumGetTimestampTz(heap_getattr(trigger->tg_trigtuple, noted->recorded_at_attno,
												   RelationGetDescr(partition), &isnull));

	if (unlikely(recorded_at < noted->accept_from || recorded_at > noted->accept_until))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
				 errmsg("recorded_at %s is outside the accepted window", timestamptz_to_str(recorded_at)),
				 errdetail("The drone is %s.",
						   DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&drone_id)))),
				 errhint("The window is set by telemetry.accept_from and telemetry.accept_ahead in sentient_edge.settings.")));

	newest = newest_of(&drone_id, recorded_at);
	if (count_row(newest, recorded_at))
	{
		AlertSample seen;

		fill_from_row(&seen, trigger->tg_trigtuple, RelationGetDescr(partition), recorded_at);
		watch_row(newest, &seen);
	}
	if (recorded_at > newest->recorded_at)
		newest->recorded_at = recorded_at;
	return PointerGetDatum(NULL);
}

/*
 * Fetch a row by its key; false when it is not there (a later trigger or rule
 * may have taken it away again).
 */
static bool
fetch_sample(Relation parent, const NewestTime *newest, Snapshot snapshot, Sample *sample)
{
	PartitionRange range = partition_find(parent, newest->recorded_at);
	Relation	rel;
	Relation	index;
	Oid			index_oid;
	IndexScanDesc scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	bool		found;

	if (!OidIsValid(range.relid))
		return false;
	rel = table_open(range.relid, AccessShareLock);
	index_oid = compat_primary_key_index(rel);
	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition \"%s\" has no primary key", RelationGetRelationName(rel)),
				 errhint("A restore may still be under way; otherwise attach the index of the parent's primary key.")));
	index = index_open(index_oid, AccessShareLock);
	slot = table_slot_create(rel, NULL);

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&newest->drone_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(newest->recorded_at));
	scan = compat_index_beginscan(rel, index, snapshot, 2);
	index_rescan(scan, keys, 2, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
	{
		TupleConversionMap *map = convert_tuples_by_name(RelationGetDescr(rel), RelationGetDescr(parent));

		if (map == NULL)
			sample_from_slot(sample, slot);
		else
		{
			TupleTableSlot *converted = MakeSingleTupleTableSlot(RelationGetDescr(parent), &TTSOpsVirtual);

			sample_from_slot(sample, execute_attr_map_slot(map->attrMap, slot, converted));
			ExecDropSingleTupleTableSlot(converted);
			free_conversion_map(map);
		}
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return found;
}

/* The alerts of a statement, and the drone whose rows are evaluated. */
typedef struct RowEvaluation
{
	AlertBatch *alerts;
	uint32		needed;
	const NotedRows *rows;
	const NewestTime *noted;
	const Sample *newest;		/* the newest row */
	bool		changed;		/* there is something to keep */
} RowEvaluation;

/*
 * Evaluate the drone's rows from a time on, in order of time, as they stand in
 * the table: they are all of this transaction, since whoever stores newer ones
 * has to wait for its end.
 */
static void
evaluate_rows(RowEvaluation *evaluation, TimestampTz after)
{
	static SPIPlanPtr plan = NULL;
	SqlScope	scope = sql_begin(0);
	Datum		args[3] = {
		UUIDPGetDatum(&evaluation->noted->drone_id),
		TimestampTzGetDatum(after),
		TimestampTzGetDatum(evaluation->newest->recorded_at),
	};
	Portal		cursor;

	/* Planned once, and fast when the table has grown. */
	sql_set_local("plan_cache_mode", "force_generic_plan");
	sql_set_local("enable_seqscan", "off");
	if (plan == NULL)
	{
		Oid			types[3] = {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
		StringInfoData query;
		SPIPlanPtr	prepared;

		initStringInfo(&query);
		appendStringInfoString(&query, "SELECT drone_id, recorded_at");
		for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
			appendStringInfo(&query, ", %s", sample_columns[column].name);
		appendStringInfoString(&query, " FROM telemetry.drone_telemetry"
							   " WHERE drone_id = $1 AND recorded_at > $2 AND recorded_at <= $3 ORDER BY recorded_at");
		prepared = SPI_prepare(query.data, lengthof(types), types);
		if (prepared == NULL)
			elog(ERROR, "could not prepare the reading of samples: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(prepared);
		plan = prepared;
	}
	cursor = SPI_cursor_open(NULL, plan, args, NULL, false);
	for (;;)
	{
		SPI_cursor_fetch(cursor, true, ROWS_A_FETCH);
		if (SPI_processed == 0)
			break;
		for (uint64 row = 0; row < SPI_processed; row++)
		{
			AlertSample seen;
			bool		isnull;

			seen.present = 0;
			seen.recorded_at = DatumGetTimestampTz(sql_value(row, SAMPLE_RECORDED_AT - 1, &isnull));
			for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
			{
				Datum		value;

				if ((evaluation->needed & ALERT_BIT(column)) == 0)
					continue;
				value = sql_value(row, column - 1, &isnull);
				if (!isnull)
					watch_fill_datum(&seen, column, value);
			}
			alert_drone_sample(evaluation->alerts, &seen);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(cursor);
	sql_end(&scope);
}

static int
compare_kept(const void *a, const void *b)
{
	const KeptRow *left = *(const KeptRow *const *) a;
	const KeptRow *right = *(const KeptRow *const *) b;

	return left->recorded_at < right->recorded_at ? -1 : left->recorded_at > right->recorded_at;
}

/*
 * Evaluate the drone's rows from a time on, in order of time, by what was kept
 * of them.
 */
static void
evaluate_kept(RowEvaluation *evaluation, TimestampTz after)
{
	const NotedRows *rows = evaluation->rows;
	const KeptRow **kept;
	int64		n = 0;

	for (KeptRows *block = evaluation->noted->first_kept; block != NULL; block = block->next)
		n += block->nrows;
	if (n == 0)
		return;
	kept = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(KeptRow *) * n);
	n = 0;
	for (KeptRows *block = evaluation->noted->first_kept; block != NULL; block = block->next)
	{
		for (int i = 0; i < block->nrows; i++)
			kept[n++] = (const KeptRow *) (block->rows + rows->kept_size * i);
	}
	if (!evaluation->noted->in_order)
		qsort(kept, n, sizeof(KeptRow *), compare_kept);
	for (int64 i = 0; i < n; i++)
	{
		AlertSample seen;

		if (kept[i]->recorded_at <= after)
			continue;
		seen.recorded_at = kept[i]->recorded_at;
		seen.present = kept[i]->present;
		for (int m = 0; m < rows->nmetrics; m++)
			seen.values[rows->metrics[m]] = kept[i]->values[m];
		alert_drone_sample(evaluation->alerts, &seen);
	}
	pfree(kept);
}

/*
 * Evaluate the alerts of a drone's rows that are newer than its latest; returns
 * how many alert states the drone has then.
 */
static int
evaluate_drone(void *arg, const LatestState *latest)
{
	RowEvaluation *evaluation = (RowEvaluation *) arg;
	bool		has_states = !latest->has_sample || latest->alert_states > 0;
	TimestampTz after = latest->has_sample ? latest->recorded_at : DT_NOBEGIN;

	evaluation->changed = has_states || evaluation->noted->watched;
	if (!evaluation->changed)
		return 0;
	alert_drone_begin(evaluation->alerts, &evaluation->noted->drone_id, has_states);
	if (evaluation->noted->nrows == 1)
	{
		AlertSample seen;

		watch_fill(&seen, evaluation->newest, evaluation->needed);
		alert_drone_sample(evaluation->alerts, &seen);
	}
	else if (evaluation->noted->reread || (latest->alert_states > 0 && !evaluation->noted->had_states))
		evaluate_rows(evaluation, after);
	else
		evaluate_kept(evaluation, after);
	return alert_drone_end(evaluation->alerts);
}

/*
 * Bring drone_latest up to date with the newest of the new rows, and alert.
 */
static void
advance_latest(Relation parent, const NotedRows *rows, NewestTime *order, int n)
{
	TimestampTz received_at = GetCurrentTransactionStartTimestamp();
	MemoryContext per_drone = AllocSetContextCreate(CurrentMemoryContext,
													"newest sample", ALLOCSET_SMALL_SIZES);
	RowEvaluation evaluation = {0};
	LatestTable *table;
	Snapshot	snapshot;

	sample_require_types(parent);
	/* The statement's own rows are to be seen. */
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	table = latest_open();
	evaluation.rows = rows;
	evaluation.alerts = alert_begin(rows->rules);
	evaluation.needed = alert_needed_metrics(rows->rules);

	for (int i = 0; i < n; i++)
	{
		LatestState state = latest_read(table, &order[i].drone_id);
		LatestChange change = {
			.received = order[i].nrows,
			.late = order[i].nlate,
			.evaluate = evaluate_drone,
			.arg = &evaluation,
		};
		MemoryContext old = MemoryContextSwitchTo(per_drone);
		Sample		sample;

		if (!state.drone_exists && fetch_sample(parent, &order[i], snapshot, &sample))
			ereport(ERROR,
					(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
					 errmsg("a sample names a drone that does not exist"),
					 errdetail("Key (drone_id)=(%s) is not present in table \"core.drones\".",
							   DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&order[i].drone_id)))),
					 errhint("Register the drone first, or send the sample through telemetry.ingest, which keeps it among the rejected ones.")));
		if (state.drone_exists)
		{
			if ((!state.has_sample || order[i].recorded_at > state.recorded_at) &&
				fetch_sample(parent, &order[i], snapshot, &sample))
				change.newest = &sample;
			evaluation.noted = &order[i];
			evaluation.newest = change.newest;
			evaluation.changed = false;
			if (!latest_advance(table, &order[i].drone_id, &state, &change, received_at))
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("could not advance telemetry.drone_latest because of a concurrent delete"),
						 errhint("Send the samples again.")));
			if (evaluation.changed)
				alert_drone_keep(evaluation.alerts);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_drone);
	}

	latest_close(table);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(per_drone);
	alert_apply(evaluation.alerts);
}

/*
 * Settle what was noted last.
 */
static void
settle_innermost(Relation parent)
{
	NotedRows  *rows = noted;
	MemoryContext old = MemoryContextSwitchTo(rows->context);
	newest_iterator iterator;
	NewestTime *newest;
	NewestTime *order;
	int			n = 0;

	/* Triggers on the tables of alerts may come here again. */
	noted = rows->outer;
	if (rows->used_default)
		partition_request_drain(RelationGetRelid(parent));

	order = MemoryContextAllocHuge(rows->context, sizeof(NewestTime) * rows->drones->members);
	newest_start_iterate(rows->drones, &iterator);
	while ((newest = newest_iterate(rows->drones, &iterator)) != NULL)
		order[n++] = *newest;
	qsort(order, n, sizeof(NewestTime), compare_newest);
	if (n > 0)
		advance_latest(parent, rows, order, n);

	MemoryContextSwitchTo(old);
	MemoryContextDelete(rows->context);
}

/*
 * Have what is noted from now on, in this subtransaction, wait for insert_trigger_settle.
 */
void
insert_trigger_hold(void)
{
	begin_noting();
	noted->held = true;
}

/*
 * Note a row that went past the triggers, among those that wait.
 */
void
insert_trigger_note(const Sample *sample)
{
	NewestTime *newest;

	se_assert(have_noted());
	if (noted->rules == NULL)
		begin_rows(noted);
	newest = newest_of(&sample->drone_id, sample->recorded_at);
	if (count_row(newest, sample->recorded_at))
	{
		AlertSample seen = {0};

		watch_fill(&seen, sample, alert_needed_metrics(noted->rules));
		watch_row(newest, &seen);
	}
	if (sample->recorded_at > newest->recorded_at)
		newest->recorded_at = sample->recorded_at;
}

/*
 * Settle what has waited.
 */
void
insert_trigger_settle(Relation parent)
{
	bool		held;

	/* Above it may lie what a trigger of the user's has put straight into a partition. */
	do
	{
		se_assert(have_noted());
		held = noted->held;
		settle_innermost(parent);
	} while (!held);
	CommandCounterIncrement();
}

/*
 * telemetry.after_insert_samples(): the statement trigger, of UPDATE and DELETE as
 * well.  What the former has moved to another partition it has not inserted.
 */
Datum
telemetry_after_insert_samples(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	int			inserting = 0;
	bool		inserted;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) ||
		TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) ||
		trigger->tg_relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("after_insert_samples must be an AFTER statement trigger of the partitioned table")));

	inserted = TRIGGER_FIRED_BY_INSERT(trigger->tg_event);
	while (have_noted() && !noted->held)
	{
		inserting += noted->inserting;
		if (inserted || noted->inserting > 0)
			settle_innermost(trigger->tg_relation);
		else
		{
			if (noted->used_default)
				partition_request_drain(RelationGetRelid(trigger->tg_relation));
			forget_innermost();
		}
	}
	if (inserted)
		inserting--;			/* this one is done */
	if (have_noted())
	{
		if (!inserted)
		{
			settle_innermost(trigger->tg_relation);
			insert_trigger_hold();
		}
	}
	else if (inserting > 0)
	{
		begin_noting();
		noted->inserting = inserting;
	}
	return PointerGetDatum(NULL);
}
