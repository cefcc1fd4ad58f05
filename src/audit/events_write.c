/*
 * events_write.c
 *		Rows of audit.security_events: how they are written, and whether they are
 *		still what was written.
 *
 * Written by the session whose transaction an event belongs to, and by the
 * database's scheduler for those that come through shared memory.  The ids of
 * the latter are made with the event: should the scheduler die between its
 * commit and the answer, its successor's row is the same one and is not doubled.
 *
 * Each row carries a keyed hash of its canonical bytes, when a key is set up:
 * the string "sentient_edge security event", the byte 1 for the version, and the
 * columns in the order of the table but for mac, each as a length of 4 bytes
 * (big-endian; -1 for null) and so many bytes: text in UTF-8, details and
 * addresses as their text, times as 8 bytes of microseconds since 2000-01-01 UTC,
 * counts as 8 bytes, ids as 16 bytes, succeeded as one byte.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit/events_hooks.h"
#include "audit/events_mac.h"
#include "audit/events_queue.h"
#include "audit/events_write.h"
#include "audit/mac.h"
#include "base/sql.h"
#include "errors.h"

#define CANONICAL_MAGIC		"sentient_edge security event"
#define CANONICAL_VERSION	1

/* Rows of one transaction of the scheduler. */
#define BATCH				256

/* Columns of audit.security_events, in the order of the table. */
typedef enum EventColumn
{
	COLUMN_ID,
	COLUMN_OCCURRED_AT,
	COLUMN_LAST_OCCURRED_AT,
	COLUMN_COUNT,
	COLUMN_TYPE,
	COLUMN_SEVERITY,
	COLUMN_SUCCEEDED,
	COLUMN_USER_ID,
	COLUMN_USERNAME,
	COLUMN_DB_ROLE,
	COLUMN_CLIENT_ADDR,
	COLUMN_APPLICATION_NAME,
	COLUMN_OBJECT,
	COLUMN_MESSAGE,
	COLUMN_DETAILS,
	COLUMN_MAC,
	COLUMNS,
} EventColumn;

static Oid	column_types[COLUMNS] = {
	UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TEXTOID, TEXTOID, BOOLOID, UUIDOID, TEXTOID, NAMEOID,
	INETOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, BYTEAOID,
};

#define COLUMN_NAMES \
	"event_id, occurred_at, last_occurred_at, event_count, event_type, severity, succeeded, user_id, username, db_role," \
	" client_addr, application_name, object, message, details, mac"

static const char *const severities[] = {
	"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug",
};

PG_FUNCTION_INFO_V1(record_event);
PG_FUNCTION_INFO_V1(verify_events);

static void canonical_bytes(StringInfo bytes, const Datum *values, const bool *nulls);
static void insert_row(Datum *values, bool *nulls);

