/*
 * sample_text.c
 *		Parses times and identifiers that come as JSON strings.
 *
 * Unlike the types' input functions these neither raise errors, which would
 * cost a subtransaction a sample, nor depend on DateStyle and TimeZone.
 * Called by ingest_json.c with hostile bytes; reads nothing past length.
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "telemetry/sample_text.h"

/* Read exactly that many digits. */
static bool
digits(const char **at, const char *end, int count, int *value)
{
	*value = 0;
	if (end - *at < count)
		return false;
	for (int i = 0; i < count; i++)
	{
		char		c = *(*at)++;

		if (c < '0' || c > '9')
			return false;
		*value = *value * 10 + (c - '0');
	}
	return true;
}

static bool
literal(const char **at, const char *end, char expected)
{
	if (*at == end || **at != expected)
		return false;
	(*at)++;
	return true;
}

/*
 * An ISO 8601 time.
 */
bool
sample_parse_time(const char *text, int length, TimestampTz *time)
{
	const char *at = text;
	const char *end = text + length;
	int			year,
				month,
				day,
				hour,
				minute,
				second = 0,
				microsecond = 0,
				zone_hour,
				zone_minute = 0;
	int64		zone_s = 0;

	if (!digits(&at, end, 4, &year) || !literal(&at, end, '-') ||
		!digits(&at, end, 2, &month) || !literal(&at, end, '-') ||
		!digits(&at, end, 2, &day))
		return false;
	if (!literal(&at, end, 'T') && !literal(&at, end, 't') && !literal(&at, end, ' '))
		return false;
	if (!digits(&at, end, 2, &hour) || !literal(&at, end, ':') || !digits(&at, end, 2, &minute))
		return false;
	if (literal(&at, end, ':'))
	{
		if (!digits(&at, end, 2, &second))
			return false;
		if (literal(&at, end, '.') || literal(&at, end, ','))
		{
			int			scale = 100000;
			const char *fraction = at;

			/* Digits past the microsecond are cut off. */
			for (; at < end && *at >= '0' && *at <= '9'; at++, scale /= 10)
				microsecond += (*at - '0') * scale;
			if (at == fraction)
				return false;
		}
	}

	if (at < end && !literal(&at, end, 'Z') && !literal(&at, end, 'z'))
	{
		bool		west = *at == '-';

		if (!literal(&at, end, '+') && !literal(&at, end, '-'))
			return false;
		if (!digits(&at, end, 2, &zone_hour))
			return false;
		if (at < end)
		{
			(void) literal(&at, end, ':');
			if (!digits(&at, end, 2, &zone_minute))
				return false;
		}
		if (zone_hour > 15 || zone_minute > 59)
			return false;
		zone_s = (zone_hour * 60 + zone_minute) * (west ? -60 : 60);
	}
	if (at != end)
		return false;

	if (year < 1 || month < 1 || month > 12 || day < 1 || day > day_tab[isleap(year)][month - 1] ||
		hour > 24 || minute > 59 || second > 60 ||
		(hour == 24 && (minute > 0 || second > 0 || microsecond > 0)))
		return false;

	*time = (TimestampTz) (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
		((hour * 60 + minute) * INT64CONST(60) + second - zone_s) * USECS_PER_SEC + microsecond;
	return true;
}

/*
 * A UUID: 32 hexadecimal digits, a hyphen allowed after each group of four,
 * the whole in braces or not.
 */
bool
sample_parse_uuid(const char *text, int length, pg_uuid_t *uuid)
{
	const char *at = text;
	const char *end = text + length;
	bool		braces = length > 0 && *at == '{';

	if (braces)
		at++;
	for (int i = 0; i < UUID_LEN; i++)
	{
		int			byte = 0;

		for (int nibble = 0; nibble < 2; nibble++)
		{
			char		c = at < end ? *at++ : '\0';

			if (c >= '0' && c <= '9')
				byte = byte * 16 + (c - '0');
			else if (c >= 'a' && c <= 'f')
				byte = byte * 16 + (c - 'a' + 10);
			else if (c >= 'A' && c <= 'F')
				byte = byte * 16 + (c - 'A' + 10);
			else
				return false;
		}
		uuid->data[i] = byte;
		if (i % 2 == 1 && i < UUID_LEN - 1)
			(void) literal(&at, end, '-');
	}
	if (braces && !literal(&at, end, '}'))
		return false;
	return at == end;
}
