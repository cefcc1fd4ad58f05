/*
 * table_trigger.h
 *		What happens to an audited table as a whole.
 */
#ifndef SENTIENT_AUDIT_TABLE_TRIGGER_H
#define SENTIENT_AUDIT_TABLE_TRIGGER_H

/*
 * Give the partitions of a table, and the table if it is one, the TRUNCATE
 * triggers of what they belong to.  Inside a sql_begin scope.
 */
extern void truncate_triggers_follow(Oid relid);

#endif							/* SENTIENT_AUDIT_TABLE_TRIGGER_H */
