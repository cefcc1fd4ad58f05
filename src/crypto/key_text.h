/*
 * key_text.h
 *		The forms in which an administrator writes a master key.
 */
#ifndef SENTIENT_KEY_TEXT_H
#define SENTIENT_KEY_TEXT_H

#include "crypto/cipher.h"

#define KEY_TEXT_FORMS	"64 hexadecimal digits, base64 of 32 bytes, or 32 characters"

/*
 * Read one key: 64 hexadecimal digits, 43 or 44 characters of base64 (both
 * alphabets), or exactly 32 characters that a key is derived from.  False, with
 * key zeroed, for anything else.
 */
extern bool key_text_read(const char *text, size_t length, uint8_t key[CIPHER_KEY_BYTES]);

#endif							/* SENTIENT_KEY_TEXT_H */
