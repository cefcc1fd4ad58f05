/*
 * data_key.c
 *		The data keys of this database in every backend, and their use.
 *
 * sentient_edge.data_keys is read when a key is first asked for, and again after
 * an invalidation of the table, which its trigger sends.  A key is unwrapped when
 * it is first used; its bytes then lie in secret memory (secret.c) until the end
 * of the process, or of the transaction in which its row was found gone, destroyed
 * or changed.  The table is read with AccessShareLock, whatever the user may read.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "crypto/cipher.h"
#include "crypto/data_key.h"
#include "crypto/data_key_cache.h"
#include "crypto/key_row.h"
#include "crypto/key_usage.h"
#include "crypto/key_worker.h"
#include "crypto/secret.h"
#include "errors.h"

#define NONCES				256
#define SUBKEYS				8
#define LABEL_LENGTH		64
/* A process takes so many messages first, and then twice as many each time. */
#define FIRST_BLOCK			16
#define LARGEST_BLOCK		4096

typedef struct Subkey
{
	char		label[LABEL_LENGTH];
	MacKey	   *mac;
} Subkey;

struct DataKey
{
	KeyRow		row;
	bool		failed;			/* result of an attempt to unwrap it */
	UnwrapResult result;
	uint8	   *secret;			/* NULL until it is unwrapped */
	CipherKey  *cipher;			/* made at first use, like what follows */
	SignKey    *sign;
	Subkey		subkeys[SUBKEYS];
	int			nsubkeys;
	int			messages;		/* that this process may encrypt without asking */
	int			block;
	bool		present;		/* in the table, when it was last read */
	DataKey    *next;
};

/* Attribute numbers of sentient_edge.data_keys in the order of KEY_ROW_COLUMNS. */
static const char *const column_names[KEY_ROW_NATTS] = {
	"key_id", "purpose", "state", "created_at", "master_fingerprint", "public_key", "wrapped_key"
};

static DataKey *keys = NULL;
static DataKey *leaving = NULL; /* no longer valid, freed when the transaction ends */
static DataKey *active[KEY_PURPOSES];	/* of keys */
static bool keys_valid = false;
static uint64 keys_generation = 0;	/* counts invalidations */
static Oid	keys_relid = InvalidOid;

static struct
{
	uint8		bytes[NONCES][CRYPTO_NONCE_BYTES];
	int			left;
	int			owner;			/* pid */
}			nonces;

static void invalidate(Datum arg, Oid relid);
static void at_transaction_end(XactEvent event, void *arg);

void
data_key_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
	RegisterXactCallback(at_transaction_end, NULL);
}

/* Relation cache callback; runs at any lock acquisition, must not fail. */
static void
invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == keys_relid || !OidIsValid(keys_relid))
		data_key_forget();
}

void
data_key_forget(void)
{
	keys_valid = false;
	keys_generation++;
}

/* Free a key that is in no list. */
static void
free_key(DataKey *key)
{
	cipher_key_free(key->cipher);
	sign_key_free(key->sign);
	for (int i = 0; i < key->nsubkeys; i++)
		mac_key_free(key->subkeys[i].mac);
	secret_free(key->secret);
	secret_zero(key, sizeof(*key));
	pfree(key);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		return;
	while (leaving != NULL)
	{
		DataKey    *key = leaving;

		leaving = key->next;
		free_key(key);
	}
}

static DataKey *
find_key(const pg_uuid_t *key_id)
{
	for (DataKey *key = keys; key != NULL; key = key->next)
	{
		if (memcmp(&key->row.id, key_id, sizeof(*key_id)) == 0)
			return key;
	}
	return NULL;
}

/* Is what a key was unwrapped from still the same, but for its state? */
static bool
same_key(const KeyRow *a, const KeyRow *b)
{
	return a->purpose == b->purpose && a->created_at == b->created_at &&
		strcmp(a->fingerprint, b->fingerprint) == 0 &&
		a->has_public == b->has_public && memcmp(a->public_key, b->public_key, sizeof(a->public_key)) == 0 &&
		a->has_wrapped == b->has_wrapped && memcmp(a->wrapped, b->wrapped, sizeof(a->wrapped)) == 0;
}

