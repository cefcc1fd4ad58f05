/*
 * sample.c
 *		The columns of a sample: names, ranges, conversion to slots and to JSON.
 *
 * Called by every ingest route.  Takes no locks and touches no table.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/float.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "telemetry/sample.h"

PG_FUNCTION_INFO_V1(telemetry_sample_in_range);

const SampleColumnInfo sample_columns[SAMPLE_NCOLUMNS + 1] = {
	[SAMPLE_DRONE_ID] = {"drone_id"},
	[SAMPLE_RECORDED_AT] = {"recorded_at"},
	[SAMPLE_LATITUDE] = {"latitude", -90, 90},
	[SAMPLE_LONGITUDE] = {"longitude", -180, 180},
	[SAMPLE_ALTITUDE_M] = {"altitude_m", -1000, 100000},
	[SAMPLE_RELATIVE_ALTITUDE_M] = {"relative_altitude_m", -100000, 100000},
	[SAMPLE_BATTERY_PERCENTAGE] = {"battery_percentage", 0, 100},
	[SAMPLE_BATTERY_VOLTAGE_V] = {"battery_voltage_v", 0, 1000},
	[SAMPLE_GROUND_SPEED_MS] = {"ground_speed_ms", 0, 1000},
	[SAMPLE_VERTICAL_SPEED_MS] = {"vertical_speed_ms", -1000, 1000},
	[SAMPLE_HEADING_DEG] = {"heading_deg", 0, 360},
	[SAMPLE_ROLL_DEG] = {"roll_deg", -180, 180},
	[SAMPLE_PITCH_DEG] = {"pitch_deg", -180, 180},
	[SAMPLE_TEMPERATURE_C] = {"temperature_c", -150, 500},
	[SAMPLE_SIGNAL_STRENGTH_DBM] = {"signal_strength_dbm", -200, 100},
	[SAMPLE_GPS_SATELLITES] = {"gps_satellites", 0, 255, true},
	[SAMPLE_GPS_FIX] = {"gps_fix", 0, 8, true},
	[SAMPLE_FLIGHT_MODE] = {"flight_mode"},
	[SAMPLE_EXTRA] = {"extra"},
	[SAMPLE_RECEIVED_AT] = {"received_at"},
};

/*
 * Store one number and mark it present, unless it is at fault.
 */
SampleFault
sample_set_number(Sample *sample, SampleColumn column, double value)
{
	const SampleColumnInfo *info = &sample_columns[column];

	se_assert(column >= SAMPLE_FIRST_NUMBER && column <= SAMPLE_LAST_NUMBER);

	if (unlikely(isnan(value) || isinf(value)))
		return SAMPLE_NOT_A_NUMBER;
	if (unlikely(value < info->lower || value > info->upper))
		return SAMPLE_OUT_OF_RANGE;
	if (unlikely(info->integral && value != rint(value)))
		return SAMPLE_OUT_OF_RANGE;

	switch (column)
	{
		case SAMPLE_LATITUDE:
			sample->latitude = value;
			break;
		case SAMPLE_LONGITUDE:
			sample->longitude = value;
			break;
		case SAMPLE_GPS_SATELLITES:
			sample->gps_satellites = (int16) value;
			break;
		case SAMPLE_GPS_FIX:
			sample->gps_fix = (int16) value;
			break;
		default:
			sample_real(sample, column) = (float4) value;
			break;
	}
	sample->present |= SAMPLE_BIT(column);
	return SAMPLE_OK;
}

/*
 * The number in a column that is present.
 */
double
sample_get_number(const Sample *sample, SampleColumn column)
{
	se_assert(sample_has(sample, column));

	switch (column)
	{
		case SAMPLE_LATITUDE:
			return sample->latitude;
		case SAMPLE_LONGITUDE:
			return sample->longitude;
		case SAMPLE_GPS_SATELLITES:
			return sample->gps_satellites;
		case SAMPLE_GPS_FIX:
			return sample->gps_fix;
		default:
			return sample_real(sample, column);
	}
}

/*
 * Fill a virtual slot whose leading attributes are those of drone_telemetry.
 */
