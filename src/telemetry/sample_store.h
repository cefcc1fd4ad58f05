/*
 * sample_store.h
 *		Where samples are kept: open, append batches, close.
 *
 * The one interface through which every route writes samples, so that a
 * partition may be stored otherwise than as a heap without a route knowing.
 */
#ifndef SENTIENT_SAMPLE_STORE_H
#define SENTIENT_SAMPLE_STORE_H

#include "telemetry/sample.h"
#include "utils/relcache.h"

typedef struct SampleStore SampleStore;

/* What sample_store_append is told of a sample, and tells of it. */
typedef enum SampleState
{
	SAMPLE_NEW,					/* in: surely not stored yet, as far as is known */
	SAMPLE_UNSURE,				/* in: may be stored already, look first */
	SAMPLE_STORED,				/* out */
	SAMPLE_STORED_AND_NOTED,	/* out: by the executor, the table's triggers have noted it */
	SAMPLE_DUPLICATE,			/* out: was stored already */
	SAMPLE_LEFT_OUT,			/* out: a trigger of the user's did not let it in */
} SampleState;

#define sample_was_stored(state)	((state) == SAMPLE_STORED || (state) == SAMPLE_STORED_AND_NOTED)

/* Open telemetry.drone_telemetry, whose relation the caller holds with RowExclusiveLock. */
extern SampleStore *sample_store_open(Relation parent, TimestampTz received_at);

/*
 * Append one sample.  Samples come in order of (drone_id, recorded_at), so that
 * sessions that store the same ones wait for each other and do not deadlock.
 * *state is written at once or at a later append, at the latest by close; both
 * pointers must stay valid until then.  A concurrent insert of the same key
 * raises a unique violation: the caller runs this in a subtransaction and
 * retries with SAMPLE_UNSURE.
 */
extern void sample_store_append(SampleStore *store, const Sample *sample, SampleState *state);

/*
 * Did samples go through the executor, which fires the table's triggers?  These wait
 * for insert_trigger_settle then, with which the caller has drone_latest advanced.
 */
extern bool sample_store_used_executor(const SampleStore *store);

/* Write what is pending and release everything; true when rows went to the default partition. */
extern bool sample_store_close(SampleStore *store);

#endif							/* SENTIENT_SAMPLE_STORE_H */
