/*
 * rejected.h
 *		Samples that were refused and are kept in telemetry.rejected_samples.
 */
#ifndef SENTIENT_REJECTED_H
#define SENTIENT_REJECTED_H

#include "telemetry/sample.h"

typedef struct RejectedSample
{
	struct RejectedSample *next;	/* the one refused before it */
	bool		has_drone_id;
	bool		has_recorded_at;
	pg_uuid_t	drone_id;
	TimestampTz recorded_at;
	int32		ordinal;		/* place in what the client sent */
	int			sqlerrcode;
	char	   *reason;
	Jsonb	   *payload;
} RejectedSample;

/* Write a list of them, oldest first, in the caller's transaction. */
extern void rejected_write(const char *route, RejectedSample *newest);

#endif							/* SENTIENT_REJECTED_H */
