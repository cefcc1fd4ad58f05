/*
 * merkle.h
 *		SHA-256, and the Merkle tree over the entries of a block, as in RFC 6962.
 */
#ifndef SENTIENT_MERKLE_H
#define SENTIENT_MERKLE_H

#define HASH_BYTES				32

typedef struct Sha256
{
	uint8		bytes[HASH_BYTES];
} Sha256;

/* One step of an audit path: the sibling, and on which side of the path it stands. */
typedef struct MerkleStep
{
	Sha256		sibling;
	bool		sibling_is_left;
} MerkleStep;

/* More steps than any tree of at most INT_MAX leaves needs. */
#define MERKLE_MAX_STEPS		32

extern Sha256 hash_of(const void *data, size_t bytes);

/* SHA-256(0x00 || data): the leaf of an entry. */
extern Sha256 merkle_leaf(const void *data, size_t bytes);

/* The root over n leaves, which are overwritten; of none, the hash of nothing. */
extern Sha256 merkle_root(Sha256 *leaves, int n);

/* The path from leaf number index (from 0) up to the root; overwrites the leaves.  Returns its length. */
extern int	merkle_path(Sha256 *leaves, int n, int index, MerkleStep steps[MERKLE_MAX_STEPS]);

static inline bool
sha256_equal(const Sha256 *a, const Sha256 *b)
{
	return memcmp(a->bytes, b->bytes, HASH_BYTES) == 0;
}

/* In the current context, in lower case. */
extern char *hash_hex(const void *bytes, size_t length);

/* False unless the text is exactly length bytes in hexadecimal. */
extern bool hex_bytes(const char *hex, uint8 *bytes, size_t length);

#endif							/* SENTIENT_MERKLE_H */
