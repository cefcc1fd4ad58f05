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
 * Each row carries a keyed hash of its canonical bytes (entry.c), when a key is set
 * up.  While a dump is restored into audit.security_events, rows go to
 * audit.restore_events, and move when the restore has ended.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit/entry.h"
#include "audit/mac.h"
#include "audit/settled.h"
#include "base/sql.h"
#include "errors.h"
#include "events/events_hooks.h"
#include "events/events_mac.h"
#include "events/events_queue.h"
#include "events/events_write.h"
#include "partition/partition.h"

/* Rows of one transaction of the scheduler. */
#define BATCH				256

static Oid	column_types[EVENT_COLUMNS] = {
	UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, XID8OID, INT8OID, TEXTOID, TEXTOID, BOOLOID, UUIDOID, TEXTOID, NAMEOID,
	INETOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, BYTEAOID,
};

#define COLUMN_NAMES \
	"event_id, occurred_at, last_occurred_at, transaction_id, event_count, event_type, severity, succeeded, user_id, username, db_role," \
	" client_addr, application_name, object, message, details, mac"

static const char *const severities[] = {
	"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug",
};

PG_FUNCTION_INFO_V1(record_event);
PG_FUNCTION_INFO_V1(verify_events);

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
		Datum		values[EVENT_COLUMNS];
		bool		nulls[EVENT_COLUMNS] = {false};

		identify(event);
		values[EVENT_ID] = UUIDPGetDatum(&event->event_id);
		values[EVENT_OCCURRED_AT] = TimestampTzGetDatum(event->first_at);
		values[EVENT_LAST_OCCURRED_AT] = TimestampTzGetDatum(event->last_at);
		values[EVENT_COUNT] = Int64GetDatum(event->count);
		values[EVENT_TYPE] = CStringGetTextDatum(security_event_name(event->key.type));
		values[EVENT_SEVERITY] = CStringGetTextDatum(severities[event->key.severity]);
		values[EVENT_OUTCOME] = BoolGetDatum(event->key.outcome == EVENT_SUCCEEDED);
		nulls[EVENT_OUTCOME] = event->key.outcome == EVENT_NO_OUTCOME;
		values[EVENT_USER_ID] = UUIDPGetDatum(&event->key.user_id);
		nulls[EVENT_USER_ID] = !event->key.has_user_id;
		set_text(values, nulls, EVENT_USERNAME, event->key.username);
		values[EVENT_DB_ROLE] = DirectFunctionCall1(namein, CStringGetDatum(valid_string(event->key.db_role)));
		nulls[EVENT_DB_ROLE] = event->key.db_role[0] == '\0';
		values[EVENT_CLIENT_ADDR] = address_datum(&event->key);
		nulls[EVENT_CLIENT_ADDR] = !event->key.has_address;
		set_text(values, nulls, EVENT_APPLICATION_NAME, event->key.application_name);
		set_text(values, nulls, EVENT_OBJECT, event->key.object);
		set_text(values, nulls, EVENT_MESSAGE, event->key.message);
		values[EVENT_DETAILS] = details_datum(event);
		events_insert(values, nulls);
	}
	sql_end(&scope);
}

/* A plan for one of the two tables. */
static SPIPlanPtr
prepare_insertion(const char *table)
{
	SPIPlanPtr	plan = SPI_prepare(psprintf("INSERT INTO %s (" COLUMN_NAMES ")"
											" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
											" ON CONFLICT (event_id, occurred_at) DO NOTHING"
											" RETURNING tableoid = to_regclass('audit.security_events_default')", table),
								   EVENT_COLUMNS, column_types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "cannot prepare the insertion of security events");
	return plan;
}

/* Do events wait for the end of a restore now? */
static bool
events_wait(void)
{
	static SPIPlanPtr restoring = NULL;

	if (restoring == NULL)
	{
		SPIPlanPtr	prepared = SPI_prepare("SELECT FROM sentient_edge.managed_tables m"
										   " WHERE m.table_name = 'audit.security_events' AND " TABLE_IS_BEING_RESTORED, 0, NULL);

		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "cannot prepare the insertion of security events");
		restoring = prepared;
	}
	if (SPI_execute_plan(restoring, NULL, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "cannot tell where security events go");
	return SPI_processed > 0;
}

/* The plan for the table that takes events now; they wait in that of restores, or not. */
static SPIPlanPtr
insertion(bool *waits)
{
	static SPIPlanPtr plans[2] = {NULL, NULL};

	*waits = events_wait();
	if (*waits)
	{
		/* Whoever ends the restore takes what waits, under a lock that keeps others from adding to it. */
		LockRelationOid(get_relname_relid("restore_events", get_namespace_oid("audit", false)), RowExclusiveLock);
		*waits = events_wait();
	}
	if (plans[*waits] == NULL)
		plans[*waits] = prepare_insertion(*waits ? "audit.restore_events" : "audit.security_events");
	return plans[*waits];
}

