/*
 * row_index.c
 *		Entering rows into the index of audit.log that finds a row's history.
 *
 * Rows of an audited table change in any order.  In a B-tree each change would go
 * to a page of its own, which is rarely in the processor's cache.  So the index is
 * a GIN index with a pending list: a change appends sixteen bytes to the last page
 * of the list, which index_job.c sorts into the tree each second.  Searches look at
 * both.  It is the server's own index in all that it holds: VACUUM, a standby, a
 * crash, a dump and REINDEX know it.
 *
 * Appending goes past index_insert, which appends row by row, each with a WAL
 * record; a page of the list holds about 400 rows.
 *
 * Called by log_write.c, with the index locked (RowExclusiveLock).
 */
#include "postgres.h"

#include "access/gin_private.h"
#include "catalog/pg_am.h"
#include "fmgr.h"
#include "nodes/primnodes.h"

#include "audit/entry.h"
#include "capture/row_index.h"
#include "capture/row_position.h"

/* Is it one on audit.row_position(schema_name, table_name, row_key), with a pending list? */
bool
row_index_matches(Relation index, const IndexInfo *info)
{
	static const AttrNumber arguments[] = {AUDIT_SCHEMA_NAME + 1, AUDIT_TABLE_NAME + 1, AUDIT_ROW_KEY + 1};
	FuncExpr   *call;
	FmgrInfo	function;

	if (index->rd_rel->relam != GIN_AM_OID || !GinGetUseFastUpdate(index) ||
		info->ii_NumIndexAttrs != 1 || list_length(info->ii_Expressions) != 1)
		return false;
	call = linitial(info->ii_Expressions);
	if (!IsA(call, FuncExpr) || list_length(call->args) != lengthof(arguments))
		return false;
	for (int i = 0; i < lengthof(arguments); i++)
	{
		const Var  *column = list_nth(call->args, i);

		if (!IsA(column, Var) || column->varattno != arguments[i])
			return false;
	}
	fmgr_info(call->funcid, &function);
	return function.fn_addr == audit_row_position;
}

/*
 * GIN takes what is appended at once for one row when it fills more than a page,
 * and then wants that row's alone on those pages: no more than a page goes at once.
 */
void
row_index_insert(Relation index, const RowPosition *rows, int n)
{
	GinState	gin;
	GinTupleCollector list = {0};

	initGinState(&gin, index);
	for (int i = 0; i < n; i++)
	{
		Size		tuple;

		ginHeapTupleFastCollect(&gin, &list, FirstOffsetNumber, Int64GetDatum(rows[i].position), false,
								&rows[i].slot->tts_tid);
		tuple = list.sumsize / list.ntuples + sizeof(ItemIdData);
		if (i == n - 1 || (list.ntuples + 1) * tuple > GinListPageSize)
		{
			ginHeapTupleFastInsert(&gin, &list);
			list.ntuples = 0;
			list.sumsize = 0;
		}
	}
}
