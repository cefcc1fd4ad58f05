/*
 * events_queue.c
 *		Security events on their way to a database's scheduler, in shared memory.
 *
 * A session cannot write an event of a transaction that fails, nor one from
 * before it has a database.  It puts it here, and the scheduler of the database
 * writes it.  The queue is a table of a fixed size, keyed by what makes events
 * equal: the first of its kind is due at once, equal ones that follow within the
 * window are only counted and are due together when it ends.  A storm of failed
 * logins is an event a window.  When the table is nearly full, objects and user
 * names no longer tell events apart; when it is full, the event is counted in its
 * database's entry of type events_lost, which was made beside its first entry.
 *
 * Everything is protected by queue->lock (an LWLock), which is held for a few
 * copies only, never while another lock is taken, and under which nothing raises
 * an error.  A shutdown keeps what waits in a file (events_file.c); a crash of the
 * server loses it.
 *
 * Events of a database are kept under its name: before authentication nothing
 * else is known.  Those of the whole server, under no name, are written by the
 * first database, by name, whose scheduler runs.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/registry.h"
#include "errors.h"
#include "events/events_file.h"
#include "events/events_queue.h"

/* Databases whose schedulers have asked for events. */
#define KNOWN_DATABASES		64
/* A server that has just started does not know its databases yet. */
#define LEARNING_S			60

typedef struct QueuedEvent
{
	SecurityEvent event;		/* begins with the key */
	TimestampTz due_at;
} QueuedEvent;

typedef struct KnownDatabase
{
	char		name[NAMEDATALEN];
	Oid			database;
	int			scheduler;		/* pid */
	TimestampTz asked_at;		/* last time */
} KnownDatabase;

typedef struct EventQueue
{
	LWLock	   *lock;
	TimestampTz started_at;
	int			nknown;
	KnownDatabase known[KNOWN_DATABASES];
	int64		received;		/* events given to the queue */
	int64		collapsed;		/* of them, counted in an entry that was there */
	int64		written;		/* rows written */
	int64		lost;			/* of the received, those without room */
	int64		unattributed;	/* of the lost, those of no known database, not yet reported */
	int64		elsewhere;		/* of databases without the extension */
} EventQueue;

int			event_window = 10;

static int	event_slots = 1024;
static EventQueue *queue = NULL;
static HTAB *entries = NULL;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static bool enter(const SecurityEvent *event);

PG_FUNCTION_INFO_V1(event_statistics);

static void
event_queue_request(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(add_size(MAXALIGN(sizeof(EventQueue)),
									hash_estimate_size(event_slots, sizeof(QueuedEvent))));
	RequestNamedLWLockTranche("sentient_edge events", 1);
}

/* For the file: the next event that waits. */
static bool
next_waiting(SecurityEvent *event, void *arg)
{
	HASH_SEQ_STATUS *scan = arg;
	QueuedEvent *entry;

	while ((entry = hash_seq_search(scan)) != NULL)
	{
		if (entry->event.count > 0)
		{
			*event = entry->event;
			return true;
		}
	}
	return false;
}

/* The postmaster ends; no other process is there. */
static void
event_queue_shutdown(int code, Datum arg)
{
	HASH_SEQ_STATUS scan;

	/* After a crash nothing here can be trusted. */
	if (code != 0 || queue == NULL)
		return;
	hash_seq_init(&scan, entries);
	if (!event_file_write(next_waiting, &scan))
		hash_seq_term(&scan);	/* which ends by itself otherwise */
}

static void
put_kept(const SecurityEvent *event)
{
	(void) enter(event);
}

