/*
 * source.h
 *		The two tables that the ledger seals.
 */
#ifndef SENTIENT_SOURCE_H
#define SENTIENT_SOURCE_H

#include "lib/stringinfo.h"
#include "utils/uuid.h"

/* What a block holds. */
typedef enum LedgerKind
{
	LEDGER_ENTRIES,				/* of audit.log, known by audit_id */
	LEDGER_EVENTS,				/* of audit.security_events, known by event_id */
	LEDGER_KINDS,
} LedgerKind;

typedef struct LedgerSource
{
	const char *table;
	const char *noun;
	const char *plural;			/* also as column pruned_from has it */
	const char *ids;			/* the column of audit.blocks that lists them */
	const char *id;				/* the column that they are known by */
	int			columns;		/* numbered from 0, in the order of the table */
	const Oid  *types;			/* of them */
	int			occurred_at;
	int			transaction_id;
	int			mac;
	void		(*canonical) (StringInfo bytes, const Datum *values, const bool *nulls);
	const char *mac_label;
} LedgerSource;

extern const LedgerSource ledger_sources[LEDGER_KINDS];

/* The one error for a table that somebody has changed. */
extern void source_check_columns(const LedgerSource *source, int columns);

#endif							/* SENTIENT_SOURCE_H */
