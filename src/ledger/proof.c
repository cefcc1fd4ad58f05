/*
 * proof.c
 *		audit.proof(audit_id) and audit.proof_event(event_id): what shows, without the
 *		server, that an entry or a security event is in a signed block;
 *		audit.block_header(block_number), for chains.
 *
 * Reads one row and its block under one snapshot; changes nothing.  The result
 * holds the canonical bytes of the entry, the path through the Merkle tree, the
 * header of the block and its signature; test/checker follows it, and the README
 * does so by hand.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "audit/entry.h"
#include "base/sql.h"
#include "errors.h"
#include "ledger/ledger.h"

PG_FUNCTION_INFO_V1(audit_proof);
PG_FUNCTION_INFO_V1(audit_proof_event);
PG_FUNCTION_INFO_V1(audit_block_header);

typedef struct Proof
{
	LedgerKind	kind;
	char	   *id;				/* of the entry or event, as text */
	LedgerBlock block;
	int			index;			/* of the leaf */
	Sha256		leaf;
	MerkleStep	steps[MERKLE_MAX_STEPS];
	int			nsteps;
	StringInfoData entry;
} Proof;

static void
no_such_entry(const Proof *proof)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("no block of the ledger holds audit %s %s", ledger_sources[proof->kind].noun, proof->id),
			 errhint("An entry is sealed within a second or two of its commit, and is not provable once it is pruned.")));
}

/* The leaf hashes of the entries that have the id: one, unless the sequence of ids was set back. */
static int
find_entries(const Proof *proof, StringInfoData **entries, Sha256 **leaves)
{
	const LedgerSource *source = &ledger_sources[proof->kind];
	int			nest_level = NewGUCNestLevel();
	int			n;

	/* An index finds it; for one row the planner would rather look through all. */
	sql_set_local("enable_seqscan", "off");
	n = (int) sql_read(psprintf("SELECT l.* FROM %s l WHERE l.%s = '%s'", source->table, source->id, proof->id));
	AtEOXact_GUC(false, nest_level);
	*entries = palloc(sizeof(StringInfoData) * (n + 1));
	*leaves = palloc(sizeof(Sha256) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		Datum		values[Max((int) AUDIT_COLUMNS, (int) EVENT_COLUMNS)];
		bool		nulls[Max((int) AUDIT_COLUMNS, (int) EVENT_COLUMNS)];

		source_check_columns(source, SPI_tuptable->tupdesc->natts);
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		initStringInfo(&(*entries)[i]);
		source->canonical(&(*entries)[i], values, nulls);
		(*leaves)[i] = merkle_leaf((*entries)[i].data, (*entries)[i].len);
	}
	return n;
}

/* Among what the block lists under the id: one that is there as it was sealed?  Then the path to it. */
static bool
find_path(Proof *proof, uint64 row, int nentries, const StringInfoData *entries, const Sha256 *entry_leaves)
{
	bool		isnull;
	ArrayType  *positions = DatumGetArrayTypeP(sql_value(row, BLOCK_NCOLUMNS, &isnull));
	bytea	   *leaves = DatumGetByteaPP(sql_value(row, BLOCK_NCOLUMNS + 1, &isnull));
	const int32 *position = (const int32 *) ARR_DATA_PTR(positions);
	int			npositions = ArrayGetNItems(ARR_NDIM(positions), ARR_DIMS(positions));
	int			n = VARSIZE_ANY_EXHDR(leaves) / HASH_BYTES;
	Sha256	   *nodes = palloc(sizeof(Sha256) * (n + 1));

	memcpy(nodes, VARDATA_ANY(leaves), sizeof(Sha256) * n);
	for (int i = 0; i < npositions; i++)
	{
		if (position[i] > n)
			continue;
		proof->index = position[i] - 1;
		proof->leaf = nodes[proof->index];
		for (int entry = 0; entry < nentries; entry++)
		{
			if (!sha256_equal(&entry_leaves[entry], &proof->leaf))
				continue;
			proof->entry = entries[entry];
			proof->nsteps = merkle_path(nodes, n, proof->index, proof->steps);
			return true;
		}
	}
	pfree(nodes);
	return false;
}

