/*
 * entry.h
 *		The canonical bytes of a row of audit.log, and of audit.security_events: what
 *		its MAC and its leaf in the ledger are computed from.
 *
 * Versioned, documented in the README, and equal after dump and restore, after an
 * upgrade and on every PostgreSQL version.
 */
#ifndef SENTIENT_ENTRY_H
#define SENTIENT_ENTRY_H

#include "lib/stringinfo.h"

/* The first byte: what it is, and of which version.  No value is used for two things. */
#define AUDIT_ENTRY_VERSION		0x01
#define AUDIT_EVENT_VERSION		0x02

/*
 * Columns of audit.log, numbered from 0 in the order of the table, which wastes
 * no bytes on alignment; the MAC is the last.
 */
typedef enum AuditColumn
{
	AUDIT_ID,
	AUDIT_OCCURRED_AT,
	AUDIT_STATEMENT_AT,
	AUDIT_TRANSACTION_ID,
	AUDIT_QUERY_ID,
	AUDIT_OPERATION,
	AUDIT_SCHEMA_NAME,			/* text, as all names */
	AUDIT_TABLE_NAME,
	AUDIT_ROW_KEY,
	AUDIT_OLD_VALUES,
	AUDIT_NEW_VALUES,
	AUDIT_USER_ID,
	AUDIT_DB_ROLE,
	AUDIT_SESSION_ROLE,
	AUDIT_CLIENT_ADDR,
	AUDIT_APPLICATION_NAME,
	AUDIT_MAC,
	AUDIT_COLUMNS,
} AuditColumn;

/* Columns of audit.security_events, likewise. */
typedef enum EventColumn
{
	EVENT_ID,
	EVENT_OCCURRED_AT,
	EVENT_LAST_OCCURRED_AT,
	EVENT_TRANSACTION_ID,
	EVENT_COUNT,
	EVENT_TYPE,
	EVENT_SEVERITY,
	EVENT_OUTCOME,
	EVENT_USER_ID,
	EVENT_USERNAME,
	EVENT_DB_ROLE,				/* name */
	EVENT_CLIENT_ADDR,
	EVENT_APPLICATION_NAME,
	EVENT_OBJECT,
	EVENT_MESSAGE,
	EVENT_DETAILS,
	EVENT_MAC,
	EVENT_COLUMNS,
} EventColumn;

/*
 * Append the canonical bytes of all columns but the MAC, given as the types of
 * audit.log.  Allocates in the current memory context.
 */
extern void audit_entry_canonical(StringInfo bytes, const Datum *values, const bool *nulls);

/* The same of audit.security_events. */
extern void audit_event_canonical(StringInfo bytes, const Datum *values, const bool *nulls);

#endif							/* SENTIENT_ENTRY_H */
