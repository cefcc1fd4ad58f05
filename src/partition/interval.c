/*
 * interval.c
 *		Where the partitions of an interval begin and end, in UTC whatever the
 *		session's time zone is.  Pure functions; called by everything in this
 *		folder.
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "partition/interval.h"

/* Days from 2000-01-01, a Saturday, to the Monday after it. */
#define FIRST_MONDAY	2

static int64
floor_divide(int64 value, int64 divisor)
{
	int64		quotient = value / divisor;

	return (value % divisor < 0) ? quotient - 1 : quotient;
}

void
interval_range(PartitionInterval interval, TimestampTz time, TimestampTz *lower, TimestampTz *upper)
{
	int64		day = floor_divide(time, USECS_PER_DAY);	/* since 2000-01-01 */
	int64		first = day;
	int64		next = day + 1;

	se_assert(!TIMESTAMP_NOT_FINITE(time));
	switch (interval)
	{
		case PARTITION_BY_DAY:
			break;
		case PARTITION_BY_WEEK:
			first = floor_divide(day - FIRST_MONDAY, 7) * 7 + FIRST_MONDAY;
			next = first + 7;
			break;
		case PARTITION_BY_MONTH:
			{
				int			y,
							m,
							d;

				j2date((int) day + POSTGRES_EPOCH_JDATE, &y, &m, &d);
				first = date2j(y, m, 1) - POSTGRES_EPOCH_JDATE;
				next = (m == 12 ? date2j(y + 1, 1, 1) : date2j(y, m + 1, 1)) - POSTGRES_EPOCH_JDATE;
				break;
			}
	}
	*lower = first * USECS_PER_DAY;
	*upper = next * USECS_PER_DAY;
	se_assert(*lower <= time && time < *upper);
}

const char *
interval_name(PartitionInterval interval)
{
	switch (interval)
	{
		case PARTITION_BY_DAY:
			return "1 day";
		case PARTITION_BY_WEEK:
			return "1 week";
		case PARTITION_BY_MONTH:
			return "1 month";
	}
	pg_unreachable();
}

char *
interval_suffix(TimestampTz time)
{
	int			y,
				m,
				d;

	j2date((int) floor_divide(time, USECS_PER_DAY) + POSTGRES_EPOCH_JDATE, &y, &m, &d);
	return psprintf("%04d%02d%02d", y, m, d);
}

char *
interval_bound(TimestampTz time)
{
	int			y,
				m,
				d;
	int64		day;
	int64		us;

	if (TIMESTAMP_IS_NOBEGIN(time))
		return pstrdup("-infinity");
	if (TIMESTAMP_IS_NOEND(time))
		return pstrdup("infinity");
	day = floor_divide(time, USECS_PER_DAY);
	us = time - day * USECS_PER_DAY;
	j2date((int) day + POSTGRES_EPOCH_JDATE, &y, &m, &d);
	if (us == 0)
		return psprintf("%04d-%02d-%02d 00:00:00+00", y, m, d);
	return psprintf("%04d-%02d-%02d %02d:%02d:%02d.%06d+00", y, m, d,
					(int) (us / USECS_PER_HOUR), (int) (us / USECS_PER_MINUTE % 60),
					(int) (us / USECS_PER_SEC % 60), (int) (us % USECS_PER_SEC));
}