/* Give an event its id (version 4), unless it has one. */
static void
identify(SecurityEvent *event)
{
	static const pg_uuid_t none = {{0}};
	uint8	   *id = event->event_id.data;

	if (memcmp(id, none.data, UUID_LEN) != 0)
		return;
	if (!pg_strong_random(id, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	id[6] = (id[6] & 0x0f) | 0x40;
	id[8] = (id[8] & 0x3f) | 0x80;
}

/* A string of this database: whoever connects may send bytes that are none. */
static char *
valid_string(const char *string)
{
	char	   *copy = pstrdup(string);

	if (!pg_verify_mbstr(GetDatabaseEncoding(), copy, strlen(copy), true))
	{
		for (char *c = copy; *c != '\0'; c++)
		{
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
		}
	}
	return copy;
}

static void
set_text(Datum *values, bool *nulls, EventColumn column, const char *string)
{
	nulls[column] = string[0] == '\0';
	if (!nulls[column])
		values[column] = CStringGetTextDatum(valid_string(string));
}

static Datum
address_datum(const EventKey *key)
{
	inet	   *address = palloc0(sizeof(inet));

	memcpy(VARDATA(address), key->address, EVENT_ADDRESS_BYTES);
	SET_INET_VARSIZE(address);
	return InetPGetDatum(address);
}

static Datum
details_datum(const SecurityEvent *event)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{%s", event->key.details);
	if (event->amount > 0)
		appendStringInfo(&json, "%s\"%s\": " INT64_FORMAT, event->key.details[0] != '\0' ? ", " : "",
						 event->key.type == EVENT_UNSEAL ? "values" : "rows", event->amount);
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(valid_string(json.data)));
}

void
events_write(SecurityEvent *events, int n)
{
	SqlScope	scope = sql_begin(0);

	for (int i = 0; i < n; i++)
	{
		SecurityEvent *event = &events[i];
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS] = {false};

		identify(event);
		values[COLUMN_ID] = UUIDPGetDatum(&event->event_id);
		values[COLUMN_OCCURRED_AT] = TimestampTzGetDatum(event->first_at);
		values[COLUMN_LAST_OCCURRED_AT] = TimestampTzGetDatum(event->last_at);
		values[COLUMN_COUNT] = Int64GetDatum(event->count);
		values[COLUMN_TYPE] = CStringGetTextDatum(security_event_name(event->key.type));
		values[COLUMN_SEVERITY] = CStringGetTextDatum(severities[event->key.severity]);
		values[COLUMN_SUCCEEDED] = BoolGetDatum(event->key.outcome == EVENT_SUCCEEDED);
		nulls[COLUMN_SUCCEEDED] = event->key.outcome == EVENT_NO_OUTCOME;
		values[COLUMN_USER_ID] = UUIDPGetDatum(&event->key.user_id);
		nulls[COLUMN_USER_ID] = !event->key.has_user_id;
		set_text(values, nulls, COLUMN_USERNAME, event->key.username);
		values[COLUMN_DB_ROLE] = DirectFunctionCall1(namein, CStringGetDatum(valid_string(event->key.db_role)));
		nulls[COLUMN_DB_ROLE] = event->key.db_role[0] == '\0';
		values[COLUMN_CLIENT_ADDR] = address_datum(&event->key);
		nulls[COLUMN_CLIENT_ADDR] = !event->key.has_address;
		set_text(values, nulls, COLUMN_APPLICATION_NAME, event->key.application_name);
		set_text(values, nulls, COLUMN_OBJECT, event->key.object);
		set_text(values, nulls, COLUMN_MESSAGE, event->key.message);
		values[COLUMN_DETAILS] = details_datum(event);
		insert_row(values, nulls);
	}
	sql_end(&scope);
}

/* Insert one row, inside a scope; its MAC is computed here. */
static void
insert_row(Datum *values, bool *nulls)
{
	static SPIPlanPtr plan = NULL;
	StringInfoData bytes;
	bytea	   *mac;
	char		null_flags[COLUMNS];

	initStringInfo(&bytes);
	canonical_bytes(&bytes, values, nulls);
	mac = audit_mac(AUDIT_MAC_EVENT, &bytes);
	nulls[COLUMN_MAC] = mac == NULL;
	values[COLUMN_MAC] = PointerGetDatum(mac);

	if (plan == NULL)
	{
		SPIPlanPtr	prepared = SPI_prepare("INSERT INTO audit.security_events (" COLUMN_NAMES ")"
										   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
										   " ON CONFLICT (event_id) DO NOTHING", COLUMNS, column_types);

		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "cannot prepare the insertion of security events");
		plan = prepared;
	}
	for (int column = 0; column < COLUMNS; column++)
		null_flags[column] = nulls[column] ? 'n' : ' ';
	if (SPI_execute_plan(plan, values, null_flags, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "cannot insert a security event");
}

static void
put_bytes(StringInfo bytes, const void *data, int length)
{
	pq_sendint32(bytes, length);
	appendBinaryStringInfo(bytes, data, length);
}

static void
put_string(StringInfo bytes, const char *string)
{
	char	   *utf8 = pg_server_to_any(string, strlen(string), PG_UTF8);

	put_bytes(bytes, utf8, strlen(utf8));
}

