/*
 * ingest_private.h
 *		What ingest.c and ingest_stage.c share: a batch, its drones and samples.
 */
#ifndef SENTIENT_INGEST_PRIVATE_H
#define SENTIENT_INGEST_PRIVATE_H

#include "telemetry/ingest.h"
#include "telemetry/latest.h"
#include "telemetry/rejected.h"
#include "telemetry/sample_store.h"

/* A sample and what the batch does with it. */
typedef struct StagedSample
{
	Sample		sample;			/* first: ingest_next hands out its address */
	struct StagedSample *next;	/* of the same drone, in order of time at last */
	SampleState state;
} StagedSample;

/* All samples of one drone. */
typedef struct DroneGroup
{
	pg_uuid_t	drone_id;
	char		status;			/* of the hash table */
	int			nsamples;
	bool		in_order;		/* the list runs in order of time, without repeats */
	StagedSample *first;
	StagedSample *last;
	StagedSample *repeats;		/* of times that the list has, in the same order */
	LatestState latest;
} DroneGroup;

struct IngestBatch
{
	const char *route;
	IngestPayload payload;
	void	   *payload_arg;
	MemoryContext context;		/* current at ingest_begin */
	TimestampTz accept_from;
	TimestampTz accept_until;

	StagedSample *block;		/* the newest block */
	int			block_used;
	StagedSample *last;			/* what ingest_next handed out last */
	int			nsent;

	struct group_hash *groups;
	int			ngroups;
	DroneGroup **order;			/* the groups in order of drone_id */
	DroneGroup *current;		/* the group of the last sample */
	bool		used_default;	/* rows went to the default partition */

	RejectedSample *rejected;	/* newest first */
	IngestCounts counts;
};

/* Put the sample that was handed out last into its drone's group. */
extern void ingest_stage_last(IngestBatch *batch);

/* Put the groups and the samples in each into the order in which rows are stored. */
extern void ingest_put_in_order(IngestBatch *batch);

/* Keep a sample as rejected. */
extern void ingest_reject(IngestBatch *batch, const Sample *sample, SampleFault fault,
						  SampleColumn column, double value);

#endif							/* SENTIENT_INGEST_PRIVATE_H */
