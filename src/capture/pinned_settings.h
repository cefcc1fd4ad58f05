/*
 * pinned_settings.h
 *		The session's settings out of the way, while values are written or read.
 */
#ifndef SENTIENT_AUDIT_PINNED_SETTINGS_H
#define SENTIENT_AUDIT_PINNED_SETTINGS_H

#include "nodes/pg_list.h"
#include "pgtime.h"

/* What the text of a type's values depends on; may be added up. */
#define PIN_VARIABLES			0x01	/* parameters that are plain variables: pinned for every value that goes through functions */
#define PIN_NAMES				0x02	/* search_path: names of catalog objects */
#define PIN_MONEY				0x04	/* lc_monetary */

typedef struct PinnedSettings
{
	int			date_style;
	int			date_order;
	int			interval_style;
	int			float_digits;
	int			bytea;
	bool		quote_identifiers;
	bool		nulls_in_arrays;
	pg_tz	   *zone;
	int			nest_level;		/* of parameters; 0: none was set */
} PinnedSettings;

/*
 * What values of the type depend on, whatever it is made of.  The composite types
 * among that, which may get other attributes any time, are added to composites as
 * the oids of their relations, unless it is NULL.
 */
extern int	pins_of_type(Oid type, List **composites);

/*
 * From here on settings are the same in every session: dates in ISO 8601, zone
 * UTC, search_path pg_catalog, pg_temp, money as in locale C.  What is pinned is
 * put back by unpin_settings, which must be called on an error as well: then with
 * failed, as the end of the (sub)transaction puts back parameters.
 */
extern void pin_settings(PinnedSettings *saved, int pins);
extern void unpin_settings(const PinnedSettings *saved, bool failed);

#endif							/* SENTIENT_AUDIT_PINNED_SETTINGS_H */
