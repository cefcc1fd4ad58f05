/*
 * mavlink_report.c
 *		telemetry.mavlink_report(): what a byte string of MAVLink frames holds.
 *
 * Reads the frames with the same reader as the import, stores nothing and
 * depends on nothing but its arguments.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "mavlink/mavlink_reader.h"

PG_FUNCTION_INFO_V1(telemetry_mavlink_report);

#define REPORT_COLUMNS			5
#define FRAMES_BETWEEN_CHECKS	4096
#define EPOCH_DISTANCE_US		INT64CONST(946684800000000)

/* One line: a message, or the frames that could not be checked. */
typedef struct ReportLine
{
	uint64		frames;
	int64		first_us;
	int64		last_us;
} ReportLine;

static void put_line(ReturnSetInfo *result, const int32 *id, const char *name, uint64 count, const ReportLine *line);

static void
count_frame(ReportLine *line, const MavlinkFrame *frame)
{
	line->frames++;
	if (frame->stamp_us == MAVLINK_NO_TIME)
		return;
	if (line->first_us == MAVLINK_NO_TIME || frame->stamp_us < line->first_us)
		line->first_us = frame->stamp_us;
	if (line->last_us == MAVLINK_NO_TIME || frame->stamp_us > line->last_us)
		line->last_us = frame->stamp_us;
}

/*
 * telemetry.mavlink_report(bytes bytea, is_tlog boolean)
 */
Datum
telemetry_mavlink_report(PG_FUNCTION_ARGS)
{
	/* One line a known message, then one for the unknown frames. */
	int			unknown = mavlink_nfacts;
	ReportLine *lines;
	bytea	   *bytes;
	MavlinkReader reader;
	MavlinkFrame frame;
	MavlinkRead read;
	uint32		turns = 0;
	ReturnSetInfo *result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", PG_ARGISNULL(0) ? "bytes" : "is_tlog"),
				 errhint("Pass the bytes as they were received, and true when a stamp stands in front of each frame.")));

	bytes = PG_GETARG_BYTEA_PP(0);
	lines = palloc(sizeof(ReportLine) * (mavlink_nfacts + 1));
	for (int i = 0; i <= unknown; i++)
		lines[i] = (ReportLine) {.first_us = MAVLINK_NO_TIME,.last_us = MAVLINK_NO_TIME};

	mavlink_reader_init(&reader, (const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), PG_GETARG_BOOL(1));
	while ((read = mavlink_reader_next(&reader, &frame)) != MAVLINK_READ_END)
	{
		if (++turns % FRAMES_BETWEEN_CHECKS == 0 || read == MAVLINK_READ_BUSY)
			CHECK_FOR_INTERRUPTS();
		if (read == MAVLINK_READ_FRAME)
			count_frame(&lines[frame.fact - mavlink_facts], &frame);
		else if (read == MAVLINK_READ_UNKNOWN)
			count_frame(&lines[unknown], &frame);
	}

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	for (int i = 0; i < unknown; i++)
	{
		int32		id = (int32) mavlink_facts[i].id;

		if (lines[i].frames > 0)
			put_line(result, &id, mavlink_facts[i].name, lines[i].frames, &lines[i]);
	}
	put_line(result, NULL, "unknown frames", reader.counts.unknown, &lines[unknown]);
	put_line(result, NULL, "bad CRC", reader.counts.bad_crc, NULL);
	put_line(result, NULL, "skipped bytes", reader.counts.bytes_skipped, NULL);
	put_line(result, NULL, "truncated bytes", reader.counts.bytes_truncated, NULL);
	return (Datum) 0;
}

static void
put_line(ReturnSetInfo *result, const int32 *id, const char *name, uint64 count, const ReportLine *line)
{
	Datum		values[REPORT_COLUMNS] = {0};
	bool		nulls[REPORT_COLUMNS] = {id == NULL, false, false, true, true};

	if (id != NULL)
		values[0] = Int32GetDatum(*id);
	values[1] = CStringGetTextDatum(name);
	values[2] = Int64GetDatum((int64) count);
	if (line != NULL && line->first_us != MAVLINK_NO_TIME)
	{
		values[3] = TimestampTzGetDatum(line->first_us - EPOCH_DISTANCE_US);
		values[4] = TimestampTzGetDatum(line->last_us - EPOCH_DISTANCE_US);
		nulls[3] = nulls[4] = false;
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}
