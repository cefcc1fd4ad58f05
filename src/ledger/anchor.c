/*
 * anchor.c
 *		Digests and prune anchors: what is signed of them.
 *
 * Lines of text, so that the openssl tool and printf can check a signature.  No
 * locks, no tables.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "audit/merkle.h"
#include "ledger/anchor.h"

char *
digest_message(const char *system, const char *block, const char *hash, const char *entries,
			   const char *time, const char *key)
{
	return psprintf("sentient_edge digest 1\nsystem %s\nblock %s\nhash %s\nentries %s\ntime %s\nkey %s\n",
					system, block, hash, entries, time, key);
}

char *
prune_message(int64 block_number, const char *hash, const char *from, TimestampTz before, int64 entries,
			  const char *partly, const char *key)
{
	Sha256		listed = hash_of(partly, strlen(partly));

	return psprintf("sentient_edge prune 1\nblock " INT64_FORMAT "\nhash %s\nfrom %s\nbefore %s\nentries " INT64_FORMAT
					"\npartly %s\nkey %s\n",
					block_number, hash, from, anchor_time(before), entries, hash_hex(listed.bytes, HASH_BYTES), key);
}

char *
anchor_time(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;

	/* Without a zone the conversion gives UTC. */
	if (TIMESTAMP_NOT_FINITE(time) || timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
					tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
}
