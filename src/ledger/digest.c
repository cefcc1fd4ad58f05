/*
 * digest.c
 *		audit.digest() and audit.verify_digest(): the ledger's last block in a few
 *		signed lines, to keep where whoever rules this server does not reach.
 *
 * A digest pins all entries sealed before it.  Making one adds a row to
 * audit.anchors and takes no lock on the chain; checking one changes nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/identity.h"
#include "base/sql.h"
#include "errors.h"
#include "ledger/anchor.h"
#include "ledger/digest.h"
#include "ledger/verify.h"

PG_FUNCTION_INFO_V1(audit_digest);
PG_FUNCTION_INFO_V1(audit_verify_digest);

/* The texts of a digest, in order of its lines. */
typedef enum DigestPart
{
	DIGEST_SYSTEM,
	DIGEST_BLOCK,
	DIGEST_HASH,
	DIGEST_ENTRIES,
	DIGEST_TIME,
	DIGEST_KEY,
	DIGEST_PUBLIC_KEY,
	DIGEST_SIGNATURE,
	DIGEST_PARTS,
} DigestPart;

static const char *const digest_parts[DIGEST_PARTS] = {
	"system", "block", "hash", "entries", "time", "key", "public_key", "signature"
};

static char *
uuid_text(const pg_uuid_t *uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)));
}

static bytea *
make_bytea(const void *from, size_t length)
{
	bytea	   *bytes = palloc(VARHDRSZ + length);

	SET_VARSIZE(bytes, VARHDRSZ + length);
	memcpy(VARDATA(bytes), from, length);
	return bytes;
}

char *
digest_make(const char *note, int64 *block_number)
{
	LedgerBlock head;
	const DataKey *key;
	char	   *part[DIGEST_PARTS] = {0};
	uint8		signature[CRYPTO_SIGNATURE_BYTES];
	uint8		public_key[CRYPTO_PUBLIC_BYTES];
	StringInfoData json;
	const pg_uuid_t *user = identity_user_id();
	pg_uuid_t	none = {{0}};
	Oid			types[7] = {INT8OID, BYTEAOID, JSONBOID, UUIDOID, BYTEAOID, TEXTOID, UUIDOID};
	Datum		values[7];

	PushActiveSnapshot(GetLatestSnapshot());
	if (!block_last(&head))
	{
		PopActiveSnapshot();
		return NULL;
	}
	PopActiveSnapshot();
	key = ledger_signing_key(head.is_signed);
	part[DIGEST_SYSTEM] = psprintf(UINT64_FORMAT, head.system_identifier);
	part[DIGEST_BLOCK] = psprintf(INT64_FORMAT, head.number);
	part[DIGEST_HASH] = hash_hex(head.block_hash.bytes, HASH_BYTES);
	part[DIGEST_ENTRIES] = psprintf(INT64_FORMAT, head.total_entries);
	part[DIGEST_TIME] = anchor_time(GetCurrentTimestamp());
	if (key != NULL)
	{
		char	   *message;

		part[DIGEST_KEY] = uuid_text(data_key_id(key));
		message = digest_message(part[DIGEST_SYSTEM], part[DIGEST_BLOCK], part[DIGEST_HASH], part[DIGEST_ENTRIES],
								 part[DIGEST_TIME], part[DIGEST_KEY]);
		data_key_sign(key, message, strlen(message), signature);
		data_key_public(key, public_key);
		part[DIGEST_PUBLIC_KEY] = hash_hex(public_key, sizeof(public_key));
		part[DIGEST_SIGNATURE] = hash_hex(signature, sizeof(signature));
	}
	initStringInfo(&json);
	appendStringInfoString(&json, "{\"format\": \"sentient_edge digest 1\"");
	for (int i = 0; i < DIGEST_PARTS; i++)
	{
		if (part[i] != NULL)
			appendStringInfo(&json, ", \"%s\": \"%s\"", digest_parts[i], part[i]);
	}
	appendStringInfoChar(&json, '}');

	values[0] = Int64GetDatum(head.number);
	values[1] = PointerGetDatum(make_bytea(head.block_hash.bytes, HASH_BYTES));
	values[2] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	values[3] = UUIDPGetDatum(key != NULL ? data_key_id(key) : &none);
	values[4] = PointerGetDatum(make_bytea(signature, key != NULL ? sizeof(signature) : 0));
	values[5] = CStringGetTextDatum(note != NULL ? note : "");
	values[6] = UUIDPGetDatum(user != NULL ? user : &none);
	(void) sql_query("INSERT INTO audit.anchors (kind, block_number, block_hash, digest, algorithm, key_id, signature, note, created_by)"
					 " SELECT 'digest', $1, $2, $3, CASE WHEN octet_length($5) > 0 THEN 'ed25519' END,"
					 " CASE WHEN octet_length($5) > 0 THEN $4 END, CASE WHEN octet_length($5) > 0 THEN $5 END,"
					 " nullif($6, ''), nullif($7, '00000000-0000-0000-0000-000000000000')", 7, types, values);
	if (block_number != NULL)
		*block_number = head.number;
	return json.data;
}

