/*
 * leftover.c
 *		Alerts whose rule or geofence is in force no more: deleted, disabled, or
 *		not for this drone since one of them was changed.
 *
 * The drone's next sample clears them (evaluate.c).  For a drone that sends none
 * it is done here: called by link_loss.c, which sees to it that one session at a
 * time does so, and locks the drones' rows of drone_latest in between.  What is
 * left over is looked for again then, since samples may have come meanwhile.
 * One transaction: a crash leaves all of it to the next run.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "alert/batch.h"
#include "alert/leftover.h"
#include "base/sql.h"

#define LEFTOVER_STATES \
	"FROM telemetry.alert_states s JOIN core.drones d ON d.drone_id = s.drone_id" \
	" WHERE NOT EXISTS (SELECT FROM telemetry.alert_rules r WHERE r.rule_id = s.watch_id AND r.enabled" \
	" AND (r.drone_id IS NULL OR r.drone_id = s.drone_id) AND (r.drone_type IS NULL OR r.drone_type = d.drone_type))" \
	" AND NOT EXISTS (SELECT FROM telemetry.geofences f WHERE f.fence_id = s.watch_id AND f.enabled" \
	" AND (f.drone_id IS NULL OR f.drone_id = s.drone_id) AND (f.drone_type IS NULL OR f.drone_type = d.drone_type))"

int
alert_find_leftovers(pg_uuid_t **drones)
{
	uint64		n = sql_query("SELECT DISTINCT s.drone_id " LEFTOVER_STATES, 0, NULL, NULL);
	bool		isnull;

	*drones = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	for (uint64 row = 0; row < n; row++)
		(*drones)[row] = *DatumGetUUIDP(sql_value(row, 0, &isnull));
	return n;
}

void
alert_clear_leftovers(Datum drones, TimestampTz now, bool wait)
{
	Oid			types[1] = {UUIDARRAYOID};
	AlertChanges changes;
	uint64		n;

	alert_changes_init(&changes);
	n = sql_query(wait ?
				  "SELECT s.drone_id, s.watch_id, s.alert_id " LEFTOVER_STATES
				  " AND s.drone_id = ANY ($1) ORDER BY s.drone_id, s.watch_id" :
				  "SELECT s.drone_id, s.watch_id, s.alert_id " LEFTOVER_STATES
				  " AND s.drone_id = ANY ($1) AND (s.alert_id IS NULL OR EXISTS"
				  " (SELECT FROM telemetry.real_time_alerts a WHERE a.alert_id = s.alert_id FOR NO KEY UPDATE SKIP LOCKED))"
				  " ORDER BY s.drone_id, s.watch_id",
				  1, types, &drones);
	for (uint64 row = 0; row < n; row++)
	{
		AlertStateChange *state = palloc0(sizeof(AlertStateChange));
		Datum		alert_id;
		bool		isnull;

		state->drone_id = *DatumGetUUIDP(sql_value(row, 0, &isnull));
		state->row.watch_id = *DatumGetUUIDP(sql_value(row, 1, &isnull));
		state->deleted = true;
		alert_changes_state(&changes, state);
		alert_id = sql_value(row, 2, &isnull);
		if (!isnull)
		{
			AlertRecord *record = palloc0(sizeof(AlertRecord));

			record->drone_id = state->drone_id;
			record->alert_id = *DatumGetUUIDP(alert_id);
			record->cleared = true;
			record->cleared_at = now;
			alert_changes_record(&changes, record);
		}
	}
	alert_changes_apply(&changes);
	(void) sql_query("UPDATE telemetry.drone_latest l SET alert_states ="
					 " (SELECT count(*) FROM telemetry.alert_states s WHERE s.drone_id = l.drone_id)"
					 " WHERE l.drone_id = ANY ($1)",
					 1, types, &drones);
}
