/*
 * mavlink_modes.c
 *		Names of flight modes, landed states and VTOL states.
 *
 * ArduPilot puts the mode's number, whose meaning depends on the kind of
 * vehicle, into custom_mode; PX4 puts a main mode into its third byte and a
 * sub-mode into its fourth.  The names are those that the projects' own ground
 * stations show.  A number without a name here becomes "MODE_<number>".
 *
 * Called by the sampler.  Pure functions of their arguments.
 */
#include "mavlink_modes.h"

#include <stddef.h>
#include <stdio.h>

#define LENGTH(array)			(sizeof(array) / sizeof((array)[0]))

#define AUTOPILOT_ARDUPILOT		3
#define AUTOPILOT_PX4			12

#define FLAG_CUSTOM				0x01
#define FLAG_AUTO				0x04
#define FLAG_GUIDED				0x08
#define FLAG_STABILIZE			0x10
#define FLAG_MANUAL				0x40

#define PX4_MAIN_AUTO			4
#define PX4_MAIN_POSCTL			3

static const char *const copter_modes[] = {
	[0] = "STABILIZE", [1] = "ACRO", [2] = "ALT_HOLD", [3] = "AUTO", [4] = "GUIDED", [5] = "LOITER", [6] = "RTL",
	[7] = "CIRCLE", [9] = "LAND", [11] = "DRIFT", [13] = "SPORT", [14] = "FLIP", [15] = "AUTOTUNE", [16] = "POSHOLD",
	[17] = "BRAKE", [18] = "THROW", [19] = "AVOID_ADSB", [20] = "GUIDED_NOGPS", [21] = "SMART_RTL",
	[22] = "FLOWHOLD", [23] = "FOLLOW", [24] = "ZIGZAG", [25] = "SYSTEMID", [26] = "AUTOROTATE", [27] = "AUTO_RTL",
	[28] = "TURTLE",
};

static const char *const plane_modes[] = {
	[0] = "MANUAL", [1] = "CIRCLE", [2] = "STABILIZE", [3] = "TRAINING", [4] = "ACRO", [5] = "FBWA", [6] = "FBWB",
	[7] = "CRUISE", [8] = "AUTOTUNE", [10] = "AUTO", [11] = "RTL", [12] = "LOITER", [13] = "TAKEOFF",
	[14] = "AVOID_ADSB", [15] = "GUIDED", [16] = "INITIALISING", [17] = "QSTABILIZE", [18] = "QHOVER",
	[19] = "QLOITER", [20] = "QLAND", [21] = "QRTL", [22] = "QAUTOTUNE", [23] = "QACRO", [24] = "THERMAL",
	[25] = "LOITER_ALT_QLAND", [26] = "AUTOLAND",
};

static const char *const rover_modes[] = {
	[0] = "MANUAL", [1] = "ACRO", [3] = "STEERING", [4] = "HOLD", [5] = "LOITER", [6] = "FOLLOW", [7] = "SIMPLE",
	[8] = "DOCK", [9] = "CIRCLE", [10] = "AUTO", [11] = "RTL", [12] = "SMART_RTL", [15] = "GUIDED",
	[16] = "INITIALISING",
};

static const char *const submarine_modes[] = {
	[0] = "STABILIZE", [1] = "ACRO", [2] = "ALT_HOLD", [3] = "AUTO", [4] = "GUIDED", [7] = "CIRCLE",
	[9] = "SURFACE", [16] = "POSHOLD", [19] = "MANUAL", [20] = "MOTOR_DETECT", [21] = "SURFTRAK",
};

static const char *const px4_main_modes[] = {
	[1] = "MANUAL", [2] = "ALTCTL", [3] = "POSCTL", [4] = "AUTO", [5] = "ACRO", [6] = "OFFBOARD",
	[7] = "STABILIZED", [8] = "RATTITUDE", [9] = "SIMPLE", [10] = "TERMINATION",
};

static const char *const px4_auto_modes[] = {
	[1] = "AUTO.READY", [2] = "AUTO.TAKEOFF", [3] = "AUTO.LOITER", [4] = "AUTO.MISSION", [5] = "AUTO.RTL",
	[6] = "AUTO.LAND", [7] = "AUTO.RTGS", [8] = "AUTO.FOLLOW_TARGET", [9] = "AUTO.PRECLAND",
	[10] = "AUTO.VTOL_TAKEOFF",
};

