/*
 * unseal_count.h
 *		Values unsealed by people, counted and told a statement at a time.
 */
#ifndef SENTIENT_UNSEAL_COUNT_H
#define SENTIENT_UNSEAL_COUNT_H

#include "datatype/timestamp.h"

typedef struct UnsealEvent
{
	int64		opened;			/* values that were unsealed */
	int64		refused;		/* values that could not be */
	TimestampTz statement_at;	/* start of the client's statement */
	bool		aborted;		/* the transaction is being rolled back: no catalogs, no tables */
} UnsealEvent;

typedef void (*unseal_event_hook_type) (const UnsealEvent *event);

/*
 * Called once for each statement that has unsealed, when a query ends, or else at
 * the end of its transaction, before it commits.  An error there makes the
 * statement fail, unless it is aborted already.
 */
extern PGDLLIMPORT unseal_event_hook_type unseal_event_hook;

/* A function that hands cleartext to a person has tried to open one value. */
extern void unseal_count_note(bool opened);

/* Totals of the cluster since its start; false when the library is not preloaded. */
extern bool unseal_count_totals(int64 *opened, int64 *refused);

extern void unseal_count_init(void);

#endif							/* SENTIENT_UNSEAL_COUNT_H */
