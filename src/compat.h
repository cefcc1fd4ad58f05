/*
 * compat.h
 *		The differences between PostgreSQL 15 and 18, and the only place that
 *		looks at PG_VERSION_NUM.
 *
 * Files include it after their PostgreSQL headers.
 */
#ifndef SENTIENT_COMPAT_H
#define SENTIENT_COMPAT_H

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "sentient_edge supports PostgreSQL 15 to 18"
#endif

#endif							/* SENTIENT_COMPAT_H */
