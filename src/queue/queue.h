/*
 * queue.h
 *		The telemetry queue: samples on their way from sessions to the ingest
 *		writer of their database, and the answers on their way back.
 *
 * A request belongs to the session that reserved it until it is pushed, then to
 * the queue, to the writer that takes it, and, once it is answered, to the
 * session again.  A session that gives up leaves its request to whoever has it.
 */
#ifndef SENTIENT_QUEUE_H
#define SENTIENT_QUEUE_H

#include "datatype/timestamp.h"
#include "access/xlogdefs.h"

/* A payload up to this size lies in its slot, a larger one in the queue's pool. */
#define QUEUE_INLINE_BYTES		384
#define QUEUE_MESSAGE_BYTES		256

typedef enum QueuePayload
{
	QUEUE_SAMPLE,				/* one QueuedSample */
	QUEUE_JSON,					/* a Jsonb: one sample or an array of them */
} QueuePayload;

/* What the writer says of a request. */
typedef struct QueueAnswer
{
	int32		accepted;
	int32		duplicate;
	int32		rejected;
	XLogRecPtr	stored_at;		/* end of the WAL that makes it true; is flushed, unless nobody asked for that */
	int			sqlerrcode;		/* 0: stored; else the counts say nothing */
	char		message[QUEUE_MESSAGE_BYTES];
} QueueAnswer;

/* A request as its holder sees it. */
typedef struct QueueRequest QueueRequest;

/* Figures of one database's lane. */
typedef struct QueueStatistics
{
	int			depth;			/* requests that wait for the writer */
	int			writer_pid;		/* 0: none is running */
	int64		writer_starts;
	int64		batches;
	int64		requests;
	int64		samples;
	int64		rejected;
	int64		failed;			/* requests that ended with an error */
	int64		abandoned;		/* requests whose session gave up */
	int64		wait_us_p50;	/* of the requests since the server's start, by powers of two */
	int64		wait_us_p99;
} QueueStatistics;

extern void queue_init(void);

/* Error out unless the queue exists (the library is preloaded). */
extern void queue_require(void);

/* ---- a session's side ---- */

/*
 * Reserve a slot with room for a payload of so many samples, waiting up to
 * sentient_edge.queue_wait; then an error 53400.  More samples than
 * sentient_edge.queue_call_samples are an error 54000 at once.  The payload is to
 * be written to queue_payload().
 */
extern QueueRequest *queue_reserve(QueuePayload kind, int nsamples, Size bytes);
extern void *queue_payload(QueueRequest *request);

/* Hand the request to the database's writer, starting one if need be. */
extern void queue_push(QueueRequest *request);

/*
 * Has it been answered?  Then the answer is copied, and the slot is free again.
 * Otherwise the caller waits.
 */
extern bool queue_collect(QueueRequest *request, QueueAnswer *answer);

/*
 * Wait until the request may have been answered, or something else has set the
 * latch; false when timeout_ms have passed.  The latch is reset.
 */
extern bool queue_wait_for_answer(QueueRequest *request, long timeout_ms);

/*
 * Give up the request that this session has, if any: it is gone, unless the
 * writer has taken it already, who then frees the slot.  False when it is, or
 * may yet be, stored.
 */
extern bool queue_abandon(void);

/* The session is done with its request, durable or given up. */
extern void queue_leave(void);

/* Start this database's writer unless it runs; tells its pid, 0 while it starts. */
extern int	queue_ensure_writer(void);

/* ---- the writer's side ---- */

/* Become the writer of this database; false when there is one or it must not be. */
extern bool queue_attach_writer(void);

/*
 * Take up to max requests, oldest first, with up to max_samples samples, of which
 * the first may have more; returns how many.  When there is none the writer's latch
 * is set as soon as that changes.
 */
extern int	queue_take(QueueRequest **requests, int max, int max_samples);
extern int	queue_synchronous_commit(const QueueRequest *request);
extern QueuePayload queue_kind(const QueueRequest *request);

/* Answer requests that were taken, all at once. */
extern void queue_answer(QueueRequest **requests, const QueueAnswer *answers, int n);

/* Note a batch in the statistics. */
extern void queue_count_batch(int nsamples, int nrejected);

extern QueueStatistics queue_statistics(void);

#endif							/* SENTIENT_QUEUE_H */
