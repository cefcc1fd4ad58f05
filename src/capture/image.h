/*
 * image.h
 *		Rows as jsonb objects, made column by column straight from a tuple.
 *
 * An image equals to_jsonb of the row, but for what must not depend on the
 * session: times are in UTC and ISO 8601, bytea is hexadecimal, floats have all
 * their digits, names of catalog objects their schema unless it is pg_catalog, and
 * money is written as in the locale C.  Columns may be left out or masked.
 */
#ifndef SENTIENT_AUDIT_IMAGE_H
#define SENTIENT_AUDIT_IMAGE_H

#include "access/tupdesc.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

/* What a masked value reads like. */
#define IMAGE_MASK				"[masked]"

typedef struct ImageShape ImageShape;

/*
 * How rows of the relation are written.  Attribute numbers in excluded and masked
 * begin at 1; key is a set of attributes or NULL.  Lives in the current context.
 * It holds until the relation changes, or one of the composite types whose
 * relations are added to composites; that may be NULL.
 */
extern ImageShape *image_shape(TupleDesc desc, const Bitmapset *excluded, const Bitmapset *masked,
							   const Bitmapset *key, List **composites);

/* The whole row, the key alone (NULL without one). */
extern Jsonb *image_row(ImageShape *shape, const Datum *values, const bool *nulls);
extern Jsonb *image_key(ImageShape *shape, const Datum *values, const bool *nulls);

/*
 * What the columns that differ held before and hold now; false when none does.
 * Two values differ when their bytes do; a value that was not touched is not
 * fetched from its TOAST table.
 */
extern bool image_changes(ImageShape *shape, const Datum *old_values, const bool *old_nulls,
						  const Datum *new_values, const bool *new_nulls, Jsonb **before, Jsonb **after);

/* Are values of the type, no domain, written by a cast to json of its owner's? */
extern bool image_written_by_cast(Oid type);

/* Raise an error if a row is being written: a cast to json may be any function. */
extern void image_check_idle(const ImageShape *shape);

#endif							/* SENTIENT_AUDIT_IMAGE_H */
