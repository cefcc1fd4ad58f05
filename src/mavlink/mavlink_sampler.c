/*
 * mavlink_sampler.c
 *		From the frames of one vehicle to samples and status texts.
 *
 * Each GLOBAL_POSITION_INT makes a sample; what it does not say itself comes
 * from the newest other messages, as long as they are not older than the
 * caller allows.  Age is measured on the vehicle's own clock: a message without
 * a boot time counts as sent at the newest boot time seen.
 *
 * An input can hold frames of several systems: the vehicle, a ground station,
 * radios, gimbals, other vehicles.  The vehicle is the first system that sends
 * an autopilot's heartbeat, else the first that sends a position.  Its autopilot
 * alone sets the state; any of its components may report a battery or send a
 * status text, and radios report as systems of their own.
 *
 * Whom the frames are of and when the vehicle booted is often said only after
 * the first positions, so that the sampler reads ahead for both: once from the
 * start for the vehicle, and once in each boot for its SYSTEM_TIME.  After a
 * reboot nothing that was known before holds any longer.
 *
 * A value that its message declares unknown (by UINT16_MAX, -1, 255, ... as the
 * field's definition says) or that is no number stays unknown; it is never
 * taken for 0.
 *
 * Called by the SQL functions and the fuzzer.  Keeps no state but the caller's
 * struct.
 */
#include "mavlink_sampler.h"

#include <math.h>
#include <string.h>

#include "mavlink_tlog.h"

#define FRAMES_PER_STEP			512
#define NO_SYSTEM				(-1)
#define US_PER_MS				INT64_C(1000)
#define DEGREES_PER_RADIAN		57.29577951308232

/* A SiK radio's address, and its scale as its makers state it. */
#define SIK_SYSTEM				'3'
#define SIK_COMPONENT			'D'
#define SIK_RSSI_SCALE			1.9
#define SIK_RSSI_OFFSET			127.0

#define GPS_FIX_2D				2

/* Places of the values within their slots. */
enum
{
	SYS_PERCENTAGE, SYS_VOLTAGE, SYS_CURRENT,
	GPS_FIX = 0, GPS_SATELLITES, GPS_HDOP,
	ATTITUDE_ROLL = 0, ATTITUDE_PITCH,
	HUD_AIRSPEED = 0, HUD_GROUND_SPEED, HUD_HEADING, HUD_THROTTLE, HUD_CLIMB,
	BATTERY_PERCENTAGE = 0, BATTERY_VOLTAGE, BATTERY_CURRENT, BATTERY_TEMPERATURE,
	RADIO_DBM = 0, RADIO_RSSI, RADIO_REMOTE_RSSI,
	PRESSURE_HPA = 0, PRESSURE_TEMPERATURE,
};

static bool boot_time_of(const MavlinkFrame *frame, const uint8_t *payload, uint32_t *boot_ms);
static bool from_autopilot(const MavlinkSampler *sampler, const MavlinkFrame *frame);
static bool find_vehicle(MavlinkSampler *sampler, const MavlinkFrame *frame);
static void begin_boot(MavlinkSampler *sampler);
static bool find_clock(MavlinkSampler *sampler, const MavlinkFrame *frame);
static bool take_frame(MavlinkSampler *sampler, const MavlinkFrame *frame);
static double *set_slot(MavlinkSampler *sampler, MavlinkSlot slot, int64_t seen_ms);
static void take_battery(MavlinkSampler *sampler, const uint8_t *payload);
static void take_radio(MavlinkSampler *sampler, const MavlinkFrame *frame, const uint8_t *payload);
static void make_sample(MavlinkSampler *sampler, const uint8_t *payload, int64_t boot_ms);

/* Little-endian fields of a payload, and sentinels to NaN. */

static uint16_t
get_u16(const uint8_t *payload, int offset)
{
	return (uint16_t) (payload[offset] | payload[offset + 1] << 8);
}

