/*
 * steps.h
 *		The steps of maintenance.  Each runs in a (sub)transaction of its own,
 *		inside a sql_begin scope, with a lock on the parent.
 */
#ifndef SENTIENT_PARTITION_STEPS_H
#define SENTIENT_PARTITION_STEPS_H

#include "nodes/pg_list.h"

#include "partition/create.h"
#include "partition/maintenance.h"

/* One line for the report; it is passed on once the step is committed. */
typedef struct StepReport
{
	const char *action;
	char	   *detail;
} StepReport;

typedef struct Step
{
	Maintenance *maintenance;
	const ManagedTable *table;
	MemoryContext context;		/* for what outlives the step's transaction */
	TimestampTz time;			/* in: the time in question; out: the time found */
	Oid			relid;			/* in, retire: the partition */
	bool		done;			/* out: there is nothing (more) to do */
	bool		uniform;		/* out, survey: all partitions are of the configured interval, and pg_partman may be asked */
	List	   *relids;			/* out, survey: partitions past their retention */
	PartitionMade made;			/* out, create */
	List	   *says;			/* out: StepReports */
	ErrorData  *error;			/* out: why the last try failed */
} Step;

/* May anything be done?  Registers the table, and brings pg_partman in line with the settings. */
extern void step_prepare(Step *step, Oid parent);

/* Make the partition of step->time. */
extern void step_create(Step *step, Oid parent);

/* Find the first row at or after step->time that can be moved out of the default partition. */
extern void step_default_row(Step *step, Oid parent);

/* Find the first time from step->time on that should have a partition ahead of now and has none. */
extern void step_ahead(Step *step, Oid parent);

/* Statistics of the partition just made. */
extern void step_analyze(Step *step, Oid parent);

/* Which partitions are past their retention, and are all of the configured interval? */
extern void step_survey(Step *step, Oid parent);

/* Detach or drop the partition step->relid. */
extern void step_retire(Step *step, Oid parent);

/* Have pg_partman retire what the survey has listed. */
extern void step_retire_all(Step *step, Oid parent);

/* Report rows that no partition can be made for. */
extern void step_stray_rows(Step *step, Oid parent);

/* Report how far ahead of now there are partitions. */
extern void step_runway(Step *step, Oid parent);

/* Pass on one line of the report. */
extern void step_report(Step *step, const char *action, const char *detail);

#endif							/* SENTIENT_PARTITION_STEPS_H */
