-- The roles: who is above whom, and what they can do in the cluster.
BEGIN;
SELECT plan(15);

SELECT has_role(name) FROM unnest('{sentient_admin,sentient_operator,sentient_analyst,sentient_viewer,sentient_app}'::name[]) AS name;
SELECT is_member_of('sentient_viewer', 'sentient_analyst', 'an analyst is a viewer');
SELECT is_member_of('sentient_analyst', 'sentient_operator', 'an operator is an analyst');
SELECT is_member_of('sentient_operator', 'sentient_admin', 'an administrator is an operator');
SELECT ok(NOT pg_has_role('sentient_viewer', 'sentient_analyst', 'MEMBER'), 'a viewer is no analyst');
SELECT ok(NOT pg_has_role('sentient_operator', 'sentient_admin', 'MEMBER'), 'an operator is no administrator');
SELECT is_empty($$SELECT rolname FROM pg_roles WHERE rolname ~ '^sentient_(admin|operator|analyst|viewer)$' AND rolcanlogin$$,
	'the group roles cannot log in');
SELECT results_eq($$SELECT rolcanlogin FROM pg_roles WHERE rolname = 'sentient_app'$$, 'VALUES (true)', 'sentient_app can log in');
SELECT is_empty($$SELECT rolname FROM pg_roles WHERE rolname ~ '^sentient_(admin|operator|analyst|viewer|app)$'
	AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)$$, 'no role has an attribute of power');
SELECT is_empty($$SELECT roleid::regrole FROM pg_auth_members WHERE member = 'sentient_app'::regrole$$, 'sentient_app is a member of nothing');
SELECT is_empty($$
	SELECT d.classid::regclass, d.objid FROM pg_shdepend d
	 WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = 'sentient_app'::regrole
	   AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())$$, 'sentient_app holds nothing');

SELECT * FROM finish();
ROLLBACK;
