/*
 * anchor_sink.c
 *		Where digests go: audit.anchor_sinks, and the worker that exports to them.
 *
 * Every sentient_edge.anchor_interval the scheduler starts a one-off worker, so
 * that a program or a foreign server that hangs delays nobody.  It makes one
 * digest if any sink has not seen the last block yet, and hands it to each of
 * them in a subtransaction: one that fails is counted and shown in audit.anchor_exports.
 * One session or worker at a time exports; it holds a heavyweight lock of its
 * own.  After a crash in the middle a sink may get the same block twice.
 *
 * Programs and directories are named by superusers only, for they are used with
 * the rights of the server; a table by whoever may insert into it, as its owner.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "audit/settled.h"
#include "base/sql.h"
#include "base/worker.h"
#include "compat.h"
#include "errors.h"
#include "ledger/anchor_send.h"
#include "ledger/anchor_sink.h"
#include "ledger/digest.h"
#include "ledger/ledger.h"

#define SINK_LOCK_SUBID			2	/* of audit.blocks; 1 is the chain's lock */

typedef struct Sink
{
	char	   *name;
	char	   *kind;
	char	  **target;			/* ends with NULL */
	int			ntarget;
	char	   *error;			/* of this export; NULL: it succeeded */
	int			sqlstate;
} Sink;

static int	anchor_interval = 600;
static int	anchor_timeout = 30000;

PG_FUNCTION_INFO_V1(audit_set_anchor_sink);
PG_FUNCTION_INFO_V1(audit_drop_anchor_sink);
PG_FUNCTION_INFO_V1(audit_export_digest);

pg_noreturn PGDLLEXPORT void anchor_worker_main(Datum arg);

static void sink_job_run(bool requested);

static const SchedulerJob sink_job = {"ledger anchors", &anchor_interval, sink_job_run};

