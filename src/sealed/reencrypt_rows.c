/*
 * reencrypt_rows.c
 *		Re-encrypts the values of some blocks of a table, and counts those that
 *		are left.
 *
 * Called by the re-encryption worker, inside a transaction.  A row is written
 * by the table's access method straight away, for it says the same as before:
 * no trigger fires, no constraint is checked again, updated_at stays; indexes
 * and stored generated columns follow.
 *
 * Nothing here waits for another transaction's row: a row that somebody is
 * changing is counted as busy and left to the next pass.  What somebody has
 * changed since it was read is never overwritten, since an update of a row's
 * old version fails.  Takes RowExclusiveLock on the table and row locks, until
 * the caller's transaction ends.
 *
 * Expressions of indexes and generated columns are the table owner's code.  From
 * before the indexes are opened, which may evaluate some, until the table is
 * closed the user is the owner, in a restricted security context.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/sql.h"
#include "compat.h"
#include "crypto/data_key.h"
#include "errors.h"
#include "sealed/reencrypt.h"
#include "sealed/sealed.h"

/* A batch goes through no more blocks than this, so that the progress is seen. */
#define BATCH_BLOCKS		1024
/* Rows between two looks at what else is going on while values are counted. */
#define PULSE_ROWS			4096

static const pg_uuid_t nil;

typedef enum RowOutcome
{
	ROW_CURRENT,				/* no value, or one under the active keys */
	ROW_DONE,
	ROW_BUSY,
	ROW_UNREADABLE,
} RowOutcome;

/* A table or partition, open for writing. */
typedef struct Leaf
{
	Relation	rel;
	const ReencryptKeys *keys;
	AttrNumber	attribute;		/* the column */
	AttrNumber *key_attributes; /* the columns that end the context */
	int			nkeys;
	TupleTableSlot *slot;		/* a row as it is, */
	TupleTableSlot *fresh;		/* and as it will be */
	TupleTableSlot *locked;
	ResultRelInfo *rri;
	EState	   *estate;
	Snapshot	snapshot;
	LockTupleMode lock_mode;
	Oid			user;			/* before the owner */
	int			security;
	RowOutcome	outcome;		/* of the last row */
} Leaf;

/*
 * Tell the active keys.  Values with a search tag need a search key; where there
 * is none, none has a tag.
 */
void
reencrypt_active_keys(ReencryptKeys *keys)
{
	const DataKey *search;

	memset(keys, 0, sizeof(*keys));
	keys->field = *data_key_id(data_key_active(KEY_FIELD));
	search = data_key_active_if_any(KEY_SEARCH);
	if (search != NULL)
		keys->search = *data_key_id(search);
}

/*
 * The tables that hold the rows: the partitions, or the table itself, locked
 * against being dropped.
 */
List *
reencrypt_leaves(const ReencryptColumn *column)
{
	List	   *leaves = NIL;
	List	   *tables;
	ListCell   *cell;

	if (get_rel_relkind(column->root) != RELKIND_PARTITIONED_TABLE)
	{
		LockRelationOid(column->root, AccessShareLock);
		return list_make1_oid(column->root);
	}
	tables = find_all_inheritors(column->root, AccessShareLock, NULL);
	foreach(cell, tables)
	{
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_RELATION)
			leaves = lappend_oid(leaves, lfirst_oid(cell));
	}
	return leaves;
}

Oid
reencrypt_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("sealed"),
						   ObjectIdGetDatum(get_namespace_oid("sentient_edge", false)));
}

