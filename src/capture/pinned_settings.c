/*
 * pinned_settings.c
 *		The session's settings out of the way, while values are written or read.
 *
 * What a value looks like in an entry must not be for the session to choose.
 * Called by image.c around output functions, and by row_key.c around input
 * functions.  Most parameters are variables that are cheap to change; search_path
 * and lc_monetary, which have state behind them, are set as parameters, and only
 * for types that depend on them: names of catalog objects, and money.
 *
 * A type's own functions are its owner's: what those of other types look at is
 * not known here.  Takes no locks but those of reading catalogs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/sql.h"
#include "capture/pinned_settings.h"

int
pins_of_type(Oid type, List **composites)
{
	Oid			inner;
	int			pins = PIN_VARIABLES;

	check_stack_depth();
	type = getBaseType(type);
	switch (type)
	{
		case CASHOID:
			return PIN_VARIABLES | PIN_MONEY;
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
			return PIN_VARIABLES | PIN_NAMES;
	}
	if (OidIsValid(inner = get_element_type(type)) ||
		OidIsValid(inner = get_multirange_range(type)) ||
		OidIsValid(inner = get_range_subtype(type)))
		return pins_of_type(inner, composites);
	if (get_typtype(type) == TYPTYPE_COMPOSITE)
	{
		TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);

		if (composites != NULL)
			*composites = list_append_unique_oid(*composites, get_typ_typrelid(type));
		for (int i = 0; i < desc->natts; i++)
		{
			if (!TupleDescAttr(desc, i)->attisdropped)
				pins |= pins_of_type(TupleDescAttr(desc, i)->atttypid, composites);
		}
		ReleaseTupleDesc(desc);
	}
	return pins;
}

void
pin_settings(PinnedSettings *saved, int pins)
{
	static pg_tz *utc = NULL;

	if (utc == NULL)
		utc = pg_tzset("UTC");
	/* First what may fail. */
	saved->nest_level = 0;
	if (pins & (PIN_NAMES | PIN_MONEY))
	{
		saved->nest_level = NewGUCNestLevel();
		if (pins & PIN_NAMES)
			sql_set_local("search_path", "pg_catalog, pg_temp");
		if (pins & PIN_MONEY)
			sql_set_local("lc_monetary", "C");
	}

	saved->date_style = DateStyle;
	saved->date_order = DateOrder;
	saved->interval_style = IntervalStyle;
	saved->float_digits = extra_float_digits;
	saved->bytea = bytea_output;
	saved->quote_identifiers = quote_all_identifiers;
	saved->nulls_in_arrays = Array_nulls;
	saved->zone = session_timezone;
	DateStyle = USE_ISO_DATES;
	DateOrder = DATEORDER_YMD;
	IntervalStyle = INTSTYLE_POSTGRES;
	extra_float_digits = 1;
	bytea_output = BYTEA_OUTPUT_HEX;
	quote_all_identifiers = false;
	Array_nulls = true;
	session_timezone = utc;
}

void
unpin_settings(const PinnedSettings *saved, bool failed)
{
	DateStyle = saved->date_style;
	DateOrder = saved->date_order;
	IntervalStyle = saved->interval_style;
	extra_float_digits = saved->float_digits;
	bytea_output = saved->bytea;
	quote_all_identifiers = saved->quote_identifiers;
	Array_nulls = saved->nulls_in_arrays;
	session_timezone = saved->zone;
	if (saved->nest_level > 0 && !failed)
		AtEOXact_GUC(false, saved->nest_level);
}
