/*
 * events_access.c
 *		Security events of queries: bulk reads of watched tables, and what
 *		superusers do to the extension's own tables and to catalogs, seen by executor
 *		hooks in a preloaded server.
 *
 * A query on a watched table has the rows of its scans counted by the executor's
 * own instrumentation.  They are looked at whenever the executor returns, also
 * with an error: a cursor that is read and rolled back never comes to an end.
 * Other queries pay a few comparisons.  Events go through shared memory.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_namespace.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "events/events_hooks.h"
#include "events/events_watch.h"

#define WRITES			(ACL_INSERT | ACL_UPDATE | ACL_DELETE)

/* Watched tables of one query that are told apart. */
#define MAX_TABLES		8

typedef struct ReadTable
{
	WatchedTable watched;
	double		rows;			/* read so far */
	double		reported;
} ReadTable;

/* A running query on watched tables; lives in the query's own memory. */
typedef struct WatchedQuery
{
	dlist_node	node;
	QueryDesc  *query;
	int			ntables;
	ReadTable	tables[MAX_TABLES];
} WatchedQuery;

static dlist_head watched_queries = DLIST_STATIC_INIT(watched_queries);

static ExecutorStart_hook_type previous_start = NULL;
static ExecutorRun_hook_type previous_run = NULL;

static void hook_start(QueryDesc *query, int flags);
static void hook_run(COMPAT_EXECUTOR_RUN_ARGS);
static bool reads_watched(const QueryDesc *query);
static void watch_query(QueryDesc *query);
static void report_reads(WatchedQuery *watched, bool succeeded);
static void note_superuser(const QueryDesc *query);

void
events_access_init(void)
{
	previous_start = ExecutorStart_hook;
	ExecutorStart_hook = hook_start;
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = hook_run;
}

static const char *
query_command(const QueryDesc *query)
{
	return GetCommandTagName(CreateCommandTag((Node *) query->plannedstmt));
}

static void
hook_start(QueryDesc *query, int flags)
{
	bool		explain = (flags & EXEC_FLAG_EXPLAIN_ONLY) != 0;
	bool		look = events_session_watched();
	bool		watched = false;

	if (look)
	{
		(void) watch_list_load();
		events_session_look();
		watched = !explain && !watch_list_empty() && reads_watched(query);
		if (watched)
			query->instrument_options |= INSTRUMENT_ROWS;
	}

	PG_TRY();
	{
		if (previous_start)
			previous_start(query, flags);
		else
			standard_ExecutorStart(query, flags);
	}
	PG_CATCH();
	{
		if (look)
			(void) events_error_caught(query_command(query));
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (watched)
		watch_query(query);
	if (look && !explain && events_superuser_acts())
		note_superuser(query);
}

static WatchedQuery *
find_query(const QueryDesc *query)
{
	dlist_iter	iterator;

	dlist_foreach(iterator, &watched_queries)
	{
		WatchedQuery *watched = dlist_container(WatchedQuery, node, iterator.cur);

		if (watched->query == query)
			return watched;
	}
	return NULL;
}

static void
hook_run(COMPAT_EXECUTOR_RUN_ARGS)
{
	WatchedQuery *watched;

	if (!events_session_watched())
	{
		if (previous_run)
			compat_executor_run(previous_run);
		else
			compat_executor_run(standard_ExecutorRun);
		return;
	}

	watched = dlist_is_empty(&watched_queries) ? NULL : find_query(query);
	PG_TRY();
	{
		if (previous_run)
			compat_executor_run(previous_run);
		else
			compat_executor_run(standard_ExecutorRun);
	}
	PG_CATCH();
	{
		if (watched != NULL)
			report_reads(watched, false);
		(void) events_error_caught(query_command(query));
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (watched != NULL)
		report_reads(watched, true);
}

/* ---- watched tables ---- */

static bool
reads_watched(const QueryDesc *query)
{
	ListCell   *cell;

	foreach(cell, query->plannedstmt->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_RELATION && watch_list_find(entry->relid) != NULL)
			return true;
	}
	return false;
}

static void
forget_query(void *arg)
{
	dlist_delete(&((WatchedQuery *) arg)->node);
}

static void
watch_query(QueryDesc *query)
{
	MemoryContext context = query->estate->es_query_cxt;
	WatchedQuery *watched = MemoryContextAllocZero(context, sizeof(WatchedQuery));
	MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
	ListCell   *cell;

	watched->query = query;
	foreach(cell, query->plannedstmt->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);
		const WatchedTable *table = entry->rtekind == RTE_RELATION ? watch_list_find(entry->relid) : NULL;
		bool		known = false;

		for (int i = 0; i < watched->ntables; i++)
			known = known || (table != NULL && watched->tables[i].watched.table == table->table);
		if (table != NULL && !known && watched->ntables < MAX_TABLES)
			watched->tables[watched->ntables++].watched = *table;
	}
	dlist_push_head(&watched_queries, &watched->node);
	callback->func = forget_query;
	callback->arg = watched;
	MemoryContextRegisterResetCallback(context, callback);
}