/* A column's number in a table, which need not be the same in every partition. */
static AttrNumber
find_column(Relation rel, const char *name)
{
	AttrNumber	attribute = get_attnum(RelationGetRelid(rel), name);

	if (attribute <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist", name, RelationGetRelationName(rel))));
	return attribute;
}

/* The column with the values. */
static AttrNumber
find_attribute(Relation rel, const char *name)
{
	AttrNumber	attribute = find_column(rel, name);

	if (get_atttype(RelationGetRelid(rel), attribute) != reencrypt_type())
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is not of type sealed", name, RelationGetRelationName(rel))));
	return attribute;
}

static void
leaf_open(Leaf *leaf, const ReencryptColumn *column, const ReencryptKeys *keys, Oid relid)
{
	Bitmapset  *key_columns;

	memset(leaf, 0, sizeof(*leaf));
	leaf->keys = keys;
	leaf->rel = table_open(relid, RowExclusiveLock);
	GetUserIdAndSecContext(&leaf->user, &leaf->security);
	SetUserIdAndSecContext(leaf->rel->rd_rel->relowner, leaf->security | SECURITY_RESTRICTED_OPERATION);
	leaf->attribute = find_attribute(leaf->rel, column->name);
	CheckCmdReplicaIdentity(leaf->rel, CMD_UPDATE);
	leaf->nkeys = column->nkeys;
	leaf->key_attributes = palloc(sizeof(AttrNumber) * column->nkeys);
	for (int i = 0; i < column->nkeys; i++)
		leaf->key_attributes[i] = find_column(leaf->rel, column->keys[i]);
	leaf->slot = table_slot_create(leaf->rel, NULL);
	leaf->locked = table_slot_create(leaf->rel, NULL);
	leaf->fresh = MakeTupleTableSlot(CreateTupleDescCopyConstr(RelationGetDescr(leaf->rel)), &TTSOpsVirtual);
	leaf->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(leaf->rri, leaf->rel, 0, NULL, 0);
	ExecOpenIndices(leaf->rri, false);
	leaf->estate = CreateExecutorState();
	leaf->snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(leaf->snapshot);

	/* The lock that an update takes whose columns may be those of somebody's foreign key. */
	key_columns = RelationGetIndexAttrBitmap(leaf->rel, INDEX_ATTR_BITMAP_KEY);
	leaf->lock_mode = bms_is_member(leaf->attribute - FirstLowInvalidHeapAttributeNumber, key_columns)
		? LockTupleExclusive : LockTupleNoKeyExclusive;
	bms_free(key_columns);
}

static void
leaf_close(Leaf *leaf)
{
	PopActiveSnapshot();
	UnregisterSnapshot(leaf->snapshot);
	ExecCloseIndices(leaf->rri);
	FreeExecutorState(leaf->estate);
	ExecDropSingleTupleTableSlot(leaf->slot);
	ExecDropSingleTupleTableSlot(leaf->locked);
	ExecDropSingleTupleTableSlot(leaf->fresh);
	pfree(leaf->key_attributes);
	SetUserIdAndSecContext(leaf->user, leaf->security);
	table_close(leaf->rel, NoLock);
}

/* Is the value under other keys than the active ones?  Fetches no more than the head of it. */
static bool
is_old(Datum value, const ReencryptKeys *keys)
{
	pg_uuid_t	field;
	pg_uuid_t	search;

	if (!sealed_key_ids((struct varlena *) DatumGetPointer(value), &field, &search))
		return true;
	return memcmp(&field, &keys->field, UUID_LEN) != 0 ||
		(memcmp(&search, &nil, UUID_LEN) != 0 && memcmp(&search, &keys->search, UUID_LEN) != 0);
}

/*
 * The value of the row in leaf->slot under the active keys, or NULL when it does
 * not open.  An error when this server has no keys.
 */
static struct varlena *
reseal(Leaf *leaf, Datum value)
{
	struct varlena *old = (struct varlena *) DatumGetPointer(value);
	struct varlena *plain;
	struct varlena *volatile fresh = NULL;
	pg_uuid_t	field;
	pg_uuid_t	search;
	text	   *context;
	bool		must_free;
	SealedStatus status;

	context = sealed_context_argument(cstring_to_text(
													  sealed_tuple_context(leaf->rel, ExecFetchSlotHeapTuple(leaf->slot, false, &must_free),
																		   leaf->attribute, leaf->nkeys, leaf->key_attributes)));
	status = sealed_open(old, VARDATA_ANY(context), VARSIZE_ANY_EXHDR(context), &plain);
	if (status == SEALED_NO_KEY)
		sealed_raise(status);
	if (status != SEALED_OPENED)
		return NULL;
	(void) sealed_key_ids(old, &field, &search);
	PG_TRY();
	{
		fresh = sealed_make(VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain),
							VARDATA_ANY(context), VARSIZE_ANY_EXHDR(context), memcmp(&search, &nil, UUID_LEN) != 0);
	}
	PG_FINALLY();
	{
		sealed_plain_free(plain);
	}
	PG_END_TRY();
	return fresh;
}

