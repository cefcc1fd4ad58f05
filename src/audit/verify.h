/*
 * verify.h
 *		What the parts of audit.verify share.
 */
#ifndef SENTIENT_VERIFY_H
#define SENTIENT_VERIFY_H

#include "nodes/execnodes.h"

#include "audit/ledger.h"
#include "audit/seal_snapshot.h"

/* A signed anchor that tells what was pruned. */
typedef struct PruneAnchor
{
	int64		block_number;
	TimestampTz before;
} PruneAnchor;

/* The findings of one call, and what it has found out. */
typedef struct Verify
{
	ReturnSetInfo *result;
	MemoryContext context;		/* for what lasts as long as the call */
	int64		nfindings;
	bool		bounded;		/* only entries from .. until, and their blocks */
	TimestampTz from;
	TimestampTz until;
	bool		has_head;
	LedgerBlock head;			/* the last block */
	int64		foreign_max;	/* its foreign_max_audit_id */
	SealSnapshot *head_snapshot;	/* of this cluster, else NULL */
	SealSnapshot *now;
	PruneAnchor *anchors;
	int			nanchors;
	struct HTAB *pruned_ids;	/* int64: entries that anchors name one by one; or NULL */
	struct KnownKey *keys;
	int			nkeys;
	bool		mac_key_unknown;	/* and said so */
	int64		waiting;		/* entries that the next run is to seal */
	TimestampTz waiting_since;	/* the earliest time of one */
} Verify;

/* Pass for what has no block, or no entry. */
#define NO_BLOCK				(-1)
#define NO_ENTRY				PG_INT64_MIN

extern void verify_finding(Verify *verify, const char *finding, int64 block_number, int64 audit_id,
						   const char *format,...) pg_attribute_printf(5, 6);

typedef enum SignatureVerdict
{
	SIGNATURE_FITS,
	SIGNATURE_WRONG,
	SIGNATURE_KEY_UNKNOWN,		/* a finding for the key is there already */
} SignatureVerdict;

/*
 * Does the signature fit the key of that id?  Only keys that the master key
 * unwraps count: anybody can write a row with a public key.
 */
extern SignatureVerdict verify_signature(Verify *verify, const pg_uuid_t *key_id, const void *data, size_t bytes,
										 const uint8 signature[CRYPTO_SIGNATURE_BYTES]);

extern void verify_anchors(Verify *verify);
extern void verify_chain(Verify *verify);
extern void verify_entries(Verify *verify);

#endif							/* SENTIENT_VERIFY_H */
