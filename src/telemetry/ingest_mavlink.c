/*
 * ingest_mavlink.c
 *		telemetry.ingest_mavlink() and telemetry.import_tlog(): samples out of
 *		MAVLink frames.
 *
 * The decoding is src/mavlink's; here its samples go to ingest.h, its status
 * texts to telemetry.drone_events and its counts to telemetry.link_statistics.
 * Samples are stored in slices, so that a log of any length needs little
 * memory, all in the caller's transaction.
 *
 * Locks: those of ingest_finish, then the events' index entries in the order of
 * the input, then the drone's row of telemetry.link_statistics; the same order
 * in every session.  The two tables are written as the owner of the extension:
 * who may call these functions needs no right on them.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/sql.h"
#include "compat.h"
#include "errors.h"
#include "mavlink/mavlink_sampler.h"
#include "telemetry/ingest.h"

PG_FUNCTION_INFO_V1(telemetry_ingest_mavlink);
PG_FUNCTION_INFO_V1(telemetry_import_tlog);

/* Samples and status texts that are held before they are stored. */
#define SLICE_SAMPLES			20000
#define SLICE_TEXTS				1000

/* From 1970 to PostgreSQL's 2000, and the farthest boot time we calculate with. */
#define EPOCH_DISTANCE_US		INT64CONST(946684800000000)
#define FARTHEST_BOOT_US		(INT64CONST(1) << 60)

/* Numbers in extra are rounded to this. */
#define EXTRA_SCALE				1000.0

typedef struct HeldText
{
	TimestampTz occurred_at;
	int			severity;
	text	   *message;
	Jsonb	   *payload;
} HeldText;

/* One call. */
typedef struct Import
{
	pg_uuid_t	drone_id;
	IngestCounts counts;
	uint64		undated_texts;	/* texts whose time nothing tells; not stored */

	/* the slice, all in its context */
	MemoryContext slice;
	IngestBatch *batch;
	int			nsamples;
	text	   *flight_mode;	/* the last one, to be shared by samples */
	int			ntexts;
	HeldText   *texts;			/* room for ntexts_allocated */
	int			ntexts_allocated;
} Import;

static const char *const severities[] = {
	"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"
};

/* The columns of the values that have one, and the keys in extra of the others. */
static const struct
{
	SampleColumn column;
	const char *key;
	bool		is_position;	/* a sample without a good one is no sample */
}			places[MAVLINK_NVALUES] =
{
	[MAVLINK_LATITUDE] = {SAMPLE_LATITUDE, NULL, true},
	[MAVLINK_LONGITUDE] = {SAMPLE_LONGITUDE, NULL, true},
	[MAVLINK_ALTITUDE_M] = {SAMPLE_ALTITUDE_M, NULL, true},
	[MAVLINK_RELATIVE_ALTITUDE_M] = {SAMPLE_RELATIVE_ALTITUDE_M, NULL, true},
	[MAVLINK_BATTERY_PERCENTAGE] = {SAMPLE_BATTERY_PERCENTAGE},
	[MAVLINK_BATTERY_VOLTAGE_V] = {SAMPLE_BATTERY_VOLTAGE_V},
	[MAVLINK_GROUND_SPEED_MS] = {SAMPLE_GROUND_SPEED_MS},
	[MAVLINK_VERTICAL_SPEED_MS] = {SAMPLE_VERTICAL_SPEED_MS},
	[MAVLINK_HEADING_DEG] = {SAMPLE_HEADING_DEG},
	[MAVLINK_ROLL_DEG] = {SAMPLE_ROLL_DEG},
	[MAVLINK_PITCH_DEG] = {SAMPLE_PITCH_DEG},
	[MAVLINK_TEMPERATURE_C] = {SAMPLE_TEMPERATURE_C},
	[MAVLINK_SIGNAL_STRENGTH_DBM] = {SAMPLE_SIGNAL_STRENGTH_DBM},
	[MAVLINK_GPS_SATELLITES] = {SAMPLE_GPS_SATELLITES},
	[MAVLINK_GPS_FIX] = {SAMPLE_GPS_FIX},
	[MAVLINK_AIRSPEED_MS] = {0, "airspeed_ms"},
	[MAVLINK_CLIMB_MS] = {0, "climb_ms"},
	[MAVLINK_THROTTLE_PERCENTAGE] = {0, "throttle_percentage"},
	[MAVLINK_PRESSURE_HPA] = {0, "pressure_hpa"},
	[MAVLINK_GPS_HDOP] = {0, "gps_hdop"},
	[MAVLINK_BATTERY_CURRENT_A] = {0, "battery_current_a"},
	[MAVLINK_BATTERY_TEMPERATURE_C] = {0, "battery_temperature_c"},
	[MAVLINK_RADIO_RSSI] = {0, "radio_rssi"},
	[MAVLINK_RADIO_REMOTE_RSSI] = {0, "radio_remote_rssi"},
};

