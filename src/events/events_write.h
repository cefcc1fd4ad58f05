/*
 * events_write.h
 *		Rows of audit.security_events.
 */
#ifndef SENTIENT_EVENTS_WRITE_H
#define SENTIENT_EVENTS_WRITE_H

#include "events/events.h"

/* Insert rows, in this transaction, as the extension's owner; an event without an id gets one. */
extern void events_write(SecurityEvent *events, int n);

/* Insert one row of the columns of entry.h, inside a scope; its transaction and MAC are filled in. */
extern void events_insert(Datum *values, bool *nulls);

/* The scheduler's job: write what waits in shared memory. */
extern void events_write_queued(bool requested);

#endif							/* SENTIENT_EVENTS_WRITE_H */
