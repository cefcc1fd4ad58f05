/*
 * sealed_compare.c
 *		Operators of the type sealed, for its btree and hash operator classes.
 *
 * Searchable values and tokens are equal when their search tags and keys are;
 * they sort by these, before all others.  Any other value is equal only to the
 * same bytes.  Neither order means anything beyond that.
 *
 * Stored in indexes: what a version's envelopes compare by never changes.  No
 * keys, no errors of its own.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "port/pg_bswap.h"
#include "utils/sortsupport.h"

#include "sealed/sealed.h"

PG_FUNCTION_INFO_V1(sealed_eq);
PG_FUNCTION_INFO_V1(sealed_ne);
PG_FUNCTION_INFO_V1(sealed_lt);
PG_FUNCTION_INFO_V1(sealed_le);
PG_FUNCTION_INFO_V1(sealed_gt);
PG_FUNCTION_INFO_V1(sealed_ge);
PG_FUNCTION_INFO_V1(sealed_cmp);
PG_FUNCTION_INFO_V1(sealed_sortsupport);
PG_FUNCTION_INFO_V1(sealed_hash);
PG_FUNCTION_INFO_V1(sealed_hash_extended);

/* What a value is compared by. */
typedef struct Comparand
{
	const uint8 *bytes;
	size_t		size;
	bool		searchable;
	struct varlena *copy;		/* to be freed, or NULL */
} Comparand;

static Comparand
comparand(Datum datum)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(datum);
	Comparand	result = {0};
	struct varlena *flat;
	size_t		size;

	/* Of a value that lies elsewhere, the head will do as a rule. */
	if (likely(!VARATT_IS_EXTERNAL(value)))
	{
		flat = pg_detoast_datum_packed(value);
		size = VARSIZE_ANY_EXHDR(flat);
	}
	else
	{
		flat = pg_detoast_datum_slice(value, 0, SEALED_HEAD_MAX);
		size = toast_raw_datum_size(datum) - VARHDRSZ;
	}

	result.bytes = sealed_envelope_search((const uint8 *) VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat), size);
	result.searchable = result.bytes != NULL;
	if (result.searchable)
		result.size = SEALED_SEARCH_BYTES;
	else
	{
		if (VARSIZE_ANY_EXHDR(flat) < size)
		{
			pfree(flat);
			flat = pg_detoast_datum_packed(value);
		}
		result.bytes = (const uint8 *) VARDATA_ANY(flat);
		result.size = VARSIZE_ANY_EXHDR(flat);
	}
	result.copy = flat == value ? NULL : flat;
	return result;
}

static int
compare(Datum left, Datum right)
{
	Comparand	a = comparand(left);
	Comparand	b = comparand(right);
	int			result;

	if (a.searchable != b.searchable)
		result = a.searchable ? -1 : 1;
	else
	{
		result = memcmp(a.bytes, b.bytes, Min(a.size, b.size));
		if (result == 0 && a.size != b.size)
			result = a.size < b.size ? -1 : 1;
	}
	if (a.copy != NULL)
		pfree(a.copy);
	if (b.copy != NULL)
		pfree(b.copy);
	return result < 0 ? -1 : result > 0;
}

Datum
sealed_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)) == 0);
}

Datum
sealed_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)) != 0);
}

Datum
sealed_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)) < 0);
}

Datum
sealed_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)) <= 0);
}

Datum
sealed_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)) > 0);
}

Datum
sealed_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)) >= 0);
}

Datum
sealed_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(compare(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)));
}

static int
compare_for_sort(Datum left, Datum right, SortSupport support)
{
	return compare(left, right);
}

#if SIZEOF_DATUM == 8
/*
 * The first 63 bits of what a value is compared by, behind a bit for those that
 * are not searchable.  Tags are as good as random, so that these nearly always do.
 */
static Datum
abbreviate(Datum original, SortSupport support)
{
	Comparand	value = comparand(original);
	uint8		first[sizeof(uint64)] = {0};
	uint64		bits;

	memcpy(first, value.bytes, Min(value.size, sizeof(first)));
	if (value.copy != NULL)
		pfree(value.copy);
	memcpy(&bits, first, sizeof(bits));
	return (Datum) (pg_ntoh64(bits) >> 1 | (value.searchable ? 0 : UINT64CONST(1) << 63));
}

static bool
abort_abbreviation(int memtupcount, SortSupport support)
{
	return false;
}
#endif

Datum
sealed_sortsupport(PG_FUNCTION_ARGS)
{
	SortSupport support = (SortSupport) PG_GETARG_POINTER(0);

	support->comparator = compare_for_sort;
#if SIZEOF_DATUM == 8
	if (support->abbreviate)
	{
		support->comparator = ssup_datum_unsigned_cmp;
		support->abbrev_converter = abbreviate;
		support->abbrev_abort = abort_abbreviation;
		support->abbrev_full_comparator = compare_for_sort;
	}
#endif
	PG_RETURN_VOID();
}

Datum
sealed_hash(PG_FUNCTION_ARGS)
{
	Comparand	value = comparand(PG_GETARG_DATUM(0));
	uint32		hash = hash_bytes(value.bytes, value.size);

	if (value.copy != NULL)
		pfree(value.copy);
	PG_RETURN_UINT32(hash);
}

Datum
sealed_hash_extended(PG_FUNCTION_ARGS)
{
	Comparand	value = comparand(PG_GETARG_DATUM(0));
	uint64		hash = hash_bytes_extended(value.bytes, value.size, PG_GETARG_INT64(1));

	if (value.copy != NULL)
		pfree(value.copy);
	PG_RETURN_UINT64(hash);
}
