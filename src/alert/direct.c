/*
 * direct.c
 *		Rows of the alert tables, written past the executor.
 *
 * Called by open.c.  What one call changes is a handful of rows in three tables
 * with many indexes; starting and ending an executor for each statement, and the
 * checks of constraints whose outcome is known, cost more than the rows.  So they
 * are found by primary key, written by the access method and entered into the
 * indexes here.
 *
 * The rows satisfy the tables' CHECK constraints as they are made.  Foreign keys
 * are not asked, because what they refer to is here and stays: the drone's row of
 * drone_latest is locked, and refers to the drone; the alert of a state is
 * written in the same call; rules and geofences are locked FOR KEY SHARE.
 *
 * That is possible while the tables are as the extension made them.  When they
 * have a trigger of the user's (an audit, say), a rule, a column, a constraint or
 * forced row security, open.c goes by SQL, which does the same.
 *
 * Takes RowExclusiveLock on the three tables, RowShareLock on those of rules and
 * geofences, kept until the transaction ends.  An alert that is acknowledged at
 * the moment is waited for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "alert/direct.h"
#include "compat.h"
#include "errors.h"

/* Attribute numbers of telemetry.real_time_alerts. */
#define ALERT_ID				1
#define ALERT_DRONE_ID			2
#define ALERT_RULE_ID			3
#define ALERT_FENCE_ID			4
#define ALERT_TYPE				5
#define ALERT_SEVERITY			6
#define ALERT_MESSAGE			7
#define ALERT_OPENED_AT			8
#define ALERT_OPENED_VALUE		9
#define ALERT_LAST_VALUE		10
#define ALERT_LAST_SEEN_AT		11
#define ALERT_CLEARED_AT		12
#define ALERT_COLUMNS			14
#define ALERT_CHECKS			3

/* Attribute numbers of telemetry.drone_events. */
#define EVENT_ID				1
#define EVENT_DRONE_ID			2
#define EVENT_OCCURRED_AT		3
#define EVENT_RECEIVED_AT		4
#define EVENT_TYPE				5
#define EVENT_SEVERITY			6
#define EVENT_MESSAGE			7
#define EVENT_PAYLOAD			8
#define EVENT_SOURCE			9
#define EVENT_COLUMNS			9
#define EVENT_CHECKS			2

/* Attribute numbers of telemetry.alert_states. */
#define STATE_DRONE_ID			1
#define STATE_WATCH_ID			2
#define STATE_SINCE				3
#define STATE_ALERT_ID			4
#define STATE_COLUMNS			4
#define STATE_CHECKS			0

/* A table that is written, or whose rows are locked. */
typedef struct DirectTable
{
	Relation	rel;
	Oid			key_index;
	ResultRelInfo *rri;
	TupleTableSlot *key;		/* a row with the primary key alone */
	TupleTableSlot *present;	/* the row that was found */
	TupleTableSlot *row;		/* the row that is written */
} DirectTable;

/* A rule or geofence whose row has been looked for. */
typedef struct WatchRow
{
	const AlertWatch *watch;
	bool		exists;
} WatchRow;

typedef struct DirectWriter
{
	EState	   *estate;
	DirectTable alerts;
	DirectTable events;
	List	   *event_arbiters; /* unique indexes that a new event may conflict with */
	DirectTable states;
	DirectTable rules;
	DirectTable fences;
	int			nwatches;
	WatchRow   *watches;
} DirectWriter;

static void
open_table(DirectWriter *writer, DirectTable *table, char *name, LOCKMODE lockmode)
{
	table->rel = table_openrv(makeRangeVar("telemetry", name, -1), lockmode);
	table->key_index = compat_primary_key_index(table->rel);
	table->key = ExecInitExtraTupleSlot(writer->estate, RelationGetDescr(table->rel), &TTSOpsVirtual);
	table->present = table_slot_create(table->rel, &writer->estate->es_tupleTable);
	table->row = ExecInitExtraTupleSlot(writer->estate, RelationGetDescr(table->rel), &TTSOpsVirtual);
}

