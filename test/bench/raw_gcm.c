/*
 * raw_gcm.c
 *		Nanoseconds that OpenSSL itself takes for a message of AES-256-GCM: a loop
 *		of EVP calls with the key set once, a nonce, a tag and no associated data
 *		for each message.
 *
 * Usage: raw_gcm encrypt|decrypt BYTES MESSAGES.  Processor time, best of five.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

static unsigned char plain[65536];
static unsigned char cipher[65536];
static unsigned char tag[16];
static unsigned char nonce[12];

static double
processor_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static void
message(EVP_CIPHER_CTX *context, int encrypts, int bytes)
{
	unsigned char *in = encrypts ? plain : cipher;
	unsigned char *out = encrypts ? cipher : plain;
	int			done;

	if (EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, encrypts) != 1 ||
		EVP_CipherUpdate(context, out, &done, in, bytes) != 1 ||
		(!encrypts && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, tag) != 1) ||
		EVP_CipherFinal_ex(context, out + done, &done) != 1 ||
		(encrypts && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag) != 1))
	{
		fprintf(stderr, "OpenSSL failed\n");
		exit(1);
	}
}

int
main(int argc, char **argv)
{
	static const unsigned char key[32] = "the key does not matter here";
	EVP_CIPHER_CTX *encryption = EVP_CIPHER_CTX_new();
	EVP_CIPHER_CTX *decryption = EVP_CIPHER_CTX_new();
	int			encrypts = argc > 1 && strcmp(argv[1], "encrypt") == 0;
	int			bytes = argc > 2 ? atoi(argv[2]) : 0;
	int			messages = argc > 3 ? atoi(argv[3]) : 0;
	double		best = 0;

	if (bytes < 1 || bytes > (int) sizeof(plain) || messages < 1)
	{
		fprintf(stderr, "usage: raw_gcm encrypt|decrypt BYTES MESSAGES\n");
		return 2;
	}
	EVP_EncryptInit_ex(encryption, EVP_aes_256_gcm(), NULL, key, NULL);
	EVP_DecryptInit_ex(decryption, EVP_aes_256_gcm(), NULL, key, NULL);
	message(encryption, 1, bytes);
	for (int round = 0; round < 5; round++)
	{
		double		start = processor_ns();
		double		ns;

		for (int i = 0; i < messages; i++)
			message(encrypts ? encryption : decryption, encrypts, bytes);
		ns = (processor_ns() - start) / messages;
		if (round == 0 || ns < best)
			best = ns;
	}
	printf("%.1f\n", best);
	EVP_CIPHER_CTX_free(encryption);
	EVP_CIPHER_CTX_free(decryption);
	return 0;
}