/* Write the row in leaf->fresh over the version in leaf->slot, unless that is not the last one. */
static TM_Result
write_row(Leaf *leaf)
{
	ItemPointerData tid = leaf->slot->tts_tid;
	TM_FailureData failure;
	LockTupleMode lock_mode;
	CompatUpdateIndexes update_indexes;
	TM_Result	result;

	/* An update cannot be told not to wait, a lock can. */
	result = table_tuple_lock(leaf->rel, &tid, leaf->snapshot, leaf->locked, GetCurrentCommandId(false),
							  leaf->lock_mode, LockWaitSkip, 0, &failure);
	ExecClearTuple(leaf->locked);
	if (result != TM_Ok)
		return result;
	result = table_tuple_update(leaf->rel, &tid, leaf->fresh, GetCurrentCommandId(true), leaf->snapshot,
								InvalidSnapshot, true, &failure, &lock_mode, &update_indexes);
	if (result == TM_Ok && compat_must_insert_indexes(update_indexes) &&
		compat_exec_insert_index_tuples(leaf->rri, leaf->fresh, leaf->estate,
										compat_only_summarizing(update_indexes)) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("a deferrable constraint of table \"%s\" does not hold for a row",
						RelationGetRelationName(leaf->rel))));
	return result;
}

/* Re-encrypt the value of the row in leaf->slot. */
static RowOutcome
reencrypt_row(Leaf *leaf)
{
	TupleTableSlot *fresh = leaf->fresh;
	int			natts = fresh->tts_tupleDescriptor->natts;
	bool		isnull;
	Datum		value = slot_getattr(leaf->slot, leaf->attribute, &isnull);
	struct varlena *resealed;
	TM_Result	result;

	if (isnull || !is_old(value, leaf->keys))
		return ROW_CURRENT;
	resealed = reseal(leaf, value);
	if (resealed == NULL)
		return ROW_UNREADABLE;

	slot_getallattrs(leaf->slot);
	ExecClearTuple(fresh);
	memcpy(fresh->tts_values, leaf->slot->tts_values, sizeof(Datum) * natts);
	memcpy(fresh->tts_isnull, leaf->slot->tts_isnull, sizeof(bool) * natts);
	fresh->tts_values[leaf->attribute - 1] = PointerGetDatum(resealed);
	ExecStoreVirtualTuple(fresh);
	fresh->tts_tableOid = RelationGetRelid(leaf->rel);

	if (RelationGetDescr(leaf->rel)->constr != NULL && RelationGetDescr(leaf->rel)->constr->has_generated_stored)
		ExecComputeStoredGenerated(leaf->rri, leaf->estate, fresh, CMD_INSERT);
	result = write_row(leaf);
	switch (result)
	{
		case TM_Ok:
			return ROW_DONE;
		case TM_WouldBlock:
		case TM_Updated:
		case TM_Deleted:
			return ROW_BUSY;
		default:
			elog(ERROR, "unexpected result %d of updating table \"%s\"", (int) result,
				 RelationGetRelationName(leaf->rel));
	}
	return ROW_BUSY;			/* keep the compiler quiet */
}

/* Is it the fault of the row, and not of the server or of another transaction? */
static bool
is_fault_of_row(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return false;
		default:
			return true;
	}
}

static void
reencrypt_attempt(void *arg)
{
	Leaf	   *leaf = arg;

	leaf->outcome = reencrypt_row(leaf);
}

/*
 * The same in a subtransaction; an error that is the row's fault is returned
 * and the row left as it is.
 */
