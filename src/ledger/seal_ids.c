/*
 * seal_ids.c
 *		Ids of audit entries that were given before.
 *
 * Ids come from a sequence, which its owner can set back, and which may stand too
 * low where only a part of a dump was restored.  Entries that get the id of an
 * older one are sealed like others: the ledger knows an entry by its leaf hash as
 * well.  But somebody must hear of it, and it must end: sealing, which looks for
 * each id among the sealed ones, sets the sequence forward and records an event of
 * type integrity, which is sealed in turn.  Where there is no room behind the ids
 * that are known, the event is all.
 *
 * Called by sealing, under the chain's lock.  That the sequence was set forward is
 * not taken back when the transaction is; the next run finds the same ids again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "events/events.h"
#include "ledger/ledger.h"
#include "ledger/seal_ids.h"

/* Ids as near as this are looked for as one range. */
#define ID_GAP					1000
/*
 * The sequence is set so far behind the last id: others may take some from it
 * between the look at it and the setting.
 */
#define ID_LEAP					100000
#define SET_BACK				"the sequence of audit ids was set back"

int
seal_compare_entries(const void *a, const void *b)
{
	int64		left = ((const SealRow *) a)->audit_id;
	int64		right = ((const SealRow *) b)->audit_id;

	return (left > right) - (left < right);
}

static SPIPlanPtr
keep_plan(const char *query, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(query, nargs, types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "cannot prepare the look-up of sealed entries");
	return plan;
}

