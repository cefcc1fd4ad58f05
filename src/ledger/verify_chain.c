/*
 * verify_chain.c
 *		The part of audit.verify that checks blocks and anchors, without looking at
 *		entries and events.
 *
 * Reads audit.blocks in order of number, some at a time, and audit.anchors.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/sql.h"
#include "errors.h"
#include "ledger/anchor.h"
#include "ledger/verify.h"

/* Blocks that are read at once; each brings its leaf hashes. */
#define CHAIN_FETCH				20

/* A block with what it says of its entries. */
typedef struct ChainBlock
{
	LedgerBlock block;
	const int64 *ids;			/* of entries */
	const pg_uuid_t *event_ids; /* of events */
	int			nids;
	const uint8 *leaf_hashes;
	size_t		leaf_bytes;
} ChainBlock;

/* Where the walk along the chain is. */
typedef struct ChainWalk
{
	bool		started;
	int64		number;			/* of the block before */
	bool		linked;			/* its hash is known */
	Sha256		hash;
	int64		total_entries;
	bool		is_signed;
} ChainWalk;

/* What an anchor says was pruned from a block of which a part is left; no padding, the rest of id zeros. */
typedef struct PrunedId
{
	int64		block_number;
	uint8		id[UUID_LEN];
} PrunedId;

static void pruned_id(PrunedId *key, LedgerKind kind, int64 block_number, Datum id);

static char *
uuid_text(const pg_uuid_t *uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)));
}

/* Has an anchor said that all that the block held was removed? */
static bool
is_pruned(const Verify *verify, const LedgerBlock *block)
{
	for (int i = 0; i < verify->nanchors; i++)
	{
		if (block->kind == verify->anchors[i].kind && block->number <= verify->anchors[i].block_number &&
			block->last_occurred_at < verify->anchors[i].before)
			return true;
	}
	return false;
}

/* Do the lists of the block's row fit its header? */
static const char *
misfit(const Verify *verify, const ChainBlock *chain)
{
	const LedgerBlock *block = &chain->block;
	Sha256		hash = block_hash_of(block);
	Sha256	   *leaves;
	Sha256		root;

	if (!sha256_equal(&hash, &block->block_hash))
		return "its header does not have the hash that the block states";
	if (chain->nids == 0 && block->entry_count > 0)
		return NULL;			/* pruned, or said to be: looked at elsewhere */
	if (chain->nids != block->entry_count || chain->leaf_bytes != (size_t) chain->nids * HASH_BYTES)
		return "it does not list as many entries as it counts";
	for (int i = 1; i < chain->nids; i++)
	{
		if (block->kind == LEDGER_EVENTS ? memcmp(&chain->event_ids[i], &chain->event_ids[i - 1], UUID_LEN) <= 0 :
			chain->ids[i] < chain->ids[i - 1])
			return "its list of entries is not in order";
	}
	if (chain->nids > 0 && block->kind == LEDGER_ENTRIES && (chain->ids[0] != block->min_audit_id || chain->ids[chain->nids - 1] != block->max_audit_id))
		return "its list of entries does not fit its header";
	leaves = palloc(chain->leaf_bytes + 1);
	memcpy(leaves, chain->leaf_hashes, chain->leaf_bytes);
	root = merkle_root(leaves, chain->nids);
	pfree(leaves);
	return sha256_equal(&root, &block->merkle_root) ? NULL : "its leaf hashes do not have the root that its header states";
}

