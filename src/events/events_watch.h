/*
 * events_watch.h
 *		The tables whose bulk reads are events, and the schemas of the extension.
 */
#ifndef SENTIENT_EVENTS_WATCH_H
#define SENTIENT_EVENTS_WATCH_H

typedef struct WatchedTable
{
	Oid			relid;			/* hash key: the table or a partition of it */
	Oid			table;			/* what is watched */
	int64		rows_threshold;
	char		name[2 * NAMEDATALEN + 8];	/* of what is watched, with its schema */
} WatchedTable;

extern void watch_list_init(void);

/* Bring the list up to date; in a transaction.  False when the database does not have the extension. */
extern bool watch_list_load(void);

/* Did it have the extension when the list was last brought up to date?  Looks nothing up. */
extern bool watch_list_extension_seen(void);

/* Of the list as it was last brought up to date: */
extern bool watch_list_empty(void);
extern const WatchedTable *watch_list_find(Oid relid);
extern bool watch_list_own_schema(Oid namespace);

#endif							/* SENTIENT_EVENTS_WATCH_H */
