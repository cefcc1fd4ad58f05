/*
 * events_file.h
 *		Security events that wait while the server is down.
 */
#ifndef SENTIENT_EVENTS_FILE_H
#define SENTIENT_EVENTS_FILE_H

#include "events/events.h"

/* Gives the next event to be kept; false after the last. */
typedef bool (*EventSource) (SecurityEvent *event, void *arg);

/*
 * Called by the postmaster only, at its end and at its start; neither raises an
 * error.  Writing tells whether it has asked the source to its end.
 */
extern bool event_file_write(EventSource next, void *arg);
extern void event_file_read(void (*put) (const SecurityEvent *event));

#endif							/* SENTIENT_EVENTS_FILE_H */