static int16_t
get_i16(const uint8_t *payload, int offset)
{
	return (int16_t) get_u16(payload, offset);
}

static uint32_t
get_u32(const uint8_t *payload, int offset)
{
	return (uint32_t) get_u16(payload, offset) | (uint32_t) get_u16(payload, offset + 2) << 16;
}

static int32_t
get_i32(const uint8_t *payload, int offset)
{
	return (int32_t) get_u32(payload, offset);
}

static uint64_t
get_u64(const uint8_t *payload, int offset)
{
	return (uint64_t) get_u32(payload, offset) | (uint64_t) get_u32(payload, offset + 4) << 32;
}

static double
get_float(const uint8_t *payload, int offset)
{
	uint32_t	bits = get_u32(payload, offset);
	float		value;

	memcpy(&value, &bits, sizeof(value));
	return isfinite(value) ? value : NAN;
}

static double
unless(double value, double unknown)
{
	return value == unknown ? NAN : value;
}

static double
within(double value, double lowest, double highest)
{
	return value >= lowest && value <= highest ? value : NAN;
}

static double
prefer(double first, double second)
{
	return isnan(first) ? second : first;
}

/* -180 to 180 */
static double
signed_degrees(double degrees)
{
	return remainder(degrees, 360.0);
}

/* 0 to 360, without 360 */
static double
compass_degrees(double degrees)
{
	double		rest = fmod(degrees, 360.0);

	return rest < 0 ? rest + 360.0 : rest;
}

void
mavlink_sampler_init(MavlinkSampler *sampler, const uint8_t *data, size_t size, bool is_tlog,
					 const MavlinkSamplerOptions *options)
{
	memset(sampler, 0, sizeof(*sampler));
	sampler->options = *options;
	mavlink_reader_init(&sampler->reader, data, size, is_tlog);
	sampler->ahead = sampler->reader;
	sampler->phase = MAVLINK_FIND_VEHICLE;
	sampler->vehicle_system = NO_SYSTEM;
	sampler->last_stamp_us = MAVLINK_NO_TIME;
	sampler->texts.on_text = options->on_text;
	sampler->texts.arg = options->arg;
}

bool
mavlink_sampler_step(MavlinkSampler *sampler)
{
	for (int i = 0; i < FRAMES_PER_STEP && sampler->phase != MAVLINK_DONE; i++)
	{
		bool		looks_ahead = sampler->phase != MAVLINK_SAMPLE;
		MavlinkReader before = sampler->reader;
		MavlinkFrame frame;
		MavlinkRead read = mavlink_reader_next(looks_ahead ? &sampler->ahead : &sampler->reader, &frame);
		bool		is_found;

		if (read == MAVLINK_READ_BUSY)
			return true;
		if (read == MAVLINK_READ_UNKNOWN)
			continue;

		switch (sampler->phase)
		{
			case MAVLINK_FIND_VEHICLE:
				is_found = read == MAVLINK_READ_END || find_vehicle(sampler, &frame);
				if (is_found)
				{
					begin_boot(sampler);
					if (sampler->options.boot_us != MAVLINK_NO_TIME)
					{
						sampler->clock.source = sampler->clock_ahead.source = MAVLINK_TIME_CALLER;
						sampler->clock.boot_us = sampler->clock_ahead.boot_us = sampler->options.boot_us;
					}
				}
				break;
			case MAVLINK_FIND_CLOCK:
				is_found = read == MAVLINK_READ_END || find_clock(sampler, &frame);
				if (is_found)
					sampler->phase = MAVLINK_SAMPLE;
				break;
			default:
				if (read == MAVLINK_READ_END)
				{
					mavlink_texts_flush(&sampler->texts);
					sampler->phase = MAVLINK_DONE;
				}
				else if (!take_frame(sampler, &frame))
				{
					/* Booted anew: this frame is the first of another time. */
					sampler->reader = before;
					begin_boot(sampler);
				}
				break;
		}
	}
	return sampler->phase != MAVLINK_DONE;
}

