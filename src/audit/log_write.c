/*
 * log_write.c
 *		Entries into the partitions of audit.log, by multi-insert, without SQL.
 *
 * Called by capture.c when a statement ends.  Takes RowExclusiveLock on audit.log,
 * the partition of the time and its indexes, and keeps those on the tables until
 * the transaction ends.  No privilege is asked for: nobody may write to audit.log,
 * and everybody's changes end there.  The rows are WAL-logged like any other, and
 * belong to the transaction that they tell of: an entry is there exactly if the
 * change is.  Whatever keeps an entry from being written raises an error, and the
 * change fails.
 *
 * A time whose partition is not there yet goes to the default partition, and
 * maintenance is asked for.
 *
 * What is needed of the partition is kept from one call to the next, until the
 * relation cache forgets it: preparing an index's expressions takes longer than
 * an entry.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit/entry.h"
#include "audit/log_write.h"
#include "audit/mac.h"
#include "audit/row_position.h"
#include "base/identity.h"
#include "compat.h"
#include "crypto/data_key.h"
#include "crypto/data_key_cache.h"
#include "errors.h"
#include "partition/partition.h"

/* A statement that began less than this before the change has no time of its own. */
#define STATEMENT_AGE_US		1000

static const char *const column_names[AUDIT_COLUMNS] = {
	[AUDIT_ID] = "audit_id",
	[AUDIT_OCCURRED_AT] = "occurred_at",
	[AUDIT_STATEMENT_AT] = "statement_at",
	[AUDIT_TRANSACTION_ID] = "transaction_id",
	[AUDIT_QUERY_ID] = "query_id",
	[AUDIT_OPERATION] = "operation",
	[AUDIT_SCHEMA_NAME] = "schema_name",
	[AUDIT_TABLE_NAME] = "table_name",
	[AUDIT_ROW_KEY] = "row_key",
	[AUDIT_OLD_VALUES] = "old_values",
	[AUDIT_NEW_VALUES] = "new_values",
	[AUDIT_USER_ID] = "user_id",
	[AUDIT_DB_ROLE] = "db_role",
	[AUDIT_SESSION_ROLE] = "session_role",
	[AUDIT_CLIENT_ADDR] = "client_addr",
	[AUDIT_APPLICATION_NAME] = "application_name",
	[AUDIT_MAC] = "mac",
};

typedef struct RowPosition
{
	int64		position;
	TupleTableSlot *slot;
} RowPosition;

/* What is kept of the partition that was written to last. */
typedef struct LogPartition
{
	Oid			relid;			/* InvalidOid: nothing is kept */
	bool		stale;
	MemoryContext context;
	EState	   *estate;			/* for the expressions of indexes */
	int			nindexes;
	Oid		   *indexes;
	IndexInfo **infos;
	bool	   *by_position;	/* log_row_idx, whose expression need not be evaluated */
	bool	   *by_extremes;	/* BRIN of which a block's first and last row do */
	TupleDesc	desc;			/* not reference-counted: slots of it are cheap */
	TupleTableSlot *slots[LOG_BATCH];
} LogPartition;

static LogPartition kept;
static Oid	log_relid = InvalidOid;
static Oid	sequence_relid = InvalidOid;

/* The name of the role that was written last. */
static Oid	named_role = InvalidOid;
static text *role_name = NULL;

static void relation_changed(Datum arg, Oid relid);
static void role_changed(Datum arg, int cache, uint32 hash);
static void find_relations(void);
static Relation open_partition(Relation parent, TimestampTz time, PartitionRange *range);
static void keep_partition(Relation rel);
static void fill_slot(TupleTableSlot *slot, int64 id, const LogEntry *entry, bool has_key, StringInfo bytes);
static void insert_index_entries(Relation rel, int n);
static void log_context(void *arg);

void
log_write_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum) 0);
}

/* Invalidation may come in the midst of a batch: it is acted upon before the next. */
static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == kept.relid)
		kept.stale = true;
	if (!OidIsValid(relid) || relid == log_relid || relid == sequence_relid)
		log_relid = sequence_relid = InvalidOid;
}

static void
role_changed(Datum arg, int cache, uint32 hash)
{
	named_role = InvalidOid;
}

