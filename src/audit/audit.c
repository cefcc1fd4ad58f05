/*
 * audit.c
 *		Start-up of the audit module, in the order of its own dependencies.
 */
#include "postgres.h"

#include "audit/audit.h"
#include "audit/capture.h"
#include "audit/log_write.h"
#include "audit/mac_users.h"
#include "audit/targets.h"

void
audit_init(void)
{
	log_write_init();
	targets_init();
	capture_init();
	mac_users_init();
}
