/*
 * key_events.h
 *		What happens to data keys, for those who keep a record of it.
 */
#ifndef SENTIENT_KEY_EVENTS_H
#define SENTIENT_KEY_EVENTS_H

#include "utils/uuid.h"

/*
 * Called in the transaction that does it.  "key_created" comes from the worker
 * that makes a key.  The others come from the session of the user who asked:
 * "key_rotated" (the new key), "key_wrapped" (anew, by another master key),
 * "key_destroyed".  May raise an error.
 */
typedef void (*key_event_hook_type) (const char *event, const pg_uuid_t *key_id);

extern key_event_hook_type key_event_hook;

#endif							/* SENTIENT_KEY_EVENTS_H */
