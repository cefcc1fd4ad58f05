/*
 * append_only.h
 *		Tables of the audit trail, from which nothing is taken.
 */
#ifndef SENTIENT_AUDIT_APPEND_ONLY_H
#define SENTIENT_AUDIT_APPEND_ONLY_H

/*
 * Let rows be removed in this backend until it is called with the value that it
 * returned; for audit.prune, which uses PG_TRY.
 */
extern bool append_only_suspend(bool suspend);

extern bool append_only_suspended(void);

#endif							/* SENTIENT_AUDIT_APPEND_ONLY_H */