static void
find_relations(void)
{
	Oid			namespace = get_namespace_oid("audit", true);

	if (!OidIsValid(namespace))
		return;
	sequence_relid = get_relname_relid("log_audit_id_seq", namespace);
	log_relid = get_relname_relid("log", namespace);
}

bool
log_exists(void)
{
	if (!OidIsValid(log_relid) || !OidIsValid(sequence_relid))
		find_relations();
	return OidIsValid(log_relid) && OidIsValid(sequence_relid);
}

/*
 * The key that is made here is entered into an audited table itself.  A key that
 * cannot be used, for want of its master key, keeps nobody from working.
 */
void
log_prepare(void)
{
	static bool preparing = false;
	pg_uuid_t	key_id;

	if (preparing || !data_keys_available() || data_key_active_row(KEY_AUDIT_MAC, &key_id))
		return;
	preparing = true;
	PG_TRY();
	{
		(void) data_key_active(KEY_AUDIT_MAC);
	}
	PG_FINALLY();
	{
		preparing = false;
	}
	PG_END_TRY();
}

void
log_write(const LogEntry *entries, int n)
{
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "audit batch", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(batch);
	ErrorContextCallback context;
	Relation	parent;
	Oid			sequence;
	StringInfoData bytes;
	bool		has_key;
	int			done = 0;

	se_assert(n <= LOG_BATCH);
	context.callback = log_context;
	context.arg = unconstify(LogEntry *, entries);
	context.previous = error_context_stack;
	error_context_stack = &context;

	if (!log_exists())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table audit.log or its sequence is missing"),
				 errdetail("A change of an audited table needs its audit entry."),
				 errhint("Restore them from a backup.")));

	/* Sealing counts on it that ids are given to transactions that have a number. */
	(void) GetTopTransactionId();

	/* Opening them takes in invalidations, which forget the oids. */
	sequence = sequence_relid;
	parent = table_open(log_relid, RowExclusiveLock);
	initStringInfo(&bytes);
	has_key = data_key_active_if_any(KEY_AUDIT_MAC) != NULL;

	while (done < n)
	{
		PartitionRange range;
		Relation	rel = open_partition(parent, entries[done].occurred_at, &range);
		int			here = 0;

		do
		{
			if (kept.slots[here] == NULL)
			{
				MemoryContext previous = MemoryContextSwitchTo(kept.context);

				kept.slots[here] = MakeTupleTableSlot(kept.desc, &TTSOpsVirtual);
				MemoryContextSwitchTo(previous);
			}
			fill_slot(kept.slots[here], nextval_internal(sequence, false), &entries[done], has_key, &bytes);
			kept.slots[here]->tts_tableOid = RelationGetRelid(rel);
			here++;
			done++;
		} while (done < n && !range.is_default &&
				 entries[done].occurred_at >= range.lower && entries[done].occurred_at < range.upper);

		table_multi_insert(rel, kept.slots, here, GetCurrentCommandId(true), 0, NULL);
		insert_index_entries(rel, here);
		for (int i = 0; i < here; i++)
			ExecClearTuple(kept.slots[i]);
		if (range.is_default)
			partition_request_drain(RelationGetRelid(parent));
		table_close(rel, NoLock);
	}
	table_close(parent, NoLock);

	error_context_stack = context.previous;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(batch);
}

/*
 * Open and lock the partition that takes the time, and have what is kept be of it.
 */
static Relation
open_partition(Relation parent, TimestampTz time, PartitionRange *range)
{
	Relation	rel;

	for (;;)
	{
		*range = partition_find(parent, time);
		if (!OidIsValid(range->relid))
			ereport(ERROR,
					(errcode(ERRCODE_SE_PARTITION_UNAVAILABLE),
					 errmsg("no partition of audit.log takes entries of %s", timestamptz_to_str(time)),
					 errhint("Run telemetry.run_maintenance().")));

		/* Waiting for the lock lets a maintainer's changes in: look again. */
		LockRelationOid(range->relid, RowExclusiveLock);
		if (partition_find(parent, time).relid == range->relid)
			break;
	}
	rel = table_open(range->relid, NoLock);
	if (kept.stale || kept.relid != range->relid)
		keep_partition(rel);
	return rel;
}

static bool
is_column(const void *expression, AttrNumber column)
{
	return IsA(expression, Var) && ((const Var *) expression)->varattno == column;
}

