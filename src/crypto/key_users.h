/*
 * key_users.h
 *		What in a database still needs a data key.
 */
#ifndef SENTIENT_KEY_USERS_H
#define SENTIENT_KEY_USERS_H

#include "crypto/data_key.h"

#define KEY_USERS_MAX		8

/*
 * How many values in this database need the key of this purpose; place is set to
 * where they are, in the current context, when there are any.  Called inside a
 * scope of SQL (base/sql.h).  It takes locks that keep new ones from being made
 * until the transaction ends, as far as that is possible.
 */
typedef int64 (*KeyUsers) (const pg_uuid_t *key_id, KeyPurpose purpose, char **place);

/* Add one; called from the modules' init functions only. */
extern void key_users_add(KeyUsers users);

/* All of them together. */
extern int64 key_users_count(const pg_uuid_t *key_id, KeyPurpose purpose, char **places);

#endif							/* SENTIENT_KEY_USERS_H */
