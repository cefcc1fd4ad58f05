/*
 * proof.c
 *		audit.proof(audit_id): what shows, without the server, that an entry is in
 *		a signed block; audit.block_header(block_number), for chains.
 *
 * Reads one entry and its block under one snapshot; changes nothing.  The result
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
#include "utils/snapmgr.h"

#include "audit/entry.h"
#include "audit/ledger.h"
#include "base/sql.h"
#include "errors.h"

PG_FUNCTION_INFO_V1(audit_proof);
PG_FUNCTION_INFO_V1(audit_block_header);

typedef struct Proof
{
	int64		audit_id;
	LedgerBlock block;
	int			index;			/* of the leaf */
	Sha256		leaf;
	MerkleStep	steps[MERKLE_MAX_STEPS];
	int			nsteps;
	StringInfoData entry;
} Proof;

static void
no_such_entry(int64 audit_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("no block of the ledger holds audit entry %lld", (long long) audit_id),
			 errhint("An entry is sealed within a second or two of its commit, and is not provable once it is pruned.")));
}

/* The block of the entry, and its path there. */
static void
find_block(Proof *proof)
{
	bool		isnull;
	ArrayType  *ids;
	bytea	   *leaves;
	Sha256	   *nodes;
	int			n;

	if (ledger_read(psprintf("SELECT " BLOCK_COLUMNS ", entry_ids, leaf_hashes FROM audit.blocks"
							 " WHERE int8range(min_audit_id, max_audit_id, '[]') @> '" INT64_FORMAT "'::bigint"
							 " AND entry_ids @> ARRAY['" INT64_FORMAT "'::bigint] LIMIT 1",
							 proof->audit_id, proof->audit_id)) == 0 ||
		!block_read(0, &proof->block))
		no_such_entry(proof->audit_id);
	ids = DatumGetArrayTypeP(sql_value(0, BLOCK_NCOLUMNS, &isnull));
	leaves = DatumGetByteaPP(sql_value(0, BLOCK_NCOLUMNS + 1, &isnull));
	n = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
	if (ARR_HASNULL(ids) || n != VARSIZE_ANY_EXHDR(leaves) / HASH_BYTES)
		no_such_entry(proof->audit_id);
	while (proof->index < n && ((int64 *) ARR_DATA_PTR(ids))[proof->index] != proof->audit_id)
		proof->index++;
	if (proof->index == n)
		no_such_entry(proof->audit_id);
	nodes = palloc(sizeof(Sha256) * n);
	memcpy(nodes, VARDATA_ANY(leaves), sizeof(Sha256) * n);
	proof->leaf = nodes[proof->index];
	proof->nsteps = merkle_path(nodes, n, proof->index, proof->steps);
}

/* The canonical bytes of the entry, which must be what was sealed. */
static void
find_entry(Proof *proof)
{
	Datum		values[AUDIT_COLUMNS];
	bool		nulls[AUDIT_COLUMNS];
	Sha256		leaf;

	if (ledger_read(psprintf("SELECT l.* FROM audit.log l WHERE l.audit_id = '" INT64_FORMAT "' LIMIT 1", proof->audit_id)) == 0)
		no_such_entry(proof->audit_id);
	if (SPI_tuptable->tupdesc->natts != AUDIT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("table \"audit.log\" does not have the columns of sentient_edge")));
	heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, values, nulls);
	initStringInfo(&proof->entry);
	audit_entry_canonical(&proof->entry, values, nulls);
	leaf = merkle_leaf(proof->entry.data, proof->entry.len);
	if (!sha256_equal(&leaf, &proof->leaf))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("audit entry %lld is not what was sealed", (long long) proof->audit_id),
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

Datum
audit_proof(PG_FUNCTION_ARGS)
{
	Proof		proof = {.audit_id = PG_GETARG_INT64(0)};
	SqlScope	scope;
	StringInfoData json;
	uint8		header[LEDGER_HEADER_BYTES];
	MemoryContext context = CurrentMemoryContext;

	scope = sql_begin(0);
	PushActiveSnapshot(GetLatestSnapshot());
	find_block(&proof);
	find_entry(&proof);

	initStringInfo(&json);
	block_header(&proof.block, header);
	appendStringInfo(&json, "{\"format\": 1, \"audit_id\": " INT64_FORMAT ", \"entry\": \"%s\", \"leaf\": \"%s\", \"leaf_index\": %d, \"path\": [",
					 proof.audit_id, hash_hex(proof.entry.data, proof.entry.len),
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
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* audit.block_header(block_number): the bytes that the block's hash is made of; NULL when there is no such block. */
Datum
audit_block_header(PG_FUNCTION_ARGS)
{
	LedgerBlock block;
	bytea	   *header = palloc(VARHDRSZ + LEDGER_HEADER_BYTES);
	SqlScope	scope = sql_begin(0);
	bool		found;

	found = ledger_read(psprintf("SELECT " BLOCK_COLUMNS " FROM audit.blocks WHERE block_number = " INT64_FORMAT,
								 PG_GETARG_INT64(0))) > 0 && block_read(0, &block);
	sql_end(&scope);
	if (!found)
		PG_RETURN_NULL();
	SET_VARSIZE(header, VARHDRSZ + LEDGER_HEADER_BYTES);
	block_header(&block, (uint8 *) VARDATA(header));
	PG_RETURN_BYTEA_P(header);
}
