/*
 * queue.c
 *		Slots, lanes and answers of the telemetry queue, in shared memory.
 *
 * A fixed number of slots serves all databases; each database that uses the
 * queue has a lane, a first-in-first-out list of slots.  One LWLock protects the
 * free list, the lanes and every slot's state; it is held for a few assignments
 * only.  What a slot contains is touched without the lock by its holder alone:
 *
 *		FREE -> RESERVED (session) -> QUEUED -> TAKEN (writer) -> STORED -> ANSWERED (session) -> FREE
 *
 * A batch that is stored is not durable yet.  The writer hands it to the session
 * of its first request, the batch's leader, and goes on with the next one: the
 * leader flushes WAL, answers for all and wakes them.  So one batch is stored
 * while another one is flushed; with two on their way the writer waits, and the
 * next batch gathers.  A leader that gives up passes the batch on.
 *
 * A session that gives up frees its slot, unless the writer has it or it waits
 * for its leader: then it is an orphan, which is freed with the answer.  A
 * session that ends does the same on exit.  A writer that ends answers what it
 * has taken with "unknown".  Lock order: nothing else is taken under the lock.
 *
 * Nothing of it is durable and nothing needs to be: a sample is acknowledged
 * only after it is in its table.  A crash restart begins with an empty queue and
 * without the sessions that waited.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "postmaster/bgworker.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/dsa.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/registry.h"
#include "base/worker.h"
#include "compat.h"
#include "errors.h"
#include "queue/gate.h"
#include "queue/queue.h"
#include "queue/queue_parameters.h"

#define QUEUE_NONE			(-1)
#define WAIT_BUCKETS		32
/* Batches that may be on their way to the disk: one that is flushed, one that comes next. */
#define UNFLUSHED_BATCHES	2

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_RESERVED,
	SLOT_QUEUED,
	SLOT_TAKEN,
	SLOT_STORED,
	SLOT_ANSWERED,
} SlotState;

struct QueueRequest
{
	SlotState	state;			/* lock */
	bool		orphan;			/* lock: the session has given up */
	bool		leads;			/* lock: its session is to flush and answer for what follows in next */
	int			nbatch;			/* lock: how many follow at most, and itself */
	int			synchronous_commit; /* holder: the session's */
	int			next;			/* lock: in the free list, a lane, or a stored batch */
	int			previous;		/* lock: in a lane */
	int			lane;			/* holder */
	int			gate_group;		/* holder */
	int			gate;			/* lock: of that group, where the session waits; or GATE_NONE: at its latch */
	PGPROC	   *session;		/* holder: whose latch is set by the answer */
	TimestampTz pushed_at;		/* holder */
	QueuePayload kind;			/* holder */
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
	bool		writer_paused;	/* lock: its latch is to be set when a batch has been answered */
	int			nstored;		/* lock: batches that are stored and not answered */
	int			stored[UNFLUSHED_BATCHES];	/* lock: their leaders */
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
	int			nlanes;
	QueueLane	lanes[QUEUE_LANES];
	QueueRequest slots[FLEXIBLE_ARRAY_MEMBER];
} Queue;

/* A writer that has not come up after this long is asked for again. */
#define WRITER_START_MS		5000
/* A session that waits for room looks at least this often: a signal may have gone to one that gave up. */
#define ROOM_LOOK_MS		100

static Queue *queue = NULL;
static void *pool_place = NULL;
static dsa_area *pool = NULL;	/* this process's attachment */
static QueueRequest *held = NULL;	/* what this session has reserved or pushed */
static QueueLane *waiting_in = NULL;	/* the lane that counts this session */
static int	writer_lane = QUEUE_NONE;	/* the lane that this process writes for */

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

/* The writer's: a gate that is closed, where nobody waits. */
static int	spare_gate = GATE_NONE;

static void free_payload(QueueRequest *request);
static void session_exits(int code, Datum arg);
static void writer_exits(int code, Datum arg);

static Size
queue_size(void)
{
	return add_size(offsetof(Queue, slots), mul_size(queue_slots, sizeof(QueueRequest)));
}

static void
queue_request_shmem(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(add_size(queue_size(), MAXALIGN((Size) queue_pool_kb * 1024)));
	RequestNamedLWLockTranche("sentient_edge queue", 2);
}

