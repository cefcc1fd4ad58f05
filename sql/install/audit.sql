/*
 * audit.sql
 *		The audit trail and the ledger that seals it.
 *
 * Administrators read it and nobody writes it by hand: rows come from the
 * extension's own code, which runs with the owner's rights, and leave with
 * audit.prune or the retention of whole months.  Whoever did what may be gone
 * by the time somebody asks, so nothing here has a foreign key to users.
 */

CREATE SCHEMA audit;
COMMENT ON SCHEMA audit IS 'sentient_edge: audit trail, security events and the ledger that seals them';
GRANT USAGE ON SCHEMA audit TO sentient_admin;

-- Not owned by audit.log.audit_id: the sequence stays a member of the extension
-- while the table, which is managed like a user's, is dropped and restored.
CREATE SEQUENCE audit.log_audit_id_seq AS bigint;
COMMENT ON SEQUENCE audit.log_audit_id_seq IS 'Source of audit.log.audit_id; has gaps after rollbacks';

-- The order of the columns wastes no bytes on alignment; src/audit/entry.h counts
-- on it.  Names are text: a name takes 64 bytes whatever it holds.
CREATE TABLE audit.log (
	audit_id bigint NOT NULL DEFAULT pg_catalog.nextval('audit.log_audit_id_seq'::pg_catalog.regclass),
	occurred_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	statement_at timestamptz,
	transaction_id xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	query_id bigint,
	operation "char" NOT NULL CONSTRAINT log_operation_check CHECK (operation IN ('I', 'U', 'D', 'T')),
	schema_name text COLLATE "C" NOT NULL,
	table_name text COLLATE "C" NOT NULL,
	row_key jsonb,
	old_values jsonb,
	new_values jsonb,
	user_id uuid,
	db_role text COLLATE "C" NOT NULL DEFAULT CURRENT_USER,
	session_role text COLLATE "C",
	client_addr inet,
	application_name text COLLATE "C",
	mac bytea,
	CONSTRAINT log_pkey PRIMARY KEY (audit_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE TABLE audit.log_default PARTITION OF audit.log DEFAULT;

-- A row's key can be longer than an index entry may be, hence its hash; a search
-- must name the same expression.  Versions of a row share one entry.
CREATE INDEX log_row_idx ON audit.log (table_name, schema_name, pg_catalog.jsonb_hash_extended(row_key, 0));
CREATE INDEX log_occurred_at_idx ON audit.log (occurred_at);
-- For sealing, which asks for the entries of a few transactions every second.
CREATE OPERATOR CLASS audit.xid8_minmax_ops FOR TYPE xid8 USING brin AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 pg_catalog.brin_minmax_opcinfo(internal),
	FUNCTION 2 pg_catalog.brin_minmax_add_value(internal, internal, internal, internal),
	FUNCTION 3 pg_catalog.brin_minmax_consistent(internal, internal, internal),
	FUNCTION 4 pg_catalog.brin_minmax_union(internal, internal, internal);
COMMENT ON OPERATOR CLASS audit.xid8_minmax_ops USING brin IS 'Block ranges by the least and greatest transaction id';
CREATE INDEX log_transaction_idx ON audit.log USING brin (transaction_id audit.xid8_minmax_ops)
	WITH (pages_per_range = 64, autosummarize = on);
CREATE INDEX log_user_idx ON audit.log (user_id, occurred_at) WHERE user_id IS NOT NULL;

COMMENT ON TABLE audit.log IS 'Every change of an audited table, in partitions by time';
COMMENT ON COLUMN audit.log.audit_id IS 'Identifies the entry; rises in the order of the changes, not of the commits';
COMMENT ON COLUMN audit.log.occurred_at IS 'Time of the change';
COMMENT ON COLUMN audit.log.statement_at IS 'Begin of the statement that made the change; NULL when that was less than a millisecond earlier';
COMMENT ON COLUMN audit.log.transaction_id IS 'Transaction that made the change, in the cluster that wrote the entry';
COMMENT ON COLUMN audit.log.schema_name IS 'Schema of the changed table';
COMMENT ON COLUMN audit.log.table_name IS 'Name of the changed table';
COMMENT ON COLUMN audit.log.operation IS 'I insert, U update, D delete, T truncate';
COMMENT ON COLUMN audit.log.row_key IS 'Primary key of the row, an object; NULL for T or without a key';
COMMENT ON COLUMN audit.log.old_values IS 'D: the row that was; U: what the changed columns held before';
COMMENT ON COLUMN audit.log.new_values IS 'I: the row that is; U: what the changed columns hold since';
COMMENT ON COLUMN audit.log.user_id IS 'Verified user who made the change; NULL when none was known';
COMMENT ON COLUMN audit.log.db_role IS 'Database role that made the change';
COMMENT ON COLUMN audit.log.session_role IS 'Database role that the session was opened or authorized as; NULL when it is db_role';
COMMENT ON COLUMN audit.log.client_addr IS 'Address of the client';
COMMENT ON COLUMN audit.log.application_name IS 'application_name of the session';
COMMENT ON COLUMN audit.log.query_id IS 'Identifier of the query, as in pg_stat_statements';
COMMENT ON COLUMN audit.log.mac IS 'Keyed hash of the entry; NULL when no key is set up';
COMMENT ON TABLE audit.log_default IS 'Entries of audit.log whose month has no partition yet';

-- What new partitions take over that a parent cannot hold.  Always empty.
CREATE TABLE audit.log_template (LIKE audit.log INCLUDING COMMENTS);
COMMENT ON TABLE audit.log_template IS 'Template of the partitions of audit.log; always empty';

SELECT pg_catalog.pg_extension_config_dump('audit.log_audit_id_seq', '');

GRANT SELECT ON audit.log, audit.log_template, audit.log_audit_id_seq TO sentient_admin;

-- Last, and nothing may be granted on it later in this script: from here on
-- pg_dump takes audit.log for a user's table, and would leave out of a dump
-- whatever the script grants as one of the extension's initial privileges.
SELECT sentient_edge.adopt_partitioned_table('audit.log');
