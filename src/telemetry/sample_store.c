/*
 * sample_store.c
 *		Samples into the heap partitions of telemetry.drone_telemetry.
 *
 * Called by ingest.c.  Each partition that a batch touches has a writer, which
 * collects rows, writes them by multi-insert and then enters them into the
 * indexes.  The caller holds RowExclusiveLock on the parent; a writer takes the
 * same on its partition and indexes and keeps it until the transaction ends.
 * Rows are WAL-logged like any other, so a crash leaves whole transactions.
 *
 * The primary key alone decides what is a duplicate.  A sample that may be
 * there already is looked up first, under a dirty snapshot: a row that another
 * transaction is still inserting is waited for, not run into.  What slips
 * through that look-up meets the unique index.
 *
 * A partition that a row trigger, a row-level security policy or another kind of
 * storage makes special is written by the executor, through INSERT ... ON
 * CONFLICT DO NOTHING.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "compat.h"
#include "errors.h"
#include "partition/partition.h"
#include "telemetry/insert_trigger.h"
#include "telemetry/sample_store.h"

/* Rows a writer collects before it writes them: some pages' worth. */
#define WRITER_ROWS		256

typedef struct PartitionWriter
{
	struct PartitionWriter *next;
	PartitionRange range;
	bool		by_executor;	/* rows go through SQL, not through this writer */

	Relation	rel;
	TupleDesc	slot_desc;		/* not reference-counted: slots of it are cheap */
	ResultRelInfo *rri;
	Relation	key_index;		/* unique btree on (drone_id, recorded_at) */
	IndexInfo  *key_index_info;
	bool		only_key_index;
	BulkInsertState bulk;

	IndexScanDesc probe;		/* started at the first look-up */
	TupleTableSlot *probe_slot;

	int			npending;
	TupleTableSlot *slots[WRITER_ROWS];
	const Sample *samples[WRITER_ROWS];
	SampleState *states[WRITER_ROWS];
} PartitionWriter;

struct SampleStore
{
	Relation	parent;
	TimestampTz received_at;
	MemoryContext context;		/* the store's own, until close */
	MemoryContext row_context;	/* heap tuples of one flush */
	EState	   *estate;
	TupleTableSlot *slot;		/* of the parent, for the executor's parameters */
	SnapshotData dirty;
	bool		executor_only;	/* the parent has INSERT triggers or rules of the user's, or policies for this one */
	bool		used_executor;
	bool		used_default;
	PartitionWriter *writers;
	PartitionWriter *current;
};

/*
 * Has the table an INSERT trigger besides the extension's own?  Its rows must
 * then come by the executor, so that the trigger sees them.
 */
static bool
has_foreign_insert_trigger(Relation rel)
{
	TriggerDesc *desc = rel->trigdesc;

	if (desc == NULL)
		return false;
	for (int i = 0; i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];

		if (TRIGGER_FOR_INSERT(trigger->tgtype) &&
			trigger->tgenabled != TRIGGER_DISABLED &&
			strcmp(trigger->tgname, "sample_inserted") != 0 &&
			strcmp(trigger->tgname, "samples_inserted") != 0 &&
			strcmp(trigger->tgname, "samples_to_insert") != 0)
			return true;
	}
	return false;
}

/*
 * Open the store.
 */
SampleStore *
sample_store_open(Relation parent, TimestampTz received_at)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "sample store", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SampleStore *store = palloc0(sizeof(SampleStore));

	sample_require_types(parent);
	store->parent = parent;
	store->received_at = received_at;
	store->context = context;
	store->row_context = AllocSetContextCreate(context, "sample store rows", ALLOCSET_DEFAULT_SIZES);
	store->estate = CreateExecutorState();
	store->slot = MakeTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(parent)), &TTSOpsVirtual);
	InitDirtySnapshot(store->dirty);
	store->executor_only = has_foreign_insert_trigger(parent) || parent->rd_rules != NULL ||
		check_enable_rls(RelationGetRelid(parent), InvalidOid, true) == RLS_ENABLED;

	MemoryContextSwitchTo(old);
	return store;
}

