/*
 * key_provider.h
 *		Where the server's master keys come from.
 */
#ifndef SENTIENT_KEY_PROVIDER_H
#define SENTIENT_KEY_PROVIDER_H

/* Define the parameters and, in a server that preloads the library, read the keys. */
extern void key_provider_init(void);

#endif							/* SENTIENT_KEY_PROVIDER_H */
