/*
 * events.c
 *		Security events: how one is built, and how it is written.
 *
 * An event of a transaction is a row of audit.security_events in it.  Until the
 * transaction ends it is remembered as well: a subtransaction or transaction
 * that rolls back takes the row with it, and then the event goes through shared
 * memory, as one that failed.  Called by the hooks and event triggers of this
 * module, and by other modules for what they do.
 */
#include "postgres.h"

#include "base/client_port.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/identity.h"
#include "base/sql.h"
#include "base/worker.h"
#include "errors.h"
#include "events/events.h"
#include "events/events_capture.h"
#include "events/events_hooks.h"
#include "events/events_queue.h"
#include "events/events_restore.h"
#include "events/events_watch.h"
#include "events/events_write.h"

/* An event that is written in a transaction which may still roll back. */
typedef struct PendingEvent
{
	struct PendingEvent *next;
	int			level;			/* of the transaction that will decide */
	bool		counts_more;	/* of its level, those beyond MAX_PENDING */
	SecurityEvent event;
} PendingEvent;

/* Of one transaction, more than these are counted only. */
#define MAX_PENDING		100

static const struct
{
	const char *name;
	EventSeverity succeeded;
	EventSeverity failed;
}			event_types[EVENT_TYPES] =
{
	[EVENT_LOGIN] = {"login", SEVERITY_INFO, SEVERITY_WARNING},
	[EVENT_DENIED] = {"denied", SEVERITY_WARNING, SEVERITY_WARNING},
	[EVENT_ROLE_SET] = {"role_set", SEVERITY_INFO, SEVERITY_WARNING},
	[EVENT_ROLE_CHANGED] = {"role_changed", SEVERITY_NOTICE, SEVERITY_WARNING},
	[EVENT_PRIVILEGE_CHANGED] = {"privilege_changed", SEVERITY_NOTICE, SEVERITY_WARNING},
	[EVENT_DDL] = {"ddl", SEVERITY_INFO, SEVERITY_INFO},
	[EVENT_DATABASE_CHANGED] = {"database_changed", SEVERITY_NOTICE, SEVERITY_WARNING},
	[EVENT_EXTENSION_CHANGED] = {"extension_changed", SEVERITY_NOTICE, SEVERITY_WARNING},
	[EVENT_SETTING_CHANGED] = {"setting_changed", SEVERITY_NOTICE, SEVERITY_WARNING},
	[EVENT_AUDIT_CHANGED] = {"audit_changed", SEVERITY_WARNING, SEVERITY_WARNING},
	[EVENT_SUPERUSER] = {"superuser", SEVERITY_NOTICE, SEVERITY_WARNING},
	[EVENT_BULK_READ] = {"bulk_read", SEVERITY_WARNING, SEVERITY_WARNING},
	[EVENT_KEY] = {"key", SEVERITY_NOTICE, SEVERITY_ERROR},
	[EVENT_UNSEAL] = {"unseal", SEVERITY_INFO, SEVERITY_WARNING},
	[EVENT_INTEGRITY] = {"integrity", SEVERITY_CRITICAL, SEVERITY_CRITICAL},
	[EVENT_RESTORE] = {"restore", SEVERITY_NOTICE, SEVERITY_WARNING},
	[EVENT_EVENTS_LOST] = {"events_lost", SEVERITY_ALERT, SEVERITY_ALERT},
};

static int	events_job = -1;
static PendingEvent *pending = NULL;	/* in TopTransactionContext */
static int	npending = 0;

static void hook_transaction(XactEvent what, void *arg);
static void hook_subtransaction(SubXactEvent what, SubTransactionId mine, SubTransactionId parent, void *arg);
static void rolled_back(int level);

static const SchedulerJob job = {
	.name = "security events",
	.interval_s = &event_window,
	.run = events_write_queued,
};

/*
 * Start-up.
 */
