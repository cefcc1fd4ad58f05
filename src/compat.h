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

/* Access to variable-length values moved out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* The macros of variable-length values, which postgres.h has until 15. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* A parameter since 17. */
#if PG_VERSION_NUM >= 170000
#define compat_event_triggers					event_triggers
#else
#define compat_event_triggers					true
#endif

/* table_tuple_update tells which indexes need an entry: a bool until 15. */
#if PG_VERSION_NUM >= 160000
#define CompatUpdateIndexes						TU_UpdateIndexes
#define compat_must_insert_indexes(which)		((which) != TU_None)
#define compat_only_summarizing(which)			((which) == TU_Summarizing)
#else
#define CompatUpdateIndexes						bool
#define compat_must_insert_indexes(which)		(which)
#define compat_only_summarizing(which)			false
#endif

#if PG_VERSION_NUM >= 160000
#define compat_exec_insert_index_tuples(rri, slot, estate, only_summarizing) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, only_summarizing)
#define compat_exec_insert_index_tuples_speculative(rri, slot, estate, conflict, arbiters) \
	ExecInsertIndexTuples(rri, slot, estate, false, true, conflict, arbiters, false)
#else
#define compat_exec_insert_index_tuples(rri, slot, estate, only_summarizing) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL)
#define compat_exec_insert_index_tuples_speculative(rri, slot, estate, conflict, arbiters) \
	ExecInsertIndexTuples(rri, slot, estate, false, true, conflict, arbiters)
#endif

/* Since 18 it is told which row the new one replaces; here it replaces none. */
#if PG_VERSION_NUM >= 180000
#define compat_exec_check_index_constraints(rri, slot, estate, tid, arbiters) \
	ExecCheckIndexConstraints(rri, slot, estate, tid, NULL, arbiters)
#else
#define compat_exec_check_index_constraints(rri, slot, estate, tid, arbiters) \
	ExecCheckIndexConstraints(rri, slot, estate, tid, arbiters)
#endif

#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#define compat_primary_key_index(rel)			RelationGetPrimaryKeyIndex(rel, false)
#else
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#define compat_primary_key_index(rel)			RelationGetPrimaryKeyIndex(rel)
#endif

#if PG_VERSION_NUM >= 160000
#define compat_database_ownercheck(database, role)	object_ownercheck(DatabaseRelationId, database, role)
#define compat_table_ownercheck(relid, role)	object_ownercheck(RelationRelationId, relid, role)
#define compat_extension_ownercheck(extension, role)	object_ownercheck(ExtensionRelationId, extension, role)
#else
#define compat_database_ownercheck(database, role)	pg_database_ownercheck(database, role)
#define compat_table_ownercheck(relid, role)	pg_class_ownercheck(relid, role)
#define compat_extension_ownercheck(extension, role)	pg_extension_ownercheck(extension, role)
#endif

#if PG_VERSION_NUM >= 170000
#define compat_log_message(prefix, message, size, transactional) \
	LogLogicalMessage(prefix, message, size, transactional, false)
#else
#define compat_log_message(prefix, message, size, transactional) \
	LogLogicalMessage(prefix, message, size, transactional)
#endif

/* The tables that a statement names, with the privileges that it needs: range table entries until 15. */
#if PG_VERSION_NUM >= 160000
#define CompatPermission						RTEPermissionInfo
#define compat_permissions(planned)				((planned)->permInfos)
#else
#define CompatPermission						RangeTblEntry
#define compat_permissions(planned)				((planned)->rtable)
#endif

#if PG_VERSION_NUM >= 180000
#define COMPAT_EXECUTOR_RUN_ARGS				QueryDesc *query, ScanDirection direction, uint64 count
#define compat_executor_run(run)				(run) (query, direction, count)
#else
#define COMPAT_EXECUTOR_RUN_ARGS				QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once
#define compat_executor_run(run)				(run) (query, direction, count, execute_once)
#endif

/* Of an index that keeps a state from one insertion to the next. */
#if PG_VERSION_NUM >= 170000
#define compat_index_insert_cleanup(index, info)	index_insert_cleanup(index, info)
#else
#define compat_index_insert_cleanup(index, info)	((void) 0)
#endif

/* Kinds of relations that can have TRUNCATE triggers, as a list in SQL. */
#if PG_VERSION_NUM >= 160000
#define COMPAT_TRUNCATE_KINDS					"('r', 'p', 'f')"
#else
#define COMPAT_TRUNCATE_KINDS					"('r', 'p')"
#endif

/* Generated columns that are not stored. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_GENERATED_VIRTUAL				ATTRIBUTE_GENERATED_VIRTUAL
#else
#define COMPAT_GENERATED_VIRTUAL				'v'
#endif

#if PG_VERSION_NUM >= 170000
#define compat_create_wait_event_set(nevents)	CreateWaitEventSet(NULL, nevents)
#else
#define compat_create_wait_event_set(nevents)	CreateWaitEventSet(TopMemoryContext, nevents)
#endif

#if PG_VERSION_NUM < 180000
#define pg_noreturn								pg_attribute_noreturn()
#endif

#endif							/* SENTIENT_COMPAT_H */
