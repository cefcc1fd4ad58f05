/*
 * telemetry.h
 *		Start-up of the telemetry module.
 */
#ifndef SENTIENT_TELEMETRY_H
#define SENTIENT_TELEMETRY_H

extern void telemetry_init(void);

#endif							/* SENTIENT_TELEMETRY_H */
