/*
 * events_hooks.h
 *		Where security events come from in a preloaded server.
 */
#ifndef SENTIENT_EVENTS_HOOKS_H
#define SENTIENT_EVENTS_HOOKS_H

#include "nodes/parsenodes.h"

#include "events/events.h"

extern void events_session_init(void);	/* logins, roles taken */
extern void events_utility_init(void);	/* commands */
extern void events_access_init(void);	/* queries */
extern void events_crypto_init(void);	/* keys and sealed values */

/* Does this process serve a client, so that its doings are somebody's? */
extern bool events_session_watched(void);

/* A transaction has committed: the first one ends the login. */
extern void events_session_committed(void);

/* At the begin of a statement: which roles and parameters has the session taken since? */
extern void events_session_look(void);

/* In the scheduler: has the server's configuration been changed and loaded again? */
extern void events_note_reload(void);

/* Has the superuser's word weight here: not inside a function that runs as its owner? */
extern bool events_superuser_acts(void);

/* Begin the event of a superuser who reads or writes a table; false when that is none. */
extern bool events_superuser_begin(SecurityEvent *event, Oid relid, bool writes);

/*
 * While an error is handled, before it is thrown again: record a permission that
 * was denied.  True when the error is recorded, by this call or an earlier one.
 */
extern bool events_error_caught(const char *command);

/* Have denied permissions noticed from now on, whoever catches the error; called wherever the watch may have been lost. */
extern void events_denied_watch(void);

/* The transaction has failed: again when it is left, for errors until then end nothing. */
extern void events_denied_watch_cleanup(void);

/* The error is sent to the server's log. */
extern void events_denied_logged(const ErrorData *error);

/* This error has been recorded as the caller's own kind of event. */
extern void events_error_recorded(void);

/* The error, if there was one, is over: a transaction or subtransaction has ended. */
extern void events_error_forgotten(bool transaction_ended);

/* Is a dump being restored?  Inside a scope of sql_begin. */
extern bool events_restoring(void);

/* What a GRANT or REVOKE is about: objects, grantees, privileges. */
extern void events_describe_grant(SecurityEvent *event, const GrantStmt *statement);

#endif							/* SENTIENT_EVENTS_HOOKS_H */
