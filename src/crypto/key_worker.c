/*
 * key_worker.c
 *		Work on data keys in a process, and so a transaction, of its own.
 *
 * A key that was made in the caller's transaction would be lost with it, while
 * what it has encrypted may be in other hands already; the same goes for counts
 * of messages.  Sessions that want the same wait for one another, so that however
 * many there are, one worker runs.  Workers take ShareRowExclusiveLock on
 * sentient_edge.data_keys to make a key: there is never more than one that is
 * active.  What a worker has not committed when it dies was not done.
 *
 * No other process can do it for a transaction that has created the extension, or
 * has written to the table, itself (a restore in one transaction does both): it
 * works on its own then.  So it does for keys of the audit trail when no worker is
 * free: changes to audited tables must not fail for that.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "base/worker.h"
#include "compat.h"
#include "crypto/data_key_cache.h"
#include "crypto/key_events.h"
#include "crypto/key_row.h"
#include "crypto/key_usage.h"
#include "crypto/key_worker.h"
#include "crypto/secret.h"
#include "errors.h"

/* How long a session waits for its worker, and the worker for a lock. */
#define WORKER_WAIT_MS		15000
#define WORKER_LOCK_MS		10000
/* A worker that gave way to somebody is started again so often, after ever longer pauses. */
#define ATTEMPTS			8
#define FIRST_PAUSE_MS		20
/* Messages that are reserved at a time: what a restart costs at most. */
#define FIRST_RESERVATION	(INT64CONST(1) << 20)
#define LARGEST_RESERVATION	(INT64CONST(1) << 24)

/* The kind of advisory lock that no SQL function takes; purposes are its objects. */
#define TURN_MAKE			0x5E11
#define TURN_RESERVE		0x5E12

/* What a worker is asked to do, in bgw_extra. */
typedef struct KeyOrder
{
	Oid			database;
	bool		reserve;		/* messages for key_id; else make a key */
	bool		replace;		/* only in place of key_id */
	KeyPurpose	purpose;
	pg_uuid_t	key_id;
} KeyOrder;

/* Messages that were reserved; to is 0 when none were. */
typedef struct Reservation
{
	int64		from;
	int64		to;
} Reservation;

StaticAssertDecl(sizeof(KeyOrder) <= BGW_EXTRALEN, "key order does not fit into bgw_extra");

key_event_hook_type key_event_hook = NULL;

pg_noreturn PGDLLEXPORT void key_worker_main(Datum arg);

static bool
start_worker(const KeyOrder *order, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	worker_describe(&worker, "key_worker_main", "sentient_edge key worker");
	memcpy(worker.bgw_extra, order, sizeof(*order));
	worker.bgw_notify_pid = handle ? MyProcPid : 0;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* Start a worker and wait for its end, but not for ever; false when none is free. */
static bool
run_worker(const KeyOrder *order)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WORKER_WAIT_MS);
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	if (!start_worker(order, &handle))
		return false;
	while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
	{
		long		wait_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

		if (wait_ms <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(wait_ms, 1000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(handle);
	return true;
}

/* Wait before another attempt; false when there were enough of them. */
static bool
pause_before(int attempt)
{
	if (attempt > ATTEMPTS)
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 FIRST_PAUSE_MS << (attempt - 2), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

static void
no_worker(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no background worker is free to work on data keys"),
			 errhint("Increase max_worker_processes, or try again later.")));
}

/* The active key of a purpose, as the table says now. */
static bool
active_key(KeyPurpose purpose, pg_uuid_t *key_id)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(key_purpose_name(purpose))};
	bool		isnull;

	if (sql_query("SELECT key_id FROM sentient_edge.data_keys WHERE purpose = $1 AND state = 'active'",
				  1, types, values) == 0)
		return false;
	*key_id = *DatumGetUUIDP(sql_value(0, 0, &isnull));
	return true;
}

/* A random key with a random id (version 4), wrapped by the active master key; no error in between. */
static bool
generate_key(KeyRow *row)
{
	uint8		key[CIPHER_KEY_BYTES];
	bool		done;

	done = cipher_random(row->id.data, UUID_LEN) && cipher_random(key, sizeof(key));
	row->id.data[6] = (row->id.data[6] & 0x0F) | 0x40;
	row->id.data[8] = (row->id.data[8] & 0x3F) | 0x80;
	if (done && row->purpose == KEY_LEDGER)
	{
		SignKey    *pair = sign_key_new(key);

		row->has_public = pair != NULL && sign_key_public(pair, row->public_key);
		done = row->has_public;
		sign_key_free(pair);
	}
	done = done && key_row_wrap(row, master_key(0), key);
	secret_zero(key, sizeof(key));
	return done;
}

