-- Everything that a user meets has a comment.
BEGIN;
SELECT plan(7);

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
 WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'sentient_edge' AND d.deptype IN ('e', 'x');

SELECT is_empty($$SELECT n.nspname FROM pg_namespace n
	WHERE n.nspname IN ('sentient_edge', 'core', 'telemetry', 'analytics', 'auth', 'audit') AND obj_description(n.oid, 'pg_namespace') IS NULL$$, 'schemas have comments');
SELECT is_empty($$SELECT r.oid::regclass FROM pg_class r JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = r.oid
	WHERE r.relkind IN ('r', 'p', 'v', 'm') AND obj_description(r.oid, 'pg_class') IS NULL$$, 'tables and views have comments');
SELECT is_empty($$SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = a.attrelid
	JOIN pg_class r ON r.oid = a.attrelid
	WHERE r.relkind IN ('r', 'p', 'v', 'm') AND r.relname NOT LIKE '%\_template' AND a.attnum > 0 AND NOT a.attisdropped
	  AND col_description(a.attrelid, a.attnum) IS NULL$$, 'columns have comments');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
	WHERE obj_description(p.oid, 'pg_proc') IS NULL$$, 'functions have comments');
SELECT is_empty($$SELECT t.evtname FROM pg_event_trigger t JOIN member m ON m.classid = 'pg_event_trigger'::regclass AND m.objid = t.oid
	WHERE obj_description(t.oid, 'pg_event_trigger') IS NULL$$, 'event triggers have comments');
SELECT is_empty($$SELECT t.oid::regtype FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
	WHERE obj_description(t.oid, 'pg_type') IS NULL AND t.typcategory <> 'A'
	  AND (t.typrelid = 0 OR (SELECT relkind = 'c' FROM pg_class WHERE oid = t.typrelid))$$, 'types have comments');
SELECT is_empty($$SELECT rolname FROM pg_roles WHERE rolname ~ '^sentient_(admin|operator|analyst|viewer|app)$'
	AND shobj_description(oid, 'pg_authid') IS NULL$$, 'roles have comments');

SELECT * FROM finish();
ROLLBACK;
