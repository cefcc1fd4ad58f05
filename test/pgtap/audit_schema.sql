-- audit: the partitioned log, what is a member of the extension and what is not, the ledger's checks.
BEGIN;
SELECT plan(30);

SELECT columns_are('audit', 'log', ARRAY['audit_id', 'occurred_at', 'statement_at', 'transaction_id', 'query_id', 'operation',
	'schema_name', 'table_name', 'row_key', 'old_values', 'new_values', 'user_id', 'db_role', 'session_role', 'client_addr', 'application_name', 'mac']);
SELECT is_partitioned('audit', 'log', 'audit.log is partitioned');
SELECT is(pg_get_partkeydef('audit.log'::regclass), 'RANGE (occurred_at)', 'by time');
SELECT is_partition_of('audit', 'log_default', 'audit', 'log', 'it has a default partition');
SELECT is_empty($$SELECT relid FROM pg_partition_tree('audit.log') JOIN pg_class ON oid = relid WHERE relreplident <> 'f'$$, 'subscribers are told which entries were pruned');
SELECT col_type_is('audit', 'log', 'transaction_id', 'xid8', 'transaction ids do not wrap');
SELECT col_default_is('audit', 'log', 'audit_id', $$nextval('audit.log_audit_id_seq'::regclass)$$, 'ids come from the sequence');
SELECT has_table('audit', 'security_events', 'security_events is there');
SELECT has_table('audit', 'blocks', 'blocks is there');
SELECT has_table('audit', 'anchors', 'anchors is there');
SELECT is_empty('SELECT * FROM audit.log_template', 'the template is empty');

CREATE TEMP VIEW dependency AS
SELECT d.classid, d.objid, d.deptype FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
 WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'sentient_edge';
SELECT results_eq($$SELECT deptype FROM dependency WHERE classid = 'pg_class'::regclass AND objid = 'audit.log'::regclass$$,
	$$VALUES ('x'::"char")$$, 'audit.log is no member, but goes with the extension');
SELECT is_empty($$SELECT i.inhrelid::regclass FROM pg_inherits i JOIN dependency d ON d.objid = i.inhrelid
	WHERE i.inhparent = 'audit.log'::regclass AND d.deptype = 'e'$$, 'no partition is a member');
SELECT results_eq($$SELECT deptype FROM dependency WHERE classid = 'pg_class'::regclass AND objid = 'audit.log_template'::regclass$$,
	$$VALUES ('e'::"char")$$, 'the template is one');
SELECT results_eq($$SELECT deptype FROM dependency WHERE classid = 'pg_class'::regclass AND objid = 'audit.log_audit_id_seq'::regclass$$,
	$$VALUES ('e'::"char")$$, 'so is the sequence');
SELECT is_empty($$SELECT 1 FROM pg_init_privs WHERE classoid = 'pg_class'::regclass AND objoid IN ('audit.log'::regclass, 'audit.log_default'::regclass)$$,
	'no privilege on audit.log counts as the extension''s, so dumps have them all');

INSERT INTO audit.log (schema_name, table_name, operation, row_key) VALUES ('core', 'pgtap', 'U', '{"id": 1}');
INSERT INTO audit.log (schema_name, table_name, operation, row_key) SELECT 'core', 'pgtap', 'I', jsonb_build_object('id', string_agg(md5(n::text), '')) FROM generate_series(1, 1000) AS n;
SELECT results_eq($$SELECT transaction_id, db_role FROM audit.log WHERE table_name = 'pgtap' AND operation = 'U'$$,
	'SELECT pg_current_xact_id(), current_user::text', 'an entry knows its transaction and role');
SELECT throws_ok($$INSERT INTO audit.log (schema_name, table_name, operation) VALUES ('core', 'pgtap', 'X')$$, '23514', NULL, 'an unknown operation');
SET LOCAL enable_seqscan = off;
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || query; END$$;
SELECT ok((SELECT string_agg(line, E'\n') FROM pg_temp.plan_of($$SELECT 1 FROM audit.log WHERE schema_name = 'core' AND table_name = 'drones'
	AND audit.row_position(schema_name, table_name, row_key) = audit.row_position('core', 'drones', '{"id": 1}') AND row_key = '{"id": 1}'$$) AS line)
	~ 'Index Cond: .*row_position', 'a row''s history is found by its key through an index');
