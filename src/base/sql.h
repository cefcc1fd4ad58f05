/*
 * sql.h
 *		SQL that the extension runs for itself.
 *
 *		SqlScope scope = sql_begin(0);
 *		rows = sql_query("SELECT ...", nargs, types, values);
 *		... SPI_tuptable ...
 *		sql_end(&scope);
 */
#ifndef SENTIENT_SQL_H
#define SENTIENT_SQL_H

#include "executor/spi.h"

typedef struct SqlScope
{
	int			nest_level;
	Oid			user;
	int			security;
} SqlScope;

/*
 * Until sql_end: SPI is connected, the user is the extension's owner,
 * search_path is pg_catalog, pg_temp, the time zone UTC, and no lock is waited
 * for longer than lock_timeout_ms (0: as the session says).  Ends by itself
 * when the (sub)transaction is aborted.  Needs a transaction; makes a snapshot
 * active if there is none.
 */
extern SqlScope sql_begin(int lock_timeout_ms);
extern void sql_end(SqlScope *scope);

/* Run one statement inside a scope; returns the number of rows.  No argument may be null. */
extern uint64 sql_query(const char *query, int nargs, Oid *types, Datum *values);
/* The same for a query that only reads, under the active snapshot, whatever the isolation level. */
extern uint64 sql_read(const char *query);

/*
 * Do work in a subtransaction.  Returns NULL, or the error that rolled it back, in
 * error_context; the caller goes on, or throws it with ReThrowError.
 */
extern ErrorData *sql_attempt(void (*work) (void *arg), void *arg, MemoryContext error_context);

/* A one-dimensional array argument; nulls may be NULL. */
extern Datum sql_array(Datum *values, bool *nulls, int n, Oid element_type);

/* One value of the last query's result; rows and columns from 0. */
extern Datum sql_value(uint64 row, int column, bool *isnull);

/* The same as a string, in the current context; NULL for null. */
extern char *sql_string(uint64 row, int column);

/* For functions that must not pass over a null in silence: an error (22004) when an argument is null. */
extern void sql_refuse_nulls(FunctionCallInfo fcinfo, const char *function);

/* Set a parameter until the innermost GUC nest level ends. */
extern void sql_set_local(const char *parameter, const char *value);

/*
 * Let the current transaction commit without waiting for synchronous standbys: a
 * worker's, which acknowledges nothing, must not keep its locks for one that is gone.
 */
extern void sql_commit_locally(void);

/* The extension's oid in this database, or InvalidOid. */
extern Oid	sql_extension(void);

/*
 * Keep the extension from being dropped until the transaction ends; false when
 * it is gone or somebody is about to.  DROP EXTENSION asks for this lock first:
 * a worker that holds it can lock tables in any order and meets it nowhere else.
 */
extern bool sql_hold_extension(void);

#endif							/* SENTIENT_SQL_H */
