-- What a dump carries of the extension's own tables, and foreign keys that stand back for a restore.
BEGIN;
SELECT plan(9);

CREATE TEMP VIEW member AS
SELECT r.oid, r.relkind, r.relname, e.extconfig, e.extcondition FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
  JOIN pg_class r ON d.classid = 'pg_class'::regclass AND r.oid = d.objid
 WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'sentient_edge' AND d.deptype = 'e';

-- Templates are empty; managed_tables tells what CREATE EXTENSION itself has made.
SELECT is_empty($$SELECT oid::regclass FROM member WHERE relkind IN ('r', 'S') AND NOT oid = ANY (extconfig)
	AND relname NOT LIKE '%\_template' AND relname <> 'managed_tables'$$,
	'rows of every member table and the state of every sequence are dumped');
SELECT is_empty($$SELECT oid::regclass FROM member WHERE relkind = 'p'$$, 'no partitioned table is a member');
SELECT is_empty($$
	SELECT c.conrelid::regclass, c.conname FROM pg_constraint c JOIN member m ON m.oid = c.conrelid WHERE c.contype = 'f' AND c.confrelid = c.conrelid$$,
	'no table refers to itself, which pg_dump would warn of');
SELECT is_empty($$
	WITH RECURSIVE reach (origin, target) AS (
		SELECT conrelid, confrelid FROM pg_constraint JOIN member m ON m.oid = conrelid WHERE contype = 'f'
		UNION
		SELECT origin, confrelid FROM reach JOIN pg_constraint ON conrelid = target AND contype = 'f')
	SELECT origin::regclass FROM reach WHERE origin = target$$, 'foreign keys have no cycle, so that a plain dump can sort its data');

SELECT is_empty('SELECT * FROM sentient_edge.foreign_keys WHERE NOT is_enforced', 'foreign keys are enforced');
SELECT ok(sentient_edge.enforce_foreign_keys(false) > 40, 'they can be suspended');
SELECT lives_ok($$INSERT INTO core.mission_drones (mission_id, drone_id) VALUES (gen_random_uuid(), gen_random_uuid())$$, 'which lets rows in before what they name');
DELETE FROM core.mission_drones;
SELECT ok(sentient_edge.enforce_foreign_keys() > 40, 'and enforced again');
SELECT throws_ok($$INSERT INTO core.mission_drones (mission_id, drone_id) VALUES (gen_random_uuid(), gen_random_uuid())$$, '23503', NULL, 'as before');

SELECT * FROM finish();
ROLLBACK;