/* The bytes that the MAC is computed from; see the head of this file. */
static void
canonical_bytes(StringInfo bytes, const Datum *values, const bool *nulls)
{
	appendBinaryStringInfo(bytes, CANONICAL_MAGIC, strlen(CANONICAL_MAGIC));
	appendStringInfoChar(bytes, CANONICAL_VERSION);
	for (int column = 0; column < COLUMN_MAC; column++)
	{
		Datum		value = values[column];

		if (nulls[column])
		{
			pq_sendint32(bytes, (uint32) -1);
			continue;
		}
		switch (column_types[column])
		{
			case UUIDOID:
				put_bytes(bytes, DatumGetUUIDP(value)->data, UUID_LEN);
				break;
			case TIMESTAMPTZOID:
			case INT8OID:
				pq_sendint32(bytes, 8);
				pq_sendint64(bytes, DatumGetInt64(value));
				break;
			case BOOLOID:
				pq_sendint32(bytes, 1);
				pq_sendint8(bytes, DatumGetBool(value) ? 1 : 0);
				break;
			case TEXTOID:
				put_string(bytes, TextDatumGetCString(value));
				break;
			case NAMEOID:
				put_string(bytes, NameStr(*DatumGetName(value)));
				break;
			case INETOID:
				put_string(bytes, DatumGetCString(DirectFunctionCall1(inet_out, value)));
				break;
			case JSONBOID:
				put_string(bytes, DatumGetCString(DirectFunctionCall1(jsonb_out, value)));
				break;
			default:
				elog(ERROR, "unexpected type %u", column_types[column]);
		}
	}
}

/* ---- the scheduler ---- */

typedef struct Batch
{
	SecurityEvent *events;
	int			n;
} Batch;

static void
give_back(int code, Datum arg)
{
	Batch	   *batch = (Batch *) DatumGetPointer(arg);

	event_queue_give_back(batch->events, batch->n);
}

void
events_write_queued(bool requested)
{
	char		database[NAMEDATALEN];
	Batch		batch;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	strlcpy(database, get_database_name(MyDatabaseId), sizeof(database));
	CommitTransactionCommand();

	events_note_reload();
	event_mac_prepare();
	batch.events = palloc(BATCH * sizeof(SecurityEvent));
	do
	{
		batch.n = event_queue_take(database, batch.events, BATCH);
		if (batch.n == 0)
			break;
		/* Also when this process is terminated meanwhile. */
		PG_ENSURE_ERROR_CLEANUP(give_back, PointerGetDatum(&batch));
		{
			SetCurrentStatementStartTimestamp();
			StartTransactionCommand();
			PushActiveSnapshot(GetTransactionSnapshot());
			events_write(batch.events, batch.n);
			PopActiveSnapshot();
			CommitTransactionCommand();
		}
		PG_END_ENSURE_ERROR_CLEANUP(give_back, PointerGetDatum(&batch));
		event_queue_written(batch.n);
	} while (batch.n == BATCH);
}

/* ---- functions ---- */

/* audit.record_event(event_type, severity, message, details): an application's own event. */
Datum
record_event(PG_FUNCTION_ARGS)
{
	char	   *type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *severity = text_to_cstring(PG_GETARG_TEXT_PP(1));
	SecurityEvent event;
	SqlScope	scope;
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};
	bool		known = false;
	Datum		details = PG_GETARG_DATUM(3);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	if (strncmp(type, "app.", 4) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("type of an application's event must begin with \"app.\""),
				 errhint("Other types are recorded by the server itself.")));
	for (int i = 0; i < lengthof(severities); i++)
		known = known || strcmp(severity, severities[i]) == 0;
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown severity"),
				 errhint("Severities are emergency, alert, critical, error, warning, notice, info and debug.")));
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(details)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("details of an event must be an object")));

	security_event_begin(&event, EVENT_INTEGRITY, EVENT_NO_OUTCOME);
	identify(&event);
	*id = event.event_id;
	scope = sql_begin(0);
	values[COLUMN_ID] = UUIDPGetDatum(id);
	values[COLUMN_OCCURRED_AT] = TimestampTzGetDatum(event.first_at);
	values[COLUMN_LAST_OCCURRED_AT] = TimestampTzGetDatum(event.last_at);
	values[COLUMN_COUNT] = Int64GetDatum(1);
	values[COLUMN_TYPE] = PG_GETARG_DATUM(0);
	values[COLUMN_SEVERITY] = PG_GETARG_DATUM(1);
	nulls[COLUMN_SUCCEEDED] = true;
	values[COLUMN_USER_ID] = UUIDPGetDatum(&event.key.user_id);
	nulls[COLUMN_USER_ID] = !event.key.has_user_id;
	nulls[COLUMN_USERNAME] = true;
	values[COLUMN_DB_ROLE] = CStringGetDatum(event.key.db_role);
	nulls[COLUMN_DB_ROLE] = event.key.db_role[0] == '\0';
	values[COLUMN_CLIENT_ADDR] = address_datum(&event.key);
	nulls[COLUMN_CLIENT_ADDR] = !event.key.has_address;
	set_text(values, nulls, COLUMN_APPLICATION_NAME, event.key.application_name);
	nulls[COLUMN_OBJECT] = true;
	values[COLUMN_MESSAGE] = PG_GETARG_DATUM(2);
	values[COLUMN_DETAILS] = details;
	insert_row(values, nulls);
	sql_end(&scope);
	PG_RETURN_UUID_P(id);
}

