-- Who may do what: PUBLIC nothing, secrets only administrators, the audit trail nobody by hand.
BEGIN;
SELECT plan(44);

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
 WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'sentient_edge' AND d.deptype IN ('e', 'x');
CREATE TEMP VIEW ours AS
SELECT r.oid, r.relname, n.nspname, r.relkind, r.relacl FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE n.nspname IN ('sentient_edge', 'core', 'telemetry', 'analytics', 'auth', 'audit');
CREATE FUNCTION pg_temp.may_write(role_name name, relation oid) RETURNS boolean LANGUAGE sql AS $$
	SELECT has_table_privilege(role_name, relation, 'INSERT, UPDATE, DELETE, TRUNCATE')
		OR has_any_column_privilege(role_name, relation, 'INSERT, UPDATE')
$$;

-- PUBLIC
SELECT is_empty($$SELECT nspname FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a
	WHERE nspname IN ('sentient_edge', 'core', 'telemetry', 'analytics', 'auth', 'audit') AND a.grantee = 0$$, 'PUBLIC has nothing on the schemas');
SELECT is_empty($$SELECT o.oid::regclass FROM ours o, aclexplode(o.relacl) a WHERE a.grantee = 0$$, 'PUBLIC has nothing on the tables, views and sequences');
SELECT is_empty($$SELECT attrelid::regclass, attname FROM pg_attribute JOIN ours ON ours.oid = attrelid, aclexplode(attacl) a WHERE a.grantee = 0$$, 'PUBLIC has nothing on columns');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid,
	aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0$$, 'PUBLIC executes no function');
SELECT is_empty($$SELECT o.oid::regclass FROM ours o, aclexplode(o.relacl) a WHERE a.grantee <> 0 AND a.grantee::regrole::text !~ '^sentient_(admin|operator|analyst|viewer)$'
	AND a.grantee <> (SELECT relowner FROM pg_class WHERE oid = o.oid)$$, 'nobody but the roles has anything');

-- schemas
SELECT results_eq(format($$SELECT n FROM unnest('{analytics,audit,auth,core,sentient_edge,telemetry}'::text[]) AS n WHERE has_schema_privilege(%L, n, 'USAGE')$$, role),
	format('SELECT unnest(%L::text[])', schemas), role || ' uses ' || schemas)
  FROM (VALUES ('sentient_viewer', '{analytics,audit,core,sentient_edge,telemetry}'), ('sentient_analyst', '{analytics,audit,core,sentient_edge,telemetry}'),
			   ('sentient_operator', '{analytics,audit,core,sentient_edge,telemetry}'), ('sentient_admin', '{analytics,audit,auth,core,sentient_edge,telemetry}'),
			   ('sentient_app', '{}')) AS v (role, schemas);
SELECT is_empty($$SELECT r, n FROM unnest('{sentient_viewer,sentient_analyst,sentient_operator,sentient_admin}'::name[]) AS r,
	unnest('{analytics,audit,auth,core,sentient_edge,telemetry}'::text[]) AS n WHERE has_schema_privilege(r, n, 'CREATE')$$, 'nobody creates objects in the schemas');

-- viewer
SELECT is_empty($$SELECT nspname, relname FROM ours WHERE relkind IN ('r', 'p', 'v') AND pg_temp.may_write('sentient_viewer', oid)$$, 'a viewer writes nothing');
SELECT is_empty($$SELECT relname FROM ours WHERE nspname = 'core' AND relkind = 'r' AND NOT has_any_column_privilege('sentient_viewer', oid, 'SELECT')$$, 'a viewer reads core');
SELECT table_privs_are('core', 'drones', 'sentient_viewer', ARRAY['SELECT']);
SELECT is_empty($$SELECT relname FROM ours WHERE nspname IN ('auth', 'audit') AND relkind IN ('r', 'p')
	AND has_any_column_privilege('sentient_operator', oid, 'SELECT, INSERT, UPDATE')$$, 'nobody below an administrator has anything in auth and audit');

-- analyst
SELECT table_privs_are('analytics', 'drone_analytics', 'sentient_viewer', ARRAY['SELECT']);
SELECT table_privs_are('analytics', 'mission_analytics', 'sentient_viewer', ARRAY['SELECT']);
SELECT table_privs_are('analytics', 'user_analytics', 'sentient_viewer', ARRAY[]::name[]);
SELECT table_privs_are('analytics', 'system_performance', 'sentient_viewer', ARRAY[]::name[]);
SELECT table_privs_are('analytics', 'user_analytics', 'sentient_analyst', ARRAY['SELECT']);
SELECT table_privs_are('analytics', 'system_performance', 'sentient_analyst', ARRAY['SELECT']);
SELECT is_empty($$SELECT nspname, relname FROM ours WHERE nspname IN ('core', 'analytics') AND relkind IN ('r', 'p', 'v')
	AND pg_temp.may_write('sentient_analyst', oid)$$, 'an analyst writes nothing in core and analytics');

-- operator
SELECT table_privs_are('core', t, 'sentient_operator', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'])
  FROM unnest('{drones,swarms,swarm_members,missions,mission_drones,messages,ai_models}'::name[]) AS t;
SELECT table_privs_are('core', 'drone_status_history', 'sentient_admin', ARRAY['SELECT']);
SELECT table_privs_are('core', 'drone_status_transitions', 'sentient_operator', ARRAY['SELECT']);
SELECT table_privs_are('core', 'drone_status_transitions', 'sentient_admin', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']);

-- administrator
SELECT table_privs_are('auth', t, 'sentient_admin', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) FROM unnest('{users,user_sessions,api_keys}'::name[]) AS t;
SELECT is_empty($$SELECT relname FROM ours WHERE nspname = 'audit' AND relkind IN ('r', 'p') AND pg_temp.may_write('sentient_admin', oid)$$, 'nobody writes or deletes in audit by hand');
SELECT table_privs_are('audit', 'log', 'sentient_admin', ARRAY['SELECT']);
SELECT is_empty($$SELECT nspname, relname FROM ours WHERE CASE relkind WHEN 'S' THEN has_sequence_privilege('sentient_admin', oid, 'UPDATE') END$$, 'nobody sets a sequence');

-- secrets
SELECT ok(NOT has_column_privilege('sentient_operator', 'core.communication_channels', 'credentials', 'SELECT'), 'an operator does not read credentials');
SELECT ok(has_column_privilege('sentient_operator', 'core.communication_channels', 'credentials', 'UPDATE'), 'but sets them');
INSERT INTO core.communication_channels (name, channel_type) VALUES ('pgtap', 'radio');
SELECT core.send_message('open', false, 'pgtap') IS NOT NULL AND core.send_message('hidden', true, 'pgtap') IS NOT NULL AS sent \gset
SET LOCAL ROLE sentient_viewer;
CREATE FUNCTION pg_temp.messages() RETURNS SETOF text LANGUAGE sql AS $$SELECT coalesce(body, 'sealed') FROM core.messages WHERE subject = 'pgtap'$$;
SELECT lives_ok($$SELECT name, status FROM core.communication_channels$$, 'a viewer sees channels');
SELECT throws_ok($$SELECT credentials FROM core.communication_channels$$, '42501', NULL, 'without credentials');
SELECT results_eq('SELECT * FROM pg_temp.messages()', $$VALUES ('open')$$, 'a viewer sees no confidential message');
RESET ROLE;
SET LOCAL ROLE sentient_operator;
SELECT set_eq('SELECT * FROM pg_temp.messages()', $$VALUES ('open'), ('sealed')$$, 'an operator does');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
