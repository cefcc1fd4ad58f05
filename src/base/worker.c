/*
 * worker.c
 *		What all background workers have in common: how they are asked for and
 *		what they do first.
 */
#include "postgres.h"

#include <signal.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "base/worker.h"

/*
 * Parameters that ALTER DATABASE SET, which is the database owner's right, may
 * have set for sessions, and that a worker would not survive or not work under.
 * Not every PostgreSQL knows all of them.
 */
static const char *const own_parameters[][2] = {
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_deferrable", "off"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"lock_timeout", "0"},
	{"statement_timeout", "0"},
	{"transaction_timeout", "0"},
};

void
worker_describe(BackgroundWorker *worker, const char *function, const char *name)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "sentient_edge", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, name, BGW_MAXLEN);
	strlcpy(worker->bgw_type, name, BGW_MAXLEN);
}

void
worker_prepare(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
}

void
worker_connect(Oid database, const char *name)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	for (int i = 0; i < lengthof(own_parameters); i++)
	{
		if (GetConfigOption(own_parameters[i][0], true, false) != NULL)
			SetConfigOption(own_parameters[i][0], own_parameters[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
	pgstat_report_appname(name);
}
