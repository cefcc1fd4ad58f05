/*
 * latest_place.h
 *		Where this session last found the rows of telemetry.drone_latest.
 */
#ifndef SENTIENT_LATEST_PLACE_H
#define SENTIENT_LATEST_PLACE_H

#include "storage/itemptr.h"
#include "utils/uuid.h"

/* Where the drone's row may be, as its index would say; false when nothing is known. */
extern bool latest_place_get(const pg_uuid_t *drone_id, ItemPointer place);

/* Remember what the index said. */
extern void latest_place_put(const pg_uuid_t *drone_id, const ItemPointerData *place);

#endif							/* SENTIENT_LATEST_PLACE_H */
