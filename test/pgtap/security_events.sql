-- audit.security_events: what belongs to a transaction, what applications record, the list of watched tables, and who may what.
BEGIN;
SELECT plan(36);

SELECT columns_are('audit', 'security_events', ARRAY['event_id', 'occurred_at', 'last_occurred_at', 'transaction_id', 'event_count', 'event_type', 'severity', 'succeeded',
	'user_id', 'username', 'db_role', 'client_addr', 'application_name', 'object', 'message', 'details', 'mac']);
CREATE TEMP VIEW event AS SELECT * FROM audit.security_events WHERE transaction_id = pg_current_xact_id();

-- DDL
CREATE TABLE public.pgtap_events (a int, b text);
SELECT results_eq($$SELECT event_type, severity, succeeded, db_role::text, details FROM event WHERE object = 'public.pgtap_events'$$,
	$$SELECT 'ddl', 'info', true, session_user::text, '{"command": "CREATE TABLE", "object_type": "table"}'::jsonb$$, 'CREATE TABLE');
ALTER TABLE public.pgtap_events ADD COLUMN c int;
CREATE INDEX ON public.pgtap_events (a);
SELECT set_eq($$SELECT object, details->>'command' FROM event WHERE object LIKE 'public.pgtap_events%'$$,
	$$VALUES ('public.pgtap_events', 'CREATE TABLE'), ('public.pgtap_events', 'ALTER TABLE'), ('public.pgtap_events_a_idx', 'CREATE INDEX')$$, 'ALTER TABLE, CREATE INDEX');
CREATE TEMP TABLE pgtap_temporary (a int);
DROP TABLE pgtap_temporary;
SELECT is_empty($$SELECT * FROM event WHERE object LIKE '%pgtap_temporary%'$$, 'temporary objects are not recorded');
GRANT SELECT, UPDATE ON public.pgtap_events TO sentient_viewer;
SELECT results_eq($$SELECT object, details->>'privileges', details->>'to', details->>'command' FROM event WHERE event_type = 'privilege_changed' AND object = 'public.pgtap_events'$$,
	$$VALUES ('public.pgtap_events', 'select, update', 'sentient_viewer', 'GRANT')$$, 'GRANT');
REVOKE ALL ON public.pgtap_events FROM sentient_viewer;
SELECT results_eq($$SELECT details->>'privileges', details->>'from' FROM event WHERE event_type = 'privilege_changed' AND details->>'command' = 'REVOKE'$$,
	$$VALUES ('all', 'sentient_viewer')$$, 'REVOKE');
CREATE FUNCTION public.pgtap_function(secret text) RETURNS text LANGUAGE sql AS $$SELECT 'canary'$$;
SELECT results_eq($$SELECT object FROM event WHERE object LIKE 'public.pgtap_function%'$$, $$VALUES ('public.pgtap_function(pg_catalog.text)')$$, 'CREATE FUNCTION');
-- what is named by types
CREATE TYPE public.pgtap_type AS (a int);
CREATE FUNCTION public.pgtap_cast(public.pgtap_type) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE CAST (public.pgtap_type AS int) WITH FUNCTION public.pgtap_cast(public.pgtap_type);
SELECT lives_ok('DROP CAST (public.pgtap_type AS int)', 'a cast is dropped');

-- roles
CREATE ROLE pgtap_role PASSWORD 'canary' CREATEROLE;
SELECT results_eq($$SELECT severity, details->>'options' FROM event WHERE event_type = 'role_changed' AND object = 'pgtap_role'$$,
	$$VALUES ('warning', 'password, createrole')$$, 'CREATE ROLE names its options');
GRANT sentient_viewer TO pgtap_role;
SELECT results_eq($$SELECT details->>'to' FROM event WHERE event_type = 'role_changed' AND object = 'sentient_viewer'$$, $$VALUES ('pgtap_role')$$, 'GRANT of a role');
ALTER ROLE pgtap_role RENAME TO pgtap_renamed;
DROP ROLE pgtap_renamed;
SELECT set_eq($$SELECT details->>'command' FROM event WHERE event_type = 'role_changed' AND object IN ('pgtap_role', 'pgtap_renamed')$$,
	$$VALUES ('CREATE ROLE'), ('ALTER ROLE'), ('DROP ROLE')$$, 'ALTER and DROP ROLE');

