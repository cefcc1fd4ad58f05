/*
 * database_hook.h
 *		Statements about databases and the extension that the workers must know of.
 */
#ifndef SENTIENT_DATABASE_HOOK_H
#define SENTIENT_DATABASE_HOOK_H

extern void database_hook_init(void);

#endif							/* SENTIENT_DATABASE_HOOK_H */