static Datum
bytes_datum(const uint8 *from, size_t length)
{
	bytea	   *bytes = palloc(VARHDRSZ + length);

	SET_VARSIZE(bytes, VARHDRSZ + length);
	memcpy(VARDATA(bytes), from, length);
	return PointerGetDatum(bytes);
}

/* Put a new active key into the table; its trigger retires the one before. */
static void
make_key(const KeyOrder *order)
{
	Oid			types[] = {UUIDOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, BYTEAOID, BYTEAOID};
	KeyRow		row = {.purpose = order->purpose,.created_at = GetCurrentTimestamp()};
	pg_uuid_t	present;
	bool		exists;

	/* Not by a statement: those who watch statements may be what asks for the key. */
	LockRelationOid(get_relname_relid("data_keys", get_namespace_oid("sentient_edge", false)), ShareRowExclusiveLock);
	exists = active_key(order->purpose, &present);
	if (exists && (!order->replace || memcmp(&present, &order->key_id, sizeof(present)) != 0))
		return;

	master_key_require();
	if (!generate_key(&row))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a data key"),
				 errdetail("OpenSSL has failed.")));
	{
		Datum		values[] = {
			UUIDPGetDatum(&row.id),
			CStringGetTextDatum(key_purpose_name(row.purpose)),
			TimestampTzGetDatum(row.created_at),
			CStringGetTextDatum(row.fingerprint),
			bytes_datum(row.wrapped, sizeof(row.wrapped)),
			bytes_datum(row.public_key, row.has_public ? sizeof(row.public_key) : 0),
		};

		(void) sql_query("INSERT INTO sentient_edge.data_keys (key_id, purpose, created_at, master_fingerprint, wrapped_key, public_key) "
						 "VALUES ($1, $2, $3, $4, $5, nullif($6, ''))", lengthof(types), types, values);
	}
	if (key_event_hook != NULL)
		key_event_hook("key_created", &row.id);
}

/* Reserve messages in the table; the busier the key, the more. */
static Reservation
reserve_messages(const KeyOrder *order)
{
	Oid			types[] = {UUIDOID, INT8OID};
	Datum		values[2];
	KeyUsage	usage;
	int64		messages = FIRST_RESERVATION;
	Reservation reservation = {0};
	bool		isnull;

	if (key_usage_get(&order->key_id, &usage))
		messages = Max(FIRST_RESERVATION, Min(LARGEST_RESERVATION, usage.granted * 2));
	values[0] = UUIDPGetDatum(&order->key_id);
	values[1] = Int64GetDatum(messages);
	if (sql_query("UPDATE sentient_edge.data_keys SET reserved_messages = reserved_messages + $2 "
				  "WHERE key_id = $1 AND state <> 'destroyed' RETURNING reserved_messages", 2, types, values) > 0)
	{
		reservation.to = DatumGetInt64(sql_value(0, 0, &isnull));
		reservation.from = reservation.to - messages;
	}
	return reservation;
}

/*
 * In a worker: wait for the table as long as need be, but once it is locked for
 * other locks less than it takes PostgreSQL to look for a deadlock.  A restore
 * locks audit.log, which gets an entry of the change, and then this table; the
 * worker must give way, or the restore could be the one that fails.
 */
static void
lock_table(const KeyOrder *order)
{
	char		timeout[32];

	LockRelationOid(get_relname_relid("data_keys", get_namespace_oid("sentient_edge", false)),
					order->reserve ? RowExclusiveLock : ShareRowExclusiveLock);
	snprintf(timeout, sizeof(timeout), "%d", Max(DeadlockTimeout / 2, 1));
	sql_set_local("lock_timeout", timeout);
}

/* Carry out an order in the current transaction; tells what was reserved. */
static Reservation
work(const KeyOrder *order, int lock_timeout_ms)
{
	Reservation reservation = {0};
	SqlScope	scope;

	PushActiveSnapshot(GetTransactionSnapshot());
	scope = sql_begin(lock_timeout_ms);
	if (lock_timeout_ms > 0)
		lock_table(order);
	if (order->reserve)
		reservation = reserve_messages(order);
	else
		make_key(order);
	sql_end(&scope);
	PopActiveSnapshot();
	return reservation;
}

/* Wait until it is this session's turn to have a worker for this; the lock lasts until drop_turn. */
static void
take_turn(LOCKTAG *tag, uint16 turn, KeyPurpose purpose)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, 0, (uint32) purpose, turn);
	(void) LockAcquire(tag, ExclusiveLock, false, false);
}

