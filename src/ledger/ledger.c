/*
 * ledger.c
 *		Blocks of the ledger: their headers, their rows in audit.blocks, and the
 *		lock that makes one session at a time change the chain.
 *
 * Called by sealing, verification, proofs, digests and pruning.  The lock is a
 * heavyweight one on a sub-object of audit.blocks that nothing else locks: it
 * neither waits for VACUUM nor keeps readers away, and ends with the transaction.
 * A crash leaves what was committed; the unique previous_hash keeps the chain
 * from forking even without the lock.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "errors.h"
#include "ledger/anchor_sink.h"
#include "ledger/ledger.h"
#include "ledger/prune.h"
#include "ledger/seal_job.h"

#define UNIX_EPOCH_US			((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static bool
read_bytes(uint64 row, int column, void *to, size_t length)
{
	bool		isnull;
	Datum		value = sql_value(row, column, &isnull);
	bytea	   *bytes;

	if (isnull)
		return false;
	bytes = DatumGetByteaPP(value);
	if (VARSIZE_ANY_EXHDR(bytes) != length)
		return false;
	memcpy(to, VARDATA_ANY(bytes), length);
	return true;
}

static int64
read_int64(uint64 row, int column)
{
	bool		isnull;
	Datum		value = sql_value(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

bool
block_read(uint64 row, LedgerBlock *block)
{
	bool		isnull;
	Datum		key_id;

	memset(block, 0, sizeof(*block));
	block->number = read_int64(row, 0);
	if (DatumGetInt16(sql_value(row, 1, &isnull)) != LEDGER_FORMAT || isnull)
		return false;
	if (!read_bytes(row, 2, block->previous_hash.bytes, HASH_BYTES) ||
		!read_bytes(row, 3, block->merkle_root.bytes, HASH_BYTES) ||
		!read_bytes(row, 4, block->block_hash.bytes, HASH_BYTES))
		return false;
	block->entry_count = DatumGetInt32(sql_value(row, 5, &isnull));
	block->total_entries = read_int64(row, 6);
	block->min_audit_id = read_int64(row, 7);
	block->max_audit_id = read_int64(row, 8);
	block->first_occurred_at = read_int64(row, 9);
	block->last_occurred_at = read_int64(row, 10);
	block->sealed_at = read_int64(row, 11);
	block->system_identifier = (uint64) read_int64(row, 12);
	block->accepts_unkeyed = DatumGetBool(sql_value(row, 13, &isnull)) && !isnull;
	key_id = sql_value(row, 14, &isnull);
	if (!isnull)
		block->key_id = *DatumGetUUIDP(key_id);
	block->is_signed = read_bytes(row, 15, block->signature, CRYPTO_SIGNATURE_BYTES);
	block->kind = DatumGetBool(sql_value(row, 16, &isnull)) && !isnull ? LEDGER_EVENTS : LEDGER_ENTRIES;
	return true;
}

static uint8 *
put_uint64(uint8 *to, uint64 value)
{
	value = pg_hton64(value);
	memcpy(to, &value, sizeof(value));
	return to + sizeof(value);
}

static uint8 *
put_bytes(uint8 *to, const void *bytes, size_t length)
{
	memcpy(to, bytes, length);
	return to + length;
}

/* Times are microseconds since 1970 in UTC, as in the entries; 0 for a block without anything. */
static uint8 *
put_time(uint8 *to, TimestampTz time, bool present)
{
	return put_uint64(to, present ? (uint64) (time + UNIX_EPOCH_US) : 0);
}

void
block_header(const LedgerBlock *block, uint8 header[LEDGER_HEADER_BYTES])
{
	uint32		count = pg_hton32((uint32) block->entry_count);
	bool		any = block->entry_count > 0;
	uint8	   *to = header;

	to = put_bytes(to, "SEBLOCK", 7);
	*to++ = LEDGER_FORMAT;
	to = put_uint64(to, (uint64) block->number);
	to = put_bytes(to, block->previous_hash.bytes, HASH_BYTES);
	to = put_bytes(to, block->merkle_root.bytes, HASH_BYTES);
	to = put_bytes(to, &count, sizeof(count));
	to = put_uint64(to, (uint64) block->total_entries);
	to = put_uint64(to, (uint64) block->min_audit_id);
	to = put_uint64(to, (uint64) block->max_audit_id);
	to = put_time(to, block->first_occurred_at, any);
	to = put_time(to, block->last_occurred_at, any);
	to = put_time(to, block->sealed_at, true);
	to = put_uint64(to, block->system_identifier);
	*to++ = (block->accepts_unkeyed ? BLOCK_ACCEPTS_UNKEYED : 0) | (block->kind == LEDGER_EVENTS ? BLOCK_HOLDS_EVENTS : 0);
	to = put_bytes(to, block->key_id.data, UUID_LEN);
	se_assert(to == header + LEDGER_HEADER_BYTES);
}

Sha256
block_hash_of(const LedgerBlock *block)
{
	uint8		header[LEDGER_HEADER_BYTES];

	block_header(block, header);
	return hash_of(header, sizeof(header));
}

void
block_signed_bytes(const LedgerBlock *block, uint8 bytes[BLOCK_SIGNED_BYTES])
{
	memcpy(bytes, BLOCK_SIGNED_LINE, sizeof(BLOCK_SIGNED_LINE) - 1);
	memcpy(bytes + sizeof(BLOCK_SIGNED_LINE) - 1, block->block_hash.bytes, HASH_BYTES);
}

bool
block_last(LedgerBlock *block)
{
	if (sql_read("SELECT " BLOCK_COLUMNS " FROM audit.blocks ORDER BY block_number DESC LIMIT 1") == 0)
		return false;
	if (!block_read(0, block))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the last block of the ledger cannot be read"),
				 errdetail("Block %lld is damaged, or of a later version of sentient_edge.", (long long) block->number)));
	return true;
}

bool
ledger_lock(bool wait)
{
	LOCKTAG		tag;
	Oid			namespace = get_namespace_oid("audit", false);
	Oid			relid = get_relname_relid("blocks", namespace);

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, relid, LEDGER_LOCK_SUBID);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

const DataKey *
ledger_signing_key(bool was_signed)
{
	if (data_keys_available())
		return data_key_active(KEY_LEDGER);
	if (was_signed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the ledger cannot be continued without its key"),
				 errdetail("Its last block is signed, and this server has no master key."),
				 errhint("Start the server with the master key; entries wait unsealed until then.")));
	return NULL;
}

void
ledger_init(void)
{
	DefineCustomIntVariable("sentient_edge.ledger_interval",
							"Time between two runs that seal audit entries into blocks.",
							"An entry can be sealed this much later than its transaction commits.",
							&ledger_interval, 1, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	seal_job_init();
	anchor_sink_init();
	prune_init();
}
