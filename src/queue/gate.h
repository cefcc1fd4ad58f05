/*
 * gate.h
 *		Gates: one call wakes all sessions that wait at one.
 *
 * Setting a latch costs a signal for every process.  A gate is a pipe that all
 * processes have inherited: whoever waits at it wakes up when it has become
 * readable, by one write for all of them.  A server whose processes may open but
 * few files has none.
 */
#ifndef SENTIENT_GATE_H
#define SENTIENT_GATE_H

#include "storage/latch.h"

/* Groups of gates; a writer has a group to itself. */
#define GATE_GROUPS		2
#define GATES			8
#define GATE_NONE		(-1)

/* Make the gates; in the postmaster, and again (which closes them all) after a crash. */
extern void gates_create(void);
extern bool gates_exist(void);

extern void gate_open(int group, int gate);
extern void gate_close(int group, int gate);

/* Wait for the latch, for the gate to open, or for a time; WL_LATCH_SET, WL_SOCKET_READABLE or WL_TIMEOUT. */
extern int	gate_wait(int group, int gate, long timeout_ms, uint32 wait_event);

#endif							/* SENTIENT_GATE_H */
