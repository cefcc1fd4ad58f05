/*
 * ingest_stage.c
 *		Takes the samples of a batch in: those at fault are rejected, the others
 *		grouped by drone and brought in order.
 *
 * Called by every ingest function, through ingest.h, and by ingest.c, which stores
 * what is staged here.  All of it is memory of the caller's; takes no locks.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "compat.h"
#include "errors.h"
#include "telemetry/ingest_private.h"

/* Samples are handed out from blocks, whose addresses stay. */
#define BLOCK_SAMPLES	512

#define SH_PREFIX		group
#define SH_ELEMENT_TYPE	DroneGroup
#define SH_KEY			drone_id
#include "base/uuid_hash.h"

/*
 * Start a batch.
 */
IngestBatch *
ingest_begin(const char *route)
{
	IngestBatch *batch = palloc0(sizeof(IngestBatch));
	const SentientSettings *settings = settings_get();

	ingest_require_writable();

	batch->route = route;
	batch->context = CurrentMemoryContext;
	batch->accept_from = settings->accept_from;
	batch->accept_until = GetCurrentTimestamp() + settings->accept_ahead_us;
	batch->groups = group_create(CurrentMemoryContext, 64, NULL);
	return batch;
}

/*
 * Have rejected payloads built by the route.
 */
void
ingest_set_payload(IngestBatch *batch, IngestPayload payload, void *arg)
{
	batch->payload = payload;
	batch->payload_arg = arg;
}

static void
keep_rejected(IngestBatch *batch, const Sample *sample, int sqlerrcode, const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	RejectedSample *rejected = palloc0(sizeof(RejectedSample));

	rejected->payload = batch->payload != NULL ?
		batch->payload(batch->payload_arg, sample) : sample_to_jsonb(sample);
	rejected->has_drone_id = sample_has(sample, SAMPLE_DRONE_ID);
	rejected->drone_id = sample->drone_id;
	rejected->has_recorded_at = sample_has(sample, SAMPLE_RECORDED_AT);
	rejected->recorded_at = sample->recorded_at;
	rejected->ordinal = sample->ordinal;
	rejected->sqlerrcode = sqlerrcode;
	rejected->reason = pstrdup(reason);
	rejected->next = batch->rejected;
	batch->rejected = rejected;
	batch->counts.rejected++;
	MemoryContextSwitchTo(old);
}

void
ingest_reject(IngestBatch *batch, const Sample *sample, SampleFault fault, SampleColumn column, double value)
{
	int			sqlerrcode = sample_fault_sqlstate(fault);
	char	   *reason = sample_fault_reason(fault, sample, column, value);

	keep_rejected(batch, sample, sqlerrcode, reason);
	pfree(reason);
}

/*
 * Put the sample that was handed out last into its drone's group.
 */
void
ingest_stage_last(IngestBatch *batch)
{
	StagedSample *staged = batch->last;
	Sample	   *sample;
	DroneGroup *group;
	bool		found;

	if (staged == NULL)
		return;
	batch->last = NULL;
	sample = &staged->sample;

	if (unlikely(!sample_has(sample, SAMPLE_DRONE_ID)))
	{
		ingest_reject(batch, sample, SAMPLE_NULL_DRONE_ID, 0, 0);
		return;
	}
	if (unlikely(!sample_has(sample, SAMPLE_RECORDED_AT)))
	{
		ingest_reject(batch, sample, SAMPLE_NULL_RECORDED_AT, 0, 0);
		return;
	}
	if (unlikely(sample->recorded_at < batch->accept_from ||
				 sample->recorded_at > batch->accept_until))
	{
		ingest_reject(batch, sample, SAMPLE_OUTSIDE_WINDOW, 0, 0);
		return;
	}

	/* A drone's samples often come in a row. */
	group = batch->current;
	if (group == NULL || memcmp(&group->drone_id, &sample->drone_id, UUID_LEN) != 0)
	{
		group = group_insert(batch->groups, sample->drone_id, &found);
		if (!found)
		{
			group->nsamples = 0;
			group->in_order = true;
			group->first = group->last = group->repeats = NULL;
		}
		batch->current = group;
	}

	if (group->last != NULL)
	{
		if (sample->recorded_at <= group->last->sample.recorded_at)
			group->in_order = false;
		group->last->next = staged;
	}
	else
		group->first = staged;
	group->last = staged;
	group->nsamples++;
}

