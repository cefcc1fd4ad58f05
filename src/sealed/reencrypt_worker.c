/*
 * reencrypt_worker.c
 *		The worker that re-encrypts columns, one at a time in a database, and the
 *		scheduler's job that starts it when there is something to do.
 *
 * A pass goes through the table's blocks in batches, each a transaction that
 * changes some values and notes in sentient_edge.reencryptions how far it has
 * come.  Then it waits until every transaction has ended that wrote to the table
 * before, since such a one may hold a value that it has sealed under the old
 * key.  What is written afterwards is under the active keys, or copied from a row
 * that is there.  So one look at everything through a single snapshot proves that
 * no old value is left; while there is one, another pass follows.
 *
 * The worker may be killed at any instruction: the row tells where to go on, and
 * the scheduler starts another one.  It holds a lock of the advisory kind, which
 * no SQL function can take, as long as it lives, so that there is one.  The row
 * is locked for the length of a batch, not while it waits and not for the proof.
 * It does not wait for anybody's lock longer than LOCK_TIMEOUT_MS, and for no
 * row lock at all.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/registry.h"
#include "base/sql.h"
#include "base/worker.h"
#include "compat.h"
#include "errors.h"
#include "sealed/reencrypt.h"

/* The lock of the one worker of a database; see partition/request.c for others of its kind. */
#define REENCRYPT_TURN		0x5E21
/* How long a batch waits for a lock on the table, or for somebody's pause. */
#define LOCK_TIMEOUT_MS		1000
/* While it waits for transactions to end. */
#define WAIT_MS				100
/* First and longest pause after an error, or a pass that has changed nothing. */
#define RETRY_MS			1000
#define RETRY_MAX_MS		60000

typedef enum Step
{
	STEP_NOTHING,				/* there is nothing to do */
	STEP_BATCH,					/* a batch or a phase is done */
	STEP_WAIT,					/* others must end first */
	STEP_VAIN,					/* a pass has changed nothing, and yet is not the last */
} Step;

/* One row of sentient_edge.reencryptions, as a step finds it. */
typedef struct Work
{
	pg_uuid_t	id;
	char	   *table_name;
	ReencryptColumn column;
	char	   *phase;
	int			pass;
	char	   *position_table; /* NULL: the pass is yet to begin */
	int64		position_block;
	int64		pass_done;
	int64		pass_busy;
	int64		pass_failed;
	char	   *error;
	ReencryptKeys keys;			/* of the pass */
	ReencryptKeys active;
} Work;

static int	look_interval_s = 10;
static int	reencrypt_job = -1;
static bool wanted = false;		/* by this transaction */

/* The transactions that a pass waits for, in TopMemoryContext; a new worker collects them anew. */
static VirtualTransactionId *writers = NULL;
static int	nwriters = -1;		/* not collected */
static bool carefully = false;	/* the batch before has failed */
static int	vain = 0;			/* pauses since a value was changed */

pg_noreturn PGDLLEXPORT void reencrypt_worker_main(Datum arg);

static void run_job(bool requested);
static void at_transaction_end(XactEvent event, void *arg);

static const SchedulerJob job = {"re-encryption", &look_interval_s, run_job};

void
reencrypt_worker_init(void)
{
	reencrypt_job = scheduler_add_job(&job);
	RegisterXactCallback(at_transaction_end, NULL);
}

void
reencrypt_wanted(void)
{
	wanted = true;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (!wanted)
		return;
	if (event == XACT_EVENT_COMMIT)
		(void) scheduler_request(reencrypt_job);	/* else it looks for itself */
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wanted = false;
}

static bool
take_turn(bool of_session)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, REENCRYPT_TURN);
	return LockAcquire(&tag, ExclusiveLock, of_session, true) != LOCKACQUIRE_NOT_AVAIL;
}

static SqlScope
begin_transaction(int lock_timeout_ms)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	return sql_begin(lock_timeout_ms);
}

