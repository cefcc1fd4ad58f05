/*
 * managed.h
 *		The partitioned tables that the extension looks after.
 */
#ifndef SENTIENT_PARTITION_MANAGED_H
#define SENTIENT_PARTITION_MANAGED_H

#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "base/settings.h"

typedef struct ManagedTable
{
	const char *schema;
	const char *name;
	const char *control;		/* the timestamptz column that it is partitioned by */
	bool		has_key;		/* a primary key */
	size_t		settings_offset;	/* of its PartitionSettings in SentientSettings */
	const char *waiting;		/* where rows wait while a dump is restored; NULL: there are none then */
} ManagedTable;

#define MANAGED_TABLES			3
extern const ManagedTable managed_tables[MANAGED_TABLES];

/* What partition_housekeeping() and partition_making() tell; set under PG_TRY. */
extern bool managed_housekeeping;
extern bool managed_making;

/* "telemetry.drone_telemetry", as pg_partman writes it. */
extern char *managed_name(const ManagedTable *table);

extern const PartitionSettings *managed_settings(const ManagedTable *table);

/* Its oid, or InvalidOid. */
extern Oid	managed_relid(const ManagedTable *table);

/* Is a dump being restored into it, as far as is known? */
extern bool managed_restoring(const ManagedTable *table);

/* Open and lock it; NULL when it is not there or is not partitioned as it should be. */
extern Relation managed_open(const ManagedTable *table, LOCKMODE lockmode);

/* The managed table of that oid, or NULL. */
extern const ManagedTable *managed_find(Oid relid);

typedef enum ManagedState
{
	MANAGED_READY,
	MANAGED_RESTORING,			/* a dump is being restored: hands off */
	MANAGED_BROKEN,				/* no default partition, or not the valid primary key that it has */
} ManagedState;

/*
 * May partitions be made now?  Inside a sql_begin scope.  A restore that has
 * become complete, or that the caller declares complete, is over afterwards.
 */
extern ManagedState managed_state(const ManagedTable *table, Relation parent, bool declare_complete);

#endif							/* SENTIENT_PARTITION_MANAGED_H */
