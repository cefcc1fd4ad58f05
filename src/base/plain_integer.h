/*
 * plain_integer.h
 *		Integers out of numeric values, without an allocation or an error.
 */
#ifndef SENTIENT_PLAIN_INTEGER_H
#define SENTIENT_PLAIN_INTEGER_H

#include "utils/numeric.h"

/*
 * Is the number an integer of less than 64 bits?  scale is how many digits its text
 * has after the point: 1.00 is the integer 1 with a scale of 2.
 */
extern bool plain_integer(Numeric number, int64 *value, int *scale);

#endif							/* SENTIENT_PLAIN_INTEGER_H */
