/*
 * events_queue.h
 *		Security events on their way to a database's scheduler, in shared memory.
 */
#ifndef SENTIENT_EVENTS_QUEUE_H
#define SENTIENT_EVENTS_QUEUE_H

#include "events/events.h"

/* Collapse equal events of this many seconds. */
extern int	event_window;

extern void event_queue_init(void);

/* Is there a queue in this server? */
extern bool event_queue_exists(void);

/*
 * Put an event in.  expected: its database has the extension, as the caller
 * knows.  Returns the database whose scheduler is to be woken, or InvalidOid.
 */
extern Oid	event_queue_push(const SecurityEvent *event, bool expected);

/* The scheduler of a database takes what is due for it; what it could not write it gives back. */
extern int	event_queue_take(const char *database, SecurityEvent *events, int max);
extern void event_queue_give_back(const SecurityEvent *events, int n);
extern void event_queue_written(int64 n);

#endif							/* SENTIENT_EVENTS_QUEUE_H */