int64_t
mavlink_sampler_time(const MavlinkSampler *sampler)
{
	if (sampler->clock.is_running && sampler->clock.source != MAVLINK_TIME_NONE)
		return mavlink_clock_utc(&sampler->clock, sampler->clock.now_ms);
	return sampler->last_stamp_us;
}

/*
 * Get the time since boot out of the messages that are worth looking at for it.
 */
static bool
boot_time_of(const MavlinkFrame *frame, const uint8_t *payload, uint32_t *boot_ms)
{
	switch (frame->id)
	{
		case MAVLINK_SYSTEM_TIME:
			*boot_ms = get_u32(payload, 8);
			return true;
		case MAVLINK_SCALED_PRESSURE:
		case MAVLINK_ATTITUDE:
		case MAVLINK_ATTITUDE_QUATERNION:
		case MAVLINK_LOCAL_POSITION_NED:
		case MAVLINK_GLOBAL_POSITION_INT:
			*boot_ms = get_u32(payload, 0);
			return true;
		default:
			return false;
	}
}

static bool
from_autopilot(const MavlinkSampler *sampler, const MavlinkFrame *frame)
{
	return frame->system == sampler->vehicle_system && frame->component == sampler->vehicle_component;
}

/*
 * Is this the vehicle?  A position makes its sender a candidate, which the
 * heartbeat of a ground station takes back and that of an autopilot overrides.
 */
static bool
find_vehicle(MavlinkSampler *sampler, const MavlinkFrame *frame)
{
	uint8_t		payload[MAVLINK_MAX_PAYLOAD + 1];

	if (frame->id == MAVLINK_GLOBAL_POSITION_INT && sampler->vehicle_system == NO_SYSTEM)
	{
		sampler->vehicle_system = frame->system;
		sampler->vehicle_component = frame->component;
	}
	if (frame->id != MAVLINK_HEARTBEAT)
		return false;

	mavlink_frame_payload(frame, payload);
	if (payload[5] != MAVLINK_AUTOPILOT_INVALID && mavlink_type_is_vehicle(payload[4]))
	{
		sampler->vehicle_system = frame->system;
		sampler->vehicle_component = frame->component;
		return true;
	}
	if (payload[4] == MAVLINK_TYPE_GCS && sampler->vehicle_system == frame->system)
		sampler->vehicle_system = NO_SYSTEM;
	return false;
}

/*
 * Forget everything that a boot ends, and look for the new one's clock.
 */
static void
begin_boot(MavlinkSampler *sampler)
{
	memset(&sampler->state, 0, sizeof(sampler->state));
	memset(&sampler->clock, 0, sizeof(sampler->clock));
	sampler->clock_ahead = sampler->clock;
	sampler->ahead = sampler->reader;
	sampler->phase = MAVLINK_FIND_CLOCK;
}

/*
 * Read ahead in this boot until its time is known: then, or where the boot
 * ends, the answer is true.  The clock is set to the first boot time, so that
 * what comes before it in the input has an age as well.
 */
static bool
find_clock(MavlinkSampler *sampler, const MavlinkFrame *frame)
{
	MavlinkClock *ahead = &sampler->clock_ahead;
	uint8_t		payload[MAVLINK_MAX_PAYLOAD + 1];
	uint32_t	raw_ms;
	int64_t		boot_ms;

	if (!from_autopilot(sampler, frame))
		return false;
	mavlink_frame_payload(frame, payload);
	if (!boot_time_of(frame, payload, &raw_ms))
		return false;

	boot_ms = mavlink_clock_advance(ahead, raw_ms);
	if (boot_ms < 0)
		return true;
	if (!sampler->clock.is_running)
		mavlink_clock_advance(&sampler->clock, raw_ms);

	if (frame->id == MAVLINK_SYSTEM_TIME)
	{
		mavlink_clock_learn_system(ahead, get_u64(payload, 0), boot_ms);
		mavlink_clock_learn_system(&sampler->clock, get_u64(payload, 0), boot_ms);
	}
	return ahead->source >= MAVLINK_TIME_SYSTEM;
}

