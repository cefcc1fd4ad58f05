-- core: tables, keys, checks, statuses and their history.
BEGIN;
SELECT plan(82);

SELECT tables_are('core', ARRAY['drone_statuses', 'drone_status_transitions', 'drone_status_history', 'drones', 'swarms',
	'swarm_members', 'missions', 'mission_drones', 'communication_channels', 'messages', 'ai_models']);

SELECT columns_are('core', 'drones', ARRAY['drone_id', 'call_sign', 'drone_type', 'status', 'model', 'serial_number',
	'swarm_id', 'metadata', 'created_at', 'updated_at']);
SELECT col_type_is('core', 'drones', 'drone_id', 'uuid', 'drones.drone_id is a uuid');
SELECT col_type_is('core', 'drones', 'metadata', 'jsonb', 'drones.metadata is jsonb');
SELECT set_eq($$SELECT attname::text COLLATE "default" FROM pg_attribute WHERE attrelid = 'core.drones'::regclass AND attnum > 0
	AND attnotnull AND NOT atthasdef$$, ARRAY['call_sign', 'drone_type'], 'only call_sign and drone_type must be given');
SELECT columns_are('core', 'missions', ARRAY['mission_id', 'name', 'objective', 'status', 'threat_level', 'priority',
	'planned_start', 'planned_end', 'started_at', 'ended_at', 'created_by', 'metadata', 'created_at', 'updated_at']);

SELECT col_is_pk('core', 'drones', 'drone_id', 'key of drones');
SELECT col_is_pk('core', 'drone_statuses', 'status', 'key of drone_statuses');
SELECT col_is_pk('core', 'drone_status_transitions', ARRAY['from_status', 'to_status'], 'key of drone_status_transitions');
SELECT col_is_pk('core', 'drone_status_history', 'history_id', 'key of drone_status_history');
SELECT col_is_pk('core', 'swarms', 'swarm_id', 'key of swarms');
SELECT col_is_pk('core', 'swarm_members', ARRAY['swarm_id', 'drone_id', 'joined_at'], 'key of swarm_members');
SELECT col_is_pk('core', 'missions', 'mission_id', 'key of missions');
SELECT col_is_pk('core', 'mission_drones', ARRAY['mission_id', 'drone_id'], 'key of mission_drones');
SELECT col_is_pk('core', 'communication_channels', 'channel_id', 'key of communication_channels');
SELECT col_is_pk('core', 'messages', 'message_id', 'key of messages');
SELECT col_is_pk('core', 'ai_models', 'model_id', 'key of ai_models');

SELECT fk_ok('core', 'drones', 'status', 'core', 'drone_statuses', 'status');
SELECT fk_ok('core', 'drones', 'swarm_id', 'core', 'swarms', 'swarm_id');
SELECT fk_ok('core', 'drone_status_history', 'drone_id', 'core', 'drones', 'drone_id');
SELECT fk_ok('core', 'swarm_members', 'drone_id', 'core', 'drones', 'drone_id');
SELECT fk_ok('core', 'swarm_members', 'swarm_id', 'core', 'swarms', 'swarm_id');
SELECT fk_ok('core', 'mission_drones', 'drone_id', 'core', 'drones', 'drone_id');
SELECT fk_ok('core', 'mission_drones', 'mission_id', 'core', 'missions', 'mission_id');
SELECT fk_ok('core', 'mission_drones', 'assigned_by', 'auth', 'users', 'user_id');
SELECT fk_ok('core', 'missions', 'created_by', 'auth', 'users', 'user_id');
SELECT fk_ok('core', 'messages', 'channel_id', 'core', 'communication_channels', 'channel_id');
SELECT fk_ok('core', 'messages', 'sender_user_id', 'auth', 'users', 'user_id');