static void
end_transaction(SqlScope *scope)
{
	sql_end(scope);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * The scheduler's job: start the worker if there is work and none is at it.  Not
 * while a dump is restored: rows of the tables are still to come.
 */
static void
run_job(bool requested)
{
	SqlScope	scope = begin_transaction(0);
	bool		start;

	start = sql_query("SELECT FROM sentient_edge.reencryptions WHERE state = 'running' LIMIT 1", 0, NULL, NULL) > 0 &&
		sql_query("SELECT FROM sentient_edge.foreign_keys WHERE NOT is_enforced LIMIT 1", 0, NULL, NULL) == 0 &&
		take_turn(false);
	end_transaction(&scope);
	if (start)
	{
		BackgroundWorker worker;

		worker_describe(&worker, "reencrypt_worker_main", "sentient_edge re-encryption");
		worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
		if (!RegisterDynamicBackgroundWorker(&worker, NULL))
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("no background worker is free for re-encryption"),
					 errhint("Increase max_worker_processes and restart.")));
	}
}

/* End when somebody wants the database for himself. */
static void
step_aside(void)
{
	if (!registry_writer_may_run())
		proc_exit(0);
}

static void
uuid_of(uint64 row, int column, pg_uuid_t *id)
{
	bool		isnull;
	Datum		value = sql_value(row, column, &isnull);

	if (isnull)
		memset(id, 0, sizeof(*id));
	else
		*id = *DatumGetUUIDP(value);
}

static int64
number_of(uint64 row, int column)
{
	bool		isnull;

	return DatumGetInt64(sql_value(row, column, &isnull));
}

/*
 * Read the work that is to be done next, into the context, or NULL.
 */
static Work *
load_work(MemoryContext context)
{
	Work	   *work;
	Datum	   *keys;
	bool		isnull;

	if (sql_query("SELECT reencryption_id, table_name, column_name, context_columns, phase, pass::bigint,"
				  " position_table, position_block, pass_done, pass_busy, pass_failed, error, field_key_id, search_key_id,"
				  " coalesce(to_regclass(table_name)::oid, 0)::bigint"
				  " FROM sentient_edge.reencryptions WHERE state = 'running'"
				  " ORDER BY requested_at, reencryption_id LIMIT 1 FOR UPDATE", 0, NULL, NULL) == 0)
		return NULL;
	MemoryContextSwitchTo(context); /* from that of SPI */
	work = palloc0(sizeof(Work));
	uuid_of(0, 0, &work->id);
	work->table_name = sql_string(0, 1);
	work->column.name = sql_string(0, 2);
	deconstruct_array(DatumGetArrayTypeP(sql_value(0, 3, &isnull)), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR,
					  &keys, NULL, &work->column.nkeys);
	work->column.keys = palloc(sizeof(char *) * work->column.nkeys);
	for (int i = 0; i < work->column.nkeys; i++)
		work->column.keys[i] = pstrdup(NameStr(*DatumGetName(keys[i])));
	work->phase = sql_string(0, 4);
	work->pass = (int) number_of(0, 5);
	work->position_table = sql_string(0, 6);
	work->position_block = number_of(0, 7);
	work->pass_done = number_of(0, 8);
	work->pass_busy = number_of(0, 9);
	work->pass_failed = number_of(0, 10);
	work->error = sql_string(0, 11);
	uuid_of(0, 12, &work->keys.field);
	uuid_of(0, 13, &work->keys.search);
	work->column.root = (Oid) number_of(0, 14);
	return work;
}

/* Run one UPDATE of the row; $1 is its id. */
static uint64
update_work(const Work *work, const char *set, int n, Oid *more_types, Datum *more_values)
{
	Oid			types[12] = {UUIDOID};
	Datum		values[12] = {UUIDPGetDatum(&work->id)};

	se_assert(n < lengthof(types));
	for (int i = 0; i < n; i++)
	{
		types[i + 1] = more_types[i];
		values[i + 1] = more_values[i];
	}
	return sql_query(psprintf("UPDATE sentient_edge.reencryptions SET progressed_at = clock_timestamp(), %s"
							  " WHERE reencryption_id = $1 AND state = 'running'", set), n + 1, types, values);
}