static void
event_queue_startup(void)
{
	HASHCTL		control = {.keysize = sizeof(EventKey), .entrysize = sizeof(QueuedEvent)};
	bool		found;

	StaticAssertStmt(offsetof(SecurityEvent, key) == 0 && offsetof(QueuedEvent, event) == 0,
					 "an entry of the hash table begins with its key");

	if (previous_shmem_startup)
		previous_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	queue = ShmemInitStruct("sentient_edge events", sizeof(EventQueue), &found);
	if (!found)
	{
		memset(queue, 0, sizeof(EventQueue));
		queue->lock = &(GetNamedLWLockTranche("sentient_edge events"))->lock;
		queue->started_at = GetCurrentTimestamp();
	}
	entries = ShmemInitHash("sentient_edge event entries", event_slots, event_slots,
							&control, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
		on_shmem_exit(event_queue_shutdown, (Datum) 0);
	if (!found)
		event_file_read(put_kept);
}

void
event_queue_init(void)
{
	DefineCustomIntVariable("sentient_edge.audit_event_window",
							"Equal security events of this time are written as one with a count.",
							"The first of its kind is written at once, those that follow when the time is over.",
							&event_window, 10, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("sentient_edge.audit_event_slots",
							"Different security events that can wait to be written.",
							"Each takes about 1.5 kB of shared memory.",
							&event_slots, 1024, 64, 65536,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	if (IsBinaryUpgrade)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = event_queue_request;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = event_queue_startup;
}

bool
event_queue_exists(void)
{
	return queue != NULL;
}

/* Does a scheduler write this database's events?  The caller holds the lock. */
static const KnownDatabase *
find_known(const char *name)
{
	const KnownDatabase *first = NULL;

	for (int i = 0; i < queue->nknown; i++)
	{
		const KnownDatabase *known = &queue->known[i];

		if (name[0] != '\0' && strcmp(known->name, name) == 0)
			return known;
		if (name[0] == '\0' && (first == NULL || strcmp(known->name, first->name) < 0))
			first = known;
	}
	return first;
}

/* Remove what only waits for its window to end.  The caller holds the lock. */
static void
make_room(void)
{
	HASH_SEQ_STATUS scan;
	QueuedEvent *entry;

	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->event.count == 0 && entry->event.key.type != EVENT_EVENTS_LOST)
			(void) hash_search(entries, &entry->event.key, HASH_REMOVE, NULL);
	}
}

/* The entry that counts what a database loses; NULL when there is not even room for that. */
static QueuedEvent *
lost_entry(const char *database)
{
	EventKey	key;
	QueuedEvent *entry;
	bool		found;

	memset(&key, 0, sizeof(key));
	strlcpy(key.database, database, sizeof(key.database));
	key.type = EVENT_EVENTS_LOST;
	key.outcome = EVENT_NO_OUTCOME;
	key.severity = SEVERITY_ALERT;
	strlcpy(key.message, "security events were lost because the queue was full", sizeof(key.message));
	entry = hash_search(entries, &key, HASH_ENTER_NULL, &found);
	if (entry != NULL && !found)
	{
		memset(&entry->event.event_id, 0, sizeof(*entry) - offsetof(QueuedEvent, event.event_id));
		entry->due_at = 0;
	}
	return entry;
}

static void
count_into(SecurityEvent *kept, const SecurityEvent *event, int64 count)
{
	if (kept->count == 0)
	{
		kept->event_id = event->event_id;
		kept->first_at = event->first_at;
	}
	kept->first_at = Min(kept->first_at, event->first_at);
	kept->last_at = Max(kept->last_at, event->last_at);
	kept->count += count;
	kept->amount += event->amount;
}

/* Put an event into the table.  The caller holds the lock.  True when it is of a new kind. */
static bool
enter(const SecurityEvent *event)
{
	EventKey	key = event->key;
	QueuedEvent *entry;
	QueuedEvent *lost = lost_entry(key.database);
	bool		found;

	entry = hash_search(entries, &key, HASH_FIND, NULL);
	if (entry == NULL)
	{
		/* Nearly full: whoever makes up names must not drive the others out. */
		if (hash_get_num_entries(entries) >= event_slots - event_slots / 4)
			make_room();
		if (hash_get_num_entries(entries) >= event_slots - event_slots / 4)
		{
			memset(key.username, 0, sizeof(key.username));
			memset(key.object, 0, sizeof(key.object));
			memset(key.message, 0, sizeof(key.message));
			memset(key.application_name, 0, sizeof(key.application_name));
			memset(key.details, 0, sizeof(key.details));
			strlcpy(key.message, "several, which the queue had no room to tell apart", sizeof(key.message));
		}
		/* The last places are for the counts of what is lost. */
		entry = hash_search(entries, &key,
							hash_get_num_entries(entries) < event_slots - event_slots / 16 ? HASH_ENTER_NULL : HASH_FIND,
							&found);
	}
	else
		found = true;

	if (entry == NULL)
	{
		queue->lost++;
		if (lost != NULL)
			count_into(&lost->event, event, event->count);
		else
			queue->unattributed += event->count;
		return false;
	}
	if (!found)
	{
		memcpy(&entry->event, event, sizeof(SecurityEvent));
		entry->event.key = key;
		entry->due_at = 0;
		return true;
	}
	queue->collapsed++;
	count_into(&entry->event, event, event->count);
	return false;
}

Oid
event_queue_push(const SecurityEvent *event, bool expected)
{
	const KnownDatabase *known;
	bool		learning;
	bool		standby = RecoveryInProgress();
	bool		fresh = false;
	Oid			wake = InvalidOid;

	if (queue == NULL || MyProc == NULL || LWLockHeldByMe(queue->lock))
		return InvalidOid;

	learning = standby || !TimestampDifferenceExceeds(queue->started_at, event->last_at, LEARNING_S * 1000);
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	known = find_known(event->key.database);
	queue->received++;
	if (known == NULL && !expected && !learning)
		queue->elsewhere++;
	else
	{
		fresh = enter(event);
		if (fresh && known != NULL)
			wake = known->database;
	}
	LWLockRelease(queue->lock);

	/* Nobody writes on a standby before it is promoted: the server's log has to do until then. */
	if (standby && fresh)
		ereport(LOG,
				(errmsg("security event on a standby: %s of role \"%s\", user \"%s\", object \"%s\"",
						security_event_name(event->key.type), event->key.db_role, event->key.username, event->key.object),
				 errdetail("It is written to audit.security_events when the standby is promoted; equal ones are counted.")));
	return wake;
}

/*
 * Note that this scheduler writes the events of its database, and forget those
 * that have not done so for long.  True when it is the first by name that runs.
 */
static bool
note_database(const char *database, TimestampTz now)
{
	KnownDatabase seen[KNOWN_DATABASES];
	KnownDatabase *mine = NULL;
	int			nseen;
	bool		first = true;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	for (int i = 0; i < queue->nknown; i++)
	{
		KnownDatabase *known = &queue->known[i];

		if (known->database == MyDatabaseId)
			mine = known;
		else if (TimestampDifferenceExceeds(known->asked_at, now, Max(LEARNING_S, 2 * event_window) * 1000))
			queue->known[i--] = queue->known[--queue->nknown];
	}
	if (mine == NULL && queue->nknown < KNOWN_DATABASES)
		mine = &queue->known[queue->nknown++];
	if (mine != NULL)
	{
		strlcpy(mine->name, database, sizeof(mine->name));
		mine->database = MyDatabaseId;
		mine->scheduler = MyProcPid;
		mine->asked_at = now;
	}
	nseen = queue->nknown;
	memcpy(seen, queue->known, sizeof(seen));
	LWLockRelease(queue->lock);

	for (int i = 0; i < nseen && first; i++)
	{
		if (strcmp(seen[i].name, database) < 0 && registry_alive(seen[i].scheduler, seen[i].database))
			first = false;
	}
	return first;
}

int
event_queue_take(const char *database, SecurityEvent *events, int max)
{
	HASH_SEQ_STATUS scan;
	QueuedEvent *entry;
	TimestampTz now = GetCurrentTimestamp();
	bool		learning = !TimestampDifferenceExceeds(queue->started_at, now, LEARNING_S * 1000);
	bool		first = note_database(database, now);
	int			n = 0;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	if (first && queue->unattributed > 0)
	{
		QueuedEvent *lost = lost_entry("");

		if (lost != NULL)
		{
			lost->event.first_at = lost->event.count == 0 ? now : lost->event.first_at;
			lost->event.last_at = now;
			lost->event.count += queue->unattributed;
			queue->unattributed = 0;
		}
	}
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		bool		ours = strcmp(entry->event.key.database, database) == 0 ||
			(first && entry->event.key.database[0] == '\0');

		if (ours && entry->event.count > 0 && entry->due_at <= now)
		{
			if (n == max)
				continue;
			events[n++] = entry->event;
			entry->event.count = 0;
			entry->event.amount = 0;
			entry->due_at = TimestampTzPlusMilliseconds(now, (int64) event_window * 1000);
		}
		else if (ours && entry->event.count == 0 && entry->due_at <= now)
			(void) hash_search(entries, &entry->event.key, HASH_REMOVE, NULL);
		else if (!ours && first && !learning && entry->event.key.database[0] != '\0' &&
				 find_known(entry->event.key.database) == NULL &&
				 TimestampDifferenceExceeds(entry->event.last_at, now, LEARNING_S * 1000))
		{
			/* Its database does not have the extension, or not any longer. */
			queue->elsewhere += entry->event.count;
			(void) hash_search(entries, &entry->event.key, HASH_REMOVE, NULL);
		}
	}
	LWLockRelease(queue->lock);
	return n;
}

