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

#include "access/brin_internal.h"
#include "access/genam.h"
#include "access/htup_details.h"
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
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit/entry.h"
#include "audit/mac.h"
#include "base/identity.h"
#include "capture/log_write.h"
#include "capture/row_index.h"
#include "capture/row_position.h"
#include "compat.h"
#include "crypto/data_key.h"
#include "crypto/data_key_cache.h"
#include "errors.h"
#include "partition/partition.h"

/* A statement that began less than this before the change has no time of its own. */
#define STATEMENT_AGE_US		1000

/* jsonb with so many bytes may have a text of a gigabyte. */
#define LONG_VALUES			(16 * 1024)

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

/* An index of the partition. */
typedef struct LogIndex
{
	Oid			relid;
	IndexInfo  *info;
	AttrNumber	only_with;		/* it has the rows in which this column is not null, or 0 */
	bool		by_position;	/* row_index.c writes to it */
	bool		by_extremes;	/* BRIN of which a block's first and last row do */
} LogIndex;

/* What is kept of the partition that was written to last. */
typedef struct LogPartition
{
	Oid			relid;			/* InvalidOid: nothing is kept */
	bool		stale;
	MemoryContext context;
	EState	   *estate;			/* for the expressions of indexes */
	int			nindexes;
	LogIndex   *indexes;
	TupleDesc	desc;			/* not reference-counted: slots of it are cheap */
	TupleTableSlot *slots[LOG_BATCH];
	int			nfilled;		/* of them have a tuple */
	RowPosition positions[LOG_BATCH];	/* of the rows that have a key */
	int			npositions;
} LogPartition;

/* A row in the making: most values are those of the row before. */
typedef struct LogRow
{
	Datum		values[AUDIT_COLUMNS];
	bool		nulls[AUDIT_COLUMNS];
	const char *schema_name;	/* these are of values[] */
	const char *table_name;
	Oid			role;
	Oid			session_role;
	bool		has_key;
	StringInfoData bytes;		/* to compute the MAC from */
} LogRow;

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
static void clear_slots(void);
static void begin_rows(LogRow *row);
static void add_row(LogRow *row, int64 id, const LogEntry *entry, TupleTableSlot *slot);
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
	static MemoryContext batch = NULL;
	MemoryContext old;
	ErrorContextCallback context;
	Relation	parent;
	Oid			sequence;
	LogRow		row;
	int			done = 0;

	se_assert(n <= LOG_BATCH);
	if (batch == NULL)
		batch = AllocSetContextCreate(TopMemoryContext, "audit batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(batch);
	old = MemoryContextSwitchTo(batch);
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
	begin_rows(&row);

	while (done < n)
	{
		PartitionRange range;
		Relation	rel = open_partition(parent, entries[done].occurred_at, &range);
		int			here = 0;

		clear_slots();
		do
		{
			if (kept.slots[here] == NULL)
			{
				MemoryContext previous = MemoryContextSwitchTo(kept.context);

				kept.slots[here] = MakeTupleTableSlot(kept.desc, &TTSOpsHeapTuple);
				MemoryContextSwitchTo(previous);
			}
			kept.nfilled = ++here;
			add_row(&row, nextval_internal(sequence, false), &entries[done], kept.slots[here - 1]);
			done++;
		} while (done < n && !range.is_default &&
				 entries[done].occurred_at >= range.lower && entries[done].occurred_at < range.upper);

		table_multi_insert(rel, kept.slots, here, GetCurrentCommandId(true), 0, NULL);
		insert_index_entries(rel, here);
		clear_slots();
		if (range.is_default)
			partition_request_drain(RelationGetRelid(parent));
		table_close(rel, NoLock);
	}
	table_close(parent, NoLock);

	error_context_stack = context.previous;
	MemoryContextSwitchTo(old);
	MemoryContextReset(batch);
}

