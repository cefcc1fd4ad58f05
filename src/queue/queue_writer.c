/*
 * queue_writer.c
 *		The writer's side of the telemetry queue: its start and end, what it takes,
 *		where the sessions of a batch wait, its answers and its figures.
 *
 * A writer that ends answers what it has taken with "unknown"; what it has not
 * taken stays for its successor.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "base/worker.h"
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

/* A gate that is closed, where nobody waits. */
static int	spare_gate = GATE_NONE;

static void writer_exits(int code, Datum arg);
static void answer_requests(QueueRequest **requests, const QueueAnswer *answers, int n, Wakeup *wakeup);

int
queue_ensure_writer(void)
{
	BackgroundWorker worker;
	TimestampTz now = GetCurrentTimestamp();
	bool		start = false;
	int			pid = 0;
	int			number;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	number = queue_lane_of(MyDatabaseId);
	if (number != QUEUE_NONE)
	{
		QueueLane  *lane = &queue->lanes[number];

		pid = lane->writer_pid;
		if (pid == 0 &&
			(lane->starting_since == 0 ||
			 TimestampDifferenceExceeds(lane->starting_since, now, WRITER_START_MS)))
		{
			lane->starting_since = now;
			start = true;
		}
	}
	LWLockRelease(queue->lock);
	if (!start)
		return pid;

	worker_describe(&worker, "ingest_writer_main", "sentient_edge ingest writer");
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
	{
		LWLockAcquire(queue->lock, LW_EXCLUSIVE);
		if (queue->lanes[number].database == MyDatabaseId)
			queue->lanes[number].starting_since = 0;
		LWLockRelease(queue->lock);
		return -1;
	}
	return 0;
}

/* A group of gates that no lane needs, or GATE_NONE; the caller holds the lock. */
static int
unused_gates(void)
{
	QueueLane  *users[GATE_GROUPS] = {NULL};
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < QUEUE_LANES; i++)
	{
		if (queue->lanes[i].gate_group != GATE_NONE)
			users[queue->lanes[i].gate_group] = &queue->lanes[i];
	}
	for (int group = 0; group < GATE_GROUPS && gates_exist(); group++)
	{
		/* Where no session is busy, none waits at a gate. */
		if (users[group] != NULL && !queue_lane_is_idle(users[group], now))
			continue;
		if (users[group] != NULL)
			users[group]->gate_group = users[group]->gate = GATE_NONE;
		return group;
	}
	return GATE_NONE;
}

bool
queue_attach_writer(void)
{
	int			number;
	bool		attached = false;

	queue_require();
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	number = queue_lane_of(MyDatabaseId);
	if (number != QUEUE_NONE)
	{
		QueueLane  *lane = &queue->lanes[number];

		if (lane->writer_pid == 0)
		{
			lane->writer_pid = MyProcPid;
			lane->writer = MyProc;
			lane->writer_idle = false;
			lane->starting_since = 0;
			lane->writer_starts++;
			if (lane->gate_group == GATE_NONE)
				lane->gate_group = unused_gates();
			queue_writer_lane = number;
			attached = true;
		}
	}
	LWLockRelease(queue->lock);
	if (attached)
		before_shmem_exit(writer_exits, (Datum) 0);
	return attached;
}

/* What the writer has taken is in doubt; what it has not stays for its successor. */
static void
writer_exits(int code, Datum arg)
{
	QueueAnswer unknown = {.sqlerrcode = ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN};
	char		space[offsetof(Wakeup, sessions) + sizeof(PGPROC *)] pg_attribute_aligned(MAXIMUM_ALIGNOF);

	strlcpy(unknown.message, "the ingest writer ended before it could say whether the sample is stored",
			sizeof(unknown.message));
	for (int i = 0; i < queue_slots; i++)
	{
		QueueRequest *request = &queue->slots[i];
		bool		taken;

		if (*(volatile SlotState *) &request->state != SLOT_TAKEN)
			continue;
		LWLockAcquire(queue->lock, LW_SHARED);
		taken = request->state == SLOT_TAKEN && request->lane == queue_writer_lane;
		LWLockRelease(queue->lock);
		if (taken)
		{
			/* Not from memory that may have run out: who is not answered waits for ever. */
			memset(space, 0, sizeof(space));
			answer_requests(&request, &unknown, 1, (Wakeup *) space);
		}
	}
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	queue->lanes[queue_writer_lane].writer_pid = 0;
	queue->lanes[queue_writer_lane].writer = NULL;
	queue->lanes[queue_writer_lane].writer_idle = false;
	LWLockRelease(queue->lock);
	queue_writer_lane = QUEUE_NONE;
}