SELECT ok((SELECT string_agg(line, E'\n') FROM pg_temp.plan_of($$SELECT 1 FROM audit.log WHERE occurred_at > now()$$) AS line)
	~ 'Index Cond: .*occurred_at', 'a span of time likewise');
SELECT ok((SELECT string_agg(line, E'\n') FROM pg_temp.plan_of('SELECT 1 FROM audit.log WHERE audit_id = 7') AS line)
	~ 'Index Cond: .*audit_id', 'and an entry by its id');

-- row_history reads each partition by the index, and nothing else; two have the same number of entries on any day of a month.
RESET enable_seqscan;
INSERT INTO audit.log (occurred_at, schema_name, table_name, operation, row_key)
SELECT date_trunc('month', now(), 'UTC') + make_interval(mins => n - 10000), 'core', 'drones', 'U', jsonb_build_object('drone_id', n % 500) FROM generate_series(1, 20000) AS n;
ANALYZE audit.log;
CREATE FUNCTION pg_temp.history_of(key text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	body text := (SELECT prosrc FROM pg_proc WHERE oid = 'audit.row_history(text, text, jsonb)'::regprocedure);
BEGIN
	body := replace(replace(replace(body, 'row_history.schema_name', '''core'''), 'row_history.table_name', '''drones'''), 'row_history.key', quote_literal(key) || '::jsonb');
	RETURN QUERY EXECUTE 'EXPLAIN ' || body;
END$$;
SELECT is((SELECT count(*) FROM pg_temp.history_of('{"drone_id": 7}') AS line WHERE line ~ 'Seq Scan on log' AND line !~ 'rows=[01] '), 0::bigint,
	'no partition with entries is read from end to end');
SELECT is((SELECT count(*) FROM audit.row_history('core', 'drones', '{"drone_id": 7}')), 40::bigint, 'and all entries of a row are found');

INSERT INTO audit.blocks (block_number, previous_hash, merkle_root, block_hash, entry_count, total_entries, entry_ids, leaf_hashes,
	min_audit_id, max_audit_id, first_occurred_at, last_occurred_at, system_identifier)
VALUES (1000000, sha256('p'), sha256('m'), sha256('b'), 2, 2, '{1,2}', sha256('1') || sha256('2'), 1, 2, now(), now(), 1);
SELECT throws_ok($$INSERT INTO audit.blocks SELECT 1000001, format_version, previous_hash, merkle_root, sha256('c'), entry_count, total_entries, entry_ids, event_ids, leaf_hashes,
	min_audit_id, max_audit_id, first_occurred_at, last_occurred_at, sealed_at, system_identifier FROM audit.blocks WHERE block_number = 1000000$$,
	'23505', NULL, 'the chain does not fork');
SELECT throws_ok('DELETE FROM audit.blocks', '42501', NULL, 'it does not shrink either');
ALTER TABLE audit.blocks DISABLE TRIGGER append_only;
SELECT throws_ok($$UPDATE audit.blocks SET entry_ids = '{1}' WHERE block_number = 1000000$$, '23514', NULL, 'a block names as many entries as it counts');
SELECT throws_ok($$UPDATE audit.blocks SET leaf_hashes = '' WHERE block_number = 1000000$$, '23514', NULL, 'and has a hash of each');
SELECT throws_ok($$UPDATE audit.blocks SET signature = sha256('s') || sha256('s') WHERE block_number = 1000000$$, '23514', NULL, 'a signature names its key');
SELECT throws_ok($$INSERT INTO audit.anchors (kind, block_number, block_hash) VALUES ('prune', 1, sha256('b'))$$, '23514', NULL, 'pruning says what it pruned');

SET LOCAL client_min_messages = error;	-- of wal_level
CREATE PUBLICATION everything FOR ALL TABLES;
SELECT lives_ok('SELECT audit.prune(now())', 'entries of published tables can be pruned');

SELECT * FROM finish();
ROLLBACK;
