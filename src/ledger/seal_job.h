/*
 * seal_job.h
 *		The job "ledger" of the scheduler.
 */
#ifndef SENTIENT_SEAL_JOB_H
#define SENTIENT_SEAL_JOB_H

/* Seconds between two runs. */
extern int	ledger_interval;

extern void seal_job_init(void);

#endif							/* SENTIENT_SEAL_JOB_H */