static void
close_table(DirectTable *table)
{
	if (table->rri != NULL)
		ExecCloseIndices(table->rri);
	table_close(table->rel, NoLock);
}

/* Can rows be found by primary key?  Looking for them, the server assumes it to be the replica identity. */
static bool
has_usable_key(const DirectTable *table)
{
	return OidIsValid(table->key_index) && table->rel->rd_rel->relreplident != REPLICA_IDENTITY_INDEX;
}

/* Does the trigger fire for none of the columns that are updated here? */
static bool
is_of_other_columns(const Trigger *trigger, int first, int last)
{
	if (TRIGGER_FOR_INSERT(trigger->tgtype) || TRIGGER_FOR_DELETE(trigger->tgtype) || trigger->tgnattr == 0)
		return false;
	for (int i = 0; i < trigger->tgnattr; i++)
	{
		if (trigger->tgattr[i] >= first && trigger->tgattr[i] <= last)
			return false;
	}
	return true;
}

/*
 * Is the table as the extension made it?  The columns from first to last are
 * the ones that are updated.
 */
static bool
is_plain(const DirectTable *table, int columns, int checks, int first, int last)
{
	Relation	rel = table->rel;
	const TupleConstr *constraints = RelationGetDescr(rel)->constr;
	TriggerDesc *triggers = rel->trigdesc;

	if (rel->rd_rel->relkind != RELKIND_RELATION || RelationGetNumberOfAttributes(rel) != columns ||
		rel->rd_rel->relhassubclass || rel->rd_rules != NULL || rel->rd_rel->relforcerowsecurity ||
		constraints == NULL || constraints->num_check != checks || constraints->has_generated_stored ||
		!has_usable_key(table))
		return false;
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (!trigger->tgisinternal && trigger->tgenabled != TRIGGER_DISABLED &&
			!is_of_other_columns(trigger, first, last))
			return false;
	}
	return true;
}

/* Make the table ready to be written, without its foreign keys. */
static void
make_writable(DirectTable *table, bool speculative)
{
	table->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(table->rri, table->rel, 0, NULL, 0);
	table->rri->ri_TrigDesc = NULL;
	ExecOpenIndices(table->rri, speculative);
	CheckCmdReplicaIdentity(table->rel, CMD_UPDATE);
}

/* An empty row to fill with set_column; every column is NULL. */
static TupleTableSlot *
begin_row(TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	return slot;
}

static void
set_column(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column - 1] = value;
	slot->tts_isnull[column - 1] = false;
}

static void
set_text(TupleTableSlot *slot, int column, const char *value)
{
	set_column(slot, column, CStringGetTextDatum(value));
}

/*
 * Find the row of the key and lock it; it is then in table->present.
 */
static bool
find_row(DirectTable *table, LockTupleMode mode)
{
	ExecStoreVirtualTuple(table->key);
	return RelationFindReplTupleByIndex(table->rel, table->key_index, mode, table->key, table->present);
}

static bool
find_by_id(DirectTable *table, const pg_uuid_t *id, LockTupleMode mode)
{
	set_column(begin_row(table->key), 1, UUIDPGetDatum(id));
	return find_row(table, mode);
}

static void
insert_row(DirectWriter *writer, DirectTable *table)
{
	ExecStoreVirtualTuple(table->row);
	table->row->tts_tableOid = RelationGetRelid(table->rel);
	simple_table_tuple_insert(table->rel, table->row);
	list_free(compat_exec_insert_index_tuples(table->rri, table->row, writer->estate, false));
}

/* Copy the row that was found into the one to be written. */
static TupleTableSlot *
begin_update(DirectTable *table)
{
	int			columns = table->row->tts_tupleDescriptor->natts;

	slot_getallattrs(table->present);
	ExecClearTuple(table->row);
	memcpy(table->row->tts_values, table->present->tts_values, sizeof(Datum) * columns);
	memcpy(table->row->tts_isnull, table->present->tts_isnull, sizeof(bool) * columns);
	return table->row;
}

