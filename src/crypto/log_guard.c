/*
 * log_guard.c
 *		Keeps secrets that stand in statements out of the server log, of
 *		pg_stat_activity and of pg_stat_statements.
 *
 * Whoever writes a plaintext into a statement gives it to everything that shows
 * statements.  A message is guarded when it, or the statement that is running,
 * calls one of the functions below or one that sentient_edge.log_hidden_functions
 * names, also by way of a prepared statement; or when the statement has called
 * them, through whatever function of the user's.  In the place of a guarded
 * message the log gets its constant part: the level, the SQLSTATE, the format
 * before values are put in, the names of table, column and constraint.  The
 * client gets what it would have got.
 *
 * PostgreSQL lets a log hook turn a message off, nothing else.  So the substitute
 * is a message of its own, whose level alone is changed when it comes to the hook
 * in turn.  Log hooks that were installed later see a guarded message before this
 * one does; others see the substitute only.
 *
 * Runs in the middle of error handling: no catalogs, no locks, no errors but for
 * memory.  The text of a statement is looked through only when a message is
 * logged for it, or when a utility command is parsed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/prepare.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/elog.h"
#include "utils/guc.h"

#include "crypto/log_guard.h"

#define HIDDEN		"<hidden: it may contain a secret>"

/* What PostgreSQL takes for blanks, the last since version 16. */
#define BLANKS		" \t\r\n\f\v"

/* So many are looked up in a text, for the time it takes; one with more is guarded. */
#define EXECUTES_MAX	100

/* Functions that take or return secrets, in lower case and in order. */
static const char *const guarded_functions[] = {
	"api_key_signing_secret",
	"channel_credentials",
	"drone_serial_number",
	"find_drone_by_serial_number",
	"message_body",
	"seal",
	"seal_bytes",
	"search_token",
	"search_tokens",
	"send_message",
	"set_api_key_signing_secret",
	"set_channel_credentials",
	"set_drone_serial_number",
	"set_user_mfa_secret",
	"try_unseal",
	"try_unseal_bytes",
	"unseal",
	"unseal_bytes",
	"user_mfa_secret",
};

static char *hidden_functions = NULL;	/* a parameter: more of them */

static TimestampTz noted_at = 0;	/* start of the last statement that was noted */
static const ErrorData *guarded = NULL; /* the message whose substitute is being logged */

static emit_log_hook_type previous_emit_log = NULL;
static post_parse_analyze_hook_type previous_post_parse = NULL;
static ProcessUtility_hook_type previous_utility = NULL;
static bool declaring = false;	/* a guarded cursor is being declared */

static void guard_message(ErrorData *message);
static void guard_utility(ParseState *pstate, Query *query, JumbleState *jumble);
static void guard_cursor(PlannedStmt *statement, const char *text, bool read_only_tree, ProcessUtilityContext context,
						 ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion);
static void log_substitute(const ErrorData *message);
static void hide_activity(void);
static bool calls_guarded(const char *text, bool prepared);

void
log_guard_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomStringVariable("sentient_edge.log_hidden_functions",
							   "Functions whose calls are kept out of the server log.",
							   "Names without schema, separated by commas. The functions of sentient_edge that take or return secrets are hidden always.",
							   &hidden_functions, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	previous_emit_log = emit_log_hook;
	emit_log_hook = guard_message;
	previous_post_parse = post_parse_analyze_hook;
	post_parse_analyze_hook = guard_utility;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = guard_cursor;
}

void
log_guard_note(void)
{
	TimestampTz statement_at = GetCurrentStatementStartTimestamp();

	if (likely(noted_at == statement_at))
		return;
	noted_at = statement_at;
	hide_activity();
}

/* Of the session's own statement; workers say nothing that is secret. */
static void
hide_activity(void)
{
	if (MyBackendType == B_BACKEND && debug_query_string != NULL)
	{
		/* Reporting a statement clears its identifier. */
		uint64		query_id = pgstat_get_my_query_id();

		pgstat_report_activity(STATE_RUNNING, HIDDEN);
		pgstat_report_query_id(query_id, true);
	}
}