/*
 * The next sample to fill.
 */
Sample *
ingest_next(IngestBatch *batch)
{
	StagedSample *staged;

	ingest_stage_last(batch);

	if (batch->block == NULL || batch->block_used == BLOCK_SAMPLES)
	{
		batch->block = MemoryContextAlloc(batch->context, BLOCK_SAMPLES * sizeof(StagedSample));
		batch->block_used = 0;
		CHECK_FOR_INTERRUPTS();
	}
	staged = &batch->block[batch->block_used++];
	memset(staged, 0, sizeof(StagedSample));
	staged->sample.ordinal = batch->nsent++;
	batch->last = staged;
	return &staged->sample;
}

/*
 * Reject the sample that was handed out last.
 */
void
ingest_reject_last(IngestBatch *batch, SampleFault fault, SampleColumn column, double value)
{
	se_assert(batch->last != NULL);
	ingest_reject(batch, &batch->last->sample, fault, column, value);
	batch->last = NULL;
}

/*
 * Reject the sample that was handed out last for a reason of the route's own.
 */
void
ingest_reject_last_because(IngestBatch *batch, int sqlerrcode, const char *reason)
{
	se_assert(batch->last != NULL);
	keep_rejected(batch, &batch->last->sample, sqlerrcode, reason);
	batch->last = NULL;
}

static int
compare_groups(const void *a, const void *b)
{
	return memcmp(&(*(DroneGroup *const *) a)->drone_id, &(*(DroneGroup *const *) b)->drone_id, UUID_LEN);
}

/* By time, then by the order in which they were sent. */
static int
compare_staged(const void *a, const void *b)
{
	const Sample *left = &(*(StagedSample *const *) a)->sample;
	const Sample *right = &(*(StagedSample *const *) b)->sample;

	if (left->recorded_at != right->recorded_at)
		return left->recorded_at < right->recorded_at ? -1 : 1;
	return left->ordinal < right->ordinal ? -1 : 1;
}

/*
 * Bring a drone's samples in order of time; of equal times the first sent stays.
 */
static void
sort_group(IngestBatch *batch, DroneGroup *group)
{
	StagedSample **all = MemoryContextAllocHuge(batch->context, sizeof(StagedSample *) * group->nsamples);
	StagedSample *staged = group->first;
	StagedSample **next_repeat = &group->repeats;
	int			n = group->nsamples;

	for (int i = 0; i < n; i++, staged = staged->next)
		all[i] = staged;
	qsort(all, n, sizeof(StagedSample *), compare_staged);

	group->first = group->last = all[0];
	group->nsamples = 1;
	for (int i = 1; i < n; i++)
	{
		if (all[i]->sample.recorded_at == group->last->sample.recorded_at)
		{
			*next_repeat = all[i];
			next_repeat = &all[i]->next;
			continue;
		}
		group->last->next = all[i];
		group->last = all[i];
		group->nsamples++;
	}
	group->last->next = NULL;
	*next_repeat = NULL;
	group->in_order = true;
	pfree(all);
}

/*
 * Put the groups and the samples in each into the order in which rows are stored.
 */
void
ingest_put_in_order(IngestBatch *batch)
{
	group_iterator iterator;
	DroneGroup *group;
	int			n = 0;

	batch->order = palloc(sizeof(DroneGroup *) * Max(batch->groups->members, 1));
	group_start_iterate(batch->groups, &iterator);
	while ((group = group_iterate(batch->groups, &iterator)) != NULL)
	{
		if (!group->in_order)
			sort_group(batch, group);
		batch->order[n++] = group;
	}
	qsort(batch->order, n, sizeof(DroneGroup *), compare_groups);
	batch->ngroups = n;
}
