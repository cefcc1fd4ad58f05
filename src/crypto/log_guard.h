/*
 * log_guard.h
 *		Keeps secrets that stand in statements out of the server log.
 */
#ifndef SENTIENT_LOG_GUARD_H
#define SENTIENT_LOG_GUARD_H

/*
 * The session's statement handles a secret: nothing that it has to say goes to
 * the log as it is, and its text leaves pg_stat_activity.  Cheap when repeated.
 */
extern void log_guard_note(void);

extern void log_guard_init(void);

#endif							/* SENTIENT_LOG_GUARD_H */
