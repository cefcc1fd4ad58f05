/*
 * key_usage.c
 *		How many messages each data key has encrypted, in shared memory.
 *
 * A process takes messages in blocks and counts them down by itself.  Blocks come
 * out of a reservation that stands in sentient_edge.data_keys before the first of
 * its messages is encrypted (key_worker.c).  Whatever crashes or is restarted, the
 * count goes on from the end of the reservation: it may be too high, never too
 * low.  One LWLock protects the slots; it is held for a few assignments only.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "crypto/key_usage.h"
#include "errors.h"

#define USAGE_SLOTS			512
/* A request that nothing came of is repeated after this. */
#define REQUEST_PAUSE_MS	10000

typedef struct UsageSlot
{
	Oid			database;		/* lock, like all of it; InvalidOid: free */
	pg_uuid_t	key_id;
	int64		used;
	int64		reserved;
	int64		granted;		/* size of the last reservation */
	TimestampTz touched_at;
	TimestampTz more_at;		/* when more was asked for; 0: not */
	TimestampTz rotation_at;
} UsageSlot;

typedef struct Usage
{
	LWLock	   *lock;
	UsageSlot	slots[USAGE_SLOTS];
} Usage;

static Usage *usage_shared = NULL;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static void
usage_request_shmem(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(sizeof(Usage));
	RequestNamedLWLockTranche("sentient_edge keys", 1);
}

static void
usage_startup_shmem(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	usage_shared = ShmemInitStruct("sentient_edge keys", sizeof(Usage), &found);
	if (!found)
	{
		memset(usage_shared, 0, sizeof(*usage_shared));
		usage_shared->lock = &(GetNamedLWLockTranche("sentient_edge keys"))->lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

void
key_usage_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = usage_request_shmem;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = usage_startup_shmem;
}

/* The slot of a key of this database, or NULL; the caller holds the lock. */
static UsageSlot *
find_slot(const pg_uuid_t *key_id)
{
	for (int i = 0; i < USAGE_SLOTS; i++)
	{
		UsageSlot  *slot = &usage_shared->slots[i];

		if (slot->database == MyDatabaseId && memcmp(&slot->key_id, key_id, sizeof(*key_id)) == 0)
			return slot;
	}
	return NULL;
}

/* Is something wanted that was not asked for just now?  Note that it is, then. */
static bool
ask(bool wanted, TimestampTz *asked_at, TimestampTz now)
{
	if (!wanted || (*asked_at != 0 && !TimestampDifferenceExceeds(*asked_at, now, REQUEST_PAUSE_MS)))
		return false;
	*asked_at = now;
	return true;
}

int
key_usage_take(const pg_uuid_t *key_id, int wanted, KeyUsage *usage)
{
	TimestampTz now = GetCurrentTimestamp();
	UsageSlot  *slot;
	int			taken = 0;

	memset(usage, 0, sizeof(*usage));
	LWLockAcquire(usage_shared->lock, LW_EXCLUSIVE);
	slot = find_slot(key_id);
	if (slot != NULL)
	{
		slot->touched_at = now;
		if (slot->used + wanted <= Min(slot->reserved, KEY_MESSAGES_MAX))
		{
			slot->used += wanted;
			taken = wanted;
		}
		usage->used = slot->used;
		usage->reserved = slot->reserved;
		usage->wants_more = ask(slot->reserved < KEY_MESSAGES_MAX && slot->reserved - slot->used < slot->granted / 2,
								&slot->more_at, now);
		usage->wants_rotation = ask(slot->used >= KEY_MESSAGES_ROTATE, &slot->rotation_at, now);
	}
	LWLockRelease(usage_shared->lock);
	return taken;
}

void
key_usage_grant(const pg_uuid_t *key_id, int64 from, int64 to)
{
	UsageSlot  *slot;

	LWLockAcquire(usage_shared->lock, LW_EXCLUSIVE);
	slot = find_slot(key_id);
	if (slot == NULL)
	{
		/* A free one, else that which was not in use for longest: its key goes on from its reservation. */
		slot = &usage_shared->slots[0];
		for (int i = 0; i < USAGE_SLOTS && OidIsValid(slot->database); i++)
		{
			if (!OidIsValid(usage_shared->slots[i].database) || usage_shared->slots[i].touched_at < slot->touched_at)
				slot = &usage_shared->slots[i];
		}
		memset(slot, 0, sizeof(*slot));
		slot->database = MyDatabaseId;
		slot->key_id = *key_id;
		slot->used = from;
		slot->reserved = from;
	}
	if (to > slot->reserved)
	{
		slot->granted = to - from;
		slot->reserved = to;
	}
	slot->more_at = 0;
	slot->touched_at = GetCurrentTimestamp();
	LWLockRelease(usage_shared->lock);
}

bool
key_usage_get(const pg_uuid_t *key_id, KeyUsage *usage)
{
	UsageSlot  *slot;

	memset(usage, 0, sizeof(*usage));
	if (usage_shared == NULL)
		return false;
	LWLockAcquire(usage_shared->lock, LW_SHARED);
	slot = find_slot(key_id);
	if (slot != NULL)
	{
		usage->used = slot->used;
		usage->reserved = slot->reserved;
		usage->granted = slot->granted;
	}
	LWLockRelease(usage_shared->lock);
	return slot != NULL;
}
