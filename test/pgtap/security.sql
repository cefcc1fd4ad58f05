-- What keeps the roles of the extension from having code of theirs run by others.
BEGIN;
SELECT plan(24);

CREATE TEMP VIEW relation AS
SELECT c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('core', 'auth', 'telemetry', 'analytics', 'audit', 'sentient_edge') AND c.relkind IN ('r', 'p', 'v', 'm');
CREATE TEMP VIEW function AS
SELECT p.* FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid WHERE e.extname = 'sentient_edge';

SELECT is_empty($$SELECT oid::regclass FROM relation WHERE has_table_privilege('sentient_admin', oid, 'TRIGGER, REFERENCES')$$,
	'even sentient_admin may not hang a trigger or a foreign key on a table');
SELECT is_empty($$SELECT nspname FROM pg_namespace
	WHERE nspname IN ('core', 'auth', 'telemetry', 'analytics', 'audit', 'sentient_edge') AND has_schema_privilege('sentient_admin', oid, 'CREATE')$$,
	'nor create an object in a schema of the extension');
SELECT is_empty($$SELECT oid::regclass FROM relation CROSS JOIN LATERAL aclexplode((SELECT relacl FROM pg_class c WHERE c.oid = relation.oid)) a
	WHERE a.is_grantable AND a.grantee <> a.grantor$$, 'nor pass a right on');
SELECT is_empty($$SELECT oid::regprocedure FROM function
	WHERE prosecdef AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(proconfig, '{}'))$$,
	'a function that runs as its owner has a search_path of its own');
SELECT is_empty($$SELECT oid::regprocedure FROM function
	WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql') AND proconfig IS NULL AND proname <> 'touch_updated_at'$$,
	'and so has PL/pgSQL, which would keep types that it found under the caller''s');
SELECT is_empty($$SELECT oid::regprocedure FROM function
	WHERE prorettype IN ('trigger'::regtype, 'event_trigger'::regtype) AND has_function_privilege('sentient_admin', oid, 'EXECUTE')$$,
	'nobody may hang a trigger function of the extension on a table of his own');

-- A caller's mistake must not look like work that was done, or like nothing found.
SELECT throws_ok('SELECT ' || call, '22004', NULL, call || ' is refused')
  FROM unnest(ARRAY['audit.record_event(NULL, ''info'', ''x'')', 'audit.record_event(''app.x'', NULL, ''x'')',
	'audit.record_event(''app.x'', ''info'', ''x'', NULL)', 'audit.verify_digest(NULL)', 'audit.verify_events(NULL)', 'audit.verify_events(now(), NULL)',
	'audit.disable(NULL)', 'audit.watch(NULL)', 'audit.watch(''core.drones'', NULL)', 'audit.unwatch(NULL)', 'audit.seal(NULL)',
	'audit.set_anchor_sink(''x'', ''table'', NULL)', 'audit.drop_anchor_sink(NULL)', 'sentient_edge.rotate_data_key(NULL)',
	'sentient_edge.destroy_data_key(NULL)', 'sentient_edge.reencrypt_pause(NULL)', 'sentient_edge.reencrypt_resume(NULL)']) AS call;

CREATE TEMP TABLE strange (name integer, value integer);
CREATE TRIGGER strange BEFORE INSERT ON strange FOR EACH ROW EXECUTE FUNCTION sentient_edge.settings_check();
SELECT throws_ok('INSERT INTO strange VALUES (1, 2)', '39P01', NULL, 'where a superuser has, it raises an error');

SELECT * FROM finish();
ROLLBACK;
