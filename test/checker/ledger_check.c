/*
 * ledger_check.c
 *		Checks what the ledger handed out, without the server: a proof, a digest,
 *		or a chain of block headers.  Needs only OpenSSL's libcrypto.
 *
 *		cc -o ledger_check ledger_check.c -lcrypto
 *		ledger_check proof PUBLIC_KEY < proof.json
 *		ledger_check digest PUBLIC_KEY < digest.json
 *		ledger_check chain PUBLIC_KEY [DIGEST_FILE] < chain.txt
 *
 * PUBLIC_KEY is the ledger's Ed25519 key, 64 hexadecimal digits, as it was noted
 * when the key was made: the key inside a proof proves nothing by itself.  A line
 * of a chain is a block's header and its signature in hexadecimal, separated by a
 * tab; unsigned blocks may only come first.  With a digest file, the chain must
 * contain the block of the digest.
 *
 * Prints what was proved and ends with status 0, or what is wrong with status 1.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#define HASH					32
#define SIGNATURE				64
#define HEADER					157
/* Where the fields of a header begin. */
#define AT_NUMBER				8
#define AT_PREVIOUS				16
#define AT_ROOT					48
#define AT_FLAGS				140
#define HOLDS_EVENTS			2
/* The first of the bytes of a security event. */
#define CANONICAL_EVENT			0x02

static void
wrong(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	printf("WRONG: ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	exit(1);
}

static char *
read_all(FILE *from)
{
	size_t		size = 1 << 16;
	size_t		length = 0;
	size_t		n;
	char	   *text = malloc(size);

	while (text != NULL && (n = fread(text + length, 1, size - length - 1, from)) > 0)
	{
		length += n;
		if (length + 1 == size)
			text = realloc(text, size *= 2);
	}
	if (text == NULL)
		wrong("out of memory");
	text[length] = '\0';
	return text;
}

/* The value of "name": a string or a number; the next one from *at on, which moves behind it. */
static char *
value_of(const char **at, const char *name)
{
	char		pattern[64];
	const char *from;
	size_t		length;
	char	   *value;

	snprintf(pattern, sizeof(pattern), "\"%s\":", name);
	from = strstr(*at, pattern);
	if (from == NULL)
		return NULL;
	from += strlen(pattern);
	from += strspn(from, " ");
	if (*from == '"')
		length = strcspn(++from, "\"");
	else
		length = strspn(from, "0123456789-");
	value = malloc(length + 1);
	if (value == NULL)
		wrong("out of memory");
	memcpy(value, from, length);
	value[length] = '\0';
	*at = from + length;
	return value;
}

static char *
need(const char *json, const char *name)
{
	char	   *value = value_of(&json, name);

	if (value == NULL)
		wrong("\"%s\" is missing", name);
	return value;
}

/* Decode hexadecimal; returns the number of bytes. */
static size_t
bytes_of(const char *hex, size_t digits, uint8_t *bytes, size_t size)
{
	if (digits % 2 != 0 || digits / 2 > size)
		wrong("a value has a wrong length");
	for (size_t i = 0; i < digits; i += 2)
	{
		unsigned	byte;

		if (!isxdigit((unsigned char) hex[i]) || !isxdigit((unsigned char) hex[i + 1]) || sscanf(hex + i, "%2x", &byte) != 1)
			wrong("a value is not hexadecimal");
		bytes[i / 2] = (uint8_t) byte;
	}
	return digits / 2;
}

static void
fixed_bytes(const char *hex, uint8_t *bytes, size_t size)
{
	if (bytes_of(hex, strlen(hex), bytes, size) != size)
		wrong("a value has a wrong length");
}

/* SHA-256 of up to three parts. */
static void
sha256(uint8_t hash[HASH], const void *a, size_t a_bytes, const void *b, size_t b_bytes, const void *c, size_t c_bytes)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();

	if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1 ||
		EVP_DigestUpdate(context, a, a_bytes) != 1 ||
		EVP_DigestUpdate(context, b, b_bytes) != 1 ||
		EVP_DigestUpdate(context, c, c_bytes) != 1 ||
		EVP_DigestFinal_ex(context, hash, NULL) != 1)
		wrong("OpenSSL cannot compute SHA-256");
	EVP_MD_CTX_free(context);
}