/* Forget the rows of the last batch, be it one that failed. */
static void
clear_slots(void)
{
	while (kept.nfilled > 0)
		ExecClearTuple(kept.slots[--kept.nfilled]);
	kept.npositions = 0;
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

static AttrNumber
column_of(const void *expression)
{
	return IsA(expression, Var) ? ((const Var *) expression)->varattno : 0;
}

/*
 * Does a BRIN index keep the extremes of occurred_at, audit_id and transaction_id,
 * which is one value in a batch?  Other operator classes keep more of a range.
 */
static bool
goes_by_extremes(Relation index, const IndexInfo *info)
{
	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
	{
		if (index_getprocinfo(index, i + 1, BRIN_PROCNUM_OPCINFO)->fn_addr != brin_minmax_opcinfo)
			return false;
		if (info->ii_IndexAttrNumbers[i] != AUDIT_OCCURRED_AT + 1 &&
			info->ii_IndexAttrNumbers[i] != AUDIT_TRANSACTION_ID + 1 &&
			info->ii_IndexAttrNumbers[i] != AUDIT_ID + 1)
			return false;
	}
	return info->ii_Predicate == NIL;
}

/* The column of an index of which the rows are WHERE it IS NOT NULL, or 0. */
static AttrNumber
column_of_predicate(const IndexInfo *info)
{
	NullTest   *test;

	if (list_length(info->ii_Predicate) != 1)
		return 0;
	test = linitial(info->ii_Predicate);
	return IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL ? column_of(test->arg) : 0;
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
	kept.nfilled = 0;

	indexes = RelationGetIndexList(rel);
	kept.nindexes = 0;
	kept.indexes = palloc(sizeof(LogIndex) * Max(list_length(indexes), 1));
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);
		LogIndex   *entry = &kept.indexes[kept.nindexes++];

		entry->relid = lfirst_oid(cell);
		entry->info = BuildIndexInfo(index);
		entry->only_with = column_of_predicate(entry->info);
		entry->by_position = entry->only_with == AUDIT_ROW_KEY + 1 && row_index_matches(index, entry->info);
		entry->by_extremes = index->rd_rel->relam == BRIN_AM_OID && goes_by_extremes(index, entry->info);
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

static void
set_value(LogRow *row, AuditColumn column, Datum value, bool isnull)
{
	row->values[column] = value;
	row->nulls[column] = isnull;
}

/* What all entries of a batch have in common. */
static void
begin_rows(LogRow *row)
{
	const pg_uuid_t *user_id = identity_user_id();
	const inet *address = identity_client_address();
	bool		named = application_name != NULL && application_name[0] != '\0';

	memset(row, 0, sizeof(*row));
	row->has_key = data_key_active_if_any(KEY_AUDIT_MAC) != NULL;
	initStringInfo(&row->bytes);
	set_value(row, AUDIT_TRANSACTION_ID, UInt64GetDatum(U64FromFullTransactionId(GetTopFullTransactionId())), false);
	set_value(row, AUDIT_USER_ID, PointerGetDatum(user_id), user_id == NULL);
	set_value(row, AUDIT_CLIENT_ADDR, PointerGetDatum(address), address == NULL);
	set_value(row, AUDIT_APPLICATION_NAME, named ? CStringGetTextDatum(application_name) : (Datum) 0, !named);
}

/*
 * Might the text of an entry's values be longer than can be hashed?  Short jsonb
 * holds long numbers: a hundred thousand digits in sixteen bytes.
 */
static bool
may_be_long(const LogEntry *entry)
{
	const Jsonb *values[] = {entry->row_key, entry->old_values, entry->new_values};

	for (int i = 0; i < lengthof(values); i++)
	{
		if (values[i] != NULL && VARSIZE(values[i]) > LONG_VALUES)
			return true;
	}
	return false;
}

/* What tells an entry from the one before it. */
static void
set_entry(LogRow *row, int64 id, const LogEntry *entry)
{
	set_value(row, AUDIT_ID, Int64GetDatum(id), false);
	set_value(row, AUDIT_OCCURRED_AT, TimestampTzGetDatum(entry->occurred_at), false);
	set_value(row, AUDIT_STATEMENT_AT, TimestampTzGetDatum(entry->statement_at),
			  entry->occurred_at - entry->statement_at < STATEMENT_AGE_US);
	set_value(row, AUDIT_QUERY_ID, Int64GetDatum(entry->query_id), entry->query_id == 0);
	set_value(row, AUDIT_OPERATION, CharGetDatum(entry->operation), false);
	set_value(row, AUDIT_ROW_KEY, PointerGetDatum(entry->row_key), entry->row_key == NULL);
	set_value(row, AUDIT_OLD_VALUES, PointerGetDatum(entry->old_values), entry->old_values == NULL);
	set_value(row, AUDIT_NEW_VALUES, PointerGetDatum(entry->new_values), entry->new_values == NULL);

	/* capture.c has one string for the names of rows that follow each other. */
	if (row->schema_name != entry->schema_name)
		set_value(row, AUDIT_SCHEMA_NAME, CStringGetTextDatum(entry->schema_name), false);
	if (row->table_name != entry->table_name)
		set_value(row, AUDIT_TABLE_NAME, CStringGetTextDatum(entry->table_name), false);
	if (row->role != entry->role || row->session_role != entry->session_role)
	{
		bool		same = entry->session_role == entry->role;

		set_value(row, AUDIT_DB_ROLE, role_text(entry->role), false);
		set_value(row, AUDIT_SESSION_ROLE,
				  same ? (Datum) 0 : CStringGetTextDatum(GetUserNameFromId(entry->session_role, false)), same);
	}
	row->schema_name = entry->schema_name;
	row->table_name = entry->table_name;
	row->role = entry->role;
	row->session_role = entry->session_role;

	row->nulls[AUDIT_MAC] = true;
	if (row->has_key || may_be_long(entry))
	{
		bytea	   *mac;

		/* Without a key only to fail here: the ledger would stop at an entry that it cannot hash. */
		resetStringInfo(&row->bytes);
		audit_entry_canonical(&row->bytes, row->values, row->nulls);
		mac = audit_mac(AUDIT_MAC_ENTRY, &row->bytes);
		set_value(row, AUDIT_MAC, PointerGetDatum(mac), mac == NULL);
	}
}

/* An entry as a row of audit.log, in the slot. */
static void
add_row(LogRow *row, int64 id, const LogEntry *entry, TupleTableSlot *slot)
{
	MemoryContext old;

	set_entry(row, id, entry);

	/* An error leaves it in the slot, which outlives the batch. */
	old = MemoryContextSwitchTo(kept.context);
	ExecStoreHeapTuple(heap_form_tuple(kept.desc, row->values, row->nulls), slot, true);
	MemoryContextSwitchTo(old);
	slot->tts_tableOid = kept.relid;
	if (entry->row_key != NULL)
	{
		RowPosition *at = &kept.positions[kept.npositions++];

		at->position = row_position(DatumGetTextPP(row->values[AUDIT_SCHEMA_NAME]),
									DatumGetTextPP(row->values[AUDIT_TABLE_NAME]), entry->row_key);
		at->slot = slot;
	}
}

/* The value of a column that counts: a time or an id. */
static int64
number_of(TupleTableSlot *slot, AuditColumn column)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, column + 1, &isnull));
}