void
anchor_sink_init(void)
{
	DefineCustomIntVariable("sentient_edge.anchor_interval",
							"Time between two exports of the ledger's digest.",
							"Nothing is exported where no sink is set, or no block was added.",
							&anchor_interval, 600, 1, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("sentient_edge.anchor_timeout",
							"How long a program may take to export a digest.",
							"It is killed after that, and the failure is shown in audit.anchor_exports.",
							&anchor_timeout, 30000, 100, 600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	(void) scheduler_add_job(&sink_job);
}

static bool
sink_lock(bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId,
					   get_relname_relid("blocks", get_namespace_oid("audit", false)), SINK_LOCK_SUBID);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

static Oid
table_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static char *
table_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* Insert the digest with the rights of the table's owner, and no others. */
static void
send_table(const char *name, const char *digest)
{
	Oid			relid = DatumGetObjectId(DirectFunctionCall1(regclassin, CStringGetDatum(name)));
	Oid			user;
	int			security;

	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(table_owner(relid),
						   security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	(void) sql_query(psprintf("INSERT INTO %s (digest) VALUES (%s)", table_name(relid), quote_literal_cstr(digest)), 0, NULL, NULL);
	SetUserIdAndSecContext(user, security);
}

static void
send_to(const Sink *sink, const char *digest, int64 block_number)
{
	if (strcmp(sink->kind, "file") == 0)
		anchor_send_file(sink->target[0],
						 psprintf("sentient_edge-" UINT64_FORMAT "-%u-%020lld-%lld.json",
								  GetSystemIdentifier(), MyDatabaseId, (long long) block_number,
								  (long long) GetCurrentTimestamp()),
						 digest);
	else if (strcmp(sink->kind, "table") == 0)
		send_table(sink->target[0], digest);
	else
		anchor_send_command(sink->target, anchor_timeout, digest);
}

/* A digest on its way to one sink. */
typedef struct Delivery
{
	Sink	   *sink;
	const char *digest;
	int64		block_number;
} Delivery;

static void
deliver(void *arg)
{
	Delivery   *delivery = arg;

	send_to(delivery->sink, delivery->digest, delivery->block_number);
}

/* Hand the digest to one sink; an error ends here, in the sink. */
static void
try_sink(Sink *sink, const char *digest, int64 block_number)
{
	Delivery	delivery = {sink, digest, block_number};
	ErrorData  *error = sql_attempt(deliver, &delivery, CurrentMemoryContext);

	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		ReThrowError(error);
	sink->error = error->message;
	sink->sqlstate = error->sqlerrcode;
}

static void
record(const Sink *sink, int64 block_number)
{
	Oid			types[3] = {TEXTOID, INT8OID, TEXTOID};
	Datum		values[3] = {CStringGetTextDatum(sink->name), Int64GetDatum(block_number),
	CStringGetTextDatum(sink->error != NULL ? sink->error : "")};

	(void) sql_query("INSERT INTO audit.anchor_exports AS e (sink_name) VALUES ($1) ON CONFLICT DO NOTHING", 1, types, values);
	(void) sql_query(sink->error == NULL ?
					 "UPDATE audit.anchor_exports SET last_block_number = $2, last_success_at = clock_timestamp(), exports = exports + 1"
					 " WHERE sink_name = $1 AND $3 = ''" :
					 "UPDATE audit.anchor_exports SET failures = failures + 1, last_error = $3, last_error_at = clock_timestamp()"
					 " WHERE sink_name = $1 AND $2 >= 0", 3, types, values);
}

/* The sinks that have not seen the last block, or all. */
static Sink *
sinks_behind(bool all, int *nsinks)
{
	uint64		n = sql_query(all ? "SELECT sink_name, kind, target FROM audit.anchor_sinks ORDER BY sink_name" :
							  "SELECT sink_name, kind, target FROM audit.anchor_sinks LEFT JOIN audit.anchor_exports USING (sink_name)"
							  " WHERE last_block_number IS DISTINCT FROM (SELECT max(block_number) FROM audit.blocks) ORDER BY sink_name",
							  0, NULL, NULL);
	Sink	   *sinks = palloc0(sizeof(Sink) * (n + 1));

	for (uint64 row = 0; row < n; row++)
	{
		bool		isnull;
		Datum	   *words;
		int			nwords;

		sinks[row].name = sql_string(row, 0);
		sinks[row].kind = sql_string(row, 1);
		deconstruct_array(DatumGetArrayTypeP(sql_value(row, 2, &isnull)), TEXTOID, -1, false, TYPALIGN_INT, &words, NULL, &nwords);
		sinks[row].target = palloc0(sizeof(char *) * (nwords + 1));
		sinks[row].ntarget = nwords;
		for (int i = 0; i < nwords; i++)
			sinks[row].target[i] = TextDatumGetCString(words[i]);
	}
	*nsinks = (int) n;
	return sinks;
}

/* Make a digest and hand it to the sinks; inside a sql_begin scope, the lock is held. */
static Sink *
export_digest(bool all, int *nsinks)
{
	Sink	   *sinks = sinks_behind(all, nsinks);
	int64		block_number;
	char	   *digest;

	if (*nsinks == 0)
		return sinks;
	digest = digest_make("exported", &block_number);
	if (digest == NULL)
	{
		*nsinks = 0;
		return sinks;
	}
	for (int i = 0; i < *nsinks; i++)
	{
		try_sink(&sinks[i], digest, block_number);
		record(&sinks[i], block_number);
	}
	return sinks;
}

/* audit.export_digest(): to every sink, now. */
Datum
audit_export_digest(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SqlScope	scope;
	Sink	   *sinks;
	int			nsinks;

	PreventCommandIfReadOnly("audit.export_digest()");
	PreventCommandDuringRecovery("audit.export_digest()");
	InitMaterializedSRF(fcinfo, 0);
	scope = sql_begin(0);
	(void) sink_lock(true);
	sinks = export_digest(true, &nsinks);
	for (int i = 0; i < nsinks; i++)
	{
		Datum		values[3] = {CStringGetTextDatum(sinks[i].name), BoolGetDatum(sinks[i].error == NULL),
		sinks[i].error != NULL ? CStringGetTextDatum(sinks[i].error) : (Datum) 0};
		bool		nulls[3] = {false, false, sinks[i].error == NULL};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	sql_end(&scope);
	return (Datum) 0;
}

/* The scheduler's turn: leave it to a worker, if there is anything to do. */
static void
sink_job_run(bool requested)
{
	BackgroundWorker worker;
	int			nsinks = 0;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (sql_hold_extension())
	{
		SqlScope	scope = sql_begin(0);

		(void) sinks_behind(false, &nsinks);
		sql_end(&scope);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (nsinks == 0)
		return;
	worker_describe(&worker, "anchor_worker_main", "sentient_edge ledger anchors");
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no worker is left to export the ledger's digest"),
				 errhint("Increase max_worker_processes.")));
}

void
anchor_worker_main(Datum arg)
{
	worker_prepare();
	worker_connect(DatumGetObjectId(arg), "sentient_edge ledger anchors");
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (sql_hold_extension())
	{
		SqlScope	scope = sql_begin(0);
		int			nsinks = 0;
		Sink	   *sinks = NULL;

		if (sink_lock(false) && !audit_is_restoring())
			sinks = export_digest(false, &nsinks);
		for (int i = 0; i < nsinks; i++)
		{
			if (sinks[i].error != NULL)
				ereport(WARNING,
						(errcode(sinks[i].sqlstate),
						 errmsg("could not export a digest of the ledger to sink \"%s\": %s", sinks[i].name, sinks[i].error)));
		}
		sql_end(&scope);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}

/* Is the target what a sink of this kind takes, and may the user name it?  Returns it as it is stored. */
static Datum
check_target(const char *kind, ArrayType *target)
{
	Datum	   *words;
	bool	   *nulls;
	int			nwords;
	char	   *first;
	Oid			relid;
	Datum		name[1];

	deconstruct_array(target, TEXTOID, -1, false, TYPALIGN_INT, &words, &nulls, &nwords);
	for (int i = 0; i < nwords; i++)
	{
		if (nulls[i])
			nwords = 0;
	}
	if (nwords == 0 || ARR_NDIM(target) != 1 || (nwords > 1 && strcmp(kind, "command") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the target of a sink is a directory, a table, or a program and its arguments")));
	first = TextDatumGetCString(words[0]);
	if (strcmp(kind, "table") != 0)
	{
		if (!superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("only superusers can export digests to a directory or a program"),
					 errdetail("They are used with the rights of the server.")));
		if (first[0] != '/')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the path \"%s\" is not absolute", first)));
		return PointerGetDatum(target);
	}
	relid = DatumGetObjectId(DirectFunctionCall1(regclassin, CStringGetDatum(first)));
	if (pg_class_aclcheck(relid, GetUserId(), ACL_INSERT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(relid));
	if (get_attnum(relid, "digest") == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table %s has no column \"digest\"", table_name(relid)),
				 errhint("It takes the digest, as jsonb, json or text; the other columns need defaults.")));
	name[0] = CStringGetTextDatum(table_name(relid));
	return sql_array(name, NULL, 1, TEXTOID);
}

/* A sink that a superuser set is changed by superusers only. */
static void
check_may_change(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};
	bool		forbidden;
	SqlScope	scope = sql_begin(0);

	forbidden = sql_query("SELECT FROM audit.anchor_sinks WHERE sink_name = $1 AND kind <> 'table'", 1, types, values) > 0;
	sql_end(&scope);
	if (forbidden && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only superusers can change sink \"%s\"", name)));
}

