/*
 * worker.h
 *		Background workers: the registry in shared memory, and the jobs that a
 *		database's scheduler runs.
 */
#ifndef SENTIENT_WORKER_H
#define SENTIENT_WORKER_H

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

/*
 * Describe a worker of this library: zeroed, with access to a database, started
 * when recovery has finished and never again by itself; function is its main
 * function, name what ps and pg_stat_activity show.
 */
extern void worker_describe(BackgroundWorker *worker, const char *function, const char *name);

/*
 * One job of every database's scheduler.  run is called outside a transaction,
 * in a memory context that is reset afterwards; it starts and ends transactions
 * of its own and may raise errors, which are logged, counted and retried later.
 */
typedef struct SchedulerJob
{
	const char *name;			/* as sentient_edge.workers shows it */
	const int  *interval_s;		/* seconds between two runs, a parameter */
	void		(*run) (bool requested);	/* requested: woken for it by scheduler_request */
} SchedulerJob;

#define SCHEDULER_MAX_JOBS		8

/* First in a worker's main function: signals. */
extern void worker_prepare(void);

/* Then: connect to the database as superuser, under parameters of the worker's own. */
extern void worker_connect(Oid database, const char *name);

/* Add a job; called from the modules' init functions only.  Returns its number. */
extern int	scheduler_add_job(const SchedulerJob *job);

/*
 * Wake this database's scheduler for one job.  False when there is none (not
 * preloaded, not started yet): the caller finds another way.  Raises no error.
 */
extern bool scheduler_request(int job);

/* The same for another database's scheduler. */
extern bool scheduler_request_in(Oid database, int job);

#endif							/* SENTIENT_WORKER_H */
