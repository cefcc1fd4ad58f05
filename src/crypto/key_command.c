/*
 * key_command.c
 *		A program that prints master keys, such as the client of a key management
 *		service.
 *
 * Called by the postmaster while it loads libraries: there is no latch, no shared
 * memory and no other child yet.  The program is executed directly, without a
 * shell, in a process group of its own, with nothing open but its standard
 * streams, and is killed with its children when its time is over.  What it
 * writes to standard error goes to the server's.
 */
#include "postgres.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "portability/instr_time.h"

#include "crypto/key_command.h"

#define WORDS				64
#define EXIT_LOOK_MS		10
#define DESCRIPTORS			65536

/* Cut a copy of the command into words; false when a quote is open or there are too many. */
static bool
split_words(char *text, char *words[WORDS + 1])
{
	int			n = 0;
	char	   *to = text;

	while (*text != '\0')
	{
		bool		quoted = false;

		if (*text == ' ' || *text == '\t')
		{
			text++;
			continue;
		}
		if (n == WORDS)
			return false;
		words[n++] = to;
		for (; *text != '\0' && (quoted || (*text != ' ' && *text != '\t')); text++)
		{
			if (*text == '"')
				quoted = !quoted;
			else
			{
				if (quoted && *text == '\\' && (text[1] == '"' || text[1] == '\\'))
					text++;
				*to++ = *text;
			}
		}
		if (quoted)
			return false;
		if (*text != '\0')
			text++;
		*to++ = '\0';
	}
	words[n] = NULL;
	return n > 0;
}

static void
run_child(char **words, int output)
{
	sigset_t	none;
	int			nothing = open("/dev/null", O_RDONLY);
	int			ndescriptors = (int) Min(sysconf(_SC_OPEN_MAX), DESCRIPTORS);

	(void) setpgid(0, 0);
	for (int i = 1; i < NSIG; i++)
		(void) signal(i, SIG_DFL);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0)
		_exit(126);
	for (int i = STDERR_FILENO + 1; i < ndescriptors; i++)
		(void) close(i);
	execv(words[0], words);
	_exit(127);
}

static int
elapsed_ms(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return (int) Min(INSTR_TIME_GET_MILLISEC(now), INT_MAX / 2);
}

/* Read to the end; false with the reason when the time is over, it is too much, or it fails. */
static bool
read_output(int from, instr_time start, int timeout_ms, char *output, size_t size, size_t *length, const char **why)
{
	for (;;)
	{
		struct pollfd ready = {.fd = from,.events = POLLIN};
		int			left_ms = timeout_ms - elapsed_ms(start);
		ssize_t		n;

		if (left_ms <= 0)
		{
			*why = "did not end in time";
			return false;
		}
		if (poll(&ready, 1, left_ms) <= 0)
			continue;			/* a signal, or the time is over */
		n = read(from, output + *length, size - *length);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n == 0)
			return true;
		if (n < 0 || *length + n == size)
		{
			*why = n < 0 ? "could not be read from" : "prints too much";
			return false;
		}
		*length += n;
	}
}

int
key_command_run(const char *command, int timeout_ms, char *output, size_t size,
				char *problem, size_t problem_size)
{
	char	   *copy = pstrdup(command);
	char	   *words[WORDS + 1];
	int			ends[2];
	pid_t		child;
	int			status = 0;
	pid_t		waited;
	size_t		length = 0;
	const char *why = NULL;
	instr_time	start;

	if (!split_words(copy, words) || words[0][0] != '/')
	{
		strlcpy(problem, "sentient_edge.key_command must begin with the absolute path of a program, and close its quotes", problem_size);
		return -1;
	}
	if (pipe(ends) != 0)
	{
		snprintf(problem, problem_size, "could not make a pipe: %s", strerror(errno));
		return -1;
	}
	INSTR_TIME_SET_CURRENT(start);
	fflush(NULL);
	child = fork();
	if (child == 0)
		run_child(words, ends[1]);
	(void) close(ends[1]);
	if (child < 0)
	{
		snprintf(problem, problem_size, "could not fork: %s", strerror(errno));
		(void) close(ends[0]);
		return -1;
	}

	(void) read_output(ends[0], start, timeout_ms, output, size, &length, &why);
	(void) close(ends[0]);
	for (;;)
	{
		if (why != NULL)
			(void) kill(child, SIGKILL);
		waited = waitpid(child, &status, why != NULL ? 0 : WNOHANG);
		if (waited == child || (waited < 0 && errno != EINTR))
			break;
		if (elapsed_ms(start) > timeout_ms)
			why = "did not end in time";
		else
			(void) poll(NULL, 0, EXIT_LOOK_MS);
	}
	/* Whatever it has left behind. */
	(void) kill(-child, SIGKILL);

	if (why == NULL && waited == child && WIFEXITED(status) && WEXITSTATUS(status) == 127)
		why = "could not be executed";
	else if (why == NULL && (waited != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0))
		why = "failed";
	if (why == NULL)
		return (int) length;
	snprintf(problem, problem_size, "the program \"%s\" of sentient_edge.key_command %s", words[0], why);
	return -1;
}
