/*
 * entry.c
 *		The canonical bytes of a row of audit.log, and of audit.security_events.
 *
 * One byte, 0x01 for an entry and 0x02 for an event (both version 1), then every
 * column but mac in the order of the table, each as a length of four bytes and that many bytes of value; the length of a
 * null is 0xffffffff.  Integers are big-endian and of fixed width, times are
 * microseconds since 1970-01-01 00:00 UTC, text is UTF-8, a boolean is one byte
 * 0 or 1, jsonb is its text as
 * jsonb_out writes it, an address is its family (4 or 6), the bits of its mask
 * and its bytes.  Nothing depends on the session, the machine or the version of
 * PostgreSQL; the order of jsonb's keys and the digits of its numbers are part
 * of the stored value.
 *
 * Called by whoever writes entries and events, and by the ledger.  Takes no locks.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

#include "audit/entry.h"
#include "base/plain_integer.h"
#include "compat.h"
#include "errors.h"

#define NULL_LENGTH				PG_UINT32_MAX
#define UNIX_EPOCH_US			((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* How the bytes of a column are made. */
typedef enum EntryType
{
	ENTRY_INT8,
	ENTRY_TIME,
	ENTRY_CHAR,
	ENTRY_BOOL,
	ENTRY_TEXT,
	ENTRY_NAME,
	ENTRY_JSONB,
	ENTRY_UUID,
	ENTRY_INET,
} EntryType;

static const EntryType entry_types[AUDIT_MAC] = {
	[AUDIT_ID] = ENTRY_INT8,
	[AUDIT_OCCURRED_AT] = ENTRY_TIME,
	[AUDIT_STATEMENT_AT] = ENTRY_TIME,
	[AUDIT_TRANSACTION_ID] = ENTRY_INT8,
	[AUDIT_QUERY_ID] = ENTRY_INT8,
	[AUDIT_OPERATION] = ENTRY_CHAR,
	[AUDIT_SCHEMA_NAME] = ENTRY_TEXT,
	[AUDIT_TABLE_NAME] = ENTRY_TEXT,
	[AUDIT_ROW_KEY] = ENTRY_JSONB,
	[AUDIT_OLD_VALUES] = ENTRY_JSONB,
	[AUDIT_NEW_VALUES] = ENTRY_JSONB,
	[AUDIT_USER_ID] = ENTRY_UUID,
	[AUDIT_DB_ROLE] = ENTRY_TEXT,
	[AUDIT_SESSION_ROLE] = ENTRY_TEXT,
	[AUDIT_CLIENT_ADDR] = ENTRY_INET,
	[AUDIT_APPLICATION_NAME] = ENTRY_TEXT,
};

static const EntryType event_types[EVENT_MAC] = {
	[EVENT_ID] = ENTRY_UUID,
	[EVENT_OCCURRED_AT] = ENTRY_TIME,
	[EVENT_LAST_OCCURRED_AT] = ENTRY_TIME,
	[EVENT_TRANSACTION_ID] = ENTRY_INT8,
	[EVENT_COUNT] = ENTRY_INT8,
	[EVENT_TYPE] = ENTRY_TEXT,
	[EVENT_SEVERITY] = ENTRY_TEXT,
	[EVENT_OUTCOME] = ENTRY_BOOL,
	[EVENT_USER_ID] = ENTRY_UUID,
	[EVENT_USERNAME] = ENTRY_TEXT,
	[EVENT_DB_ROLE] = ENTRY_NAME,
	[EVENT_CLIENT_ADDR] = ENTRY_INET,
	[EVENT_APPLICATION_NAME] = ENTRY_TEXT,
	[EVENT_OBJECT] = ENTRY_TEXT,
	[EVENT_MESSAGE] = ENTRY_TEXT,
	[EVENT_DETAILS] = ENTRY_JSONB,
};

/* As appendBinaryStringInfo, which adds a null byte each time; the last one is added at the end. */
static inline void
append_bytes(StringInfo bytes, const void *data, int length)
{
	if (unlikely(bytes->len + length >= bytes->maxlen))
		enlargeStringInfo(bytes, length);
	memcpy(bytes->data + bytes->len, data, length);
	bytes->len += length;
}

