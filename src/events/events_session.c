/*
 * events_session.c
 *		Security events of sessions: logins, and roles and parameters taken.
 *
 * A login has succeeded when the session's first transaction commits, which is
 * the server's own at the end of start-up: the database exists, the role may
 * connect.  It has failed when authentication says so, or when the session ends
 * before with an error.  Everything here goes through shared memory; no catalog
 * is looked at, because there is no transaction yet or an aborted one.
 */
#include "postgres.h"

#include "base/client_port.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "libpq/hba.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/bufmgr.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "compat.h"
#include "events/events_hooks.h"
#include "events/events_watch.h"

static ClientAuthentication_hook_type previous_authentication = NULL;
static emit_log_hook_type previous_emit_log = NULL;

static bool login_pending = false;	/* authenticated, but not yet connected */
static bool login_failed = false;	/* and recorded */
static bool connected = false;

/* What the session was when its statements were last looked at. */
static Oid	seen_session_user = InvalidOid;
static Oid	seen_outer_user = InvalidOid;

static void hook_authentication(Port *port, int status);
static void hook_emit_log(ErrorData *error);

void
events_session_init(void)
{
	previous_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = hook_authentication;
	previous_emit_log = emit_log_hook;
	emit_log_hook = hook_emit_log;
}

bool
events_session_watched(void)
{
	return connected && MyProcPort != NULL && !IsParallelWorker();
}

bool
events_superuser_acts(void)
{
	return superuser_arg(GetOuterUserId()) && !InLocalUserIdChange();
}

/* ---- logins ---- */

static void
login_event(Port *port, bool succeeded, int sqlerrcode)
{
	SecurityEvent event;

	security_event_begin(&event, EVENT_LOGIN, succeeded ? EVENT_SUCCEEDED : EVENT_FAILED);
	if (port->user_name != NULL)
		strlcpy(event.key.username, port->user_name, sizeof(event.key.username));
	if (!succeeded)
		event.key.db_role[0] = '\0';
	if (port->hba != NULL)
		security_event_detail(&event, "method", hba_authname(port->hba->auth_method));
	if (sqlerrcode != 0)
		security_event_detail(&event, "sqlstate", unpack_sql_state(sqlerrcode));
	if (am_walsender)
		security_event_detail(&event, "replication", "on");
	if (port->ssl_in_use)
		security_event_detail(&event, "tls", "on");
	(void) security_event_queue(&event);
}

static void
hook_authentication(Port *port, int status)
{
	if (previous_authentication)
		previous_authentication(port, status);
	if (status == STATUS_OK)
		login_pending = true;
	else if (status != STATUS_EOF)
	{
		/* A client that hangs up when asked for a password has not tried one. */
		login_failed = true;
		login_event(port, false, ERRCODE_INVALID_PASSWORD);
	}
}

void
events_session_committed(void)
{
	if (!login_pending)
		return;
	login_pending = false;
	connected = true;
	seen_session_user = seen_outer_user = GetSessionUserId();
	login_event(MyProcPort, true, 0);
}

/* ---- what is sent to the server's log ---- */

/* Of the errors that end a session's start, those that are about who wants in. */
static bool
concerns_login(int sqlerrcode)
{
	int			class = ERRCODE_TO_CATEGORY(sqlerrcode);

	return class == ERRCODE_TO_CATEGORY(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_INVALID_CATALOG_NAME) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_PRIVILEGE) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_TOO_MANY_CONNECTIONS) ||
		sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

static void
hook_emit_log(ErrorData *error)
{
	static bool busy = false;

	if (error->elevel >= ERROR && error->elevel <= FATAL && !busy && CritSectionCount == 0 &&
		MyProcPort != NULL && !IsParallelWorker())
	{
		busy = true;
		if (!connected)
		{
			if (error->elevel == FATAL && !login_failed && MyProcPort->database_name != NULL &&
				concerns_login(error->sqlerrcode))
			{
				login_failed = true;
				login_event(MyProcPort, false, error->sqlerrcode);
			}
		}
		else
		{
			events_denied_logged(error);
			/* An error that ends no transaction: where there is none, or in one that has failed already. */
			events_denied_watch();
		}
		busy = false;
	}
	if (previous_emit_log)
		previous_emit_log(error);
}

/* ---- roles and parameters that a session takes, by whatever means ---- */

