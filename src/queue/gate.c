/*
 * gate.c
 *		Gates: one call wakes all sessions that wait at one.
 *
 * The postmaster makes the pipes, every process inherits them.  A gate is opened
 * by one byte in its pipe and closed by taking that out again; who does so and
 * when is the business of queue_writer.c.  Processes that wait see a level, not
 * an event: a gate must stay open until all who waited at it have passed.
 *
 * The pipes, and the sets that wait at them, count among the descriptors of which
 * PostgreSQL lets a process hold a third outside its own files.  Where a process
 * may have few there are no gates, and every session waits at its latch.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "queue/gate.h"

typedef struct Gate
{
	int			read_end;
	int			write_end;
	WaitEventSet *set;			/* this process's: its latch, the postmaster's death and the pipe */
} Gate;

/* A third of this leaves room for all gates, a writer's sets, and what the server needs itself. */
#define FILES_FOR_GATES		300

static Gate gates[GATE_GROUPS][GATES];
static bool created = false;

static bool
files_suffice(void)
{
	struct rlimit limit;

	return max_files_per_process >= FILES_FOR_GATES &&
		(getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= FILES_FOR_GATES);
}

/*
 * Are there gates in this server?
 */
bool
gates_exist(void)
{
	return created;
}

/*
 * Make the gates, or close those that are there.
 */
void
gates_create(void)
{
	if (IsUnderPostmaster || !files_suffice())
		return;
	for (int group = 0; group < GATE_GROUPS; group++)
	{
		for (int number = 0; number < GATES; number++)
		{
			Gate	   *gate = &gates[group][number];
			int			ends[2];

			if (created)
			{
				gate_close(group, number);
				continue;
			}
			if (pipe(ends) != 0)
				ereport(FATAL,
						(errcode_for_file_access(),
						 errmsg("could not create a pipe of the telemetry queue: %m")));
			for (int end = 0; end < 2; end++)
			{
				if (fcntl(ends[end], F_SETFD, FD_CLOEXEC) != 0 || fcntl(ends[end], F_SETFL, O_NONBLOCK) != 0)
					ereport(FATAL,
							(errcode_for_socket_access(),
							 errmsg("could not set up a pipe of the telemetry queue: %m")));
				ReserveExternalFD();
			}
			gate->read_end = ends[0];
			gate->write_end = ends[1];
		}
	}
	created = true;
}

/*
 * Let all pass who wait at the gate.
 */
void
gate_open(int group, int gate)
{
	/* A full pipe is open as well. */
	while (write(gates[group][gate].write_end, "", 1) < 0 && errno == EINTR)
		;
}

/*
 * Close the gate again.
 */
void
gate_close(int group, int gate)
{
	char		bytes[16];

	for (;;)
	{
		ssize_t		n = read(gates[group][gate].read_end, bytes, sizeof(bytes));

		if (n < (ssize_t) sizeof(bytes) && !(n < 0 && errno == EINTR))
			break;
	}
}

int
gate_wait(int group, int gate, long timeout_ms, uint32 wait_event)
{
	Gate	   *here = &gates[group][gate];
	WaitEvent	event;

	if (here->set == NULL)
	{
		WaitEventSet *set = compat_create_wait_event_set(3);

		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		AddWaitEventToSet(set, WL_SOCKET_READABLE, here->read_end, NULL, NULL);
		here->set = set;
	}
	if (WaitEventSetWait(here->set, timeout_ms, &event, 1, wait_event) == 0)
		return WL_TIMEOUT;
	return event.events;
}
