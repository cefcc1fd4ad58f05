/*
 * mavlink_sampler.h
 *		From the frames of one vehicle to samples and status texts.
 *
 *		mavlink_sampler_init(&sampler, data, size, is_tlog, &options);
 *		while (mavlink_sampler_step(&sampler))
 *			look at interrupts;
 *
 * The input must stay where it is meanwhile.  Allocates nothing.
 */
#ifndef SENTIENT_MAVLINK_SAMPLER_H
#define SENTIENT_MAVLINK_SAMPLER_H

#include "mavlink_clock.h"
#include "mavlink_modes.h"
#include "mavlink_reader.h"
#include "mavlink_text.h"

/* The numbers that a sample can hold. */
typedef enum MavlinkValue
{
	MAVLINK_LATITUDE,
	MAVLINK_LONGITUDE,
	MAVLINK_ALTITUDE_M,
	MAVLINK_RELATIVE_ALTITUDE_M,
	MAVLINK_BATTERY_PERCENTAGE,
	MAVLINK_BATTERY_VOLTAGE_V,
	MAVLINK_GROUND_SPEED_MS,
	MAVLINK_VERTICAL_SPEED_MS,	/* positive up */
	MAVLINK_HEADING_DEG,
	MAVLINK_ROLL_DEG,
	MAVLINK_PITCH_DEG,
	MAVLINK_TEMPERATURE_C,
	MAVLINK_SIGNAL_STRENGTH_DBM,
	MAVLINK_GPS_SATELLITES,
	MAVLINK_GPS_FIX,
	/* those that have no column of their own */
	MAVLINK_AIRSPEED_MS,
	MAVLINK_CLIMB_MS,
	MAVLINK_THROTTLE_PERCENTAGE,
	MAVLINK_PRESSURE_HPA,
	MAVLINK_GPS_HDOP,
	MAVLINK_BATTERY_CURRENT_A,
	MAVLINK_BATTERY_TEMPERATURE_C,
	MAVLINK_RADIO_RSSI,			/* in the radio's own units, as sent */
	MAVLINK_RADIO_REMOTE_RSSI,
} MavlinkValue;

#define MAVLINK_NVALUES			(MAVLINK_RADIO_REMOTE_RSSI + 1)

typedef struct MavlinkSample
{
	int64_t		time_us;		/* MAVLINK_NO_TIME: nothing maps it to UTC */
	double		value[MAVLINK_NVALUES]; /* NaN: unknown */
	int			armed;			/* 1, 0, or -1: unknown */
	const char *flight_mode;	/* these three NULL: unknown */
	const char *landed_state;
	const char *vtol_state;
} MavlinkSample;

typedef struct MavlinkSamplerOptions
{
	int64_t		boot_us;		/* UTC of the vehicle's boot, or MAVLINK_NO_TIME */
	int64_t		state_age_us;	/* a sample is made of nothing older */
	void		(*on_sample) (void *arg, const MavlinkSample *sample);
	void		(*on_text) (void *arg, const MavlinkText *text);
	void	   *arg;
} MavlinkSamplerOptions;

/* What a sample takes from each message, with the boot time it came at. */
typedef enum MavlinkSlot
{
	MAVLINK_SLOT_HEARTBEAT,
	MAVLINK_SLOT_SYS_STATUS,
	MAVLINK_SLOT_GPS,
	MAVLINK_SLOT_ATTITUDE,
	MAVLINK_SLOT_HUD,
	MAVLINK_SLOT_BATTERY,
	MAVLINK_SLOT_EXTENDED,
	MAVLINK_SLOT_RADIO,
	MAVLINK_SLOT_PRESSURE,
} MavlinkSlot;

#define MAVLINK_NSLOTS			(MAVLINK_SLOT_PRESSURE + 1)
#define MAVLINK_SLOT_VALUES		5

typedef struct MavlinkState
{
	bool		is_known[MAVLINK_NSLOTS];
	int64_t		seen_ms[MAVLINK_NSLOTS];
	double		value[MAVLINK_NSLOTS][MAVLINK_SLOT_VALUES];
	bool		armed;
	char		flight_mode[MAVLINK_MODE_NAME_SIZE];
	const char *landed_state;
	const char *vtol_state;
} MavlinkState;

typedef enum MavlinkPhase
{
	MAVLINK_FIND_VEHICLE,		/* look ahead for whom the frames are of */
	MAVLINK_FIND_CLOCK,			/* look ahead for what maps this boot's time to UTC */
	MAVLINK_SAMPLE,
	MAVLINK_DONE,
} MavlinkPhase;

typedef struct MavlinkSampler
{
	MavlinkSamplerOptions options;
	MavlinkPhase phase;
	MavlinkReader reader;
	MavlinkReader ahead;		/* of the phases that look ahead */
	MavlinkClock clock;
	MavlinkClock clock_ahead;
	MavlinkState state;
	MavlinkTexts texts;
	int			vehicle_system; /* -1: none found */
	int			vehicle_component;
	int64_t		last_stamp_us;
	uint64_t	foreign_positions;	/* GLOBAL_POSITION_INT of other vehicles, left out */
	bool		is_vehicle[256];	/* systems that sent an autopilot's heartbeat */
} MavlinkSampler;

extern void mavlink_sampler_init(MavlinkSampler *sampler, const uint8_t *data, size_t size, bool is_tlog,
								 const MavlinkSamplerOptions *options);

/* Do some of the work; false when all is done. */
extern bool mavlink_sampler_step(MavlinkSampler *sampler);

/* UTC of the newest frame, or MAVLINK_NO_TIME. */
extern int64_t mavlink_sampler_time(const MavlinkSampler *sampler);

#endif							/* SENTIENT_MAVLINK_SAMPLER_H */
