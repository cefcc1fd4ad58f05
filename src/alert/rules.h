/*
 * rules.h
 *		telemetry.alert_rules and telemetry.geofences, compiled for evaluation.
 */
#ifndef SENTIENT_ALERT_RULES_H
#define SENTIENT_ALERT_RULES_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "alert/alert.h"
#include "alert/geofence.h"

/* The metric of a link-loss rule: seconds without a sample.  No column. */
#define ALERT_LINK_METRIC	"link_silence_s"

typedef enum AlertKind
{
	ALERT_RULE,
	ALERT_GEOFENCE,
	ALERT_LINK_LOSS,
} AlertKind;

typedef enum AlertComparison
{
	ALERT_LESS,
	ALERT_LESS_EQUAL,
	ALERT_GREATER,
	ALERT_GREATER_EQUAL,
	ALERT_EQUAL,
	ALERT_NOT_EQUAL,
} AlertComparison;

/* One enabled rule or geofence. */
typedef struct AlertWatch
{
	pg_uuid_t	id;
	AlertKind	kind;
	char	   *name;
	char	   *severity;

	bool		has_drone;		/* only this drone */
	pg_uuid_t	drone_id;
	int			drone_type;		/* only this type, a place in types; -1 any */

	/* a rule */
	int			metric;
	AlertComparison comparison;
	double		threshold;		/* link loss: seconds */
	double		clear_threshold;
	int64		hold_us;

	/* a geofence */
	bool		inclusion;
	Geofence   *fence;
	double		floor_m;		/* -infinity when unbounded */
	double		ceiling_m;		/* infinity when unbounded */
	TimestampTz valid_from;
	TimestampTz valid_until;
} AlertWatch;

/* Outside of this no rule with an inequality on the metric is broken. */
typedef struct AlertBand
{
	int			metric;
	double		below;			/* a value up to it may break a rule */
	double		above;			/* a value from it on may break a rule */
} AlertBand;

/* Where an exclusion area is, by longitudes from -180 to 180; one across the antimeridian has two of these. */
typedef struct AlertBox
{
	double		west;
	double		east;
	double		south;
	double		north;
	int			watch;			/* a place in watches */
} AlertBox;

/*
 * Where there is an exclusion area at all: a rectangle around all of the boxes,
 * cut into cells.  The bit of a cell is set when a box touches it.
 */
#define ALERT_GRID_CELLS	64

typedef struct AlertGrid
{
	AlertBox	around;
	double		columns_per_deg;
	double		rows_per_deg;
	uint64		rows[ALERT_GRID_CELLS];
} AlertGrid;

struct AlertRules
{
	MemoryContext context;
	uint64		generation;		/* 1, 2, ...: how often this session has compiled */
	uint32		needed;			/* metrics that are looked at, see ALERT_BIT */
	int			nwatches;
	AlertWatch *watches;		/* rules, then geofences, then link loss */
	int			first_fence;
	int			first_link;
	int			nbands;
	AlertBand  *bands;
	int			nexact;			/* rules with = or <>: places in watches */
	int		   *exact;
	int			ninclusions;	/* inclusion areas: places in watches */
	int		   *inclusions;
	int			nboxes;
	AlertBox   *boxes;			/* from south to north */
	AlertGrid	grid;			/* of the boxes */
	int			ntypes;
	char	  **types;			/* drone types that a watch names */
	struct drone_type_hash *drone_types;	/* of the drones that were asked for */
};

/* The comparison with that operator's name, or -1. */
extern int	alert_comparison_by_name(const char *name);
extern const char *alert_comparison_name(AlertComparison comparison);

extern void alert_rules_init(void);

/*
 * The rules in force: committed changes of other sessions are seen after the
 * next invalidation messages, own changes at once.  Stays valid until the
 * transaction ends.  Call it inside a transaction.
 */
extern const AlertRules *alert_rules_get(void);

/* Have every session compile the rules again once this transaction has committed. */
extern void alert_rules_invalidate(void);

/* Does the watch apply to the drone? */
extern bool alert_watch_applies(const AlertRules *rules, const AlertWatch *watch, const pg_uuid_t *drone_id);

/* The row or column of a latitude or longitude that lies in the grid: it never falls as that grows. */
static inline int
alert_grid_cell(double degrees, double origin, double cells_per_deg)
{
	return Min((int) ((degrees - origin) * cells_per_deg), ALERT_GRID_CELLS - 1);
}

/* May the place lie in a box? */
static inline bool
alert_grid_hit(const AlertGrid *grid, double longitude, double latitude)
{
	int			row;
	int			column;

	if (!(latitude >= grid->around.south && latitude <= grid->around.north &&
		  longitude >= grid->around.west && longitude <= grid->around.east))
		return false;
	row = alert_grid_cell(latitude, grid->around.south, grid->rows_per_deg);
	column = alert_grid_cell(longitude, grid->around.west, grid->columns_per_deg);
	return (grid->rows[row] & (UINT64CONST(1) << column)) != 0;
}

/* Compare as the rule does. */
static inline bool
alert_compare(AlertComparison comparison, double value, double threshold)
{
	switch (comparison)
	{
		case ALERT_LESS:
			return value < threshold;
		case ALERT_LESS_EQUAL:
			return value <= threshold;
		case ALERT_GREATER:
			return value > threshold;
		case ALERT_GREATER_EQUAL:
			return value >= threshold;
		case ALERT_EQUAL:
			return value == threshold;
		case ALERT_NOT_EQUAL:
			return value != threshold;
	}
	return false;
}

#endif							/* SENTIENT_ALERT_RULES_H */
