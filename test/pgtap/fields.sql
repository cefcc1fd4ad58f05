-- Sealed columns of core and auth: who reads them in clear, what binds them to their rows, and who may re-encrypt.
BEGIN;
SELECT plan(82);

SELECT col_type_is(s, t, c, 'sentient_edge', 'sealed', format('%s.%s.%s is sealed', s, t, c))
  FROM (VALUES ('core', 'drones', 'serial_number'), ('core', 'communication_channels', 'credentials'), ('core', 'messages', 'body_sealed'),
			   ('auth', 'users', 'mfa_secret'), ('auth', 'api_keys', 'signing_secret')) AS v (s, t, c);
SELECT is_empty($$SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid AND r.relkind IN ('r', 'p') AND r.relnamespace <> pg_my_temp_schema()
	WHERE a.atttypid = 'sentient_edge.sealed'::regtype AND NOT a.attisdropped AND r.relnamespace::regnamespace::text IN ('core', 'auth', 'telemetry', 'sentient_edge')
	AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.oid AND t.tgfoid = 'sentient_edge.require_context()'::regprocedure
		AND split_part(encode(t.tgargs, 'escape'), '\000', 1) = a.attname)$$, 'every sealed column has a trigger that binds its values to their rows');

-- who may call what
CREATE TEMP TABLE lowest (role_name name, function regprocedure);
INSERT INTO lowest VALUES
	('sentient_operator', 'core.set_drone_serial_number(uuid, text)'), ('sentient_operator', 'core.drone_serial_number(uuid)'),
	('sentient_operator', 'core.find_drone_by_serial_number(text)'), ('sentient_operator', 'core.set_channel_credentials(uuid, text)'),
	('sentient_admin', 'core.channel_credentials(uuid)'), ('sentient_operator', 'core.seal_message(uuid)'), ('sentient_operator', 'core.message_body(uuid)'),
	('sentient_operator', 'core.send_message(text, boolean, text, text, integer, uuid, uuid, uuid, uuid, uuid, uuid, uuid, uuid, jsonb)'),
	('sentient_admin', 'auth.set_user_mfa_secret(uuid, text)'), ('sentient_admin', 'auth.user_mfa_secret(uuid)'),
	('sentient_admin', 'auth.set_api_key_signing_secret(uuid, text)'), ('sentient_admin', 'auth.api_key_signing_secret(uuid)'),
	('sentient_admin', 'sentient_edge.reencrypt(regclass, name, name[])'), ('sentient_admin', 'sentient_edge.reencrypt_pause(uuid)'),
	('sentient_admin', 'sentient_edge.reencrypt_resume(uuid)');
SELECT is((SELECT array_agg(r ORDER BY o) FROM unnest('{sentient_app,sentient_viewer,sentient_analyst,sentient_operator,sentient_admin}'::name[]) WITH ORDINALITY AS u (r, o)
		   WHERE has_function_privilege(r, function, 'EXECUTE')),
	CASE role_name WHEN 'sentient_admin' THEN '{sentient_admin}'::name[] ELSE '{sentient_operator,sentient_admin}' END, format('%s is for %s', function, role_name))
  FROM lowest;
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p JOIN lowest ON p.oid = function WHERE p.prosecdef AND p.proname NOT IN ('drone_serial_number', 'message_body')$$,
	'those that need no more rights than their callers have none');

-- serial numbers
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES
	('00000000-0000-4000-8000-0000000000f1', 'fields-1', 'vtol'), ('00000000-0000-4000-8000-0000000000f2', 'fields-2', 'vtol');
