/*
 * state.h
 *		What telemetry.alert_states holds of a drone: limits that are crossed.
 */
#ifndef SENTIENT_ALERT_STATE_H
#define SENTIENT_ALERT_STATE_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* A row of telemetry.alert_states. */
typedef struct AlertStateRow
{
	pg_uuid_t	watch_id;		/* rule or geofence */
	TimestampTz since;			/* first crossed; of an open alert, opened */
	bool		open;
	pg_uuid_t	alert_id;		/* while open */
} AlertStateRow;

typedef struct AlertStateTable AlertStateTable;

/* Open the table (AccessShareLock, kept until the transaction ends) in the current context. */
extern AlertStateTable *alert_state_open(void);

/* A drone's rows as committed by now; returns how many, *rows is palloc'd. */
extern int	alert_state_read(AlertStateTable *table, const pg_uuid_t *drone_id, AlertStateRow **rows);

extern void alert_state_close(AlertStateTable *table);

#endif							/* SENTIENT_ALERT_STATE_H */