/*
 * Learn from a frame, and make the sample or the text that it stands for.
 * False when it shows that the vehicle was booted anew; nothing is changed then.
 */
static bool
take_frame(MavlinkSampler *sampler, const MavlinkFrame *frame)
{
	MavlinkState *state = &sampler->state;
	bool		is_autopilot = from_autopilot(sampler, frame);
	uint8_t		payload[MAVLINK_MAX_PAYLOAD + 1];
	uint32_t	raw_ms;
	int64_t		boot_ms = sampler->clock.now_ms;
	int64_t		time_us;
	double	   *value;

	switch (frame->id)
	{
		case MAVLINK_HEARTBEAT:
		case MAVLINK_SYS_STATUS:
		case MAVLINK_SYSTEM_TIME:
		case MAVLINK_GPS_RAW_INT:
		case MAVLINK_SCALED_PRESSURE:
		case MAVLINK_ATTITUDE:
		case MAVLINK_ATTITUDE_QUATERNION:
		case MAVLINK_LOCAL_POSITION_NED:
		case MAVLINK_GLOBAL_POSITION_INT:
		case MAVLINK_VFR_HUD:
		case MAVLINK_RADIO_STATUS:
		case MAVLINK_BATTERY_STATUS:
		case MAVLINK_RADIO:
		case MAVLINK_EXTENDED_SYS_STATE:
		case MAVLINK_STATUSTEXT:
			mavlink_frame_payload(frame, payload);
			break;
		default:
			if (frame->stamp_us != MAVLINK_NO_TIME)
				sampler->last_stamp_us = frame->stamp_us;
			return true;
	}

	if (is_autopilot && boot_time_of(frame, payload, &raw_ms))
	{
		boot_ms = mavlink_clock_advance(&sampler->clock, raw_ms);
		if (boot_ms < 0)
			return false;
		mavlink_clock_learn_stamp(&sampler->clock, frame->stamp_us, boot_ms);
	}
	if (frame->stamp_us != MAVLINK_NO_TIME)
		sampler->last_stamp_us = frame->stamp_us;

	/* What others than the vehicle's autopilot may say. */
	switch (frame->id)
	{
		case MAVLINK_HEARTBEAT:
			if (payload[5] != MAVLINK_AUTOPILOT_INVALID && mavlink_type_is_vehicle(payload[4]))
				sampler->is_vehicle[frame->system] = true;
			break;
		case MAVLINK_GLOBAL_POSITION_INT:
			if (frame->system != sampler->vehicle_system && sampler->is_vehicle[frame->system])
				sampler->foreign_positions++;
			break;
		case MAVLINK_RADIO_STATUS:
		case MAVLINK_RADIO:
			take_radio(sampler, frame, payload);
			break;
		case MAVLINK_BATTERY_STATUS:
			if (frame->system == sampler->vehicle_system)
				take_battery(sampler, payload);
			break;
		case MAVLINK_STATUSTEXT:
			if (frame->system == sampler->vehicle_system || sampler->vehicle_system == NO_SYSTEM)
			{
				time_us = sampler->clock.is_running ? mavlink_clock_utc(&sampler->clock, boot_ms) : MAVLINK_NO_TIME;
				mavlink_texts_add(&sampler->texts, frame, payload,
								  time_us != MAVLINK_NO_TIME ? time_us : frame->stamp_us);
			}
			break;
		default:
			break;
	}
	if (!is_autopilot)
		return true;

	switch (frame->id)
	{
		case MAVLINK_HEARTBEAT:
			if (payload[5] == MAVLINK_AUTOPILOT_INVALID || !mavlink_type_is_vehicle(payload[4]))
				break;
			set_slot(sampler, MAVLINK_SLOT_HEARTBEAT, boot_ms);
			state->armed = (payload[6] & 0x80) != 0;
			mavlink_mode_name(payload[5], payload[4], payload[6], get_u32(payload, 0), state->flight_mode);
			break;
		case MAVLINK_SYS_STATUS:
			value = set_slot(sampler, MAVLINK_SLOT_SYS_STATUS, boot_ms);
			value[SYS_PERCENTAGE] = within((int8_t) payload[30], 0, 100);
			value[SYS_VOLTAGE] = unless(get_u16(payload, 14), UINT16_MAX) / 1000.0;
			value[SYS_CURRENT] = unless(get_i16(payload, 16), -1) / 100.0;

			/* ArduPilot without a battery monitor: no current, no charge, 0 mV. */
			if (value[SYS_VOLTAGE] == 0 && isnan(value[SYS_CURRENT]) && isnan(value[SYS_PERCENTAGE]))
				value[SYS_VOLTAGE] = NAN;
			break;
		case MAVLINK_SYSTEM_TIME:
			mavlink_clock_learn_system(&sampler->clock, get_u64(payload, 0), boot_ms);
			break;
		case MAVLINK_GPS_RAW_INT:
			value = set_slot(sampler, MAVLINK_SLOT_GPS, boot_ms);
			value[GPS_FIX] = payload[28];
			value[GPS_SATELLITES] = unless(payload[29], UINT8_MAX);
			value[GPS_HDOP] = unless(get_u16(payload, 20), UINT16_MAX) / 100.0;
			break;
		case MAVLINK_SCALED_PRESSURE:
			value = set_slot(sampler, MAVLINK_SLOT_PRESSURE, boot_ms);
			value[PRESSURE_HPA] = get_float(payload, 4);
			value[PRESSURE_TEMPERATURE] = unless(get_i16(payload, 12), INT16_MAX) / 100.0;
			break;
		case MAVLINK_ATTITUDE:
			value = set_slot(sampler, MAVLINK_SLOT_ATTITUDE, boot_ms);
			value[ATTITUDE_ROLL] = signed_degrees(get_float(payload, 4) * DEGREES_PER_RADIAN);
			value[ATTITUDE_PITCH] = signed_degrees(get_float(payload, 8) * DEGREES_PER_RADIAN);
			break;
		case MAVLINK_GLOBAL_POSITION_INT:
			make_sample(sampler, payload, boot_ms);
			break;
		case MAVLINK_VFR_HUD:
			value = set_slot(sampler, MAVLINK_SLOT_HUD, boot_ms);
			value[HUD_AIRSPEED] = get_float(payload, 0);
			value[HUD_GROUND_SPEED] = get_float(payload, 4);
			value[HUD_CLIMB] = get_float(payload, 12);
			value[HUD_HEADING] = within(get_i16(payload, 16), 0, 360);
			value[HUD_THROTTLE] = within(get_u16(payload, 18), 0, 100);
			break;
		case MAVLINK_EXTENDED_SYS_STATE:
			set_slot(sampler, MAVLINK_SLOT_EXTENDED, boot_ms);
			state->vtol_state = mavlink_vtol_state_name(payload[0]);
			state->landed_state = mavlink_landed_state_name(payload[1]);
			break;
		default:
			break;
	}
	return true;
}

