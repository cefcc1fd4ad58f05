/*
 * index_job.h
 *		The scheduler's care for the indexes of audit.log.
 */
#ifndef SENTIENT_AUDIT_INDEX_JOB_H
#define SENTIENT_AUDIT_INDEX_JOB_H

extern void index_job_init(void);

#endif							/* SENTIENT_AUDIT_INDEX_JOB_H */
