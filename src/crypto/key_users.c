/*
 * key_users.c
 *		What in a database still needs a data key: asked of the modules that store
 *		what keys have made, before one is destroyed.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "crypto/key_users.h"
#include "errors.h"

static KeyUsers key_users[KEY_USERS_MAX];
static int	nkey_users = 0;

void
key_users_add(KeyUsers users)
{
	se_assert(nkey_users < KEY_USERS_MAX);
	key_users[nkey_users++] = users;
}

int64
key_users_count(const pg_uuid_t *key_id, KeyPurpose purpose, char **places)
{
	StringInfoData all;
	int64		total = 0;

	initStringInfo(&all);
	for (int i = 0; i < nkey_users; i++)
	{
		char	   *place = NULL;
		int64		n = key_users[i] (key_id, purpose, &place);

		if (n > 0)
			appendStringInfo(&all, "%s%s", all.len > 0 ? ", " : "", place);
		total += n;
	}
	*places = all.data;
	return total;
}