SET LOCAL ROLE sentient_operator;
SELECT lives_ok($$SELECT core.set_drone_serial_number('00000000-0000-4000-8000-0000000000f1', 'SN canary ä')$$, 'an operator sets a serial number');
SELECT is(core.drone_serial_number('00000000-0000-4000-8000-0000000000f1'), 'SN canary ä', 'and reads it');
SELECT is(core.find_drone_by_serial_number('SN canary ä'), '00000000-0000-4000-8000-0000000000f1', 'and finds the drone by it');
SELECT is(core.find_drone_by_serial_number('SN canary'), NULL, 'but by no other');
SELECT is(core.drone_serial_number('00000000-0000-4000-8000-0000000000f2'), NULL, 'a drone without one has none');
SELECT is(core.drone_serial_number('00000000-0000-4000-8000-0000000000f9'), NULL, 'nor has an unknown drone');
SELECT throws_ok($$SELECT core.set_drone_serial_number('00000000-0000-4000-8000-0000000000f2', 'SN canary ä')$$, '23505', 'another drone has this serial number', 'it is unique');
SELECT throws_ok($$SELECT core.set_drone_serial_number('00000000-0000-4000-8000-0000000000f9', 'SN 9')$$, 'P0002', NULL, 'an unknown drone gets none');
SELECT lives_ok($$SELECT core.set_drone_serial_number('00000000-0000-4000-8000-0000000000f1', 'SN canary ä')$$, 'the same again is no other');
SELECT throws_ok($$UPDATE core.drones SET serial_number = 'SN in clear' WHERE call_sign = 'fields-1'$$, '22P02', NULL, 'the column takes no clear text');
SELECT throws_ok($$UPDATE core.drones SET serial_number = sentient_edge.seal('SN 2', 'core.drones.serial_number:' || drone_id) WHERE call_sign = 'fields-2'$$, '23514', NULL, 'nor a value that cannot be searched');
SELECT throws_ok($$UPDATE core.drones SET serial_number = sentient_edge.seal('SN 2', 'core.drones.serial_number:00000000-0000-4000-8000-0000000000f1', true) WHERE call_sign = 'fields-2'$$, 'SE002', NULL, 'nor one of another row');
SELECT throws_ok($$UPDATE core.drones SET drone_id = '00000000-0000-4000-8000-0000000000f3' WHERE call_sign = 'fields-1'$$, 'SE002', NULL, 'a value does not follow a row to another key');
SELECT throws_ok($$UPDATE core.drones SET serial_number = sentient_edge.seal('SN canary ä', 'core.drones.serial_number:' || drone_id, true) WHERE call_sign = 'fields-2'$$, '23505', NULL, 'the index sees that it is unique, too');
SELECT throws_ok($$SELECT sentient_edge.unseal(serial_number, 'core.drones.serial_number:' || drone_id) FROM core.drones$$, '42501', NULL, 'an operator unseals nothing by himself');
SELECT lives_ok($$UPDATE core.drones SET model = 'other' WHERE call_sign = 'fields-1'$$, 'other columns change freely');
RESET ROLE;
SET LOCAL enable_seqscan = off;
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; plan text := ''; BEGIN FOR line IN EXECUTE 'EXPLAIN ' || query LOOP plan := plan || line || E'\n'; END LOOP; RETURN plan; END $$;
SELECT matches(pg_temp.plan_of($$SELECT 1 FROM core.drones d WHERE d.serial_number = ANY (sentient_edge.search_tokens('x', 'core.drones.serial_number:'))$$),
	'drones_serial_number_key', 'a drone is found through the index');
SET LOCAL ROLE sentient_viewer;
SELECT matches((SELECT serial_number::text FROM core.drones WHERE call_sign = 'fields-1'), '^sealed:', 'a viewer sees an envelope');
SELECT throws_ok($$SELECT core.drone_serial_number('00000000-0000-4000-8000-0000000000f1')$$, '42501', NULL, 'and opens none');
SELECT throws_ok($$SELECT core.find_drone_by_serial_number('SN canary ä')$$, '42501', NULL, 'and tries no guesses');
RESET ROLE;
SELECT lives_ok($$SELECT core.set_drone_serial_number('00000000-0000-4000-8000-0000000000f1', NULL)$$, 'NULL removes it');
SELECT is(core.find_drone_by_serial_number('SN canary ä'), NULL, 'so that nothing is found');