static void
check_block(Verify *verify, ChainWalk *walk, const ChainBlock *chain)
{
	const LedgerBlock *block = &chain->block;
	const char *problem;

	if (block->number != walk->number + 1)
	{
		verify_finding(verify, "missing_block", walk->number + 1, NO_ENTRY, "blocks " INT64_FORMAT " to " INT64_FORMAT " are missing",
					   walk->number + 1, block->number - 1);
		walk->linked = false;
	}
	else if (walk->linked && !sha256_equal(&block->previous_hash, &walk->hash))
		verify_finding(verify, "broken_chain", block->number, NO_ENTRY,
					   "it follows another block than number " INT64_FORMAT, block->number - 1);
	else if (walk->linked && block->total_entries != walk->total_entries + block->entry_count)
		verify_finding(verify, "altered_block", block->number, NO_ENTRY, "the entries up to it are counted wrongly");

	problem = misfit(verify, chain);
	if (problem != NULL)
		verify_finding(verify, "altered_block", block->number, NO_ENTRY, "%s", problem);
	else if (chain->nids == 0 && block->entry_count > 0 && !is_pruned(verify, block))
		verify_finding(verify, "emptied_block", block->number, NO_ENTRY,
					   "its list of %d %s is gone, and no valid anchor says that they were pruned", block->entry_count,
					   ledger_sources[block->kind].plural);

	if (block->is_signed)
	{
		uint8		bytes[BLOCK_SIGNED_BYTES];

		block_signed_bytes(block, bytes);
		if (verify_signature(verify, &block->key_id, bytes, sizeof(bytes), block->signature) == SIGNATURE_WRONG)
			verify_finding(verify, "bad_signature", block->number, NO_ENTRY, "it was not signed by key %s", uuid_text(&block->key_id));
	}
	else if (walk->is_signed)
		verify_finding(verify, "unsigned_block", block->number, NO_ENTRY, "it is not signed, though blocks before it are");
	else if (block->number == verify->head.number && data_key_active_if_any(KEY_LEDGER) != NULL)
		verify_finding(verify, "unsigned_block", block->number, NO_ENTRY, "no block is signed, though there is a key");

	walk->number = block->number;
	walk->linked = true;
	walk->hash = block->block_hash;
	walk->total_entries = block->total_entries;
	walk->is_signed |= block->is_signed;
}

/* The lists beside the header; they stay valid in the current context. */
static bool
read_lists(uint64 row, ChainBlock *chain)
{
	bool		isnull;
	bool		events = chain->block.kind == LEDGER_EVENTS;
	ArrayType  *ids = DatumGetArrayTypeP(sql_value(row, BLOCK_NCOLUMNS + (events ? 1 : 0), &isnull));
	bytea	   *leaves = DatumGetByteaPP(sql_value(row, BLOCK_NCOLUMNS + 2, &isnull));

	if (ARR_NDIM(ids) > 1 || ARR_HASNULL(ids) || ARR_ELEMTYPE(ids) != (events ? UUIDOID : INT8OID))
		return false;
	if (events)
		chain->event_ids = (const pg_uuid_t *) ARR_DATA_PTR(ids);
	else
		chain->ids = (const int64 *) ARR_DATA_PTR(ids);
	chain->nids = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
	chain->leaf_hashes = (const uint8 *) VARDATA_ANY(leaves);
	chain->leaf_bytes = VARSIZE_ANY_EXHDR(leaves);
	return true;
}

/* Which blocks are to be walked, and what is known of the one before the first. */
static bool
begin_walk(Verify *verify, ChainWalk *walk, int64 *first, int64 *last)
{
	bool		isnull;
	LedgerBlock before;

	memset(walk, 0, sizeof(*walk));
	walk->number = NO_BLOCK;
	walk->linked = true;		/* the first follows 32 zeros */
	*first = 0;
	*last = verify->head.number;
	if (!verify->has_head || !verify->bounded)
		return verify->has_head;

	(void) sql_read(psprintf("SELECT min(block_number), max(block_number) FROM audit.blocks"
								" WHERE last_occurred_at >= '%s' AND first_occurred_at <= '%s'",
								DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(verify->from))),
								DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(verify->until)))));
	*first = DatumGetInt64(sql_value(0, 0, &isnull));
	if (isnull)
		return false;
	*last = DatumGetInt64(sql_value(0, 1, &isnull));
	if (*first > 0)
	{
		walk->number = *first - 1;
		walk->linked = false;
		if (sql_read(psprintf("SELECT " BLOCK_COLUMNS " FROM audit.blocks WHERE block_number = " INT64_FORMAT, *first - 1)) == 1 &&
			block_read(0, &before))
		{
			walk->linked = true;
			walk->hash = before.block_hash;
			walk->total_entries = before.total_entries;
			walk->is_signed = before.is_signed;
		}
		else
			verify_finding(verify, "missing_block", *first - 1, NO_ENTRY, "the block before those of the given time is missing");
	}
	return true;
}

