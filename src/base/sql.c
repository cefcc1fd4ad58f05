/*
 * sql.c
 *		SQL that the extension runs for itself: as its owner, with a search_path
 *		that nobody can plant an object in, in UTC.
 *
 * Whatever pg_partman's functions do to search_path is undone by sql_end, which
 * rolls the parameters of the scope back.  Takes no locks but the one of
 * sql_hold_extension.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "base/sql.h"
#include "errors.h"

static Oid	extension_owner(void);

SqlScope
sql_begin(int lock_timeout_ms)
{
	SqlScope	scope;
	Oid			owner = extension_owner();

	se_assert(IsTransactionState());

	SPI_connect();
	scope.nest_level = NewGUCNestLevel();
	GetUserIdAndSecContext(&scope.user, &scope.security);
	SetUserIdAndSecContext(owner, scope.security | SECURITY_LOCAL_USERID_CHANGE);
	sql_set_local("search_path", "pg_catalog, pg_temp");
	sql_set_local("timezone", "UTC");
	sql_set_local("datestyle", "ISO, YMD");
	sql_set_local("intervalstyle", "postgres");
	if (lock_timeout_ms > 0)
	{
		char		value[32];

		snprintf(value, sizeof(value), "%d", lock_timeout_ms);
		sql_set_local("lock_timeout", value);
	}
	return scope;
}

void
sql_end(SqlScope *scope)
{
	SetUserIdAndSecContext(scope->user, scope->security);
	AtEOXact_GUC(false, scope->nest_level);
	SPI_finish();
}

uint64
sql_query(const char *query, int nargs, Oid *types, Datum *values)
{
	int			result = SPI_execute_with_args(query, nargs, types, values, NULL, false, 0);

	if (result < 0)
		elog(ERROR, "SPI returned %d for: %s", result, query);
	return SPI_processed;
}

uint64
sql_read(const char *query)
{
	int			result = SPI_execute(query, true, 0);

	if (result < 0)
		elog(ERROR, "SPI returned %d for: %s", result, query);
	return SPI_processed;
}

Datum
sql_array(Datum *values, bool *nulls, int n, Oid element_type)
{
	int			dims[1] = {n};
	int			lower[1] = {1};
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(element_type, &length, &by_value, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, element_type,
											  length, by_value, align));
}

Datum
sql_value(uint64 row, int column, bool *isnull)
{
	se_assert(row < SPI_processed);
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column + 1, isnull);
}

void
sql_refuse_nulls(FunctionCallInfo fcinfo, const char *function)
{
	for (int i = 0; i < PG_NARGS(); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("no argument of %s may be null", function)));
	}
}

char *
sql_string(uint64 row, int column)
{
	se_assert(row < SPI_processed);
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column + 1);
}

void
sql_set_local(const char *parameter, const char *value)
{
	(void) set_config_option(parameter, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

ErrorData *
sql_attempt(void (*work) (void *arg), void *arg, MemoryContext error_context)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(error_context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

void
sql_commit_locally(void)
{
	if (synchronous_commit > SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		(void) set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

Oid
sql_extension(void)
{
	return get_extension_oid("sentient_edge", true);
}

bool
sql_hold_extension(void)
{
	Oid			extension = sql_extension();
	LOCKTAG		tag;

	if (!OidIsValid(extension))
		return false;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
	return LockAcquire(&tag, AccessShareLock, false, true) != LOCKACQUIRE_NOT_AVAIL &&
		sql_extension() == extension;
}

/* Who owns the extension. */
static Oid
extension_owner(void)
{
	Oid			owner = InvalidOid;
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("sentient_edge"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	/* Without it its schemas are anybody's. */
	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"sentient_edge\" is not installed in this database")));
	return owner;
}
