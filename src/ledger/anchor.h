/*
 * anchor.h
 *		Digests and prune anchors: what is signed of them.
 */
#ifndef SENTIENT_ANCHOR_H
#define SENTIENT_ANCHOR_H

#include "datatype/timestamp.h"

/* The lines that the signature of a digest is over, from the texts that the digest holds. */
extern char *digest_message(const char *system, const char *block, const char *hash, const char *entries,
							const char *time, const char *key);

/* The same of a prune anchor. */
extern char *prune_message(int64 block_number, const char *hash, const char *from, TimestampTz before, int64 entries,
						   const char *partly, const char *key);

/* 2026-01-02T03:04:05.000006Z */
extern char *anchor_time(TimestampTz time);

#endif							/* SENTIENT_ANCHOR_H */
