/*
 * latest.h
 *		telemetry.drone_latest: the newest sample of each drone.
 */
#ifndef SENTIENT_LATEST_H
#define SENTIENT_LATEST_H

#include "storage/itemptr.h"
#include "telemetry/sample.h"

typedef struct LatestTable LatestTable;

/* What drone_latest and core.drones say of one drone. */
typedef struct LatestState
{
	bool		drone_exists;
	bool		has_sample;		/* drone_latest has a row: */
	ItemPointerData tid;		/* where it was when it was read */
	TimestampTz recorded_at;	/* its time */
	int64		received;		/* samples stored ever */
	int64		late;			/* of these, older than the latest then */
	int64		duplicate;
	int			alert_states;	/* rows of telemetry.alert_states that the drone may have */
} LatestState;

/* What one call changes for a drone. */
typedef struct LatestChange
{
	const Sample *newest;		/* of its stored samples; NULL when none was */
	int64		received;		/* stored */
	int64		late;			/* of these, older than the latest before */
	int64		duplicate;

	/*
	 * Evaluates the alerts of samples newer than the state's and returns the
	 * number of alert states that the drone has then.  Called before the row is
	 * changed, again when another session was faster.  May be NULL.
	 */
	int			(*evaluate) (void *arg, const LatestState *state);
	void	   *arg;
} LatestChange;

/* Open drone_latest (RowExclusiveLock, kept until the transaction ends). */
extern LatestTable *latest_open(void);

/*
 * Read a drone's state as committed by now.  A drone that has no row yet is
 * looked up in core.drones and locked against removal; nothing else is locked.
 */
extern LatestState latest_read(LatestTable *table, const pg_uuid_t *drone_id);

/* The time of a drone's latest sample and its alert states, without a lock or a look at core.drones; false when it has none. */
extern bool latest_peek(const pg_uuid_t *drone_id, TimestampTz *recorded_at, int *alert_states);

/*
 * Count what came of a drone, and make its newest sample the latest unless a
 * newer one is there.  Waits for other transactions that change the row: call
 * in order of drone_id.  False when the row has vanished meanwhile; the caller
 * begins again from latest_read.
 */
extern bool latest_advance(LatestTable *table, const pg_uuid_t *drone_id, LatestState *state,
						   const LatestChange *change, TimestampTz received_at);

extern void latest_close(LatestTable *table);

#endif							/* SENTIENT_LATEST_H */
