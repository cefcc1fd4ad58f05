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
 *   filled is left alone: an entry would have to change its summary.  How far it has
 *   come, each process remembers; the first run of one looks through the map of an
 *   index for ranges that were left out, when the one before was interrupted.
 *
 * Takes RowExclusiveLock on one index at a time, or ShareUpdateExclusiveLock on one
 * partition and its index, and waits for none of them: the scheduler's other jobs
 * would wait with it for whoever moves an old index to another tablespace.  A VACUUM
 * that has the lock does the same work, and would be cancelled if it were waited for.
 */
#include "postgres.h"

#include "access/brin.h"
#include "access/brin_page.h"
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
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/sql.h"
#include "base/worker.h"
#include "capture/index_job.h"

/* Of one partition in one run; the next one goes on. */
#define RANGES_A_RUN			256

/* How far an index is summarized, from its first range on. */
typedef struct Ranges
{
	Oid			index;			/* hash key */
	Oid			filenode;		/* of the index; another one: nothing is known */
	BlockNumber summarized;
} Ranges;

static HTAB *known = NULL;

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

/* What is known of an index from earlier runs. */
static Ranges *
known_ranges(Relation index)
{
	Oid			relid = RelationGetRelid(index);
	Ranges	   *ranges;
	bool		found;

	if (known == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(Ranges), .hcxt = TopMemoryContext};

		known = hash_create("summarized ranges of audit.log", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	ranges = hash_search(known, &relid, HASH_ENTER, &found);
	if (!found || ranges->filenode != index->rd_rel->relfilenode)
	{
		ranges->filenode = index->rd_rel->relfilenode;
		ranges->summarized = 0;
	}
	return ranges;
}

/* The first range from this one on, and below the end, that has no summary; else the end. */
static BlockNumber
find_unsummarized(Relation index, BlockNumber range, BlockNumber end)
{
	Buffer		buffer = ReadBuffer(index, BRIN_METAPAGE_BLKNO);
	BlockNumber last_page;
	bool		found = false;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	last_page = ((BrinMetaPageData *) PageGetContents(BufferGetPage(buffer)))->lastRevmapPage;
	UnlockReleaseBuffer(buffer);
	while (!found && range < end)
	{
		BlockNumber number = range / REVMAP_PAGE_MAXITEMS;
		RevmapContents *contents;

		if (BRIN_METAPAGE_BLKNO + 1 + number > last_page)
			break;				/* the map does not reach so far yet */
		buffer = ReadBuffer(index, BRIN_METAPAGE_BLKNO + 1 + number);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		/* Of a damaged index, the summarizing will tell. */
		found = !BRIN_IS_REVMAP_PAGE(BufferGetPage(buffer));
		contents = (RevmapContents *) PageGetContents(BufferGetPage(buffer));
		while (!found && range < end && range / REVMAP_PAGE_MAXITEMS == number)
		{
			found = !ItemPointerIsValid(&contents->rm_tids[range % REVMAP_PAGE_MAXITEMS]);
			range += found ? 0 : 1;
		}
		UnlockReleaseBuffer(buffer);
		CHECK_FOR_INTERRUPTS();
	}
	return range;
}

/* Summarize full ranges that are not, in their order; both relations are locked. */
static void
summarize_in_order(Relation index, Relation table)
{
	Ranges	   *ranges = known_ranges(index);
	BlockNumber pages = BrinGetPagesPerRange(index);
	BlockNumber nfull = RelationGetNumberOfBlocks(table) / pages;

	/* It was truncated. */
	if (ranges->summarized > nfull)
		ranges->summarized = 0;
	for (int n = 0; ranges->summarized < nfull; n++)
	{
		ranges->summarized = find_unsummarized(index, ranges->summarized, nfull);
		if (ranges->summarized == nfull || n == RANGES_A_RUN)
			return;
		(void) DirectFunctionCall2(brin_summarize_range, ObjectIdGetDatum(RelationGetRelid(index)),
								   Int64GetDatum((int64) ranges->summarized * pages));
		ranges->summarized++;
		CHECK_FOR_INTERRUPTS();
	}
}

static void
summarize_ranges(Oid relid)
{
	Oid			table = IndexGetRelation(relid, true);
	Relation	index;

	if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_RELATION ||
		!ConditionalLockRelationOid(table, ShareUpdateExclusiveLock))
		return;
	if (ConditionalLockRelationOid(relid, ShareUpdateExclusiveLock))
	{
		index = try_relation_open(relid, NoLock);
		/* Unless one of them is another one by now, or gone. */
		if (index != NULL && index->rd_rel->relkind == RELKIND_INDEX && index->rd_rel->relam == BRIN_AM_OID &&
			index->rd_index->indrelid == table && get_rel_relkind(table) == RELKIND_RELATION)
		{
			Relation	heap = relation_open(table, NoLock);

			summarize_in_order(index, heap);
			relation_close(heap, NoLock);
		}
		if (index != NULL)
			relation_close(index, NoLock);
		UnlockRelationOid(relid, ShareUpdateExclusiveLock);
	}
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