static bool
number_lies_between(TupleTableSlot *before, TupleTableSlot *slot, TupleTableSlot *after, AuditColumn column)
{
	int64		number = number_of(slot, column);

	return number_of(before, column) <= number && number <= number_of(after, column);
}

/*
 * Does a row lie on the block of its neighbours, and its time and id between
 * theirs?  Ranges that hold those hold it.
 */
static bool
lies_between(TupleTableSlot *before, TupleTableSlot *slot, TupleTableSlot *after)
{
	BlockNumber block = ItemPointerGetBlockNumber(&slot->tts_tid);

	return ItemPointerGetBlockNumber(&before->tts_tid) == block &&
		ItemPointerGetBlockNumber(&after->tts_tid) == block &&
		number_lies_between(before, slot, after, AUDIT_OCCURRED_AT) &&
		number_lies_between(before, slot, after, AUDIT_ID);
}

/* Is the row among those that the index holds? */
static bool
takes_row(const LogIndex *index, TupleTableSlot *slot)
{
	IndexInfo  *info = index->info;
	ExprContext *expressions;

	if (info->ii_Predicate == NIL)
		return true;
	if (index->only_with > 0)
		return !heap_attisnull(ExecFetchSlotHeapTuple(slot, false, NULL), index->only_with, kept.desc);
	expressions = GetPerTupleExprContext(kept.estate);
	expressions->ecxt_scantuple = slot;
	if (info->ii_PredicateState == NULL)
		info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate, kept.estate);
	return ExecQual(info->ii_PredicateState, expressions);
}

static void
insert_row_by_row(Relation rel, Relation index, const LogIndex *entry, IndexInfo *info, int n)
{
	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *slot = kept.slots[i];
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];

		if (entry->by_extremes && i > 0 && i < n - 1 && lies_between(kept.slots[i - 1], slot, kept.slots[i + 1]))
			continue;
		if (!takes_row(entry, slot))
			continue;
		GetPerTupleExprContext(kept.estate)->ecxt_scantuple = slot;
		FormIndexDatum(entry->info, slot, kept.estate, values, nulls);
		index_insert(index, values, nulls, &slot->tts_tid, rel,
					 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
	}
}

/*
 * Enter the rows that have their place in the heap into the indexes, one index
 * after the other.
 */
static void
insert_index_entries(Relation rel, int n)
{
	for (int i = 0; i < kept.nindexes; i++)
	{
		const LogIndex *entry = &kept.indexes[i];
		IndexInfo	info = *entry->info;
		Relation	index;

		if (!info.ii_ReadyForInserts || (n == 1 && !takes_row(entry, kept.slots[0])))
			continue;
		index = index_open(entry->relid, RowExclusiveLock);

		/* An index may keep a state of its own for as long as it is open. */
		info.ii_AmCache = NULL;
		info.ii_Context = CurrentMemoryContext;

		if (entry->by_position)
			row_index_insert(index, kept.positions, kept.npositions);
		else
			insert_row_by_row(rel, index, entry, &info, n);
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
