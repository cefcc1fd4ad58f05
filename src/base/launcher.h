/*
 * launcher.h
 *		The worker that finds the databases that have the extension.
 */
#ifndef SENTIENT_LAUNCHER_H
#define SENTIENT_LAUNCHER_H

/* Register the launcher with the postmaster. */
extern void launcher_init(void);

/* Have the launcher look at the databases again; InvalidOid: at new ones only. */
extern void launcher_examine(Oid database);

#endif							/* SENTIENT_LAUNCHER_H */