void
events_init(void)
{
	event_queue_init();
	watch_list_init();
	events_capture_init();
	events_crypto_init();
	events_restore_init();
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	events_job = scheduler_add_job(&job);
	RegisterXactCallback(hook_transaction, NULL);
	RegisterSubXactCallback(hook_subtransaction, NULL);
	events_session_init();
	events_utility_init();
	events_access_init();
}

const char *
security_event_name(SecurityEventType type)
{
	return type < EVENT_TYPES ? event_types[type].name : "unknown";
}

/* Copy a string, clipped between two characters. */
static void
copy_clipped(char *to, const char *from, size_t size)
{
	int			length = pg_mbcliplen(from, strlen(from), size - 1);

	memset(to, 0, size);
	memcpy(to, from, length);
}

/* The role that the session was authenticated for, or has taken with SET SESSION AUTHORIZATION. */
static const char *
session_role(void)
{
	const char *name = GetConfigOption("session_authorization", true, false);

	if (name != NULL && name[0] != '\0')
		return name;
	/* A worker has one without having been authenticated. */
	return MyProcPort == NULL && IsTransactionState() ? GetUserNameFromId(GetSessionUserId(), true) : NULL;
}

static const char *
session_database(void)
{
	static char name[NAMEDATALEN] = "";

	if (name[0] == '\0')
	{
		const char *found = NULL;

		if (MyProcPort != NULL)
			found = MyProcPort->database_name;
		else if (IsTransactionState() && OidIsValid(MyDatabaseId))
			found = get_database_name(MyDatabaseId);
		if (found != NULL)
			strlcpy(name, found, sizeof(name));
	}
	return name;
}

void
security_event_begin(SecurityEvent *event, SecurityEventType type, EventOutcome outcome)
{
	const char *role = session_role();
	const char *current_role = GetConfigOption("role", true, false);
	const inet *address = identity_client_address();
	const pg_uuid_t *user = OidIsValid(MyDatabaseId) ? identity_user_id() : NULL;

	memset(event, 0, sizeof(*event));
	event->key.type = type;
	event->key.outcome = outcome;
	event->key.severity = outcome == EVENT_FAILED ? event_types[type].failed : event_types[type].succeeded;
	strlcpy(event->key.database, session_database(), sizeof(event->key.database));
	if (role != NULL)
		copy_clipped(event->key.db_role, role, sizeof(event->key.db_role));
	if (address != NULL)
	{
		inet	   *whole = unconstify(inet *, address);
		Size		size = VARSIZE_ANY_EXHDR(whole);

		memcpy(event->key.address, VARDATA_ANY(whole), Min(size, EVENT_ADDRESS_BYTES));
		event->key.has_address = 1;
	}
	if (user != NULL)
	{
		event->key.has_user_id = true;
		event->key.user_id = *user;
	}
	if (application_name != NULL)
		copy_clipped(event->key.application_name, application_name, sizeof(event->key.application_name));
	event->first_at = event->last_at = GetCurrentTimestamp();
	event->count = 1;
	if (current_role != NULL && strcmp(current_role, "none") != 0)
		security_event_detail(event, "role", current_role);
	/* SET SESSION AUTHORIZATION hides whose session it is. */
	if (role != NULL && MyProcPort != NULL && MyProcPort->user_name != NULL && strcmp(role, MyProcPort->user_name) != 0)
		security_event_detail(event, "authenticated", MyProcPort->user_name);
}

void
security_event_severity(SecurityEvent *event, EventSeverity severity)
{
	event->key.severity = severity;
}

void
security_event_object(SecurityEvent *event, const char *object)
{
	copy_clipped(event->key.object, object, sizeof(event->key.object));
}

void
security_event_message(SecurityEvent *event, const char *message)
{
	copy_clipped(event->key.message, message, sizeof(event->key.message));
}

