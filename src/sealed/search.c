/*
 * search.c
 *		Search tags and tokens: equality of sealed values without opening them.
 *
 * A tag is the first 16 bytes of an HMAC-SHA-256, under a subkey of the search
 * key, over the length of the scope (two bytes, big endian), the scope and the
 * plaintext.  The scope is the context up to its first colon outside double
 * quotes, that is, the column without the row: equal values of one column have
 * equal tags, and those of two columns tell nothing of each other.
 *
 * sentient_edge.search_token() hands out an envelope that ends behind the tag,
 * for use on the other side of an operator.  No locks; nothing outlives a call.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/sql.h"
#include "crypto/log_guard.h"
#include "crypto/secret.h"
#include "sealed/sealed.h"
#include "sealed/search.h"

PG_FUNCTION_INFO_V1(sealed_search_token);
PG_FUNCTION_INFO_V1(sealed_search_tokens);

#define TAG_LABEL		"sealed search tag 1"

/* Shorter ones are put together on the stack. */
#define SHORT_INPUT		2048

size_t
search_scope(const char *context, size_t context_bytes)
{
	const char *first = memchr(context, ':', context_bytes);
	bool		quoted = false;

	if (first == NULL)
		return context_bytes;
	for (size_t i = 0; i < context_bytes; i++)
	{
		if (context[i] == '"')
			quoted = !quoted;
		else if (context[i] == ':' && !quoted)
			return i;
	}
	/* Quotes that are not closed are no quotes of a name. */
	return first - context;
}

void
search_tag(const DataKey *key, const char *context, size_t context_bytes,
		   const void *plain, size_t bytes, uint8 tag[SEALED_SEARCH_TAG_BYTES])
{
	size_t		scope_bytes = search_scope(context, context_bytes);
	size_t		length = 2 + scope_bytes + bytes;
	uint8		on_stack[SHORT_INPUT];
	uint8		mac[CRYPTO_MAC_BYTES];
	uint8	   *const input = length <= SHORT_INPUT ? on_stack : palloc(length);

	input[0] = (uint8) (scope_bytes >> 8);
	input[1] = (uint8) scope_bytes;
	memcpy(input + 2, context, scope_bytes);
	memcpy(input + 2 + scope_bytes, plain, bytes);
	PG_TRY();
	{
		data_key_mac(key, TAG_LABEL, input, length, mac);
	}
	PG_FINALLY();
	{
		secret_zero(input, length);
	}
	PG_END_TRY();
	if (input != on_stack)
		pfree(input);
	memcpy(tag, mac, SEALED_SEARCH_TAG_BYTES);
}

static Datum
make_token(const DataKey *key, text *plain, text *context)
{
	struct varlena *token = palloc(VARHDRSZ + SEALED_TOKEN_BYTES);
	uint8	   *at = (uint8 *) VARDATA(token);

	SET_VARSIZE(token, VARHDRSZ + SEALED_TOKEN_BYTES);
	at[0] = SEALED_VERSION;
	at[1] = SEALED_TOKEN | SEALED_SEARCHABLE;
	search_tag(key, VARDATA_ANY(context), VARSIZE_ANY_EXHDR(context),
			   VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain), at + SEALED_START_BYTES);
	memcpy(at + SEALED_START_BYTES + SEALED_SEARCH_TAG_BYTES, data_key_id(key)->data, SEALED_KEY_ID_BYTES);
	return PointerGetDatum(token);
}

/* The plaintext to look for, in UTF-8. */
static text *
plain_argument(text *plain)
{
	text	   *utf8 = sealed_to_utf8(plain);

	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("text has no equivalent in UTF-8")));
	return utf8;
}

/*
 * search_token(plaintext, context): what a value of the context's column that
 * holds the plaintext is equal to.
 */
Datum
sealed_search_token(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hide = {.previous = error_context_stack,.callback = sealed_hide_statement};
	text	   *argument;
	text	   *plain;
	text	   *context;
	Datum		token;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	log_guard_note();
	error_context_stack = &hide;
	context = sealed_context_argument(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	argument = PG_GETARG_TEXT_PP(0);
	plain = plain_argument(argument);
	token = make_token(data_key_active(KEY_SEARCH), plain, context);
	if (plain != argument)
		sealed_plain_free((struct varlena *) plain);
	error_context_stack = hide.previous;
	PG_RETURN_DATUM(token);
}

/*
 * search_tokens(plaintext, context): the tokens under every search key that
 * values may still be tagged with, the active one first.
 */
Datum
sealed_search_tokens(PG_FUNCTION_ARGS)
{
	Oid			sealed = get_element_type(get_fn_expr_rettype(fcinfo->flinfo));
	text	   *argument;
	text	   *plain;
	text	   *context;
	const DataKey *active;
	pg_uuid_t	active_id;
	SqlScope	scope;
	uint64		nkeys;
	pg_uuid_t  *ids;
	Datum	   *tokens;
	int			ntokens = 0;
	MemoryContext caller = CurrentMemoryContext;
	ErrorContextCallback hide = {.previous = error_context_stack,.callback = sealed_hide_statement};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	log_guard_note();
	error_context_stack = &hide;
	context = sealed_context_argument(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	argument = PG_GETARG_TEXT_PP(0);
	plain = plain_argument(argument);
	active = data_key_active(KEY_SEARCH);
	active_id = *data_key_id(active);

	scope = sql_begin(0);
	nkeys = sql_query("SELECT key_id FROM sentient_edge.data_keys"
					  " WHERE purpose = 'search' AND state = 'decrypt_only' ORDER BY created_at DESC, key_id",
					  0, NULL, NULL);
	ids = MemoryContextAlloc(caller, (nkeys + 1) * sizeof(pg_uuid_t));
	ids[0] = active_id;
	for (uint64 i = 0; i < nkeys; i++)
	{
		bool		isnull;

		ids[i + 1] = *DatumGetUUIDP(sql_value(i, 0, &isnull));
	}
	sql_end(&scope);

	tokens = palloc((nkeys + 1) * sizeof(Datum));
	for (uint64 i = 0; i <= nkeys; i++)
	{
		const DataKey *key = data_key_find(&ids[i], KEY_SEARCH);

		if (key != NULL)
			tokens[ntokens++] = make_token(key, plain, context);
	}
	if (plain != argument)
		sealed_plain_free((struct varlena *) plain);
	error_context_stack = hide.previous;
	PG_RETURN_ARRAYTYPE_P(construct_array(tokens, ntokens, sealed, -1, false, TYPALIGN_INT));
}
