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
	mac bytea
) PARTITION BY RANGE (occurred_at);
CREATE TABLE audit.log_default PARTITION OF audit.log DEFAULT;
-- It has no key: ids come from one sequence, audit.verify reports one that is there
-- twice, and a B-tree would cost each change about what log_row_idx does.
-- Subscribers of a publication are told of pruned entries by the whole entry.
ALTER TABLE audit.log REPLICA IDENTITY FULL;
ALTER TABLE audit.log_default REPLICA IDENTITY FULL;

CREATE FUNCTION audit.row_position(schema_name text, table_name text, row_key jsonb) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'audit_row_position';
COMMENT ON FUNCTION audit.row_position(text, text, jsonb) IS
	'Number under which log_row_idx has the entries of a row: a hash of the table, and the row''s key or a hash of it, in the order of keys where they have one. Rows may share a number: compare the key too. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.row_position(text, text, jsonb) TO sentient_admin;

-- A search must name the same expression.  The scheduler empties the pending list each
-- second; the limit is for when it does not come to it.
CREATE INDEX log_row_idx ON audit.log USING gin (audit.row_position(schema_name, table_name, row_key))
	WITH (fastupdate = on, gin_pending_list_limit = 65536) WHERE row_key IS NOT NULL;
-- Entries come in order of time, transaction and id, so that ranges of blocks tell
-- them apart: for sealing, which asks every second for the entries of a few
-- transactions, for a span of time, and for one entry.
CREATE OPERATOR CLASS audit.xid8_minmax_ops FOR TYPE xid8 USING brin AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 pg_catalog.brin_minmax_opcinfo(internal),
	FUNCTION 2 pg_catalog.brin_minmax_add_value(internal, internal, internal, internal),
	FUNCTION 3 pg_catalog.brin_minmax_consistent(internal, internal, internal),
	FUNCTION 4 pg_catalog.brin_minmax_union(internal, internal, internal);
COMMENT ON OPERATOR CLASS audit.xid8_minmax_ops USING brin IS 'Block ranges by the least and greatest transaction id';
CREATE INDEX log_ranges_idx ON audit.log USING brin (occurred_at, transaction_id audit.xid8_minmax_ops, audit_id)
	WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX log_user_idx ON audit.log (user_id) WHERE user_id IS NOT NULL;

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

--
-- What refuses, and what captures
--

CREATE FUNCTION audit.append_only() RETURNS trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'audit_append_only';
COMMENT ON FUNCTION audit.append_only() IS
	'Trigger of the tables of the audit trail: refuses to change or remove rows, for superusers too (42501). audit.prune and the maintenance of partitions pass. For triggers only.';

CREATE FUNCTION audit.capture_row() RETURNS trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'audit_capture_row';
COMMENT ON FUNCTION audit.capture_row() IS
	'Row trigger of audited tables, made by audit.enable: writes an entry of the change to audit.log, or the change fails. Arguments: the columns to exclude, the columns to mask, arrays of names. For triggers only.';

CREATE FUNCTION audit.capture_truncate() RETURNS trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'audit_capture_truncate';
COMMENT ON FUNCTION audit.capture_truncate() IS
	'TRUNCATE trigger of audited tables, made by audit.enable: writes an entry with the number of rows to audit.log. For triggers only.';

