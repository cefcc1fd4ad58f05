/*
 * sealed.h
 *		Sealed values for the modules that keep or open them.
 *
 * A context is 1 to SEALED_CONTEXT_MAX bytes of UTF-8.  Plaintexts of type text
 * are UTF-8 inside an envelope, whatever the database's encoding.
 */
#ifndef SENTIENT_SEALED_H
#define SENTIENT_SEALED_H

#include "utils/rel.h"
#include "utils/uuid.h"

#include "compat.h"
#include "sealed/sealed_envelope.h"

#define SEALED_CONTEXT_MAX		1024

/*
 * What became of a value that was to be opened.  Everything that may come of
 * tampering is the same SEALED_REFUSED.
 */
typedef enum SealedStatus
{
	SEALED_OPENED,
	SEALED_REFUSED,				/* changed, cut short, of another context, key or version */
	SEALED_NO_KEY,				/* this server cannot unwrap its keys */
	SEALED_IS_TOKEN,			/* a search token, which holds no value */
} SealedStatus;

/* Encrypt bytes for a context, under the active keys; an error without a key. */
extern struct varlena *sealed_make(const void *plain, size_t bytes, const char *context, size_t context_bytes,
								   bool searchable);

/*
 * Decrypt into a palloc'd value of the shape of bytea, which the caller gives back
 * with sealed_plain_free unless it is the result; *plain is NULL unless opened.
 */
extern SealedStatus sealed_open(const struct varlena *value, const char *context, size_t context_bytes,
								struct varlena **plain);

/* The error of a status other than SEALED_OPENED. */
pg_noreturn extern void sealed_raise(SealedStatus status);

/* Zero and free what sealed_open has returned; NULL is allowed. */
extern void sealed_plain_free(struct varlena *plain);

/* Open and seal again under the active keys; searchable stays searchable. */
extern struct varlena *sealed_renew(const struct varlena *value, const char *context, size_t context_bytes);

/*
 * The ids of a value's keys, without a key and without fetching more than its
 * head; the nil UUID where there is none: no search key, or a token's field key.
 * False when it is no envelope of a known version.
 */
extern bool sealed_key_ids(const struct varlena *value, pg_uuid_t *key, pg_uuid_t *search_key);

/*
 * The context of a row's value: "schema.table.column:key", where the table is the
 * topmost parent of a partition; more than one key: separated by commas.  Palloc'd.
 */
extern char *sealed_row_context(Oid table, const char *column, int nkeys, char **keys);

/*
 * The same, with the keys out of the row: columns by number in the row's own
 * descriptor.  An error when one of them is null or of a type whose text depends
 * on settings.
 */
extern char *sealed_tuple_context(Relation table, HeapTuple row, AttrNumber column, int nkeys,
								  const AttrNumber *key_columns);

/*
 * A text of the database's encoding as UTF-8 and back.  The result may be the
 * argument itself.  NULL when there is no such text, which may hold a secret and
 * is therefore in no error.
 */
extern text *sealed_to_utf8(text *value);
extern text *sealed_from_utf8(text *value);

/* As an argument of a function: a context in UTF-8, or an error. */
extern text *sealed_context_argument(text *context);

/*
 * Error context callback for functions that are given a plaintext: the server log
 * shows an error of theirs without the statement, which may have it as a literal.
 */
extern void sealed_hide_statement(void *arg);

extern void sealed_init(void);

#endif							/* SENTIENT_SEALED_H */
