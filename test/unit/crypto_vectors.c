/*
 * crypto_vectors.c
 *		The primitives of src/crypto/cipher.c and the key formats of key_text.c
 *		against published test vectors; prints TAP.
 *
 * Built and run by test/t/081_crypto_vectors.pl, without a server.  AES-256-GCM:
 * McGrew and Viega's test cases 13 to 16, which SP 800-38D refers to, and NIST
 * CAVP; HKDF: RFC 5869; HMAC: RFC 4231; Ed25519: RFC 8032.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/cipher.h"
#include "crypto/key_text.h"

#define BYTES	512

static int	number = 0;
static int	failures = 0;

static void
ok(bool fits, const char *what)
{
	printf("%sok %d - %s\n", fits ? "" : "not ", ++number, what);
	failures += !fits;
}

/* Hexadecimal digits to bytes; returns how many. */
static size_t
bytes_of(const char *hex, uint8_t *bytes)
{
	size_t		n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++)
	{
		unsigned int byte;

		if (n > BYTES || sscanf(hex + i * 2, "%2x", &byte) != 1)
		{
			printf("Bail out! bad test data\n");
			exit(1);
		}
		bytes[i] = (uint8_t) byte;
	}
	return n;
}

static bool
equals(const uint8_t *bytes, const char *hex)
{
	uint8_t		expected[BYTES];
	size_t		n = bytes_of(hex, expected);

	return memcmp(bytes, expected, n) == 0;
}

/* ---- AES-256-GCM ---- */

