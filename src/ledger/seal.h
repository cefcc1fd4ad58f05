/*
 * seal.h
 *		Sealing entries and security events into blocks.
 */
#ifndef SENTIENT_SEAL_H
#define SENTIENT_SEAL_H

#include "audit/source.h"

typedef struct SealReport
{
	int64		blocks;
	int64		sealed[LEDGER_KINDS];
	int64		refused;		/* left out: no MAC, or a wrong one */
	char		first_refused[64];	/* which is one of them */
	bool		held_up;		/* by another session that has the chain */
} SealReport;

/*
 * Seal what has been committed since the last block, in the caller's transaction
 * and inside a sql_begin scope.  accept_unkeyed also takes whatever earlier runs
 * had left out for want of a MAC.  False when a dump is being restored; when wait is
 * false, also when another session is at it or the database is too new to begin
 * (settled.h).
 */
extern bool ledger_seal(bool accept_unkeyed, bool wait, SealReport *report);

#endif							/* SENTIENT_SEAL_H */