void
sample_store_slot(const Sample *sample, TimestampTz received_at, TupleTableSlot *slot)
{
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;

	ExecClearTuple(slot);

	for (int attno = 1; attno <= slot->tts_tupleDescriptor->natts; attno++)
		nulls[attno - 1] = attno > SAMPLE_NCOLUMNS || !sample_has(sample, attno);

	values[SAMPLE_DRONE_ID - 1] = UUIDPGetDatum(&sample->drone_id);
	values[SAMPLE_RECORDED_AT - 1] = TimestampTzGetDatum(sample->recorded_at);
	values[SAMPLE_LATITUDE - 1] = Float8GetDatum(sample->latitude);
	values[SAMPLE_LONGITUDE - 1] = Float8GetDatum(sample->longitude);
	for (int column = SAMPLE_FIRST_REAL; column <= SAMPLE_LAST_REAL; column++)
		values[column - 1] = Float4GetDatum(sample_real(sample, column));
	values[SAMPLE_GPS_SATELLITES - 1] = Int16GetDatum(sample->gps_satellites);
	values[SAMPLE_GPS_FIX - 1] = Int16GetDatum(sample->gps_fix);
	values[SAMPLE_FLIGHT_MODE - 1] = PointerGetDatum(sample->flight_mode);
	values[SAMPLE_EXTRA - 1] = PointerGetDatum(sample->extra);
	values[SAMPLE_RECEIVED_AT - 1] = TimestampTzGetDatum(received_at);
	nulls[SAMPLE_RECEIVED_AT - 1] = false;

	ExecStoreVirtualTuple(slot);
}

/*
 * telemetry.sample_in_range(latitude, ..., gps_fix): the CHECK constraint of
 * drone_telemetry.  The arguments are the number columns in their order.
 */
Datum
telemetry_sample_in_range(PG_FUNCTION_ARGS)
{
	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
	{
		const SampleColumnInfo *info = &sample_columns[column];
		int			argument = column - SAMPLE_FIRST_NUMBER;
		double		value;

		if (PG_ARGISNULL(argument))
			continue;
		if (column < SAMPLE_FIRST_REAL)
			value = PG_GETARG_FLOAT8(argument);
		else if (column <= SAMPLE_LAST_REAL)
			value = PG_GETARG_FLOAT4(argument);
		else
			value = PG_GETARG_INT16(argument);

		/* NaN fails every comparison. */
		if (unlikely(!(value >= info->lower && value <= info->upper)))
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("%s %g is outside %g to %g", info->name, value, info->lower, info->upper),
					 errhint("A value that is unknown is NULL; telemetry.ingest keeps samples with wrong values among the rejected ones.")));
	}
	PG_RETURN_BOOL(true);
}

/*
 * A timestamptz as an ISO 8601 string, whatever the session's DateStyle.
 */
static char *
iso_time(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;
	char		buffer[MAXDATELEN + 1];

	if (TIMESTAMP_NOT_FINITE(time))
		return pstrdup(time > 0 ? "infinity" : "-infinity");
	if (timestamp2tm(time, &tz, &tm, &fsec, NULL, pg_tzset("UTC")) != 0)
		return pstrdup("out of range");
	EncodeDateTime(&tm, fsec, true, 0, NULL, USE_XSD_DATES, buffer);
	return pstrdup(buffer);
}

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
}

void
sample_push_string(JsonbParseState **state, const char *key, const char *value, int length)
{
	JsonbValue	v;

	push_key(state, key);
	v.type = jbvString;
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = length;
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
sample_push_number(JsonbParseState **state, const char *key, double value)
{
	JsonbValue	v;
	char		text[DOUBLE_SHORTEST_DECIMAL_LEN];

	/* JSON cannot write these. */
	if (isnan(value))
	{
		sample_push_string(state, key, "NaN", 3);
		return;
	}
	if (isinf(value))
	{
		sample_push_string(state, key, value > 0 ? "Infinity" : "-Infinity", value > 0 ? 8 : 9);
		return;
	}

	push_key(state, key);
	v.type = jbvNumeric;
	/* All its digits, whatever extra_float_digits says: it is to be taken up again as it was. */
	double_to_shortest_decimal_buf(value, text);
	v.val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
														ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
sample_push_time(JsonbParseState **state, const char *key, TimestampTz value)
{
	char	   *time = iso_time(value);

	sample_push_string(state, key, time, strlen(time));
}

void
sample_push_uuid(JsonbParseState **state, const char *key, const pg_uuid_t *value)
{
	char	   *id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(value)));

	sample_push_string(state, key, id, strlen(id));
}

