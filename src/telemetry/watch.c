/*
 * watch.c
 *		Samples as the alert rules see them.
 *
 * The alert module knows metrics by number; here they are the columns of a
 * sample that hold numbers.  Touches no table.
 */
#include "postgres.h"

#include "errors.h"
#include "telemetry/watch.h"

static AlertMetric metrics[SAMPLE_NCOLUMNS + 1];

/*
 * Start-up.
 */
void
watch_init(void)
{
	StaticAssertStmt(SAMPLE_LAST_NUMBER < ALERT_METRICS, "more columns than metrics");

	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
	{
		metrics[column].name = sample_columns[column].name;
		metrics[column].is_real = column >= SAMPLE_FIRST_REAL && column <= SAMPLE_LAST_REAL;
	}
	alert_init(metrics, SAMPLE_NCOLUMNS + 1);
}

/*
 * Take one column's value, which is not NULL.
 */
void
watch_fill_datum(AlertSample *seen, int column, Datum value)
{
	double		number;

	if (column < SAMPLE_FIRST_REAL)
		number = DatumGetFloat8(value);
	else if (column <= SAMPLE_LAST_REAL)
		number = DatumGetFloat4(value);
	else
		number = DatumGetInt16(value);
	seen->present |= ALERT_BIT(column);
	seen->values[column] = number;
}
