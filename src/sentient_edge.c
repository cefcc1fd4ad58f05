/*
 * sentient_edge.c
 *		Module magic and start-up.
 *
 * _PG_init calls each module's init in order of the dependencies, lowest first,
 * and does nothing else.  It runs once in the postmaster when the library is in
 * shared_preload_libraries, else in every backend that first calls a function
 * of the extension.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "audit/mac_users.h"
#include "base/base.h"
#include "capture/capture.h"
#include "crypto/crypto.h"
#include "events/events.h"
#include "ledger/ledger.h"
#include "partition/partition.h"
#include "queue/queue.h"
#include "sealed/sealed.h"
#include "telemetry/watch.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	base_init();
	crypto_init();
	sealed_init();
	partition_init();
	mac_users_init();
	capture_init();
	events_init();
	ledger_init();
	queue_init();
	watch_init();
	MarkGUCPrefixReserved("sentient_edge");
}
