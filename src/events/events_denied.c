/*
 * events_denied.c
 *		Security events of permissions that were denied, also where somebody catches
 *		the error.
 *
 * Every error calls the callbacks of error_context_stack when it is raised, whoever
 * handles it later, and whether the server logs it or not.  No hook tells of a
 * permission that the analysis of a query asks for in vain; so a callback lies at
 * the bottom of the stack for as long as the session lasts.  It remembers the
 * denial with the role that was in force.  The hooks, through which the error
 * passes on its way, know the command and record it; what has not passed any is
 * recorded when its transaction or subtransaction is rolled back, which is how
 * PL/pgSQL catches an error.  The main loop empties the stack after each error; the
 * callback is put back when the error's transaction is aborted, and when a failed one
 * is left, in which further errors abort nothing.
 *
 * What a function raises by itself (RAISE) was denied by nobody but the function:
 * it is recorded when it reaches a hook or the log.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "events/events_hooks.h"

static void error_raised(void *arg);

static ErrorContextCallback watcher = {.callback = error_raised};
static bool error_recorded = false; /* the error that is under way */
static bool denial_waits = false;	/* raised, and not recorded yet */
static bool denial_known = false;	/* that of this transaction which was raised last */
static SecurityEvent denial;
static bool cleanup_expected = false;	/* the transaction has failed, and will be left */

static bool
raised_by_function(const ErrorData *error)
{
	return error->filename != NULL && strstr(error->filename, "pl_exec.c") != NULL;
}

static void
describe_denial(SecurityEvent *event, const ErrorData *error)
{
	static const char *const prefixes[] = {"permission denied for ", "must be owner of "};

	security_event_begin(event, EVENT_DENIED, EVENT_FAILED);
	/* The server's own words name objects only; those of a RAISE may be anything. */
	if (error->message != NULL && !raised_by_function(error))
	{
		security_event_message(event, error->message);
		for (int i = 0; i < lengthof(prefixes); i++)
		{
			if (strncmp(error->message, prefixes[i], strlen(prefixes[i])) == 0)
				security_event_object(event, error->message + strlen(prefixes[i]));
		}
	}
	security_event_detail(event, "sqlstate", unpack_sql_state(error->sqlerrcode));
}

static void
record_denial(void)
{
	denial_waits = false;
	(void) security_event_queue(&denial);
}

/* An error, or a lesser message, was raised in this session. */
static void
error_raised(void *arg)
{
	MemoryContext old;
	ErrorData  *error;

	if (geterrcode() != ERRCODE_INSUFFICIENT_PRIVILEGE || CritSectionCount > 0 || !events_session_watched())
		return;
	old = MemoryContextSwitchTo(IsTransactionState() ? TopTransactionContext : TopMemoryContext);
	error = CopyErrorData();
	if (error->elevel == ERROR && !raised_by_function(error))
	{
		/* Somebody took the one before without rolling anything back. */
		if (denial_waits)
			record_denial();
		error_recorded = false;
		describe_denial(&denial, error);
		denial_waits = denial_known = true;
	}
	FreeErrorData(error);
	MemoryContextSwitchTo(old);
}

void
events_denied_watch(void)
{
	/* The main loop empties the stack after an error. */
	if (error_context_stack == NULL && events_session_watched())
		error_context_stack = &watcher;
}

static void
watch_again(void *arg)
{
	cleanup_expected = false;
	events_denied_watch();
}

void
events_denied_watch_cleanup(void)
{
	static MemoryContextCallback callback = {.func = watch_again};

	if (cleanup_expected || TopTransactionContext == NULL)
		return;
	cleanup_expected = true;
	MemoryContextRegisterResetCallback(TopTransactionContext, &callback);
}

/* Record the error at hand, unless it is one that was recorded when somebody caught it, and is thrown again. */
static void
record_error(const ErrorData *error, const char *command)
{
	error_recorded = true;
	if (!denial_waits)
	{
		if (denial_known && !raised_by_function(error) && error->message != NULL &&
			strncmp(error->message, denial.key.message, strlen(denial.key.message)) == 0)
			return;
		denial_known = false;
		describe_denial(&denial, error);
	}
	if (command != NULL)
		security_event_detail(&denial, "command", command);
	record_denial();
}

void
events_denied_logged(const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE && !error_recorded)
		record_error(error, NULL);
}

bool
events_error_caught(const char *command)
{
	MemoryContext old;
	ErrorData  *error;

	if (error_recorded || geterrcode() != ERRCODE_INSUFFICIENT_PRIVILEGE)
		return error_recorded;
	old = MemoryContextSwitchTo(TopTransactionContext);
	error = CopyErrorData();
	record_error(error, command);
	FreeErrorData(error);
	MemoryContextSwitchTo(old);
	return true;
}

void
events_error_recorded(void)
{
	error_recorded = true;
	denial_waits = false;
}

void
events_error_forgotten(bool transaction_ended)
{
	if (denial_waits)
		record_denial();
	error_recorded = false;
	if (transaction_ended)
		denial_known = false;
}