/* Are its columns occurred_at, audit_id, which rises, and transaction_id, which is one value in a batch? */
static bool
goes_by_extremes(const IndexInfo *info)
{
	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
	{
		if (info->ii_IndexAttrNumbers[i] != AUDIT_OCCURRED_AT + 1 &&
			info->ii_IndexAttrNumbers[i] != AUDIT_TRANSACTION_ID + 1 &&
			info->ii_IndexAttrNumbers[i] != AUDIT_ID + 1)
			return false;
	}
	return info->ii_Predicate == NIL;
}

/* Is it one on audit.row_position(schema_name, table_name, row_key), of the rows that have a key? */
static bool
goes_by_position(const IndexInfo *info)
{
	static const AttrNumber arguments[] = {AUDIT_SCHEMA_NAME + 1, AUDIT_TABLE_NAME + 1, AUDIT_ROW_KEY + 1};
	FuncExpr   *call;
	NullTest   *has_key;
	FmgrInfo	function;

	if (info->ii_NumIndexAttrs != 1 || info->ii_Unique || list_length(info->ii_Expressions) != 1 ||
		list_length(info->ii_Predicate) != 1)
		return false;
	call = linitial(info->ii_Expressions);
	has_key = linitial(info->ii_Predicate);
	if (!IsA(call, FuncExpr) || list_length(call->args) != lengthof(arguments) ||
		!IsA(has_key, NullTest) || has_key->nulltesttype != IS_NOT_NULL || !is_column(has_key->arg, AUDIT_ROW_KEY + 1))
		return false;
	for (int i = 0; i < lengthof(arguments); i++)
	{
		if (!is_column(list_nth(call->args, i), arguments[i]))
			return false;
	}
	fmgr_info(call->funcid, &function);
	return function.fn_addr == audit_row_position;
}

static void
keep_partition(Relation rel)
{
	MemoryContext context;
	MemoryContext old;
	List	   *indexes;
	ListCell   *cell;
	TupleDesc	desc = RelationGetDescr(rel);

	kept.relid = InvalidOid;
	if (kept.context != NULL)
		MemoryContextDelete(kept.context);
	kept.context = NULL;

	if (rel->rd_rel->relkind != RELKIND_RELATION || desc->natts != AUDIT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition \"%s\" of audit.log has not the columns of audit.log", RelationGetRelationName(rel))));
	for (int i = 0; i < AUDIT_COLUMNS; i++)
	{
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), column_names[i]) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("partition \"%s\" of audit.log has not the columns of audit.log", RelationGetRelationName(rel)),
					 errdetail("Column %d is \"%s\", not \"%s\".", i + 1,
							   NameStr(TupleDescAttr(desc, i)->attname), column_names[i])));
	}

	context = AllocSetContextCreate(TopMemoryContext, "audit partition", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	kept.context = context;
	kept.stale = false;
	kept.estate = CreateExecutorState();
	kept.desc = CreateTupleDescCopy(desc);
	for (int i = 0; i < LOG_BATCH; i++)
		kept.slots[i] = NULL;

	indexes = RelationGetIndexList(rel);
	kept.nindexes = 0;
	kept.indexes = palloc(sizeof(Oid) * Max(list_length(indexes), 1));
	kept.infos = palloc(sizeof(IndexInfo *) * Max(list_length(indexes), 1));
	kept.by_position = palloc(sizeof(bool) * Max(list_length(indexes), 1));
	kept.by_extremes = palloc(sizeof(bool) * Max(list_length(indexes), 1));
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);

		kept.indexes[kept.nindexes] = lfirst_oid(cell);
		kept.infos[kept.nindexes] = BuildIndexInfo(index);
		kept.by_position[kept.nindexes] = index->rd_rel->relam == BTREE_AM_OID && goes_by_position(kept.infos[kept.nindexes]);
		kept.by_extremes[kept.nindexes] = index->rd_rel->relam == BRIN_AM_OID && goes_by_extremes(kept.infos[kept.nindexes]);
		kept.nindexes++;
		index_close(index, NoLock);
	}
	kept.relid = RelationGetRelid(rel);
	MemoryContextSwitchTo(old);
}