/* ---- messages ---- */

static bool
is_guarded(const ErrorData *message)
{
	if (debug_query_string != NULL &&
		(noted_at == GetCurrentStatementStartTimestamp() || calls_guarded(debug_query_string, false)))
		return true;
	return calls_guarded(message->message, false) || calls_guarded(message->detail, false) || calls_guarded(message->detail_log, false) ||
		calls_guarded(message->context, false) || calls_guarded(message->internalquery, false);
}

/* The log hook. */
static void
guard_message(ErrorData *message)
{
	if (guarded != NULL)
		message->elevel = guarded->elevel;
	else if (message->output_to_server && is_guarded(message))
	{
		hide_activity();
		log_substitute(message);
		message->output_to_server = false;
		return;
	}
	if (previous_emit_log)
		previous_emit_log(message);
}

/* Log what of a message cannot be a secret. */
static void
log_substitute(const ErrorData *message)
{
	ErrorContextCallback *context = error_context_stack;
	int			level = log_min_messages;
	char		text[256] = HIDDEN;

	/* How long it took is told. */
	if (message->message != NULL && strncmp(message->message, "duration: ", strlen("duration: ")) == 0)
		snprintf(text, sizeof(text), "%.*s%s",
				 (int) Min(strlen("duration: ") + strspn(message->message + strlen("duration: "), "0123456789. ms"), 64),
				 message->message, HIDDEN);
	else if (message->message_id != NULL && strcmp(message->message_id, "%s") != 0)
		strlcpy(text, message->message_id, sizeof(text));

	/* No interrupt may come up in here, and no context of the original's be told. */
	HOLD_INTERRUPTS();
	PG_TRY();
	{
		error_context_stack = NULL;
		log_min_messages = LOG;
		guarded = message;
		if (errstart(LOG_SERVER_ONLY, NULL))
		{
			errcode(message->sqlerrcode);
			errmsg_internal("%s", text);
			errdetail_internal("%s", HIDDEN);
			errhidestmt(true);
			if (message->schema_name != NULL)
				err_generic_string(PG_DIAG_SCHEMA_NAME, message->schema_name);
			if (message->table_name != NULL)
				err_generic_string(PG_DIAG_TABLE_NAME, message->table_name);
			if (message->column_name != NULL)
				err_generic_string(PG_DIAG_COLUMN_NAME, message->column_name);
			if (message->datatype_name != NULL)
				err_generic_string(PG_DIAG_DATATYPE_NAME, message->datatype_name);
			if (message->constraint_name != NULL)
				err_generic_string(PG_DIAG_CONSTRAINT_NAME, message->constraint_name);
			errfinish(message->filename, message->lineno, message->funcname);
		}
	}
	PG_FINALLY();
	{
		guarded = NULL;
		log_min_messages = level;
		error_context_stack = context;
	}
	PG_END_TRY();
	RESUME_INTERRUPTS();
}

/* ---- statements ---- */

/*
 * pg_stat_statements takes the constants out of queries, but not out of every
 * utility command: a command without an identifier it passes over.
 */
static void
guard_utility(ParseState *pstate, Query *query, JumbleState *jumble)
{
	if (previous_post_parse)
		previous_post_parse(pstate, query, jumble);
	if (query->queryId != 0 &&
		(declaring || (query->commandType == CMD_UTILITY && calls_guarded(pstate->p_sourcetext, false))))
		query->queryId = 0;
}

/*
 * Since PostgreSQL 18 the query of a cursor has an identifier of its own, under
 * which the text of the whole command is kept when the cursor is held.
 */
