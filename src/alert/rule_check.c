/*
 * rule_check.c
 *		The triggers of telemetry.alert_rules and telemetry.geofences: rows must
 *		make sense, and every session takes a change up.
 *
 * The INSERT of a rule that came with the extension becomes an update, so that
 * a restored dump does not collide with the rows of CREATE EXTENSION; for the
 * same reason such a rule cannot be deleted.  No other rule can claim to be one.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "alert/rules.h"
#include "compat.h"
#include "errors.h"

PG_FUNCTION_INFO_V1(telemetry_alert_rule_check);
PG_FUNCTION_INFO_V1(telemetry_geofence_check);
PG_FUNCTION_INFO_V1(telemetry_alert_rules_changed);

/* A row under inspection. */
typedef struct Row
{
	HeapTuple	tuple;
	TupleDesc	desc;
	TriggerData *trigger;
} Row;

static Datum
value_of(const Row *row, const char *column, bool *isnull)
{
	int			attno = SPI_fnumber(row->desc, column);

	if (attno <= 0)
		elog(ERROR, "table \"%s\" has no column \"%s\"", RelationGetRelationName(row->trigger->tg_relation), column);
	return heap_getattr(row->tuple, attno, row->desc, isnull);
}

/* A text column's value; NULL for null. */
static char *
text_of(const Row *row, const char *column)
{
	bool		isnull;
	Datum		value = value_of(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static Row
row_of(FunctionCallInfo fcinfo, const char *function, const char *table)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Row			row;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s must be called as a row trigger before the change", function)));
	if (RelationGetRelid(trigger->tg_relation) != get_relname_relid(table, get_namespace_oid("telemetry", false)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s is a trigger of telemetry.%s only", function, table)));
	row.trigger = trigger;
	row.tuple = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	row.desc = RelationGetDescr(trigger->tg_relation);
	return row;
}

static char *
list_metrics(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < ALERT_METRICS; i++)
	{
		if (alert_metric(i) != NULL)
			appendStringInfo(&names, "%s, ", alert_metric(i)->name);
	}
	appendStringInfoString(&names, ALERT_LINK_METRIC);
	return names.data;
}

static void
check_thresholds(const Row *row, const char *name, AlertComparison comparison)
{
	bool		isnull;
	bool		no_clear;
	double		threshold = DatumGetFloat8(value_of(row, "threshold", &isnull));
	double		clear = DatumGetFloat8(value_of(row, "clear_threshold", &no_clear));

	if (isnull)
		return;					/* NOT NULL says so */
	if (isnan(threshold) || isinf(threshold) || (!no_clear && (isnan(clear) || isinf(clear))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("thresholds of alert rule \"%s\" must be finite numbers", name)));
	if (no_clear)
		return;
	if (comparison == ALERT_EQUAL || comparison == ALERT_NOT_EQUAL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("alert rule \"%s\" cannot have a clear_threshold", name),
				 errhint("Leave it null with = and <>: every other value clears the alert.")));
	if ((comparison == ALERT_LESS || comparison == ALERT_LESS_EQUAL) ? clear < threshold : clear > threshold)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("clear_threshold of alert rule \"%s\" lies on the wrong side of its threshold", name),
				 errhint("With < and <= it is the threshold or above, with > and >= the threshold or below.")));
}

static void
check_rule(const Row *row)
{
	char	   *name = text_of(row, "name");
	char	   *metric = text_of(row, "metric");
	char	   *operator = text_of(row, "comparison");
	int			comparison = operator != NULL ? alert_comparison_by_name(operator) : -1;
	bool		no_hold;
	bool		no_clear;
	bool		isnull;
	Datum		hold = value_of(row, "hold_for", &no_hold);
	double		threshold = DatumGetFloat8(value_of(row, "threshold", &isnull));

	if (name == NULL || metric == NULL || comparison < 0)
		return;					/* the table's constraints say so */
	(void) value_of(row, "clear_threshold", &no_clear);

	if (!no_hold && DatumGetIntervalP(hold)->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("hold_for of alert rule \"%s\" must not have months", name),
				 errhint("Write an interval like '30 seconds'.")));

	if (strcmp(metric, ALERT_LINK_METRIC) == 0)
	{
		bool		holds = !no_hold && (DatumGetIntervalP(hold)->time != 0 || DatumGetIntervalP(hold)->day != 0);

		if ((comparison != ALERT_GREATER && comparison != ALERT_GREATER_EQUAL) || holds || !no_clear)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("alert rule \"%s\" cannot watch the link in this way", name),
					 errhint("With metric " ALERT_LINK_METRIC " the comparison is >, the threshold the number of seconds; there is no clear_threshold and no hold_for.")));
		if (!isnull && !(threshold >= 1 && threshold <= 86400))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("threshold of alert rule \"%s\" is out of range", name),
					 errdetail("It lies between 1 and 86400 seconds.")));
		return;
	}
	if (alert_metric_by_name(metric) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a metric", metric),
				 errdetail("Alert rule \"%s\" must name a numeric column of telemetry.drone_telemetry.", name),
				 errhint("Use one of %s.", list_metrics())));
	check_thresholds(row, name, comparison);
}