/*
 * Have a spare gate, if the writer has gates and nobody waits at one of them.
 */
static void
find_spare_gate(QueueLane *lane)
{
	int			gate = GATE_NONE;

	if (lane->gate_group == GATE_NONE || spare_gate != GATE_NONE)
		return;
	LWLockAcquire(queue->lock, LW_SHARED);
	for (int i = 1; i < GATES && gate == GATE_NONE; i++)
	{
		int			candidate = (lane->gate + i) % GATES;

		if (lane->waiters[candidate] == 0 && candidate != lane->gate)
			gate = candidate;
	}
	LWLockRelease(queue->lock);
	/* Nobody comes to wait there before it is the lane's. */
	if (gate != GATE_NONE)
		gate_close(lane->gate_group, gate);
	spare_gate = gate;
}

int
queue_take(QueueRequest **requests, int max, int max_samples)
{
	QueueLane  *lane = &queue->lanes[queue_writer_lane];
	int64		nsamples = 0;
	int			n = 0;

	find_spare_gate(lane);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	while (n < max && lane->head != QUEUE_NONE)
	{
		QueueRequest *request = &queue->slots[lane->head];

		nsamples += request->nsamples;
		if (n > 0 && nsamples > max_samples)
			break;
		queue_unlink_request(request);
		request->state = SLOT_TAKEN;
		requests[n++] = request;
	}
	lane->writer_idle = n == 0;
	if (n > 0)
	{
		/* Whoever comes now belongs to the next batch. */
		lane->gate = spare_gate;
		spare_gate = GATE_NONE;
	}
	LWLockRelease(queue->lock);
	return n;
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
	if (request->gate != GATE_NONE)
		wakeup->gates |= UINT32_C(1) << request->gate;
	else
		wakeup->sessions[wakeup->nsessions++] = request->session;
}

/* The same for several; wakeup is zeroed and has room for n sessions. */
static void
answer_requests(QueueRequest **requests, const QueueAnswer *answers, int n, Wakeup *wakeup)
{
	for (int i = 0; i < n; i++)
	{
		/* The payload is needed no longer. */
		queue_free_payload(requests[i]);
		queue_copy_answer(&requests[i]->answer, &answers[i]);
	}
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		se_assert(requests[i]->state == SLOT_TAKEN);
		answer_request(requests[i], wakeup);
	}
	LWLockRelease(queue->lock);
	wake_up(&queue->lanes[queue_writer_lane], wakeup);
}

void
queue_answer(QueueRequest **requests, const QueueAnswer *answers, int n)
{
	Wakeup	   *wakeup = palloc0(offsetof(Wakeup, sessions) + sizeof(PGPROC *) * n);

	answer_requests(requests, answers, n, wakeup);
	pfree(wakeup);
}

void
queue_count_batch(int nsamples, int nrejected)
{
	QueueLane  *lane = &queue->lanes[queue_writer_lane];

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	lane->batches++;
	lane->samples += nsamples;
	lane->rejected += nrejected;
	LWLockRelease(queue->lock);
}

/* The upper end of the bucket that holds this share of the waits. */
static int64
wait_percentile(const QueueLane *lane, double share)
{
	int64		total = 0;
	int64		seen = 0;

	for (int i = 0; i < WAIT_BUCKETS; i++)
		total += lane->waits[i];
	for (int i = 0; i < WAIT_BUCKETS; i++)
	{
		seen += lane->waits[i];
		if (total > 0 && seen >= total * share)
			return INT64CONST(1) << (i + 1);
	}
	return 0;
}

QueueStatistics
queue_statistics(void)
{
	QueueStatistics statistics = {0};
	QueueLane	lane;
	bool		found = false;

	queue_require();
	LWLockAcquire(queue->lock, LW_SHARED);
	for (int i = 0; i < QUEUE_LANES && !found; i++)
	{
		if (queue->lanes[i].database == MyDatabaseId)
		{
			lane = queue->lanes[i];
			found = true;
		}
	}
	LWLockRelease(queue->lock);
	if (found)
	{
		statistics.depth = lane.depth;
		statistics.writer_pid = lane.writer_pid;
		statistics.writer_starts = lane.writer_starts;
		statistics.batches = lane.batches;
		statistics.requests = lane.requests;
		statistics.samples = lane.samples;
		statistics.rejected = lane.rejected;
		statistics.failed = lane.failed;
		statistics.abandoned = lane.abandoned;
		statistics.wait_us_p50 = wait_percentile(&lane, 0.50);
		statistics.wait_us_p99 = wait_percentile(&lane, 0.99);
	}
	return statistics;
}