static int
signature_fits(const uint8_t key[HASH], const void *message, size_t bytes, const uint8_t signature[SIGNATURE])
{
	EVP_PKEY   *public_key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, HASH);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int			fits = public_key != NULL && context != NULL &&
		EVP_DigestVerifyInit(context, NULL, NULL, NULL, public_key) == 1 &&
		EVP_DigestVerify(context, signature, SIGNATURE, message, bytes) == 1;

	EVP_MD_CTX_free(context);
	EVP_PKEY_free(public_key);
	return fits;
}

static int
block_signature_fits(const uint8_t key[HASH], const uint8_t hash[HASH], const uint8_t signature[SIGNATURE])
{
	static const char line[] = "sentient_edge block 1\n";
	uint8_t		message[sizeof(line) - 1 + HASH];

	memcpy(message, line, sizeof(line) - 1);
	memcpy(message + sizeof(line) - 1, hash, HASH);
	return signature_fits(key, message, sizeof(message), signature);
}

static uint64_t
number_at(const uint8_t *bytes)
{
	uint64_t	number = 0;

	for (int i = 0; i < 8; i++)
		number = number << 8 | bytes[i];
	return number;
}

/* What the canonical bytes are of: their first column is the id.  What the proof says beside them is anybody's word. */
static void
describe(const uint8_t *entry, size_t bytes, char *what, size_t size)
{
	size_t		id_bytes = bytes > 0 && entry[0] == CANONICAL_EVENT ? 16 : 8;
	int			at;

	if (bytes < 5 + id_bytes || entry[1] != 0 || entry[2] != 0 || entry[3] != 0 || entry[4] != id_bytes)
		wrong("the entry has no id");
	entry += 5;
	if (id_bytes == 8)
	{
		snprintf(what, size, "entry %lld", (long long) number_at(entry));
		return;
	}
	at = snprintf(what, size, "event ");
	for (int i = 0; i < 16; i++)
		at += snprintf(what + at, size - at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", entry[i]);
}

static void
check_proof(const char *json, const uint8_t key[HASH])
{
	char	   *entry_hex = need(json, "entry");
	size_t		size = strlen(entry_hex) / 2 + 1;
	uint8_t    *entry = malloc(size);
	size_t		entry_bytes = bytes_of(entry_hex, strlen(entry_hex), entry, size);
	uint8_t		hash[HASH];
	uint8_t		wanted[HASH];
	uint8_t		header[HEADER];
	uint8_t		signature[SIGNATURE];
	char		what[64];
	const char *at = strstr(json, "\"path\":");
	const char *end = at == NULL ? NULL : strchr(at, ']');
	int			steps = 0;

	if (end == NULL)
		wrong("\"path\" is missing");
	sha256(hash, "\0", 1, entry, entry_bytes, "", 0);
	for (;;)
	{
		const char *side_at = at;
		const char *hash_at = at;
		char	   *side = value_of(&side_at, "side");
		char	   *sibling_hex = value_of(&hash_at, "hash");
		uint8_t		sibling[HASH];

		if (side == NULL || sibling_hex == NULL || side_at > end || hash_at > end)
			break;
		fixed_bytes(sibling_hex, sibling, HASH);
		if (strcmp(side, "left") == 0)
			sha256(hash, "\1", 1, sibling, HASH, hash, HASH);
		else
			sha256(hash, "\1", 1, hash, HASH, sibling, HASH);
		at = side_at > hash_at ? side_at : hash_at;
		steps++;
	}

	fixed_bytes(need(json, "header"), header, HEADER);
	if (memcmp(header, "SEBLOCK\1", 8) != 0)
		wrong("the header is not one of a block");
	if (memcmp(hash, header + AT_ROOT, HASH) != 0)
		wrong("the path does not lead from the entry to the root in the block's header");
	sha256(wanted, header, HEADER, "", 0, "", 0);
	fixed_bytes(need(json, "signature"), signature, SIGNATURE);
	if (!block_signature_fits(key, wanted, signature))
		wrong("the block was not signed with that key");

	/* What the bytes say they are, and what the block says it holds, must agree. */
	if (entry_bytes == 0 || (entry[0] == CANONICAL_EVENT) != ((header[AT_FLAGS] & HOLDS_EVENTS) != 0))
		wrong("the block does not hold what the proof is of");
	describe(entry, entry_bytes, what, sizeof(what));
	printf("%s is in block %llu, %d steps below its root; the block was signed with that key\n", what,
		   (unsigned long long) number_at(header + AT_NUMBER), steps);
}

static void
check_digest(const char *json, const uint8_t key[HASH])
{
	static const char *const names[] = {"system", "block", "hash", "entries", "time", "key"};
	char		message[1024] = "sentient_edge digest 1\n";
	uint8_t		signature[SIGNATURE];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		size_t		length = strlen(message);

		if (snprintf(message + length, sizeof(message) - length, "%s %s\n", names[i], need(json, names[i])) >=
			(int) (sizeof(message) - length))
			wrong("the digest is too long");
	}
	fixed_bytes(need(json, "signature"), signature, SIGNATURE);
	if (!signature_fits(key, message, strlen(message), signature))
		wrong("the digest was not signed with that key");
	printf("the digest of block %s over %s entries was signed with that key\n", need(json, "block"), need(json, "entries"));
}

