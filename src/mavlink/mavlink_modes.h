/*
 * mavlink_modes.h
 *		Names of what a heartbeat reports.
 */
#ifndef SENTIENT_MAVLINK_MODES_H
#define SENTIENT_MAVLINK_MODES_H

#include <stdbool.h>
#include <stdint.h>

#define MAVLINK_AUTOPILOT_INVALID	8
#define MAVLINK_TYPE_GCS			6

#define MAVLINK_MODE_NAME_SIZE		32

/* Is this MAV_TYPE something that flies, drives or swims by itself? */
extern bool mavlink_type_is_vehicle(uint8_t type);

/* Write the flight mode's name into name. */
extern void mavlink_mode_name(uint8_t autopilot, uint8_t type, uint8_t base_mode, uint32_t custom_mode,
							  char name[MAVLINK_MODE_NAME_SIZE]);

/* Names of MAV_LANDED_STATE and MAV_VTOL_STATE; NULL when undefined. */
extern const char *mavlink_landed_state_name(uint8_t state);
extern const char *mavlink_vtol_state_name(uint8_t state);

#endif							/* SENTIENT_MAVLINK_MODES_H */