static void
role_event(const char *command, const char *role)
{
	SecurityEvent event;

	security_event_begin(&event, EVENT_ROLE_SET, EVENT_SUCCEEDED);
	security_event_object(&event, role);
	security_event_detail(&event, "command", command);
	(void) security_event_queue(&event);
}

/* A parameter that weakens what is recorded: is it so now, and was it not before? */
static void
look_at(bool weak, bool *was_weak, const char *parameter, const char *message)
{
	SecurityEvent event;

	if (weak == *was_weak)
		return;
	*was_weak = weak;
	if (!weak)
		return;
	security_event_begin(&event, EVENT_SETTING_CHANGED, EVENT_SUCCEEDED);
	security_event_severity(&event, SEVERITY_WARNING);
	security_event_object(&event, parameter);
	security_event_message(&event, message);
	(void) security_event_queue(&event);
}

void
events_session_look(void)
{
	static bool seen[4] = {false};
	Oid			session_user = GetSessionUserId();
	Oid			outer_user = GetOuterUserId();

	if (session_user != seen_session_user)
	{
		seen_session_user = session_user;
		if (session_user != GetAuthenticatedUserId())
			role_event("SET SESSION AUTHORIZATION", GetConfigOption("session_authorization", false, false));
	}
	if (outer_user != seen_outer_user)
	{
		const char *role = GetConfigOption("role", false, false);

		seen_outer_user = outer_user;
		if (strcmp(role, "none") != 0)
			role_event("SET ROLE", role);
	}
	look_at(SessionReplicationRole != SESSION_REPLICATION_ROLE_ORIGIN, &seen[0], "session_replication_role",
			"ordinary triggers do not fire in this session");
	look_at(!compat_event_triggers, &seen[1], "event_triggers", "event triggers do not fire in this session");
	look_at(allowSystemTableMods, &seen[2], "allow_system_table_mods", "the structure of catalogs can be changed in this session");
	look_at(zero_damaged_pages, &seen[3], "zero_damaged_pages", "damaged pages lose their rows in this session");
}

/* ---- the server's configuration, as the scheduler sees it ---- */

void
events_note_reload(void)
{
	static TimestampTz seen = 0;
	static MemoryContext kept = NULL;
	static char **names = NULL;
	static char **hashes = NULL;
	static int	n = 0;
	MemoryContext context;
	char	  **new_names;
	char	  **new_hashes;
	int			new_n;
	SqlScope	scope;

	if (seen == PgReloadTime)
		return;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	scope = sql_begin(0);
	new_n = (int) sql_query("SELECT name, md5(concat_ws('|', setting, pending_restart)) FROM pg_settings"
							" WHERE context IN ('sighup', 'postmaster', 'superuser', 'superuser-backend') ORDER BY name COLLATE \"C\"",
							0, NULL, NULL);
	context = AllocSetContextCreate(TopMemoryContext, "sentient_edge configuration", ALLOCSET_DEFAULT_SIZES);
	new_names = MemoryContextAlloc(context, Max(new_n, 1) * sizeof(char *));
	new_hashes = MemoryContextAlloc(context, Max(new_n, 1) * sizeof(char *));
	for (int i = 0; i < new_n; i++)
	{
		new_names[i] = MemoryContextStrdup(context, sql_string(i, 0));
		new_hashes[i] = MemoryContextStrdup(context, sql_string(i, 1));
	}
	sql_end(&scope);

	/* Both are sorted; a parameter that is new belongs to a library that was loaded. */
	for (int i = 0, j = 0; i < new_n; i++)
	{
		while (j < n && strcmp(names[j], new_names[i]) < 0)
			j++;
		if (j < n && strcmp(names[j], new_names[i]) == 0 && strcmp(hashes[j], new_hashes[i]) != 0)
		{
			SecurityEvent event;

			security_event_begin(&event, EVENT_SETTING_CHANGED, EVENT_SUCCEEDED);
			event.key.db_role[0] = '\0';
			security_event_object(&event, new_names[i]);
			security_event_message(&event, "configuration files were loaded again");
			(void) security_event_queue(&event);
		}
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (kept != NULL)
		MemoryContextDelete(kept);
	kept = context;
	names = new_names;
	hashes = new_hashes;
	n = new_n;
	seen = PgReloadTime;
}
