/*
 * queue_private.h
 *		What the files of this module share: slots, lanes, and who may touch what.
 *
 * A fixed number of slots serves all databases; each database that uses the
 * queue has a lane, a first-in-first-out list of slots.  One LWLock protects the
 * free list, the lanes and every slot's state; it is held for a few assignments
 * only.  What a slot contains is touched without the lock by its holder alone:
 *
 *		FREE -> RESERVED (session) -> QUEUED -> TAKEN (writer) -> ANSWERED (session) -> FREE
 *
 * Lock order: nothing else is taken under the lock.
 */
#ifndef SENTIENT_QUEUE_PRIVATE_H
#define SENTIENT_QUEUE_PRIVATE_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/dsa.h"

#include "queue/gate.h"
#include "queue/queue.h"
#include "queue/queue_parameters.h"

#define QUEUE_NONE			(-1)
#define WAIT_BUCKETS		32

/* A writer that has not come up after this long is asked for again. */
#define WRITER_START_MS		5000

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_RESERVED,
	SLOT_QUEUED,
	SLOT_TAKEN,
	SLOT_ANSWERED,
} SlotState;

struct QueueRequest
{
	SlotState	state;			/* lock */
	bool		orphan;			/* lock: the session has given up */
	int			synchronous_commit; /* holder: the session's */
	int			next;			/* lock: in the free list or a lane */
	int			previous;		/* lock: in a lane */
	int			lane;			/* holder */
	int			gate_group;		/* holder */
	int			gate;			/* lock: of that group, where the session waits; or GATE_NONE: at its latch */
	PGPROC	   *session;		/* holder: whose latch is set by the answer */
	TimestampTz pushed_at;		/* holder */
	QueuePayload kind;			/* holder */
	int			nsamples;		/* holder; read by the writer under the lock when it is queued */
	dsa_pointer pooled;			/* holder: payload in the pool, or InvalidDsaPointer */
	QueueAnswer answer;			/* holder */
	char		payload[QUEUE_INLINE_BYTES] pg_attribute_aligned(MAXIMUM_ALIGNOF);	/* holder */
};

typedef struct QueueLane
{
	Oid			database;		/* lock; InvalidOid: the lane is free */
	int			head;			/* lock */
	int			tail;			/* lock */
	int			depth;			/* lock */
	int			writer_pid;		/* lock; 0: none */
	PGPROC	   *writer;			/* lock */
	bool		writer_idle;	/* lock: its latch is to be set by the next push */
	int			gate_group;		/* lock: the writer's gates; GATE_NONE: it has none */
	int			gate;			/* lock: where the sessions of the next batch wait; or GATE_NONE */
	int			waiters[GATES]; /* lock: requests whose sessions may still wait at the gate */
	TimestampTz starting_since; /* lock: the postmaster was asked for a writer; 0: not */
	int64		writer_starts;	/* lock */
	int64		batches;		/* lock */
	int64		requests;		/* lock */
	int64		samples;		/* lock */
	int64		rejected;		/* lock */
	int64		failed;			/* lock */
	int64		abandoned;		/* lock */
	int64		waits[WAIT_BUCKETS];	/* lock: answered requests by log2 of their wait in us */
	pg_atomic_uint32 sessions;	/* that have pushed and are not done */
} QueueLane;

typedef struct Queue
{
	LWLock	   *lock;
	int			pool_tranche;
	ConditionVariable slot_freed;
	int			free;			/* lock: first free slot */
	QueueLane	lanes[QUEUE_LANES];
	QueueRequest slots[FLEXIBLE_ARRAY_MEMBER];
} Queue;

extern Queue *queue;
extern int	queue_writer_lane;	/* the lane that this process writes for, or QUEUE_NONE */

/* queue.c; the caller of all but the last two holds the lock */
extern int	queue_lane_of(Oid database);
extern bool queue_lane_is_idle(QueueLane *lane, TimestampTz now);
extern void queue_free_slot(QueueRequest *request);
extern void queue_unlink_request(QueueRequest *request);
extern void queue_free_payload(QueueRequest *request);
extern void queue_copy_answer(QueueAnswer *to, const QueueAnswer *from);

#endif							/* SENTIENT_QUEUE_PRIVATE_H */
