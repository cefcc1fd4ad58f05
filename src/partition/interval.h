/*
 * interval.h
 *		Where the partitions of an interval begin and end, in UTC.
 */
#ifndef SENTIENT_PARTITION_INTERVAL_H
#define SENTIENT_PARTITION_INTERVAL_H

#include "base/settings.h"

/* The aligned range that holds the time, which must be finite. */
extern void interval_range(PartitionInterval interval, TimestampTz time, TimestampTz *lower, TimestampTz *upper);

/* The interval as pg_partman and settings write it. */
extern const char *interval_name(PartitionInterval interval);

/* "20180131" for a time of that day in UTC. */
extern char *interval_suffix(TimestampTz time);

/* "2018-01-31 00:00:00+00", or an infinity. */
extern char *interval_bound(TimestampTz time);

#endif							/* SENTIENT_PARTITION_INTERVAL_H */
