/*
 * key_usage.h
 *		How many messages each data key has encrypted.
 */
#ifndef SENTIENT_KEY_USAGE_H
#define SENTIENT_KEY_USAGE_H

#include "utils/uuid.h"

/*
 * NIST SP 800-38D allows 2^32 messages a key under random nonces.  A new key is
 * made at a quarter of that, and the old one stops at half.
 */
#define KEY_MESSAGES_ROTATE		(INT64CONST(1) << 30)
#define KEY_MESSAGES_MAX		(INT64CONST(1) << 31)

typedef struct KeyUsage
{
	int64		used;
	int64		reserved;		/* what sentient_edge.data_keys says for after a restart */
	int64		granted;		/* size of the last reservation */
	bool		wants_more;		/* the caller is to have more reserved, soon */
	bool		wants_rotation; /* the caller is to have a new key made */
} KeyUsage;

extern void key_usage_init(void);

/*
 * Take messages for this process, wanted or none; 0 when more have to be
 * reserved first, or the key's are used up.  usage is filled in in any case.
 */
extern int	key_usage_take(const pg_uuid_t *key_id, int wanted, KeyUsage *usage);

/* More are reserved, durably: from (exclusive) to (inclusive). */
extern void key_usage_grant(const pg_uuid_t *key_id, int64 from, int64 to);

/* What is known of a key of this database; false when nothing is. */
extern bool key_usage_get(const pg_uuid_t *key_id, KeyUsage *usage);

#endif							/* SENTIENT_KEY_USAGE_H */
