-- The ledger: functions and their columns, rights by role, errors, limits, and what verify says of changes in a transaction.
BEGIN;
SELECT plan(68);

-- columns and types
SELECT col_type_is('audit', 'blocks', c.name, c.type, c.name || ' of blocks') FROM (VALUES
	('block_number', 'bigint'), ('previous_hash', 'bytea'), ('merkle_root', 'bytea'), ('block_hash', 'bytea'), ('entry_count', 'integer'),
	('total_entries', 'bigint'), ('entry_ids', 'bigint[]'), ('event_ids', 'uuid[]'), ('leaf_hashes', 'bytea'), ('holds_events', 'boolean'),
	('sealed_at', 'timestamp with time zone'), ('key_id', 'uuid'), ('signature', 'bytea'), ('visible_snapshot', 'pg_snapshot'),
	('next_transaction_id', 'xid8')) AS c (name, type);
SELECT col_type_is('audit', 'anchors', c.name, c.type, c.name || ' of anchors') FROM (VALUES
	('kind', 'text'), ('pruned_before', 'timestamp with time zone'), ('pruned_from', 'text'), ('pruned_partly', 'jsonb'), ('digest', 'jsonb')) AS c (name, type);
SELECT is_partitioned('audit', 'security_events', 'security events are partitioned');
SELECT is(pg_get_partkeydef('audit.security_events'::regclass), 'RANGE (occurred_at)', 'by time');
SELECT is(pg_get_function_result(f::regprocedure), result, f) FROM (VALUES
	('audit.seal(boolean)', 'record'), ('audit.verify(timestamptz, timestamptz)', 'SETOF record'), ('audit.digest(text)', 'jsonb'),
	('audit.verify_digest(jsonb)', 'SETOF record'), ('audit.proof(bigint)', 'jsonb'), ('audit.proof_event(uuid)', 'jsonb'),
	('audit.prune(timestamptz, text)', 'record'), ('audit.block_header(bigint)', 'bytea'), ('audit.export_digest()', 'SETOF record')) AS s (f, result);

-- who may what
CREATE TEMP TABLE ledger_function AS SELECT p.oid, p.proname FROM pg_proc p WHERE p.pronamespace = 'audit'::regnamespace
	AND p.proname IN ('seal', 'verify', 'digest', 'verify_digest', 'proof', 'proof_event', 'prune', 'block_header', 'export_digest', 'set_anchor_sink', 'drop_anchor_sink');
SELECT is((SELECT count(*) FROM ledger_function), 11::bigint, 'the functions of the ledger');
SELECT is_empty(format($$SELECT proname FROM ledger_function WHERE has_function_privilege(%L, oid, 'EXECUTE')$$, r), r || ' calls none of them')
  FROM unnest('{sentient_operator,sentient_analyst,sentient_viewer,sentient_app}'::text[]) r;
SELECT is_empty($$SELECT proname FROM ledger_function WHERE NOT has_function_privilege('sentient_admin', oid, 'EXECUTE')$$, 'sentient_admin calls all of them');
SELECT is_empty($$SELECT t FROM unnest('{audit.blocks,audit.anchors,audit.security_events,audit.restore_events,audit.anchor_exports}'::text[]) t
	WHERE NOT has_table_privilege('sentient_admin', t, 'SELECT') OR has_table_privilege('sentient_admin', t, 'INSERT, UPDATE, DELETE, TRUNCATE')
	   OR has_table_privilege('sentient_operator', t, 'SELECT')$$, 'administrators read, and write nothing by hand');
SET LOCAL ROLE sentient_viewer;
SELECT throws_ok('SELECT audit.verify()', '42501', NULL, 'a viewer does not verify');
SELECT throws_ok('SELECT audit.prune(now())', '42501', NULL, 'nor prune');
RESET ROLE;

-- errors
SELECT throws_ok($$SELECT audit.verify_digest('{"block": 3}')$$, '22023', 'the digest has no text "system"', 'no digest');
SELECT throws_ok($$SELECT audit.verify_digest('[]')$$, '22023', NULL, 'no object');
SELECT throws_ok($$SELECT audit.verify_digest('null')$$, '22023', NULL, 'a null of JSON');
SELECT throws_ok($$SELECT audit.verify(now(), now() - interval '1 day')$$, '22023', NULL, 'a span that ends before it begins');
SELECT throws_ok($$SELECT audit.verify_events(now(), now() - interval '1 day')$$, '22023', NULL, 'likewise');
SELECT throws_ok($$SELECT audit.proof(0)$$, '42704', 'no block of the ledger holds audit entry 0', 'an entry that is in no block');
SELECT throws_ok($$SELECT audit.proof_event('00000000-0000-4000-8000-000000000000')$$, '42704',
	'no block of the ledger holds audit event 00000000-0000-4000-8000-000000000000', 'an event that is in no block');
