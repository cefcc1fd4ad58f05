/*
 * sample_text.h
 *		Times and identifiers as clients write them.
 */
#ifndef SENTIENT_SAMPLE_TEXT_H
#define SENTIENT_SAMPLE_TEXT_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/*
 * An ISO 8601 time (RFC 3339, a blank instead of the T allowed, the seconds'
 * fraction and the zone optional; UTC without a zone).  The text need not end
 * with a NUL.  False when it is none.
 */
extern bool sample_parse_time(const char *text, int length, TimestampTz *time);

/* A UUID in the forms that type uuid takes.  False when it is none. */
extern bool sample_parse_uuid(const char *text, int length, pg_uuid_t *uuid);

#endif							/* SENTIENT_SAMPLE_TEXT_H */
