/*
 * ledger.h
 *		Blocks of the ledger: their headers, their rows in audit.blocks, and the
 *		lock that makes one session at a time change the chain.
 *
 * Whatever reads or writes rows here does so inside a sql_begin scope.
 */
#ifndef SENTIENT_LEDGER_H
#define SENTIENT_LEDGER_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "audit/merkle.h"
#include "audit/source.h"
#include "crypto/data_key.h"

#define LEDGER_FORMAT			1
#define LEDGER_BLOCK_ENTRIES	10000	/* at most */
#define LEDGER_HEADER_BYTES		157

/* Flags in a header. */
#define BLOCK_ACCEPTS_UNKEYED	1
#define BLOCK_HOLDS_EVENTS		2

typedef struct LedgerBlock
{
	int64		number;
	Sha256		previous_hash;
	Sha256		merkle_root;
	Sha256		block_hash;
	LedgerKind	kind;			/* of what it holds; of entries when it holds nothing */
	int32		entry_count;
	int64		total_entries;	/* of this and all blocks before */
	int64		min_audit_id;	/* 0 in a block of events */
	int64		max_audit_id;
	TimestampTz first_occurred_at;	/* 0 in a block without anything, as are the ids */
	TimestampTz last_occurred_at;
	TimestampTz sealed_at;
	uint64		system_identifier;
	bool		accepts_unkeyed;	/* an administrator had entries without a MAC sealed */
	bool		is_signed;
	pg_uuid_t	key_id;			/* zeros unless signed */
	uint8		signature[CRYPTO_SIGNATURE_BYTES];
} LedgerBlock;

/* The audit_ids that the entries of block b lie between, by index; blocks without entries have none. */
#define BLOCK_IDS "b.min_audit_id IS NOT NULL AND int8range(b.min_audit_id, b.max_audit_id, '[]')"

/* The columns of audit.blocks that block_read wants, in order. */
#define BLOCK_COLUMNS \
	"block_number, format_version, previous_hash, merkle_root, block_hash, entry_count, total_entries," \
	" min_audit_id, max_audit_id, first_occurred_at, last_occurred_at, sealed_at, system_identifier," \
	" accepts_unkeyed, key_id, signature, holds_events"
#define BLOCK_NCOLUMNS			17

/* The block in a row of the last query, whose first columns are BLOCK_COLUMNS; false: of an unknown format. */
extern bool block_read(uint64 row, LedgerBlock *block);

/* The bytes that block_hash is the SHA-256 of. */
extern void block_header(const LedgerBlock *block, uint8 header[LEDGER_HEADER_BYTES]);
extern Sha256 block_hash_of(const LedgerBlock *block);

/* What is signed: a line that tells what it is, and the block's hash. */
#define BLOCK_SIGNED_LINE		"sentient_edge block 1\n"
#define BLOCK_SIGNED_BYTES		(sizeof(BLOCK_SIGNED_LINE) - 1 + HASH_BYTES)
extern void block_signed_bytes(const LedgerBlock *block, uint8 bytes[BLOCK_SIGNED_BYTES]);

/* The last block by number, under the active snapshot; false when there is none. */
extern bool block_last(LedgerBlock *block);

/* The sub-object of audit.blocks that stands for the chain, as a lock. */
#define LEDGER_LOCK_SUBID		1

/* Take the chain for oneself until the transaction ends. */
extern bool ledger_lock(bool wait);

/*
 * The key that signs now, or NULL when there is none and never was one; an error
 * when the last block is signed and there is no key to go on with.
 */
extern const DataKey *ledger_signing_key(bool was_signed);

extern void ledger_init(void);

#endif							/* SENTIENT_LEDGER_H */