static void
queue_startup_shmem(void)
{
	Size		pool_bytes = MAXALIGN((Size) queue_pool_kb * 1024);
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	queue = ShmemInitStruct("sentient_edge queue", queue_size(), &found);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche("sentient_edge queue");

		memset(queue, 0, queue_size());
		queue->lock = &locks[0].lock;
		queue->pool_tranche = locks[1].lock.tranche;
		ConditionVariableInit(&queue->slot_freed);
		for (int i = 0; i < queue_slots; i++)
			queue->slots[i].next = i + 1 < queue_slots ? i + 1 : QUEUE_NONE;
		queue->free = 0;
		for (int i = 0; i < QUEUE_LANES; i++)
		{
			queue->lanes[i].head = queue->lanes[i].tail = QUEUE_NONE;
			queue->lanes[i].gate_group = queue->lanes[i].gate = GATE_NONE;
			pg_atomic_init_u32(&queue->lanes[i].sessions, 0);
		}
	}
	pool_place = ShmemInitStruct("sentient_edge queue pool", pool_bytes, &found);
	if (!found)
	{
		dsa_area   *area = dsa_create_in_place(pool_place, pool_bytes, queue->pool_tranche, NULL);

		/* Never beyond what was set aside here. */
		dsa_set_size_limit(area, pool_bytes);
		dsa_pin(area);
		dsa_detach(area);
	}
	LWLockRelease(AddinShmemInitLock);
	gates_create();
}

void
queue_init(void)
{
	queue_define_parameters();
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = queue_request_shmem;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = queue_startup_shmem;
}

void
queue_require(void)
{
	if (queue == NULL)
	{
		registry_require();
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no telemetry queue during a binary upgrade")));
	}
	if (pool == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		pool = dsa_attach_in_place(pool_place, NULL);
		dsa_pin_mapping(pool);
		MemoryContextSwitchTo(old);
		/* The area counts who is attached, and lives as long as the server. */
		on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(pool_place));
	}
}

/* ---- slots ---- */

/* The caller holds the lock. */
static void
free_slot(QueueRequest *request)
{
	se_assert(request->state != SLOT_FREE);
	request->state = SLOT_FREE;
	request->orphan = false;
	request->next = queue->free;
	queue->free = request - queue->slots;
}

/*
 * May another database have the lane?  Not while it is in use; a writer that
 * was asked for and never came (its database is gone) does not keep it for ever.
 */
static bool
lane_is_idle(QueueLane *lane, TimestampTz now)
{
	return lane->depth == 0 && lane->writer_pid == 0 && lane->nstored == 0 &&
		pg_atomic_read_u32(&lane->sessions) == 0 &&
		(lane->starting_since == 0 ||
		 TimestampDifferenceExceeds(lane->starting_since, now, WRITER_START_MS));
}

/* The lane of a database, made if there is none; the caller holds the lock. */
static int
lane_of(Oid database)
{
	int			unused = QUEUE_NONE;

	for (int i = 0; i < QUEUE_LANES; i++)
	{
		if (queue->lanes[i].database == database)
			return i;
		if (unused == QUEUE_NONE && !OidIsValid(queue->lanes[i].database))
			unused = i;
	}
	/* None was ever free: one that is idle, whose figures are lost. */
	if (unused == QUEUE_NONE)
	{
		TimestampTz now = GetCurrentTimestamp();

		for (int i = 0; i < QUEUE_LANES && unused == QUEUE_NONE; i++)
		{
			if (lane_is_idle(&queue->lanes[i], now))
				unused = i;
		}
	}
	if (unused != QUEUE_NONE)
	{
		QueueLane  *lane = &queue->lanes[unused];

		memset(lane, 0, offsetof(QueueLane, sessions));
		lane->database = database;
		lane->head = lane->tail = QUEUE_NONE;
		lane->gate_group = lane->gate = GATE_NONE;
	}
	return unused;
}

/* The session waits at the request's gate no longer; the caller holds the lock. */
static void
leave_gate(QueueRequest *request)
{
	if (request->gate != GATE_NONE)
	{
		se_assert(queue->lanes[request->lane].waiters[request->gate] > 0);
		queue->lanes[request->lane].waiters[request->gate]--;
		request->gate = GATE_NONE;
	}
}

