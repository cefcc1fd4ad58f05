/*
 * events_restore.h
 *		Security events that have waited for the end of a restore.
 */
#ifndef SENTIENT_EVENTS_RESTORE_H
#define SENTIENT_EVENTS_RESTORE_H

extern void events_restore_init(void);

#endif							/* SENTIENT_EVENTS_RESTORE_H */
