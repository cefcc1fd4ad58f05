/*
 * key_worker.h
 *		Work on data keys that must not be undone by the caller's rollback.
 */
#ifndef SENTIENT_KEY_WORKER_H
#define SENTIENT_KEY_WORKER_H

#include "crypto/data_key.h"

/*
 * Have an active key of this purpose made if there is none; with replaced, a new
 * one unless another has taken its place already.  Waits for it, and errors out
 * when no process can be had.
 */
extern void key_worker_make(KeyPurpose purpose, const pg_uuid_t *replaced);

/* Have more messages reserved for a key; waits likewise. */
extern void key_worker_reserve(const pg_uuid_t *key_id, KeyPurpose purpose);

/* The same two without waiting, and without an error. */
extern void key_worker_make_soon(KeyPurpose purpose, const pg_uuid_t *replaced);
extern void key_worker_reserve_soon(const pg_uuid_t *key_id);

#endif							/* SENTIENT_KEY_WORKER_H */
