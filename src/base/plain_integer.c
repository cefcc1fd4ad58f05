/*
 * plain_integer.c
 *		Integers out of numeric values, without an allocation or an error.
 *
 * The audit trail asks for each key and value that it writes, and what numeric.c
 * offers makes a string or raises an error for a large number.  Reads numeric's
 * format on disk, which numeric.c keeps to itself but which cannot change without
 * breaking pg_upgrade: a header of 16 or 32 bits, then digits in base 10000, the
 * first of weight 10000^weight, no zeros at either end.  Builds with assertions
 * compare with numeric.c's own answer.  Takes no locks.
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/plain_integer.h"
#include "compat.h"
#include "errors.h"

#define DIGIT_BASE				10000
#define MAX_WEIGHT				4	/* of 2^63 */

/* The two bits on top of the header. */
#define FORM_MASK				0xC000
#define FORM_NEGATIVE			0x4000	/* else positive, of the long form */
#define FORM_SHORT				0x8000
#define FORM_SPECIAL			0xC000

/* Long: two bytes of form and scale, two of weight. */
#define LONG_SCALE_MASK			0x3FFF

/* Short: all in two bytes. */
#define SHORT_NEGATIVE			0x2000
#define SHORT_SCALE_MASK		0x1F80
#define SHORT_SCALE_SHIFT		7
#define SHORT_WEIGHT_SIGN		0x0040
#define SHORT_WEIGHT_MASK		0x003F

#ifdef SENTIENT_EDGE_ASSERTIONS
static bool
has_value(Numeric number, int64 value)
{
	return DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(number), NumericGetDatum(int64_to_numeric(value))));
}
#endif

bool
plain_integer(Numeric number, int64 *value, int *scale)
{
	const char *data = VARDATA((struct varlena *) number);
	int			length = VARSIZE((struct varlena *) number) - VARHDRSZ;
	uint16		header;
	int16		weight;
	bool		negative;
	int			ndigits;
	int64		sum = 0;

	memcpy(&header, data, sizeof(header));
	if ((header & FORM_MASK) == FORM_SPECIAL)
		return false;
	if ((header & FORM_MASK) == FORM_SHORT)
	{
		negative = (header & SHORT_NEGATIVE) != 0;
		*scale = (header & SHORT_SCALE_MASK) >> SHORT_SCALE_SHIFT;
		weight = header & SHORT_WEIGHT_MASK;
		if (header & SHORT_WEIGHT_SIGN)
			weight -= SHORT_WEIGHT_MASK + 1;
		data += sizeof(header);
		length -= sizeof(header);
	}
	else
	{
		negative = (header & FORM_MASK) == FORM_NEGATIVE;
		*scale = header & LONG_SCALE_MASK;
		memcpy(&weight, data + sizeof(header), sizeof(weight));
		data += sizeof(header) + sizeof(weight);
		length -= sizeof(header) + sizeof(weight);
	}

	ndigits = length / (int) sizeof(int16);
	if (ndigits == 0)
		weight = -1;			/* zero */
	if (weight > MAX_WEIGHT || ndigits > weight + 1)
		return false;
	for (int i = 0; i <= weight; i++)
	{
		int16		digit = 0;

		if (i < ndigits)
			memcpy(&digit, data + i * sizeof(digit), sizeof(digit));
		if (pg_mul_s64_overflow(sum, DIGIT_BASE, &sum) || pg_add_s64_overflow(sum, digit, &sum))
			return false;
	}
	*value = negative ? -sum : sum;
	se_assert(has_value(number, *value));
	return true;
}
