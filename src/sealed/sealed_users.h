/*
 * sealed_users.h
 *		Which stored values are sealed under a key.
 */
#ifndef SENTIENT_SEALED_USERS_H
#define SENTIENT_SEALED_USERS_H

extern void sealed_users_init(void);

#endif							/* SENTIENT_SEALED_USERS_H */
