/*
 * sealed_type.c
 *		Input and output of the type sealed, and what can be told of a value
 *		without a key.
 *
 * Text and binary form are the prefix "sealed:" and the envelope.  Whatever does
 * not begin so is taken for a plaintext and refused, unseen.  What follows the
 * prefix is kept as it is, also when its version is not known here: a dump passes
 * through, and whether a value is genuine is for sealed_open to say.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/uuid.h"

#include "crypto/log_guard.h"
#include "sealed/sealed.h"

PG_FUNCTION_INFO_V1(sealed_in);
PG_FUNCTION_INFO_V1(sealed_out);
PG_FUNCTION_INFO_V1(sealed_recv);
PG_FUNCTION_INFO_V1(sealed_send);
PG_FUNCTION_INFO_V1(sealed_key_id);
PG_FUNCTION_INFO_V1(sealed_search_key_id);

/* The bytes may be a secret that came here by mistake: they are in no message, nor is the statement logged. */
pg_noreturn static void refuse_input(int sqlstate);

Datum
sealed_in(PG_FUNCTION_ARGS)
{
	const char *input = PG_GETARG_CSTRING(0);
	size_t		length = strlen(input);
	struct varlena *result = palloc(VARHDRSZ + sealed_text_room(length));
	size_t		size;

	if (!sealed_text_read(input, length, (uint8 *) VARDATA(result), &size))
		refuse_input(ERRCODE_INVALID_TEXT_REPRESENTATION);
	SET_VARSIZE(result, VARHDRSZ + size);
	PG_RETURN_POINTER(result);
}

Datum
sealed_out(PG_FUNCTION_ARGS)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(0);
	size_t		size = VARSIZE_ANY_EXHDR(value);
	size_t		length = sealed_text_size(size);
	char	   *output = palloc(length + 1);

	sealed_text_write((const uint8 *) VARDATA_ANY(value), size, output);
	output[length] = '\0';
	PG_RETURN_CSTRING(output);
}

Datum
sealed_recv(PG_FUNCTION_ARGS)
{
	StringInfo	message = (StringInfo) PG_GETARG_POINTER(0);
	int			size = message->len - message->cursor - SEALED_PREFIX_BYTES;
	struct varlena *result;

	if (size <= 0 || memcmp(pq_getmsgbytes(message, SEALED_PREFIX_BYTES), SEALED_PREFIX, SEALED_PREFIX_BYTES) != 0)
		refuse_input(ERRCODE_INVALID_BINARY_REPRESENTATION);
	result = palloc(VARHDRSZ + size);
	SET_VARSIZE(result, VARHDRSZ + size);
	pq_copymsgbytes(message, VARDATA(result), size);
	PG_RETURN_POINTER(result);
}

Datum
sealed_send(PG_FUNCTION_ARGS)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(0);
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendbytes(&message, SEALED_PREFIX, SEALED_PREFIX_BYTES);
	pq_sendbytes(&message, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

static void
refuse_input(int sqlstate)
{
	log_guard_note();
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("invalid input syntax for type sentient_edge.sealed"),
			 errdetail("It is not shown, for it may be a secret."),
			 errhint("A sealed value begins with \"sealed:\". Use sentient_edge.seal() to make one."),
			 errhidestmt(true), errhidecontext(true)));
}

static Datum
key_id(FunctionCallInfo fcinfo, bool of_search_key)
{
	static const pg_uuid_t nil = {{0}};
	pg_uuid_t	ids[2];

	(void) sealed_key_ids((struct varlena *) PG_GETARG_POINTER(0), &ids[0], &ids[1]);
	if (memcmp(&ids[of_search_key], &nil, UUID_LEN) == 0)
		PG_RETURN_NULL();
	else
	{
		pg_uuid_t  *result = palloc(sizeof(*result));

		*result = ids[of_search_key];
		PG_RETURN_UUID_P(result);
	}
}

/* sealed_key_id(sealed): the field key of a value. */
Datum
sealed_key_id(PG_FUNCTION_ARGS)
{
	return key_id(fcinfo, false);
}

/* sealed_search_key_id(sealed): the search key of a searchable value or a token. */
Datum
sealed_search_key_id(PG_FUNCTION_ARGS)
{
	return key_id(fcinfo, true);
}
