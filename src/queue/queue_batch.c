/*
 * queue_batch.c
 *		Answers of the telemetry queue: batches that are stored, and who flushes them.
 *
 * A batch that is stored is not durable yet.  The writer hands it to the session
 * of its first request, the batch's leader, and goes on with the next one: the
 * leader flushes WAL, answers for all and wakes them.  So one batch is stored
 * while another one is flushed; with two on their way the writer waits, and the
 * next batch gathers.  A leader that gives up passes the batch on; one that does
 * not come is relieved by the writer.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "queue/queue_private.h"

/* Whom to wake up once the lock is released. */
typedef struct Wakeup
{
	TimestampTz now;			/* 0 until it is asked for */
	uint32		gates;
	bool		slots_freed;
	int			nsessions;
	PGPROC	   *sessions[FLEXIBLE_ARRAY_MEMBER];	/* by their latches */
} Wakeup;

static Wakeup *
new_wakeup(int n)
{
	return palloc0(offsetof(Wakeup, sessions) + sizeof(PGPROC *) * (n + 1));
}

static void
wake_up(QueueLane *lane, Wakeup *wakeup)
{
	for (int gate = 0; gate < GATES; gate++)
	{
		if (wakeup->gates & (UINT32_C(1) << gate))
			gate_open(lane->gate_group, gate);
	}
	for (int i = 0; i < wakeup->nsessions; i++)
		SetLatch(&wakeup->sessions[i]->procLatch);
	if (wakeup->slots_freed)
		ConditionVariableBroadcast(&queue->slot_freed);
	pfree(wakeup);
}

/* Give a request whose answer is complete back to its session; the caller holds the lock. */
static void
answer_request(QueueRequest *request, Wakeup *wakeup)
{
	QueueLane  *lane = &queue->lanes[request->lane];
	int64		wait_us;

	if (wakeup->now == 0)
		wakeup->now = GetCurrentTimestamp();
	wait_us = Max(wakeup->now - request->pushed_at, 1);
	lane->requests++;
	lane->waits[Min(pg_leftmost_one_pos64(wait_us), WAIT_BUCKETS - 1)]++;
	if (request->answer.sqlerrcode != 0)
		lane->failed++;
	if (request->orphan)
	{
		queue_free_slot(request);
		wakeup->slots_freed = true;
		return;
	}
	request->state = SLOT_ANSWERED;
	if (request->session == MyProc)
		return;
	if (request->gate != GATE_NONE)
		wakeup->gates |= UINT32_C(1) << request->gate;
	else
		wakeup->sessions[wakeup->nsessions++] = request->session;
}

/* A stored batch has no leader any more; tells the writer to wake up, or NULL.  The caller holds the lock. */
static PGPROC *
batch_is_done(QueueLane *lane, QueueRequest *leader)
{
	PGPROC	   *writer = lane->writer_paused ? lane->writer : NULL;
	int			i = 0;

	while (i < lane->nstored && lane->stored[i] != leader - queue->slots)
		i++;
	se_assert(i < lane->nstored);
	lane->stored[i] = lane->stored[--lane->nstored];
	lane->writer_paused = false;
	leader->leads = false;
	return writer;
}

/*
 * The leader gives up: the next session of its batch leads.  Returns who is to
 * be woken up, or NULL.  The caller holds the lock.
 */
PGPROC *
queue_pass_on(QueueRequest *leader)
{
	QueueLane  *lane = &queue->lanes[leader->lane];
	int			next = leader->next;

	se_assert(leader->state == SLOT_STORED);
	leader->state = SLOT_RESERVED;
	while (next != QUEUE_NONE)
	{
		QueueRequest *request = &queue->slots[next];

		se_assert(request->state == SLOT_STORED);
		if (!request->orphan)
		{
			for (int i = 0; i < lane->nstored; i++)
			{
				if (lane->stored[i] == leader - queue->slots)
					lane->stored[i] = next;
			}
			leader->leads = false;
			request->leads = true;
			request->nbatch = leader->nbatch;
			return request->session;
		}
		next = request->next;
		queue_free_slot(request);
	}
	return batch_is_done(lane, leader);
}

/* Answer for a batch that is durable; the caller holds the lock. */
static void
answer_batch(QueueRequest *leader, Wakeup *wakeup)
{
	PGPROC	   *writer = batch_is_done(&queue->lanes[leader->lane], leader);

	for (int next = leader - queue->slots; next != QUEUE_NONE;)
	{
		QueueRequest *request = &queue->slots[next];

		se_assert(request->state == SLOT_STORED);
		next = request->next;
		answer_request(request, wakeup);
	}
	if (writer != NULL && writer != MyProc)
		wakeup->sessions[wakeup->nsessions++] = writer;
}

