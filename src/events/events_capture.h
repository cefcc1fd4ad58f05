/*
 * events_capture.h
 *		Security events of what stops the capture of an audited table, or changes its
 *		rows past it.
 */
#ifndef SENTIENT_EVENTS_CAPTURE_H
#define SENTIENT_EVENTS_CAPTURE_H

#include "commands/event_trigger.h"

extern void events_capture_init(void);

/* A command has ended; it has dropped something. */
extern void events_capture_command(const EventTriggerData *data);
extern void events_capture_dropped(const EventTriggerData *data);

#endif							/* SENTIENT_EVENTS_CAPTURE_H */