/*
 * Say that a slot is filled anew; returns its values, all unknown.
 */
static double *
set_slot(MavlinkSampler *sampler, MavlinkSlot slot, int64_t seen_ms)
{
	MavlinkState *state = &sampler->state;

	state->is_known[slot] = true;
	state->seen_ms[slot] = seen_ms;
	for (int i = 0; i < MAVLINK_SLOT_VALUES; i++)
		state->value[slot][i] = NAN;
	return state->value[slot];
}

/*
 * BATTERY_STATUS of the main battery.  Its voltage is the sum over its cells; a
 * battery that does not know them reports the whole as its first cell.
 */
static void
take_battery(MavlinkSampler *sampler, const uint8_t *payload)
{
	double		millivolts = 0;
	bool		is_measured = false;
	double	   *value;

	if (payload[32] != 0)
		return;

	for (int cell = 0; cell < 10; cell++)
	{
		uint16_t	cell_mv = get_u16(payload, 10 + 2 * cell);

		if (cell_mv != UINT16_MAX)
		{
			millivolts += cell_mv;
			is_measured = true;
		}
	}
	for (int cell = 0; cell < 4 && is_measured; cell++)
	{
		uint16_t	cell_mv = get_u16(payload, 41 + 2 * cell);

		/* Unlike above, 0 stands for an absent cell here. */
		if (cell_mv != UINT16_MAX)
			millivolts += cell_mv;
	}

	value = set_slot(sampler, MAVLINK_SLOT_BATTERY, sampler->clock.now_ms);
	value[BATTERY_PERCENTAGE] = within((int8_t) payload[35], 0, 100);
	value[BATTERY_VOLTAGE] = is_measured ? millivolts / 1000.0 : NAN;
	value[BATTERY_CURRENT] = unless(get_i16(payload, 30), -1) / 100.0;
	value[BATTERY_TEMPERATURE] = unless(get_i16(payload, 8), INT16_MAX) / 100.0;
}