static void
update_row(DirectWriter *writer, DirectTable *table)
{
	CompatUpdateIndexes update_indexes;

	ExecStoreVirtualTuple(table->row);
	table->row->tts_tableOid = RelationGetRelid(table->rel);
	simple_table_tuple_update(table->rel, &table->present->tts_tid, table->row, GetActiveSnapshot(), &update_indexes);
	if (compat_must_insert_indexes(update_indexes))
		list_free(compat_exec_insert_index_tuples(table->rri, table->row, writer->estate,
												  compat_only_summarizing(update_indexes)));
}

/*
 * The unique indexes but for that of the primary key, whose value is random.
 */
static List *
find_arbiters(const DirectTable *table)
{
	List	   *arbiters = NIL;

	for (int i = 0; i < table->rri->ri_NumIndices; i++)
	{
		Relation	index = table->rri->ri_IndexRelationDescs[i];

		if (index->rd_index->indisunique && !index->rd_index->indisprimary)
			arbiters = lappend_oid(arbiters, RelationGetRelid(index));
	}
	return arbiters;
}

/*
 * Insert the event unless it is there, as ON CONFLICT DO NOTHING does.
 */
static void
insert_new_event(DirectWriter *writer)
{
	DirectTable *events = &writer->events;
	TupleTableSlot *slot = events->row;
	bool		conflict = true;

	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(events->rel);
	while (conflict)
	{
		ItemPointerData tid;
		uint32		token;

		if (!compat_exec_check_index_constraints(events->rri, slot, writer->estate, &tid, writer->event_arbiters))
			return;
		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
		table_tuple_insert_speculative(events->rel, slot, GetCurrentCommandId(true), 0, NULL, token);
		conflict = false;
		list_free(compat_exec_insert_index_tuples_speculative(events->rri, slot, writer->estate, &conflict,
																writer->event_arbiters));
		table_tuple_complete_speculative(events->rel, slot, token, !conflict);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
	}
}

static Datum
event_payload(const pg_uuid_t *alert_id)
{
	JsonbParseState *state = NULL;
	JsonbValue	key = {.type = jbvString};
	JsonbValue	value = {.type = jbvString};

	key.val.string.val = "alert_id";
	key.val.string.len = strlen(key.val.string.val);
	value.val.string.val = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(alert_id)));
	value.val.string.len = strlen(value.val.string.val);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&state, WJB_KEY, &key);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

