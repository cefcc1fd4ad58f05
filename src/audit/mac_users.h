/*
 * mac_users.h
 *		The audit trail as a user of data keys.
 */
#ifndef SENTIENT_MAC_USERS_H
#define SENTIENT_MAC_USERS_H

extern void mac_users_init(void);

#endif							/* SENTIENT_MAC_USERS_H */
