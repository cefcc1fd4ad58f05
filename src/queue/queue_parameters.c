/*
 * queue_parameters.c
 *		Configuration parameters of the telemetry queue.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "queue/queue_parameters.h"

int			queue_slots = 8192;
int			queue_pool_kb = 16384;
int			queue_call_samples = 1000;
int			queue_wait = 5000;
int			queue_lock_timeout = 1000;

void
queue_define_parameters(void)
{
	if (process_shared_preload_libraries_in_progress)
	{
		DefineCustomIntVariable("sentient_edge.queue_slots",
								"Requests of telemetry.submit that can wait at the same time.",
								"Each session uses one at a time; each takes about 800 bytes of shared memory.",
								&queue_slots, 8192, 16, 1048576,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);
		DefineCustomIntVariable("sentient_edge.queue_pool",
								"Shared memory for the requests of telemetry.submit that do not fit into a slot.",
								"A slot holds one sample with a few extra values; arrays of samples lie in the pool.",
								&queue_pool_kb, 16384, 1024, 1048576,
								PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	}
	DefineCustomIntVariable("sentient_edge.queue_call_samples",
							"Samples that one call of telemetry.submit may have.",
							"Others wait while they are stored: a call with more fails with 54000, and is for telemetry.ingest.",
							&queue_call_samples, 1000, 1, 1000000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sentient_edge.queue_wait",
							"How long telemetry.submit waits for a free slot.",
							"After that it fails with 53400 and nothing is queued.",
							&queue_wait, 5000, 0, 3600000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sentient_edge.queue_lock_timeout",
							"How long the ingest writer waits for a lock.",
							"A sample whose drone or partition another transaction holds longer fails with 55P03; its neighbours are stored.",
							&queue_lock_timeout, 1000, 1, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}
