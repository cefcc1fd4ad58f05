/*
 * targets.h
 *		The tables whose changes are captured.
 */
#ifndef SENTIENT_AUDIT_TARGETS_H
#define SENTIENT_AUDIT_TARGETS_H

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/reltrigger.h"

/* Triggers that audit.enable makes. */
#define TARGET_ROW_TRIGGER		"sentient_audit_row"
#define TARGET_TRUNCATE_TRIGGER	"sentient_audit_truncate"

struct ImageShape;

/* A table as its row trigger says. */
typedef struct Target
{
	Oid			relid;			/* hash key */
	Oid			origin;			/* the table that audit.enable was called for, of which this one may be a partition */
	bool		stale;
	MemoryContext context;
	char	   *schema_name;	/* of origin */
	char	   *table_name;
	struct ImageShape *shape;
	List	   *composites;		/* relations of composite types that shape knows */
} Target;

extern void targets_init(void);

/* What the trigger of the relation captures; valid until the next call. */
extern Target *target_get(Relation rel, const Trigger *trigger);

/* Attribute numbers of the primary key, which names rows in entries; in its order. */
extern Bitmapset *target_key_columns(Relation rel);
extern List *target_key_order(Relation rel);

#endif							/* SENTIENT_AUDIT_TARGETS_H */
