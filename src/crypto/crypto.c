/*
 * crypto.c
 *		Start-up of the crypto module, in the order of its own dependencies.
 */
#include "postgres.h"

#include "crypto/crypto.h"
#include "crypto/data_key_cache.h"
#include "crypto/key_provider.h"
#include "crypto/key_usage.h"
#include "crypto/log_guard.h"

void
crypto_init(void)
{
	key_provider_init();
	key_usage_init();
	data_key_init();
	log_guard_init();
}
