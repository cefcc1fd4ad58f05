/*
 * capture.c
 *		Changes on their way to audit.log: collected row by row, written together
 *		when their statement ends.
 *
 * The row trigger (row_trigger.c) and what tells of TRUNCATE and DROP add entries
 * here.  They are written
 *
 * - when LOG_BATCH of them, or much memory, has come together;
 * - when the query whose triggers added them ends: an ExecutorEnd hook, and one of
 *   ProcessUtility for COPY.  A query that a trigger runs meanwhile, such as the
 *   look-up of a foreign key, ends deeper in triggers and lets them collect;
 * - at the latest before the subtransaction or transaction commits, which is all
 *   that changes by a replication worker need, and covers a session that has
 *   loaded the library within the statement.
 *
 * Each subtransaction has a batch of its own: what it has added is written before
 * it commits, and forgotten when it is rolled back.  Nothing is kept in shared
 * memory, and nothing outlives the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "capture/capture.h"
#include "capture/horizon.h"
#include "capture/index_job.h"
#include "capture/log_write.h"
#include "capture/targets.h"
#include "errors.h"

/* Memory for rows at which a batch is written. */
#define BATCH_BYTES				(4 * 1024 * 1024)

typedef struct Batch
{
	struct Batch *outer;		/* of an enclosing subtransaction */
	int			nest_level;
	int			depth;			/* of triggers; a query that ends above has had all of its own */
	MemoryContext context;		/* what the entries point to */
	size_t		bytes;
	int			n;
	int			room;
	LogEntry   *entries;
} Batch;

static Batch *batches = NULL;	/* the innermost first; in TopTransactionContext */
static ExecutorEnd_hook_type previous_executor_end = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

static void write_batch(void);
static void write_if_ended(void);
static void hook_executor_end(QueryDesc *query);
static void hook_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
						 ProcessUtilityContext context, ParamListInfo params,
						 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion);
static void at_transaction(XactEvent event, void *arg);
static void at_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg);

void
capture_init(void)
{
	log_write_init();
	targets_init();
	horizon_init();
	index_job_init();
	previous_executor_end = ExecutorEnd_hook;
	ExecutorEnd_hook = hook_executor_end;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = hook_utility;
	RegisterXactCallback(at_transaction, NULL);
	RegisterSubXactCallback(at_subtransaction, NULL);
}

/* How many triggers the session is inside of. */
static int
trigger_depth(void)
{
	return DatumGetInt32(pg_trigger_depth(NULL));
}

/* The batch of the current subtransaction. */
static Batch *
current_batch(void)
{
	int			nest_level = GetCurrentTransactionNestLevel();

	if (batches == NULL || batches->nest_level < nest_level)
	{
		MemoryContext context = AllocSetContextCreate(TopTransactionContext, "audit entries", ALLOCSET_DEFAULT_SIZES);
		Batch	   *batch = MemoryContextAlloc(TopTransactionContext, sizeof(Batch));

		batch->outer = batches;
		batch->nest_level = nest_level;
		batch->context = context;
		batch->bytes = 0;
		batch->n = 0;
		batch->room = 8;
		batch->entries = MemoryContextAlloc(TopTransactionContext, sizeof(LogEntry) * batch->room);
		batches = batch;
	}
	se_assert(batches->nest_level == nest_level);
	return batches;
}

static Jsonb *
keep_jsonb(Batch *batch, const Jsonb *jsonb)
{
	Jsonb	   *copy;

	if (jsonb == NULL)
		return NULL;
	copy = MemoryContextAllocHuge(batch->context, VARSIZE(jsonb));
	memcpy(copy, jsonb, VARSIZE(jsonb));
	batch->bytes += VARSIZE(jsonb);
	return copy;
}

/* Rows of one table follow each other. */
static const char *
keep_name(Batch *batch, const char *name, const char *last)
{
	return last != NULL && strcmp(name, last) == 0 ? last : MemoryContextStrdup(batch->context, name);
}

void
capture_add(char operation, const char *schema_name, const char *table_name,
			const Jsonb *row_key, const Jsonb *old_values, const Jsonb *new_values)
{
	Batch	   *batch = current_batch();
	int			depth = Max(trigger_depth(), 1);	/* an event trigger counts as one */
	LogEntry   *last;
	LogEntry   *entry;

	/* Making a key may change audited tables, which comes here: not while a batch is half full, or written. */
	if (batch->n == 0)
	{
		log_prepare();
		batch = current_batch();
	}

	if (batch->n == batch->room)
	{
		batch->entries = repalloc(batch->entries, sizeof(LogEntry) * batch->room * 2);
		batch->room *= 2;
	}
	last = batch->n > 0 ? &batch->entries[batch->n - 1] : NULL;
	entry = &batch->entries[batch->n];
	entry->operation = operation;
	entry->occurred_at = GetCurrentTimestamp();
	entry->statement_at = GetCurrentStatementStartTimestamp();
	entry->query_id = (int64) pgstat_get_my_query_id();
	entry->role = GetUserId();
	entry->session_role = GetSessionUserId();
	entry->schema_name = keep_name(batch, schema_name, last ? last->schema_name : NULL);
	entry->table_name = keep_name(batch, table_name, last ? last->table_name : NULL);
	entry->row_key = keep_jsonb(batch, row_key);
	entry->old_values = keep_jsonb(batch, old_values);
	entry->new_values = keep_jsonb(batch, new_values);
	batch->depth = batch->n == 0 ? depth : Min(batch->depth, depth);
	batch->n++;
	if (batch->n == LOG_BATCH || batch->bytes > BATCH_BYTES)
		write_batch();
}

/* Write what the current subtransaction has collected. */
static void
write_batch(void)
{
	Batch	   *batch = batches;

	log_write(batch->entries, batch->n);
	horizon_note(batch->entries, batch->n);
	batch->n = 0;
	batch->bytes = 0;
	MemoryContextReset(batch->context);
}

/* A query or a command has ended: write what its triggers have added. */
static void
write_if_ended(void)
{
	if (batches != NULL && batches->n > 0 && IsTransactionState() &&
		batches->nest_level == GetCurrentTransactionNestLevel() && trigger_depth() < batches->depth)
		write_batch();
}

static void
hook_executor_end(QueryDesc *query)
{
	if (previous_executor_end)
		previous_executor_end(query);
	else
		standard_ExecutorEnd(query);
	write_if_ended();
}

static void
hook_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (previous_utility)
		previous_utility(planned, query, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context, params, environment, dest, completion);
	write_if_ended();
}

static void
at_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (batches != NULL && batches->n > 0)
				write_batch();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			batches = NULL;
			break;
		default:
			break;
	}
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	Batch	   *batch = batches;

	if (batch == NULL || batch->nest_level < GetCurrentTransactionNestLevel())
		return;
	switch (event)
	{
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			if (batch->n > 0)
				write_batch();
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
		case SUBXACT_EVENT_ABORT_SUB:
			batches = batch->outer;
			MemoryContextDelete(batch->context);
			pfree(batch->entries);
			pfree(batch);
			break;
		default:
			break;
	}
}
