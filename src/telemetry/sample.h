/*
 * sample.h
 *		One telemetry sample in memory, and what is known of its columns.
 *
 * A Sample mirrors a row of telemetry.drone_telemetry.  Every route decodes its
 * input into Samples; validation, the store, the latest state and the alerts
 * read nothing else.
 */
#ifndef SENTIENT_SAMPLE_H
#define SENTIENT_SAMPLE_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/uuid.h"

/* Attribute numbers of telemetry.drone_telemetry, in the order of the contract. */
typedef enum SampleColumn
{
	SAMPLE_DRONE_ID = 1,
	SAMPLE_RECORDED_AT,
	SAMPLE_LATITUDE,
	SAMPLE_LONGITUDE,
	SAMPLE_ALTITUDE_M,
	SAMPLE_RELATIVE_ALTITUDE_M,
	SAMPLE_BATTERY_PERCENTAGE,
	SAMPLE_BATTERY_VOLTAGE_V,
	SAMPLE_GROUND_SPEED_MS,
	SAMPLE_VERTICAL_SPEED_MS,
	SAMPLE_HEADING_DEG,
	SAMPLE_ROLL_DEG,
	SAMPLE_PITCH_DEG,
	SAMPLE_TEMPERATURE_C,
	SAMPLE_SIGNAL_STRENGTH_DBM,
	SAMPLE_GPS_SATELLITES,
	SAMPLE_GPS_FIX,
	SAMPLE_FLIGHT_MODE,
	SAMPLE_EXTRA,
	SAMPLE_RECEIVED_AT,
} SampleColumn;

#define SAMPLE_NCOLUMNS			SAMPLE_RECEIVED_AT
#define SAMPLE_FIRST_REAL		SAMPLE_ALTITUDE_M
#define SAMPLE_LAST_REAL		SAMPLE_SIGNAL_STRENGTH_DBM
#define SAMPLE_NREALS			(SAMPLE_LAST_REAL - SAMPLE_FIRST_REAL + 1)

/* The first and the last column that hold one number with a range. */
#define SAMPLE_FIRST_NUMBER		SAMPLE_LATITUDE
#define SAMPLE_LAST_NUMBER		SAMPLE_GPS_FIX

typedef struct Sample
{
	pg_uuid_t	drone_id;
	TimestampTz recorded_at;
	double		latitude;
	double		longitude;
	float4		real[SAMPLE_NREALS];	/* columns altitude_m .. signal_strength_dbm */
	int16		gps_satellites;
	int16		gps_fix;
	uint32		present;		/* bit SAMPLE_BIT(column): the value is not NULL */
	int32		ordinal;		/* place in what the client sent, from 0 */
	text	   *flight_mode;
	Jsonb	   *extra;
} Sample;

#define SAMPLE_BIT(column)				((uint32) 1 << ((column) - 1))
#define sample_has(sample, column)		(((sample)->present & SAMPLE_BIT(column)) != 0)
#define sample_real(sample, column)		((sample)->real[(column) - SAMPLE_FIRST_REAL])

typedef enum SampleFault
{
	SAMPLE_OK,
	SAMPLE_NULL_DRONE_ID,
	SAMPLE_NULL_RECORDED_AT,
	SAMPLE_NOT_A_NUMBER,		/* NaN or infinity */
	SAMPLE_OUT_OF_RANGE,
	SAMPLE_OUTSIDE_WINDOW,		/* recorded_at too old or too far ahead */
	SAMPLE_UNKNOWN_DRONE,
	SAMPLE_LEFT_OUT_BY_TRIGGER,
} SampleFault;

/* What is known of a column: its name, and for a number its range. */
typedef struct SampleColumnInfo
{
	const char *name;
	double		lower;			/* inclusive */
	double		upper;			/* inclusive */
	bool		integral;		/* stored as smallint */
} SampleColumnInfo;

extern const SampleColumnInfo sample_columns[SAMPLE_NCOLUMNS + 1];	/* by SampleColumn; [0] unused */

/*
 * Store one number (SAMPLE_FIRST_NUMBER .. SAMPLE_LAST_NUMBER) and mark it present.
 * On a fault the sample is left without it and the caller must reject the sample.
 */
extern SampleFault sample_set_number(Sample *sample, SampleColumn column, double value);

/* The number in a column that is present, as a double. */
extern double sample_get_number(const Sample *sample, SampleColumn column);

/* SQLSTATE of a fault, as the MAKE_SQLSTATE code. */
extern int	sample_fault_sqlstate(SampleFault fault);

/* The fault in words, palloc'd; column and value as they apply to it. */
extern char *sample_fault_reason(SampleFault fault, const Sample *sample, SampleColumn column, double value);

/* The sample as the JSON object that telemetry.ingest would take. */
extern Jsonb *sample_to_jsonb(const Sample *sample);

/*
 * Error out unless the leading columns of the table, as far as it still has them,
 * are of the types in which samples are stored.
 */
extern void sample_require_types(Relation rel);

/* Fill a virtual slot of the table's (or drone_latest's) leading columns. */
extern void sample_store_slot(const Sample *sample, TimestampTz received_at, TupleTableSlot *slot);

/* Take the values of a row of the table (or of drone_latest's leading columns) that the slot holds. */
extern void sample_from_slot(Sample *sample, TupleTableSlot *slot);

/* Push a pair into the JSON object under construction; NaN and infinity become strings. */
extern void sample_push_string(JsonbParseState **state, const char *key, const char *value, int length);
extern void sample_push_number(JsonbParseState **state, const char *key, double value);
extern void sample_push_time(JsonbParseState **state, const char *key, TimestampTz value);
extern void sample_push_uuid(JsonbParseState **state, const char *key, const pg_uuid_t *value);
extern void sample_push_jsonb(JsonbParseState **state, const char *key, Jsonb *value);

/* Column of that name (snake_case, founding API's key or camelCase); 0 when none. */
extern SampleColumn sample_column_by_key(const char *key, int length);

#endif							/* SENTIENT_SAMPLE_H */
