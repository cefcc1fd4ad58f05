/*
 * registry.h
 *		What the launcher, the schedulers and the sessions know of each other:
 *		one slot a database, in shared memory.
 *
 * All of it is protected by registry->lock (an LWLock) and may be rebuilt from
 * nothing: a crash restart starts with an empty registry.
 */
#ifndef SENTIENT_REGISTRY_H
#define SENTIENT_REGISTRY_H

#include "base/worker.h"
#include "storage/lwlock.h"

#define WORKER_ERROR_LENGTH		256

typedef enum SchedulerState
{
	SCHEDULER_UNKNOWN,			/* it is not known whether the database has the extension */
	SCHEDULER_STARTING,			/* the launcher has asked the postmaster for it */
	SCHEDULER_RUNNING,
	SCHEDULER_STOPPED,			/* it ended with an error or was terminated */
	SCHEDULER_ABSENT,			/* the database does not have the extension */
} SchedulerState;

typedef struct JobStatus
{
	TimestampTz last_run_at;
	int64		runs;
	int64		errors;
	bool		running;
	bool		requested;
	char		last_error[WORKER_ERROR_LENGTH];
} JobStatus;

typedef struct DatabaseSlot
{
	Oid			database;		/* InvalidOid: free */
	SchedulerState state;
	int			pid;			/* the scheduler, or 0 */
	int			writer;			/* the ingest writer, or 0 */
	TimestampTz not_before;		/* the launcher does nothing for it until then */
	TimestampTz started_at;		/* when the launcher asked for it, or it started */
	int			blocker;		/* pid of a session that wants no scheduler here, or 0 */
	bool		examine;		/* look again whether the extension is there */
	int64		failures;		/* ends with an error in a row */
	JobStatus	scheduler;		/* the worker itself: starts and failures */
	JobStatus	jobs[SCHEDULER_MAX_JOBS];
} DatabaseSlot;

typedef struct Registry
{
	LWLock	   *lock;
	int			launcher_pid;
	TimestampTz launcher_last_run_at;
	int64		launcher_runs;
	int			nslots;
	DatabaseSlot slots[FLEXIBLE_ARRAY_MEMBER];
} Registry;

/* NULL unless the library is in shared_preload_libraries. */
extern Registry *registry;

extern void registry_init(void);

/* The slot of a database, or NULL; the caller holds the lock. */
extern DatabaseSlot *registry_find(Oid database);

/*
 * The slot of a database, made if need be: a free one, else that of the database
 * known for longest not to have the extension.  NULL when every slot is in use;
 * the caller holds the lock exclusively.
 */
extern DatabaseSlot *registry_claim(Oid database);

/* Set the latch of a process that may be gone; the caller need not hold the lock. */
extern void registry_wake(int pid);

/* Is there such a process, connected to the database? */
extern bool registry_alive(int pid, Oid database);

/* The calling ingest writer tells that it is there, and asks whether it may stay. */
extern void registry_writer_attach(void);
extern bool registry_writer_may_run(void);

/* Error out with a hint unless the library was preloaded. */
extern void registry_require(void);

#endif							/* SENTIENT_REGISTRY_H */
