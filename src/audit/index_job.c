/*
 * index_job.c
 *		The job "audit indexes" of the scheduler: keeps searches of audit.log cheap
 *		where entries come in faster than autovacuum comes by.
 *
 * Each second it does in the partitions of audit.log what a VACUUM would do to the
 * indexes there some day:
 *
 * - the pending list of log_row_idx, which searches read from end to end, is sorted
 *   into its tree;
 * - block ranges of log_ranges_idx that are full are summarized.  Any search reads
 *   those that are not, and sealing searches each second.  The range that is being
 *   filled is left alone: an entry would have to change its summary.
 *
 * Takes RowExclusiveLock on one index at a time, or ShareUpdateExclusiveLock on one
 * partition and its index, and waits for none of them: the scheduler's other jobs
 * would wait with it for whoever moves an old index to another tablespace.  A VACUUM
 * that has the lock does the same work, and would be cancelled if it were waited for.
 */
#include "postgres.h"

#include "access/brin.h"
#include "access/gin.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "audit/index_job.h"
#include "base/sql.h"
#include "base/worker.h"

static int	index_job_interval_s = 1;

static void index_job_run(bool requested);

static const SchedulerJob index_job = {"audit indexes", &index_job_interval_s, index_job_run};

void
index_job_init(void)
{
	(void) scheduler_add_job(&index_job);
}

/* Sort in what is in the pending list. */
static void
merge_pending(Oid relid)
{
	Relation	index;
	GinStatsData stats = {0};

	if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
		return;
	index = try_relation_open(relid, NoLock);
	if (index == NULL)
	{
		UnlockRelationOid(relid, RowExclusiveLock);
		return;					/* dropped meanwhile */
	}
	if (index->rd_rel->relkind == RELKIND_INDEX && index->rd_rel->relam == GIN_AM_OID)
		ginGetStats(index, &stats);
	if (stats.nPendingPages > 0)
		(void) DirectFunctionCall1(gin_clean_pending_list, ObjectIdGetDatum(relid));
	relation_close(index, RowExclusiveLock);
}

/*
 * How many ranges of the table behind a BRIN index are full?  Both are locked.  False:
 * it is none, or is gone.
 */
static bool
count_full_ranges(Oid relid, Oid table, BlockNumber *nfull, BlockNumber *pages)
{
	Relation	index = try_relation_open(relid, NoLock);
	bool		is_brin;

	if (index == NULL)
		return false;
	is_brin = index->rd_rel->relkind == RELKIND_INDEX && index->rd_rel->relam == BRIN_AM_OID;
	if (is_brin)
	{
		Relation	heap = relation_open(table, NoLock);

		*pages = BrinGetPagesPerRange(index);
		*nfull = RelationGetNumberOfBlocks(heap) / *pages;
		relation_close(heap, NoLock);
	}
	relation_close(index, NoLock);
	return is_brin;
}

/* From the last full range back to one that is summarized: ranges fill in their order. */
static void
summarize_ranges(Oid relid)
{
	Oid			table = IndexGetRelation(relid, true);
	BlockNumber nfull;
	BlockNumber pages;

	if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_RELATION ||
		!ConditionalLockRelationOid(table, ShareUpdateExclusiveLock))
		return;
	if (!ConditionalLockRelationOid(relid, ShareUpdateExclusiveLock))
	{
		UnlockRelationOid(table, ShareUpdateExclusiveLock);
		return;
	}
	if (get_rel_relkind(table) == RELKIND_RELATION && count_full_ranges(relid, table, &nfull, &pages))
	{
		while (nfull > 0)
		{
			int64		block = (int64) --nfull * pages;

			if (DatumGetInt32(DirectFunctionCall2(brin_summarize_range, ObjectIdGetDatum(relid), Int64GetDatum(block))) == 0)
				break;
			CHECK_FOR_INTERRUPTS();
		}
	}
	UnlockRelationOid(relid, ShareUpdateExclusiveLock);
	UnlockRelationOid(table, ShareUpdateExclusiveLock);
}

static void
of_partitions(const char *name, void (*work) (Oid relid))
{
	Oid			parent = get_relname_relid(name, get_namespace_oid("audit", false));
	ListCell   *cell;

	if (!OidIsValid(parent))
		return;
	foreach(cell, find_all_inheritors(parent, NoLock, NULL))
	{
		work(lfirst_oid(cell));
		CHECK_FOR_INTERRUPTS();
	}
}

static void
index_job_run(bool requested)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (sql_hold_extension())
	{
		of_partitions("log_row_idx", merge_pending);
		of_partitions("log_ranges_idx", summarize_ranges);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}
