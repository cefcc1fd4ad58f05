/*
 * secret.h
 *		Memory for key bytes.
 */
#ifndef SENTIENT_SECRET_H
#define SENTIENT_SECRET_H

#define SECRET_BYTES	32

/* Allow a core dump of processes that hold data keys; a parameter. */
extern bool secret_core_dump;

/*
 * Room for secrets in pages that are never written to a core dump or, where the
 * limits allow it, to swap.  NULL when there is none.
 */
extern uint8 *secret_new(void);

/* Zero a secret and give its room back; NULL is allowed. */
extern void secret_free(uint8 *secret);

/* The postmaster's secrets are complete: from now on nobody can change them. */
extern void secret_seal(void);

/* Zero memory, however dead the compiler believes it to be. */
extern void secret_zero(void *bytes, size_t length);

#endif							/* SENTIENT_SECRET_H */