static void
check_chain(const uint8_t key[HASH], const char *digest)
{
	char		line[1024];
	uint8_t		hash[HASH];
	uint8_t		pinned[HASH];
	uint64_t	pinned_number = 0;
	uint64_t	number = 0;
	uint64_t	first = 0;
	uint64_t	blocks = 0;
	uint64_t	nsigned = 0;
	int			found = 0;

	if (digest != NULL)
	{
		fixed_bytes(need(digest, "hash"), pinned, HASH);
		pinned_number = strtoull(need(digest, "block"), NULL, 10);
	}
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		size_t		header_digits = strcspn(line, "\t\r\n");
		char	   *signature_hex = line + header_digits + (line[header_digits] == '\t');
		size_t		signature_digits = strcspn(signature_hex, "\t\r\n");
		uint8_t		header[HEADER];
		uint8_t		signature[SIGNATURE];

		if (bytes_of(line, header_digits, header, HEADER) != HEADER || memcmp(header, "SEBLOCK\1", 8) != 0)
			wrong("line %llu is not the header of a block", (unsigned long long) blocks + 1);
		number = number_at(header + AT_NUMBER);
		if (blocks == 0)
			first = number;
		else if (number != first + blocks)
			wrong("block %llu is missing", (unsigned long long) (first + blocks));
		else if (memcmp(header + AT_PREVIOUS, hash, HASH) != 0)
			wrong("block %llu does not follow the one before", (unsigned long long) number);
		sha256(hash, header, HEADER, "", 0, "", 0);
		if (signature_digits > 0 && signature_hex[0] != '\\')
		{
			if (bytes_of(signature_hex, signature_digits, signature, SIGNATURE) != SIGNATURE ||
				!block_signature_fits(key, hash, signature))
				wrong("block %llu was not signed with that key", (unsigned long long) number);
			nsigned++;
		}
		else if (nsigned > 0)
			wrong("block %llu is not signed, though others before it are", (unsigned long long) number);
		if (digest != NULL && number == pinned_number)
		{
			found = 1;
			if (memcmp(hash, pinned, HASH) != 0)
				wrong("block %llu is not that of the digest", (unsigned long long) number);
		}
		blocks++;
	}
	if (blocks == 0)
		wrong("there is no block");
	if (digest != NULL && !found)
		wrong("the chain does not reach block %llu of the digest", (unsigned long long) pinned_number);
	printf("blocks %llu to %llu are one chain, %llu of them signed with that key%s\n", (unsigned long long) first,
		   (unsigned long long) number, (unsigned long long) nsigned, digest != NULL ? "; it holds the block of the digest" : "");
}

int
main(int argc, char **argv)
{
	uint8_t		key[HASH];

	if (argc < 3 || argc > 4)
	{
		fprintf(stderr, "usage: ledger_check proof|digest|chain PUBLIC_KEY [DIGEST_FILE]\n");
		return 2;
	}
	fixed_bytes(argv[2], key, sizeof(key));
	if (strcmp(argv[1], "proof") == 0)
		check_proof(read_all(stdin), key);
	else if (strcmp(argv[1], "digest") == 0)
		check_digest(read_all(stdin), key);
	else if (strcmp(argv[1], "chain") == 0)
	{
		FILE	   *file = argc > 3 ? fopen(argv[3], "r") : NULL;

		if (argc > 3 && file == NULL)
			wrong("cannot open %s", argv[3]);
		check_chain(key, file != NULL ? read_all(file) : NULL);
	}
	else
		wrong("there is nothing called %s to check", argv[1]);
	return 0;
}
