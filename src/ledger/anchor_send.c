/*
 * anchor_send.c
 *		Ways out of the server for a digest: a file, a program.
 *
 * Called in a background worker, or in a session of an administrator, with the
 * rights of the server's operating system user: only superusers say where to.
 * A file appears under its name only when all of it is on disk, and never takes
 * the place of another.  A program is executed directly, without a shell, in a
 * process group of its own, with nothing open but its standard streams, and is
 * killed with its children when its time is over or the caller is cancelled.
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ledger/anchor_send.h"

#define CHILD_LOOK_MS			20
#define DESCRIPTORS				65536

void
anchor_send_file(const char *directory, const char *name, const char *digest)
{
	char	   *path = psprintf("%s/%s", directory, name);
	char	   *written = psprintf("%s.tmp", path);
	size_t		bytes = strlen(digest);
	struct stat found;
	int			fd;

	if (lstat(path, &found) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_FILE),
				 errmsg("file \"%s\" exists", path)));
	fd = OpenTransientFilePerm(written, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | PG_BINARY, S_IRUSR | S_IWUSR);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", written)));
	errno = 0;
	if (write(fd, digest, bytes) != (ssize_t) bytes || pg_fsync(fd) != 0)
	{
		int			error = errno == 0 ? ENOSPC : errno;

		(void) CloseTransientFile(fd);
		(void) unlink(written);
		errno = error;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", written)));
	}
	if (CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not close file \"%s\": %m", written)));
	(void) durable_rename(written, path, ERROR);
}

static void
run_child(char *const *arguments, int input)
{
	sigset_t	none;
	int			nothing = open("/dev/null", O_WRONLY);
	int			ndescriptors = (int) Min(sysconf(_SC_OPEN_MAX), DESCRIPTORS);

	(void) setpgid(0, 0);
	for (int i = 1; i < NSIG; i++)
		(void) signal(i, SIG_DFL);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	if (nothing < 0 || dup2(input, STDIN_FILENO) < 0 || dup2(nothing, STDOUT_FILENO) < 0 || dup2(nothing, STDERR_FILENO) < 0)
		_exit(126);
	for (int i = STDERR_FILENO + 1; i < ndescriptors; i++)
		(void) close(i);
	execv(arguments[0], arguments);
	_exit(127);
}

/* Wait for the program; false when its time is over. */
static bool
wait_for_child(pid_t child, TimestampTz deadline, int *status)
{
	for (;;)
	{
		pid_t		waited = waitpid(child, status, WNOHANG);

		if (waited == child)
			return true;
		if (waited < 0 && errno != EINTR)
			ereport(ERROR,
					(errcode(ERRCODE_SYSTEM_ERROR),
					 errmsg("could not wait for a program: %m")));
		if (GetCurrentTimestamp() >= deadline)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, CHILD_LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
anchor_send_command(char *const *arguments, int timeout_ms, const char *digest)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	size_t		bytes = strlen(digest);
	int			ends[2];
	pid_t		child;
	int			status = 0;
	volatile bool in_time = false;

	if (pipe(ends) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not make a pipe: %m")));

	/* All of it fits into the pipe, so nobody waits; SIGPIPE is ignored in a server process. */
	if (bytes > 4096 || write(ends[1], digest, bytes) != (ssize_t) bytes)
	{
		(void) close(ends[0]);
		(void) close(ends[1]);
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not write to a pipe")));
	}
	fflush(NULL);
	child = fork();
	if (child == 0)
		run_child(arguments, ends[0]);
	(void) close(ends[0]);
	(void) close(ends[1]);
	if (child < 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not start program \"%s\": %m", arguments[0])));
	(void) setpgid(child, child);	/* whoever of the two comes first */

	PG_TRY();
	{
		in_time = wait_for_child(child, deadline, &status);
	}
	PG_FINALLY();
	{
		/* What it has left behind goes too. */
		(void) kill(-child, SIGKILL);
		if (!in_time)
			(void) waitpid(child, NULL, 0);
	}
	PG_END_TRY();

	if (!in_time)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("program \"%s\" did not end within %d ms", arguments[0], timeout_ms)));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg(WIFEXITED(status) && WEXITSTATUS(status) == 127 ?
						"program \"%s\" could not be executed" : "program \"%s\" failed", arguments[0])));
}
