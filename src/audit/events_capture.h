/*
 * events_capture.h
 *		Security events of what stops the capture of an audited table, or changes its
 *		rows past it.
 */
#ifndef SENTIENT_EVENTS_CAPTURE_H
#define SENTIENT_EVENTS_CAPTURE_H

#include "commands/event_trigger.h"

/* A command has ended; it has dropped something. */
extern void events_capture_command(const EventTriggerData *data);
extern void events_capture_dropped(const EventTriggerData *data);

/*
 * From here on, until called with false, the caller's commands change triggers that
 * capture, and he tells of it.  He ends that on an error, too.
 */
extern void events_capture_expect(bool begin);

/* audit.enable or audit.disable has changed what is captured; columns may be NULL. */
extern void events_capture_changed(Oid relid, bool notice, const char *operation, const char *message,
								   const char *exclude, const char *mask);

#endif							/* SENTIENT_EVENTS_CAPTURE_H */