/* The name of a role as text, in the current context. */
static Datum
role_text(Oid role)
{
	if (role != named_role)
	{
		char	   *name = GetUserNameFromId(role, false);
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		text	   *fresh = cstring_to_text(name);

		if (role_name != NULL)
			pfree(role_name);
		role_name = fresh;
		named_role = role;
		MemoryContextSwitchTo(old);
	}
	return datumCopy(PointerGetDatum(role_name), false, -1);
}

/* An entry as a row of audit.log. */
static void
fill_slot(TupleTableSlot *slot, int64 id, const LogEntry *entry, bool has_key, StringInfo bytes)
{
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;
	const pg_uuid_t *user_id = identity_user_id();
	const inet *address = identity_client_address();

	ExecClearTuple(slot);
	memset(nulls, false, sizeof(bool) * AUDIT_COLUMNS);
	values[AUDIT_ID] = Int64GetDatum(id);
	values[AUDIT_OCCURRED_AT] = TimestampTzGetDatum(entry->occurred_at);
	values[AUDIT_STATEMENT_AT] = TimestampTzGetDatum(entry->statement_at);
	nulls[AUDIT_STATEMENT_AT] = entry->occurred_at - entry->statement_at < STATEMENT_AGE_US;
	values[AUDIT_TRANSACTION_ID] = UInt64GetDatum(U64FromFullTransactionId(GetTopFullTransactionId()));
	values[AUDIT_QUERY_ID] = Int64GetDatum(entry->query_id);
	nulls[AUDIT_QUERY_ID] = entry->query_id == 0;
	values[AUDIT_OPERATION] = CharGetDatum(entry->operation);
	values[AUDIT_SCHEMA_NAME] = CStringGetTextDatum(entry->schema_name);
	values[AUDIT_TABLE_NAME] = CStringGetTextDatum(entry->table_name);
	values[AUDIT_ROW_KEY] = PointerGetDatum(entry->row_key);
	nulls[AUDIT_ROW_KEY] = entry->row_key == NULL;
	values[AUDIT_OLD_VALUES] = PointerGetDatum(entry->old_values);
	nulls[AUDIT_OLD_VALUES] = entry->old_values == NULL;
	values[AUDIT_NEW_VALUES] = PointerGetDatum(entry->new_values);
	nulls[AUDIT_NEW_VALUES] = entry->new_values == NULL;
	values[AUDIT_USER_ID] = PointerGetDatum(user_id);
	nulls[AUDIT_USER_ID] = user_id == NULL;
	values[AUDIT_DB_ROLE] = role_text(entry->role);
	nulls[AUDIT_SESSION_ROLE] = entry->session_role == entry->role;
	if (!nulls[AUDIT_SESSION_ROLE])
		values[AUDIT_SESSION_ROLE] = CStringGetTextDatum(GetUserNameFromId(entry->session_role, false));
	values[AUDIT_CLIENT_ADDR] = PointerGetDatum(address);
	nulls[AUDIT_CLIENT_ADDR] = address == NULL;
	nulls[AUDIT_APPLICATION_NAME] = application_name == NULL || application_name[0] == '\0';
	if (!nulls[AUDIT_APPLICATION_NAME])
		values[AUDIT_APPLICATION_NAME] = CStringGetTextDatum(application_name);

	nulls[AUDIT_MAC] = true;
	if (has_key)
	{
		bytea	   *mac;

		resetStringInfo(bytes);
		audit_entry_canonical(bytes, values, nulls);
		mac = audit_mac(AUDIT_MAC_ENTRY, bytes);
		values[AUDIT_MAC] = PointerGetDatum(mac);
		nulls[AUDIT_MAC] = mac == NULL;
	}
	ExecStoreVirtualTuple(slot);
}

/*
 * Does a row lie on the block of its neighbours, and its time between theirs?
 * A range of times that holds those holds it.
 */
static bool
lies_between(TupleTableSlot *before, TupleTableSlot *slot, TupleTableSlot *after)
{
	BlockNumber block = ItemPointerGetBlockNumber(&slot->tts_tid);
	TimestampTz time = DatumGetTimestampTz(slot->tts_values[AUDIT_OCCURRED_AT]);

	return ItemPointerGetBlockNumber(&before->tts_tid) == block &&
		ItemPointerGetBlockNumber(&after->tts_tid) == block &&
		DatumGetTimestampTz(before->tts_values[AUDIT_OCCURRED_AT]) <= time &&
		DatumGetTimestampTz(after->tts_values[AUDIT_OCCURRED_AT]) >= time;
}

