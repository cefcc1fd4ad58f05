/*
 * log_write.h
 *		Entries into audit.log.
 */
#ifndef SENTIENT_AUDIT_LOG_WRITE_H
#define SENTIENT_AUDIT_LOG_WRITE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* Entries that are written at once at most. */
#define LOG_BATCH				1024

/* What is known of a change; log_write adds the rest. */
typedef struct LogEntry
{
	char		operation;
	TimestampTz occurred_at;
	TimestampTz statement_at;
	int64		query_id;		/* 0: not known */
	Oid			role;
	Oid			session_role;
	const char *schema_name;
	const char *table_name;
	Jsonb	   *row_key;		/* these may be NULL */
	Jsonb	   *old_values;
	Jsonb	   *new_values;
} LogEntry;

extern void log_write_init(void);

/* Before the first entry of a batch: have the key of MACs made, if there is none and it can be. */
extern void log_prepare(void);

/* Write up to LOG_BATCH entries, in order, in the current subtransaction, whoever the user is. */
extern void log_write(const LogEntry *entries, int n);

/* Does audit.log exist? */
extern bool log_exists(void);

#endif							/* SENTIENT_AUDIT_LOG_WRITE_H */
