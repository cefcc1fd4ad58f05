/*
 * events_crypto.c
 *		Security events of the crypto module: keys made, rotated, destroyed, and
 *		sealed values that people have opened.
 *
 * What a user does to a key is written with it.  A key that is made, by a worker
 * and possibly the very key of the events' MAC, and opened values, which were
 * seen even if the transaction rolls back, go through shared memory.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/uuid.h"

#include "crypto/key_events.h"
#include "events/events_hooks.h"
#include "sealed/unseal_count.h"

static void
note_key(const char *operation, const pg_uuid_t *key_id)
{
	SecurityEvent event;

	security_event_begin(&event, EVENT_KEY, EVENT_SUCCEEDED);
	security_event_object(&event, DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(key_id))));
	security_event_message(&event, operation);
	if (strcmp(operation, "key_created") == 0)
		(void) security_event_queue(&event);
	else
	{
		if (strcmp(operation, "key_destroyed") == 0)
			security_event_severity(&event, SEVERITY_WARNING);
		security_event(&event);
	}
}

static void
note_unsealed(int64 values, EventOutcome outcome)
{
	SecurityEvent event;

	if (values == 0)
		return;
	security_event_begin(&event, EVENT_UNSEAL, outcome);
	event.amount = values;
	(void) security_event_queue(&event);
}

static void
note_unseal(const UnsealEvent *unsealed)
{
	note_unsealed(unsealed->opened, EVENT_SUCCEEDED);
	note_unsealed(unsealed->refused, EVENT_FAILED);
}

void
events_crypto_init(void)
{
	key_event_hook = note_key;
	unseal_event_hook = note_unseal;
}