static void
append_length(StringInfo bytes, uint32 length)
{
	uint32		ordered = pg_hton32(length);

	append_bytes(bytes, &ordered, sizeof(ordered));
}

static void
append_int8(StringInfo bytes, int64 value)
{
	uint64		ordered = pg_hton64((uint64) value);

	append_length(bytes, sizeof(ordered));
	append_bytes(bytes, &ordered, sizeof(ordered));
}

/* Microseconds since 1970; the infinities, and what would overflow, are the ends of the range. */
static void
append_time(StringInfo bytes, TimestampTz time)
{
	int64		unix_time = time;

	if (!TIMESTAMP_NOT_FINITE(time))
		unix_time = time > PG_INT64_MAX - UNIX_EPOCH_US ? PG_INT64_MAX : time + UNIX_EPOCH_US;
	append_int8(bytes, unix_time);
}

/* Text of the database's encoding, as UTF-8. */
static void
append_text(StringInfo bytes, const char *text, int length)
{
	char	   *utf8 = pg_server_to_any(text, length, PG_UTF8);

	if (utf8 != text)
		length = strlen(utf8);
	append_length(bytes, length);
	append_bytes(bytes, utf8, length);
	if (utf8 != text)
		pfree(utf8);
}

/* A string as jsonb_out quotes it. */
static void
append_quoted(StringInfo bytes, const char *text, int length)
{
	char	   *copy;

	for (int i = 0; i < length; i++)
	{
		if ((unsigned char) text[i] >= ' ' && text[i] != '"' && text[i] != '\\')
			continue;
		copy = pnstrdup(text, length);
		escape_json(bytes, copy);
		pfree(copy);
		return;
	}
	enlargeStringInfo(bytes, length + 2);
	bytes->data[bytes->len++] = '"';
	memcpy(bytes->data + bytes->len, text, length);
	bytes->len += length;
	bytes->data[bytes->len++] = '"';
}

static void
append_number(StringInfo bytes, Numeric number)
{
	int64		integer;
	int			scale;
	char	   *text;

	if (plain_integer(number, &integer, &scale) && scale == 0)
	{
		enlargeStringInfo(bytes, MAXINT8LEN + 1);
		bytes->len += pg_lltoa(integer, bytes->data + bytes->len);
		return;
	}
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	append_bytes(bytes, text, strlen(text));
	pfree(text);
}

/* One value of an object or array whose values begin at data. */
static void
append_element(StringInfo bytes, JEntry entry, char *data, uint32 offset, uint32 length)
{
	if (JBE_ISSTRING(entry))
		append_quoted(bytes, data + offset, length);
	else if (JBE_ISNUMERIC(entry))
		append_number(bytes, (Numeric) (data + INTALIGN(offset)));
	else if (JBE_ISNULL(entry))
		append_bytes(bytes, "null", 4);
	else if (JBE_ISBOOL_TRUE(entry))
		append_bytes(bytes, "true", 4);
	else if (JBE_ISBOOL_FALSE(entry))
		append_bytes(bytes, "false", 5);
	else
		(void) JsonbToCString(bytes, (JsonbContainer *) (data + INTALIGN(offset)), length);
}

/*
 * The text of an object as jsonb_out writes it, at a fraction of its cost: rows
 * are objects of plain values.
 */
static void
append_object(StringInfo bytes, JsonbContainer *object)
{
	int			n = JsonContainerSize(object);
	char	   *data = (char *) &object->children[2 * n];
	uint32		key_offset = 0;
	uint32		offset = n > 0 ? getJsonbOffset(object, n) : 0;

	append_bytes(bytes, "{", 1);
	for (int i = 0; i < n; i++)
	{
		uint32		key_end = key_offset;
		uint32		end = offset;

		JBE_ADVANCE_OFFSET(key_end, object->children[i]);
		JBE_ADVANCE_OFFSET(end, object->children[n + i]);
		if (i > 0)
			append_bytes(bytes, ", ", 2);
		append_quoted(bytes, data + key_offset, key_end - key_offset);
		append_bytes(bytes, ": ", 2);
		append_element(bytes, object->children[n + i], data, offset, end - offset);
		key_offset = key_end;
		offset = end;
	}
	append_bytes(bytes, "}", 1);
}

