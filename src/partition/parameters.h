/*
 * parameters.h
 *		Configuration parameters of the partition module, and its job.
 */
#ifndef SENTIENT_PARTITION_PARAMETERS_H
#define SENTIENT_PARTITION_PARAMETERS_H

extern int	partition_lock_timeout; /* sentient_edge.partition_lock_timeout, ms */
extern int	partition_wait;		/* sentient_edge.partition_wait, ms */
extern int	partition_maintenance_interval; /* sentient_edge.partition_maintenance_interval, s */

/* Register the transaction callbacks and the scheduler's job. */
extern void partition_request_init(void);

#endif							/* SENTIENT_PARTITION_PARAMETERS_H */