SELECT is_indexed('core', 'drones', ARRAY['status', 'drone_type', 'drone_id'], 'drones are found by status and type');
SELECT has_index('core', 'messages', 'messages_text_idx', 'messages have a full-text index');
SELECT has_index('core', 'missions', 'missions_text_idx', 'missions have a full-text index');
SELECT index_is_type('core', 'drones', 'drones_metadata_idx', 'gin');
SELECT is_empty($$
	SELECT c.conrelid::regclass, c.conname FROM pg_constraint c
	 WHERE c.contype = 'f' AND c.connamespace::regnamespace::text IN ('core', 'auth', 'analytics', 'telemetry')
	   AND c.confrelid <> 'core.drone_statuses'::regclass
	   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1])$$,
	'every foreign key begins an index, so that deleting what it names is cheap');

-- drones
INSERT INTO core.drones (call_sign, drone_type) VALUES ('pgtap-1', 'quadcopter'), ('pgtap-2', 'vtol');
SELECT results_eq($$SELECT status, metadata FROM core.drones WHERE call_sign = 'pgtap-1'$$,
	$$VALUES ('offline', '{}'::jsonb)$$, 'a new drone is offline');
SELECT throws_ok($$INSERT INTO core.drones (call_sign, drone_type) VALUES ('pgtap-1', 'vtol')$$, '23505', NULL, 'a call sign is unique');
SELECT throws_ok($$INSERT INTO core.drones (call_sign) VALUES ('pgtap-3')$$, '23502', NULL, 'a drone needs a type');
SELECT throws_ok($$INSERT INTO core.drones (drone_type) VALUES ('vtol')$$, '23502', NULL, 'a drone needs a call sign');
SELECT throws_ok($$INSERT INTO core.drones (call_sign, drone_type) VALUES (' ', 'vtol')$$, '23514', NULL, 'a call sign is not blank');
SELECT throws_ok($$INSERT INTO core.drones (call_sign, drone_type, status) VALUES ('pgtap-3', 'vtol', 'dancing')$$, '23503', NULL, 'an unknown status');
SELECT throws_ok($$INSERT INTO core.drones (call_sign, drone_type, metadata) VALUES ('pgtap-3', 'vtol', '[]')$$, '23514', NULL, 'metadata is an object');

-- updated_at
UPDATE core.drones SET updated_at = '2020-01-01', model = 'X' WHERE call_sign = 'pgtap-1';
SELECT results_eq($$SELECT updated_at FROM core.drones WHERE call_sign = 'pgtap-1'$$, 'SELECT now()', 'a change sets updated_at');
SELECT is_empty($$
	SELECT a.attrelid::regclass FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
	 WHERE a.attname = 'updated_at' AND r.relkind = 'r' AND r.relnamespace::regnamespace::text IN ('core', 'auth', 'analytics')
	   AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.oid AND t.tgfoid = 'core.touch_updated_at()'::regprocedure)$$,
	'every updated_at is kept by the trigger');
CREATE SCHEMA evil;
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT '1999-01-01'::timestamptz$$;
SET LOCAL search_path = evil, pg_catalog, public;
UPDATE core.drones SET model = 'Y' WHERE call_sign = 'pgtap-1';
RESET search_path;
SELECT results_eq($$SELECT updated_at FROM core.drones WHERE call_sign = 'pgtap-1'$$, 'SELECT now()', 'search_path does not lead updated_at astray');

-- statuses
SELECT results_eq($$SELECT count(*) FROM core.drone_status_history$$, 'VALUES (0::bigint)', 'no history without a change of status');
UPDATE core.drones SET status = 'standby' WHERE call_sign = 'pgtap-1';
UPDATE core.drones SET status = 'standby' WHERE call_sign = 'pgtap-1';
UPDATE core.drones SET status = 'active' WHERE call_sign = 'pgtap-1';
SELECT results_eq($$SELECT from_status, to_status, db_role FROM core.drone_status_history ORDER BY changed_at$$,
	$$VALUES ('offline', 'standby', session_user), ('standby', 'active', session_user)$$, 'each change of a status is in the history');
