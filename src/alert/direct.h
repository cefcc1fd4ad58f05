/*
 * direct.h
 *		Rows of the alert tables, written past the executor.
 */
#ifndef SENTIENT_ALERT_DIRECT_H
#define SENTIENT_ALERT_DIRECT_H

#include "alert/batch.h"

/*
 * Write the alerts, events and states of the changes; false when a table is not
 * as the extension made it and nothing was written.  The drones' rows of
 * drone_latest are locked.
 */
extern bool alert_write_direct(const AlertChanges *changes, bool *opened);

#endif							/* SENTIENT_ALERT_DIRECT_H */