/* audit.set_anchor_sink(sink_name, kind, target) */
Datum
audit_set_anchor_sink(PG_FUNCTION_ARGS)
{
	char	   *name;
	char	   *kind;
	Oid			types[4] = {TEXTOID, TEXTOID, TEXTARRAYOID, NAMEOID};
	Datum		values[4];
	NameData	role;
	SqlScope	scope;

	sql_refuse_nulls(fcinfo, "audit.set_anchor_sink");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	kind = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (strcmp(kind, "file") != 0 && strcmp(kind, "table") != 0 && strcmp(kind, "command") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no kind of sink \"%s\"", kind),
				 errhint("Use file, table or command.")));
	check_may_change(name);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = check_target(kind, PG_GETARG_ARRAYTYPE_P(2));
	namestrcpy(&role, GetUserNameFromId(GetUserId(), false));
	values[3] = NameGetDatum(&role);
	scope = sql_begin(0);
	(void) sql_query("INSERT INTO audit.anchor_sinks (sink_name, kind, target, set_by) VALUES ($1, $2, $3, $4)"
					 " ON CONFLICT (sink_name) DO UPDATE SET kind = EXCLUDED.kind, target = EXCLUDED.target, set_by = EXCLUDED.set_by,"
					 " set_at = clock_timestamp()", 4, types, values);
	(void) sql_query("UPDATE audit.anchor_exports SET last_block_number = NULL WHERE sink_name = $1", 1, types, values);
	sql_end(&scope);
	PG_RETURN_VOID();
}

/* audit.drop_anchor_sink(sink_name): whether there was one */
Datum
audit_drop_anchor_sink(PG_FUNCTION_ARGS)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	SqlScope	scope;
	bool		found;

	sql_refuse_nulls(fcinfo, "audit.drop_anchor_sink");
	values[0] = PG_GETARG_DATUM(0);
	check_may_change(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	scope = sql_begin(0);
	(void) sql_query("DELETE FROM audit.anchor_exports WHERE sink_name = $1", 1, types, values);
	found = sql_query("DELETE FROM audit.anchor_sinks WHERE sink_name = $1", 1, types, values) > 0;
	sql_end(&scope);
	PG_RETURN_BOOL(found);
}
