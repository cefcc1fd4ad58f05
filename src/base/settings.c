/*
 * settings.c
 *		sentient_edge.settings: what its values must look like, and their decoded
 *		copy in every backend.
 *
 * settings_check is the row trigger that validates a value, rewrites it in a
 * form that reads the same under every TimeZone, DateStyle and IntervalStyle,
 * and turns the INSERT of a name that exists into an update, so that a restored
 * dump does not collide with the rows of CREATE EXTENSION.  settings_changed is
 * the statement trigger that invalidates the table in every relation cache;
 * settings_get reads the table again after that.  The read takes AccessShareLock
 * and looks past the caller's privileges.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "common/int.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/sql.h"
#include "compat.h"
#include "errors.h"

/* Attribute numbers of sentient_edge.settings. */
#define SETTINGS_NAME		1
#define SETTINGS_VALUE		2
#define SETTINGS_NATTS		5	/* all text; what a user adds is not looked at */

typedef enum SettingKind
{
	SETTING_TIMESTAMP,			/* TimestampTz */
	SETTING_DURATION,			/* int64 microseconds */
	SETTING_INTEGER,			/* int */
	SETTING_PARTITION_INTERVAL, /* PartitionInterval */
	SETTING_RETENTION,			/* Interval, its flag stands in flag_offset */
	SETTING_RETENTION_ACTION,	/* bool */
} SettingKind;

typedef struct Setting
{
	const char *name;
	SettingKind kind;
	size_t		offset;			/* in SentientSettings */
	size_t		flag_offset;
	int64		lower;			/* inclusive; microseconds for a duration */
	int64		upper;
	const char *fallback;		/* in force when the table has no such row */
} Setting;