/* audit.digest(note) */
Datum
audit_digest(PG_FUNCTION_ARGS)
{
	SqlScope	scope;
	char	   *note = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *json;
	MemoryContext context = CurrentMemoryContext;

	PreventCommandIfReadOnly("audit.digest()");
	PreventCommandDuringRecovery("audit.digest()");
	scope = sql_begin(0);
	json = digest_make(note, NULL);
	if (json == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the ledger has no block yet"),
				 errhint("The first entry of audit.log makes the first block within a second, or audit.seal() at once.")));
	json = MemoryContextStrdup(context, json);
	sql_end(&scope);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/* The text of a digest's part; NULL when it is not there or no string. */
static char *
part_of(Jsonb *digest, DigestPart part)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&digest->root, digest_parts[part], strlen(digest_parts[part]), NULL);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
check_signature(Verify *verify, char **part, int64 number, bool block_is_signed)
{
	pg_uuid_t  *key_id;
	uint8		signature[CRYPTO_SIGNATURE_BYTES];
	char	   *message;

	if (part[DIGEST_SIGNATURE] == NULL || part[DIGEST_KEY] == NULL)
	{
		if (block_is_signed)
			verify_finding(verify, "bad_signature", number, NO_ENTRY, "the digest is not signed, though its block is");
		return;
	}
	key_id = DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(part[DIGEST_KEY])));
	message = digest_message(part[DIGEST_SYSTEM], part[DIGEST_BLOCK], part[DIGEST_HASH], part[DIGEST_ENTRIES],
							 part[DIGEST_TIME], part[DIGEST_KEY]);
	if (!hex_bytes(part[DIGEST_SIGNATURE], signature, sizeof(signature)) ||
		verify_signature(verify, key_id, message, strlen(message), signature) == SIGNATURE_WRONG)
		verify_finding(verify, "bad_signature", number, NO_ENTRY, "the digest was not signed by key %s", part[DIGEST_KEY]);
}

static void
check_digest(Verify *verify, char **part)
{
	LedgerBlock head;
	LedgerBlock block;
	int64		number = DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(part[DIGEST_BLOCK])));
	Sha256		computed;
	Sha256		wanted;

	if (!block_last(&head) || head.number < number)
	{
		verify_finding(verify, "missing_block", number, NO_ENTRY,
					   "the digest covers %s entries up to this block, but the ledger ends before it", part[DIGEST_ENTRIES]);
		check_signature(verify, part, number, false);
		return;
	}
	if (sql_read(psprintf("SELECT " BLOCK_COLUMNS " FROM audit.blocks WHERE block_number = " INT64_FORMAT, number)) == 0)
	{
		verify_finding(verify, "missing_block", number, NO_ENTRY, "the block of the digest is missing");
		check_signature(verify, part, number, false);
		return;
	}
	if (!block_read(0, &block) || !hex_bytes(part[DIGEST_HASH], wanted.bytes, HASH_BYTES))
	{
		verify_finding(verify, "digest_mismatch", number, NO_ENTRY, "the digest or its block cannot be read");
		return;
	}
	computed = block_hash_of(&block);
	if (!sha256_equal(&wanted, &computed) || !sha256_equal(&wanted, &block.block_hash))
		verify_finding(verify, "digest_mismatch", number, NO_ENTRY, "the ledger has another block of this number than the digest");
	check_signature(verify, part, number, block.is_signed);
}

/* audit.verify_digest(digest) */
Datum
audit_verify_digest(PG_FUNCTION_ARGS)
{
	Verify		verify = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	Jsonb	   *digest;
	char	   *part[DIGEST_PARTS];
	SqlScope	scope;

	/* No finding would say that all is well. */
	sql_refuse_nulls(fcinfo, "audit.verify_digest");
	digest = PG_GETARG_JSONB_P(0);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < DIGEST_PARTS; i++)
		part[i] = JB_ROOT_IS_OBJECT(digest) ? part_of(digest, i) : NULL;
	for (int i = 0; i < DIGEST_KEY; i++)
	{
		if (part[i] == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the digest has no text \"%s\"", digest_parts[i]),
					 errhint("Pass what audit.digest() returned.")));
	}
	scope = sql_begin(0);
	verify.context = CurrentMemoryContext;
	PushActiveSnapshot(GetLatestSnapshot());
	check_digest(&verify, part);
	PopActiveSnapshot();
	sql_end(&scope);
	return (Datum) 0;
}
