/*
 * watch.h
 *		Samples as the alert rules see them.
 */
#ifndef SENTIENT_WATCH_H
#define SENTIENT_WATCH_H

#include "alert/alert.h"
#include "telemetry/sample.h"

/* Start-up: tells the alert module which columns are metrics. */
extern void watch_init(void);

/* Take the metrics that are needed from a sample; a metric's number is its SampleColumn. */
static inline void
watch_fill(AlertSample *seen, const Sample *sample, uint32 needed)
{
	seen->recorded_at = sample->recorded_at;
	seen->present = 0;
	for (int column = SAMPLE_FIRST_NUMBER; column <= SAMPLE_LAST_NUMBER; column++)
	{
		if ((needed & ALERT_BIT(column)) != 0 && sample_has(sample, column))
		{
			seen->present |= ALERT_BIT(column);
			seen->values[column] = sample_get_number(sample, column);
		}
	}
}

/* The same from the value of one column of a row. */
extern void watch_fill_datum(AlertSample *seen, int column, Datum value);

#endif							/* SENTIENT_WATCH_H */