static void
drop_turn(const LOCKTAG *tag)
{
	(void) LockRelease(tag, ExclusiveLock, false);
}

static KeyOrder
order_key(KeyPurpose purpose, const pg_uuid_t *replaced)
{
	KeyOrder	order = {.database = MyDatabaseId,.purpose = purpose};

	if (replaced != NULL)
	{
		order.replace = true;
		order.key_id = *replaced;
	}
	return order;
}

static KeyOrder
order_messages(const pg_uuid_t *key_id)
{
	return (KeyOrder) {.database = MyDatabaseId,.reserve = true,.key_id = *key_id};
}

/* Would a worker wait for this very transaction, or not see the table at all? */
static bool
must_work_here(void)
{
	Oid			namespace = get_namespace_oid("sentient_edge", false);
	Relation	rel = table_open(get_relname_relid("data_keys", namespace), AccessShareLock);
	bool		here = rel->rd_createSubid != InvalidSubTransactionId ||
		CheckRelationLockedByMe(rel, RowExclusiveLock, true);

	table_close(rel, AccessShareLock);
	return here;
}

/*
 * Carry out an order in this process and its transaction.  Messages are granted at
 * once: should it be rolled back, they are forgotten only by a restart.
 */
static void
work_here(const KeyOrder *order)
{
	Reservation reservation = work(order, 0);

	if (reservation.to > 0)
		key_usage_grant(&order->key_id, reservation.from, reservation.to);
}

/* Is there no active key, or still the one that is to be replaced? */
static bool
is_wanted(KeyPurpose purpose, const pg_uuid_t *replaced)
{
	pg_uuid_t	present;

	return !data_key_active_row(purpose, &present) ||
		(replaced != NULL && memcmp(&present, replaced, sizeof(present)) == 0);
}

void
key_worker_make(KeyPurpose purpose, const pg_uuid_t *replaced)
{
	KeyOrder	order = order_key(purpose, replaced);
	LOCKTAG		tag;

	if (must_work_here())
	{
		/* A trigger of the table may be what asks, for the very key that is being entered. */
		CommandCounterIncrement();
		data_key_forget();
		if (is_wanted(purpose, replaced))
			work_here(&order);
		return;
	}
	take_turn(&tag, TURN_MAKE, purpose);
	data_key_forget();
	for (int attempt = 1; is_wanted(purpose, replaced) && (attempt == 1 || pause_before(attempt)); attempt++)
	{
		if (!run_worker(&order))
		{
			/* What these make is stored by the same transaction, or nowhere. */
			if (purpose != KEY_AUDIT_MAC && purpose != KEY_LEDGER)
				no_worker();
			work_here(&order);
			break;
		}
		data_key_forget();
	}
	drop_turn(&tag);
}

static bool
needs_messages(const pg_uuid_t *key_id)
{
	KeyUsage	usage;

	return !key_usage_get(key_id, &usage) || usage.reserved - usage.used < FIRST_RESERVATION / 2;
}

void
key_worker_reserve(const pg_uuid_t *key_id, KeyPurpose purpose)
{
	KeyOrder	order = order_messages(key_id);
	LOCKTAG		tag;

	if (must_work_here())
	{
		work_here(&order);
		return;
	}
	take_turn(&tag, TURN_RESERVE, purpose);
	/* The session before this one may have wanted the same. */
	for (int attempt = 1; needs_messages(key_id) && (attempt == 1 || pause_before(attempt)); attempt++)
	{
		if (!run_worker(&order))
			no_worker();
	}
	drop_turn(&tag);
}

void
key_worker_make_soon(KeyPurpose purpose, const pg_uuid_t *replaced)
{
	KeyOrder	order = order_key(purpose, replaced);

	(void) start_worker(&order, NULL);
}

void
key_worker_reserve_soon(const pg_uuid_t *key_id)
{
	KeyOrder	order = order_messages(key_id);

	(void) start_worker(&order, NULL);
}

/* ---- the worker ---- */

void
key_worker_main(Datum arg)
{
	KeyOrder	order;
	Reservation reservation;

	worker_prepare();
	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	worker_connect(order.database, "sentient_edge key worker");
	pgstat_report_activity(STATE_RUNNING, order.reserve ? "reserving messages of a data key" : "making a data key");

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	reservation = work(&order, WORKER_LOCK_MS);
	CommitTransactionCommand();
	if (reservation.to > 0)
		key_usage_grant(&order.key_id, reservation.from, reservation.to);
	proc_exit(0);
}