static void
fail(const Work *work, const char *error)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(error)};

	(void) update_work(work, "state = 'failed', error = $2", 1, types, values);
	ereport(LOG,
			(errmsg("re-encryption of column \"%s\" of table %s has failed: %s",
					work->column.name, work->table_name, error),
			 errhint("Once the cause is gone, let it go on by sentient_edge.reencrypt_resume.")));
}

/* Why the column cannot be re-encrypted any more, or NULL: much may have changed since it was asked for. */
static const char *
find_obstacle(const ReencryptColumn *column)
{
	if (!OidIsValid(column->root))
		return "the table does not exist";
	if (get_atttype(column->root, get_attnum(column->root, column->name)) != reencrypt_type())
		return "the column does not exist, or is of another type";
	for (int i = 0; i < column->nkeys; i++)
	{
		if (get_attnum(column->root, column->keys[i]) <= 0)
			return psprintf("column \"%s\" does not exist", column->keys[i]);
	}
	return NULL;
}

static char *
leaf_name(Oid leaf)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(leaf)), get_rel_name(leaf));
}

static bool
same_keys(const ReencryptKeys *a, const ReencryptKeys *b)
{
	return memcmp(&a->field, &b->field, UUID_LEN) == 0 && memcmp(&a->search, &b->search, UUID_LEN) == 0;
}

/* Begin a pass at the first block, under the keys that are active now. */
static void
begin_pass(Work *work, List *leaves)
{
	static const char *const set =
		"pass = pass + 1, phase = 'converting', position_table = $2, position_block = 0, blocks_total = $3,"
		" blocks_done = 0, pass_done = 0, pass_busy = 0, pass_failed = 0, field_key_id = $4,"
		" search_key_id = nullif($5, '00000000-0000-0000-0000-000000000000'::uuid)";
	Oid			types[] = {TEXTOID, INT8OID, UUIDOID, UUIDOID};
	Datum		values[4];
	int64		blocks = 0;
	ListCell   *cell;

	foreach(cell, leaves)
	{
		Relation	rel = table_open(lfirst_oid(cell), AccessShareLock);

		blocks += RelationGetNumberOfBlocks(rel);
		table_close(rel, NoLock);
	}
	work->keys = work->active;
	work->position_table = leaf_name(linitial_oid(leaves));
	work->position_block = 0;
	values[0] = CStringGetTextDatum(work->position_table);
	values[1] = Int64GetDatum(blocks);
	values[2] = UUIDPGetDatum(&work->keys.field);
	values[3] = UUIDPGetDatum(&work->keys.search);
	(void) update_work(work, set, lengthof(types), types, values);
}

/* One batch. */
static Step
convert(Work *work)
{
	static const char *const set =
		"phase = $2, position_table = $3, position_block = $4, blocks_done = blocks_done + $5,"
		" blocks_total = greatest(blocks_total, blocks_done + $5), values_done = values_done + $6,"
		" pass_done = pass_done + $6, pass_busy = pass_busy + $7, pass_failed = pass_failed + $8,"
		" error = CASE WHEN $9 <> '' THEN $9 WHEN pass_failed > 0 THEN error END";
	Oid			types[] = {TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID};
	Datum		values[8];
	List	   *leaves = reencrypt_leaves(&work->column);
	ReencryptCounts counts;
	BlockNumber next;
	int			at = 0;
	bool		last = false;

	if (leaves == NIL)
	{
		/* A partitioned table without partitions. */
		(void) update_work(work, "phase = 'proving', pass = pass + 1", 0, NULL, NULL);
		return STEP_BATCH;
	}
	if (work->position_table == NULL || !same_keys(&work->keys, &work->active))
		begin_pass(work, leaves);
	while (at < list_length(leaves) && strcmp(leaf_name(list_nth_oid(leaves, at)), work->position_table) != 0)
		at++;
	if (at == list_length(leaves))
	{
		/* The partition is gone, or has another name. */
		begin_pass(work, leaves);
		at = 0;
	}

	next = reencrypt_batch(&work->column, &work->keys, list_nth_oid(leaves, at),
						   (BlockNumber) work->position_block, carefully, &counts);
	if (counts.done > 0)
		vain = 0;
	if (next == InvalidBlockNumber)
	{
		next = 0;
		last = ++at == list_length(leaves);
		nwriters = -1;
	}
	values[0] = CStringGetTextDatum(last ? "waiting" : "converting");
	values[1] = CStringGetTextDatum(leaf_name(list_nth_oid(leaves, last ? 0 : at)));
	values[2] = Int64GetDatum((int64) next);
	values[3] = Int64GetDatum(counts.blocks);
	values[4] = Int64GetDatum(counts.done);
	values[5] = Int64GetDatum(counts.busy);
	values[6] = Int64GetDatum(counts.failed);
	values[7] = CStringGetTextDatum(counts.error != NULL ? counts.error : "");
	(void) update_work(work, set, lengthof(types), types, values);
	return STEP_BATCH;
}