CREATE TABLE audit.targets (
	table_id regclass PRIMARY KEY,
	enabled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	enabled_by text COLLATE "C" NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE audit.targets IS 'Tables that are to be audited: those of the extension, and those that audit.enable was called for';
COMMENT ON COLUMN audit.targets.table_id IS 'The table';
COMMENT ON COLUMN audit.targets.enabled_at IS 'Since when, or when a dump was restored';
COMMENT ON COLUMN audit.targets.enabled_by IS 'Database role that had it audited';
-- A dump carries the triggers themselves; the rows are made from them again.
SELECT pg_catalog.pg_extension_config_dump('audit.targets', 'WHERE false');

CREATE FUNCTION audit.trigger_columns(trigger_id oid, OUT exclude name[], OUT mask name[])
	LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'audit_trigger_columns';
COMMENT ON FUNCTION audit.trigger_columns(oid) IS
	'Columns that a trigger made by audit.enable excludes and masks; nulls for any other trigger. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.trigger_columns(oid) TO sentient_admin;

CREATE VIEW audit.audited_tables AS
SELECT coalesce(a.table_id, t.tgrelid::regclass) AS table_name,
	CASE WHEN t.oid IS NULL OR s.oid IS NULL OR p.missing THEN 'missing'
		 WHEN t.tgenabled = 'A' AND s.tgenabled = 'A' AND NOT p.suspended THEN 'captured'
		 ELSE 'suspended' END AS state,
	c.exclude, c.mask, a.enabled_at, a.enabled_by
  FROM audit.targets a
  FULL JOIN (SELECT * FROM pg_catalog.pg_trigger
			  WHERE tgname = 'sentient_audit_row' AND tgparentid = 0 AND tgfoid = 'audit.capture_row()'::regprocedure) t
		 ON t.tgrelid = a.table_id::oid
  LEFT JOIN pg_catalog.pg_trigger s ON s.tgrelid = coalesce(a.table_id::oid, t.tgrelid)
		AND s.tgname = 'sentient_audit_truncate' AND s.tgfoid = 'audit.capture_truncate()'::regprocedure
  LEFT JOIN LATERAL audit.trigger_columns(t.oid) c ON true
 CROSS JOIN LATERAL (
	-- Its partitions', which have triggers of their own.
	WITH RECURSIVE part (id) AS (
		SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class r ON r.oid = i.inhrelid AND r.relispartition
		 WHERE i.inhparent = coalesce(a.table_id::oid, t.tgrelid)
		UNION ALL SELECT i.inhrelid FROM part JOIN pg_catalog.pg_inherits i ON i.inhparent = part.id
	)
	SELECT coalesce(pg_catalog.bool_or(o.oid IS NULL), false) AS missing, coalesce(pg_catalog.bool_or(o.tgenabled <> 'A'), false) AS suspended
	  FROM part JOIN pg_catalog.pg_class r ON r.oid = part.id AND r.relkind IN ('r', 'p')
	 CROSS JOIN (VALUES ('audit.capture_row()'::regprocedure), ('audit.capture_truncate()'::regprocedure)) f (id)
	  LEFT JOIN pg_catalog.pg_trigger o ON o.tgrelid = part.id AND o.tgfoid = f.id) p;
COMMENT ON VIEW audit.audited_tables IS 'Tables that are audited, or should be';
COMMENT ON COLUMN audit.audited_tables.table_name IS 'The table';
COMMENT ON COLUMN audit.audited_tables.state IS 'captured; suspended: a trigger of the table or a partition is disabled, or does not fire for session_replication_role = replica, as during a restore; missing: one was dropped, replaced or renamed';
COMMENT ON COLUMN audit.audited_tables.exclude IS 'Columns that entries leave out';
COMMENT ON COLUMN audit.audited_tables.mask IS 'Columns whose values entries do not show';
COMMENT ON COLUMN audit.audited_tables.enabled_at IS 'Since when, or when a dump was restored';
COMMENT ON COLUMN audit.audited_tables.enabled_by IS 'Database role that had it audited';
GRANT SELECT ON audit.targets, audit.audited_tables TO sentient_admin;

CREATE FUNCTION audit.enable(table_name regclass, exclude name[] DEFAULT '{}', mask name[] DEFAULT NULL) RETURNS boolean
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'audit_enable';
COMMENT ON FUNCTION audit.enable(regclass, name[], name[]) IS
'Has every change of a table captured in audit.log from now on, of its present and future partitions too. Entries leave out the columns of exclude and show "[masked]" for the values of those of mask, by default password_hash; what changes nothing else makes no entry. Called again with other columns, it changes that.
Returns false when there was nothing to do. Errors: 42501 the caller neither owns the table nor is a member of sentient_admin; 42809 a view, a foreign, temporary or system table, a table of an extension; 42703 no such column; 22023 a column of the primary key; 22004 null. Locks the table against changes until the transaction ends.';
CREATE FUNCTION audit.disable(table_name regclass) RETURNS boolean
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'audit_disable';
COMMENT ON FUNCTION audit.disable(regclass) IS
'Ends what audit.enable began; the entries stay. Returns false when the table was not audited. Errors: as audit.enable; 55000 a partition that is audited with its table.';
GRANT EXECUTE ON FUNCTION audit.enable(regclass, name[], name[]), audit.disable(regclass) TO sentient_viewer;
GRANT USAGE ON SCHEMA audit TO sentient_viewer;

CREATE FUNCTION audit.note_drops() RETURNS event_trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'audit_note_drops';
COMMENT ON FUNCTION audit.note_drops() IS
	'Event trigger (sql_drop): writes an entry for each audited table or partition that is dropped. For the event trigger only.';
CREATE EVENT TRIGGER sentient_edge_note_drops ON sql_drop EXECUTE FUNCTION audit.note_drops();
ALTER EVENT TRIGGER sentient_edge_note_drops ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER sentient_edge_note_drops IS 'Writes an audit entry for each audited table or partition that is dropped';

-- TRUNCATE triggers are not cloned to partitions; here they are.
CREATE FUNCTION audit.follow_partitions() RETURNS event_trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'audit_follow_partitions';
COMMENT ON FUNCTION audit.follow_partitions() IS
	'Event trigger (ddl_command_end): gives partitions the TRUNCATE trigger of their audited or append-only table. For the event trigger only.';
CREATE EVENT TRIGGER sentient_edge_follow_partitions ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION audit.follow_partitions();
ALTER EVENT TRIGGER sentient_edge_follow_partitions ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER sentient_edge_follow_partitions IS 'Gives partitions the TRUNCATE trigger of their audited or append-only table';

CREATE FUNCTION audit.suspend_capture(suspend boolean) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command text;
	changed integer := 0;
BEGIN
	-- Before it is captured again: a restore makes no entries.
	DELETE FROM audit.targets a WHERE NOT suspend AND NOT EXISTS (SELECT FROM pg_class WHERE oid = a.table_id);
	INSERT INTO audit.targets (table_id)
	SELECT t.table_name FROM audit.audited_tables t WHERE NOT suspend AND t.enabled_at IS NULL ON CONFLICT DO NOTHING;
	FOR command IN
		SELECT format('ALTER TABLE %s %s TRIGGER %I', t.tgrelid::regclass, CASE WHEN suspend THEN 'DISABLE' ELSE 'ENABLE ALWAYS' END, t.tgname)
		  FROM pg_trigger t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = t.tgrelid AND d.deptype = 'e'
		 WHERE t.tgfoid IN ('audit.capture_row()'::regprocedure, 'audit.capture_truncate()'::regprocedure)
		   AND t.tgenabled <> CASE WHEN suspend THEN 'D' ELSE 'A' END ORDER BY t.tgrelid::oid, t.tgname
	LOOP
		EXECUTE command;
		changed := changed + 1;
	END LOOP;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION audit.suspend_capture(boolean) IS
'Has the extension''s own tables captured no more while a dump is restored, or again, and registers the audited tables that the dump has brought; returns the number of triggers changed. sentient_edge.enforce_foreign_keys calls it. For superusers.';

--
-- Reading
--

CREATE FUNCTION audit.row_key(table_name regclass, key jsonb) RETURNS jsonb
	LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_row_key';
COMMENT ON FUNCTION audit.row_key(regclass, jsonb) IS
'The key of a row as audit.log.row_key has it, however key spells it: an object of the columns of the table''s primary key, its values read by their types under the settings of entries (zone UTC, dates in ISO 8601, search_path pg_catalog, money of the locale C). Errors: 42703 a column that is not in the key; 22023 one is missing, no object, a number or time with more digits than its column keeps; 22004 null; 55000 the table has no primary key; 42P01 no such table; else what the type says of a value, such as 22P02. May be called by sentient_admin.';

CREATE FUNCTION audit.row_history(schema_name text, table_name text, key jsonb)
RETURNS TABLE (audit_id bigint, occurred_at timestamptz, operation "char", old_values jsonb, new_values jsonb, user_id uuid,
	db_role text, session_role text, client_addr inet, application_name text, statement_at timestamptz, transaction_id xid8,
	query_id bigint, row_key jsonb)
LANGUAGE sql STABLE STRICT PARALLEL SAFE ROWS 20
SET search_path = pg_catalog, pg_temp
AS $$
	-- An UPDATE of the key has the new one as row_key: what was before is under the old.
	WITH RECURSIVE trail AS (
		SELECT l.* FROM audit.log l
		 WHERE audit.row_position(l.schema_name, l.table_name, l.row_key) = audit.row_position(row_history.schema_name, row_history.table_name, row_history.key)
		   AND l.row_key = row_history.key AND l.table_name = row_history.table_name AND l.schema_name = row_history.schema_name
		UNION	-- not ALL: a key that goes to and fro leads to one entry by many ways
		SELECT l.* FROM trail t
		 CROSS JOIN LATERAL (SELECT t.row_key || jsonb_object_agg(k, t.old_values -> k) AS key
							   FROM jsonb_object_keys(t.row_key) AS k WHERE t.old_values ? k) p
		  JOIN audit.log l
			ON audit.row_position(l.schema_name, l.table_name, l.row_key) = audit.row_position(t.schema_name, t.table_name, p.key)
		   AND l.row_key = p.key AND l.table_name = t.table_name AND l.schema_name = t.schema_name AND l.audit_id < t.audit_id
		 WHERE t.operation = 'U'
	)
	-- Ids may have been given again: the time tells such entries apart.
	SELECT DISTINCT ON (t.audit_id, t.occurred_at, t.transaction_id) t.audit_id, t.occurred_at, t.operation, t.old_values, t.new_values, t.user_id, t.db_role,
		   coalesce(t.session_role, t.db_role), t.client_addr, t.application_name, coalesce(t.statement_at, t.occurred_at),
		   t.transaction_id, t.query_id, t.row_key
	  FROM trail t ORDER BY t.audit_id, t.occurred_at, t.transaction_id
$$;
COMMENT ON FUNCTION audit.row_history(text, text, jsonb) IS
'Who changed a row when: its entries in order, found through an index over all partitions, by the name that its table had then and the key as entries have it (audit.log.row_key; numbers may have any scale). For tables that are gone or have another name now, and for keys of other columns or types than today''s. Entries from before an UPDATE of the key come with it. No rows for nulls. May be called by sentient_admin.';
CREATE FUNCTION audit.row_history(table_name regclass, key jsonb)
RETURNS TABLE (audit_id bigint, occurred_at timestamptz, operation "char", old_values jsonb, new_values jsonb, user_id uuid,
	db_role text, session_role text, client_addr inet, application_name text, statement_at timestamptz, transaction_id xid8,
	query_id bigint, row_key jsonb)
LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 20
SET search_path = pg_catalog, pg_temp
AS $$
	-- Entries of a partition have the name of the table that it belongs to.
	SELECT h.*
	  FROM (SELECT audit.row_key(row_history.table_name, row_history.key) OFFSET 0) k (row_key)
	 CROSS JOIN (SELECT row_history.table_name::oid UNION SELECT pg_partition_ancestors(row_history.table_name)) t (id)
	  JOIN pg_class c ON c.oid = t.id JOIN pg_namespace n ON n.oid = c.relnamespace
	 CROSS JOIN LATERAL audit.row_history(n.nspname::text, c.relname::text, k.row_key) h
	 ORDER BY h.audit_id
$$;
COMMENT ON FUNCTION audit.row_history(regclass, jsonb) IS
'Who changed a row when: its entries in order, found through an index over all partitions. key is the row''s primary key as an object, such as {"drone_id": "..."}, in any spelling that its types read (see audit.row_key, which says what errors there are); entries from before an UPDATE of the key come with it. session_role and statement_at are told in every row. A table''s entries have the name that it had then, and the key: for other names and keys than today''s there is audit.row_history(text, text, jsonb). May be called by sentient_admin.';

CREATE FUNCTION audit.activity(from_time timestamptz DEFAULT now() - interval '30 days', to_time timestamptz DEFAULT now())
RETURNS TABLE (day date, user_id uuid, db_role text, inserted bigint, updated bigint, deleted bigint, truncated bigint,
	transactions bigint, tables text[], first_at timestamptz, last_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
	SELECT l.occurred_at::date, l.user_id, l.db_role, count(*) FILTER (WHERE l.operation = 'I'),
		   count(*) FILTER (WHERE l.operation = 'U'), count(*) FILTER (WHERE l.operation = 'D'),
		   count(*) FILTER (WHERE l.operation = 'T'), count(DISTINCT l.transaction_id),
		   array_agg(DISTINCT l.schema_name || '.' || l.table_name), min(l.occurred_at), max(l.occurred_at)
	  FROM audit.log l WHERE l.occurred_at >= from_time AND l.occurred_at < to_time
	 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
$$;
COMMENT ON FUNCTION audit.activity(timestamptz, timestamptz) IS
'What each user, and each database role where no user is known, changed on each day (UTC) from from_time to before to_time, by default the last 30 days. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.row_key(regclass, jsonb), audit.row_history(text, text, jsonb), audit.row_history(regclass, jsonb), audit.activity(timestamptz, timestamptz) TO sentient_admin;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.log FOR EACH ROW EXECUTE FUNCTION audit.append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit.log FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only();
ALTER TABLE audit.log ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate;
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit.log_default FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only();
ALTER TABLE audit.log_default ENABLE ALWAYS TRIGGER append_only_truncate;

GRANT SELECT ON audit.log, audit.log_template, audit.log_audit_id_seq TO sentient_admin;

-- Last, and nothing may be granted on it later in this script: from here on
-- pg_dump takes audit.log for a user's table, and would leave out of a dump
-- whatever the script grants as one of the extension's initial privileges.
SELECT sentient_edge.adopt_partitioned_table('audit.log');
