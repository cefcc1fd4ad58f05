/*
 * prune.h
 *		Taking old entries out of audit.log.
 */
#ifndef SENTIENT_PRUNE_H
#define SENTIENT_PRUNE_H

extern void prune_init(void);

#endif							/* SENTIENT_PRUNE_H */