/* Enter a row of the table into the list. */
static void
enter_row(const KeyRow *row)
{
	DataKey    *key;

	if (row->state == KEY_DESTROYED)
		return;
	key = find_key(&row->id);
	if (key == NULL || !same_key(&key->row, row))
	{
		/* A changed one stays behind, absent, for those who have a pointer to it. */
		key = MemoryContextAllocZero(TopMemoryContext, sizeof(DataKey));
		key->row = *row;
		key->next = keys;
		keys = key;
	}
	key->row.state = row->state;
	key->present = true;
}

static void
scan_table(Relation rel)
{
	AttrNumber	columns[KEY_ROW_NATTS];
	Snapshot	snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rel)));
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan;

	for (int i = 0; i < KEY_ROW_NATTS; i++)
	{
		columns[i] = get_attnum(RelationGetRelid(rel), column_names[i]);
		if (columns[i] == InvalidAttrNumber)
			elog(ERROR, "column %s of sentient_edge.data_keys is missing", column_names[i]);
	}
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Datum		values[KEY_ROW_NATTS];
		bool		nulls[KEY_ROW_NATTS];
		KeyRow		row;

		for (int i = 0; i < KEY_ROW_NATTS; i++)
			values[i] = slot_getattr(slot, columns[i], &nulls[i]);
		if (key_row_decode(values, nulls, &row))
			enter_row(&row);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
}

/* Bring the list in line with the table. */
static void
read_table(void)
{
	Oid			namespace = get_namespace_oid("sentient_edge", true);
	Oid			relid = OidIsValid(namespace) ? get_relname_relid("data_keys", namespace) : InvalidOid;
	Relation	rel;
	uint64		generation;
	DataKey   **link = &keys;

	se_assert(IsTransactionState());
	keys_relid = relid;
	memset(active, 0, sizeof(active));
	for (DataKey *key = keys; key != NULL; key = key->next)
		key->present = false;

	/* What invalidates the table from here on is not covered by the snapshot. */
	rel = OidIsValid(relid) ? table_open(relid, AccessShareLock) : NULL;
	generation = keys_generation;
	if (rel != NULL)
	{
		scan_table(rel);
		table_close(rel, AccessShareLock);
	}

	while (*link != NULL)
	{
		DataKey    *key = *link;

		if (key->present)
		{
			if (key->row.state == KEY_ACTIVE)
				active[key->row.purpose] = key;
			link = &key->next;
		}
		else
		{
			*link = key->next;
			key->next = leaving;
			leaving = key;
		}
	}
	keys_valid = generation == keys_generation;
}

/* Have the bytes of a key at hand; false when they are not to be had. */
static bool
unwrap(DataKey *key)
{
	uint8	   *secret;

	if (key->secret != NULL)
		return true;
	if (key->failed)
		return false;
	secret = secret_new();
	if (secret == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("no protected memory is left for another data key")));
	key->result = key_row_unwrap(&key->row, secret);
	if (key->result == UNWRAP_DONE)
		key->secret = secret;
	else
		secret_free(secret);
	key->failed = key->secret == NULL;
	return !key->failed;
}

/* The error for an active key that is there but cannot be used. */
static void
unusable(const DataKey *key)
{
	if (key->result == UNWRAP_UNKNOWN_MASTER)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the active data key for \"%s\" is wrapped by a master key that this server does not have",
						key_purpose_name(key->row.purpose)),
				 errdetail("The fingerprint of that master key is %s.", key->row.fingerprint),
				 errhint("Provide that master key after the server's own, restart the server, and call sentient_edge.rotate_master_key().")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the active data key for \"%s\" does not unwrap", key_purpose_name(key->row.purpose)),
			 errdetail("Its row in sentient_edge.data_keys was changed or exchanged."),
			 errhint("Restore the row from a backup, or replace the key with sentient_edge.rotate_data_key().")));
}

static DataKey *
find_active(KeyPurpose purpose)
{
	if (!keys_valid)
		read_table();
	return active[purpose];
}

bool
data_key_active_row(KeyPurpose purpose, pg_uuid_t *key_id)
{
	DataKey    *key = find_active(purpose);

	if (key != NULL)
		*key_id = key->row.id;
	return key != NULL;
}

