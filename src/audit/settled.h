/*
 * settled.h
 *		Has a database had the extension long enough to be no target of a restore?
 */
#ifndef SENTIENT_SETTLED_H
#define SENTIENT_SETTLED_H

/*
 * Inside a sql_begin scope.  False while a dump is restored, and for the first
 * half minute of a database that has no block yet.
 */
extern bool audit_is_settled(void);

#endif							/* SENTIENT_SETTLED_H */