static RowOutcome
reencrypt_row_carefully(Leaf *leaf, MemoryContext error_context, char **error)
{
	ErrorData  *data;

	leaf->outcome = ROW_UNREADABLE;
	data = sql_attempt(reencrypt_attempt, leaf, error_context);
	if (data != NULL)
	{
		if (!is_fault_of_row(data->sqlerrcode))
			ReThrowError(data);
		*error = data->message;
	}
	return leaf->outcome;
}

/*
 * Re-encrypt the values of a table from a block on; returns the block that comes
 * next, or InvalidBlockNumber after the last.  Carefully: each row in a
 * subtransaction, so that a row that cannot be stored does not undo the others.
 */
BlockNumber
reencrypt_batch(const ReencryptColumn *column, const ReencryptKeys *keys, Oid relid,
				BlockNumber first, bool carefully, ReencryptCounts *counts)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext row_memory;
	Leaf		leaf;
	TableScanDesc scan;
	ItemPointerData from;
	ItemPointerData to;
	BlockNumber nblocks;
	BlockNumber next;
	BlockNumber at = first;

	memset(counts, 0, sizeof(*counts));
	leaf_open(&leaf, column, keys, relid);
	nblocks = RelationGetNumberOfBlocks(leaf.rel);
	if (first >= nblocks)
	{
		leaf_close(&leaf);
		return InvalidBlockNumber;
	}
	next = nblocks - first > BATCH_BLOCKS ? first + BATCH_BLOCKS : nblocks;
	ItemPointerSet(&from, first, FirstOffsetNumber);
	ItemPointerSet(&to, next - 1, MaxOffsetNumber);
	row_memory = GetPerTupleMemoryContext(leaf.estate);
	scan = table_beginscan_tidrange(leaf.rel, leaf.snapshot, &from, &to);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, leaf.slot))
	{
		RowOutcome	outcome;
		char	   *error = NULL;

		if (ItemPointerGetBlockNumber(&leaf.slot->tts_tid) != at)
		{
			CHECK_FOR_INTERRUPTS();
			at = ItemPointerGetBlockNumber(&leaf.slot->tts_tid);
			if (counts->done + counts->busy + counts->failed >= reencrypt_batch_rows)
			{
				next = at;
				break;
			}
		}
		ResetPerTupleExprContext(leaf.estate);
		MemoryContextSwitchTo(row_memory);
		outcome = carefully ? reencrypt_row_carefully(&leaf, context, &error) : reencrypt_row(&leaf);
		if (outcome == ROW_UNREADABLE && error == NULL)
			error = MemoryContextStrdup(context, "its value cannot be opened");
		if (error != NULL)
			counts->error = MemoryContextStrdup(context, psprintf("row (%u,%u) of table \"%s\": %s",
																  at, ItemPointerGetOffsetNumber(&leaf.slot->tts_tid),
																  RelationGetRelationName(leaf.rel), error));
		MemoryContextSwitchTo(context);
		counts->done += outcome == ROW_DONE;
		counts->busy += outcome == ROW_BUSY;
		counts->failed += outcome == ROW_UNREADABLE;
	}
	table_endscan(scan);
	leaf_close(&leaf);
	counts->blocks = next - first;
	return next < nblocks ? next : InvalidBlockNumber;
}

/*
 * How many values of a table are not under these keys, as of the snapshot?
 * pulse is called now and then, and may end the process.
 */
int64
reencrypt_count_left(const ReencryptColumn *column, const ReencryptKeys *keys, Oid relid,
					 Snapshot snapshot, void (*pulse) (void))
{
	Relation	rel = table_open(relid, AccessShareLock);
	AttrNumber	attribute = find_attribute(rel, column->name);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	int64		left = 0;
	int64		rows = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, attribute, &isnull);

		if (!isnull && is_old(value, keys))
			left++;
		if (++rows % PULSE_ROWS == 0)
		{
			CHECK_FOR_INTERRUPTS();
			pulse();
		}
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return left;
}
