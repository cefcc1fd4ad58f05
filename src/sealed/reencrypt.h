/*
 * reencrypt.h
 *		Bringing the values of a column under the active keys, in the background.
 */
#ifndef SENTIENT_REENCRYPT_H
#define SENTIENT_REENCRYPT_H

#include "nodes/pg_list.h"
#include "storage/block.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/* A column whose values are to be under the active keys. */
typedef struct ReencryptColumn
{
	Oid			root;			/* the table, or the parent of its partitions */
	char	   *name;
	int			nkeys;
	char	  **keys;			/* columns that end the context of a value */
} ReencryptColumn;

/* The keys that are active in this transaction. */
typedef struct ReencryptKeys
{
	pg_uuid_t	field;
	pg_uuid_t	search;			/* nil: there is none, and so no value has a tag */
} ReencryptKeys;

/* What came of a batch. */
typedef struct ReencryptCounts
{
	int64		blocks;			/* gone through */
	int64		done;			/* brought under the active keys */
	int64		busy;			/* another transaction was changing the row */
	int64		failed;			/* could not be opened, or not be stored again */
	char	   *error;			/* of the last that failed, or NULL */
} ReencryptCounts;

/* Parameters. */
extern int	reencrypt_batch_rows;
extern int	reencrypt_delay;

extern void reencrypt_init(void);

/* The worker (reencrypt_worker.c): its scheduler job, and that it is wanted once this transaction has committed. */
extern void reencrypt_worker_init(void);
extern void reencrypt_wanted(void);

/* The rows (reencrypt_rows.c); the type is that of sealed values. */
extern Oid	reencrypt_type(void);
extern void reencrypt_active_keys(ReencryptKeys *keys);
extern List *reencrypt_leaves(const ReencryptColumn *column);
extern BlockNumber reencrypt_batch(const ReencryptColumn *column, const ReencryptKeys *keys, Oid leaf,
								   BlockNumber first, bool carefully, ReencryptCounts *counts);
extern int64 reencrypt_count_left(const ReencryptColumn *column, const ReencryptKeys *keys, Oid leaf,
								  Snapshot snapshot, void (*pulse) (void));

#endif							/* SENTIENT_REENCRYPT_H */
