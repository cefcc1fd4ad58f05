/*
 * partition.c
 *		Start-up of the partition module: its parameters, its job, and what SQL
 *		shows of partitions.
 */
#include "postgres.h"

#include "access/relation.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "partition/find.h"
#include "partition/parameters.h"
#include "partition/partition.h"

int			partition_lock_timeout = 200;
int			partition_wait = 3000;
int			partition_maintenance_interval = 300;

void		(*partition_restored_hook) (Oid parent) = NULL;
void		(*partition_retire_hook) (Oid parent, TimestampTz before, const Oid *partitions, int npartitions) = NULL;

PG_FUNCTION_INFO_V1(partition_ranges);

void
partition_init(void)
{
	DefineCustomIntVariable("sentient_edge.partition_lock_timeout",
							"How long partition maintenance waits for a lock.",
							"While it waits for the default partition, new readers and writers of that one wait too. "
							"What cannot be done in this time is undone and tried again later.",
							&partition_lock_timeout, 200, 1, 60000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sentient_edge.partition_wait",
							"How long ingest waits until a missing partition has been made.",
							"After that the samples go to the default partition and are moved later. 0 does not wait.",
							&partition_wait, 3000, 0, 60000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sentient_edge.partition_maintenance_interval",
							"Time between two runs of partition maintenance in a database.",
							"Rows that reach a default partition start a run at once.",
							&partition_maintenance_interval, 300, 1, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	partition_request_init();
}

/* sentient_edge.partition_ranges(regclass): every partition with its range. */
Datum
partition_ranges(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	parent;
	PartitionRange *ranges;
	int			nranges;
	Datum		values[4];
	bool		nulls[4] = {false};

	InitMaterializedSRF(fcinfo, 0);
	parent = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	if (parent == NULL)
		return (Datum) 0;
	if (partition_supported(parent))
	{
		nranges = partition_list(parent, &ranges);
		for (int i = 0; i < nranges; i++)
		{
			values[0] = ObjectIdGetDatum(ranges[i].relid);
			values[1] = BoolGetDatum(false);
			values[2] = TimestampTzGetDatum(ranges[i].lower);
			values[3] = TimestampTzGetDatum(ranges[i].upper);
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
		if (OidIsValid(partition_default(parent)))
		{
			values[0] = ObjectIdGetDatum(partition_default(parent));
			values[1] = BoolGetDatum(true);
			nulls[2] = nulls[3] = true;
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
	relation_close(parent, AccessShareLock);
	return (Datum) 0;
}