SET LOCAL ROLE sentient_operator;
UPDATE core.drones SET status = 'returning' WHERE call_sign = 'pgtap-1';
RESET ROLE;
SELECT results_eq($$SELECT db_role FROM core.drone_status_history WHERE to_status = 'returning'$$,
	$$VALUES ('sentient_operator'::name)$$, 'the history tells the role that made the change');
SELECT ok((SELECT is_allowed FROM core.drone_status_transitions WHERE from_status = 'standby' AND to_status = 'active'), 'standby to active is allowed');
SELECT ok(NOT EXISTS (SELECT FROM core.drone_status_transitions WHERE from_status = 'retired'), 'retired is the end');
SELECT is_empty($$SELECT status FROM core.drone_statuses WHERE status <> 'offline'
	AND status NOT IN (SELECT to_status FROM core.drone_status_transitions)$$, 'every status can be reached');
SELECT lives_ok($$INSERT INTO core.drone_statuses (status, description) VALUES ('offline', 'switched off')$$, 'an existing status may be inserted again');
SELECT results_eq($$SELECT description, is_builtin FROM core.drone_statuses WHERE status = 'offline'$$,
	$$VALUES ('switched off', true)$$, 'and its row is updated');
INSERT INTO core.drone_status_transitions (from_status, to_status, is_allowed) VALUES ('standby', 'active', false);
SELECT results_eq($$SELECT is_allowed, is_builtin FROM core.drone_status_transitions WHERE from_status = 'standby' AND to_status = 'active'$$,
	'VALUES (false, true)', 'an existing transition likewise');
SELECT throws_ok($$DELETE FROM core.drone_statuses WHERE status = 'offline'$$, '55000', NULL, 'a status of the extension cannot be deleted');
SELECT throws_ok($$DELETE FROM core.drone_status_transitions WHERE from_status = 'offline'$$, '55000', NULL, 'nor a transition');
SELECT throws_ok($$UPDATE core.drone_statuses SET status = 'off' WHERE status = 'offline'$$, '55000', NULL, 'nor can it be renamed');
SELECT throws_ok($$UPDATE core.drone_statuses SET is_builtin = false$$, '55000', NULL, 'nor disowned');
SELECT lives_ok($$INSERT INTO core.drone_statuses (status, description) VALUES ('parade', 'shown around')$$, 'a status can be added');
SELECT lives_ok($$INSERT INTO core.drone_status_transitions VALUES ('standby', 'parade')$$, 'and a transition to it');
SELECT lives_ok($$UPDATE core.drone_statuses SET status = 'show' WHERE status = 'parade'$$, 'an added status can be renamed');
SELECT lives_ok($$DELETE FROM core.drone_status_transitions WHERE to_status = 'show'$$, 'an added transition can be deleted');
SELECT lives_ok($$DELETE FROM core.drone_statuses WHERE status = 'show'$$, 'an added status can be deleted');

-- missions
SELECT lives_ok(format($$INSERT INTO core.missions (name, status, threat_level) VALUES ('pgtap', %L, %s)$$, status, level),
	format('a mission can be %s, threat level %s', status, level))
  FROM (VALUES ('planned', 0), ('active', 5), ('paused', 1), ('completed', 2), ('aborted', 3)) AS v (status, level);
