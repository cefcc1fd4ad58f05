/*
 * key_provider.c
 *		Where the server's master keys come from: the environment, a file, or a
 *		program.
 *
 * Runs once, in the postmaster, while it loads libraries.  The first key is the
 * active one, which wraps; the others unwrap what they have wrapped.  A key that
 * cannot be read makes all of them unknown: the one after it would silently take
 * its place otherwise.  That is logged, and the server starts.  Variables that
 * hold keys are overwritten and removed whatever the provider is.
 */
#include "postgres.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "crypto/key_command.h"
#include "crypto/key_provider.h"
#include "crypto/key_text.h"
#include "crypto/master_key.h"
#include "crypto/secret.h"

#define OUTPUT_BYTES		4096
#define PROBLEM_BYTES		256

typedef enum KeyProvider
{
	PROVIDER_NONE,
	PROVIDER_ENV,
	PROVIDER_FILE,
	PROVIDER_COMMAND,
} KeyProvider;

static const struct config_enum_entry providers[] = {
	{"none", PROVIDER_NONE, false},
	{"env", PROVIDER_ENV, false},
	{"file", PROVIDER_FILE, false},
	{"command", PROVIDER_COMMAND, false},
	{NULL, 0, false}
};

static int	key_provider = PROVIDER_ENV;
static char *key_env = NULL;
static char *key_file = NULL;
static char *key_command = NULL;
static int	key_command_timeout = 10000;

static void define_parameters(void);
static bool read_environment(bool wanted, char *problem);
static bool read_file(char *problem);
static bool read_command(char *problem);
static bool read_lines(const char *text, size_t length, const char *source, char *problem);
static bool read_key(const char *text, size_t length, const char *source, char *problem);
static void erase_initial_environment(const char *name);

void
key_provider_init(void)
{
	char		problem[PROBLEM_BYTES] = "";
	bool		done;

	if (!process_shared_preload_libraries_in_progress)
		return;
	define_parameters();

	done = read_environment(key_provider == PROVIDER_ENV, problem);
	switch ((KeyProvider) key_provider)
	{
		case PROVIDER_NONE:
			strlcpy(problem, "sentient_edge.key_provider is none", sizeof(problem));
			done = false;
			break;
		case PROVIDER_ENV:
			break;
		case PROVIDER_FILE:
			done = read_file(problem);
			break;
		case PROVIDER_COMMAND:
			done = read_command(problem);
			break;
	}
	if (done && master_key_count() == 0)
	{
		strlcpy(problem, "there was none where sentient_edge.key_provider says", sizeof(problem));
		done = false;
	}
	if (!done)
		master_key_refuse(problem);
	secret_seal();

	if (done)
		ereport(LOG,
				(errmsg("sentient_edge has read %d master key(s); the active one has the fingerprint %s",
						master_key_count(), master_key(0)->fingerprint)));
	else if (key_provider != PROVIDER_NONE)
		ereport(LOG,
				(errmsg("sentient_edge has no master key: %s", problem),
				 errdetail("Sealed values can be neither made nor read.  Everything else works.")));
}