void
events_insert(Datum *values, bool *nulls)
{
	bool		waits;
	SPIPlanPtr	plan = insertion(&waits);
	Oid			relid = get_relname_relid("security_events", get_namespace_oid("audit", false));
	StringInfoData bytes;
	bytea	   *mac;
	char		null_flags[EVENT_COLUMNS];
	bool		isnull;

	/* Before the MAC is computed: whoever begins to sign the chain waits for those who may not know of the key. */
	if (!waits)
		LockRelationOid(relid, RowExclusiveLock);
	nulls[EVENT_TRANSACTION_ID] = false;
	values[EVENT_TRANSACTION_ID] = UInt64GetDatum(U64FromFullTransactionId(GetTopFullTransactionId()));
	initStringInfo(&bytes);
	audit_event_canonical(&bytes, values, nulls);
	mac = audit_mac(AUDIT_MAC_EVENT, &bytes);
	nulls[EVENT_MAC] = mac == NULL;
	values[EVENT_MAC] = PointerGetDatum(mac);

	for (int column = 0; column < EVENT_COLUMNS; column++)
		null_flags[column] = nulls[column] ? 'n' : ' ';
	if (SPI_execute_plan(plan, values, null_flags, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "cannot insert a security event");
	/* A conflict is the row that was written before; else somebody has taken it away. */
	if (SPI_processed == 0 &&
		sql_query(psprintf("SELECT FROM %s WHERE event_id = $1 AND occurred_at = $2", waits ? "audit.restore_events" : "audit.security_events"),
				  2, column_types, values) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a security event was not stored"),
				 errhint("Drop the trigger on audit.security_events that keeps it from being: audit.verify() names it.")));
	if (SPI_processed > 0 && DatumGetBool(sql_value(0, 0, &isnull)) && !isnull && audit_is_settled())
		partition_request_drain(relid);
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
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		batch.n = sql_hold_extension() ? event_queue_take(database, batch.events, BATCH) : 0;
		/* Also when this process is terminated meanwhile. */
		PG_ENSURE_ERROR_CLEANUP(give_back, PointerGetDatum(&batch));
		{
			if (batch.n > 0)
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
	char	   *type;
	char	   *severity;
	SecurityEvent event;
	SqlScope	scope;
	Datum		values[EVENT_COLUMNS];
	bool		nulls[EVENT_COLUMNS] = {false};
	bool		known = false;
	Datum		details;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	sql_refuse_nulls(fcinfo, "audit.record_event");
	type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	severity = text_to_cstring(PG_GETARG_TEXT_PP(1));
	details = PG_GETARG_DATUM(3);
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
	values[EVENT_ID] = UUIDPGetDatum(id);
	values[EVENT_OCCURRED_AT] = TimestampTzGetDatum(event.first_at);
	values[EVENT_LAST_OCCURRED_AT] = TimestampTzGetDatum(event.last_at);
	values[EVENT_COUNT] = Int64GetDatum(1);
	values[EVENT_TYPE] = PG_GETARG_DATUM(0);
	values[EVENT_SEVERITY] = PG_GETARG_DATUM(1);
	nulls[EVENT_OUTCOME] = true;
	values[EVENT_USER_ID] = UUIDPGetDatum(&event.key.user_id);
	nulls[EVENT_USER_ID] = !event.key.has_user_id;
	nulls[EVENT_USERNAME] = true;
	values[EVENT_DB_ROLE] = CStringGetDatum(event.key.db_role);
	nulls[EVENT_DB_ROLE] = event.key.db_role[0] == '\0';
	values[EVENT_CLIENT_ADDR] = address_datum(&event.key);
	nulls[EVENT_CLIENT_ADDR] = !event.key.has_address;
	set_text(values, nulls, EVENT_APPLICATION_NAME, event.key.application_name);
	nulls[EVENT_OBJECT] = true;
	values[EVENT_MESSAGE] = PG_GETARG_DATUM(2);
	values[EVENT_DETAILS] = details;
	events_insert(values, nulls);
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

	/* No finding would say that all is well. */
	sql_refuse_nulls(fcinfo, "audit.verify_events");
	arguments[0] = PG_GETARG_DATUM(0);
	arguments[1] = PG_GETARG_DATUM(1);
	if (PG_GETARG_TIMESTAMPTZ(0) > PG_GETARG_TIMESTAMPTZ(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_time must not be after to_time")));
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
			Datum		values[EVENT_COLUMNS];
			bool		nulls[EVENT_COLUMNS];
			StringInfoData bytes;

			for (int column = 0; column < EVENT_COLUMNS; column++)
				values[column] = sql_value(row, column, &nulls[column]);
			if (nulls[EVENT_MAC])
			{
				if (!never && DatumGetTimestampTz(values[EVENT_OCCURRED_AT]) > DatumGetTimestampTz(signed_since))
					put_finding(result, "unsigned", values[EVENT_ID], "the event carries no MAC, although there was a key for it");
			}
			else
			{
				initStringInfo(&bytes);
				audit_event_canonical(&bytes, values, nulls);
				switch (audit_check_mac(AUDIT_MAC_EVENT, &bytes, DatumGetByteaPP(values[EVENT_MAC])))
				{
					case MAC_FITS:
						break;
					case MAC_FORGED:
						put_finding(result, "forged", values[EVENT_ID], "the MAC does not fit the event");
						break;
					case MAC_KEY_UNKNOWN:
						put_finding(result, "key_unknown", values[EVENT_ID], "the key of the MAC is not known to this server");
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