bool
data_keys_available(void)
{
	return master_key_count() > 0;
}

void
data_keys_require(void)
{
	master_key_require();
}

const DataKey *
data_key_active(KeyPurpose purpose)
{
	DataKey    *key;

	if (likely(keys_valid && active[purpose] != NULL && active[purpose]->secret != NULL))
		return active[purpose];

	data_keys_require();
	key = find_active(purpose);
	if (key == NULL)
	{
		if (RecoveryInProgress())
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("there is no data key for \"%s\" yet", key_purpose_name(purpose)),
					 errdetail("A standby cannot make one."),
					 errhint("Use the function on the primary once.")));
		key_worker_make(purpose, NULL);
		data_key_forget();
		key = find_active(purpose);
	}
	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not make a data key for \"%s\"", key_purpose_name(purpose)),
				 errhint("See the server log for what its key worker says. A transaction that holds a lock on sentient_edge.data_keys keeps it from working.")));
	else if (!unwrap(key))
		unusable(key);
	return key;
}

const DataKey *
data_key_active_if_any(KeyPurpose purpose)
{
	DataKey    *key;

	if (!data_keys_available())
		return NULL;
	key = find_active(purpose);
	return key != NULL && unwrap(key) ? key : NULL;
}

const DataKey *
data_key_find(const pg_uuid_t *key_id, KeyPurpose purpose)
{
	DataKey    *key;

	if (!data_keys_available())
		return NULL;
	if (!keys_valid)
		read_table();
	key = find_key(key_id);
	return key != NULL && key->row.purpose == purpose && unwrap(key) ? key : NULL;
}

const pg_uuid_t *
data_key_id(const DataKey *key)
{
	return &key->row.id;
}

/* OpenSSL fails at something only when there is no memory. */
static void
openssl_failed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("OpenSSL could not use a data key")));
}

static CipherKey *
cipher_of(const DataKey *key)
{
	if (unlikely(key->cipher == NULL))
	{
		DataKey    *changed = unconstify(DataKey *, key);

		changed->cipher = cipher_key_new(key->secret);
		if (changed->cipher == NULL)
			openssl_failed();
	}
	return key->cipher;
}

/* A nonce that was never used: random ones are fetched in advance, and each is wiped as it is taken. */
static void
take_nonce(uint8 nonce[CRYPTO_NONCE_BYTES])
{
	uint8	   *taken;

	if (nonces.left == 0 || unlikely(nonces.owner != MyProcPid))
	{
		nonces.left = 0;
		if (!cipher_random(&nonces.bytes[0][0], sizeof(nonces.bytes)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		nonces.owner = MyProcPid;
		nonces.left = NONCES;
	}
	taken = nonces.bytes[--nonces.left];
	memcpy(nonce, taken, CRYPTO_NONCE_BYTES);
	memset(taken, 0, CRYPTO_NONCE_BYTES);
}

/* Get leave for more messages from all that this key may encrypt. */
static void
take_messages(DataKey *key)
{
	KeyUsage	usage;
	int			wanted = key->block == 0 ? FIRST_BLOCK : Min(key->block * 2, LARGEST_BLOCK);
	int			taken = key_usage_take(&key->row.id, wanted, &usage);

	if (taken == 0 && usage.used + wanted <= KEY_MESSAGES_MAX)
	{
		if (RecoveryInProgress())
			ereport(ERROR,
					(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
					 errmsg("cannot encrypt during recovery"),
					 errdetail("The number of messages that a key encrypts is counted by the primary.")));
		key_worker_reserve(&key->row.id, key->row.purpose);
		taken = key_usage_take(&key->row.id, wanted, &usage);
		if (taken == 0 && usage.used + wanted <= KEY_MESSAGES_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("could not count messages of a data key"),
					 errhint("See the server log for what its key worker says. A transaction that holds a lock on sentient_edge.data_keys keeps it from working.")));
	}
	if (taken == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a data key for \"%s\" has encrypted as many messages as it may", key_purpose_name(key->row.purpose)),
				 errdetail("A key encrypts at most " INT64_FORMAT " messages.", KEY_MESSAGES_MAX),
				 errhint("Call sentient_edge.rotate_data_key('%s').", key_purpose_name(key->row.purpose))));

	key->messages = key->block = taken;
	if (usage.wants_more)
		key_worker_reserve_soon(&key->row.id);
	if (usage.wants_rotation && key->row.state == KEY_ACTIVE)
	{
		ereport(WARNING,
				(errmsg("a data key for \"%s\" has encrypted " INT64_FORMAT " messages; a new one is being made",
						key_purpose_name(key->row.purpose), usage.used)));
		key_worker_make_soon(key->row.purpose, &key->row.id);
	}
}

