/*
 * ingest.h
 *		The one way by which decoded samples are validated, deduplicated and
 *		stored, in the caller's transaction.
 *
 *		IngestBatch *batch = ingest_begin("route");
 *		for each sample sent:
 *			Sample *sample = ingest_next(batch);	fill it, or
 *			ingest_reject(batch, ...);				it could not be decoded
 *		counts = ingest_finish(batch);
 *
 * Everything is allocated in the memory context that is current at
 * ingest_begin; pointers in a Sample must live until ingest_finish.
 */
#ifndef SENTIENT_INGEST_H
#define SENTIENT_INGEST_H

#include "fmgr.h"
#include "telemetry/sample.h"

typedef struct IngestCounts
{
	int32		accepted;
	int32		duplicate;
	int32		rejected;
} IngestCounts;

typedef enum IngestOutcome
{
	INGEST_ACCEPTED,
	INGEST_DUPLICATE,
	INGEST_REJECTED,
} IngestOutcome;

typedef struct IngestBatch IngestBatch;
struct RejectedSample;

/* Builds the payload that is kept when the sample with that ordinal is rejected. */
typedef Jsonb *(*IngestPayload) (void *arg, const Sample *sample);

/* Error out on a standby, in a read-only transaction and in parallel mode. */
extern void ingest_require_writable(void);

/* Start a batch; route names the caller in rejected_samples ("ingest", "mavlink", ...). */
extern IngestBatch *ingest_begin(const char *route);

/* Have rejected payloads built by this function instead of sample_to_jsonb. */
extern void ingest_set_payload(IngestBatch *batch, IngestPayload payload, void *arg);

/* The next sample: zeroed, nothing present, its ordinal set.  Valid until the next call. */
extern Sample *ingest_next(IngestBatch *batch);

/*
 * Take back the sample that ingest_next handed out last: it is rejected with
 * this reason.  column is the one at fault, or 0; value is the number at fault.
 */
extern void ingest_reject_last(IngestBatch *batch, SampleFault fault, SampleColumn column, double value);

/* The same with a reason of the caller's own. */
extern void ingest_reject_last_because(IngestBatch *batch, int sqlerrcode, const char *reason);

/* Validate, deduplicate and store; returns with accepted + duplicate + rejected = sent. */
extern IngestCounts ingest_finish(IngestBatch *batch);

/*
 * The same for samples that are kept already: outcomes, with room for every
 * sample sent, tells what became of each, and the rejected ones are returned
 * instead of written.
 */
extern IngestCounts ingest_finish_outcomes(IngestBatch *batch, IngestOutcome *outcomes,
										   struct RejectedSample **rejected);

/* How many samples ingest_next has handed out. */
extern int	ingest_count_sent(const IngestBatch *batch);

/* The composite (accepted, duplicate, rejected) that every ingest function returns. */
extern Datum ingest_counts_datum(FunctionCallInfo fcinfo, IngestCounts counts);

#endif							/* SENTIENT_INGEST_H */