static void
guard_cursor(PlannedStmt *statement, const char *text, bool read_only_tree, ProcessUtilityContext context,
			 ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion)
{
	bool		outer = declaring;

	PG_TRY();
	{
		declaring = IsA(statement->utilityStmt, DeclareCursorStmt) && calls_guarded(text, false);
		if (previous_utility)
			previous_utility(statement, text, read_only_tree, context, parameters, environment, receiver, completion);
		else
			standard_ProcessUtility(statement, text, read_only_tree, context, parameters, environment, receiver, completion);
	}
	PG_FINALLY();
	{
		declaring = outer;
	}
	PG_END_TRY();
}

static bool
is_word_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || IS_HIGHBIT_SET(c);
}

static bool
is_word(const char *word, size_t length, const char *other)
{
	return length == strlen(other) && pg_strncasecmp(word, other, length) == 0;
}

/* Is a function of this name one whose calls are hidden? */
static bool
is_guarded_name(const char *name, size_t length)
{
	size_t		low = 0;
	size_t		high = lengthof(guarded_functions);

	while (low < high)
	{
		size_t		middle = (low + high) / 2;
		int			order = pg_strncasecmp(name, guarded_functions[middle], length);

		if (order == 0 && guarded_functions[middle][length] != '\0')
			order = -1;
		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}

	for (const char *at = hidden_functions; at != NULL && *at != '\0';)
	{
		size_t		skipped = strspn(at, ", \t\n");
		size_t		item = strcspn(at + skipped, ", \t\n");

		at += skipped;
		if (item == length && pg_strncasecmp(at, name, length) == 0)
			return true;
		at += item;
	}
	return false;
}

/*
 * Behind EXECUTE: does the prepared statement that is named there call a guarded
 * function?  One that is not known is what the caller says.
 */
static bool
executes_guarded(const char *at, bool unknown)
{
	char		name[NAMEDATALEN];
	size_t		length = 0;
	PreparedStatement *statement;

	at += strspn(at, BLANKS);
	if (pg_strncasecmp(at, "U&", 2) == 0 || *at == '/' || *at == '-')
		return true;			/* escapes in a name, a comment before it: not looked into */
	if (*at == '"')
	{
		for (at++; length < NAMEDATALEN - 1 && *at != '\0' && (*at != '"' || *++at == '"'); at++)
			name[length++] = *at;
	}
	else
	{
		for (; length < NAMEDATALEN - 1 && (is_word_byte(*at) || *at == '$'); at++)
			name[length++] = pg_ascii_tolower((unsigned char) *at);
	}
	name[length] = '\0';
	statement = length == 0 ? NULL : FetchPreparedStatement(name, false);
	return statement != NULL ? calls_guarded(statement->plansource->query_string, true) : unknown;
}

/*
 * Does a text contain a call of a guarded function?  Rather too often than not.
 * In the text of a prepared statement, which may be a script, EXECUTE counts for
 * nothing: the statement itself cannot be one.
 */
static bool
calls_guarded(const char *text, bool prepared)
{
	int			executes = 0;
	bool		first = true;
	bool		is_execute = false; /* EXECUTE, perhaps behind EXPLAIN; not one of PL/pgSQL */

	if (text == NULL)
		return false;
	while (*text != '\0')
	{
		const char *word = text;
		size_t		length;

		if (!is_word_byte(*text))
		{
			text++;
			continue;
		}
		while (is_word_byte(*text))
			text++;
		length = text - word;
		if (first)
			is_execute = is_word(word, length, "execute") || is_word(word, length, "explain");
		first = false;

		if (is_word(word, length, "execute"))
		{
			/* A statement that is gone, with a pooled session say, may have been a guarded one. */
			if (!prepared && (++executes > EXECUTES_MAX || executes_guarded(text, is_execute)))
				return true;
		}
		else if (is_word(word, length, "u") && text[0] == '&' && text[1] == '"')
			return true;		/* escapes in a name: not looked into */
		else
		{
			const char *next = text + (*text == '"');

			/* Parentheses follow, or a comment before them. */
			next += strspn(next, BLANKS);
			if ((*next == '(' || *next == '/' || *next == '-') && is_guarded_name(word, length))
				return true;
		}
	}
	return false;
}
