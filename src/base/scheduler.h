/*
 * scheduler.h
 *		The worker of one database that runs the jobs.
 */
#ifndef SENTIENT_SCHEDULER_H
#define SENTIENT_SCHEDULER_H

#include "base/worker.h"

extern int	scheduler_job_count(void);
extern const SchedulerJob *scheduler_job(int job);

/* Ask the postmaster for the scheduler of a database; false when it has no free slot. */
extern bool scheduler_start(Oid database);

#endif							/* SENTIENT_SCHEDULER_H */
