/*
 * data_key_cache.h
 *		What the key modules know of the cache of data keys.
 */
#ifndef SENTIENT_DATA_KEY_CACHE_H
#define SENTIENT_DATA_KEY_CACHE_H

#include "crypto/data_key.h"

extern void data_key_init(void);

/* Read the table again before the next use, without waiting for an invalidation. */
extern void data_key_forget(void);

/* The id of the active key, whether or not it can be used. */
extern bool data_key_active_row(KeyPurpose purpose, pg_uuid_t *key_id);

#endif							/* SENTIENT_DATA_KEY_CACHE_H */