-- a subtransaction takes its events with it
SAVEPOINT before;
CREATE TABLE public.pgtap_undone ();
SELECT isnt_empty($$SELECT * FROM event WHERE object = 'public.pgtap_undone'$$, 'an event of a subtransaction');
ROLLBACK TO before;
SELECT is_empty($$SELECT * FROM event WHERE object = 'public.pgtap_undone' AND succeeded$$, 'goes with it');

-- applications
SELECT ok(audit.record_event('app.door', 'notice', 'opened', '{"door": 7}') IS NOT NULL, 'an application records an event');
SELECT results_eq($$SELECT event_type, severity, message, details, succeeded, event_count FROM event WHERE event_type LIKE 'app.%'$$,
	$$VALUES ('app.door', 'notice', 'opened', '{"door": 7}'::jsonb, NULL::boolean, 1::bigint)$$, 'as it was given');
SELECT throws_ok($$SELECT audit.record_event('login', 'info', 'x')$$, '22023', NULL, 'no event of the server''s own');
SELECT throws_ok($$SELECT audit.record_event('app.x', 'info', NULL)$$, '22004', NULL, 'no message');
SELECT throws_ok($$SELECT audit.record_event('app.x', 'bad', 'x')$$, '22023', NULL, 'an unknown severity');
SELECT throws_ok($$SELECT audit.record_event('app.x', 'info', 'x', '[1]')$$, '22023', NULL, 'details that are no object');
SELECT throws_ok($$SELECT audit.record_event('app.Not this', 'info', 'x')$$, '23514', NULL, 'a type with other characters');
SELECT ok(audit.record_event('app.long', 'info', repeat('x', 100000)) IS NOT NULL, 'a long message');

-- watched tables
SELECT lives_ok($$SELECT audit.watch('public.pgtap_events')$$, 'a table is watched');
SELECT lives_ok($$SELECT audit.watch('public.pgtap_events', 10)$$, 'from another number on');
SELECT results_eq($$SELECT watched_table::text, rows_threshold FROM audit.watched_tables$$, $$VALUES ('pgtap_events', 10::bigint)$$, 'it is in the list once');
SELECT throws_ok($$SELECT audit.watch('public.pgtap_events', 0)$$, '22023', NULL, 'not from 0 rows on');
SELECT throws_ok($$SELECT audit.watch('sentient_edge.workers')$$, '42809', NULL, 'no view');
CREATE TEMP TABLE pgtap_temporary (a int);
SELECT throws_ok($$SELECT audit.watch('pgtap_temporary')$$, '42809', NULL, 'no temporary table');
SELECT is(audit.unwatch('telemetry.drone_latest'), false, 'one that is not watched');
SELECT set_eq($$SELECT object, details->>'operation' FROM event WHERE event_type = 'audit_changed'$$, $$VALUES ('public.pgtap_events', 'watch')$$, 'to watch is an event');
DROP TABLE public.pgtap_events;
SELECT is_empty('SELECT * FROM audit.watched_tables', 'a table that is gone is not watched');
SELECT results_eq($$SELECT details FROM event WHERE object = 'public.pgtap_events' AND details->>'command' = 'DROP TABLE'$$,
	$$VALUES ('{"command": "DROP TABLE", "object_type": "table"}'::jsonb)$$, 'DROP TABLE');

SELECT is_empty($$SELECT * FROM event e WHERE e::text LIKE '%canary%'$$, 'no password, no code, no text of a statement');
SELECT is_empty('SELECT * FROM audit.verify_events()', 'nothing is found');

-- who may what
SELECT ok(has_function_privilege('sentient_operator', 'audit.record_event(text, text, text, jsonb)', 'EXECUTE')
	AND NOT has_function_privilege('sentient_analyst', 'audit.record_event(text, text, text, jsonb)', 'EXECUTE'), 'operators record events');
SELECT is_empty($$SELECT f FROM unnest('{"audit.watch(regclass, bigint)", "audit.unwatch(regclass)", "audit.verify_events(timestamptz, timestamptz)", "audit.event_statistics()"}'::text[]) f
	WHERE NOT has_function_privilege('sentient_admin', f, 'EXECUTE') OR has_function_privilege('sentient_operator', f, 'EXECUTE')$$, 'administrators do the rest');
SET LOCAL ROLE sentient_operator;
SELECT lives_ok($$SELECT audit.record_event('app.operator', 'info', 'x')$$, 'an operator''s event is written though he may not write the table');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