static Datum import_frames(FunctionCallInfo fcinfo, bool is_tlog, int64 boot_us);
static void slice_begin(Import *import);
static void slice_finish(Import *import);
static void hold_sample(void *arg, const MavlinkSample *decoded);
static void hold_text(void *arg, const MavlinkText *decoded);
static Jsonb *make_extra(const MavlinkSample *decoded);
static text *make_valid_text(const char *bytes, size_t length);
static void store_texts(Import *import);
static void store_counts(const Import *import, const MavlinkSampler *sampler);

static inline TimestampTz
timestamp_of(int64 unix_us)
{
	return unix_us - EPOCH_DISTANCE_US;
}

/*
 * telemetry.ingest_mavlink(drone_id uuid, frames bytea, boot_epoch timestamptz)
 */
Datum
telemetry_ingest_mavlink(PG_FUNCTION_ARGS)
{
	int64		boot_us = MAVLINK_NO_TIME;

	if (!PG_ARGISNULL(2))
	{
		TimestampTz boot_epoch = PG_GETARG_TIMESTAMPTZ(2);

		if (TIMESTAMP_NOT_FINITE(boot_epoch) || boot_epoch > FARTHEST_BOOT_US)
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("boot_epoch is out of range"),
					 errhint("It is the time at which the vehicle was switched on; leave it null when that is not known.")));
		boot_us = boot_epoch + EPOCH_DISTANCE_US;
	}
	return import_frames(fcinfo, false, boot_us);
}

/*
 * telemetry.import_tlog(drone_id uuid, log bytea)
 */
Datum
telemetry_import_tlog(PG_FUNCTION_ARGS)
{
	return import_frames(fcinfo, true, MAVLINK_NO_TIME);
}

static Datum
import_frames(FunctionCallInfo fcinfo, bool is_tlog, int64 boot_us)
{
	Import	   *import = palloc0(sizeof(Import));
	MavlinkSampler *sampler = palloc(sizeof(MavlinkSampler));
	MavlinkSamplerOptions options;
	MavlinkCounts *seen = &sampler->reader.counts;
	bytea	   *bytes;
	size_t		size;
	bool		has_more;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("drone_id must not be null"),
				 errhint("Frames do not say which drone sent them; pass its drone_id of core.drones.")));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", is_tlog ? "log" : "frames"),
				 errhint("Pass the bytes as they were received, as bytea.")));

	import->drone_id = *PG_GETARG_UUID_P(0);
	bytes = PG_GETARG_BYTEA_PP(1);
	size = VARSIZE_ANY_EXHDR(bytes);

	options = (MavlinkSamplerOptions)
	{
		.boot_us = boot_us,
			.state_age_us = settings_get()->mavlink_state_age_us,
			.on_sample = hold_sample,
			.on_text = hold_text,
			.arg = import,
	};
	mavlink_sampler_init(sampler, (const uint8_t *) VARDATA_ANY(bytes), size, is_tlog, &options);

	slice_begin(import);
	do
	{
		CHECK_FOR_INTERRUPTS();
		has_more = mavlink_sampler_step(sampler);
		if (!has_more || import->nsamples >= SLICE_SAMPLES || import->ntexts >= SLICE_TEXTS)
		{
			slice_finish(import);
			if (has_more)
				slice_begin(import);
		}
	} while (has_more);

	if (size > 0)
		store_counts(import, sampler);

	if (size > 0 && seen->frames == 0)
		ereport(WARNING,
				(errmsg("no MAVLink frame was found in %zu bytes", size),
				 is_tlog ? errhint("Frames without a stamp in front of each are taken by telemetry.ingest_mavlink.") :
				 errhint("A log with a stamp in front of each frame is taken by telemetry.import_tlog.")));
	if (sampler->foreign_positions > 0)
		ereport(WARNING,
				(errmsg_plural("%llu position of another vehicle was left out",
							   "%llu positions of other vehicles were left out",
							   (unsigned long) sampler->foreign_positions,
							   (unsigned long long) sampler->foreign_positions),
				 errdetail("The drone is the vehicle with system id %d, whose autopilot is heard first.", sampler->vehicle_system),
				 errhint("Send the frames of each vehicle in a call of its own.")));
	if (import->undated_texts > 0)
		ereport(WARNING,
				(errmsg_plural("%llu status text of unknown time was not stored",
							   "%llu status texts of unknown time were not stored",
							   (unsigned long) import->undated_texts,
							   (unsigned long long) import->undated_texts),
				 errhint("Pass boot_epoch, or let the vehicle send SYSTEM_TIME.")));

	PG_RETURN_DATUM(ingest_counts_datum(fcinfo, import->counts));
}

