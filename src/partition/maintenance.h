/*
 * maintenance.h
 *		Keeping the managed tables: what the scheduler, the one-off workers and
 *		telemetry.run_maintenance() all do.
 */
#ifndef SENTIENT_PARTITION_MAINTENANCE_H
#define SENTIENT_PARTITION_MAINTENANCE_H

#include "partition/managed.h"

typedef struct Maintenance
{
	bool		foreground;		/* inside the caller's transaction, by subtransactions */
	bool		may_register;	/* a table that pg_partman does not know yet is registered */
	bool		declare_complete;	/* a restore that seems unfinished is taken as finished */
	bool		stop_writers;	/* partitions are made while no transaction writes to the table */
	int			tries;			/* of each step */
	void		(*report) (void *arg, const ManagedTable *table, const char *action, const char *detail);
	void	   *report_arg;
	bool		registered;		/* out: a table was registered */
	int			failures;		/* out: steps that were given up */
	char		first_failure[256]; /* out: the first one's message */
} Maintenance;

/* Everything for every managed table.  In the background: called outside a transaction. */
extern void maintenance_run(Maintenance *maintenance);

/* A partition for each of these times of one table, nothing else; same rules. */
extern void maintenance_ensure(Maintenance *maintenance, const ManagedTable *table,
							   const TimestampTz *times, int ntimes);

#endif							/* SENTIENT_PARTITION_MAINTENANCE_H */