void
security_event_detail(SecurityEvent *event, const char *name, const char *value)
{
	size_t		used = strlen(event->key.details);
	char		member[2 * EVENT_DETAILS_BYTES];
	size_t		length;
	int			clipped = pg_mbcliplen(value, strlen(value), 160);

	length = snprintf(member, sizeof(member) - 2 * 160 - 2, "%s\"%s\": \"", used > 0 ? ", " : "", name);
	for (int i = 0; i < clipped; i++)
	{
		unsigned char c = value[i];

		if (c == '"' || c == '\\')
			member[length++] = '\\';
		member[length++] = c < ' ' ? ' ' : c;
	}
	member[length++] = '"';
	member[length] = '\0';
	if (used + length < sizeof(event->key.details))
		memcpy(event->key.details + used, member, length + 1);
}

bool
security_event_queue(const SecurityEvent *event)
{
	Oid			wake;

	if (!event_queue_exists())
		return false;
	wake = event_queue_push(event, event->key.database[0] != '\0' && watch_list_extension_seen());
	if (OidIsValid(wake))
		(void) scheduler_request_in(wake, events_job);
	return true;
}

void
security_event(const SecurityEvent *event)
{
	SecurityEvent written = *event;
	PendingEvent *mine;

	if (!OidIsValid(sql_extension()))
		return;
	events_write(&written, 1);
	if (!event_queue_exists())
		return;
	if (npending >= MAX_PENDING && pending->counts_more && pending->level == GetCurrentTransactionNestLevel())
	{
		pending->event.count++;
		return;
	}
	mine = MemoryContextAlloc(TopTransactionContext, sizeof(PendingEvent));
	mine->level = GetCurrentTransactionNestLevel();
	mine->event = *event;
	mine->counts_more = npending >= MAX_PENDING;
	if (mine->counts_more)
	{
		security_event_begin(&mine->event, EVENT_EVENTS_LOST, EVENT_NO_OUTCOME);
		security_event_message(&mine->event, "rolled back, after so many others that it is not told what");
	}
	mine->next = pending;
	pending = mine;
	npending++;
}

/* What was written at this level or deeper is gone: say so. */
static void
rolled_back(int level)
{
	while (pending != NULL && pending->level >= level)
	{
		SecurityEvent *event = &pending->event;

		if (!pending->counts_more)
		{
			event->key.outcome = EVENT_FAILED;
			event->key.severity = event_types[event->key.type].failed;
			security_event_message(event, "rolled back");
		}
		(void) security_event_queue(event);
		pending = pending->next;
		npending--;
	}
}

/* What is counted only needs one count a level, however many subtransactions there were. */
static void
join_counts(void)
{
	while (pending != NULL && pending->counts_more && pending->next != NULL && pending->next->counts_more &&
		   pending->next->level == pending->level)
	{
		PendingEvent *joined = pending;

		pending = joined->next;
		pending->event.count += joined->event.count;
		npending--;
		pfree(joined);
	}
}

static void
hook_transaction(XactEvent what, void *arg)
{
	if (what == XACT_EVENT_ABORT)
		rolled_back(0);
	if (what == XACT_EVENT_ABORT || what == XACT_EVENT_COMMIT || what == XACT_EVENT_PREPARE)
	{
		pending = NULL;
		npending = 0;
		events_error_forgotten(true);
	}
	if (what == XACT_EVENT_COMMIT)
		events_session_committed();
	if (what == XACT_EVENT_ABORT || what == XACT_EVENT_COMMIT)
		events_denied_watch();
	if (what == XACT_EVENT_ABORT)
		events_denied_watch_cleanup();
}

static void
hook_subtransaction(SubXactEvent what, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (what == SUBXACT_EVENT_ABORT_SUB)
	{
		rolled_back(level);
		events_error_forgotten(false);
	}
	else if (what == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (PendingEvent *event = pending; event != NULL && event->level >= level; event = event->next)
			event->level = level - 1;
		join_counts();
	}
	/* After ROLLBACK TO. */
	else if (what == SUBXACT_EVENT_START_SUB)
		events_denied_watch();
}