/*
 * RADIO_STATUS, or RADIO with the same layout.  Its units are the radio's own:
 * a SiK radio has a known scale; others send dBm as a negative number in the
 * unsigned byte, or something that cannot be told in dBm.
 */
static void
take_radio(MavlinkSampler *sampler, const MavlinkFrame *frame, const uint8_t *payload)
{
	double	   *value = set_slot(sampler, MAVLINK_SLOT_RADIO, sampler->clock.now_ms);
	uint8_t		rssi = payload[4];

	value[RADIO_RSSI] = unless(rssi, UINT8_MAX);
	value[RADIO_REMOTE_RSSI] = unless(payload[5], UINT8_MAX);
	if (rssi == UINT8_MAX)
		return;
	if (frame->system == SIK_SYSTEM && frame->component == SIK_COMPONENT)
		value[RADIO_DBM] = rssi / SIK_RSSI_SCALE - SIK_RSSI_OFFSET;
	else if ((int8_t) rssi < 0)
		value[RADIO_DBM] = (int8_t) rssi;
}

/*
 * Was a slot filled, and recently enough for a sample of that time?
 */
static bool
slot_is_fresh(const MavlinkSampler *sampler, MavlinkSlot slot, int64_t boot_ms)
{
	const MavlinkState *state = &sampler->state;

	return state->is_known[slot] && (boot_ms - state->seen_ms[slot]) * US_PER_MS <= sampler->options.state_age_us;
}

/*
 * A value of a slot, NaN when it is unknown or too old.
 */
static double
slot_value(const MavlinkSampler *sampler, MavlinkSlot slot, int index, int64_t boot_ms)
{
	return slot_is_fresh(sampler, slot, boot_ms) ? sampler->state.value[slot][index] : NAN;
}

/*
 * Make the sample that a GLOBAL_POSITION_INT stands for.
 */
