/*
 * database_hook.c
 *		Statements about databases and the extension that the workers must know
 *		of, seen by a ProcessUtility hook in a preloaded server.
 *
 * DROP DATABASE, ALTER DATABASE RENAME or SET TABLESPACE and CREATE DATABASE
 * with a template need the database to themselves: its workers are ended
 * before, if the user may do what is asked, and kept away until the statement
 * has ended in whatever way.  CREATE and DROP EXTENSION wake the launcher and
 * the scheduler once they have committed.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/database_hook.h"
#include "base/launcher.h"
#include "base/registry.h"
#include "compat.h"

/* How long to wait for a scheduler to end; PostgreSQL itself waits 5 s more. */
#define STEP_ASIDE_MS		5000

static ProcessUtility_hook_type previous_utility = NULL;
static bool extension_touched = false;	/* by this transaction */

static void hook_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
						 ProcessUtilityContext context, ParamListInfo params,
						 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion);
static void hook_transaction(XactEvent event, void *arg);
static void run_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
						ProcessUtilityContext context, ParamListInfo params,
						QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion);
static Oid	database_wanted(Node *statement);
static void scheduler_step_aside(Oid database);
static void scheduler_come_back(int code, Datum arg);

void
database_hook_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = hook_utility;
	RegisterXactCallback(hook_transaction, NULL);
}

static void
hook_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *statement = planned->utilityStmt;
	volatile Oid database = InvalidOid;

	/* The statement may be gone once it has run: whatever is asked of it is asked now. */
	if (registry != NULL)
	{
		if (IsA(statement, CreateExtensionStmt) || IsA(statement, CreatedbStmt) ||
			(IsA(statement, DropStmt) && castNode(DropStmt, statement)->removeType == OBJECT_EXTENSION))
			extension_touched = true;
		database = database_wanted(statement);
	}

	if (!OidIsValid(database))
	{
		run_utility(planned, query, read_only_tree, context, params, environment, dest, completion);
		return;
	}

	/* Also when this session is terminated meanwhile. */
	PG_ENSURE_ERROR_CLEANUP(scheduler_come_back, ObjectIdGetDatum(database));
	{
		scheduler_step_aside(database);
		run_utility(planned, query, read_only_tree, context, params, environment, dest, completion);
	}
	PG_END_ENSURE_ERROR_CLEANUP(scheduler_come_back, ObjectIdGetDatum(database));
	scheduler_come_back(0, ObjectIdGetDatum(database));
}

static void
run_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (previous_utility)
		previous_utility(planned, query, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context, params, environment, dest, completion);
}

static void
hook_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && extension_touched)
		launcher_examine(MyDatabaseId);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		extension_touched = false;
}

/* Core's have_createdb_privilege, which only recent minor releases export. */
static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		allowed = superuser();

	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		allowed = allowed || ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return allowed;
}

/* May the user do this to the database?  As the statement itself will check. */
static bool
database_allowed(Oid database, bool as_template)
{
	if (compat_database_ownercheck(database, GetUserId()))
		return true;
	if (as_template)
	{
		HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
		bool		allowed = HeapTupleIsValid(tuple) && may_create_databases() &&
			((Form_pg_database) GETSTRUCT(tuple))->datistemplate;

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		return allowed;
	}
	return false;
}

/* The database that the statement needs without connections, if the user may run it. */
static Oid
database_wanted(Node *statement)
{
	const char *name = NULL;
	bool		as_template = false;
	Oid			database;
	ListCell   *cell;

	if (IsA(statement, DropdbStmt))
		name = castNode(DropdbStmt, statement)->dbname;
	else if (IsA(statement, RenameStmt) && castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
		name = castNode(RenameStmt, statement)->subname;
	else if (IsA(statement, AlterDatabaseStmt))
	{
		foreach(cell, castNode(AlterDatabaseStmt, statement)->options)
		{
			if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
				name = castNode(AlterDatabaseStmt, statement)->dbname;
		}
	}
	else if (IsA(statement, CreatedbStmt))
	{
		foreach(cell, castNode(CreatedbStmt, statement)->options)
		{
			DefElem    *option = lfirst_node(DefElem, cell);

			if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			{
				name = defGetString(option);
				as_template = true;
			}
		}
	}
	if (name == NULL)
		return InvalidOid;
	database = get_database_oid(name, true);
	if (!OidIsValid(database) || database == MyDatabaseId || !database_allowed(database, as_template))
		return InvalidOid;
	return database;
}

/* End the database's scheduler and keep it away. */
static void
scheduler_step_aside(Oid database)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STEP_ASIDE_MS);
	int			scheduler = 0;
	int			writer = 0;

	/* A worker that is only starting sees the blocker when it attaches. */
	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	{
		DatabaseSlot *slot = registry_find(database);

		if (slot != NULL)
			slot->blocker = MyProcPid;
	}
	LWLockRelease(registry->lock);

	for (;;)
	{
		/*
		 * A worker takes its pid away, under the lock, before it ends: as long
		 * as the pid is there it is nobody else's.  It is ours to signal, for the
		 * user may have the whole database.
		 */
		LWLockAcquire(registry->lock, LW_SHARED);
		{
			DatabaseSlot *slot = registry_find(database);

			if (slot != NULL && slot->pid != 0)
			{
				scheduler = slot->pid;
				(void) kill(scheduler, SIGTERM);
			}
			if (slot != NULL && slot->writer != 0)
			{
				writer = slot->writer;
				(void) kill(writer, SIGTERM);
			}
		}
		LWLockRelease(registry->lock);

		if ((!registry_alive(scheduler, database) && !registry_alive(writer, database)) ||
			GetCurrentTimestamp() >= deadline)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Let the scheduler come back; also a callback of the session's end. */
static void
scheduler_come_back(int code, Datum arg)
{
	Oid			database = DatumGetObjectId(arg);

	LWLockAcquire(registry->lock, LW_EXCLUSIVE);
	{
		DatabaseSlot *slot = registry_find(database);

		if (slot != NULL && slot->blocker == MyProcPid)
		{
			slot->blocker = 0;
			slot->failures = 0;
		}
	}
	LWLockRelease(registry->lock);
	launcher_examine(database);
}
