/*
 * seal.h
 *		Sealing entries of audit.log into blocks.
 */
#ifndef SENTIENT_SEAL_H
#define SENTIENT_SEAL_H

typedef struct SealReport
{
	int64		blocks;
	int64		entries;
	int64		refused;		/* left out: no MAC, or a wrong one */
	int64		first_refused;	/* audit_id of one of them */
} SealReport;

/* Seconds between two runs of the job. */
extern int	ledger_interval;

/*
 * Seal what has been committed since the last block, in the caller's transaction
 * and inside a sql_begin scope.  accept_unkeyed also takes whatever earlier runs
 * had left out for want of a MAC.  False when wait is false and another session
 * is at it, or when a dump is being restored.
 */
extern bool ledger_seal(bool accept_unkeyed, bool wait, SealReport *report);

extern void seal_init(void);

#endif							/* SENTIENT_SEAL_H */