void
data_key_encrypt(const DataKey *key, const void *associated, size_t associated_bytes,
				 const void *plain, size_t bytes, uint8 nonce[CRYPTO_NONCE_BYTES],
				 uint8 *cipher, uint8 tag[CRYPTO_TAG_BYTES])
{
	if (unlikely(key->messages == 0))
		take_messages(unconstify(DataKey *, key));
	take_nonce(nonce);
	if (!cipher_encrypt(cipher_of(key), associated, associated_bytes, plain, bytes, nonce, cipher, tag))
		openssl_failed();
	unconstify(DataKey *, key)->messages--;
}

bool
data_key_decrypt(const DataKey *key, const void *associated, size_t associated_bytes,
				 const uint8 *cipher, size_t bytes, const uint8 nonce[CRYPTO_NONCE_BYTES],
				 const uint8 tag[CRYPTO_TAG_BYTES], uint8 *plain)
{
	return cipher_decrypt(cipher_of(key), associated, associated_bytes, cipher, bytes, nonce, tag, plain);
}

/* A MAC key for a label, in the current process's hands alone. */
static MacKey *
make_mac_key(const DataKey *key, const char *label)
{
	uint8	   *subkey = secret_new();
	MacKey	   *mac = NULL;

	if (subkey != NULL && cipher_hkdf(key->secret, SECRET_BYTES, NULL, 0, label, strlen(label), subkey, SECRET_BYTES))
		mac = mac_key_new(subkey, SECRET_BYTES);
	secret_free(subkey);
	if (mac == NULL)
		openssl_failed();
	return mac;
}

void
data_key_mac(const DataKey *key, const char *label, const void *data, size_t bytes,
			 uint8 mac[CRYPTO_MAC_BYTES])
{
	DataKey    *changed = unconstify(DataKey *, key);
	MacKey	   *found = NULL;
	bool		kept = true;
	bool		done;

	for (int i = 0; i < key->nsubkeys && found == NULL; i++)
	{
		if (strcmp(key->subkeys[i].label, label) == 0)
			found = key->subkeys[i].mac;
	}
	if (found == NULL)
	{
		found = make_mac_key(key, label);
		kept = key->nsubkeys < SUBKEYS && strlen(label) < LABEL_LENGTH;
		if (kept)
		{
			Subkey	   *subkey = &changed->subkeys[changed->nsubkeys++];

			strlcpy(subkey->label, label, LABEL_LENGTH);
			subkey->mac = found;
		}
	}
	done = mac_compute(found, data, bytes, mac);
	if (!kept)
		mac_key_free(found);
	if (!done)
		openssl_failed();
}

void
data_key_sign(const DataKey *key, const void *data, size_t bytes,
			  uint8 signature[CRYPTO_SIGNATURE_BYTES])
{
	se_assert(key->row.purpose == KEY_LEDGER);
	if (key->sign == NULL)
		unconstify(DataKey *, key)->sign = sign_key_new(key->secret);
	if (key->sign == NULL || !sign_compute(key->sign, data, bytes, signature))
		openssl_failed();
}

void
data_key_public(const DataKey *key, uint8 public_key[CRYPTO_PUBLIC_BYTES])
{
	/* Bound to the key by the wrap. */
	se_assert(key->row.purpose == KEY_LEDGER && key->row.has_public);
	memcpy(public_key, key->row.public_key, CRYPTO_PUBLIC_BYTES);
}

bool
signature_fits(const uint8 public_key[CRYPTO_PUBLIC_BYTES], const void *data, size_t bytes,
			   const uint8 signature[CRYPTO_SIGNATURE_BYTES])
{
	return sign_fits(public_key, data, bytes, signature);
}