#define FIELD(field)		offsetof(SentientSettings, field)
#define PARTITION_SETTINGS(prefix) \
	{#prefix ".partition_interval", SETTING_PARTITION_INTERVAL, FIELD(prefix.interval), 0, 0, 0, "1 month"}, \
	{#prefix ".partition_premake", SETTING_INTEGER, FIELD(prefix.premake), 0, 1, 100, "4"}, \
	{#prefix ".retention", SETTING_RETENTION, FIELD(prefix.retention), FIELD(prefix.has_retention), USECS_PER_DAY, 0, NULL}, \
	{#prefix ".retention_action", SETTING_RETENTION_ACTION, FIELD(prefix.retention_drop), 0, 0, 0, "detach"}

static const Setting settings_known[] = {
	{"telemetry.accept_from", SETTING_TIMESTAMP, FIELD(accept_from), 0, 0, 0, "2015-01-01 00:00:00+00"},
	{"telemetry.accept_ahead", SETTING_DURATION, FIELD(accept_ahead_us), 0, 0, USECS_PER_DAY * 31, "00:05:00"},
	{"telemetry.mavlink_state_age", SETTING_DURATION, FIELD(mavlink_state_age_us), 0, 0, USECS_PER_DAY, "00:00:05"},
	PARTITION_SETTINGS(telemetry),
	PARTITION_SETTINGS(audit),
	PARTITION_SETTINGS(security_events),
};

static SentientSettings settings_cached;
static bool settings_valid = false;
static uint64 settings_generation = 0;	/* counts invalidations */
static Oid	settings_relid = InvalidOid;

static const Setting *setting_find(const char *name);
static char *setting_decode(const Setting *setting, const char *value, SentientSettings *settings);
static void settings_read(void);
static void settings_invalidate(Datum arg, Oid relid);

PG_FUNCTION_INFO_V1(settings_check);
PG_FUNCTION_INFO_V1(settings_changed);

void
settings_init(void)
{
	CacheRegisterRelcacheCallback(settings_invalidate, (Datum) 0);
}

const SentientSettings *
settings_get(void)
{
	if (!settings_valid)
		settings_read();
	return &settings_cached;
}

/* Relation cache callback; runs at any lock acquisition, must not fail. */
static void
settings_invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == settings_relid || !OidIsValid(settings_relid))
	{
		settings_valid = false;
		settings_generation++;
	}
}

static const Setting *
setting_find(const char *name)
{
	for (int i = 0; i < lengthof(settings_known); i++)
	{
		if (strcmp(settings_known[i].name, name) == 0)
			return &settings_known[i];
	}
	return NULL;
}

static void
settings_read(void)
{
	SentientSettings settings;
	Oid			namespace;
	Oid			relid = InvalidOid;

	se_assert(IsTransactionState());

	memset(&settings, 0, sizeof(settings));
	for (int i = 0; i < lengthof(settings_known); i++)
		(void) setting_decode(&settings_known[i], settings_known[i].fallback, &settings);

	namespace = get_namespace_oid("sentient_edge", true);
	if (OidIsValid(namespace))
		relid = get_relname_relid("settings", namespace);
	settings_relid = relid;
	if (OidIsValid(relid))
	{
		Relation	rel = table_open(relid, AccessShareLock);
		uint64		generation = settings_generation;
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		TupleTableSlot *slot = table_slot_create(rel, NULL);
		TableScanDesc scan;

		scan = table_beginscan(rel, snapshot, 0, NULL);
		while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			bool		isnull;
			char	   *name = TextDatumGetCString(slot_getattr(slot, SETTINGS_NAME, &isnull));
			Datum		value = slot_getattr(slot, SETTINGS_VALUE, &isnull);
			const Setting *setting = setting_find(name);

			/* A row of a newer version of the extension is none of ours. */
			if (setting != NULL)
				(void) setting_decode(setting, isnull ? NULL : TextDatumGetCString(value), &settings);
		}
		table_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		UnregisterSnapshot(snapshot);
		table_close(rel, AccessShareLock);

		/*
		 * Not when an invalidation has arrived since the snapshot was taken, so
		 * that no commit is missed, and not before all is read: an error in the
		 * middle must leave nothing that passes for the settings.
		 */
		settings_valid = (generation == settings_generation);
	}
	settings_cached = settings;
}

static void
setting_error_context(void *arg)
{
	errcontext("setting \"%s\"", ((const Setting *) arg)->name);
}

static Interval *
interval_of(const char *value)
{
	return DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(value),
												 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/*
 * Store a value in settings and return it in the form in which it is kept in
 * the table, or raise an error.  A null value is one that is not set.
 */
static char *
setting_decode(const Setting *setting, const char *value, SentientSettings *settings)
{
	char	   *field = (char *) settings + setting->offset;
	ErrorContextCallback context;
	char	   *canonical = NULL;

	context.callback = setting_error_context;
	context.arg = unconstify(Setting *, setting);
	context.previous = error_context_stack;
	error_context_stack = &context;

	if (value == NULL)
	{
		if (setting->kind != SETTING_RETENTION)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("setting \"%s\" cannot be null", setting->name),
					 errhint("Set value = default_value to reset it.")));
		*((bool *) ((char *) settings + setting->flag_offset)) = false;
		error_context_stack = context.previous;
		return NULL;
	}

	switch (setting->kind)
	{
		case SETTING_TIMESTAMP:
			{
				TimestampTz time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(value),
																		   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));

				if (TIMESTAMP_NOT_FINITE(time))
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("setting \"%s\" must be a finite time", setting->name),
							 errhint("Write it with a time zone, like '2015-01-01 00:00:00+00'.")));
				*((TimestampTz *) field) = time;
				canonical = DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(time)));
				break;
			}
		case SETTING_DURATION:
			{
				Interval   *interval = interval_of(value);
				int64		us;

				if (interval->month != 0 ||
					pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &us) ||
					pg_add_s64_overflow(us, interval->time, &us) ||
					us < setting->lower || us > setting->upper)
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("setting \"%s\" is out of range", setting->name),
							 errdetail("It lies between %lld and %lld seconds.",
									   (long long) (setting->lower / USECS_PER_SEC),
									   (long long) (setting->upper / USECS_PER_SEC)),
							 errhint("Write an interval without months, like '5 minutes'.")));
				*((int64 *) field) = us;
				canonical = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval)));
				break;
			}
		case SETTING_INTEGER:
			{
				int32		number = pg_strtoint32(value);

				if (number < setting->lower || number > setting->upper)
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("setting \"%s\" is out of range", setting->name),
							 errdetail("It lies between %d and %d.", (int) setting->lower, (int) setting->upper)));
				*((int *) field) = number;
				canonical = psprintf("%d", number);
				break;
			}
		case SETTING_PARTITION_INTERVAL:
			{
				Interval   *interval = interval_of(value);
				PartitionInterval by;

				if (interval->time == 0 && interval->day == 0 && interval->month == 1)
					by = PARTITION_BY_MONTH;
				else if (interval->time == 0 && interval->day == 7 && interval->month == 0)
					by = PARTITION_BY_WEEK;
				else if (interval->time == 0 && interval->day == 1 && interval->month == 0)
					by = PARTITION_BY_DAY;
				else
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("setting \"%s\" does not name a partition interval", setting->name),
							 errhint("Use '1 day', '1 week' or '1 month'.")));
				*((PartitionInterval *) field) = by;
				canonical = pstrdup(by == PARTITION_BY_MONTH ? "1 month" : by == PARTITION_BY_WEEK ? "1 week" : "1 day");
				break;
			}
		case SETTING_RETENTION:
			{
				Interval   *interval = interval_of(value);

				if (interval->month < 0 || interval->day < 0 || interval->time < 0 ||
					(interval->month == 0 && interval->day == 0 && interval->time < setting->lower) ||
					interval->month > 12 * 1000 || interval->day > 366 * 1000 ||
					interval->time > USECS_PER_DAY * 366 * 1000)
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("setting \"%s\" is out of range", setting->name),
							 errdetail("It lies between one day and a thousand years."),
							 errhint("Write an interval like '24 months', or null to keep everything.")));
				*((Interval *) field) = *interval;
				*((bool *) ((char *) settings + setting->flag_offset)) = true;
				canonical = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval)));
				break;
			}
		case SETTING_RETENTION_ACTION:
			if (strcmp(value, "drop") != 0 && strcmp(value, "detach") != 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("setting \"%s\" does not name a retention action", setting->name),
						 errhint("Use 'detach' to keep the table of a retired partition, 'drop' to remove it.")));
			*((bool *) field) = (strcmp(value, "drop") == 0);
			canonical = pstrdup(value);
			break;
	}

	error_context_stack = context.previous;
	return canonical;
}