-- channels
INSERT INTO core.communication_channels (channel_id, name, channel_type) VALUES ('00000000-0000-4000-8000-0000000000c1', 'fields', 'radio');
SET LOCAL ROLE sentient_operator;
SELECT lives_ok($$SELECT core.set_channel_credentials('00000000-0000-4000-8000-0000000000c1', 'opensesame')$$, 'an operator sets credentials');
SELECT throws_ok($$SELECT core.channel_credentials('00000000-0000-4000-8000-0000000000c1')$$, '42501', NULL, 'and does not read them');
SELECT throws_ok($$SELECT core.set_channel_credentials('00000000-0000-4000-8000-0000000000c9', 'x')$$, 'P0002', NULL, 'an unknown channel');
RESET ROLE;
SET LOCAL ROLE sentient_admin;
SELECT is(core.channel_credentials('00000000-0000-4000-8000-0000000000c1'), 'opensesame', 'an administrator does');
RESET ROLE;

-- messages
SET LOCAL ROLE sentient_operator;
SELECT core.send_message('meet at the pier', true, 'fields', priority => 9) AS hidden, core.send_message('good morning', subject => 'fields') AS open \gset
SELECT results_eq($$SELECT confidential, body, body_sealed IS NOT NULL, priority::integer FROM core.messages WHERE subject = 'fields' ORDER BY confidential$$,
	$$VALUES (false, 'good morning', false, 5), (true, NULL, true, 9)$$, 'the text of a confidential message is sealed, that of others is not');
SELECT is(core.message_body(:'hidden'), 'meet at the pier', 'an operator reads a confidential message');
SELECT is(core.message_body(:'open'), 'good morning', 'and an open one by the same function');
SELECT ok(core.seal_message(:'open'), 'a message becomes confidential afterwards');
SELECT ok(NOT core.seal_message(:'open'), 'but once');
SELECT is(core.message_body(:'open'), 'good morning', 'and says what it said');
SELECT throws_ok($$SELECT core.send_message(NULL)$$, '23514', NULL, 'a message has a text');
RESET ROLE;
SELECT is((SELECT count(*) FROM core.messages WHERE subject = 'fields' AND body IS NOT NULL), 0::bigint, 'nothing of it stays in clear');

-- users and keys of programs
INSERT INTO auth.users (user_id, username) VALUES ('00000000-0000-4000-8000-0000000000a1', 'fields');
INSERT INTO auth.api_keys (key_id, user_id, name, prefix, key_hash) VALUES ('00000000-0000-4000-8000-0000000000b1', '00000000-0000-4000-8000-0000000000a1', 'fields', 'se_fields', sha256('fields'));
SET LOCAL ROLE sentient_admin;
SELECT auth.set_user_mfa_secret('00000000-0000-4000-8000-0000000000a1', 'JBSWY3DPEHPK3PXP'), auth.set_api_key_signing_secret('00000000-0000-4000-8000-0000000000b1', 'hmac') \gset ignored
SELECT is(auth.user_mfa_secret('00000000-0000-4000-8000-0000000000a1'), 'JBSWY3DPEHPK3PXP', 'an administrator sets and reads the secret of a second factor');
SELECT is(auth.api_key_signing_secret('00000000-0000-4000-8000-0000000000b1'), 'hmac', 'and that of a program');
SELECT throws_ok($$SELECT auth.set_user_mfa_secret('00000000-0000-4000-8000-0000000000a9', 'x')$$, 'P0002', NULL, 'an unknown user');
SELECT throws_ok($$SELECT auth.set_api_key_signing_secret('00000000-0000-4000-8000-0000000000b9', 'x')$$, 'P0002', NULL, 'an unknown key');
RESET ROLE;

