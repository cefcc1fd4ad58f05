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
} LatestState;

/* Open drone_latest (RowExclusiveLock, kept until the transaction ends). */
extern LatestTable *latest_open(void);

/*
 * Read a drone's state as committed by now.  A drone that has no row yet is
 * looked up in core.drones and locked against removal; nothing else is locked.
 */
extern LatestState latest_read(LatestTable *table, const pg_uuid_t *drone_id);

/*
 * Make the sample the drone's latest unless a newer one is there.  Waits for
 * other transactions that change the row: call in order of drone_id.  False
 * when the row has vanished meanwhile; the caller begins again from latest_read.
 */
extern bool latest_advance(LatestTable *table, LatestState *state, const Sample *sample,
						   TimestampTz received_at);

extern void latest_close(LatestTable *table);

#endif							/* SENTIENT_LATEST_H */
