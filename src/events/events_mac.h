/*
 * events_mac.h
 *		The key of the MACs of security events.
 */
#ifndef SENTIENT_EVENTS_MAC_H
#define SENTIENT_EVENTS_MAC_H

/* In the scheduler, outside a transaction: see to it that there is a key, if there can be. */
extern void event_mac_prepare(void);

#endif							/* SENTIENT_EVENTS_MAC_H */
