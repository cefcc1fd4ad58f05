/*
 * steps.c
 *		The steps of maintenance.
 *
 * Called by maintenance.c, each in a (sub)transaction of its own.  Locks beside
 * those of create.c: retiring a partition takes ACCESS EXCLUSIVE on the parent
 * for a moment, for DETACH CONCURRENTLY is not possible beside a default
 * partition.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "errors.h"
#include "partition/find.h"
#include "partition/interval.h"
#include "partition/partition.h"
#include "partition/partman.h"
#include "partition/steps.h"

static void say(Step *step, const char *action, const char *format,...) pg_attribute_printf(3, 4);
static void accepted_window(TimestampTz *from, TimestampTz *until);
static char *default_name(const Step *step, Oid parent);
static int	list_partitions(Oid parent, PartitionRange **ranges);

void
step_prepare(Step *step, Oid parent)
{
	bool		registered = partman_registered(step->table);
	Relation	rel;
	ManagedState state;

	/* A restore that has ended is noticed, whether or not pg_partman knows the table. */
	if (!registered && !step->maintenance->may_register && !managed_restoring(step->table))
	{
		step->done = true;
		return;
	}
	rel = table_open(parent, NoLock);
	state = managed_state(step->table, rel, step->maintenance->declare_complete);
	table_close(rel, NoLock);
	switch (state)
	{
		case MANAGED_READY:
			break;
		case MANAGED_RESTORING:
			say(step, "skipped", "a dump is being restored: not all indexes and triggers of the table are back");
			step->done = true;
			return;
		case MANAGED_BROKEN:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s\" has no default partition or no valid primary key", managed_name(step->table)),
					 errhint("Restore both; no partitions are made until then.")));
	}

	/* Two that register at once would meet in part_config's primary key. */
	LockRelationOid(parent, ShareUpdateExclusiveLock);
	if (partman_configure(step->table))
	{
		const PartitionSettings *settings = managed_settings(step->table);

		if (!registered)
			step->maintenance->registered = true;
		say(step, registered ? "configured" : "registered", "partitions of %s, %d ahead",
			interval_name(settings->interval), settings->premake);
	}
}

void
step_create(Step *step, Oid parent)
{
	PartitionMade made = partition_create(step->table, parent, step->time, step->maintenance->stop_writers);

	step->made = made;
	step->made.name = MemoryContextStrdup(step->context, made.name);
	if (made.existed)
		return;
	say(step, "created", "%s, from %s to %s%s", made.name, interval_bound(made.lower), interval_bound(made.upper),
		made.clipped ? ", clipped to what its neighbours leave" : "");
	if (made.moved > 0)
		say(step, "moved", "%llu rows from the default partition to %s", (unsigned long long) made.moved, made.name);
}

void
step_default_row(Step *step, Oid parent)
{
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2];
	const char *control = quote_identifier(step->table->control);
	TimestampTz from;
	TimestampTz until;
	Datum		time;
	bool		isnull;

	accepted_window(&from, &until);
	values[0] = TimestampTzGetDatum(Max(from, step->time));
	values[1] = TimestampTzGetDatum(until);
	(void) sql_query(psprintf("SELECT min(%s) FROM ONLY %s WHERE %s >= $1 AND %s < $2",
							  control, default_name(step, parent), control, control), 2, types, values);
	time = sql_value(0, 0, &isnull);
	step->done = isnull;
	if (!isnull)
		step->time = DatumGetTimestampTz(time);
}

void
step_ahead(Step *step, Oid parent)
{
	const PartitionSettings *settings = managed_settings(step->table);
	Relation	rel;
	TimestampTz lower;
	TimestampTz until;

	interval_range(settings->interval, GetCurrentTimestamp(), &lower, &until);
	for (int i = 0; i < settings->premake; i++)
		interval_range(settings->interval, until, &lower, &until);
	rel = table_open(parent, NoLock);
	while (step->time < until)
	{
		PartitionRange range = partition_find(rel, step->time);

		if (range.is_default)
			break;
		step->time = range.upper;
	}
	table_close(rel, NoLock);
	step->done = step->time >= until;
}

void
step_analyze(Step *step, Oid parent)
{
	(void) sql_query(psprintf("ANALYZE %s", quote_qualified_identifier(step->table->schema, step->made.name)),
					 0, NULL, NULL);
}

void
step_survey(Step *step, Oid parent)
{
	const PartitionSettings *settings = managed_settings(step->table);
	PartitionRange *ranges;
	int			nranges = list_partitions(parent, &ranges);
	TimestampTz cutoff = DT_NOBEGIN;

	if (settings->has_retention)
		cutoff = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
														 TimestampTzGetDatum(GetCurrentTimestamp()),
														 IntervalPGetDatum(&settings->retention)));
	step->uniform = nranges > 0 && partman_can_retire();
	step->relids = NIL;
	for (int i = 0; i < nranges; i++)
	{
		TimestampTz lower;
		TimestampTz upper;

		if (TIMESTAMP_NOT_FINITE(ranges[i].lower) || TIMESTAMP_NOT_FINITE(ranges[i].upper))
			step->uniform = false;
		else
		{
			interval_range(settings->interval, ranges[i].lower, &lower, &upper);
			if (lower != ranges[i].lower || upper != ranges[i].upper)
				step->uniform = false;
		}
		if (ranges[i].upper < cutoff)
		{
			MemoryContext previous = MemoryContextSwitchTo(step->context);

			step->relids = lappend_oid(step->relids, ranges[i].relid);
			MemoryContextSwitchTo(previous);
		}
	}
}

