/*
 * queue.c
 *		Slots, lanes and answers of the telemetry queue, in shared memory.
 *
 * A fixed number of slots serves all databases; each database that uses the
 * queue has a lane, a first-in-first-out list of slots.  One LWLock protects the
 * free list, the lanes and every slot's state; it is held for a few assignments
 * only.  What a slot contains is touched without the lock by its holder alone:
 *
 *		FREE -> RESERVED (session) -> QUEUED -> TAKEN (writer) -> ANSWERED (session) -> FREE
 *
 * A session that gives up frees its slot, unless the writer has it: then it is
 * an orphan, which the writer frees when it has stored it.  A session that ends
 * does the same on exit.  A writer that ends answers what it has taken with
 * "unknown".  Lock order: nothing else is taken under the lock.
 *
 * Nothing of it is durable and nothing needs to be: a sample is acknowledged
 * only after it is in its table.  A crash restart begins with an empty queue and
 * without the sessions that waited.
 */
#include "postgres.h"

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
#include "queue/queue.h"
#include "queue/queue_parameters.h"

#define QUEUE_NONE			(-1)
#define WAIT_BUCKETS		32

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
	int			next;			/* lock: in the free list or a lane */
	int			previous;		/* lock: in a lane */
	int			lane;			/* holder */
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
	return lane->depth == 0 && lane->writer_pid == 0 &&
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
	}
	return unused;
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
queue_sessions(void)
{
	return (int) pg_atomic_read_u32(&queue->lanes[writer_lane].sessions);
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

void
queue_push(QueueRequest *request)
{
	QueueLane  *lane;
	PGPROC	   *wake = NULL;
	int			number;
	bool		writer;

	request->pushed_at = GetCurrentTimestamp();
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
	/* The answer is written before the state, under the lock; a glance costs nothing. */
	if (*(volatile SlotState *) &request->state != SLOT_ANSWERED)
		return false;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	*answer = request->answer;
	free_slot(request);
	held = NULL;
	LWLockRelease(queue->lock);
	ConditionVariableSignal(&queue->slot_freed);
	return true;
}

void
queue_abandon(void)
{
	QueueRequest *request = held;
	bool		ours;

	if (request == NULL)
		return;
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	held = NULL;
	if (request->state == SLOT_QUEUED || request->state == SLOT_TAKEN)
		queue->lanes[request->lane].abandoned++;
	if (request->state == SLOT_QUEUED)
	{
		/* Nobody may ever come for it: a writer that cannot start would leave it here for good. */
		unlink_request(request);
		request->state = SLOT_RESERVED;
	}
	ours = request->state != SLOT_TAKEN;
	if (!ours)
		request->orphan = true;
	LWLockRelease(queue->lock);
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
			lane->writer_idle = false;
			lane->starting_since = 0;
			lane->writer_starts++;
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
			queue_answer(request, &unknown);
	}
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	queue->lanes[writer_lane].writer_pid = 0;
	queue->lanes[writer_lane].writer = NULL;
	queue->lanes[writer_lane].writer_idle = false;
	LWLockRelease(queue->lock);
	writer_lane = QUEUE_NONE;
}

int
queue_take(QueueRequest **requests, int max)
{
	QueueLane  *lane = &queue->lanes[writer_lane];
	int			n = 0;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	while (n < max && lane->head != QUEUE_NONE)
	{
		QueueRequest *request = &queue->slots[lane->head];

		unlink_request(request);
		request->state = SLOT_TAKEN;
		requests[n++] = request;
	}
	lane->writer_idle = n == 0;
	LWLockRelease(queue->lock);
	return n;
}

void
queue_answer(QueueRequest *request, const QueueAnswer *answer)
{
	QueueLane  *lane = &queue->lanes[request->lane];
	PGPROC	   *session = request->session;
	int64		wait_us = Max(GetCurrentTimestamp() - request->pushed_at, 1);
	bool		orphan;

	free_payload(request);
	request->answer = *answer;
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	se_assert(request->state == SLOT_TAKEN);
	orphan = request->orphan;
	if (orphan)
		free_slot(request);
	else
		request->state = SLOT_ANSWERED;
	lane->requests++;
	lane->waits[Min(pg_leftmost_one_pos64(wait_us), WAIT_BUCKETS - 1)]++;
	if (answer->sqlerrcode != 0)
		lane->failed++;
	LWLockRelease(queue->lock);
	if (orphan)
		ConditionVariableSignal(&queue->slot_freed);
	else
		SetLatch(&session->procLatch);
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