/*
 * Flush what the session's batch has written, and answer for all of it.
 */
void
queue_lead(QueueRequest *leader)
{
	Wakeup	   *wakeup;
	XLogRecPtr	durable_at;
	int			n;

	/* The caller has glanced at the request without the lock. */
	LWLockAcquire(queue->lock, LW_SHARED);
	durable_at = leader->answer.durable_at;
	n = leader->nbatch;
	LWLockRelease(queue->lock);

	/* Meanwhile the writer may answer for the batch, nobody else. */
	wakeup = new_wakeup(n);
	XLogFlush(durable_at);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	if (leader->leads)
		answer_batch(leader, wakeup);
	LWLockRelease(queue->lock);
	wake_up(&queue->lanes[leader->lane], wakeup);
}

/*
 * Flush and answer for the batches that their leaders have not come to: one of
 * them may have been stopped, which must not stop all the others.
 */
void
queue_take_over(void)
{
	QueueLane  *lane = &queue->lanes[queue_writer_lane];
	XLogRecPtr	durable_at = InvalidXLogRecPtr;
	Wakeup	   *wakeup;
	int			n = 0;

	LWLockAcquire(queue->lock, LW_SHARED);
	for (int i = 0; i < lane->nstored; i++)
	{
		QueueRequest *leader = &queue->slots[lane->stored[i]];

		durable_at = Max(durable_at, leader->answer.durable_at);
		n += leader->nbatch;
	}
	LWLockRelease(queue->lock);

	/* Only this process stores more batches. */
	wakeup = new_wakeup(n);
	XLogFlush(durable_at);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	while (lane->nstored > 0)
		answer_batch(&queue->slots[lane->stored[0]], wakeup);
	LWLockRelease(queue->lock);
	wake_up(lane, wakeup);
}

/* Copy an answer; its message only where there is one. */
void
queue_copy_answer(QueueAnswer *to, const QueueAnswer *from)
{
	memcpy(to, from, from->sqlerrcode != 0 ? sizeof(QueueAnswer) : offsetof(QueueAnswer, message));
}

/* Requests that were taken need their payloads no longer. */
static void
fill_answers(QueueRequest **requests, const QueueAnswer *answers, int n)
{
	for (int i = 0; i < n; i++)
	{
		queue_free_payload(requests[i]);
		queue_copy_answer(&requests[i]->answer, &answers[i]);
	}
}

void
queue_answer(QueueRequest **requests, const QueueAnswer *answers, int n)
{
	QueueLane  *lane = &queue->lanes[queue_writer_lane];
	Wakeup	   *wakeup = new_wakeup(n);

	fill_answers(requests, answers, n);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		se_assert(requests[i]->state == SLOT_TAKEN);
		answer_request(requests[i], wakeup);
	}
	LWLockRelease(queue->lock);
	wake_up(lane, wakeup);
}

void
queue_hand_over(QueueRequest **requests, const QueueAnswer *answers, int n)
{
	QueueLane  *lane = &queue->lanes[queue_writer_lane];
	Wakeup	   *wakeup;
	QueueRequest *leader = NULL;
	QueueRequest *last = NULL;

	/* The parts of a divided batch come without a pause. */
	if (*(volatile int *) &lane->nstored == UNFLUSHED_BATCHES)
	{
		XLogFlush(answers[0].durable_at);
		queue_answer(requests, answers, n);
		return;
	}
	wakeup = new_wakeup(n);
	fill_answers(requests, answers, n);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		QueueRequest *request = requests[i];

		se_assert(request->state == SLOT_TAKEN);
		if (request->orphan || request->synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		{
			answer_request(request, wakeup);
			continue;
		}
		request->state = SLOT_STORED;
		request->next = QUEUE_NONE;
		if (leader == NULL)
			leader = request;
		else
			last->next = request - queue->slots;
		last = request;
	}
	if (leader != NULL)
	{
		leader->leads = true;
		leader->nbatch = n;
		se_assert(lane->nstored < UNFLUSHED_BATCHES);
		lane->stored[lane->nstored++] = leader - queue->slots;
		wakeup->sessions[wakeup->nsessions++] = leader->session;
	}
	LWLockRelease(queue->lock);
	wake_up(lane, wakeup);
}