/* The entry, its block, and its path there: the oldest of those that share the id. */
static void
find_proof(Proof *proof)
{
	const LedgerSource *source = &ledger_sources[proof->kind];
	const char *among;
	StringInfoData *entries;
	Sha256	   *leaves;
	int			nentries = find_entries(proof, &entries, &leaves);
	uint64		nblocks;

	/* Blocks of entries are found by their ids, those of events by their times. */
	if (proof->kind == LEDGER_EVENTS)
		among = psprintf("b.block_number IN (SELECT t.block_number FROM audit.security_events l JOIN audit.blocks t ON t.holds_events"
						 " AND tstzrange(t.first_occurred_at, t.last_occurred_at, '[]') @> l.occurred_at WHERE l.event_id = '%s')",
						 proof->id);
	else
		among = psprintf(BLOCK_IDS " @> '%s'::bigint", proof->id);
	nblocks = sql_read(psprintf("SELECT " BLOCK_COLUMNS ", array_positions(b.%s, '%s'), leaf_hashes FROM audit.blocks b"
								   " WHERE %s AND '%s' = ANY (b.%s) ORDER BY b.block_number",
								   source->ids, proof->id, among, proof->id, source->ids));
	if (nblocks == 0 || nentries == 0)
		no_such_entry(proof);
	for (uint64 row = 0; row < nblocks; row++)
	{
		if (block_read(row, &proof->block) && find_path(proof, row, nentries, entries, leaves))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("audit %s %s is not what was sealed", source->noun, proof->id),
			 errhint("See audit.verify().")));
}

static void
append_signature(StringInfo json, const LedgerBlock *block)
{
	const DataKey *key;
	uint8		public_key[CRYPTO_PUBLIC_BYTES];
	pg_uuid_t	key_id = block->key_id;

	if (!block->is_signed)
		return;
	appendStringInfo(json, ", \"key\": \"%s\", \"signature\": \"%s\"",
					 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&key_id))),
					 hash_hex(block->signature, CRYPTO_SIGNATURE_BYTES));
	key = data_keys_available() ? data_key_find(&key_id, KEY_LEDGER) : NULL;
	if (key == NULL)
		return;
	data_key_public(key, public_key);
	appendStringInfo(json, ", \"public_key\": \"%s\"", hash_hex(public_key, sizeof(public_key)));
}

static Datum
prove(LedgerKind kind, char *id)
{
	Proof		proof = {.kind = kind, .id = id};
	SqlScope	scope;
	StringInfoData json;
	uint8		header[LEDGER_HEADER_BYTES];
	MemoryContext context = CurrentMemoryContext;

	scope = sql_begin(0);
	PushActiveSnapshot(GetLatestSnapshot());
	find_proof(&proof);

	initStringInfo(&json);
	block_header(&proof.block, header);
	appendStringInfo(&json, "{\"format\": 1, \"%s\": %s%s%s, \"entry\": \"%s\", \"leaf\": \"%s\", \"leaf_index\": %d, \"path\": [",
					 ledger_sources[kind].id, kind == LEDGER_EVENTS ? "\"" : "", id, kind == LEDGER_EVENTS ? "\"" : "",
					 hash_hex(proof.entry.data, proof.entry.len),
					 hash_hex(proof.leaf.bytes, HASH_BYTES), proof.index);
	for (int i = 0; i < proof.nsteps; i++)
		appendStringInfo(&json, "%s{\"side\": \"%s\", \"hash\": \"%s\"}", i > 0 ? ", " : "",
						 proof.steps[i].sibling_is_left ? "left" : "right",
						 hash_hex(proof.steps[i].sibling.bytes, HASH_BYTES));
	appendStringInfo(&json, "], \"root\": \"%s\", \"block\": " INT64_FORMAT ", \"header\": \"%s\", \"hash\": \"%s\"",
					 hash_hex(proof.block.merkle_root.bytes, HASH_BYTES), proof.block.number,
					 hash_hex(header, sizeof(header)), hash_hex(proof.block.block_hash.bytes, HASH_BYTES));
	append_signature(&json, &proof.block);
	appendStringInfoChar(&json, '}');
	PopActiveSnapshot();

	/* What the scope allocated goes with it. */
	json.data = MemoryContextStrdup(context, json.data);
	sql_end(&scope);
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* audit.proof(audit_id) */
Datum
audit_proof(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(prove(LEDGER_ENTRIES, psprintf(INT64_FORMAT, PG_GETARG_INT64(0))));
}

/* audit.proof_event(event_id) */
Datum
audit_proof_event(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(prove(LEDGER_EVENTS, DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(0)))));
}

/* audit.block_header(block_number): the bytes that the block's hash is made of; NULL when there is no such block. */
Datum
audit_block_header(PG_FUNCTION_ARGS)
{
	LedgerBlock block;
	bytea	   *header = palloc(VARHDRSZ + LEDGER_HEADER_BYTES);
	SqlScope	scope = sql_begin(0);
	bool		found;

	found = sql_read(psprintf("SELECT " BLOCK_COLUMNS " FROM audit.blocks WHERE block_number = " INT64_FORMAT,
								 PG_GETARG_INT64(0))) > 0 && block_read(0, &block);
	sql_end(&scope);
	if (!found)
		PG_RETURN_NULL();
	SET_VARSIZE(header, VARHDRSZ + LEDGER_HEADER_BYTES);
	block_header(&block, (uint8 *) VARDATA(header));
	PG_RETURN_BYTEA_P(header);
}
