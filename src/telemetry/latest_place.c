/*
 * latest_place.c
 *		Where this session last found the rows of telemetry.drone_latest.
 *
 * Called by latest.c, which would otherwise search the primary key for every
 * drone of every call; for a fleet of 100,000 drones that is a fifth of the work.
 * A place is what the index has for the drone: the first tuple of a chain of
 * heap-only updates.  It is a guess.  The row may have moved, or another's may
 * have come there; so the caller looks at what it finds, and asks the index if
 * that is not the drone's.  Nothing has to be invalidated, therefore.
 *
 * Private to the backend; no locks, nothing to survive a crash.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "telemetry/latest_place.h"

/* Drones that are remembered, at most: 3 MB. */
#define MAX_PLACES		110000

typedef struct LatestPlace
{
	pg_uuid_t	drone_id;
	ItemPointerData place;
	char		status;			/* of the hash table */
} LatestPlace;

#define SH_PREFIX		place
#define SH_ELEMENT_TYPE	LatestPlace
#define SH_KEY			drone_id
#include "base/uuid_hash.h"

static place_hash *places = NULL;

bool
latest_place_get(const pg_uuid_t *drone_id, ItemPointer place)
{
	LatestPlace *entry = places != NULL ? place_lookup(places, *drone_id) : NULL;

	if (entry != NULL)
		*place = entry->place;
	return entry != NULL;
}

void
latest_place_put(const pg_uuid_t *drone_id, const ItemPointerData *place)
{
	bool		found;

	if (places == NULL)
		places = place_create(TopMemoryContext, 256, NULL);
	else if (places->members >= MAX_PLACES)
		place_reset(places);
	place_insert(places, *drone_id, &found)->place = *place;
}
