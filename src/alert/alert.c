/*
 * alert.c
 *		Start-up of the alert module: its parameter, its job, and the metrics that
 *		rules may name.
 *
 * What a metric is, the layer above tells, which knows the columns of a sample.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "alert/alert.h"
#include "alert/link_loss.h"
#include "alert/rules.h"
#include "errors.h"

static const AlertMetric *metrics = NULL;
static int	nmetrics = 0;

void
alert_init(const AlertMetric *known, int nknown)
{
	se_assert(nknown <= ALERT_METRICS);
	metrics = known;
	nmetrics = nknown;
	DefineCustomIntVariable("sentient_edge.alert_check_interval",
							"Time between two looks for drones that have gone silent.",
							"A lost link is reported this much later than its rule's threshold, at most.",
							&alert_check_interval, 1, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	alert_rules_init();
	link_loss_init();
}

const AlertMetric *
alert_metric(int metric)
{
	return metric >= 0 && metric < nmetrics && metrics[metric].name != NULL ? &metrics[metric] : NULL;
}

int
alert_metric_by_name(const char *name)
{
	for (int i = 0; i < nmetrics; i++)
	{
		if (metrics[i].name != NULL && strcmp(metrics[i].name, name) == 0)
			return i;
	}
	return -1;
}