/* Take a waiting request out of its lane; the caller holds the lock. */
static void
unlink_request(QueueRequest *request)
{
	QueueLane  *lane = &queue->lanes[request->lane];

	se_assert(request->state == SLOT_QUEUED);
	if (request->previous != QUEUE_NONE)
		queue->slots[request->previous].next = request->next;
	else
		lane->head = request->next;
	if (request->next != QUEUE_NONE)
		queue->slots[request->next].previous = request->previous;
	else
		lane->tail = request->previous;
	lane->depth--;
}

/* Wait until somebody may have made room; false once the deadline is over. */
static bool
wait_for_room(TimestampTz deadline)
{
	long		wait_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	if (wait_ms <= 0)
		return false;
	(void) ConditionVariableTimedSleep(&queue->slot_freed, Min(wait_ms, ROOM_LOOK_MS), PG_WAIT_EXTENSION);
	return true;
}

static QueueRequest *
try_reserve(void)
{
	QueueRequest *request = NULL;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	if (queue->free != QUEUE_NONE)
	{
		request = &queue->slots[queue->free];
		queue->free = request->next;
		request->state = SLOT_RESERVED;
		request->orphan = false;
		request->leads = false;
		request->gate = GATE_NONE;
		held = request;
	}
	LWLockRelease(queue->lock);
	return request;
}

/* Find room for a large payload; gives up the request when there is none. */
static void
reserve_in_pool(QueueRequest *request, Size bytes)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), queue_wait);
	bool		ever = bytes < (Size) queue_pool_kb * 1024;

	PG_TRY();
	{
		do
			request->pooled = dsa_allocate_extended(pool, bytes, DSA_ALLOC_NO_OOM | DSA_ALLOC_HUGE);
		while (!DsaPointerIsValid(request->pooled) && ever && wait_for_room(deadline));
		ConditionVariableCancelSleep();
		if (!DsaPointerIsValid(request->pooled))
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("telemetry queue has no room for a request of %zu bytes", bytes),
					 errdetail("Large requests share %d kB.", queue_pool_kb),
					 errhint("Send fewer samples a call or use telemetry.ingest; or increase sentient_edge.queue_pool and restart the server.")));
	}
	PG_CATCH();
	{
		queue_abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

QueueRequest *
queue_reserve(QueuePayload kind, Size bytes)
{
	static bool registered = false;
	TimestampTz deadline;
	QueueRequest *request;

	queue_require();
	/* Waiting for itself would never end. */
	if (writer_lane != QUEUE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the ingest writer cannot submit samples"),
				 errhint("A trigger that stores samples must use telemetry.ingest.")));
	se_assert(held == NULL);
	if (!registered)
	{
		before_shmem_exit(session_exits, (Datum) 0);
		registered = true;
	}

	request = try_reserve();
	if (request == NULL)
	{
		deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), queue_wait);
		ConditionVariablePrepareToSleep(&queue->slot_freed);
		while ((request = try_reserve()) == NULL && wait_for_room(deadline))
			;
		ConditionVariableCancelSleep();
	}
	if (request == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("telemetry queue is full"),
				 errdetail("All %d slots are in use.", queue_slots),
				 errhint("Send again later, or increase sentient_edge.queue_slots and restart the server.")));

	request->kind = kind;
	request->session = MyProc;
	request->pooled = InvalidDsaPointer;
	if (bytes > QUEUE_INLINE_BYTES)
		reserve_in_pool(request, bytes);
	return request;
}

void *
queue_payload(QueueRequest *request)
{
	return DsaPointerIsValid(request->pooled) ? dsa_get_address(pool, request->pooled) : request->payload;
}

int
queue_synchronous_commit(const QueueRequest *request)
{
	return request->synchronous_commit;
}

QueuePayload
queue_kind(const QueueRequest *request)
{
	return request->kind;
}

/* Free a payload in the pool; not under the lock. */
static void
free_payload(QueueRequest *request)
{
	if (DsaPointerIsValid(request->pooled))
	{
		dsa_free(pool, request->pooled);
		request->pooled = InvalidDsaPointer;
	}
}

