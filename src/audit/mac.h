/*
 * mac.h
 *		MACs of the audit trail: of entries and of security events.
 */
#ifndef SENTIENT_AUDIT_MAC_H
#define SENTIENT_AUDIT_MAC_H

#include "lib/stringinfo.h"

/* What the canonical bytes are of; each has a subkey of its own. */
#define AUDIT_MAC_ENTRY			"audit entry 1"
#define AUDIT_MAC_EVENT			"security event 1"

/* The value of column mac: a keyed hash of the canonical bytes that names its key; NULL without a key. */
extern bytea *audit_mac(const char *label, StringInfo bytes);

typedef enum MacVerdict
{
	MAC_FITS,
	MAC_FORGED,
	MAC_KEY_UNKNOWN,			/* nobody can say: its key is not here */
} MacVerdict;

extern MacVerdict audit_check_mac(const char *label, StringInfo bytes, const bytea *mac);

#endif							/* SENTIENT_AUDIT_MAC_H */
