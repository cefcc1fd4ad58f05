/*
 * base.c
 *		Start-up of the base layer, in the order of its own dependencies.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/database_hook.h"
#include "base/launcher.h"
#include "base/registry.h"
#include "base/settings.h"

void
base_init(void)
{
	settings_init();
	registry_init();
	database_hook_init();
	launcher_init();
}
