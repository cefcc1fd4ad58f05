/*
 * uuid_hash.h
 *		A hash table by uuid; a template, as lib/simplehash.h, which it completes.
 *
 * Whoever includes it defines SH_PREFIX, SH_ELEMENT_TYPE and SH_KEY, the uuid in an
 * element; an element has a char status as well.  What is made is static.  May be
 * included more than once.
 */
#include "common/hashfn.h"
#include "utils/uuid.h"

#define SH_KEY_TYPE		pg_uuid_t
#define SH_HASH_KEY(tb, key)	hash_bytes((key).data, UUID_LEN)
#define SH_EQUAL(tb, a, b)		(memcmp((a).data, (b).data, UUID_LEN) == 0)
#define SH_SCOPE		static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"
