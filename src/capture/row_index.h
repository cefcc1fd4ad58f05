/*
 * row_index.h
 *		The index of audit.log that finds a row's history.
 */
#ifndef SENTIENT_AUDIT_ROW_INDEX_H
#define SENTIENT_AUDIT_ROW_INDEX_H

#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"

/* An entry and the number of its row: audit.row_position. */
typedef struct RowPosition
{
	int64		position;
	TupleTableSlot *slot;
} RowPosition;

/* Is it one that row_index_insert can write to? */
extern bool row_index_matches(Relation index, const IndexInfo *info);

/* Enter rows that have their place in the heap. */
extern void row_index_insert(Relation index, const RowPosition *rows, int n);

#endif							/* SENTIENT_AUDIT_ROW_INDEX_H */
