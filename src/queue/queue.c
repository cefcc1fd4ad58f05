/*
 * queue.c
 *		The telemetry queue in shared memory: its slots, and the sessions' side of it.
 *
 * queue_private.h says what there is and who may touch it.  Here are the slots and
 * the sessions that use them; queue_writer.c is the writer's side.
 *
 * A session that gives up frees its slot, unless the writer has it: then it is an
 * orphan, which is freed with the answer.  A session that ends does the same on
 * exit.
 *
 * Nothing of it is durable and nothing needs to be: a sample is acknowledged
 * only after it is in its table.  A crash restart begins with an empty queue and
 * without the sessions that waited.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/registry.h"
#include "compat.h"
#include "errors.h"
#include "queue/queue_private.h"

/* A session that waits for room looks at least this often: a signal may have gone to one that gave up. */
#define ROOM_LOOK_MS		100

Queue	   *queue = NULL;
int			queue_writer_lane = QUEUE_NONE;
static void *pool_place = NULL;
static dsa_area *pool = NULL;	/* this process's attachment */
static QueueRequest *held = NULL;	/* what this session has reserved or pushed */
static QueueLane *waiting_in = NULL;	/* the lane that counts this session */

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static void session_exits(int code, Datum arg);

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
void
queue_free_slot(QueueRequest *request)
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
bool
queue_lane_is_idle(QueueLane *lane, TimestampTz now)
{
	return lane->depth == 0 && lane->writer_pid == 0 &&
		pg_atomic_read_u32(&lane->sessions) == 0 &&
		(lane->starting_since == 0 ||
		 TimestampDifferenceExceeds(lane->starting_since, now, WRITER_START_MS));
}

/* The lane of a database, made if there is none; the caller holds the lock. */
int
queue_lane_of(Oid database)
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
			if (queue_lane_is_idle(&queue->lanes[i], now))
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
void
queue_unlink_request(QueueRequest *request)
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
		(void) queue_abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

QueueRequest *
queue_reserve(QueuePayload kind, int nsamples, Size bytes)
{
	static bool registered = false;
	TimestampTz deadline;
	QueueRequest *request;

	queue_require();
	/* Waiting for itself would never end. */
	if (queue_writer_lane != QUEUE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the ingest writer cannot submit samples"),
				 errhint("A trigger that stores samples must use telemetry.ingest.")));
	if (nsamples > queue_call_samples)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many samples in one call of telemetry.submit"),
				 errdetail("The call has %d samples, sentient_edge.queue_call_samples allows %d: others wait while they are stored.",
						   nsamples, queue_call_samples),
				 errhint("Use telemetry.ingest or telemetry.ingest_batch for many samples, or send fewer a call.")));
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
	request->nsamples = nsamples;
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
void
queue_free_payload(QueueRequest *request)
{
	if (DsaPointerIsValid(request->pooled))
	{
		dsa_free(pool, request->pooled);
		request->pooled = InvalidDsaPointer;
	}
}

/* Copy an answer; its message only where there is one. */
void
queue_copy_answer(QueueAnswer *to, const QueueAnswer *from)
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
	number = queue_lane_of(MyDatabaseId);
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
		(void) queue_abandon();
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
	queue_copy_answer(answer, &request->answer);
	leave_gate(request);
	queue_free_slot(request);
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

bool
queue_abandon(void)
{
	QueueRequest *request = held;
	bool		ours;
	bool		gone;

	if (request == NULL)
		return true;
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	held = NULL;
	if (request->state == SLOT_QUEUED || request->state == SLOT_TAKEN)
		queue->lanes[request->lane].abandoned++;
	if (request->state == SLOT_QUEUED)
	{
		/* Nobody may ever come for it: a writer that cannot start would leave it here for good. */
		queue_unlink_request(request);
		request->state = SLOT_RESERVED;
	}
	leave_gate(request);
	ours = request->state != SLOT_TAKEN;
	gone = request->state == SLOT_RESERVED;
	if (!ours)
		request->orphan = true;
	LWLockRelease(queue->lock);
	if (!ours)
		return false;
	queue_free_payload(request);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	queue_free_slot(request);
	LWLockRelease(queue->lock);
	ConditionVariableSignal(&queue->slot_freed);
	return gone;
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
	(void) queue_abandon();
	queue_leave();
}
