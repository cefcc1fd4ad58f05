/*
 * find.c
 *		Which partition takes a time: a binary search in the bounds that the
 *		relation cache holds of the parent, which is the only cache that is
 *		certain to be invalidated by every ATTACH and DETACH.
 *
 * Called by the ingest routes for every run of samples of one partition, and by
 * maintenance.  The caller's lock on the parent keeps partitions from being
 * detached; one that was attached meanwhile is seen after the next lock that
 * the backend takes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/partition.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "partition/find.h"
#include "partition/partition.h"

static TimestampTz bound_value(PartitionBoundInfo bounds, int i);

bool
partition_supported(Relation parent)
{
	PartitionKey key;

	if (parent->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return false;
	key = RelationGetPartitionKey(parent);
	return get_partition_strategy(key) == PARTITION_STRATEGY_RANGE &&
		get_partition_natts(key) == 1 &&
		get_partition_col_attnum(key, 0) != 0 &&
		get_partition_col_typid(key, 0) == TIMESTAMPTZOID;
}

PartitionRange
partition_find(Relation parent, TimestampTz time)
{
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	PartitionRange range = {InvalidOid, true, time, time};
	int			low = 0;
	int			high;
	int			index;

	se_assert(partition_supported(parent));
	if (bounds == NULL)
		return range;

	/* Find how many bounds are at or below the time. */
	high = bounds->ndatums;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (bound_value(bounds, middle) <= time)
			low = middle + 1;
		else
			high = middle;
	}

	/* indexes[i] is the partition between bound i - 1 and bound i, or -1. */
	index = bounds->ndatums == 0 ? -1 : bounds->indexes[low];
	if (index >= 0)
	{
		se_assert(index < desc->nparts);
		range.relid = desc->oids[index];
		range.is_default = false;
		range.lower = low == 0 ? DT_NOBEGIN : bound_value(bounds, low - 1);
		range.upper = low == bounds->ndatums ? DT_NOEND : bound_value(bounds, low);
		se_assert(range.lower <= time && (time < range.upper || TIMESTAMP_IS_NOEND(time)));
	}
	else if (bounds->default_index >= 0)
		range.relid = desc->oids[bounds->default_index];
	return range;
}

Oid
partition_default(Relation parent)
{
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;

	return bounds == NULL || bounds->default_index < 0 ? InvalidOid : desc->oids[bounds->default_index];
}

PartitionRange
partition_gap(Relation parent, TimestampTz time)
{
	PartitionBoundInfo bounds = RelationGetPartitionDesc(parent, true)->boundinfo;
	PartitionRange gap = {InvalidOid, true, DT_NOBEGIN, DT_NOEND};

	for (int i = 0; bounds != NULL && i < bounds->ndatums; i++)
	{
		TimestampTz value = bound_value(bounds, i);

		if (value <= time)
			gap.lower = value;
		else
		{
			gap.upper = value;
			break;
		}
	}
	return gap;
}

int
partition_list(Relation parent, PartitionRange **ranges)
{
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	int			n = 0;

	*ranges = palloc(sizeof(PartitionRange) * (desc->nparts + 1));
	for (int i = 0; bounds != NULL && bounds->ndatums > 0 && i <= bounds->ndatums; i++)
	{
		if (bounds->indexes[i] < 0)
			continue;
		(*ranges)[n].relid = desc->oids[bounds->indexes[i]];
		(*ranges)[n].is_default = false;
		(*ranges)[n].lower = i == 0 ? DT_NOBEGIN : bound_value(bounds, i - 1);
		(*ranges)[n].upper = i == bounds->ndatums ? DT_NOEND : bound_value(bounds, i);
		n++;
	}
	return n;
}

static TimestampTz
bound_value(PartitionBoundInfo bounds, int i)
{
	switch (bounds->kind[i][0])
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return DT_NOBEGIN;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return DT_NOEND;
		default:
			return DatumGetTimestampTz(bounds->datums[i][0]);
	}
}
