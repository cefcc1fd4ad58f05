/*
 * crypto.h
 *		Start-up of the crypto module.
 */
#ifndef SENTIENT_CRYPTO_H
#define SENTIENT_CRYPTO_H

extern void crypto_init(void);

#endif							/* SENTIENT_CRYPTO_H */