static void
write_event(DirectWriter *writer, const char *type, const char *severity, const pg_uuid_t *drone_id,
			const pg_uuid_t *alert_id, TimestampTz at, Datum message, bool no_message)
{
	pg_uuid_t	id = alert_new_id();
	TupleTableSlot *slot = begin_row(writer->events.row);

	set_column(slot, EVENT_ID, UUIDPGetDatum(&id));
	set_column(slot, EVENT_DRONE_ID, UUIDPGetDatum(drone_id));
	set_column(slot, EVENT_OCCURRED_AT, TimestampTzGetDatum(at));
	set_column(slot, EVENT_RECEIVED_AT, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	set_text(slot, EVENT_TYPE, type);
	set_text(slot, EVENT_SEVERITY, severity);
	if (!no_message)
		set_column(slot, EVENT_MESSAGE, message);
	set_column(slot, EVENT_PAYLOAD, event_payload(alert_id));
	set_text(slot, EVENT_SOURCE, "alert");
	insert_new_event(writer);
}

/*
 * Does the rule or geofence exist?  If so it is locked against removal.
 */
static bool
lock_watch(DirectWriter *writer, const AlertWatch *watch)
{
	bool		is_fence = watch->kind == ALERT_GEOFENCE;
	DirectTable *table = is_fence ? &writer->fences : &writer->rules;
	WatchRow   *entry;

	for (int i = 0; i < writer->nwatches; i++)
	{
		if (writer->watches[i].watch == watch)
			return writer->watches[i].exists;
	}
	writer->watches = writer->watches == NULL ? palloc(sizeof(WatchRow)) :
		repalloc(writer->watches, sizeof(WatchRow) * (writer->nwatches + 1));
	entry = &writer->watches[writer->nwatches++];
	entry->watch = watch;
	entry->exists = find_by_id(table, &watch->id, LockTupleKeyShare);
	return entry->exists;
}

static void
open_alert(DirectWriter *writer, const AlertRecord *record)
{
	TupleTableSlot *slot = begin_row(writer->alerts.row);
	Datum		message = CStringGetTextDatum(record->message);

	set_column(slot, ALERT_ID, UUIDPGetDatum(&record->alert_id));
	set_column(slot, ALERT_DRONE_ID, UUIDPGetDatum(&record->drone_id));
	if (lock_watch(writer, record->watch))
		set_column(slot, record->watch->kind == ALERT_GEOFENCE ? ALERT_FENCE_ID : ALERT_RULE_ID,
				   UUIDPGetDatum(&record->watch->id));
	set_text(slot, ALERT_TYPE, alert_kind_name(record->watch->kind));
	set_text(slot, ALERT_SEVERITY, record->watch->severity);
	set_column(slot, ALERT_MESSAGE, message);
	set_column(slot, ALERT_OPENED_AT, TimestampTzGetDatum(record->opened_at));
	if (record->has_value)
	{
		set_column(slot, ALERT_OPENED_VALUE, Float8GetDatum(record->opened_value));
		set_column(slot, ALERT_LAST_VALUE, Float8GetDatum(record->last_value));
	}
	set_column(slot, ALERT_LAST_SEEN_AT, TimestampTzGetDatum(record->last_seen_at));
	if (record->cleared)
		set_column(slot, ALERT_CLEARED_AT, TimestampTzGetDatum(record->cleared_at));
	insert_row(writer, &writer->alerts);

	write_event(writer, "alert_opened", record->watch->severity, &record->drone_id, &record->alert_id,
				record->opened_at, message, false);
	if (record->cleared)
		write_event(writer, "alert_cleared", "info", &record->drone_id, &record->alert_id,
					record->cleared_at, message, false);
}

static void
change_alert(DirectWriter *writer, const AlertRecord *record)
{
	DirectTable *alerts = &writer->alerts;
	TupleTableSlot *slot;
	TimestampTz cleared_at;

	if (!find_by_id(alerts, &record->alert_id, LockTupleNoKeyExclusive))
		return;
	slot = begin_update(alerts);
	if (!slot->tts_isnull[ALERT_CLEARED_AT - 1])
		return;					/* somebody else has cleared it */
	if (record->seen && record->has_value)
		set_column(slot, ALERT_LAST_VALUE, Float8GetDatum(record->last_value));
	if (record->seen)
		set_column(slot, ALERT_LAST_SEEN_AT, TimestampTzGetDatum(record->last_seen_at));
	cleared_at = Max(record->cleared_at, DatumGetTimestampTz(slot->tts_values[ALERT_OPENED_AT - 1]));
	if (record->cleared)
		set_column(slot, ALERT_CLEARED_AT, TimestampTzGetDatum(cleared_at));
	update_row(writer, alerts);
	if (record->cleared)
		write_event(writer, "alert_cleared", "info", &record->drone_id, &record->alert_id, cleared_at,
					slot->tts_values[ALERT_MESSAGE - 1], slot->tts_isnull[ALERT_MESSAGE - 1]);
}

static void
write_state(DirectWriter *writer, const AlertStateChange *state)
{
	DirectTable *states = &writer->states;
	TupleTableSlot *slot = begin_row(states->key);
	bool		exists;

	set_column(slot, STATE_DRONE_ID, UUIDPGetDatum(&state->drone_id));
	set_column(slot, STATE_WATCH_ID, UUIDPGetDatum(&state->row.watch_id));
	exists = find_row(states, state->deleted ? LockTupleExclusive : LockTupleNoKeyExclusive);
	if (state->deleted)
	{
		if (exists)
			simple_table_tuple_delete(states->rel, &states->present->tts_tid, GetActiveSnapshot());
		return;
	}
	slot = exists ? begin_update(states) : begin_row(states->row);
	set_column(slot, STATE_DRONE_ID, UUIDPGetDatum(&state->drone_id));
	set_column(slot, STATE_WATCH_ID, UUIDPGetDatum(&state->row.watch_id));
	set_column(slot, STATE_SINCE, TimestampTzGetDatum(state->row.since));
	set_column(slot, STATE_ALERT_ID, UUIDPGetDatum(&state->row.alert_id));
	slot->tts_isnull[STATE_ALERT_ID - 1] = !state->row.open;
	if (exists)
		update_row(writer, states);
	else
		insert_row(writer, states);
}

/*
 * Write the rows.  Rules come before alerts, as in a DELETE of a rule, which goes
 * on to its alerts: so that the two do not deadlock.  What clears comes before
 * what opens, as in open.c.
 */
static void
write_rows(DirectWriter *writer, const AlertChanges *changes, bool *opened)
{
	for (const AlertRecord *record = changes->first_record; record != NULL; record = record->next)
	{
		if (!record->unused && record->is_new)
			(void) lock_watch(writer, record->watch);
	}
	*opened = false;
	for (const AlertRecord *record = changes->first_record; record != NULL; record = record->next)
	{
		if (!record->unused && !record->is_new)
			change_alert(writer, record);
		ResetPerTupleExprContext(writer->estate);
	}
	for (const AlertRecord *record = changes->first_record; record != NULL; record = record->next)
	{
		if (record->unused || !record->is_new)
			continue;
		*opened = true;
		open_alert(writer, record);
		ResetPerTupleExprContext(writer->estate);
	}
	for (const AlertStateChange *state = changes->first_state; state != NULL; state = state->next)
	{
		write_state(writer, state);
		ResetPerTupleExprContext(writer->estate);
	}
}

bool
alert_write_direct(const AlertChanges *changes, bool *opened)
{
	DirectWriter writer = {.estate = CreateExecutorState()};
	bool		plain;

	open_table(&writer, &writer.alerts, "real_time_alerts", RowExclusiveLock);
	open_table(&writer, &writer.events, "drone_events", RowExclusiveLock);
	open_table(&writer, &writer.states, "alert_states", RowExclusiveLock);
	open_table(&writer, &writer.rules, "alert_rules", RowShareLock);
	open_table(&writer, &writer.fences, "geofences", RowShareLock);
	plain = has_usable_key(&writer.rules) && has_usable_key(&writer.fences) &&
		is_plain(&writer.alerts, ALERT_COLUMNS, ALERT_CHECKS, ALERT_LAST_VALUE, ALERT_CLEARED_AT) &&
		is_plain(&writer.events, EVENT_COLUMNS, EVENT_CHECKS, 1, EVENT_COLUMNS) &&
		is_plain(&writer.states, STATE_COLUMNS, STATE_CHECKS, 1, STATE_COLUMNS);
	if (plain)
	{
		CommandCounterIncrement();	/* to see, and be able to change, what came before */
		PushActiveSnapshot(GetLatestSnapshot());
		make_writable(&writer.alerts, false);
		make_writable(&writer.events, true);
		writer.event_arbiters = find_arbiters(&writer.events);
		make_writable(&writer.states, false);
		write_rows(&writer, changes, opened);
		PopActiveSnapshot();
		CommandCounterIncrement();
	}
	ExecResetTupleTable(writer.estate->es_tupleTable, false);
	close_table(&writer.alerts);
	close_table(&writer.events);
	close_table(&writer.states);
	close_table(&writer.rules);
	close_table(&writer.fences);
	FreeExecutorState(writer.estate);
	return plain;
}