/* Update the row of that name instead of inserting a second one; false when there is none. */
static bool
setting_update(Datum name, Datum value, bool isnull)
{
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2] = {name, value};
	char		nulls[3] = {' ', isnull ? 'n' : ' ', '\0'};
	uint64		updated;

	SPI_connect();
	if (SPI_execute_with_args("UPDATE sentient_edge.settings SET value = $2 WHERE name OPERATOR(pg_catalog.=) $1",
							  2, types, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update sentient_edge.settings");
	updated = SPI_processed;
	SPI_finish();
	return updated > 0;
}

/* BEFORE INSERT OR UPDATE OR DELETE row trigger of sentient_edge.settings. */
Datum
settings_check(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	row;
	SentientSettings ignored;
	const Setting *setting;
	Datum		name;
	Datum		value;
	bool		isnull;
	char	   *canonical;
	int			nest_level;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("settings_check must be called as a row trigger before the change")));
	if (RelationGetRelid(trigger->tg_relation) != get_relname_relid("settings", get_namespace_oid("sentient_edge", false)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("settings_check is a trigger of sentient_edge.settings only")));

	desc = RelationGetDescr(trigger->tg_relation);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
	{
		if (creating_extension)
			PG_RETURN_POINTER(trigger->tg_trigtuple);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("settings cannot be deleted"),
				 errhint("Set value = default_value to reset one.")));
	}

	row = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	name = heap_getattr(row, SETTINGS_NAME, desc, &isnull);
	setting = isnull ? NULL : setting_find(TextDatumGetCString(name));
	if (setting == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("unrecognized setting \"%s\"", isnull ? "" : TextDatumGetCString(name)),
				 errhint("SELECT name, description FROM sentient_edge.settings lists the settings.")));

	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) && !creating_extension)
	{
		for (int attnum = 1; attnum <= SETTINGS_NATTS; attnum++)
		{
			bool		oldnull;
			bool		newnull;
			Datum		before = heap_getattr(trigger->tg_trigtuple, attnum, desc, &oldnull);
			Datum		after = heap_getattr(row, attnum, desc, &newnull);

			if (attnum == SETTINGS_VALUE || (oldnull && newnull))
				continue;
			if (oldnull != newnull || strcmp(TextDatumGetCString(before), TextDatumGetCString(after)) != 0)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("only the value of a setting can be changed")));
		}
	}

	value = heap_getattr(row, SETTINGS_VALUE, desc, &isnull);
	/*
	 * What is written back reads the same in every session; a time without a
	 * zone is UTC.
	 */
	nest_level = NewGUCNestLevel();
	sql_set_local("timezone", "UTC");
	sql_set_local("datestyle", "ISO");
	sql_set_local("intervalstyle", "postgres");
	canonical = setting_decode(setting, isnull ? NULL : TextDatumGetCString(value), &ignored);
	AtEOXact_GUC(false, nest_level);

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event) && !creating_extension)
	{
		if (setting_update(name, value, isnull))
			PG_RETURN_POINTER(NULL);
		/* The extension's version knows the name; only its row is missing. */
	}

	if (canonical != NULL)
	{
		int			attnum = SETTINGS_VALUE;
		Datum		replacement = CStringGetTextDatum(canonical);
		bool		replacement_null = false;

		row = heap_modify_tuple_by_cols(row, desc, 1, &attnum, &replacement, &replacement_null);
	}
	PG_RETURN_POINTER(row);
}

/* AFTER statement trigger of sentient_edge.settings: every backend reads it again. */
Datum
settings_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("settings_changed must be called as a trigger")));
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}
