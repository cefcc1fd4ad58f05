/*
 * settled.h
 *		Has a database had the extension long enough to be no target of a restore?
 */
#ifndef SENTIENT_SETTLED_H
#define SENTIENT_SETTLED_H

/* Both inside a sql_begin scope.  Is a dump being restored into the audit trail? */
extern bool audit_is_restoring(void);

/*
 * False while a dump is restored or, in a database that
 * has no block yet, may be: for half a minute, or ten while the session that made
 * the extension is at work.
 */
extern bool audit_is_settled(void);

#endif							/* SENTIENT_SETTLED_H */