/* Is the row among those that the index holds? */
static bool
takes_row(IndexInfo *prepared, TupleTableSlot *slot)
{
	ExprContext *expressions = GetPerTupleExprContext(kept.estate);

	expressions->ecxt_scantuple = slot;
	if (prepared->ii_Predicate == NIL)
		return true;
	if (prepared->ii_PredicateState == NULL)
		prepared->ii_PredicateState = ExecPrepareQual(prepared->ii_Predicate, kept.estate);
	return ExecQual(prepared->ii_PredicateState, expressions);
}

/* The same; its values are those of the row then. */
static bool
index_values(IndexInfo *prepared, TupleTableSlot *slot, Datum *values, bool *nulls)
{
	if (!takes_row(prepared, slot))
		return false;
	FormIndexDatum(prepared, slot, kept.estate, values, nulls);
	return true;
}

static int
compare_positions(const void *a, const void *b)
{
	const RowPosition *left = a;
	const RowPosition *right = b;

	if (left->position != right->position)
		return left->position < right->position ? -1 : 1;
	return ItemPointerCompare(&left->slot->tts_tid, &right->slot->tts_tid);
}

/*
 * Entries of the index that finds a row's history, in its order, so that those of
 * one page follow each other.
 */
static void
insert_by_position(Relation rel, Relation index, IndexInfo *info, int n)
{
	RowPosition *positions = palloc(sizeof(RowPosition) * n);
	bool		isnull = false;
	int			npositions = 0;

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *slot = kept.slots[i];
		Datum	   *values = slot->tts_values;

		if (slot->tts_isnull[AUDIT_ROW_KEY])
			continue;
		positions[npositions].position = row_position(DatumGetTextPP(values[AUDIT_SCHEMA_NAME]),
													  DatumGetTextPP(values[AUDIT_TABLE_NAME]),
													  DatumGetJsonbP(values[AUDIT_ROW_KEY]));
		positions[npositions++].slot = slot;
	}
	qsort(positions, npositions, sizeof(RowPosition), compare_positions);
	for (int i = 0; i < npositions; i++)
	{
		Datum		value = Int64GetDatum(positions[i].position);

		index_insert(index, &value, &isnull, &positions[i].slot->tts_tid, rel, UNIQUE_CHECK_NO, false, info);
	}
	pfree(positions);
}

static void
insert_row_by_row(Relation rel, Relation index, IndexInfo *prepared, IndexInfo *info, bool by_extremes, int n)
{
	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *slot = kept.slots[i];
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];

		if (by_extremes && i > 0 && i < n - 1 && lies_between(kept.slots[i - 1], slot, kept.slots[i + 1]))
			continue;
		if (index_values(prepared, slot, values, nulls))
			index_insert(index, values, nulls, &slot->tts_tid, rel,
						 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
	}
}

/* Would the only row of a batch have no place in the index? */
static bool
leaves_out(int which, TupleTableSlot *slot)
{
	if (kept.by_position[which])
		return slot->tts_isnull[AUDIT_ROW_KEY];
	return !takes_row(kept.infos[which], slot);
}

/*
 * Enter the rows that have their place in the heap into the indexes, one index
 * after the other.
 */
static void
insert_index_entries(Relation rel, int n)
{
	for (int which = 0; which < kept.nindexes; which++)
	{
		Relation	index;
		IndexInfo	info = *kept.infos[which];

		if (!info.ii_ReadyForInserts || (n == 1 && leaves_out(which, kept.slots[0])))
			continue;
		index = index_open(kept.indexes[which], RowExclusiveLock);

		/* An index may keep a state of its own for as long as it is open. */
		info.ii_AmCache = NULL;
		info.ii_Context = CurrentMemoryContext;

		if (kept.by_position[which])
			insert_by_position(rel, index, &info, n);
		else
			insert_row_by_row(rel, index, kept.infos[which], &info, kept.by_extremes[which], n);
		compat_index_insert_cleanup(index, &info);
		index_close(index, NoLock);
		ResetPerTupleExprContext(kept.estate);
	}
}

static void
log_context(void *arg)
{
	const LogEntry *entry = arg;

	errcontext("audit entry of a change of table \"%s.%s\"", entry->schema_name, entry->table_name);
}