/* Whom to wake up once the lock is released. */
typedef struct Wakeup
{
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
	int64		wait_us = Max(GetCurrentTimestamp() - request->pushed_at, 1);

	lane->requests++;
	lane->waits[Min(pg_leftmost_one_pos64(wait_us), WAIT_BUCKETS - 1)]++;
	if (request->answer.sqlerrcode != 0)
		lane->failed++;
	if (request->orphan)
	{
		free_slot(request);
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
static PGPROC *
pass_on(QueueRequest *leader)
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
		free_slot(request);
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
static void
lead(QueueRequest *leader)
{
	/* The batch may have become smaller, but for the writer no one else answers for it. */
	Wakeup	   *wakeup = new_wakeup(leader->nbatch);

	XLogFlush(leader->answer.durable_at);
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
	QueueLane  *lane = &queue->lanes[writer_lane];
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
static void
copy_answer(QueueAnswer *to, const QueueAnswer *from)
{
	memcpy(to, from, from->sqlerrcode != 0 ? sizeof(QueueAnswer) : offsetof(QueueAnswer, message));
}

void
queue_push(QueueRequest *request)
{
	QueueLane  *lane;
	PGPROC	   *wake = NULL;
	int			number;
	bool		writer;

	request->pushed_at = GetCurrentTimestamp();
	request->synchronous_commit = synchronous_commit;
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	number = lane_of(MyDatabaseId);
	if (number != QUEUE_NONE)
	{
		lane = &queue->lanes[number];
		request->lane = number;
		request->next = QUEUE_NONE;
		request->previous = lane->tail;
		request->state = SLOT_QUEUED;
		if (lane->tail == QUEUE_NONE)
			lane->head = request - queue->slots;
		else
			queue->slots[lane->tail].next = request - queue->slots;
		lane->tail = request - queue->slots;
		lane->depth++;
		request->gate = lane->gate;
		request->gate_group = lane->gate_group;
		if (request->gate != GATE_NONE)
			lane->waiters[request->gate]++;
		pg_atomic_fetch_add_u32(&lane->sessions, 1);
		waiting_in = lane;
		if (lane->writer_idle)
		{
			wake = lane->writer;
			lane->writer_idle = false;
		}
		writer = lane->writer_pid != 0;
	}
	LWLockRelease(queue->lock);

	if (number == QUEUE_NONE)
	{
		queue_abandon();
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("telemetry queue is in use by %d other databases", QUEUE_LANES),
				 errhint("Use telemetry.ingest in this database.")));
	}
	if (wake != NULL)
		SetLatch(&wake->procLatch);
	else if (!writer)
		(void) queue_ensure_writer();
}

bool
queue_collect(QueueRequest *request, QueueAnswer *answer)
{
	if (*(volatile bool *) &request->leads)
		lead(request);
	/* The answer is written before the state, under the lock; a glance costs nothing. */
	if (*(volatile SlotState *) &request->state != SLOT_ANSWERED)
		return false;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	copy_answer(answer, &request->answer);
	leave_gate(request);
	free_slot(request);
	held = NULL;
	LWLockRelease(queue->lock);
	ConditionVariableSignal(&queue->slot_freed);
	return true;
}

/*
 * Wait until the request may have been answered, or for a time; false when the
 * time is over.
 */
bool
queue_wait_for_answer(QueueRequest *request, long timeout_ms)
{
	/* Only this session takes its request away from a gate. */
	int			gate = request->gate;
	int			event;

	if (gate == GATE_NONE)
		event = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms, PG_WAIT_EXTENSION);
	else
		event = gate_wait(request->gate_group, gate, timeout_ms, PG_WAIT_EXTENSION);

	if (event & WL_LATCH_SET)
		ResetLatch(MyLatch);
	if ((event & WL_SOCKET_READABLE) != 0 && *(volatile SlotState *) &request->state != SLOT_ANSWERED)
	{
		/* It was opened for others: nothing to wait at any more. */
		LWLockAcquire(queue->lock, LW_EXCLUSIVE);
		if (request->state != SLOT_ANSWERED)
			leave_gate(request);
		LWLockRelease(queue->lock);
	}
	return (event & WL_TIMEOUT) == 0;
}