void
sample_push_jsonb(JsonbParseState **state, const char *key, Jsonb *value)
{
	JsonbValue	v;

	push_key(state, key);
	v.type = jbvBinary;
	v.val.binary.data = &value->root;
	v.val.binary.len = VARSIZE(value) - VARHDRSZ;
	pushJsonbValue(state, WJB_VALUE, &v);
}

/*
 * A float4 as the double that has its shortest decimal form: 16.2, not
 * 16.200000762939453.
 */
static double
shortest_double(float4 value)
{
	char		text[FLOAT_SHORTEST_DECIMAL_LEN];

	float_to_shortest_decimal_buf(value, text);
	return strtod(text, NULL);
}

/*
 * The sample as the JSON object that telemetry.ingest would take.
 */
Jsonb *
sample_to_jsonb(const Sample *sample)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (sample_has(sample, SAMPLE_DRONE_ID))
		sample_push_uuid(&state, "drone_id", &sample->drone_id);
	if (sample_has(sample, SAMPLE_RECORDED_AT))
		sample_push_time(&state, "recorded_at", sample->recorded_at);
	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
	{
		double		number;

		if (!sample_has(sample, column))
			continue;
		number = sample_get_number(sample, column);
		if (column >= SAMPLE_FIRST_REAL && column <= SAMPLE_LAST_REAL)
			number = shortest_double((float4) number);
		sample_push_number(&state, sample_columns[column].name, number);
	}
	if (sample_has(sample, SAMPLE_FLIGHT_MODE))
		sample_push_string(&state, "flight_mode", VARDATA_ANY(sample->flight_mode),
						   VARSIZE_ANY_EXHDR(sample->flight_mode));
	if (sample_has(sample, SAMPLE_EXTRA))
		sample_push_jsonb(&state, "extra", sample->extra);

	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* The type of a column. */
static Oid
type_of(SampleColumn column)
{
	switch (column)
	{
		case SAMPLE_DRONE_ID:
			return UUIDOID;
		case SAMPLE_RECORDED_AT:
		case SAMPLE_RECEIVED_AT:
			return TIMESTAMPTZOID;
		case SAMPLE_LATITUDE:
		case SAMPLE_LONGITUDE:
			return FLOAT8OID;
		case SAMPLE_GPS_SATELLITES:
		case SAMPLE_GPS_FIX:
			return INT2OID;
		case SAMPLE_FLIGHT_MODE:
			return TEXTOID;
		case SAMPLE_EXTRA:
			return JSONBOID;
		default:
			return FLOAT4OID;
	}
}

/*
 * Error out where somebody has changed a column's type: its values are written and
 * read as they stand in memory.
 */
void
sample_require_types(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int column = SAMPLE_DRONE_ID; column <= SAMPLE_NCOLUMNS; column++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);

		if (attribute->attisdropped ||
			(attribute->atttypid == type_of(column) && attribute->atttypmod == -1))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" has another type than samples have",
						NameStr(attribute->attname), RelationGetRelationName(rel)),
				 errdetail("It is %s and must be %s.", format_type_with_typemod(attribute->atttypid, attribute->atttypmod),
						   format_type_be(type_of(column))),
				 errhint("Change it back. For another type add a column, a view, or a check.")));
	}
}

/*
 * Take the values of a row; text and extra are copied, detoasted.
 */
void
sample_from_slot(Sample *sample, TupleTableSlot *slot)
{
	slot_getsomeattrs(slot, SAMPLE_NCOLUMNS);
	memset(sample, 0, sizeof(Sample));
	for (int column = SAMPLE_DRONE_ID; column <= SAMPLE_EXTRA; column++)
	{
		Datum		value = slot->tts_values[column - 1];

		if (slot->tts_isnull[column - 1])
			continue;
		sample->present |= SAMPLE_BIT(column);
		switch (column)
		{
			case SAMPLE_DRONE_ID:
				sample->drone_id = *DatumGetUUIDP(value);
				break;
			case SAMPLE_RECORDED_AT:
				sample->recorded_at = DatumGetTimestampTz(value);
				break;
			case SAMPLE_LATITUDE:
				sample->latitude = DatumGetFloat8(value);
				break;
			case SAMPLE_LONGITUDE:
				sample->longitude = DatumGetFloat8(value);
				break;
			case SAMPLE_GPS_SATELLITES:
				sample->gps_satellites = DatumGetInt16(value);
				break;
			case SAMPLE_GPS_FIX:
				sample->gps_fix = DatumGetInt16(value);
				break;
			case SAMPLE_FLIGHT_MODE:
				sample->flight_mode = DatumGetTextPCopy(value);
				break;
			case SAMPLE_EXTRA:
				sample->extra = DatumGetJsonbPCopy(value);
				break;
			default:
				sample_real(sample, column) = DatumGetFloat4(value);
				break;
		}
	}
}

