/*
 * seal_snapshot.c
 *		Which transactions had ended when a block was sealed.
 *
 * An entry carries the id of its top-level transaction.  It is due for sealing
 * when the snapshot of now sees that transaction and the snapshot of the last
 * block did not; however late the transaction commits, exactly one pair of
 * successive snapshots says so.  Called by sealing and verification.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "audit/seal_snapshot.h"
#include "errors.h"

/* Transactions this near each other are searched for as one span, at least. */
#define SPAN_GAP				1000

SealSnapshot *
seal_snapshot_now(void)
{
	Datum		current = DirectFunctionCall1(pg_current_snapshot, (Datum) 0);
	SealSnapshot *snapshot = seal_snapshot_parse(DatumGetCString(DirectFunctionCall1(pg_snapshot_out, current)));
	FullTransactionId own = GetTopFullTransactionIdIfAny();

	/* The own transaction is not over, though its changes are visible to itself. */
	if (FullTransactionIdIsValid(own) && seal_snapshot_sees(snapshot, U64FromFullTransactionId(own)))
	{
		uint64		xid = U64FromFullTransactionId(own);
		int			at = snapshot->nrunning;

		snapshot->running = snapshot->nrunning == 0 ? palloc(sizeof(uint64)) :
			repalloc(snapshot->running, sizeof(uint64) * (snapshot->nrunning + 1));
		while (at > 0 && snapshot->running[at - 1] > xid)
		{
			snapshot->running[at] = snapshot->running[at - 1];
			at--;
		}
		snapshot->running[at] = xid;
		snapshot->nrunning++;
		snapshot->xmin = Min(snapshot->xmin, xid);
	}
	return snapshot;
}

SealSnapshot *
seal_snapshot_parse(const char *text)
{
	SealSnapshot *snapshot = palloc0(sizeof(SealSnapshot));
	int			nlisted = 1;
	char	   *at;

	for (const char *c = text; *c != '\0'; c++)
		nlisted += *c == ',';
	snapshot->running = palloc(sizeof(uint64) * nlisted);
	snapshot->xmin = strtou64(text, &at, 10);
	se_assert(*at == ':');
	snapshot->xmax = strtou64(at + 1, &at, 10);
	se_assert(*at == ':');
	while (*at != '\0' && at[1] != '\0')
		snapshot->running[snapshot->nrunning++] = strtou64(at + 1, &at, 10);
	return snapshot;
}

char *
seal_snapshot_text(const SealSnapshot *snapshot)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, UINT64_FORMAT ":" UINT64_FORMAT ":", snapshot->xmin, snapshot->xmax);
	for (int i = 0; i < snapshot->nrunning; i++)
		appendStringInfo(&text, "%s" UINT64_FORMAT, i > 0 ? "," : "", snapshot->running[i]);
	return text.data;
}

bool
seal_snapshot_sees(const SealSnapshot *snapshot, uint64 xid)
{
	int			low = 0;
	int			high = snapshot->nrunning - 1;

	if (xid < snapshot->xmin)
		return true;
	if (xid >= snapshot->xmax)
		return false;
	while (low <= high)
	{
		int			middle = (low + high) / 2;

		if (snapshot->running[middle] == xid)
			return false;
		if (snapshot->running[middle] < xid)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return true;
}

int
seal_snapshot_spans(const SealSnapshot *before, const SealSnapshot *now, XidSpan spans[SEAL_MAX_SPANS])
{
	for (uint64 gap = SPAN_GAP;; gap *= 4)
	{
		int			nspans = 0;
		int			i = 0;

		for (; i <= before->nrunning; i++)
		{
			XidSpan		span;

			if (i < before->nrunning)
			{
				if (!seal_snapshot_sees(now, before->running[i]))
					continue;	/* still running */
				span.first = span.last = before->running[i];
			}
			else if (now->xmax > before->xmax)
			{
				span.first = before->xmax;
				span.last = now->xmax - 1;
			}
			else
				continue;

			if (nspans > 0 && span.first - spans[nspans - 1].last <= gap)
				spans[nspans - 1].last = span.last;
			else if (nspans == SEAL_MAX_SPANS)
				break;			/* too many: join what is farther apart */
			else
				spans[nspans++] = span;
		}
		if (i > before->nrunning)
			return nspans;
	}
}
