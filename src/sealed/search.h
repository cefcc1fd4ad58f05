/*
 * search.h
 *		Search tags: which sealed values have the same plaintext.
 */
#ifndef SENTIENT_SEARCH_H
#define SENTIENT_SEARCH_H

#include "crypto/data_key.h"
#include "sealed/sealed_envelope.h"

/*
 * Tags are equal across the rows of a column: they depend on the plaintext and on
 * the context up to its first colon outside double quotes.
 */
extern size_t search_scope(const char *context, size_t context_bytes);

extern void search_tag(const DataKey *key, const char *context, size_t context_bytes,
					   const void *plain, size_t bytes, uint8 tag[SEALED_SEARCH_TAG_BYTES]);

#endif							/* SENTIENT_SEARCH_H */
