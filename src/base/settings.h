/*
 * settings.h
 *		The rows of sentient_edge.settings, decoded and cached.
 */
#ifndef SENTIENT_SETTINGS_H
#define SENTIENT_SETTINGS_H

#include "datatype/timestamp.h"

typedef enum PartitionInterval
{
	PARTITION_BY_DAY,
	PARTITION_BY_WEEK,			/* ISO weeks, from Monday */
	PARTITION_BY_MONTH,
} PartitionInterval;

/* How one partitioned parent is kept. */
typedef struct PartitionSettings
{
	PartitionInterval interval; /* *.partition_interval */
	int			premake;		/* *.partition_premake: partitions made ahead of now */
	bool		has_retention;
	Interval	retention;		/* *.retention: age at which a partition is retired */
	bool		retention_drop; /* *.retention_action: drop, else detach */
} PartitionSettings;

typedef struct SentientSettings
{
	TimestampTz accept_from;	/* telemetry.accept_from: oldest recorded_at taken */
	int64		accept_ahead_us;	/* telemetry.accept_ahead: how far ahead of now */
	int64		mavlink_state_age_us;	/* telemetry.mavlink_state_age: oldest value a sample is made of */
	PartitionSettings telemetry;	/* telemetry.drone_telemetry */
	PartitionSettings audit;	/* audit.log */
	PartitionSettings security_events;	/* audit.security_events */
} SentientSettings;

extern void settings_init(void);

/*
 * The settings in force: committed changes of other sessions are seen from the
 * next transaction on, own changes at once.  The pointer is valid until the
 * next call.  Call it inside a transaction.
 */
extern const SentientSettings *settings_get(void);

#endif							/* SENTIENT_SETTINGS_H */