#ifdef SENTIENT_EDGE_ASSERTIONS
static bool
is_text_of(const char *text, int length, Jsonb *jsonb)
{
	char	   *expected = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	bool		same = strlen(expected) == length && memcmp(expected, text, length) == 0;

	pfree(expected);
	return same;
}
#endif

static void
append_jsonb(StringInfo bytes, Jsonb *jsonb)
{
	int			start = bytes->len;
	uint32		ordered;

	append_length(bytes, 0);
	if (JB_ROOT_IS_OBJECT(jsonb))
		append_object(bytes, &jsonb->root);
	else
		(void) JsonbToCString(bytes, &jsonb->root, VARSIZE(jsonb));
	se_assert(is_text_of(bytes->data + start + sizeof(uint32), bytes->len - start - sizeof(uint32), jsonb));

	if (GetDatabaseEncoding() != PG_UTF8)
	{
		char	   *text = pnstrdup(bytes->data + start + sizeof(uint32), bytes->len - start - sizeof(uint32));

		bytes->len = start;
		append_text(bytes, text, strlen(text));
		pfree(text);
		return;
	}
	ordered = pg_hton32(bytes->len - start - sizeof(uint32));
	memcpy(bytes->data + start, &ordered, sizeof(ordered));
}

static void
append_inet(StringInfo bytes, const inet *address)
{
	append_length(bytes, 2 + ip_addrsize(address));
	appendStringInfoChar(bytes, ip_family(address) == PGSQL_AF_INET ? 4 : 6);
	appendStringInfoChar(bytes, (char) ip_bits(address));
	append_bytes(bytes, ip_addr(address), ip_addrsize(address));
}

static void
append_columns(StringInfo bytes, const EntryType *types, int n, const Datum *values, const bool *nulls)
{
	for (int column = 0; column < n; column++)
	{
		Datum		value = values[column];

		if (nulls[column])
		{
			append_length(bytes, NULL_LENGTH);
			continue;
		}
		switch (types[column])
		{
			case ENTRY_INT8:
				append_int8(bytes, DatumGetInt64(value));
				break;
			case ENTRY_TIME:
				append_time(bytes, DatumGetInt64(value));
				break;
			case ENTRY_CHAR:
				append_length(bytes, 1);
				appendStringInfoChar(bytes, DatumGetChar(value));
				break;
			case ENTRY_BOOL:
				append_length(bytes, 1);
				appendStringInfoChar(bytes, DatumGetBool(value) ? 1 : 0);
				break;
			case ENTRY_NAME:
				append_text(bytes, NameStr(*DatumGetName(value)), strlen(NameStr(*DatumGetName(value))));
				break;
			case ENTRY_TEXT:
				{
					struct varlena *text = PG_DETOAST_DATUM_PACKED(value);

					append_text(bytes, VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text));
				}
				break;
			case ENTRY_JSONB:
				append_jsonb(bytes, DatumGetJsonbP(value));
				break;
			case ENTRY_UUID:
				append_length(bytes, UUID_LEN);
				append_bytes(bytes, DatumGetUUIDP(value)->data, UUID_LEN);
				break;
			case ENTRY_INET:
				append_inet(bytes, DatumGetInetPP(value));
				break;
		}
	}
	enlargeStringInfo(bytes, 1);
	bytes->data[bytes->len] = '\0';
}

void
audit_entry_canonical(StringInfo bytes, const Datum *values, const bool *nulls)
{
	appendStringInfoChar(bytes, AUDIT_ENTRY_VERSION);
	append_columns(bytes, entry_types, AUDIT_MAC, values, nulls);
}

void
audit_event_canonical(StringInfo bytes, const Datum *values, const bool *nulls)
{
	appendStringInfoChar(bytes, AUDIT_EVENT_VERSION);
	append_columns(bytes, event_types, EVENT_MAC, values, nulls);
}
