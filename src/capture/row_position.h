/*
 * row_position.h
 *		Where a row's entries lie in the index of audit.log that finds its history.
 */
#ifndef SENTIENT_AUDIT_ROW_POSITION_H
#define SENTIENT_AUDIT_ROW_POSITION_H

#include "fmgr.h"
#include "utils/jsonb.h"

/* audit.row_position(schema_name, table_name, row_key) */
extern int64 row_position(const text *schema_name, const text *table_name, Jsonb *row_key);

/* The same as an SQL function. */
extern PGDLLEXPORT Datum audit_row_position(PG_FUNCTION_ARGS);

#endif							/* SENTIENT_AUDIT_ROW_POSITION_H */
