/*
 * errors.h
 *		Private SQLSTATEs (class SE) and the assertion macro.
 *
 * A standard SQLSTATE is used wherever one says the same; class SE is for what
 * only this extension can report.
 */
#ifndef SENTIENT_ERRORS_H
#define SENTIENT_ERRORS_H

/* A time has no partition yet and none could be made in time. */
#define ERRCODE_SE_PARTITION_UNAVAILABLE	MAKE_SQLSTATE('S', 'E', '0', '0', '1')

/* A sealed value was changed, cut short, or is of another context, key or version: always the same. */
#define ERRCODE_SE_SEALED_REFUSED			MAKE_SQLSTATE('S', 'E', '0', '0', '2')

/*
 * Assertions of ours, independent of the server's USE_ASSERT_CHECKING: every
 * test suite runs with them on.
 */
#ifdef SENTIENT_EDGE_ASSERTIONS
#define se_assert(condition) \
	do { \
		if (unlikely(!(condition))) \
			elog(PANIC, "sentient_edge assertion failed: %s, file %s, line %d", \
				 #condition, __FILE__, __LINE__); \
	} while (0)
#else
#define se_assert(condition) ((void) true)
#endif

#endif							/* SENTIENT_ERRORS_H */