/*
 * SQLSTATE of a fault.
 */
int
sample_fault_sqlstate(SampleFault fault)
{
	switch (fault)
	{
		case SAMPLE_NULL_DRONE_ID:
		case SAMPLE_NULL_RECORDED_AT:
			return ERRCODE_NOT_NULL_VIOLATION;
		case SAMPLE_NOT_A_NUMBER:
		case SAMPLE_OUT_OF_RANGE:
			return ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
		case SAMPLE_OUTSIDE_WINDOW:
			return ERRCODE_DATETIME_FIELD_OVERFLOW;
		case SAMPLE_UNKNOWN_DRONE:
			return ERRCODE_FOREIGN_KEY_VIOLATION;
		case SAMPLE_LEFT_OUT_BY_TRIGGER:
			return ERRCODE_TRIGGERED_ACTION_EXCEPTION;
		case SAMPLE_OK:
			break;
	}
	elog(ERROR, "unexpected sample fault %d", (int) fault);
}

/*
 * The fault in words.
 */
char *
sample_fault_reason(SampleFault fault, const Sample *sample, SampleColumn column, double value)
{
	const SampleColumnInfo *info = &sample_columns[column];

	switch (fault)
	{
		case SAMPLE_NULL_DRONE_ID:
			return pstrdup("drone_id is missing");
		case SAMPLE_NULL_RECORDED_AT:
			return pstrdup("recorded_at is missing");
		case SAMPLE_NOT_A_NUMBER:
			return psprintf("%s is %s, not a finite number", info->name, isnan(value) ? "NaN" : "infinite");
		case SAMPLE_OUT_OF_RANGE:
			if (info->integral && value >= info->lower && value <= info->upper)
				return psprintf("%s %s is not a whole number", info->name, float8out_internal(value));
			return psprintf("%s %s is outside %g to %g", info->name, float8out_internal(value),
							info->lower, info->upper);
		case SAMPLE_OUTSIDE_WINDOW:
			return psprintf("recorded_at %s is outside the accepted window", iso_time(sample->recorded_at));
		case SAMPLE_UNKNOWN_DRONE:
			return pstrdup("drone_id names no drone in core.drones");
		case SAMPLE_LEFT_OUT_BY_TRIGGER:
			return pstrdup("a trigger of telemetry.drone_telemetry left the row out");
		case SAMPLE_OK:
			break;
	}
	elog(ERROR, "unexpected sample fault %d", (int) fault);
}

/*
 * Does a client's key name the column?  Exactly, or in camelCase: droneId and
 * altitudeM for drone_id and altitude_m.
 */
static bool
key_names_column(const char *key, int length, const char *name)
{
	bool		capital = false;
	int			at = 0;

	if (strlen(name) == length && memcmp(key, name, length) == 0)
		return true;

	for (; *name != '\0'; name++)
	{
		if (*name == '_')
		{
			capital = true;
			continue;
		}
		if (at >= length || key[at++] != (capital ? pg_ascii_toupper((unsigned char) *name) : *name))
			return false;
		capital = false;
	}
	return at == length;
}

/*
 * The column that a client's key stands for; 0 when it stands for none.
 */
SampleColumn
sample_column_by_key(const char *key, int length)
{
	if (length == strlen("timestamp") && memcmp(key, "timestamp", length) == 0)
		return SAMPLE_RECORDED_AT;
	for (int column = SAMPLE_DRONE_ID; column <= SAMPLE_EXTRA; column++)
	{
		if (key_names_column(key, length, sample_columns[column].name))
			return column;
	}
	return 0;
}