static void
make_sample(MavlinkSampler *sampler, const uint8_t *payload, int64_t boot_ms)
{
	const MavlinkState *state = &sampler->state;
	MavlinkSample sample = {.armed = -1};
	double	   *value = sample.value;
	int32_t		latitude = get_i32(payload, 4);
	int32_t		longitude = get_i32(payload, 8);
	double		north_cms = unless(get_i16(payload, 20), INT16_MAX);
	double		east_cms = unless(get_i16(payload, 22), INT16_MAX);
	double		down_cms = unless(get_i16(payload, 24), INT16_MAX);

#define STATE(slot, index)	slot_value(sampler, MAVLINK_SLOT_##slot, index, boot_ms)

	sample.time_us = mavlink_clock_utc(&sampler->clock, boot_ms);

	/* Autopilots send zeros for a position before the first fix. */
	if (latitude == 0 && longitude == 0 && STATE(GPS, GPS_FIX) < GPS_FIX_2D)
		value[MAVLINK_LATITUDE] = value[MAVLINK_LONGITUDE] = NAN;
	else
	{
		value[MAVLINK_LATITUDE] = latitude / 1e7;
		value[MAVLINK_LONGITUDE] = longitude / 1e7;
	}
	value[MAVLINK_ALTITUDE_M] = get_i32(payload, 12) / 1000.0;
	value[MAVLINK_RELATIVE_ALTITUDE_M] = get_i32(payload, 16) / 1000.0;
	value[MAVLINK_GROUND_SPEED_MS] = prefer(hypot(north_cms, east_cms) / 100.0, STATE(HUD, HUD_GROUND_SPEED));
	value[MAVLINK_VERTICAL_SPEED_MS] = prefer((0.0 - down_cms) / 100.0, STATE(HUD, HUD_CLIMB));
	value[MAVLINK_HEADING_DEG] = compass_degrees(prefer(unless(get_u16(payload, 26), UINT16_MAX) / 100.0,
														STATE(HUD, HUD_HEADING)));
	value[MAVLINK_ROLL_DEG] = STATE(ATTITUDE, ATTITUDE_ROLL);
	value[MAVLINK_PITCH_DEG] = STATE(ATTITUDE, ATTITUDE_PITCH);
	value[MAVLINK_BATTERY_PERCENTAGE] = prefer(STATE(BATTERY, BATTERY_PERCENTAGE), STATE(SYS_STATUS, SYS_PERCENTAGE));
	value[MAVLINK_BATTERY_VOLTAGE_V] = prefer(STATE(BATTERY, BATTERY_VOLTAGE), STATE(SYS_STATUS, SYS_VOLTAGE));
	value[MAVLINK_BATTERY_CURRENT_A] = prefer(STATE(BATTERY, BATTERY_CURRENT), STATE(SYS_STATUS, SYS_CURRENT));
	value[MAVLINK_BATTERY_TEMPERATURE_C] = STATE(BATTERY, BATTERY_TEMPERATURE);
	value[MAVLINK_TEMPERATURE_C] = STATE(PRESSURE, PRESSURE_TEMPERATURE);
	value[MAVLINK_PRESSURE_HPA] = STATE(PRESSURE, PRESSURE_HPA);
	value[MAVLINK_GPS_FIX] = STATE(GPS, GPS_FIX);
	value[MAVLINK_GPS_SATELLITES] = STATE(GPS, GPS_SATELLITES);
	value[MAVLINK_GPS_HDOP] = STATE(GPS, GPS_HDOP);
	value[MAVLINK_AIRSPEED_MS] = STATE(HUD, HUD_AIRSPEED);
	value[MAVLINK_CLIMB_MS] = STATE(HUD, HUD_CLIMB);
	value[MAVLINK_THROTTLE_PERCENTAGE] = STATE(HUD, HUD_THROTTLE);
	value[MAVLINK_SIGNAL_STRENGTH_DBM] = STATE(RADIO, RADIO_DBM);
	value[MAVLINK_RADIO_RSSI] = STATE(RADIO, RADIO_RSSI);
	value[MAVLINK_RADIO_REMOTE_RSSI] = STATE(RADIO, RADIO_REMOTE_RSSI);

	if (slot_is_fresh(sampler, MAVLINK_SLOT_HEARTBEAT, boot_ms))
	{
		sample.flight_mode = state->flight_mode;
		sample.armed = state->armed;
	}
	if (slot_is_fresh(sampler, MAVLINK_SLOT_EXTENDED, boot_ms))
	{
		sample.landed_state = state->landed_state;
		sample.vtol_state = state->vtol_state;
	}

#undef STATE

	sampler->options.on_sample(sampler->options.arg, &sample);
}
