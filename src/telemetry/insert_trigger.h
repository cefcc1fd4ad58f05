/*
 * insert_trigger.h
 *		Rows that a caller inserts by many statements, and the triggers settle at once.
 */
#ifndef SENTIENT_INSERT_TRIGGER_H
#define SENTIENT_INSERT_TRIGGER_H

#include "telemetry/sample.h"
#include "utils/relcache.h"

/*
 * Until insert_trigger_settle, or until the current subtransaction is rolled back,
 * rows inserted into telemetry.drone_telemetry in it leave drone_latest and the
 * alerts as they are; then all of them count together, with those that are there
 * without any trigger's knowing and were noted.
 */
extern void insert_trigger_hold(void);
extern void insert_trigger_note(const Sample *sample);
extern void insert_trigger_settle(Relation parent);

#endif							/* SENTIENT_INSERT_TRIGGER_H */