/* Note who writes to the table or one of its partitions. */
static void
collect_writers(const Work *work)
{
	List	   *tables = list_concat_unique_oid(list_make1_oid(work->column.root), reencrypt_leaves(&work->column));
	ListCell   *cell;

	nwriters = 0;
	foreach(cell, tables)
	{
		LOCKTAG		tag;
		int			n;
		VirtualTransactionId *found;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(cell));
		found = GetLockConflicts(&tag, ShareLock, &n);
		if (n == 0)
			continue;
		writers = writers == NULL
			? MemoryContextAlloc(TopMemoryContext, mul_size(n, sizeof(*writers)))
			: repalloc(writers, mul_size(nwriters + n, sizeof(*writers)));
		memcpy(writers + nwriters, found, n * sizeof(*writers));
		nwriters += n;
	}
}

/* After a pass: until all have ended that wrote to the table when it did, then what is next. */
static Step
wait_for_writers(Work *work)
{
	int			left = 0;

	if (nwriters < 0)
		collect_writers(work);
	for (int i = 0; i < nwriters; i++)
	{
		if (!VirtualXactLock(writers[i], false))
			writers[left++] = writers[i];
	}
	nwriters = left;
	if (left > 0)
		return STEP_WAIT;

	nwriters = -1;
	if (work->pass_done == 0 && work->pass_busy == 0 && work->pass_failed > 0)
	{
		fail(work, psprintf(ngettext("%lld value could not be re-encrypted; %s",
									 "%lld values could not be re-encrypted, the last one: %s",
									 (unsigned long) work->pass_failed),
							(long long) work->pass_failed, work->error != NULL ? work->error : ""));
		return STEP_BATCH;
	}
	(void) update_work(work, work->pass_busy > 0 ? "phase = 'converting', position_table = NULL" : "phase = 'proving'",
					   0, NULL, NULL);
	return work->pass_busy > 0 && work->pass_done == 0 ? STEP_VAIN : STEP_BATCH;
}

/* Look at every value through one snapshot, in a transaction of its own. */
static Step
prove(Work *work)
{
	Oid			types[] = {UUIDOID, UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&work->active.field), UUIDPGetDatum(&work->active.search)};
	SqlScope	scope;
	Snapshot	snapshot;
	List	   *leaves;
	ListCell   *cell;
	int64		left = 0;
	bool		proved;

	scope = begin_transaction(LOCK_TIMEOUT_MS);
	leaves = reencrypt_leaves(&work->column);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(snapshot);
	foreach(cell, leaves)
		left += reencrypt_count_left(&work->column, &work->active, lfirst_oid(cell), snapshot, step_aside);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);

	reencrypt_active_keys(&work->keys);
	proved = left == 0 && same_keys(&work->keys, &work->active);
	if (proved)
	{
		(void) update_work(work, "state = 'finished', finished_at = clock_timestamp(), error = NULL, field_key_id = $2,"
						   " search_key_id = nullif($3, '00000000-0000-0000-0000-000000000000'::uuid)",
						   lengthof(types), types, values);
		ForceSyncCommit();
	}
	else
		(void) update_work(work, "phase = 'converting', position_table = NULL", 0, NULL, NULL);
	end_transaction(&scope);
	return proved || work->pass_done > 0 ? STEP_BATCH : STEP_VAIN;
}

