/*
 * enable.h
 *		audit.enable and audit.disable, for those who keep a record of them.
 */
#ifndef SENTIENT_ENABLE_H
#define SENTIENT_ENABLE_H

/* What has become of the capture of a table. */
typedef enum CaptureChange
{
	CAPTURE_BEGUN,
	CAPTURE_ALTERED,			/* other columns are left out or masked */
	CAPTURE_ENDED,
} CaptureChange;

/*
 * Called inside a sql_begin scope, in the transaction that does it; the names of
 * columns are array literals, or NULL.  May raise an error.
 */
typedef void (*capture_change_hook_type) (Oid relid, CaptureChange change, const char *exclude, const char *mask);

extern capture_change_hook_type capture_change_hook;

/*
 * From here on, until called with false, the caller's commands change triggers that
 * capture, and are no stranger's.  He ends that on an error, too.
 */
extern void capture_arrange(bool begin);
extern bool capture_is_arranging(void);

#endif							/* SENTIENT_ENABLE_H */
