/*
 * queue_parameters.h
 *		Configuration parameters of the telemetry queue.
 */
#ifndef SENTIENT_QUEUE_PARAMETERS_H
#define SENTIENT_QUEUE_PARAMETERS_H

/* Databases that can use the queue at the same time. */
#define QUEUE_LANES		64

extern int	queue_slots;		/* sentient_edge.queue_slots */
extern int	queue_pool_kb;		/* sentient_edge.queue_pool, kB */
extern int	queue_call_samples; /* sentient_edge.queue_call_samples */
extern int	queue_wait;			/* sentient_edge.queue_wait, ms */
extern int	queue_lock_timeout; /* sentient_edge.queue_lock_timeout, ms */

extern void queue_define_parameters(void);

#endif							/* SENTIENT_QUEUE_PARAMETERS_H */