SELECT throws_ok($$INSERT INTO core.missions (name, status) VALUES ('pgtap', 'lost')$$, '23514', NULL, 'an unknown status of a mission');
SELECT throws_ok($$INSERT INTO core.missions (name, threat_level) VALUES ('pgtap', 6)$$, '23514', NULL, 'threat level 6');
SELECT throws_ok($$INSERT INTO core.missions (name, threat_level) VALUES ('pgtap', -1)$$, '23514', NULL, 'threat level -1');
SELECT throws_ok($$INSERT INTO core.missions (name, planned_start, planned_end) VALUES ('pgtap', '2026-01-02', '2026-01-01')$$, '23514', NULL, 'a plan that ends before it begins');
SELECT throws_ok($$INSERT INTO core.missions (name, started_at, ended_at) VALUES ('pgtap', '2026-01-02', '2026-01-01')$$, '23514', NULL, 'a mission that ends before it begins');
SELECT throws_ok($$INSERT INTO core.missions (name) VALUES ('')$$, '23514', NULL, 'a mission without a name');
INSERT INTO core.mission_drones (mission_id, drone_id)
SELECT mission_id, drone_id FROM core.missions, core.drones WHERE missions.status = 'active' AND name = 'pgtap' AND call_sign = 'pgtap-1';
SELECT throws_ok($$DELETE FROM core.drones WHERE call_sign = 'pgtap-1'$$, '23503', NULL, 'a drone with missions cannot be deleted');

-- swarms
INSERT INTO core.swarms (name) VALUES ('pgtap a'), ('pgtap b');
INSERT INTO core.swarm_members (swarm_id, drone_id, role) SELECT swarms.swarm_id, drone_id, 'leader' FROM core.swarms, core.drones WHERE name = 'pgtap a' AND call_sign = 'pgtap-1';
SELECT throws_ok($$INSERT INTO core.swarm_members (swarm_id, drone_id) SELECT swarms.swarm_id, drone_id FROM core.swarms, core.drones WHERE name = 'pgtap b' AND call_sign = 'pgtap-1'$$,
	'23505', NULL, 'a drone is in one swarm at a time');
SELECT throws_ok($$INSERT INTO core.swarm_members (swarm_id, drone_id, role) SELECT swarms.swarm_id, drone_id, 'leader' FROM core.swarms, core.drones WHERE name = 'pgtap a' AND call_sign = 'pgtap-2'$$,
	'23505', NULL, 'a swarm has one leader');
UPDATE core.swarm_members SET left_at = joined_at;
SELECT lives_ok($$INSERT INTO core.swarm_members (swarm_id, drone_id) SELECT swarms.swarm_id, drone_id FROM core.swarms, core.drones WHERE name = 'pgtap b' AND call_sign = 'pgtap-1'$$,
	'who left may join another');

-- messages and channels
INSERT INTO core.messages (body) VALUES ('lost sheep near the river');
SELECT core.send_message('sheep rescue at dawn', confidential => true) IS NOT NULL AS sent \gset
SET LOCAL enable_seqscan = off;
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || query; END$$;
SELECT ok((SELECT string_agg(line, E'\n') FROM pg_temp.plan_of($$SELECT 1 FROM core.messages WHERE NOT confidential
	AND to_tsvector('pg_catalog.simple'::regconfig, coalesce(subject, '') || ' ' || body) @@ to_tsquery('sheep')$$) AS line) ~ 'messages_text_idx',
	'open messages are found by their words through an index');
SELECT throws_ok($$INSERT INTO core.messages (body) VALUES (NULL)$$, '23514', NULL, 'a message has a text');
SELECT throws_ok($$INSERT INTO core.messages (body, confidential) VALUES ('in clear', true)$$, '23514', NULL, 'which is not in clear when it is confidential');
INSERT INTO core.communication_channels (name, channel_type) VALUES ('pgtap', 'radio');
SELECT throws_ok($$UPDATE core.communication_channels SET frequency_mhz = 'NaN'$$, '23514', NULL, 'a frequency is a number');
SELECT throws_ok($$UPDATE core.communication_channels SET status = 'odd'$$, '23514', NULL, 'an unknown status of a channel');
INSERT INTO core.ai_models (name, version, model_type, status) VALUES ('pgtap', '1', 'detection', 'deployed');
SELECT throws_ok($$INSERT INTO core.ai_models (name, version, model_type, status) VALUES ('pgtap', '2', 'detection', 'deployed')$$, '23505', NULL, 'one version of a model is deployed');

SELECT * FROM finish();
ROLLBACK;