/*
 * A slice's memory is its own, and is freed when the slice has been stored.
 */
static void
slice_begin(Import *import)
{
	MemoryContext caller;

	import->slice = AllocSetContextCreate(CurrentMemoryContext, "sentient_edge MAVLink slice", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(import->slice);
	import->batch = ingest_begin("mavlink");
	import->nsamples = 0;
	import->flight_mode = NULL;
	import->ntexts = 0;
	import->ntexts_allocated = 16;
	import->texts = palloc(sizeof(HeldText) * import->ntexts_allocated);
	MemoryContextSwitchTo(caller);
}

static void
slice_finish(Import *import)
{
	MemoryContext caller = MemoryContextSwitchTo(import->slice);
	IngestCounts counts = ingest_finish(import->batch);

	import->counts.accepted += counts.accepted;
	import->counts.duplicate += counts.duplicate;
	import->counts.rejected += counts.rejected;
	if (import->ntexts > 0)
		store_texts(import);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(import->slice);
	import->slice = NULL;
}

/*
 * Callback of the sampler: hand a sample to the batch.
 */
static void
hold_sample(void *arg, const MavlinkSample *decoded)
{
	Import	   *import = arg;
	MemoryContext caller = MemoryContextSwitchTo(import->slice);
	Sample	   *sample = ingest_next(import->batch);
	SampleFault fault = SAMPLE_OK;
	SampleColumn fault_column = 0;
	double		fault_value = 0;

	import->nsamples++;
	sample->drone_id = import->drone_id;
	sample->present |= SAMPLE_BIT(SAMPLE_DRONE_ID);
	if (decoded->time_us != MAVLINK_NO_TIME)
	{
		sample->recorded_at = timestamp_of(decoded->time_us);
		sample->present |= SAMPLE_BIT(SAMPLE_RECORDED_AT);
	}

	for (int i = 0; i < MAVLINK_NVALUES; i++)
	{
		SampleColumn column = places[i].column;
		double		number = decoded->value[i];
		SampleFault this_fault;

		if (column == 0 || isnan(number))
			continue;
		this_fault = sample_set_number(sample, column, number);

		/* What only accompanies the position stays unknown when it is nonsense. */
		if (likely(this_fault == SAMPLE_OK) || !places[i].is_position)
			continue;
		if (fault == SAMPLE_OK)
		{
			fault = this_fault;
			fault_column = column;
			fault_value = number;
		}

		/* Kept for the rejected sample's payload. */
		if (column == SAMPLE_LATITUDE)
			sample->latitude = number;
		else if (column == SAMPLE_LONGITUDE)
			sample->longitude = number;
		else
			sample_real(sample, column) = (float4) number;
		sample->present |= SAMPLE_BIT(column);
	}

	if (decoded->flight_mode != NULL)
	{
		size_t		length = strlen(decoded->flight_mode);

		if (import->flight_mode == NULL ||
			VARSIZE(import->flight_mode) - VARHDRSZ != length ||
			memcmp(VARDATA(import->flight_mode), decoded->flight_mode, length) != 0)
			import->flight_mode = cstring_to_text_with_len(decoded->flight_mode, length);
		sample->flight_mode = import->flight_mode;
		sample->present |= SAMPLE_BIT(SAMPLE_FLIGHT_MODE);
	}

	sample->extra = make_extra(decoded);
	if (sample->extra != NULL)
		sample->present |= SAMPLE_BIT(SAMPLE_EXTRA);

	if (unlikely(decoded->time_us == MAVLINK_NO_TIME))
		ingest_reject_last_because(import->batch, ERRCODE_NOT_NULL_VIOLATION,
								   "recorded_at is unknown: boot_epoch was not given and no SYSTEM_TIME maps the vehicle's time since boot to UTC");
	else if (unlikely(fault != SAMPLE_OK))
		ingest_reject_last(import->batch, fault, fault_column, fault_value);
	MemoryContextSwitchTo(caller);
}

/*
 * What has no column of its own; NULL when there is nothing.
 */
static Jsonb *
make_extra(const MavlinkSample *decoded)
{
	JsonbParseState *state = NULL;
	JsonbValue *object;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < MAVLINK_NVALUES; i++)
		if (places[i].key != NULL && !isnan(decoded->value[i]))
			sample_push_number(&state, places[i].key, rint(decoded->value[i] * EXTRA_SCALE) / EXTRA_SCALE);
	if (decoded->armed >= 0)
	{
		JsonbValue	key = {.type = jbvString,.val.string = {.len = strlen("armed"),.val = "armed"}};
		JsonbValue	armed = {.type = jbvBool,.val.boolean = decoded->armed != 0};

		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &armed);
	}
	if (decoded->landed_state != NULL)
		sample_push_string(&state, "landed_state", decoded->landed_state, strlen(decoded->landed_state));
	if (decoded->vtol_state != NULL)
		sample_push_string(&state, "vtol_state", decoded->vtol_state, strlen(decoded->vtol_state));

	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return object->val.object.nPairs > 0 ? JsonbValueToJsonb(object) : NULL;
}

