/*
 * events.h
 *		Security events: who tried what, and whether it succeeded.
 *
 *		SecurityEvent event;
 *		security_event_begin(&event, EVENT_KEY, EVENT_SUCCEEDED);
 *		security_event_object(&event, "...");
 *		security_event_detail(&event, "operation", "rotate");
 *		security_event(&event);			or security_event_queue(&event);
 *
 * What is written with a change belongs into its transaction: security_event.
 * What must be known although its transaction fails, or changes nothing, goes
 * through shared memory: security_event_queue.  Neither may be given a secret:
 * names of objects and commands, never the text of a statement or a value.
 */
#ifndef SENTIENT_EVENTS_H
#define SENTIENT_EVENTS_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

typedef enum SecurityEventType
{
	EVENT_LOGIN,
	EVENT_DENIED,
	EVENT_ROLE_SET,
	EVENT_ROLE_CHANGED,
	EVENT_PRIVILEGE_CHANGED,
	EVENT_DDL,
	EVENT_DATABASE_CHANGED,
	EVENT_EXTENSION_CHANGED,
	EVENT_SETTING_CHANGED,
	EVENT_AUDIT_CHANGED,
	EVENT_SUPERUSER,
	EVENT_BULK_READ,
	EVENT_KEY,
	EVENT_UNSEAL,
	EVENT_INTEGRITY,
	EVENT_RESTORE,
	EVENT_EVENTS_LOST,
	EVENT_TYPES,
} SecurityEventType;

typedef enum EventSeverity
{
	SEVERITY_EMERGENCY,
	SEVERITY_ALERT,
	SEVERITY_CRITICAL,
	SEVERITY_ERROR,
	SEVERITY_WARNING,
	SEVERITY_NOTICE,
	SEVERITY_INFO,
	SEVERITY_DEBUG,
} EventSeverity;

typedef enum EventOutcome
{
	EVENT_FAILED,
	EVENT_SUCCEEDED,
	EVENT_NO_OUTCOME,
} EventOutcome;

#define EVENT_OBJECT_BYTES		160
#define EVENT_MESSAGE_BYTES		200
#define EVENT_DETAILS_BYTES		480
#define EVENT_ADDRESS_BYTES		18	/* family, bits, address */

/* Events that agree in all of this within a window are one event with a count.  No padding, zeros after a string. */
typedef struct EventKey
{
	char		database[NAMEDATALEN];	/* empty: of the whole server */
	char		db_role[NAMEDATALEN];	/* session role; empty: none authenticated */
	char		username[NAMEDATALEN];	/* name that was given */
	char		object[EVENT_OBJECT_BYTES];
	char		message[EVENT_MESSAGE_BYTES];
	char		application_name[NAMEDATALEN];
	char		details[EVENT_DETAILS_BYTES];	/* members of a JSON object, without its braces */
	pg_uuid_t	user_id;
	uint8		has_user_id;
	uint8		address[EVENT_ADDRESS_BYTES];
	uint8		has_address;
	uint8		type;			/* SecurityEventType */
	uint8		outcome;		/* EventOutcome */
	uint8		severity;		/* EventSeverity */
} EventKey;

typedef struct SecurityEvent
{
	EventKey	key;
	pg_uuid_t	event_id;		/* zeros until it is about to be written */
	TimestampTz first_at;
	TimestampTz last_at;
	int64		count;
	int64		amount;			/* rows read, values unsealed */
} SecurityEvent;

extern void events_init(void);

/* As column event_type has it. */
extern const char *security_event_name(SecurityEventType type);

/* Begin an event of this session: its role, address, application and database are filled in. */
extern void security_event_begin(SecurityEvent *event, SecurityEventType type, EventOutcome outcome);
extern void security_event_severity(SecurityEvent *event, EventSeverity severity);
extern void security_event_object(SecurityEvent *event, const char *object);
extern void security_event_message(SecurityEvent *event, const char *message);

/* Add a string, clipped if need be; left out when there is no room.  The name is a plain identifier. */
extern void security_event_detail(SecurityEvent *event, const char *name, const char *value);

/*
 * Write the event in this transaction, into this database.  An error when it
 * cannot be written: what it tells of must fail then.  Does nothing in a database
 * without the extension.  Should the transaction roll back, a preloaded server
 * records that instead.
 */
extern void security_event(const SecurityEvent *event);

/*
 * Hand the event to the database's scheduler.  Raises no error and looks at no
 * catalog: may be called while an error is handled, and at the end of a
 * transaction.  False when nobody will write it: not preloaded.
 */
extern bool security_event_queue(const SecurityEvent *event);

#endif							/* SENTIENT_EVENTS_H */
