/*
 * capture.h
 *		Changes on their way to audit.log.
 */
#ifndef SENTIENT_AUDIT_CAPTURE_H
#define SENTIENT_AUDIT_CAPTURE_H

#include "utils/jsonb.h"

extern void capture_init(void);

/*
 * Add an entry of a change that happens now.  What it points to is copied; the
 * jsonb values may be NULL.  It is written when the statement ends.
 */
extern void capture_add(char operation, const char *schema_name, const char *table_name,
						const Jsonb *row_key, const Jsonb *old_values, const Jsonb *new_values);

#endif							/* SENTIENT_AUDIT_CAPTURE_H */
