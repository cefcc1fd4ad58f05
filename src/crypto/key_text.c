/*
 * key_text.c
 *		The forms in which an administrator writes a master key.
 *
 * The length alone tells the form, so that no text can be read in two ways.
 * Called while the server starts; free of PostgreSQL, like cipher.c.
 */
#include "crypto/key_text.h"

#include <openssl/crypto.h>

#define HEX_LENGTH			64
#define BASE64_LENGTH		43	/* without padding */
#define CHARACTERS_LENGTH	32

/* Part of the derivation of keys that exist: never to be changed. */
static const char characters_info[] = "sentient_edge master key of 32 characters, version 1";

static int
hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int
base64_digit(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}

static bool
read_hex(const char *text, uint8_t key[CIPHER_KEY_BYTES])
{
	for (int i = 0; i < CIPHER_KEY_BYTES; i++)
	{
		int			high = hex_digit(text[i * 2]);
		int			low = hex_digit(text[i * 2 + 1]);

		if (high < 0 || low < 0)
			return false;
		key[i] = (uint8_t) (high << 4 | low);
	}
	return true;
}

/* 43 digits are 258 bits: the last two must be zero, so that a key has one spelling. */
static bool
read_base64(const char *text, uint8_t key[CIPHER_KEY_BYTES])
{
	unsigned int bits = 0;
	int			nbits = 0;
	int			n = 0;

	for (int i = 0; i < BASE64_LENGTH; i++)
	{
		int			digit = base64_digit(text[i]);

		if (digit < 0)
			return false;
		bits = (bits << 6 | (unsigned int) digit) & 0xFFFF;
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			key[n++] = (uint8_t) (bits >> nbits);
		}
	}
	return n == CIPHER_KEY_BYTES && (bits & 3) == 0;
}

bool
key_text_read(const char *text, size_t length, uint8_t key[CIPHER_KEY_BYTES])
{
	bool		done = false;

	if (length == HEX_LENGTH)
		done = read_hex(text, key);
	else if (length == BASE64_LENGTH || (length == BASE64_LENGTH + 1 && text[BASE64_LENGTH] == '='))
		done = read_base64(text, key);
	else if (length == CHARACTERS_LENGTH)
		done = cipher_hkdf(text, length, NULL, 0, characters_info, sizeof(characters_info) - 1,
						   key, CIPHER_KEY_BYTES);
	if (!done)
		OPENSSL_cleanse(key, CIPHER_KEY_BYTES);
	return done;
}
