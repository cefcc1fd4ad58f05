/*
 * submit.h
 *		One sample on its way through the telemetry queue.
 */
#ifndef SENTIENT_SUBMIT_H
#define SENTIENT_SUBMIT_H

#include "telemetry/sample.h"

/*
 * A sample in shared memory.  The pointers of the sample are void; the values
 * that they stood for follow it, each a varlena at a MAXALIGN'd offset from the
 * beginning, 0 for none.
 */
typedef struct QueuedSample
{
	Sample		sample;
	uint32		flight_mode_offset;
	uint32		extra_offset;
} QueuedSample;

#endif							/* SENTIENT_SUBMIT_H */
