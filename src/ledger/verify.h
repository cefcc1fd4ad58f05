/*
 * verify.h
 *		What the parts of audit.verify share.
 */
#ifndef SENTIENT_VERIFY_H
#define SENTIENT_VERIFY_H

#include "lib/stringinfo.h"
#include "nodes/execnodes.h"

#include "audit/seal_snapshot.h"
#include "ledger/ledger.h"

/* A signed anchor that tells what was pruned. */
typedef struct PruneAnchor
{
	int64		block_number;
	LedgerKind	kind;
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
	uint64		next_xid;		/* had not been given when this began */
	PruneAnchor *anchors;
	int			nanchors;
	struct HTAB *pruned;		/* what anchors name one by one; or NULL */
	struct KnownKey *keys;
	int			nkeys;
	bool		mac_key_unknown;	/* and said so */
	int64		waiting;		/* entries and events that the next run is to seal */
	TimestampTz waiting_since;	/* the earliest time of one */
} Verify;

/* Pass for what has no block, or no entry. */
#define NO_BLOCK				(-1)
#define NO_ENTRY				PG_INT64_MIN

extern void verify_finding(Verify *verify, const char *finding, int64 block_number, int64 audit_id,
						   const char *format,...) pg_attribute_printf(5, 6);

/* The same of an entry or an event: "what" is a word such as altered; id may be 0 for neither. */
extern void verify_finding_of(Verify *verify, LedgerKind kind, const char *what, int64 block_number, Datum id,
							  const char *format,...) pg_attribute_printf(6, 7);

/* What is in no block: it waits for its block, or should not be there.  bytes are its canonical ones. */
extern void verify_unsealed(Verify *verify, LedgerKind kind, const Datum *values, const bool *nulls, StringInfo bytes);

/* The same of one whose id others have that are sealed: false when it should not be there. */
extern bool verify_waits(Verify *verify, LedgerKind kind, const Datum *values, const bool *nulls, StringInfo bytes);

/* Has an anchor said that this was removed from the block? */
extern bool verify_pruned(const Verify *verify, LedgerKind kind, int64 block_number, Datum id);

/* Do something that may meet damage, in a subtransaction.  NULL, or what is wrong. */
extern char *verify_attempt(void (*work) (void *arg), void *arg);

/* Conditions on blocks b and on rows l that restrict them to the span of time; rows to all that a block of it names. */
extern char *verify_block_condition(const Verify *verify);
extern char *verify_row_condition(const Verify *verify, LedgerKind kind);

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
extern void verify_sealed_events(Verify *verify);

#endif							/* SENTIENT_VERIFY_H */