/*
 * Make the INSERT of a rule that came with the extension an update; false when
 * there is no such rule.
 */
static bool
update_builtin(const Row *row)
{
	static const char *const columns[] = {"rule_id", "name", "metric", "comparison", "threshold", "clear_threshold",
		"hold_for", "severity", "drone_type", "drone_id", "enabled", "created_at", "updated_at"};
	Oid			types[lengthof(columns)];
	Datum		values[lengthof(columns)];
	char		nulls[lengthof(columns)];
	uint64		updated;

	for (int i = 0; i < lengthof(columns); i++)
	{
		bool		isnull;

		types[i] = SPI_gettypeid(row->desc, SPI_fnumber(row->desc, columns[i]));
		values[i] = value_of(row, columns[i], &isnull);
		nulls[i] = isnull ? 'n' : ' ';
	}
	SPI_connect();
	if (SPI_execute_with_args("UPDATE telemetry.alert_rules SET name = $2, metric = $3, comparison = $4,"
							  " threshold = $5, clear_threshold = $6, hold_for = $7, severity = $8, drone_type = $9,"
							  " drone_id = $10, enabled = $11, created_at = $12, updated_at = $13"
							  " WHERE rule_id OPERATOR(pg_catalog.=) $1 AND is_builtin",
							  lengthof(columns), types, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update telemetry.alert_rules");
	updated = SPI_processed;
	SPI_finish();
	return updated > 0;
}

static void
keep_builtin(const Row *row)
{
	Row			old = *row;
	bool		isnull;
	Datum		id;
	Datum		new_id;

	old.tuple = row->trigger->tg_trigtuple;
	if (!DatumGetBool(value_of(&old, "is_builtin", &isnull)))
		return;
	if (TRIGGER_FIRED_BY_UPDATE(row->trigger->tg_event))
	{
		id = value_of(&old, "rule_id", &isnull);
		new_id = value_of(row, "rule_id", &isnull);
		if (isnull)
			return;				/* the table's constraint refuses it */
		if (DatumGetBool(value_of(row, "is_builtin", &isnull)) && !isnull &&
			memcmp(DatumGetUUIDP(id), DatumGetUUIDP(new_id), UUID_LEN) == 0)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("alert rule \"%s\" came with the extension and cannot be deleted", text_of(&old, "name")),
			 errhint("Set enabled to false instead.")));
}

/* Did the row that is updated come with the extension? */
static bool
was_builtin(const Row *row)
{
	Row			old = *row;
	bool		isnull;

	if (!TRIGGER_FIRED_BY_UPDATE(row->trigger->tg_event))
		return false;
	old.tuple = row->trigger->tg_trigtuple;
	return DatumGetBool(value_of(&old, "is_builtin", &isnull));
}

static HeapTuple
with_builtin(const Row *row, bool builtin)
{
	int			attno = SPI_fnumber(row->desc, "is_builtin");
	bool		isnull;
	bool		present = DatumGetBool(heap_getattr(row->tuple, attno, row->desc, &isnull));
	Datum		value = BoolGetDatum(builtin);

	if (!isnull && present == builtin)
		return row->tuple;
	isnull = false;
	return heap_modify_tuple_by_cols(row->tuple, row->desc, 1, &attno, &value, &isnull);
}

/* BEFORE INSERT OR UPDATE OR DELETE row trigger of telemetry.alert_rules. */
Datum
telemetry_alert_rule_check(PG_FUNCTION_ARGS)
{
	Row			row = row_of(fcinfo, "alert_rule_check", "alert_rules");
	TriggerEvent event = row.trigger->tg_event;

	if (!TRIGGER_FIRED_BY_INSERT(event) && !creating_extension)
		keep_builtin(&row);
	if (!TRIGGER_FIRED_BY_DELETE(event))
		check_rule(&row);
	if (TRIGGER_FIRED_BY_INSERT(event) && !creating_extension && update_builtin(&row))
		PG_RETURN_POINTER(NULL);
	if (!TRIGGER_FIRED_BY_DELETE(event) && !creating_extension && !was_builtin(&row))
		row.tuple = with_builtin(&row, false);
	PG_RETURN_POINTER(row.tuple);
}

/* BEFORE INSERT OR UPDATE row trigger of telemetry.geofences. */
Datum
telemetry_geofence_check(PG_FUNCTION_ARGS)
{
	Row			row = row_of(fcinfo, "geofence_check", "geofences");
	bool		isnull;
	Datum		boundary = value_of(&row, "boundary", &isnull);
	const char *fault = isnull ? NULL : geofence_fault(DatumGetPolygonP(boundary));

	if (fault != NULL)
	{
		char	   *name = text_of(&row, "name");

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("boundary of geofence \"%s\" is not an area of the earth: %s", name ? name : "", fault),
				 errhint("Write (longitude, latitude) points; across the antimeridian longitudes go on beyond 180.")));
	}
	PG_RETURN_POINTER(row.tuple);
}

/* AFTER statement trigger: every backend compiles the rules again. */
Datum
telemetry_alert_rules_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("alert_rules_changed must be called as a trigger")));
	alert_rules_invalidate();
	PG_RETURN_POINTER(NULL);
}
