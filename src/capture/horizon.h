/*
 * horizon.h
 *		How far back new entries of audit.log have to be looked for.
 */
#ifndef SENTIENT_HORIZON_H
#define SENTIENT_HORIZON_H

#include "datatype/timestamp.h"

#include "audit/seal_snapshot.h"
#include "capture/log_write.h"

typedef struct Horizons Horizons;

extern void horizon_init(void);

/* Entries have been written in this subtransaction: leave a note if they lie behind the horizon. */
extern void horizon_note(const LogEntry *entries, int n);

/* In a run of sealing: the horizons under the active snapshot. */
extern Horizons *horizon_read(void);

/* Entries of the transactions from xid on that the active snapshot sees have this time or a later one. */
extern TimestampTz horizon_since(const Horizons *horizons, uint64 xid);

/*
 * At the end of the run: forget the notes of what "now" sees, and have the horizon
 * follow the clock.  before: no run asks for a transaction below its xmin again;
 * NULL when that is not known.
 */
extern void horizon_keep(const Horizons *horizons, const SealSnapshot *before, const SealSnapshot *now);

#endif							/* SENTIENT_HORIZON_H */