/* The ids among those of the rows that blocks name, in any order; returns how many. */
static int
named_ids(const SealRow *rows, int nrows, Datum **ids)
{
	static SPIPlanPtr plan = NULL;
	Datum	   *lows = palloc(sizeof(Datum) * nrows);
	Datum	   *highs = palloc(sizeof(Datum) * nrows);
	Datum		values[2];
	int			nranges = 0;
	int			n = 0;

	for (int i = 0; i < nrows; i++)
	{
		if (i == 0 || rows[i].audit_id - DatumGetInt64(highs[nranges - 1]) > ID_GAP)
			lows[nranges++] = Int64GetDatum(rows[i].audit_id);
		highs[nranges - 1] = Int64GetDatum(rows[i].audit_id);
	}
	values[0] = sql_array(lows, NULL, nranges, INT8OID);
	values[1] = sql_array(highs, NULL, nranges, INT8OID);
	if (plan == NULL)
		plan = keep_plan("SELECT DISTINCT e.id FROM unnest($1, $2) AS r (low, high) JOIN audit.blocks b"
						 " ON " BLOCK_IDS " && int8range(r.low, r.high, '[]')"
						 " CROSS JOIN LATERAL unnest(b.entry_ids) AS e (id) WHERE e.id BETWEEN r.low AND r.high", 2,
						 (Oid[]) {INT8ARRAYOID, INT8ARRAYOID});
	if (SPI_execute_plan(plan, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "cannot look up sealed entries");
	*ids = palloc(sizeof(Datum) * (SPI_processed + 1));
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool		isnull;
		SealRow		key = {.audit_id = DatumGetInt64(sql_value(row, 0, &isnull))};

		if (bsearch(&key, rows, nrows, sizeof(SealRow), seal_compare_entries) != NULL)
			(*ids)[n++] = Int64GetDatum(key.audit_id);
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

/* The first row of an id. */
static SealRow *
first_row(SealRow *rows, int nrows, int64 audit_id)
{
	SealRow		key = {.audit_id = audit_id};
	SealRow    *row = bsearch(&key, rows, nrows, sizeof(SealRow), seal_compare_entries);

	while (row != NULL && row > rows && row[-1].audit_id == audit_id)
		row--;
	return row;
}

static void
count_repeated(RepeatedIds *repeated, int64 audit_id)
{
	if (repeated->count++ == 0)
		repeated->first = audit_id;
}

void
seal_find_sealed(SealRow *rows, int nrows, RepeatedIds *repeated)
{
	static SPIPlanPtr plan = NULL;
	Datum	   *ids;
	int			n = named_ids(rows, nrows, &ids);
	Datum		values[2];

	if (n > 0)
	{
		values[0] = sql_array(ids, NULL, n, INT8OID);
		values[1] = Int32GetDatum(HASH_BYTES);
		if (plan == NULL)
			plan = keep_plan("SELECT e.id, substr(b.leaf_hashes, (e.n::integer - 1) * $2 + 1, $2) FROM unnest($1) AS i (id) JOIN audit.blocks b"
							 " ON " BLOCK_IDS " @> i.id"
							 " CROSS JOIN LATERAL unnest(b.entry_ids) WITH ORDINALITY AS e (id, n) WHERE e.id = i.id", 2,
							 (Oid[]) {INT8ARRAYOID, INT4OID});
		if (SPI_execute_plan(plan, values, NULL, true, 0) != SPI_OK_SELECT)
			elog(ERROR, "cannot look up sealed entries");
		for (uint64 found = 0; found < SPI_processed; found++)
		{
			bool		isnull;
			int64		audit_id = DatumGetInt64(sql_value(found, 0, &isnull));
			bytea	   *leaf = DatumGetByteaPP(sql_value(found, 1, &isnull));
			SealRow    *row = first_row(rows, nrows, audit_id);

			for (; row != NULL && row < rows + nrows && row->audit_id == audit_id; row++)
			{
				if (VARSIZE_ANY_EXHDR(leaf) == HASH_BYTES && memcmp(VARDATA_ANY(leaf), row->leaf.bytes, HASH_BYTES) == 0)
					row->sealed = true;
			}
		}
		SPI_freetuptable(SPI_tuptable);
		for (int i = 0; i < n; i++)
		{
			SealRow    *row = first_row(rows, nrows, DatumGetInt64(ids[i]));

			if (!row->sealed)
				count_repeated(repeated, row->audit_id);
		}
	}

	for (int i = 1; i < nrows; i++)
	{
		if (rows[i].audit_id != rows[i - 1].audit_id)
			continue;
		for (int other = i - 1; other >= 0 && rows[other].audit_id == rows[i].audit_id && !rows[i].sealed; other--)
			rows[i].sealed = sha256_equal(&rows[other].leaf, &rows[i].leaf);
		if (!rows[i].sealed)
			count_repeated(repeated, rows[i].audit_id);
	}
}

/* The sequence, where it counts upwards. */
typedef struct Sequence
{
	bool		found;
	bool		behind;			/* it stands at an id that is known */
	char	   *was;
	char	   *set_to;			/* NULL: there was no room */
} Sequence;

/* Set the sequence behind the greatest id that is known. */
static void
set_forward(Sequence *sequence)
{
	bool		isnull;

	sequence->found = sql_query(psprintf("SELECT s.last_value, CASE WHEN s.last_value <= g.id AND g.id::numeric + %d < q.seqmax"
										 " THEN setval('audit.log_audit_id_seq', g.id + %d) END, coalesce(s.last_value <= g.id, false)"
										 " FROM audit.log_audit_id_seq s, pg_sequence q,"
										 " LATERAL (SELECT max(greatest(max_audit_id, visible_audit_id)) AS id FROM audit.blocks) g"
										 " WHERE q.seqrelid = 'audit.log_audit_id_seq'::regclass AND q.seqincrement > 0",
										 ID_LEAP, ID_LEAP), 0, NULL, NULL) > 0;
	if (!sequence->found)
		return;
	sequence->was = sql_string(0, 0);
	sequence->set_to = sql_string(0, 1);
	sequence->behind = DatumGetBool(sql_value(0, 2, &isnull));
}

/* Has it been told since the last block, whose look at the sequence the next one corrects? */
static bool
told_since(TimestampTz last_sealed_at)
{
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		values[1] = {TimestampTzGetDatum(last_sealed_at)};

	return sql_query(psprintf("SELECT FROM audit.security_events WHERE event_type = '%s' AND object = 'audit.log_audit_id_seq'"
							  " AND message = '" SET_BACK "' AND occurred_at >= $1 LIMIT 1", security_event_name(EVENT_INTEGRITY)), 1, types, values) > 0;
}

void
seal_report_repeated(const RepeatedIds *repeated)
{
	SecurityEvent event;
	Sequence	sequence = {0};

	if (repeated->count == 0 && !repeated->set_back)
		return;
	set_forward(&sequence);
	/* It counts down, or others have used it meanwhile. */
	if (repeated->count == 0 && !sequence.behind)
		return;
	if (repeated->count == 0 && sequence.set_to == NULL && told_since(repeated->last_sealed_at))
		return;
	security_event_begin(&event, EVENT_INTEGRITY, EVENT_NO_OUTCOME);
	security_event_object(&event, "audit.log_audit_id_seq");
	security_event_message(&event, repeated->count > 0 ? "audit entries have ids that others had before" : SET_BACK);
	if (repeated->count > 0)
	{
		security_event_detail(&event, "entries", psprintf(INT64_FORMAT, repeated->count));
		security_event_detail(&event, "first_id", psprintf(INT64_FORMAT, repeated->first));
	}
	if (sequence.behind)
	{
		security_event_detail(&event, "sequence_was", sequence.was);
		if (sequence.set_to != NULL)
			security_event_detail(&event, "sequence_is", sequence.set_to);
		else
			security_event_detail(&event, "set_forward", "no room");
	}
	security_event(&event);
}
