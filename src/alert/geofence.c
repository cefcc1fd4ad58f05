/*
 * geofence.c
 *		Points in polygons.
 *
 * A boundary is a polygon in the plane of longitude and latitude: its edges are
 * straight lines there, not great circles.  A point is inside when a line from
 * it to the west crosses the boundary an odd number of times; one that lies on
 * an edge may be either.
 *
 * An edge from 179 to -179 runs the long way round, through 0.  A fence across
 * the antimeridian is therefore written with longitudes beyond 180 (170 to 190)
 * or below -180, and every point is looked for at its own longitude and at those
 * a full turn away.  Touches no table.
 */
#include "postgres.h"

#include "utils/float.h"

#include "alert/geofence.h"

/*
 * What is wrong with a boundary, or NULL.
 */
const char *
geofence_fault(const POLYGON *boundary)
{
	double		west = get_float8_infinity();
	double		east = -get_float8_infinity();

	if (boundary->npts < 3)
		return "it has fewer than three points";
	for (int i = 0; i < boundary->npts; i++)
	{
		const Point *point = &boundary->p[i];

		if (!(point->y >= -90 && point->y <= 90))
			return "a latitude, which is the second number of a point, is outside -90 to 90";
		if (!(point->x >= -360 && point->x <= 360))
			return "a longitude, which is the first number of a point, is outside -360 to 360";
		west = Min(west, point->x);
		east = Max(east, point->x);
	}
	if (east - west > 360)
		return "it is wider than 360 degrees";
	return NULL;
}

/*
 * Make a polygon ready.
 */
Geofence *
geofence_compile(const POLYGON *boundary)
{
	int			n = boundary->npts;
	Geofence   *fence = palloc0(offsetof(Geofence, edges) + sizeof(GeofenceEdge) * n);

	fence->west = fence->south = get_float8_infinity();
	fence->east = fence->north = -get_float8_infinity();
	for (int i = 0; i < n; i++)
	{
		const Point *from = &boundary->p[i];
		const Point *to = &boundary->p[(i + 1) % n];

		fence->west = Min(fence->west, from->x);
		fence->east = Max(fence->east, from->x);
		fence->south = Min(fence->south, from->y);
		fence->north = Max(fence->north, from->y);

		if (from->y != to->y)
		{
			GeofenceEdge *edge = &fence->edges[fence->nedges++];
			const Point *lower = from->y < to->y ? from : to;
			const Point *upper = from->y < to->y ? to : from;

			edge->lower = lower->y;
			edge->upper = upper->y;
			edge->at_lower = lower->x;
			edge->slope = (upper->x - lower->x) / (upper->y - lower->y);
		}
	}
	return fence;
}

static bool
contains_at(const Geofence *fence, double longitude, double latitude)
{
	bool		inside = false;

	if (longitude < fence->west || longitude > fence->east)
		return false;
	for (int i = 0; i < fence->nedges; i++)
	{
		const GeofenceEdge *edge = &fence->edges[i];

		if (latitude >= edge->lower && latitude < edge->upper &&
			longitude > edge->at_lower + (latitude - edge->lower) * edge->slope)
			inside = !inside;
	}
	return inside;
}

/*
 * Is the point inside?
 */
bool
geofence_contains(const Geofence *fence, double longitude, double latitude)
{
	if (latitude < fence->south || latitude > fence->north)
		return false;
	return contains_at(fence, longitude, latitude) ||
		contains_at(fence, longitude + 360, latitude) ||
		contains_at(fence, longitude - 360, latitude);
}