void
event_queue_give_back(const SecurityEvent *events, int n)
{
	int64		collapsed;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	collapsed = queue->collapsed;
	for (int i = 0; i < n; i++)
	{
		QueuedEvent *entry;

		/* Under its old id: should the transaction have been committed after all, it is the same row. */
		(void) enter(&events[i]);
		entry = hash_search(entries, &events[i].key, HASH_FIND, NULL);
		if (entry != NULL)
			entry->due_at = 0;
	}
	queue->collapsed = collapsed;
	LWLockRelease(queue->lock);
}

void
event_queue_written(int64 n)
{
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	queue->written += n;
	LWLockRelease(queue->lock);
}

/* audit.event_statistics() */
Datum
event_statistics(PG_FUNCTION_ARGS)
{
	TupleDesc	descriptor;
	Datum		values[7];
	bool		nulls[7] = {false};

	registry_require();
	if (queue == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no queue of security events during a binary upgrade")));
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	LWLockAcquire(queue->lock, LW_SHARED);
	values[0] = Int32GetDatum(event_slots);
	values[1] = Int32GetDatum((int32) hash_get_num_entries(entries));
	values[2] = Int64GetDatum(queue->received);
	values[3] = Int64GetDatum(queue->collapsed);
	values[4] = Int64GetDatum(queue->written);
	values[5] = Int64GetDatum(queue->lost);
	values[6] = Int64GetDatum(queue->elsewhere);
	LWLockRelease(queue->lock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