static void
put_finding(ReturnSetInfo *result, const char *finding, Datum event_id, const char *detail)
{
	Datum		values[3] = {CStringGetTextDatum(finding), event_id, CStringGetTextDatum(detail)};
	bool		nulls[3] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* audit.verify_events(from_time, to_time): rows that are not what was written. */
Datum
verify_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		arguments[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	SqlScope	scope;
	SPIPlanPtr	plan;
	Portal		portal;
	MemoryContext row_context;
	Datum		signed_since;
	bool		never;

	InitMaterializedSRF(fcinfo, 0);
	row_context = AllocSetContextCreate(CurrentMemoryContext, "sentient_edge events", ALLOCSET_DEFAULT_SIZES);
	scope = sql_begin(0);
	/* Until the first key was made nothing could be signed; since then everything is. */
	(void) sql_query("SELECT min(created_at) + interval '10 s' FROM sentient_edge.data_keys WHERE purpose = 'audit_mac'",
					 0, NULL, NULL);
	signed_since = sql_value(0, 0, &never);
	plan = SPI_prepare("SELECT " COLUMN_NAMES " FROM audit.security_events"
					   " WHERE occurred_at >= $1 AND occurred_at <= $2 ORDER BY occurred_at", 2, types);
	if (plan == NULL)
		elog(ERROR, "cannot prepare the verification of security events");
	portal = SPI_cursor_open(NULL, plan, arguments, NULL, true);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, 1000);
		if (SPI_processed == 0)
			break;
		for (uint64 row = 0; row < SPI_processed; row++)
		{
			MemoryContext old = MemoryContextSwitchTo(row_context);
			Datum		values[COLUMNS];
			bool		nulls[COLUMNS];
			StringInfoData bytes;

			for (int column = 0; column < COLUMNS; column++)
				values[column] = sql_value(row, column, &nulls[column]);
			if (nulls[COLUMN_MAC])
			{
				if (!never && DatumGetTimestampTz(values[COLUMN_OCCURRED_AT]) > DatumGetTimestampTz(signed_since))
					put_finding(result, "unsigned", values[COLUMN_ID], "the event carries no MAC, although there was a key for it");
			}
			else
			{
				initStringInfo(&bytes);
				canonical_bytes(&bytes, values, nulls);
				switch (audit_check_mac(AUDIT_MAC_EVENT, &bytes, DatumGetByteaPP(values[COLUMN_MAC])))
				{
					case MAC_FITS:
						break;
					case MAC_FORGED:
						put_finding(result, "forged", values[COLUMN_ID], "the MAC does not fit the event");
						break;
					case MAC_KEY_UNKNOWN:
						put_finding(result, "key_unknown", values[COLUMN_ID], "the key of the MAC is not known to this server");
						break;
				}
			}
			MemoryContextSwitchTo(old);
			MemoryContextReset(row_context);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	sql_end(&scope);
	return (Datum) 0;
}