-- a superuser exchanges what is in two rows
INSERT INTO auth.users (user_id, username) VALUES ('00000000-0000-4000-8000-0000000000a2', 'fields-2');
SET LOCAL session_replication_role = replica;
UPDATE auth.users SET mfa_secret = (SELECT mfa_secret FROM auth.users WHERE username = 'fields') WHERE username = 'fields-2';
SET LOCAL session_replication_role = origin;
SELECT throws_ok($$SELECT auth.user_mfa_secret('00000000-0000-4000-8000-0000000000a2')$$, 'SE002', NULL, 'a value that was put into another row behind the trigger does not open');

-- what can be re-encrypted, and by whom
CREATE TABLE public.fields_open (id integer PRIMARY KEY, secret sentient_edge.sealed, other text);
CREATE TABLE public.fields_part (id integer, secret sentient_edge.sealed) PARTITION BY HASH (id);
CREATE TABLE public.fields_part_0 PARTITION OF public.fields_part FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE public.fields_unique (id integer, secret sentient_edge.sealed UNIQUE DEFERRABLE);
CREATE TEMP TABLE fields_temp (id integer, secret sentient_edge.sealed);
CREATE VIEW public.fields_view AS SELECT * FROM public.fields_open;
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_open', 'secret')$$, '22023', NULL, 'without a trigger the context is not known');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_open', 'secret', '{nothing}')$$, '42703', NULL, 'nor from columns that are not there');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_open', 'secret', '{}')$$, '22023', NULL, 'or from none');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_open', 'other', '{id}')$$, '42804', NULL, 'a column of another type');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_open', 'nothing', '{id}')$$, '42703', NULL, 'no column');
SELECT throws_ok($$SELECT sentient_edge.reencrypt(4294967295::regclass, 'secret', '{id}')$$, '42P01', NULL, 'no table');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_view', 'secret', '{id}')$$, '42809', NULL, 'a view');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_part_0', 'secret', '{id}')$$, '0A000', NULL, 'a single partition');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('fields_temp', 'secret', '{id}')$$, '0A000', NULL, 'a temporary table');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_unique', 'secret', '{id}')$$, '0A000', NULL, 'a deferrable constraint');
SELECT throws_ok($$SELECT sentient_edge.reencrypt(NULL, 'secret')$$, '22004', NULL, 'nothing at all');
SELECT lives_ok($$SELECT sentient_edge.reencrypt('public.fields_open', 'secret', '{id}')$$, 'a superuser re-encrypts any table');
SET LOCAL ROLE sentient_admin;
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_part', 'secret', '{id}')$$, '42501', NULL, 'an administrator only those that he may update');
SELECT throws_ok($$SELECT sentient_edge.reencrypt('public.fields_open', 'secret', '{id}')$$, '42501', NULL, 'whatever is at work already');
SELECT lives_ok($$SELECT sentient_edge.reencrypt('core.communication_channels', 'credentials')$$, 'such as those of core');
SELECT is((SELECT concat_ws('|', table_name, column_name, context_columns, state, requested_by = session_user) FROM sentient_edge.reencryptions WHERE table_name ~ '^core'),
	'core.communication_channels|credentials|{channel_id}|running|t', 'and sees what is going on');
SELECT throws_ok($$UPDATE sentient_edge.reencryptions SET state = 'finished'$$, '42501', NULL, 'but does not write it');
SELECT throws_ok($$SELECT sentient_edge.reencrypt_pause('00000000-0000-4000-8000-0000000000e1')$$, '42704', NULL, 'an unknown id');
SELECT throws_ok($$SELECT sentient_edge.reencrypt_resume(reencryption_id) FROM sentient_edge.reencryptions$$, '55000', NULL, 'what is running cannot be resumed');
SELECT lives_ok($$SELECT sentient_edge.reencrypt_pause(reencryption_id) FROM sentient_edge.reencryptions$$, 'but paused');
SELECT set_eq($$SELECT state FROM sentient_edge.reencrypt_progress$$, $$VALUES ('paused')$$, 'so it is');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