/* One transaction, or two. */
static Step
run_step(MemoryContext context)
{
	Step		result = STEP_NOTHING;
	SqlScope	scope;
	Work	   *work;
	bool		is_proof = false;

	StartTransactionCommand();
	if (!OidIsValid(sql_extension()))
	{
		CommitTransactionCommand();
		return STEP_NOTHING;
	}
	CommitTransactionCommand();
	scope = begin_transaction(LOCK_TIMEOUT_MS);
	work = load_work(context);
	if (work != NULL)
	{
		const char *obstacle = find_obstacle(&work->column);

		pgstat_report_activity(STATE_RUNNING, psprintf("%s %s.%s", work->phase, work->table_name, work->column.name));
		if (obstacle != NULL)
		{
			fail(work, obstacle);
			result = STEP_BATCH;
		}
		else
		{
			reencrypt_active_keys(&work->active);
			if (strcmp(work->phase, "converting") == 0)
				result = convert(work);
			else if (strcmp(work->phase, "waiting") == 0)
				result = wait_for_writers(work);
			else
				is_proof = true;
		}
	}
	end_transaction(&scope);
	MemoryContextSwitchTo(context);
	return is_proof ? prove(work) : result;
}

/* Note an error for those who look; one that happens here is no worse than the first. */
static void
record_error(const char *message)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(message)};

	PG_TRY();
	{
		SqlScope	scope = begin_transaction(LOCK_TIMEOUT_MS);

		(void) sql_query("UPDATE sentient_edge.reencryptions SET error = $1"
						 " WHERE state = 'running' AND error IS DISTINCT FROM $1", 1, types, values);
		end_transaction(&scope);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

/*
 * The same, and an error ends here: the batch is tried once more with care, then
 * again after a growing pause.
 */
static Step
try_step(MemoryContext context)
{
	static char *last_error = NULL; /* in TopMemoryContext */
	Step		volatile result = STEP_VAIN;

	PG_TRY();
	{
		result = run_step(context);
		carefully = false;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (carefully && (last_error == NULL || strcmp(last_error, error->message) != 0))
		{
			EmitErrorReport();
			if (last_error != NULL)
				pfree(last_error);
			last_error = MemoryContextStrdup(TopMemoryContext, error->message);
		}
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
		MemoryContextSwitchTo(context);
		if (carefully)
			record_error(error->message);
		else
			result = STEP_BATCH;
		carefully = !carefully;
	}
	PG_END_TRY();
	return result;
}

/* Wait, but not when the database is wanted for somebody; a reload may have changed for how long. */
static void
pause_for(int64 ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);

	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		step_aside();
		if (left <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(left, 1000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			break;
	}
}

void
reencrypt_worker_main(Datum arg)
{
	MemoryContext context;
	bool		taken;

	worker_prepare();
	worker_connect(DatumGetObjectId(arg), "sentient_edge re-encryption");
	/* What a crash takes back of the batches is done again. */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	context = AllocSetContextCreate(TopMemoryContext, "sentient_edge re-encryption", ALLOCSET_DEFAULT_SIZES);

	StartTransactionCommand();
	taken = take_turn(true);
	CommitTransactionCommand();
	if (!taken)
		proc_exit(0);

	for (;;)
	{
		int64		pause_ms = reencrypt_delay;
		Step		result;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		result = try_step(context);
		if (result == STEP_NOTHING)
			proc_exit(0);
		if (result == STEP_WAIT)
			pause_ms = WAIT_MS;
		else if (result == STEP_VAIN)
			pause_ms = Min((int64) RETRY_MS << Min(vain++, 16), RETRY_MAX_MS);
		pgstat_report_stat(false);
		if (result != STEP_BATCH)
			pgstat_report_activity(STATE_IDLE, NULL);
		pause_for(pause_ms);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