/*
 * Callback of the sampler: keep a status text until the slice is stored.
 */
static void
hold_text(void *arg, const MavlinkText *decoded)
{
	Import	   *import = arg;
	MemoryContext caller;
	JsonbParseState *state = NULL;
	HeldText   *held;

	if (decoded->time_us == MAVLINK_NO_TIME)
	{
		import->undated_texts++;
		return;
	}

	caller = MemoryContextSwitchTo(import->slice);
	if (import->ntexts == import->ntexts_allocated)
	{
		import->ntexts_allocated *= 2;
		import->texts = repalloc(import->texts, sizeof(HeldText) * import->ntexts_allocated);
	}
	held = &import->texts[import->ntexts++];
	held->occurred_at = timestamp_of(decoded->time_us);
	held->severity = Min(decoded->severity, lengthof(severities) - 1);
	held->message = make_valid_text(decoded->text, decoded->length);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	sample_push_number(&state, "system", decoded->system);
	sample_push_number(&state, "component", decoded->component);
	held->payload = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	MemoryContextSwitchTo(caller);
}

/*
 * Status texts are UTF-8 by definition and hostile in practice: what is not
 * valid, or not in the server's encoding, is replaced, a control character by
 * a blank.
 */
static text *
make_valid_text(const char *bytes, size_t length)
{
	bool		is_utf8 = GetDatabaseEncoding() == PG_UTF8;
	StringInfoData valid;
	size_t		at = 0;

	initStringInfo(&valid);
	while (at < length)
	{
		unsigned char byte = bytes[at];
		int			taken = 1;

		if (byte < 0x20 || byte == 0x7F)
			appendStringInfoChar(&valid, ' ');
		else if (byte < 0x80)
			appendStringInfoChar(&valid, byte);
		else if (!is_utf8)
			appendStringInfoChar(&valid, '?');
		else
		{
			taken = pg_encoding_verifymbchar(PG_UTF8, bytes + at, length - at);
			if (taken > 0)
				appendBinaryStringInfo(&valid, bytes + at, taken);
			else
			{
				appendStringInfoString(&valid, "\xEF\xBF\xBD");
				taken = 1;
			}
		}
		at += taken;
	}
	return cstring_to_text_with_len(valid.data, valid.len);
}