/*
 * Is this the unique index that keeps (drone_id, recorded_at) single?
 */
static bool
is_key_index(Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisunique && form->indimmediate && form->indisvalid &&
		form->indnkeyatts == 2 &&
		form->indkey.values[0] == SAMPLE_DRONE_ID &&
		form->indkey.values[1] == SAMPLE_RECORDED_AT &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/*
 * Whether only the executor can write to the partition as its owner set it up.
 * Its columns must stand in the order of a Sample, or rows would need a
 * conversion; what was dropped behind them does no harm.
 */
static bool
needs_executor(SampleStore *store, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (store->executor_only || rel->rd_rel->relkind != RELKIND_RELATION)
		return true;
	if (has_foreign_insert_trigger(rel))
		return true;
	if (desc->natts < SAMPLE_NCOLUMNS)
		return true;
	for (int column = SAMPLE_DRONE_ID; column <= SAMPLE_NCOLUMNS; column++)
	{
		if (strcmp(NameStr(TupleDescAttr(desc, column - 1)->attname), sample_columns[column].name) != 0)
			return true;
	}

	/* Columns and constraints that the user added. */
	for (int i = SAMPLE_NCOLUMNS; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			return true;
	}
	for (int i = 0; desc->constr != NULL && i < desc->constr->num_check; i++)
	{
		if (strcmp(desc->constr->check[i].ccname, "sample_in_range") != 0)
			return true;
	}
	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_EXTRA; column++)
	{
		if (TupleDescAttr(desc, column - 1)->attnotnull)
			return true;
	}
	return false;
}

static PartitionWriter *
writer_open(SampleStore *store, PartitionRange range)
{
	MemoryContext old = MemoryContextSwitchTo(store->context);
	PartitionWriter *writer = palloc0(sizeof(PartitionWriter));

	writer->range = range;
	writer->rel = table_open(range.relid, RowExclusiveLock);
	writer->by_executor = needs_executor(store, writer->rel);

	if (!writer->by_executor)
	{
		ResultRelInfo *rri = makeNode(ResultRelInfo);

		InitResultRelInfo(rri, writer->rel, 1, NULL, 0);
		ExecOpenIndices(rri, false);
		writer->rri = rri;
		writer->slot_desc = CreateTupleDescCopy(RelationGetDescr(writer->rel));
		for (int i = 0; i < rri->ri_NumIndices; i++)
		{
			if (is_key_index(rri->ri_IndexRelationDescs[i]))
			{
				writer->key_index = rri->ri_IndexRelationDescs[i];
				writer->key_index_info = rri->ri_IndexRelationInfo[i];
			}
		}
		if (writer->key_index == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("partition \"%s\" has no unique index on (drone_id, recorded_at)",
							RelationGetRelationName(writer->rel)),
					 errhint("A restore may still be under way; otherwise attach the index of the parent's primary key.")));
		writer->only_key_index = rri->ri_NumIndices == 1;
		writer->bulk = GetBulkInsertState();
	}

	writer->next = store->writers;
	store->writers = writer;
	MemoryContextSwitchTo(old);
	return writer;
}

/*
 * The writer of the partition that takes the time.
 */
static PartitionWriter *
writer_for(SampleStore *store, TimestampTz time)
{
	PartitionWriter *writer = store->current;
	PartitionRange range;

	if (writer != NULL && !writer->range.is_default &&
		time >= writer->range.lower && time < writer->range.upper)
		return writer;

	for (;;)
	{
		range = partition_find(store->parent, time);
		if (!OidIsValid(range.relid))
			ereport(ERROR,
					(errcode(ERRCODE_SE_PARTITION_UNAVAILABLE),
					 errmsg("no partition of \"%s\" takes samples of %s",
							RelationGetRelationName(store->parent), timestamptz_to_str(time)),
					 errhint("Run telemetry.run_maintenance().")));

		for (writer = store->writers; writer != NULL; writer = writer->next)
		{
			if (RelationGetRelid(writer->rel) == range.relid)
				break;
		}
		if (writer != NULL)
			break;

		/*
		 * Locking the partition lets a maintainer's changes in: look again
		 * whether the time still belongs there.
		 */
		LockRelationOid(range.relid, RowExclusiveLock);
		if (partition_find(store->parent, time).relid != range.relid)
			continue;
		writer = writer_open(store, range);
		break;
	}

	if (range.is_default)
		store->used_default = true;
	store->current = writer;
	return writer;
}