static void
say_retired(Step *step, const char *name)
{
	say(step, "retired", "%s was %s", name, managed_settings(step->table)->retention_drop ? "dropped" : "detached");
}

/* Tell whoever keeps account of the rows, before any lock that they would wait for. */
static void
announce_retirement(Oid parent, List *relids)
{
	PartitionRange *ranges;
	int			nranges = list_partitions(parent, &ranges);
	Oid		   *oids = palloc(sizeof(Oid) * (list_length(relids) + 1));
	int			noids = 0;
	TimestampTz before = DT_NOBEGIN;

	for (int i = 0; i < nranges; i++)
	{
		if (!list_member_oid(relids, ranges[i].relid))
			continue;
		oids[noids++] = ranges[i].relid;
		before = Max(before, ranges[i].upper);
	}
	if (partition_retire_hook != NULL && noids > 0)
		partition_retire_hook(parent, before, oids, noids);
}

void
step_retire(Step *step, Oid parent)
{
	char	   *name;
	char	   *partition;

	announce_retirement(parent, list_make1_oid(step->relid));

	/* Both statements take it; taken first, nobody detaches a partition to keep it meanwhile. */
	LockRelationOid(parent, AccessExclusiveLock);
	name = get_rel_name(step->relid);
	if (name == NULL || !get_rel_relispartition(step->relid) || get_partition_parent(step->relid, true) != parent)
		return;
	partition = quote_qualified_identifier(get_namespace_name(get_rel_namespace(step->relid)), name);
	if (managed_settings(step->table)->retention_drop)
		(void) sql_query(psprintf("DROP TABLE %s", partition), 0, NULL, NULL);
	else
		(void) sql_query(psprintf("ALTER TABLE %s DETACH PARTITION %s",
								  quote_qualified_identifier(step->table->schema, step->table->name), partition),
						 0, NULL, NULL);
	say_retired(step, name);
}

void
step_retire_all(Step *step, Oid parent)
{
	int			nlisted = list_length(step->relids);
	char	  **names = palloc0(sizeof(char *) * (nlisted + 1));
	PartitionRange *ranges;
	int			nranges;

	announce_retirement(parent, step->relids);
	for (int i = 0; i < nlisted; i++)
		names[i] = get_rel_name(list_nth_oid(step->relids, i));
	partman_retire(step->table);
	CommandCounterIncrement();

	nranges = list_partitions(parent, &ranges);
	for (int i = 0; i < nlisted; i++)
	{
		bool		stays = false;

		for (int j = 0; j < nranges; j++)
			stays |= ranges[j].relid == list_nth_oid(step->relids, i);
		if (!stays && names[i] != NULL)
			say_retired(step, names[i]);
	}
}

void
step_stray_rows(Step *step, Oid parent)
{
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2];
	const char *control = quote_identifier(step->table->control);
	TimestampTz from;
	TimestampTz until;
	int64		rows;
	bool		isnull;

	accepted_window(&from, &until);
	values[0] = TimestampTzGetDatum(from);
	values[1] = TimestampTzGetDatum(until);
	(void) sql_query(psprintf("SELECT count(*) FROM ONLY %s WHERE %s < $1 OR %s >= $2",
							  default_name(step, parent), control, control), 2, types, values);
	rows = DatumGetInt64(sql_value(0, 0, &isnull));
	if (rows > 0)
		say(step, "default", "%lld rows stay in the default partition: their time is outside the accepted window",
			(long long) rows);
}

void
step_runway(Step *step, Oid parent)
{
	TimestampTz time = GetCurrentTimestamp();
	Relation	rel = table_open(parent, NoLock);
	int			ahead = -1;

	for (;;)
	{
		PartitionRange range = partition_find(rel, time);

		if (range.is_default || TIMESTAMP_IS_NOEND(time))
			break;
		ahead++;
		time = range.upper;
	}
	table_close(rel, NoLock);
	if (ahead < 0)
		say(step, "runway", "no partition takes the present time");
	else
		say(step, "runway", "%d future partitions, until %s", ahead, interval_bound(time));
}

/* A line for the report, which counts once the step is committed. */
static void
say(Step *step, const char *action, const char *format,...)
{
	char		detail[512];
	va_list		args;
	MemoryContext previous = MemoryContextSwitchTo(step->context);
	StepReport *line = palloc(sizeof(StepReport));

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	line->action = action;
	line->detail = pstrdup(detail);
	step->says = lappend(step->says, line);
	MemoryContextSwitchTo(previous);
}

/* The times that partitions are made for. */
static void
accepted_window(TimestampTz *from, TimestampTz *until)
{
	const SentientSettings *settings = settings_get();

	/* A day more: the row may have been accepted before the setting changed. */
	*from = settings->accept_from;
	*until = GetCurrentTimestamp() + settings->accept_ahead_us + USECS_PER_DAY;
}

static char *
default_name(const Step *step, Oid parent)
{
	Relation	rel = table_open(parent, NoLock);
	char	   *name = get_rel_name(partition_default(rel));

	table_close(rel, NoLock);
	return quote_qualified_identifier(step->table->schema, name);
}

static int
list_partitions(Oid parent, PartitionRange **ranges)
{
	Relation	rel = table_open(parent, NoLock);
	int			nranges = partition_list(rel, ranges);

	table_close(rel, NoLock);
	return nranges;
}
