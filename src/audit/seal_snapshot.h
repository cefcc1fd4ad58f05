/*
 * seal_snapshot.h
 *		Which transactions had ended when a block was sealed.
 */
#ifndef SENTIENT_SEAL_SNAPSHOT_H
#define SENTIENT_SEAL_SNAPSHOT_H

/* As pg_snapshot: what is below xmin or not among running had ended, what is at xmax or later had not begun. */
typedef struct SealSnapshot
{
	uint64		xmin;
	uint64		xmax;
	int			nrunning;
	uint64	   *running;		/* rising */
} SealSnapshot;

/* A span of transactions, both ends included. */
typedef struct XidSpan
{
	uint64		first;
	uint64		last;
} XidSpan;

#define SEAL_MAX_SPANS			16

/* What the active snapshot sees, less the calling transaction itself. */
extern SealSnapshot *seal_snapshot_now(void);

/* From and to the text of a pg_snapshot. */
extern SealSnapshot *seal_snapshot_parse(const char *text);
extern char *seal_snapshot_text(const SealSnapshot *snapshot);

extern bool seal_snapshot_sees(const SealSnapshot *snapshot, uint64 xid);

/*
 * Few spans that hold every transaction that now sees and before does not, and
 * as few others as that allows.  Returns how many; none when there is nothing.
 */
extern int	seal_snapshot_spans(const SealSnapshot *before, const SealSnapshot *now,
								XidSpan spans[SEAL_MAX_SPANS]);

#endif							/* SENTIENT_SEAL_SNAPSHOT_H */