SELECT throws_ok($$SELECT audit.prune(now() + interval '1 day')$$, '22023', NULL, 'the future');
SELECT throws_ok($$SELECT audit.prune(NULL)$$, '22023', NULL, 'no time');
SELECT throws_ok($$SELECT audit.prune('infinity')$$, '22023', NULL, 'all times');
SELECT throws_ok($$SELECT audit.seal(true)$$, '25001', NULL, 'what has no MAC is accepted at the begin of a transaction only');
SELECT throws_ok($$SELECT audit.set_anchor_sink('x', 'pigeon', '{a}')$$, '22023', NULL, 'an unknown kind of sink');
SELECT throws_ok($$SELECT audit.set_anchor_sink('x', 'file', '{relative}')$$, '22023', NULL, 'a relative path');
SELECT throws_ok($$SELECT audit.set_anchor_sink('', 'table', '{audit.anchors}')$$, NULL, NULL, 'a sink without a name');
SELECT is(audit.drop_anchor_sink('no such sink'), false, 'a sink that is not there');
SELECT is(audit.block_header(-1), NULL, 'a block that is not there');
SELECT is(audit.proof(NULL), NULL, 'nothing of nothing');

-- limits of the tables
SELECT throws_ok($$INSERT INTO audit.blocks (block_number, previous_hash, merkle_root, block_hash, entry_count, total_entries, event_ids, leaf_hashes,
	first_occurred_at, last_occurred_at, system_identifier) VALUES (1000000, sha256('a'), sha256('b'), sha256('c'), 1, 1, '{00000000-0000-4000-8000-000000000000}', sha256('d'), now(), now(), 1)$$,
	'23514', NULL, 'a block of entries names no event');
SELECT throws_ok($$INSERT INTO audit.blocks (block_number, previous_hash, merkle_root, block_hash, entry_count, total_entries, entry_ids, leaf_hashes, holds_events,
	first_occurred_at, last_occurred_at, system_identifier) VALUES (1000000, sha256('a'), sha256('b'), sha256('c'), 1, 1, '{1}', sha256('d'), true, now(), now(), 1)$$,
	'23514', NULL, 'nor a block of events an entry');
SELECT throws_ok($$INSERT INTO audit.anchors (kind, block_number, block_hash, pruned_before, pruned_entries, pruned_partly) VALUES ('prune', 1, sha256('a'), now(), 1, '{}')$$,
	'23514', NULL, 'pruning says from what');

-- what a transaction has done itself is no finding
SELECT isnt(audit.record_event('app.pgtap', 'info', 'waits'), NULL, 'an event');
SELECT is_empty($$SELECT * FROM audit.verify() WHERE finding <> 'capture_off'$$, 'nothing is wrong');
SELECT is((SELECT refused FROM audit.seal()), 0::bigint, 'sealing refuses nothing');
SELECT lives_ok('SELECT audit.digest()', 'a digest') WHERE EXISTS (SELECT FROM audit.blocks)
UNION ALL SELECT throws_ok('SELECT audit.digest()', '55000', NULL, 'no digest without a block') WHERE NOT EXISTS (SELECT FROM audit.blocks);

-- findings have their names
ALTER TABLE audit.security_events DISABLE TRIGGER append_only;
SELECT set_eq($$SELECT DISTINCT finding FROM audit.verify()$$, ARRAY['protection_off'], 'events that can be changed');
ALTER TABLE audit.security_events ENABLE ALWAYS TRIGGER append_only;
INSERT INTO audit.security_events (event_type, mac) VALUES ('app.forged', '\x00');
SELECT results_eq($$SELECT finding, audit_id, block_number FROM audit.verify()$$, $$VALUES ('forged_event', NULL::bigint, NULL::bigint)$$, 'an event with a wrong MAC');
SELECT results_eq($$SELECT v.finding, e.event_type FROM audit.verify('-infinity', 'infinity') v JOIN audit.security_events e USING (event_id)$$,
	$$VALUES ('forged_event', 'app.forged')$$, 'by its id, in a span of time, too');
SELECT is_empty($$SELECT * FROM audit.verify('2001-01-01', '2001-01-02')$$, 'not in another one');

SELECT * FROM finish();
ROLLBACK;