/*
 * Is the sample's key in the partition?  Waits for a transaction that is
 * inserting or deleting it.
 */
static bool
writer_probe(SampleStore *store, PartitionWriter *writer, const Sample *sample)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&sample->drone_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(sample->recorded_at));

	if (writer->probe == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(store->context);

		writer->probe = compat_index_beginscan(writer->rel, writer->key_index, &store->dirty, 2);
		writer->probe_slot = table_slot_create(writer->rel, NULL);
		MemoryContextSwitchTo(old);
	}

	for (;;)
	{
		bool		found;
		TransactionId other;

		index_rescan(writer->probe, keys, 2, NULL, 0);
		found = index_getnext_slot(writer->probe, ForwardScanDirection, writer->probe_slot);
		other = TransactionIdIsValid(store->dirty.xmin) ? store->dirty.xmin : store->dirty.xmax;
		ExecClearTuple(writer->probe_slot);
		if (!found)
			return false;
		if (!TransactionIdIsValid(other))
			return true;
		XactLockTableWait(other, writer->rel, NULL, XLTW_None);
	}
}

/*
 * Is there a row with the sample's key?  Asked as the extension's owner, from
 * whom no policy hides rows.
 */
static bool
has_row(const Sample *sample)
{
	static SPIPlanPtr plan = NULL;	/* for the session */
	SqlScope	scope = sql_begin(0);
	Datum		values[2];
	bool		found;

	/* Planned once, and fast when the table has grown since its statistics were taken. */
	sql_set_local("plan_cache_mode", "force_generic_plan");
	sql_set_local("enable_seqscan", "off");
	if (plan == NULL)
	{
		Oid			types[2] = {UUIDOID, TIMESTAMPTZOID};
		SPIPlanPtr	prepared = SPI_prepare("SELECT FROM telemetry.drone_telemetry WHERE drone_id = $1 AND recorded_at = $2",
										   lengthof(types), types);

		if (prepared == NULL)
			elog(ERROR, "could not prepare the look-up of a sample: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(prepared);
		plan = prepared;
	}
	values[0] = UUIDPGetDatum(&sample->drone_id);
	values[1] = TimestampTzGetDatum(sample->recorded_at);
	if (SPI_execute_plan(plan, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look a sample up");
	found = SPI_processed > 0;
	sql_end(&scope);
	return found;
}

/*
 * Write a sample through the executor; for partitions that need it.  What is not
 * inserted is there already, or a trigger has returned NULL for it.
 */
static void
insert_by_executor(SampleStore *store, const Sample *sample, SampleState *state)
{
	TupleTableSlot *slot = store->slot;
	static SPIPlanPtr insert_plan = NULL;	/* for the session: one a store would outlive errors */
	char		nulls[SAMPLE_NCOLUMNS];
	Oid			types[SAMPLE_NCOLUMNS];

	if (!store->used_executor)
		insert_trigger_hold();
	store->used_executor = true;
	SPI_connect();
	if (insert_plan == NULL)
	{
		SPIPlanPtr	plan;

		for (int i = 0; i < SAMPLE_NCOLUMNS; i++)
			types[i] = TupleDescAttr(slot->tts_tupleDescriptor, i)->atttypid;
		plan =
			SPI_prepare("INSERT INTO telemetry.drone_telemetry"
						" (drone_id, recorded_at, latitude, longitude, altitude_m, relative_altitude_m,"
						" battery_percentage, battery_voltage_v, ground_speed_ms, vertical_speed_ms, heading_deg,"
						" roll_deg, pitch_deg, temperature_c, signal_strength_dbm, gps_satellites, gps_fix,"
						" flight_mode, extra, received_at)"
						" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
						" $18, $19, $20) ON CONFLICT (drone_id, recorded_at) DO NOTHING",
						SAMPLE_NCOLUMNS, types);
		if (plan == NULL)
			elog(ERROR, "could not prepare the insertion of a sample: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		insert_plan = plan;
	}
	sample_store_slot(sample, store->received_at, slot);
	for (int i = 0; i < SAMPLE_NCOLUMNS; i++)
		nulls[i] = slot->tts_isnull[i] ? 'n' : ' ';
	if (SPI_execute_plan(insert_plan, slot->tts_values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert a sample through the executor");
	if (SPI_processed > 0)
		*state = SAMPLE_STORED_AND_NOTED;
	else
		*state = has_row(sample) ? SAMPLE_DUPLICATE : SAMPLE_LEFT_OUT;
	SPI_finish();
}

/*
 * Enter a row that has its place in the heap into the partition's indexes.
 */
static void
writer_index_row(SampleStore *store, PartitionWriter *writer, int i)
{
	const Sample *sample = writer->samples[i];

	if (writer->only_key_index)
	{
		Datum		values[2];
		bool		nulls[2] = {false, false};

		values[0] = UUIDPGetDatum(&sample->drone_id);
		values[1] = TimestampTzGetDatum(sample->recorded_at);
		index_insert(writer->key_index, values, nulls, &writer->slots[i]->tts_tid, writer->rel,
					 UNIQUE_CHECK_YES, false, writer->key_index_info);
	}
	else
		list_free(compat_exec_insert_index_tuples(writer->rri, writer->slots[i], store->estate, false));
}

static void
writer_flush(SampleStore *store, PartitionWriter *writer)
{
	MemoryContext old = MemoryContextSwitchTo(store->row_context);

	table_multi_insert(writer->rel, writer->slots, writer->npending,
					   GetCurrentCommandId(true), 0, writer->bulk);
	for (int i = 0; i < writer->npending; i++)
	{
		writer_index_row(store, writer, i);
		*writer->states[i] = SAMPLE_STORED;
		ExecClearTuple(writer->slots[i]);
	}
	writer->npending = 0;
	ResetPerTupleExprContext(store->estate);
	MemoryContextSwitchTo(old);
	MemoryContextReset(store->row_context);
}

/*
 * Append one sample.
 */
void
sample_store_append(SampleStore *store, const Sample *sample, SampleState *state)
{
	PartitionWriter *writer = writer_for(store, sample->recorded_at);
	int			at;

	if (writer->by_executor)
	{
		insert_by_executor(store, sample, state);
		return;
	}

	if (*state == SAMPLE_UNSURE && writer_probe(store, writer, sample))
	{
		*state = SAMPLE_DUPLICATE;
		return;
	}

	at = writer->npending++;
	if (writer->slots[at] == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(store->context);

		writer->slots[at] = MakeTupleTableSlot(writer->slot_desc, &TTSOpsVirtual);
		MemoryContextSwitchTo(old);
	}
	sample_store_slot(sample, store->received_at, writer->slots[at]);
	writer->slots[at]->tts_tableOid = RelationGetRelid(writer->rel);
	writer->samples[at] = sample;
	writer->states[at] = state;
	if (writer->npending == WRITER_ROWS)
		writer_flush(store, writer);
}

/*
 * Did samples go through the executor?
 */
bool
sample_store_used_executor(const SampleStore *store)
{
	return store->used_executor;
}

/*
 * Write what is pending and release everything.
 */
bool
sample_store_close(SampleStore *store)
{
	bool		used_default = store->used_default;

	for (PartitionWriter *writer = store->writers; writer != NULL; writer = writer->next)
	{
		if (writer->npending > 0)
			writer_flush(store, writer);
		if (writer->probe != NULL)
		{
			index_endscan(writer->probe);
			ExecDropSingleTupleTableSlot(writer->probe_slot);
		}
		if (!writer->by_executor)
		{
			table_finish_bulk_insert(writer->rel, 0);
			FreeBulkInsertState(writer->bulk);
			ExecCloseIndices(writer->rri);
		}
		table_close(writer->rel, NoLock);
	}
	FreeExecutorState(store->estate);
	MemoryContextDelete(store->context);
	return used_default;
}