void
verify_chain(Verify *verify)
{
	ChainWalk	walk;
	int64		first;
	int64		last;
	SPIPlanPtr	plan;
	Portal		portal;
	MemoryContext context;
	MemoryContext previous;

	if (!begin_walk(verify, &walk, &first, &last))
		return;
	plan = SPI_prepare(psprintf("SELECT " BLOCK_COLUMNS ", entry_ids, event_ids, leaf_hashes FROM audit.blocks"
								" WHERE block_number BETWEEN " INT64_FORMAT " AND " INT64_FORMAT " ORDER BY block_number",
								first, last), 0, NULL);
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	context = AllocSetContextCreate(CurrentMemoryContext, "ledger chain", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, CHAIN_FETCH);
		if (SPI_processed == 0)
			break;
		for (uint64 row = 0; row < SPI_processed; row++)
		{
			ChainBlock	chain = {0};

			MemoryContextReset(context);
			previous = MemoryContextSwitchTo(context);
			if (!block_read(row, &chain.block) || !read_lists(row, &chain))
			{
				verify_finding(verify, "altered_block", chain.block.number, NO_ENTRY, "it cannot be read: its format is not known");
				walk.number = chain.block.number;
				walk.linked = false;
			}
			else
				check_block(verify, &walk, &chain);
			MemoryContextSwitchTo(previous);
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(context);
}

/* Is the signature of the anchor in this row of the query right?  An unsigned one is where its block is. */
static bool
anchor_is_valid(Verify *verify, uint64 row, const char *message, const char *what, int64 block_number)
{
	bool		isnull;
	Datum		key_id = sql_value(row, 4, &isnull);
	Datum		signature;

	if (isnull)
	{
		char	   *block_signed = sql_string(row, 6);

		if (block_signed != NULL && strcmp(block_signed, "f") == 0)
			return true;
		verify_finding(verify, "bad_anchor", block_number, NO_ENTRY, "a %s is not signed, though the ledger is", what);
		return false;
	}
	signature = sql_value(row, 5, &isnull);
	if (!isnull && VARSIZE_ANY_EXHDR(DatumGetByteaPP(signature)) == CRYPTO_SIGNATURE_BYTES)
	{
		SignatureVerdict verdict = verify_signature(verify, DatumGetUUIDP(key_id), message, strlen(message),
													(uint8 *) VARDATA_ANY(DatumGetByteaPP(signature)));

		if (verdict != SIGNATURE_WRONG)
			return verdict == SIGNATURE_FITS;
	}
	verify_finding(verify, "bad_anchor", block_number, NO_ENTRY, "the signature of a %s does not fit", what);
	return false;
}

/* Remember what a prune anchor names one by one. */
static void
add_pruned_ids(Verify *verify, LedgerKind kind, const char *partly)
{
	bool		events = kind == LEDGER_EVENTS;
	uint64		n = sql_read(psprintf("SELECT b.number::bigint, e.id::%s FROM jsonb_each(%s) AS b (number, ids)"
										 " CROSS JOIN LATERAL jsonb_array_elements_text(b.ids) AS e (id)",
										 events ? "uuid" : "bigint", quote_literal_cstr(partly)));

	if (n > 0 && verify->pruned == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(PrunedId), .entrysize = sizeof(PrunedId), .hcxt = CurrentMemoryContext};

		verify->pruned = hash_create("pruned audit entries", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	for (uint64 row = 0; row < n; row++)
	{
		bool		isnull;
		PrunedId	key;

		pruned_id(&key, kind, DatumGetInt64(sql_value(row, 0, &isnull)), sql_value(row, 1, &isnull));
		(void) hash_search(verify->pruned, &key, HASH_ENTER, NULL);
	}
}

/* The key of the table of pruned ids. */
static void
pruned_id(PrunedId *key, LedgerKind kind, int64 block_number, Datum id)
{
	memset(key, 0, sizeof(*key));
	key->block_number = block_number;
	if (kind == LEDGER_EVENTS)
		memcpy(key->id, DatumGetUUIDP(id), UUID_LEN);
	else
	{
		int64		number = DatumGetInt64(id);

		memcpy(key->id, &number, sizeof(number));
	}
}

bool
verify_pruned(const Verify *verify, LedgerKind kind, int64 block_number, Datum id)
{
	PrunedId	key;

	if (verify->pruned == NULL)
		return false;
	pruned_id(&key, kind, block_number, id);
	return hash_search(verify->pruned, &key, HASH_FIND, NULL) != NULL;
}

static void
check_prune_anchors(Verify *verify)
{
	uint64		n = sql_read("SELECT a.block_number, encode(a.block_hash, 'hex'), a.pruned_before, a.pruned_entries, a.key_id, a.signature,"
							 " b.signature IS NOT NULL, a.pruned_partly::text, b.block_hash = a.block_hash, a.pruned_from"
							 " FROM audit.anchors a LEFT JOIN audit.blocks b USING (block_number)"
							 " WHERE a.kind = 'prune' ORDER BY a.created_at");
	char	  **partly = palloc0(sizeof(char *) * (n + 1));

	verify->anchors = palloc(sizeof(PruneAnchor) * (n + 1));
	for (uint64 row = 0; row < n; row++)
	{
		bool		isnull;
		int64		number = DatumGetInt64(sql_value(row, 0, &isnull));
		TimestampTz before = DatumGetTimestampTz(sql_value(row, 2, &isnull));
		char	   *text = sql_string(row, 7);
		char	   *fits = sql_string(row, 8);
		Datum		key_id = sql_value(row, 4, &isnull);
		char	   *from = sql_string(row, 9);
		char	   *message = prune_message(number, sql_string(row, 1), from, before,
											DatumGetInt64(sql_value(row, 3, &(bool) {false})), text,
											isnull ? "" : uuid_text(DatumGetUUIDP(key_id)));

		if (!anchor_is_valid(verify, row, message, "prune anchor", number))
			continue;
		if (fits == NULL || strcmp(fits, "t") != 0)
		{
			verify_finding(verify, "bad_anchor", number, NO_ENTRY, "the block of a prune anchor is missing or another one");
			continue;
		}
		verify->anchors[verify->nanchors].block_number = number;
		verify->anchors[verify->nanchors].kind = strcmp(from, "events") == 0 ? LEDGER_EVENTS : LEDGER_ENTRIES;
		verify->anchors[verify->nanchors].before = before;
		partly[verify->nanchors++] = text;
	}
	for (int i = 0; i < verify->nanchors; i++)
		add_pruned_ids(verify, verify->anchors[i].kind, partly[i]);
}

static void
check_digest_anchors(Verify *verify)
{
	const char *span = "";
	uint64		n;

	if (verify->bounded)
		span = psprintf(" AND a.created_at BETWEEN '%s' AND '%s'",
						DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(verify->from))),
						DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(verify->until))));
	n = sql_read(psprintf("SELECT a.block_number, a.digest->>'system', a.digest->>'block', a.digest->>'hash', a.key_id, a.signature,"
							 " b.signature IS NOT NULL, a.digest->>'entries', a.digest->>'time', a.digest->>'key',"
							 " b.block_hash = a.block_hash, a.digest->>'block' = a.block_number::text"
							 " AND a.digest->>'hash' = encode(a.block_hash, 'hex')"
							 " FROM audit.anchors a LEFT JOIN audit.blocks b USING (block_number)"
							 " WHERE a.kind = 'digest'%s ORDER BY a.created_at", span));
	for (uint64 row = 0; row < n; row++)
	{
		bool		isnull;
		int64		number = DatumGetInt64(sql_value(row, 0, &isnull));
		char	   *part[6] = {sql_string(row, 1), sql_string(row, 2), sql_string(row, 3), sql_string(row, 7),
			sql_string(row, 8), sql_string(row, 9)};
		char	   *fits = sql_string(row, 10);
		char	   *agrees = sql_string(row, 11);

		for (int i = 0; i < lengthof(part); i++)
			part[i] = part[i] == NULL ? "" : part[i];
		if (fits == NULL)
			verify_finding(verify, "digest_mismatch", number, NO_ENTRY, "a digest was handed out for this block, which is missing");
		else if (strcmp(fits, "t") != 0)
			verify_finding(verify, "digest_mismatch", number, NO_ENTRY, "a digest was handed out for another block of this number");
		else if (agrees == NULL || strcmp(agrees, "t") != 0)
			verify_finding(verify, "bad_anchor", number, NO_ENTRY, "a recorded digest contradicts its own row");
		else
			(void) anchor_is_valid(verify, row, digest_message(part[0], part[1], part[2], part[3], part[4], part[5]),
								   "recorded digest", number);
	}
}

void
verify_anchors(Verify *verify)
{
	check_prune_anchors(verify);
	check_digest_anchors(verify);
}
