/*
 * identity.h
 *		Who acts: the application's user and client, as far as they are verified.
 *
 * The database role says which service is connected; this says for whom.  Only
 * what the server itself has verified is told here.
 */
#ifndef SENTIENT_IDENTITY_H
#define SENTIENT_IDENTITY_H

#include "utils/inet.h"
#include "utils/uuid.h"

/* The verified user of this transaction, or NULL when none is known. */
extern const pg_uuid_t *identity_user_id(void);

/* The client's address, behind a trusted proxy the real one; NULL on a Unix socket or in a worker. */
extern const inet *identity_client_address(void);

#endif							/* SENTIENT_IDENTITY_H */
