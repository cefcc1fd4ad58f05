/*
 * geofence.h
 *		A fence's polygon, made ready for asking whether points are inside.
 */
#ifndef SENTIENT_GEOFENCE_H
#define SENTIENT_GEOFENCE_H

#include "utils/geo_decls.h"

/* An edge that is not horizontal, from its lower to its upper end. */
typedef struct GeofenceEdge
{
	double		lower;			/* latitude, inclusive */
	double		upper;			/* latitude, exclusive */
	double		at_lower;		/* longitude of the lower end */
	double		slope;			/* degrees of longitude a degree of latitude */
} GeofenceEdge;

typedef struct Geofence
{
	double		west;			/* bounding box */
	double		east;
	double		south;
	double		north;
	int			nedges;
	GeofenceEdge edges[FLEXIBLE_ARRAY_MEMBER];
} Geofence;

/* Compile a polygon of (longitude, latitude) points into the current context. */
extern Geofence *geofence_compile(const POLYGON *boundary);

/* What is wrong with a boundary, in words, or NULL. */
extern const char *geofence_fault(const POLYGON *boundary);

/* Is the point inside? */
extern bool geofence_contains(const Geofence *fence, double longitude, double latitude);

#endif							/* SENTIENT_GEOFENCE_H */