static const struct
{
	const char *name;
	const char *key;
	const char *nonce;
	const char *associated;
	const char *plain;
	const char *cipher;
	const char *tag;
}			gcm[] = {
	{"test case 13: nothing", "0000000000000000000000000000000000000000000000000000000000000000",
		"000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
	{"test case 14: one block", "0000000000000000000000000000000000000000000000000000000000000000",
		"000000000000000000000000", "", "00000000000000000000000000000000",
	"cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
	{"test case 15: four blocks", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		"cafebabefacedbaddecaf888", "",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
	"b094dac5d93471bdec1a502270e3cc6c"},
	{"test case 16: part of a block, associated data", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		"cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
	"76fc6ece0f4e1768cddf8853bb2d551b"},
	{"CAVP, nothing", "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
	"516c33929df5a3284ff463d7", "", "", "", "bdc1ac884d332457a1d2664f168c76f0"},
	{"CAVP, associated data alone", "78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223",
		"d79cf22d504cc793c3fb6c8a", "b96baa8c1c75a671bfb2d08d06be5f36", "", "",
	"3e5d486aa2e30b22e040b85723a06e76"},
	{"CAVP, plaintext alone", "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
		"0d18e06c7c725ac9e362e1ce", "", "2db5168e932556f8089a0622981d017d",
	"fa4362189661d163fcd6a56d8bf0405a", "d636ac1bbedd5cc3ee727dc2ab4a9489"},
	{"CAVP, both", "92e11dcdaa866f5ce790fd24501f92509aacf4cb8b1339d50c9c1240935dd08b",
		"ac93a1a6145299bde902f21a", "1e0889016f67601c8ebea4943bc23ad6", "2d71bcfa914e4ac045b2aa60955fad24",
	"8995ae2e6df3dbf96fac7b7137bae67f", "eca5aa77d51d4a0a14d9c51e1da474ab"},
};

static void
test_gcm(void)
{
	for (size_t i = 0; i < sizeof(gcm) / sizeof(gcm[0]); i++)
	{
		uint8_t		key[BYTES], nonce[BYTES], associated[BYTES], plain[BYTES], tag[CIPHER_TAG_BYTES];
		uint8_t		out[BYTES] = {0}, back[BYTES] = {0};
		size_t		nassociated = bytes_of(gcm[i].associated, associated);
		size_t		n = bytes_of(gcm[i].plain, plain);
		CipherKey  *cipher;
		char		what[128];
		bool		fits = true;
		bool		caught = true;

		bytes_of(gcm[i].key, key);
		bytes_of(gcm[i].nonce, nonce);
		cipher = cipher_key_new(key);

		/* Twice: the schedule is kept from message to message. */
		for (int turn = 0; turn < 2; turn++)
			fits = fits && cipher_encrypt(cipher, associated, nassociated, plain, n, nonce, out, tag) &&
				equals(out, gcm[i].cipher) && equals(tag, gcm[i].tag);
		snprintf(what, sizeof(what), "GCM, %s: encrypts", gcm[i].name);
		ok(fits, what);

		fits = cipher_decrypt(cipher, associated, nassociated, out, n, nonce, tag, back) && memcmp(back, plain, n) == 0;
		snprintf(what, sizeof(what), "GCM, %s: decrypts", gcm[i].name);
		ok(fits, what);

		/* Any bit of anything. */
		for (size_t bit = 0; bit < (n + sizeof(tag) + CIPHER_NONCE_BYTES + nassociated) * 8; bit++)
		{
			size_t		byte = bit / 8;
			uint8_t	   *changed = byte < n ? &out[byte] :
				byte < n + sizeof(tag) ? &tag[byte - n] :
				byte < n + sizeof(tag) + CIPHER_NONCE_BYTES ? &nonce[byte - n - sizeof(tag)] :
				&associated[byte - n - sizeof(tag) - CIPHER_NONCE_BYTES];

			*changed ^= 1 << bit % 8;
			memset(back, 0xFF, sizeof(back));
			caught = caught && !cipher_decrypt(cipher, associated, nassociated, out, n, nonce, tag, back);
			for (size_t j = 0; j < n; j++)
				caught = caught && back[j] == 0;
			*changed ^= 1 << bit % 8;
		}
		snprintf(what, sizeof(what), "GCM, %s: each flipped bit is caught, and nothing is told", gcm[i].name);
		ok(caught, what);

		/* In place, as sealed values are. */
		fits = cipher_encrypt(cipher, associated, nassociated, plain, n, nonce, plain, tag) && equals(plain, gcm[i].cipher);
		snprintf(what, sizeof(what), "GCM, %s: encrypts in place", gcm[i].name);
		ok(fits, what);
		cipher_key_free(cipher);
	}
}

/* ---- HKDF and HMAC ---- */

static void
test_hkdf(void)
{
	uint8_t		secret[BYTES], salt[BYTES], info[BYTES], out[BYTES];

	memset(secret, 0x0b, 22);
	for (int i = 0; i < 13; i++)
		salt[i] = (uint8_t) i;
	for (int i = 0; i < 10; i++)
		info[i] = (uint8_t) (0xf0 + i);
	ok(cipher_hkdf(secret, 22, salt, 13, info, 10, out, 42) &&
	   equals(out, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
	   "HKDF, RFC 5869 test case 1");
	ok(cipher_hkdf(secret, 22, NULL, 0, "", 0, out, 42) &&
	   equals(out, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
	   "HKDF, RFC 5869 test case 3: no salt, no info");
	for (int i = 0; i < 80; i++)
	{
		secret[i] = (uint8_t) i;
		salt[i] = (uint8_t) (0x60 + i);
		info[i] = (uint8_t) (0xb0 + i);
	}
	ok(cipher_hkdf(secret, 80, salt, 80, info, 80, out, 82) &&
	   equals(out, "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
			  "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"),
	   "HKDF, RFC 5869 test case 2: long");
}

static void
test_hmac(const char *name, const uint8_t *key, size_t key_bytes, const char *data, const char *expected)
{
	MacKey	   *mac = mac_key_new(key, key_bytes);
	uint8_t		out[CIPHER_MAC_BYTES];
	bool		fits = true;

	for (int turn = 0; turn < 2; turn++)
		fits = fits && mac_compute(mac, data, strlen(data), out) && equals(out, expected);
	ok(fits, name);
	mac_key_free(mac);
}

static void
test_hmacs(void)
{
	uint8_t		key[131];

	memset(key, 0x0b, 20);
	test_hmac("HMAC, RFC 4231 test case 1", key, 20, "Hi There",
			  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	test_hmac("HMAC, RFC 4231 test case 2", (const uint8_t *) "Jefe", 4, "what do ya want for nothing?",
			  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	test_hmac("HMAC, RFC 4231 test case 6: a long key", key, sizeof(key),
			  "Test Using Larger Than Block-Size Key - Hash Key First",
			  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

/* ---- Ed25519 ---- */

static const struct
{
	const char *name;
	const char *seed;
	const char *public_key;
	const char *message;
	const char *signature;
}			ed25519[] = {
	{"TEST 1: nothing", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
		"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
	"d25bf5f0595bbe24655141438e7a100b"},
	{"TEST 2: one byte", "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
		"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
		"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
	"387b2eaeb4302aeeb00d291612bb0c00"},
	{"TEST 3: two bytes", "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
		"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
		"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
	"4a7c15e9716ed28dc027beceea1ec40a"},
};

static void
test_ed25519(void)
{
	for (size_t i = 0; i < sizeof(ed25519) / sizeof(ed25519[0]); i++)
	{
		uint8_t		seed[BYTES], message[BYTES] = {0}, public_key[CIPHER_PUBLIC_BYTES], signature[CIPHER_SIGNATURE_BYTES];
		size_t		n = bytes_of(ed25519[i].message, message);
		SignKey    *key;
		char		what[128];
		bool		caught = true;

		bytes_of(ed25519[i].seed, seed);
		key = sign_key_new(seed);
		snprintf(what, sizeof(what), "Ed25519, RFC 8032 %s: public key", ed25519[i].name);
		ok(sign_key_public(key, public_key) && equals(public_key, ed25519[i].public_key), what);
		snprintf(what, sizeof(what), "Ed25519, RFC 8032 %s: signs", ed25519[i].name);
		ok(sign_compute(key, message, n, signature) && equals(signature, ed25519[i].signature), what);
		snprintf(what, sizeof(what), "Ed25519, RFC 8032 %s: verifies", ed25519[i].name);
		ok(sign_fits(public_key, message, n, signature), what);
		for (size_t byte = 0; byte < sizeof(signature); byte++)
		{
			signature[byte] ^= 1;
			caught = caught && !sign_fits(public_key, message, n, signature);
			signature[byte] ^= 1;
		}
		snprintf(what, sizeof(what), "Ed25519, RFC 8032 %s: a changed signature or message does not", ed25519[i].name);
		ok(caught && !sign_fits(public_key, message, n + 1, signature), what);
		sign_key_free(key);
	}
}

/* ---- how keys are written ---- */

static bool
reads(const char *text, const char *expected)
{
	uint8_t		key[CIPHER_KEY_BYTES];
	uint8_t		zero[CIPHER_KEY_BYTES] = {0};
	bool		read;

	memset(key, 0xFF, sizeof(key));
	read = key_text_read(text, strlen(text), key);
	if (expected == NULL)
		return !read && memcmp(key, zero, sizeof(key)) == 0;
	return read && equals(key, expected);
}

static void
test_key_text(void)
{
	static const char hex[] = "fbefbe000102030405060708090a0b0c0d0e0f101112131415161718191a1bff";

	ok(reads(hex, hex), "a key in hexadecimal digits");
	ok(reads("FBEFBE000102030405060708090A0B0C0D0E0F101112131415161718191A1BFF", hex), "in capitals");
	ok(reads("++++AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaG/8=", hex), "in base64");
	ok(reads("----AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaG_8=", hex), "in its other alphabet");
	ok(reads("++++AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaG/8", hex), "without padding");
	ok(reads("correct horse battery staple 123", "eb140e1d0f91e743d03996ccaeee60342fece18753efc8602752affbfe4abadf"),
	   "32 characters, whose key must never change");
	ok(reads("", NULL), "nothing is no key");
	ok(reads("fbefbe000102030405060708090a0b0c0d0e0f101112131415161718191a1bf", NULL), "nor are 63 digits");
	ok(reads("fbefbe000102030405060708090a0b0c0d0e0f101112131415161718191a1bff0", NULL), "nor 65");
	ok(reads("fbefbe000102030405060708090a0b0c0d0e0f101112131415161718191a1bfg", NULL), "nor a letter that is no digit");
	ok(reads("++++AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaG/9=", NULL), "nor base64 with bits to spare");
	ok(reads("++++AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaG/8*", NULL), "nor with another padding");
	ok(reads("++++AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBka*/8=", NULL), "nor with a strange character");
	ok(reads("thirty-one characters and a bit", NULL), "nor 31 characters");
}

int
main(void)
{
	uint8_t		a[64], b[64];

	test_gcm();
	test_hkdf();
	test_hmacs();
	test_ed25519();
	test_key_text();
	ok(cipher_random(a, sizeof(a)) && cipher_random(b, sizeof(b)) && memcmp(a, b, sizeof(a)) != 0, "random bytes differ");
	printf("1..%d\n", number);
	return failures > 0;
}
