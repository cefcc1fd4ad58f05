/*
 * merkle.c
 *		SHA-256, and the Merkle tree over the entries of a block, as in RFC 6962.
 *
 * A leaf is SHA-256(0x00 || entry), an inner node SHA-256(0x01 || left || right);
 * the tree splits at the greatest power of two below the number of leaves.  That
 * is the same as pairing neighbours level by level and letting an odd last one
 * move up unchanged, which is how it is computed here.
 *
 * Called by sealing, verification and proofs.  The one hash context of a backend
 * is made on first use and kept; nothing of it is secret.  No locks.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "audit/merkle.h"

static EVP_MD_CTX *hash_context = NULL;
static EVP_MD *hash_algorithm = NULL;

static void
hash_fails(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("could not compute a SHA-256 hash"),
			 errdetail("OpenSSL does not offer the algorithm, or is out of memory.")));
}

static Sha256
hash_prefixed(const uint8 *prefix, size_t prefix_bytes, const void *data, size_t bytes)
{
	Sha256		hash;

	if (hash_context == NULL)
		hash_context = EVP_MD_CTX_new();
	if (hash_algorithm == NULL)
		hash_algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (hash_context == NULL || hash_algorithm == NULL ||
		EVP_DigestInit_ex2(hash_context, hash_algorithm, NULL) != 1 ||
		(prefix_bytes > 0 && EVP_DigestUpdate(hash_context, prefix, prefix_bytes) != 1) ||
		EVP_DigestUpdate(hash_context, data, bytes) != 1 ||
		EVP_DigestFinal_ex(hash_context, hash.bytes, NULL) != 1)
		hash_fails();
	return hash;
}

Sha256
hash_of(const void *data, size_t bytes)
{
	return hash_prefixed(NULL, 0, data, bytes);
}

Sha256
merkle_leaf(const void *data, size_t bytes)
{
	static const uint8 prefix[1] = {0x00};

	return hash_prefixed(prefix, sizeof(prefix), data, bytes);
}

static Sha256
merkle_node(const Sha256 *left, const Sha256 *right)
{
	uint8		bytes[1 + 2 * HASH_BYTES];

	bytes[0] = 0x01;
	memcpy(bytes + 1, left->bytes, HASH_BYTES);
	memcpy(bytes + 1 + HASH_BYTES, right->bytes, HASH_BYTES);
	return hash_prefixed(NULL, 0, bytes, sizeof(bytes));
}

/* Replace a level of n nodes by the one above it; returns how many that has. */
static int
merkle_level_up(Sha256 *nodes, int n)
{
	int			above = 0;

	for (int i = 0; i + 1 < n; i += 2)
		nodes[above++] = merkle_node(&nodes[i], &nodes[i + 1]);
	if (n % 2 == 1)
		nodes[above++] = nodes[n - 1];
	return above;
}

Sha256
merkle_root(Sha256 *leaves, int n)
{
	if (n == 0)
		return hash_of("", 0);
	while (n > 1)
		n = merkle_level_up(leaves, n);
	return leaves[0];
}

int
merkle_path(Sha256 *leaves, int n, int index, MerkleStep steps[MERKLE_MAX_STEPS])
{
	int			nsteps = 0;

	while (n > 1)
	{
		int			sibling = index ^ 1;

		if (sibling < n)
		{
			steps[nsteps].sibling = leaves[sibling];
			steps[nsteps].sibling_is_left = sibling < index;
			nsteps++;
		}
		n = merkle_level_up(leaves, n);
		index /= 2;
	}
	return nsteps;
}

char *
hash_hex(const void *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	const uint8 *in = bytes;
	char	   *hex = palloc(length * 2 + 1);

	for (size_t i = 0; i < length; i++)
	{
		hex[2 * i] = digits[in[i] >> 4];
		hex[2 * i + 1] = digits[in[i] & 15];
	}
	hex[length * 2] = '\0';
	return hex;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool
hex_bytes(const char *hex, uint8 *bytes, size_t length)
{
	if (strlen(hex) != length * 2)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		int			high = hex_digit(hex[2 * i]);
		int			low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8) (high << 4 | low);
	}
	return true;
}
