/*
 * seal_ids.h
 *		Ids of audit entries that were given before.
 */
#ifndef SENTIENT_SEAL_IDS_H
#define SENTIENT_SEAL_IDS_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "audit/merkle.h"

/* What is to be sealed: an entry or an event. */
typedef struct SealRow
{
	int64		audit_id;		/* of an entry */
	pg_uuid_t	event_id;		/* of an event */
	TimestampTz occurred_at;
	Sha256		leaf;
	bool		sealed;			/* it is in a block already */
} SealRow;

/* Entries whose ids others had before, and the sequence that gave them. */
typedef struct RepeatedIds
{
	int64		count;
	int64		first;			/* one of them */
	bool		set_back;		/* the sequence stands below what it had given at the last block */
	TimestampTz last_sealed_at; /* of that block */
} RepeatedIds;

/* Order of entries. */
extern int	seal_compare_entries(const void *a, const void *b);

/*
 * Mark entries, which are in order, that a block names already, and all but one of
 * entries that are equal.  Entries that are others than the sealed ones of their
 * ids are counted.  Under the active snapshot, inside a sql_begin scope.
 */
extern void seal_find_sealed(SealRow *rows, int nrows, RepeatedIds *repeated);

/*
 * Ids were given again, or will be: let the sequence go on behind all that it has
 * given, and record a security event in this transaction.
 */
extern void seal_report_repeated(const RepeatedIds *repeated);

#endif							/* SENTIENT_SEAL_IDS_H */