static const char *const px4_posctl_modes[] = {
	[0] = "POSCTL", [1] = "ORBIT", [2] = "POSCTL.SLOW",
};

static const char *const landed_states[] = {
	[1] = "on_ground", [2] = "in_air", [3] = "takeoff", [4] = "landing",
};

static const char *const vtol_states[] = {
	[1] = "transition_to_fixed_wing", [2] = "transition_to_multicopter", [3] = "multicopter", [4] = "fixed_wing",
};

#define NAME_OF(table, number)	((number) < LENGTH(table) ? (table)[number] : NULL)

bool
mavlink_type_is_vehicle(uint8_t type)
{
	switch (type)
	{
		case 5:					/* antenna tracker */
		case MAVLINK_TYPE_GCS:
		case 18:				/* onboard controller */
		case 26:				/* gimbal */
		case 27:				/* ADSB */
		case 30:				/* camera */
		case 31:				/* charging station */
		case 32:				/* FLARM */
		case 33:				/* servo */
		case 34:				/* Open Drone ID */
		case 36:				/* battery */
		case 37:				/* parachute */
		case 38:				/* log */
		case 39:				/* OSD */
		case 40:				/* IMU */
		case 41:				/* GPS */
		case 42:				/* winch */
		case 44:				/* illuminator */
		case 48:				/* gripper */
		case 49:				/* radio */
			return false;
		default:
			return true;
	}
}

static const char *
ardupilot_mode_name(uint8_t type, uint32_t mode)
{
	switch (type)
	{
		case 1:					/* fixed wing */
		case 16:				/* flapping wing */
		case 17:				/* kite */
		case 28:				/* parafoil */
		case 47:				/* gyrodyne */
			return NAME_OF(plane_modes, mode);
		case 10:				/* ground rover */
		case 11:				/* surface boat */
		case 46:				/* quadruped */
			return NAME_OF(rover_modes, mode);
		case 12:				/* submarine */
			return NAME_OF(submarine_modes, mode);
		case 2:					/* quadrotor */
		case 3:					/* coaxial */
		case 4:					/* helicopter */
		case 13:				/* hexarotor */
		case 14:				/* octorotor */
		case 15:				/* tricopter */
		case 29:				/* dodecarotor */
		case 35:				/* decarotor */
		case 43:				/* multirotor */
			return NAME_OF(copter_modes, mode);
		default:
			/* The VTOL types fly ArduPlane. */
			return type >= 19 && type <= 25 ? NAME_OF(plane_modes, mode) : NULL;
	}
}

static const char *
px4_mode_name(uint32_t custom_mode)
{
	uint8_t		main_mode = (uint8_t) (custom_mode >> 16);
	uint8_t		sub_mode = (uint8_t) (custom_mode >> 24);
	const char *name = NULL;

	if (main_mode == PX4_MAIN_AUTO)
		name = NAME_OF(px4_auto_modes, sub_mode);
	else if (main_mode == PX4_MAIN_POSCTL)
		name = NAME_OF(px4_posctl_modes, sub_mode);
	return name != NULL ? name : NAME_OF(px4_main_modes, main_mode);
}

void
mavlink_mode_name(uint8_t autopilot, uint8_t type, uint8_t base_mode, uint32_t custom_mode,
				  char name[MAVLINK_MODE_NAME_SIZE])
{
	const char *known = NULL;

	if (base_mode & FLAG_CUSTOM)
	{
		if (autopilot == AUTOPILOT_ARDUPILOT)
			known = ardupilot_mode_name(type, custom_mode);
		else if (autopilot == AUTOPILOT_PX4)
			known = px4_mode_name(custom_mode);
	}
	else if (base_mode & FLAG_AUTO)
		known = "AUTO";
	else if (base_mode & FLAG_GUIDED)
		known = "GUIDED";
	else if (base_mode & FLAG_STABILIZE)
		known = "STABILIZE";
	else if (base_mode & FLAG_MANUAL)
		known = "MANUAL";

	if (known != NULL)
		snprintf(name, MAVLINK_MODE_NAME_SIZE, "%s", known);
	else
		snprintf(name, MAVLINK_MODE_NAME_SIZE, "MODE_%lu", (unsigned long) custom_mode);
}

const char *
mavlink_landed_state_name(uint8_t state)
{
	return NAME_OF(landed_states, state);
}

const char *
mavlink_vtol_state_name(uint8_t state)
{
	return NAME_OF(vtol_states, state);
}
