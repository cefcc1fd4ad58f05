/*
 * row_position.c
 *		audit.row_position(schema_name, table_name, row_key): the number by which
 *		audit.log_row_idx finds the entries of a row.
 *
 * 20 bits are a hash of the table; the other 44 are of the row, and keep the order
 * of keys as far as that can be:
 *
 * - a key of one integer is that integer, less what is above its 44 bits;
 * - any other begins with 24 bits of its first value (an integer's lowest, a
 *   uuid's highest, those of the time in a uuid of version 7) and ends with 20
 *   bits of a hash of the whole key;
 * - what has no order that would help is a hash.
 *
 * So a statement that changes rows in the order of their key, and those that
 * change rows that were inserted together, touch few pages of the index and write
 * little WAL; a plain hash would send each row to a page of its own.  Different
 * rows may have one number: a search compares the key as well.  Keys that are
 * equal as jsonb, such as 1 and 1.0, have the same.
 *
 * Indexes hold what is computed here: it must never change.  Another rule would be
 * another function, and another index.
 *
 * Called by log_write.c for each entry, and by searches.  Takes no locks.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "base/plain_integer.h"
#include "capture/row_position.h"
#include "compat.h"

#define ROW_BITS				44
#define ORDER_BITS				24
#define HASH_BITS				(ROW_BITS - ORDER_BITS)

#define LOW_BITS(value, bits)	((uint64) (value) & ((UINT64CONST(1) << (bits)) - 1))

/* Milliseconds of a uuid of version 7 that count as one time. */
#define UUID_TIME_SHIFT			6
#define UUID_TEXT_LENGTH		36

/* What is told of a value. */
typedef struct Position
{
	bool		exact;			/* order is all that there is of the value */
	uint64		order;
	uint64		hash;			/* unless exact */
} Position;

PG_FUNCTION_INFO_V1(audit_row_position);

static uint64
hash_text(const char *text, int length, uint64 seed)
{
	return hash_bytes_extended((const unsigned char *) text, length, seed);
}

static uint64
hash_jsonb(Jsonb *jsonb)
{
	return DatumGetUInt64(DirectFunctionCall2(jsonb_hash_extended, JsonbPGetDatum(jsonb), Int64GetDatum(0)));
}

static int
hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The part of a uuid, as uuid_out writes it, that is in order. */
static bool
uuid_order(const char *text, int length, uint64 *order)
{
	uint64		first = 0;		/* 48 bits */

	if (length != UUID_TEXT_LENGTH || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-')
		return false;
	for (int i = 0; i < 13; i++)
	{
		int			digit = hex_digit(text[i]);

		if (i == 8)
			continue;
		if (digit < 0)
			return false;
		first = first << 4 | digit;
	}
	*order = text[14] == '7' ? first >> UUID_TIME_SHIFT : first >> (48 - ORDER_BITS);
	return true;
}

/* What one value of an object tells; false: nothing that is worth it. */
static bool
value_position(JEntry entry, const char *data, uint32 offset, uint32 length, Position *position)
{
	if (JBE_ISNUMERIC(entry))
	{
		int64		integer;
		int			scale;

		if (!plain_integer((Numeric) (data + INTALIGN(offset)), &integer, &scale))
			return false;
		position->exact = true;
		position->order = (uint64) integer;
		return true;
	}
	if (!JBE_ISSTRING(entry))
		return false;
	position->exact = false;
	position->hash = hash_text(data + offset, length, 0);
	if (!uuid_order(data + offset, length, &position->order))
		position->order = position->hash >> HASH_BITS;
	return true;
}

static uint64
key_position(Jsonb *key)
{
	JsonbContainer *object = &key->root;
	int			n = JsonContainerSize(object);
	const char *data = (const char *) &object->children[2 * n];
	Position	position;

	if (!JsonContainerIsObject(object) || n == 0 ||
		!value_position(object->children[n], data, getJsonbOffset(object, n), getJsonbLength(object, n), &position))
		return hash_jsonb(key);
	if (n > 1)
		position.hash = hash_jsonb(key);
	else if (position.exact)
		return position.order;
	return position.order << HASH_BITS | LOW_BITS(position.hash, HASH_BITS);
}

int64
row_position(const text *schema_name, const text *table_name, Jsonb *row_key)
{
	uint64		table = hash_text(VARDATA_ANY(table_name), VARSIZE_ANY_EXHDR(table_name),
								  hash_text(VARDATA_ANY(schema_name), VARSIZE_ANY_EXHDR(schema_name), 0));

	return (int64) (table << ROW_BITS | LOW_BITS(key_position(row_key), ROW_BITS));
}

Datum
audit_row_position(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(row_position(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1), PG_GETARG_JSONB_P(2)));
}