/*
 * Store the slice's status texts; those that are stored already, and all of a
 * drone that does not exist, are left out.
 */
static void
store_texts(Import *import)
{
	int			n = import->ntexts;
	Datum	   *columns[4];
	Oid			types[5] = {UUIDOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID};
	Datum		args[5];
	SqlScope	scope;

	for (int i = 0; i < lengthof(columns); i++)
		columns[i] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		HeldText   *held = &import->texts[i];

		columns[0][i] = TimestampTzGetDatum(held->occurred_at);
		columns[1][i] = CStringGetTextDatum(severities[held->severity]);
		columns[2][i] = PointerGetDatum(held->message);
		columns[3][i] = JsonbPGetDatum(held->payload);
	}
	args[0] = UUIDPGetDatum(&import->drone_id);
	args[1] = sql_array(columns[0], NULL, n, TIMESTAMPTZOID);
	args[2] = sql_array(columns[1], NULL, n, TEXTOID);
	args[3] = sql_array(columns[2], NULL, n, TEXTOID);
	args[4] = sql_array(columns[3], NULL, n, JSONBOID);

	scope = sql_begin(0);
	sql_query("INSERT INTO telemetry.drone_events"
			  " (drone_id, occurred_at, event_type, severity, message, payload, source)"
			  " SELECT d.drone_id, t.occurred_at, 'statustext', t.severity, t.message, t.payload, 'mavlink'"
			  " FROM core.drones d, ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3),"
			  " pg_catalog.unnest($4), pg_catalog.unnest($5)) AS t (occurred_at, severity, message, payload)"
			  " WHERE d.drone_id = $1"
			  " ON CONFLICT DO NOTHING",
			  5, types, args);
	sql_end(&scope);
}

/*
 * Add what the reader counted to the drone's link statistics.
 */
static void
store_counts(const Import *import, const MavlinkSampler *sampler)
{
	const MavlinkCounts *seen = &sampler->reader.counts;
	int64		last_us = mavlink_sampler_time(sampler);
	Oid			types[7] = {UUIDOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum		args[7];
	SqlScope	scope;

	args[0] = UUIDPGetDatum(&import->drone_id);
	args[1] = Int64GetDatum((int64) seen->frames);
	args[2] = Int64GetDatum((int64) seen->bad_crc);
	args[3] = Int64GetDatum((int64) seen->unknown);
	args[4] = Int64GetDatum((int64) seen->bytes_skipped);
	args[5] = Int64GetDatum((int64) seen->bytes_truncated);
	args[6] = TimestampTzGetDatum(last_us == MAVLINK_NO_TIME ? DT_NOBEGIN : timestamp_of(last_us));

	scope = sql_begin(0);
	sql_query("INSERT INTO telemetry.link_statistics AS l"
			  " (drone_id, frames_received, frames_bad_crc, frames_unknown, bytes_skipped, bytes_truncated,"
			  " last_frame_at)"
			  " SELECT d.drone_id, $2, $3, $4, $5, $6, NULLIF($7, '-infinity') FROM core.drones d"
			  " WHERE d.drone_id = $1"
			  " ON CONFLICT (drone_id) DO UPDATE SET"
			  " frames_received = l.frames_received + EXCLUDED.frames_received,"
			  " frames_bad_crc = l.frames_bad_crc + EXCLUDED.frames_bad_crc,"
			  " frames_unknown = l.frames_unknown + EXCLUDED.frames_unknown,"
			  " bytes_skipped = l.bytes_skipped + EXCLUDED.bytes_skipped,"
			  " bytes_truncated = l.bytes_truncated + EXCLUDED.bytes_truncated,"
			  " last_frame_at = GREATEST(l.last_frame_at, EXCLUDED.last_frame_at),"
			  " updated_at = pg_catalog.now()",
			  7, types, args);
	sql_end(&scope);
}
