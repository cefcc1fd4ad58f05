/*
 * sealed_functions.c
 *		SQL functions that seal and unseal, and the texts that go through them.
 *
 * Texts are UTF-8 inside an envelope, so that a dump can be restored into a
 * database of another encoding.  No error here tells any of a plaintext, nor has
 * the statement logged with it.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "crypto/log_guard.h"
#include "crypto/secret.h"
#include "sealed/sealed.h"
#include "sealed/unseal_count.h"

PG_FUNCTION_INFO_V1(sealed_seal);
PG_FUNCTION_INFO_V1(sealed_seal_bytes);
PG_FUNCTION_INFO_V1(sealed_unseal);
PG_FUNCTION_INFO_V1(sealed_unseal_bytes);
PG_FUNCTION_INFO_V1(sealed_try_unseal);
PG_FUNCTION_INFO_V1(sealed_try_unseal_bytes);

/* The text in another encoding, or NULL; the argument itself is left alone. */
static text *
convert(text *value, int from, int to)
{
	int			length = VARSIZE_ANY_EXHDR(value);
	Oid			conversion = FindDefaultConversionProc(from, to);
	text	   *result = NULL;
	size_t		room = (size_t) length * MAX_CONVERSION_GROWTH + 1;
	char	   *buffer;
	size_t		converted_bytes;

	if (!OidIsValid(conversion) || room > MaxAllocSize)
		return NULL;
	buffer = palloc(room);
	if (pg_do_encoding_conversion_buf(conversion, from, to, (unsigned char *) VARDATA_ANY(value), length,
									  (unsigned char *) buffer, room, true) == length)
	{
		converted_bytes = strlen(buffer);
		result = palloc(VARHDRSZ + converted_bytes);
		SET_VARSIZE(result, VARHDRSZ + converted_bytes);
		memcpy(VARDATA(result), buffer, converted_bytes);
	}
	secret_zero(buffer, room);
	pfree(buffer);
	return result;
}

text *
sealed_to_utf8(text *value)
{
	int			encoding = GetDatabaseEncoding();

	/* SQL_ASCII is whatever the clients make of it. */
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return value;
	return convert(value, encoding, PG_UTF8);
}

text *
sealed_from_utf8(text *value)
{
	int			encoding = GetDatabaseEncoding();

	/* It may have been sealed as bytes. */
	if (!pg_verify_mbstr(encoding == PG_SQL_ASCII ? PG_SQL_ASCII : PG_UTF8,
						 VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), true))
		return NULL;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return value;
	return convert(value, PG_UTF8, encoding);
}

text *
sealed_context_argument(text *context)
{
	text	   *utf8;

	if (context == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("context of a sealed value must not be null"),
				 errhint("Say where the value is kept: schema.table.column:key.")));
	utf8 = sealed_to_utf8(context);
	if (utf8 == NULL || VARSIZE_ANY_EXHDR(utf8) < 1 || VARSIZE_ANY_EXHDR(utf8) > SEALED_CONTEXT_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("context of a sealed value must be of 1 to %d bytes of UTF-8", SEALED_CONTEXT_MAX),
				 errhint("Say where the value is kept: schema.table.column:key.")));
	return utf8;
}

void
sealed_hide_statement(void *arg)
{
	(void) errhidestmt(true);
	(void) errhidecontext(true);
}

static Datum
seal(FunctionCallInfo fcinfo, bool is_text)
{
	ErrorContextCallback hide = {.previous = error_context_stack,.callback = sealed_hide_statement};
	text	   *context;
	struct varlena *argument;
	struct varlena *plain;
	struct varlena *result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	log_guard_note();
	error_context_stack = &hide;
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("searchable must be true or false")));
	context = sealed_context_argument(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	argument = PG_GETARG_VARLENA_PP(0);
	plain = is_text ? (struct varlena *) sealed_to_utf8((text *) argument) : argument;
	if (plain == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("text has no equivalent in UTF-8"),
				 errhint("Use sentient_edge.seal_bytes() for it.")));

	result = sealed_make(VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain),
						 VARDATA_ANY(context), VARSIZE_ANY_EXHDR(context), PG_GETARG_BOOL(2));

	/* Copies of ours; the argument itself is the caller's. */
	if (plain != argument)
		sealed_plain_free(plain);
	if (argument != (struct varlena *) PG_GETARG_POINTER(0))
		sealed_plain_free(argument);
	error_context_stack = hide.previous;
	PG_RETURN_POINTER(result);
}

Datum
sealed_seal(PG_FUNCTION_ARGS)
{
	return seal(fcinfo, true);
}

Datum
sealed_seal_bytes(PG_FUNCTION_ARGS)
{
	return seal(fcinfo, false);
}

static Datum
unseal(FunctionCallInfo fcinfo, bool is_text, bool try)
{
	text	   *context;
	struct varlena *plain;
	struct varlena *result;
	SealedStatus status;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	log_guard_note();
	context = sealed_context_argument(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	status = sealed_open((struct varlena *) PG_GETARG_POINTER(0),
						 VARDATA_ANY(context), VARSIZE_ANY_EXHDR(context), &plain);
	unseal_count_note(status == SEALED_OPENED);
	if (status != SEALED_OPENED)
	{
		if (!try)
			sealed_raise(status);
		PG_RETURN_NULL();
	}
	if (!is_text)
		PG_RETURN_POINTER(plain);

	result = (struct varlena *) sealed_from_utf8((text *) plain);
	if (result != plain)
		sealed_plain_free(plain);
	if (result == NULL && !try)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("sealed value is no text of this database's encoding"),
				 errhint("Use sentient_edge.unseal_bytes() for it.")));
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(result);
}

Datum
sealed_unseal(PG_FUNCTION_ARGS)
{
	return unseal(fcinfo, true, false);
}

Datum
sealed_unseal_bytes(PG_FUNCTION_ARGS)
{
	return unseal(fcinfo, false, false);
}

Datum
sealed_try_unseal(PG_FUNCTION_ARGS)
{
	return unseal(fcinfo, true, true);
}

Datum
sealed_try_unseal_bytes(PG_FUNCTION_ARGS)
{
	return unseal(fcinfo, false, true);
}