/* Add up what the scans have given so far. */
static bool
count_rows(PlanState *state, void *arg)
{
	WatchedQuery *watched = arg;

	if (state == NULL)
		return false;
	switch (nodeTag(state->plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
			if (state->instrument != NULL)
			{
				Index		relation = ((Scan *) state->plan)->scanrelid;
				const WatchedTable *table = watch_list_find(exec_rt_fetch(relation, state->state)->relid);

				/* The list may have changed since the query began; then it is as it was. */
				for (int i = 0; table != NULL && i < watched->ntables; i++)
				{
					if (watched->tables[i].watched.table == table->table)
						watched->tables[i].rows += state->instrument->ntuples + state->instrument->tuplecount;
				}
			}
			break;
		default:
			break;
	}
	return planstate_tree_walker(state, count_rows, arg);
}

static void
report_reads(WatchedQuery *watched, bool succeeded)
{
	for (int i = 0; i < watched->ntables; i++)
		watched->tables[i].rows = 0;
	(void) count_rows(watched->query->planstate, watched);

	for (int i = 0; i < watched->ntables; i++)
	{
		ReadTable  *table = &watched->tables[i];
		SecurityEvent event;

		if (table->rows < (double) table->watched.rows_threshold || table->rows <= table->reported)
			continue;
		security_event_begin(&event, EVENT_BULK_READ, succeeded ? EVENT_SUCCEEDED : EVENT_FAILED);
		security_event_object(&event, table->watched.name);
		security_event_detail(&event, "command", query_command(watched->query));
		event.amount = (int64) (table->rows - table->reported);
		(void) security_event_queue(&event);
		table->reported = table->rows;
	}
}

/* ---- superusers ---- */

static const char *
action_of(AclMode privileges)
{
	if (privileges & ACL_INSERT)
		return "insert";
	if (privileges & ACL_UPDATE)
		return "update";
	if (privileges & ACL_DELETE)
		return "delete";
	return "select";
}

/* A superuser's access of a moment ago: while it repeats, it is counted here. */
typedef struct RecentAccess
{
	Oid			relid;
	Oid			role;
	const char *action;
	int64		more;			/* since the event was queued */
	SecurityEvent event;
} RecentAccess;

#define RECENT_ACCESSES		16
/* So long, in microseconds. */
#define RECENT_US			USECS_PER_SEC

static RecentAccess *recent = NULL;

static void
queue_recent(RecentAccess *access, int64 count)
{
	access->event.first_at = access->event.last_at;
	access->event.last_at = GetCurrentStatementStartTimestamp();
	access->event.count = count;
	access->more = 0;
	(void) security_event_queue(&access->event);
}

/* The session ends: what was counted here goes to the others. */
static void
flush_recent(int code, Datum arg)
{
	for (int i = 0; i < RECENT_ACCESSES; i++)
	{
		if (recent[i].more > 0)
			queue_recent(&recent[i], recent[i].more);
	}
}

/*
 * Is it an event that a superuser reads or writes the table?  Writing to a catalog is
 * DDL that no event trigger is told of; shared ones are every database's.
 */
static bool
is_told(Oid relid, bool writes)
{
	Oid			namespace = get_rel_namespace(relid);

	if (writes && namespace == PG_CATALOG_NAMESPACE)
		return watch_list_extension_seen() || IsSharedRelation(relid);
	return watch_list_own_schema(namespace);
}

bool
events_superuser_begin(SecurityEvent *event, Oid relid, bool writes)
{
	Oid			namespace = get_rel_namespace(relid);

	if (!is_told(relid, writes))
		return false;
	security_event_begin(event, EVENT_SUPERUSER, EVENT_SUCCEEDED);
	if (!writes)
		security_event_severity(event, SEVERITY_INFO);
	else if (namespace == PG_CATALOG_NAMESPACE)
		security_event_severity(event, SEVERITY_WARNING);
	security_event_object(event, quote_qualified_identifier(get_namespace_name(namespace), get_rel_name(relid)));
	if (!watch_list_extension_seen())
		memset(event->key.database, 0, sizeof(event->key.database));
	return true;
}

static void
note_access(Oid relid, AclMode privileges)
{
	const char *action = action_of(privileges);
	Oid			role = GetOuterUserId();
	RecentAccess *access;

	if (recent == NULL)
	{
		recent = MemoryContextAllocZero(TopMemoryContext, RECENT_ACCESSES * sizeof(RecentAccess));
		before_shmem_exit(flush_recent, (Datum) 0);
	}
	access = &recent[relid % RECENT_ACCESSES];
	if (access->relid == relid && access->role == role && access->action == action &&
		strncmp(access->event.key.application_name, application_name, NAMEDATALEN - 1) == 0)
	{
		if (GetCurrentStatementStartTimestamp() - access->event.last_at < RECENT_US)
			access->more++;
		else
			queue_recent(access, access->more + 1);
		return;
	}

	if (access->more > 0)
		queue_recent(access, access->more);
	access->relid = relid;
	access->role = role;
	access->action = action;
	(void) events_superuser_begin(&access->event, relid, (privileges & WRITES) != 0);
	security_event_message(&access->event, action);
	(void) security_event_queue(&access->event);
}

static void
note_superuser(const QueryDesc *query)
{
	ListCell   *cell;

	foreach(cell, compat_permissions(query->plannedstmt))
	{
		CompatPermission *table = lfirst_node(CompatPermission, cell);

		if (OidIsValid(table->relid) && table->requiredPerms != 0 && is_told(table->relid, (table->requiredPerms & WRITES) != 0))
			note_access(table->relid, table->requiredPerms);
	}
}