void
queue_abandon(void)
{
	QueueRequest *request = held;
	PGPROC	   *wake = NULL;
	bool		ours;

	if (request == NULL)
		return;
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	held = NULL;
	if (request->state == SLOT_QUEUED || request->state == SLOT_TAKEN || request->state == SLOT_STORED)
		queue->lanes[request->lane].abandoned++;
	if (request->state == SLOT_QUEUED)
	{
		/* Nobody may ever come for it: a writer that cannot start would leave it here for good. */
		unlink_request(request);
		request->state = SLOT_RESERVED;
	}
	leave_gate(request);
	if (request->leads)
		wake = pass_on(request);
	ours = request->state != SLOT_TAKEN && request->state != SLOT_STORED;
	if (!ours)
		request->orphan = true;
	LWLockRelease(queue->lock);
	if (wake != NULL)
		SetLatch(&wake->procLatch);
	if (!ours)
		return;
	free_payload(request);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	free_slot(request);
	LWLockRelease(queue->lock);
	ConditionVariableSignal(&queue->slot_freed);
}

void
queue_leave(void)
{
	if (waiting_in != NULL)
		pg_atomic_fetch_sub_u32(&waiting_in->sessions, 1);
	waiting_in = NULL;
}

/* A session ends while its request is somewhere. */
static void
session_exits(int code, Datum arg)
{
	queue_abandon();
	queue_leave();
}

/* ---- the writer ---- */

int
queue_ensure_writer(void)
{
	BackgroundWorker worker;
	TimestampTz now = GetCurrentTimestamp();
	bool		start = false;
	int			pid = 0;
	int			number;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	number = lane_of(MyDatabaseId);
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
	for (int group = 0; group < GATE_GROUPS; group++)
	{
		/* Where no session is busy, none waits at a gate. */
		if (users[group] != NULL && !lane_is_idle(users[group], now))
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
	number = lane_of(MyDatabaseId);
	if (number != QUEUE_NONE)
	{
		QueueLane  *lane = &queue->lanes[number];

		if (lane->writer_pid == 0)
		{
			lane->writer_pid = MyProcPid;
			lane->writer = MyProc;
			lane->writer_idle = lane->writer_paused = false;
			lane->starting_since = 0;
			lane->writer_starts++;
			if (lane->gate_group == GATE_NONE)
				lane->gate_group = unused_gates();
			writer_lane = number;
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

	strlcpy(unknown.message, "the ingest writer ended before it could say whether the sample is stored",
			sizeof(unknown.message));
	for (int i = 0; i < queue_slots; i++)
	{
		QueueRequest *request = &queue->slots[i];
		bool		taken;

		if (*(volatile SlotState *) &request->state != SLOT_TAKEN)
			continue;
		LWLockAcquire(queue->lock, LW_SHARED);
		taken = request->state == SLOT_TAKEN && request->lane == writer_lane;
		LWLockRelease(queue->lock);
		if (taken)
			queue_answer(&request, &unknown, 1);
	}
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	queue->lanes[writer_lane].writer_pid = 0;
	queue->lanes[writer_lane].writer = NULL;
	queue->lanes[writer_lane].writer_idle = queue->lanes[writer_lane].writer_paused = false;
	LWLockRelease(queue->lock);
	writer_lane = QUEUE_NONE;
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
queue_take(QueueRequest **requests, int max)
{
	QueueLane  *lane = &queue->lanes[writer_lane];
	bool		paused;
	int			n = 0;

	find_spare_gate(lane);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	paused = lane->writer_paused = lane->nstored == UNFLUSHED_BATCHES;
	while (n < max && lane->head != QUEUE_NONE && !paused)
	{
		QueueRequest *request = &queue->slots[lane->head];

		unlink_request(request);
		request->state = SLOT_TAKEN;
		requests[n++] = request;
	}
	lane->writer_idle = n == 0 && !paused;
	if (n > 0)
	{
		/* Whoever comes now belongs to the next batch. */
		lane->gate = spare_gate;
		spare_gate = GATE_NONE;
	}
	LWLockRelease(queue->lock);
	return paused ? -1 : n;
}

void
queue_answer(QueueRequest **requests, const QueueAnswer *answers, int n)
{
	QueueLane  *lane = &queue->lanes[writer_lane];
	Wakeup	   *wakeup = new_wakeup(n);

	for (int i = 0; i < n; i++)
	{
		free_payload(requests[i]);
		copy_answer(&requests[i]->answer, &answers[i]);
	}
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
	QueueLane  *lane = &queue->lanes[writer_lane];
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
	for (int i = 0; i < n; i++)
	{
		free_payload(requests[i]);
		copy_answer(&requests[i]->answer, &answers[i]);
	}
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

void
queue_count_batch(int nrequests, int nsamples, int nrejected)
{
	QueueLane  *lane = &queue->lanes[writer_lane];

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