static void
define_parameters(void)
{
	DefineCustomEnumVariable("sentient_edge.key_provider",
							 "Where the server's master keys come from.",
							 "They are read when the server starts.",
							 &key_provider, PROVIDER_ENV, providers,
							 PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("sentient_edge.key_env",
							   "Environment variables that hold master keys.",
							   "Those that are set are read in this order, the first is the active key; all are removed from the environment.",
							   &key_env, "SENTIENT_EDGE_MASTER_KEY, DATABASE_ENCRYPTION_KEY",
							   PGC_POSTMASTER, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("sentient_edge.key_file",
							   "File that holds master keys.",
							   "One key a line, the first is the active key. It must be readable by the server's user alone and lie outside the data directory.",
							   &key_file, "",
							   PGC_POSTMASTER, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("sentient_edge.key_command",
							   "Program that prints master keys.",
							   "An absolute path and arguments, executed without a shell; one key a line, the first is the active key.",
							   &key_command, "",
							   PGC_POSTMASTER, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("sentient_edge.key_command_timeout",
							"How long the server waits for the program that prints master keys.",
							"After that it is killed, and the server starts without a key.",
							&key_command_timeout, 10000, 100, 600000,
							PGC_POSTMASTER, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("sentient_edge.key_core_dump",
							 "Lets processes that hold data keys write core dumps.",
							 "A core dump contains key schedules and values that were sealed or unsealed.",
							 &secret_core_dump, false,
							 PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static bool
read_environment(bool wanted, char *problem)
{
	char	   *names = pstrdup(key_env);
	char	   *rest = names;
	char	   *name;
	bool		done = true;

	while ((name = strsep(&rest, ", \t")) != NULL)
	{
		char	   *value = name[0] == '\0' ? NULL : getenv(name);
		char		source[128];

		if (value == NULL)
			continue;
		snprintf(source, sizeof(source), "environment variable %s", name);
		if (wanted && done && value[0] != '\0')
			done = read_key(value, strlen(value), source, problem);
		secret_zero(value, strlen(value));
		(void) unsetenv(name);
		erase_initial_environment(name);
	}
	if (wanted && done && master_key_count() == 0)
	{
		snprintf(problem, PROBLEM_BYTES, "no environment variable of sentient_edge.key_env is set");
		done = false;
	}
	pfree(names);
	return done;
}

/*
 * PostgreSQL moves its environment elsewhere, to have room for what ps shows.
 * The place where the kernel has put it is what /proc/PID/environ shows, of this
 * process and of all its children.
 */
static void
erase_initial_environment(const char *name)
{
#ifdef __linux__
	char		line[2048];
	size_t		length = strlen(name);
	ssize_t		n;
	char	   *field;
	unsigned long start = 0;
	unsigned long end = 0;
	int			file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return;
	n = read(file, line, sizeof(line) - 1);
	(void) close(file);
	line[Max(n, 0)] = '\0';

	/* Field 2, the program's name, is in parentheses and may contain anything; 50 and 51 are wanted. */
	field = strrchr(line, ')');
	for (int i = 2; field != NULL && i < 50; i++)
		field = strchr(field + 1, ' ');
	if (field == NULL || sscanf(field, "%lu %lu", &start, &end) != 2)
		return;
	for (char *entry = (char *) start; start != 0 && entry < (char *) end; entry += strnlen(entry, (char *) end - entry) + 1)
	{
		size_t		bytes = strnlen(entry, (char *) end - entry);

		if (bytes > length && strncmp(entry, name, length) == 0 && entry[length] == '=')
			secret_zero(entry + length + 1, bytes - length - 1);
	}
#endif
}

/* Could others than the server's user read it, or change it? */
static const char *
file_is_open(const char *path, const struct stat *status)
{
	char	   *real;
	char	   *data;
	bool		in_data_directory;

	if (!S_ISREG(status->st_mode))
		return "is not a regular file";
	if (status->st_uid != geteuid() && status->st_uid != 0)
		return "belongs to another user";
	if (status->st_uid == 0 ? (status->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0 : (status->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return "may be accessed by others; its mode must be 0600, or 0640 if it belongs to root";
	/* Every base backup would hold it. */
	real = realpath(path, NULL);
	data = realpath(DataDir, NULL);
	in_data_directory = real != NULL && data != NULL && path_is_prefix_of_path(data, real);
	free(real);
	free(data);
	if (in_data_directory)
		return "lies in the data directory";
	if (status->st_size > OUTPUT_BYTES)
		return "is too large";
	return NULL;
}

static bool
read_file(char *problem)
{
	char		text[OUTPUT_BYTES + 1];
	char		source[128];
	struct stat status;
	const char *why = NULL;
	ssize_t		n = -1;
	int			file;
	bool		done;

	if (!is_absolute_path(key_file))
	{
		strlcpy(problem, "sentient_edge.key_file is not an absolute path", PROBLEM_BYTES);
		return false;
	}
	file = open(key_file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (file < 0 && errno == ELOOP)
		why = "is a symbolic link";
	else if (file < 0 || fstat(file, &status) != 0)
		why = strerror(errno);
	else
		why = file_is_open(key_file, &status);
	if (why == NULL)
	{
		n = read(file, text, sizeof(text));
		if (n < 0 || n == sizeof(text))
			why = n < 0 ? strerror(errno) : "is too large";
	}
	if (file >= 0)
		(void) close(file);
	if (why != NULL)
	{
		snprintf(problem, PROBLEM_BYTES, "key file \"%.100s\": %s", key_file, why);
		secret_zero(text, sizeof(text));
		return false;
	}
	snprintf(source, sizeof(source), "file %s", key_file);
	done = read_lines(text, n, source, problem);
	secret_zero(text, sizeof(text));
	return done;
}

static bool
read_command(char *problem)
{
	char		text[OUTPUT_BYTES];
	int			n;
	bool		done = false;

	n = key_command_run(key_command, key_command_timeout, text, sizeof(text), problem, PROBLEM_BYTES);
	if (n >= 0)
		done = read_lines(text, n, "program", problem);
	secret_zero(text, sizeof(text));
	return done;
}

/* One key a line; empty lines and what follows a # at the begin of one are passed over. */
static bool
read_lines(const char *text, size_t length, const char *source, char *problem)
{
	const char *end = text + length;
	int			number = 1;

	for (const char *line = text; line < end; number++)
	{
		const char *newline = memchr(line, '\n', end - line);
		const char *stop = newline != NULL ? newline : end;
		const char *next = newline != NULL ? newline + 1 : end;
		char		where[128];

		if (stop > line && stop[-1] == '\r')
			stop--;
		snprintf(where, sizeof(where), "%.100s, line %d", source, number);
		if (stop > line && *line != '#' && !read_key(line, stop - line, where, problem))
			return false;
		line = next;
	}
	return true;
}

static bool
read_key(const char *text, size_t length, const char *source, char *problem)
{
	uint8		key[CIPHER_KEY_BYTES];
	bool		done = false;

	if (!key_text_read(text, length, key))
		snprintf(problem, PROBLEM_BYTES, "%s: a key is written as %s", source, KEY_TEXT_FORMS);
	else if (!master_key_add(key, source))
		snprintf(problem, PROBLEM_BYTES, "%s: at most %d master keys, and memory for them, can be had", source, MASTER_KEYS);
	else
		done = true;
	secret_zero(key, sizeof(key));
	return done;
}
