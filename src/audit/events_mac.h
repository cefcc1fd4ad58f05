/*
 * events_mac.h
 *		The MAC of a security event.
 */
#ifndef SENTIENT_EVENTS_MAC_H
#define SENTIENT_EVENTS_MAC_H

#include "lib/stringinfo.h"

#include "audit/entry.h"

/* The value of column mac, or NULL when there is no key. */
extern bytea *event_mac(StringInfo bytes);
extern MacVerdict event_check_mac(StringInfo bytes, const bytea *mac);

/* In the scheduler, outside a transaction: see to it that there is a key, if there can be. */
extern void event_mac_prepare(void);

#endif							/* SENTIENT_EVENTS_MAC_H */
