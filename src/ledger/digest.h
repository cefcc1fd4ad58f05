/*
 * digest.h
 *		Digests of the ledger: its last block in a few signed lines, to keep outside.
 */
#ifndef SENTIENT_DIGEST_H
#define SENTIENT_DIGEST_H

/*
 * Make a digest of the last block and record it in audit.anchors; inside a
 * sql_begin scope.  Returns its JSON text; NULL when there is no block yet.
 */
extern char *digest_make(const char *note, int64 *block_number);

#endif							/* SENTIENT_DIGEST_H */
