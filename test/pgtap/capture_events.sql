-- What stops capture, or changes rows past it, is told: triggers disabled, dropped, replaced and renamed, rows rewritten, partitions that come and go.
BEGIN;
SELECT plan(47);
SET LOCAL client_min_messages = warning;
CREATE SCHEMA pgtap_capture;
CREATE ROLE pgtap_capture_owner;
GRANT USAGE, CREATE ON SCHEMA pgtap_capture TO pgtap_capture_owner;
GRANT sentient_viewer TO pgtap_capture_owner;

-- The events of a command, without those of DDL.
CREATE FUNCTION pgtap_capture.told(VARIADIC commands text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	command text;
	known uuid[] := (SELECT array_agg(event_id) FROM audit.security_events);
BEGIN
	FOREACH command IN ARRAY commands LOOP
		EXECUTE command;
	END LOOP;
	RETURN QUERY SELECT concat_ws(' ', e.severity, e.object || ':', e.message, e.details - 'role') FROM audit.security_events e
		WHERE e.event_type = 'audit_changed' AND e.transaction_id = pg_current_xact_id() AND e.event_id <> ALL (known) ORDER BY e.occurred_at;
END
$$;
CREATE TABLE pgtap_capture.untold (id integer PRIMARY KEY, v text);
CREATE TABLE pgtap_capture.t (id integer PRIMARY KEY, v text);
INSERT INTO pgtap_capture.t VALUES (1, '1'), (2, '2');
CREATE FUNCTION pgtap_capture.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER other AFTER INSERT ON pgtap_capture.t FOR EACH ROW EXECUTE FUNCTION pgtap_capture.nothing();

-- enable, disable
SELECT results_eq($$SELECT pgtap_capture.told('SELECT audit.enable(''pgtap_capture.t'')')$$,
	$$VALUES ('notice pgtap_capture.t: changes are captured {"mask": "{}", "exclude": "{}", "operation": "enable"}')$$, 'a table is audited from now on');
SELECT is_empty($$SELECT pgtap_capture.told('SELECT audit.enable(''pgtap_capture.t'')')$$, 'nothing changes');
SELECT results_eq($$SELECT pgtap_capture.told('SELECT audit.enable(''pgtap_capture.t'', ''{v}'')')$$,
	$$VALUES ('warning pgtap_capture.t: what is captured was changed {"mask": "{}", "exclude": "{v}", "operation": "enable"}')$$, 'with fewer columns');
SELECT results_eq($$SELECT pgtap_capture.told('SELECT audit.disable(''pgtap_capture.t'')')$$,
	$$VALUES ('warning pgtap_capture.t: changes are no longer captured {"operation": "disable"}')$$, 'no longer');
SELECT is_empty($$SELECT pgtap_capture.told('SELECT audit.disable(''pgtap_capture.t'')')$$, 'once');
DO $$BEGIN PERFORM audit.enable('pgtap_capture.t'); END$$;

-- triggers
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t DISABLE TRIGGER sentient_audit_row')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "rows", "command": "ALTER TABLE"}')$$, 'a trigger is disabled');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ENABLE TRIGGER sentient_audit_row')$$,
	$$VALUES ('warning pgtap_capture.t: session_replication_role stops capture {"of": "rows", "command": "ALTER TABLE"}')$$, 'enabled, but not always');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ENABLE REPLICA TRIGGER sentient_audit_row')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "rows", "command": "ALTER TABLE"}')$$, 'for replicas alone');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ENABLE ALWAYS TRIGGER sentient_audit_row')$$,
	$$VALUES ('notice pgtap_capture.t: capture goes on {"command": "ALTER TABLE"}')$$, 'enabled always');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ADD s serial, DISABLE TRIGGER sentient_audit_row')$$,
	$$VALUES ('warning pgtap_capture.t: rows were rewritten without entries {"columns": "s", "command": "ALTER TABLE"}'), ('warning pgtap_capture.t: capture was stopped {"of": "rows", "command": "ALTER TABLE"}')$$,
	'disabled by a command that makes a sequence first');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ENABLE ALWAYS TRIGGER sentient_audit_row, DROP s')$$,
	$$VALUES ('notice pgtap_capture.t: capture goes on {"command": "ALTER TABLE"}')$$, 'and enabled by one that drops it');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t DISABLE TRIGGER USER')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "rows, TRUNCATE", "command": "ALTER TABLE"}')$$, 'DISABLE TRIGGER USER');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ENABLE ALWAYS TRIGGER sentient_audit_row', 'ALTER TABLE pgtap_capture.t ENABLE ALWAYS TRIGGER sentient_audit_truncate')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "TRUNCATE", "command": "ALTER TABLE"}'), ('notice pgtap_capture.t: capture goes on {"command": "ALTER TABLE"}')$$, 'one after the other');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t DISABLE TRIGGER ALL')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "rows, TRUNCATE", "command": "ALTER TABLE"}')$$, 'DISABLE TRIGGER ALL');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ENABLE TRIGGER ALL')$$,
	$$VALUES ('warning pgtap_capture.t: session_replication_role stops capture {"of": "rows, TRUNCATE", "command": "ALTER TABLE"}')$$, 'ENABLE TRIGGER ALL');
SELECT results_eq($$SELECT pgtap_capture.told('SELECT audit.enable(''pgtap_capture.t'')')$$,
	$$VALUES ('notice pgtap_capture.t: changes are captured {"mask": "{}", "exclude": "{}", "operation": "enable"}')$$, 'audit.enable makes it good');
SELECT is_empty($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t DISABLE TRIGGER other', 'ALTER TABLE pgtap_capture.t ENABLE TRIGGER other', 'DROP TRIGGER other ON pgtap_capture.t',
	'ALTER TABLE pgtap_capture.untold DISABLE TRIGGER ALL', 'ALTER TABLE pgtap_capture.untold ENABLE TRIGGER ALL')$$, 'other triggers and tables are not told of');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TRIGGER sentient_audit_row ON pgtap_capture.t RENAME TO renamed')$$,
	$$VALUES ('warning pgtap_capture.t: a trigger that captures was renamed {"command": "ALTER TRIGGER", "trigger": "renamed"}')$$, 'a trigger is renamed');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t DISABLE TRIGGER renamed')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "rows", "command": "ALTER TABLE"}')$$, 'and disabled by its other name');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ENABLE ALWAYS TRIGGER renamed', 'CREATE OR REPLACE TRIGGER renamed AFTER INSERT ON pgtap_capture.t FOR EACH ROW EXECUTE FUNCTION pgtap_capture.nothing()')$$,
	$$VALUES ('notice pgtap_capture.t: capture goes on {"command": "ALTER TABLE"}'), ('warning pgtap_capture.t: capture was stopped {"of": "rows", "command": "CREATE TRIGGER"}')$$, 'and replaced');
DROP TRIGGER renamed ON pgtap_capture.t;
DO $$BEGIN PERFORM audit.enable('pgtap_capture.t'); END$$;
ALTER TRIGGER sentient_audit_row ON pgtap_capture.t RENAME TO renamed;
SELECT results_eq($$SELECT pgtap_capture.told('DROP TRIGGER renamed ON pgtap_capture.t')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "rows", "command": "DROP TRIGGER"}')$$, 'and dropped');
DO $$BEGIN PERFORM audit.enable('pgtap_capture.t'); END$$;
SELECT results_eq($$SELECT pgtap_capture.told('CREATE OR REPLACE TRIGGER sentient_audit_row AFTER INSERT ON pgtap_capture.t FOR EACH ROW EXECUTE FUNCTION pgtap_capture.nothing()')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "rows", "command": "CREATE TRIGGER"}')$$, 'replaced by another');
SELECT is((SELECT state FROM audit.audited_tables WHERE table_name = 'pgtap_capture.t'::regclass), 'missing', 'which shows');
DO $$BEGIN PERFORM audit.enable('pgtap_capture.t'); END$$;
SELECT results_eq($$SELECT pgtap_capture.told('DROP TRIGGER sentient_audit_truncate ON pgtap_capture.t')$$,
	$$VALUES ('warning pgtap_capture.t: capture was stopped {"of": "TRUNCATE", "command": "DROP TRIGGER"}')$$, 'dropped');
DO $$BEGIN PERFORM audit.enable('pgtap_capture.t'); END$$;

-- by whom
SET LOCAL ROLE pgtap_capture_owner;
CREATE TABLE pgtap_capture.owned (id integer PRIMARY KEY);
DO $$BEGIN PERFORM audit.enable('pgtap_capture.owned'); END$$;
ALTER TABLE pgtap_capture.owned DISABLE TRIGGER ALL;
RESET ROLE;
SELECT results_eq($$SELECT db_role, details ->> 'role' FROM audit.security_events WHERE object = 'pgtap_capture.owned' AND message = 'capture was stopped'$$,
	$$SELECT session_user, 'pgtap_capture_owner'$$, 'by whom');

-- rewritten rows
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ALTER v TYPE integer USING id * 100')$$,
	$$VALUES ('warning pgtap_capture.t: rows were rewritten without entries {"columns": "v", "command": "ALTER TABLE"}')$$, 'ALTER COLUMN TYPE ... USING');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ADD r float8 DEFAULT random(), ADD "S" integer')$$,
	$$VALUES ('warning pgtap_capture.t: rows were rewritten without entries {"columns": "r, S", "command": "ALTER TABLE"}')$$, 'ADD COLUMN with a volatile default');
SELECT is_empty($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.t ADD k integer DEFAULT 7', 'ALTER TABLE pgtap_capture.t SET UNLOGGED', 'ALTER TABLE pgtap_capture.t ALTER v SET DEFAULT 3',
	'ALTER TABLE pgtap_capture.untold ALTER v TYPE integer USING id')$$, 'what changes no row of an audited table is not told');
CREATE TYPE pgtap_capture.shape AS (a integer, b text);
CREATE TABLE pgtap_capture.typed OF pgtap_capture.shape;
DO $$BEGIN PERFORM audit.enable('pgtap_capture.typed'); END$$;
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TYPE pgtap_capture.shape ALTER ATTRIBUTE a TYPE text CASCADE')$$,
	$$VALUES ('warning pgtap_capture.typed: rows were rewritten without entries {"columns": "a", "command": "ALTER TYPE"}')$$, 'by its type');

-- partitions
CREATE TABLE pgtap_capture.p (id integer, k integer, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE pgtap_capture.p1 PARTITION OF pgtap_capture.p FOR VALUES IN (1) PARTITION BY LIST (id);
CREATE TABLE pgtap_capture.p11 PARTITION OF pgtap_capture.p1 DEFAULT;
CREATE TABLE pgtap_capture.p2 PARTITION OF pgtap_capture.p FOR VALUES IN (2);
DO $$BEGIN PERFORM audit.enable('pgtap_capture.p'); END$$;
SELECT is((SELECT state FROM audit.audited_tables WHERE table_name = 'pgtap_capture.p'::regclass), 'captured', 'a partitioned table');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.p ADD r float8 DEFAULT random()')$$,
	$$VALUES ('warning pgtap_capture.p: rows were rewritten without entries {"columns": "r", "command": "ALTER TABLE"}')$$, 'is rewritten once, whatever partitions it has');
SELECT is_empty($$SELECT pgtap_capture.told('CREATE TABLE pgtap_capture.p3 PARTITION OF pgtap_capture.p FOR VALUES IN (3)', 'CREATE TABLE pgtap_capture.p4 (LIKE pgtap_capture.p INCLUDING ALL)',
	'ALTER TABLE pgtap_capture.p ATTACH PARTITION pgtap_capture.p4 FOR VALUES IN (4)', 'ALTER TABLE pgtap_capture.p DETACH PARTITION pgtap_capture.p4')$$, 'empty partitions come and go');
INSERT INTO pgtap_capture.p4 VALUES (1, 4);
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.p ATTACH PARTITION pgtap_capture.p4 FOR VALUES IN (4)')$$,
	$$VALUES ('warning pgtap_capture.p: rows came in without entries {"command": "ALTER TABLE", "partition": "pgtap_capture.p4"}')$$, 'one with rows comes');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.p DETACH PARTITION pgtap_capture.p4')$$,
	$$VALUES ('warning pgtap_capture.p: rows left without entries {"command": "ALTER TABLE", "partition": "pgtap_capture.p4"}')$$, 'and goes');
CREATE FOREIGN DATA WRAPPER pgtap_capture_none;
CREATE SERVER pgtap_capture_none FOREIGN DATA WRAPPER pgtap_capture_none;
CREATE TABLE pgtap_capture.p5 (id integer NOT NULL, k integer NOT NULL) PARTITION BY LIST (id);
CREATE FOREIGN TABLE pgtap_capture.p51 PARTITION OF pgtap_capture.p5 DEFAULT SERVER pgtap_capture_none;
CREATE TABLE pgtap_capture.plain (id integer, k integer) PARTITION BY LIST (k);
DO $$BEGIN PERFORM audit.enable('pgtap_capture.plain'); END$$;
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.plain ATTACH PARTITION pgtap_capture.p5 FOR VALUES IN (5)')$$,
	$$VALUES ('warning pgtap_capture.plain: rows came in without entries {"command": "ALTER TABLE", "partition": "pgtap_capture.p5"}')$$, 'nobody asks the server of a partition''s partition');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.p2 DISABLE TRIGGER sentient_audit_row')$$,
	$$VALUES ('warning pgtap_capture.p2: capture was stopped {"of": "rows", "command": "ALTER TABLE"}')$$, 'a trigger of one partition');
SELECT is((SELECT state FROM audit.audited_tables WHERE table_name = 'pgtap_capture.p'::regclass), 'suspended', 'shows in the table''s state');
SELECT is((SELECT count(*) FROM audit.verify() WHERE finding = 'capture_off' AND detail LIKE '%pgtap_capture.p%'), 1::bigint, 'and is found');
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE pgtap_capture.p DISABLE TRIGGER sentient_audit_row', 'ALTER TABLE pgtap_capture.p ENABLE ALWAYS TRIGGER sentient_audit_row')$$,
	$$VALUES ('warning pgtap_capture.p: capture was stopped {"of": "rows", "command": "ALTER TABLE"}'), ('notice pgtap_capture.p: capture goes on {"command": "ALTER TABLE"}')$$, 'triggers of the whole table');
SELECT results_eq($$SELECT pgtap_capture.told('DROP TRIGGER sentient_audit_truncate ON pgtap_capture.p11')$$,
	$$VALUES ('warning pgtap_capture.p11: capture was stopped {"of": "TRUNCATE", "command": "DROP TRIGGER"}')$$, 'a dropped one of a partition of a partition');
SELECT is((SELECT state FROM audit.audited_tables WHERE table_name = 'pgtap_capture.p'::regclass), 'missing', 'shows likewise');
SELECT results_eq($$SELECT pgtap_capture.told('SELECT audit.enable(''pgtap_capture.p'')')$$,
	$$VALUES ('notice pgtap_capture.p: changes are captured {"mask": "{}", "exclude": "{}", "operation": "enable"}')$$, 'audit.enable makes that good, too');
SELECT is((SELECT state FROM audit.audited_tables WHERE table_name = 'pgtap_capture.p'::regclass), 'captured', 'all of it');
SELECT is_empty($$SELECT pgtap_capture.told('DROP TABLE pgtap_capture.p2', 'DROP TABLE pgtap_capture.p', 'DROP TABLE pgtap_capture.typed')$$, 'a dropped table has an entry, and no event of this kind');

-- undone
SAVEPOINT before;
ALTER TABLE pgtap_capture.t DISABLE TRIGGER sentient_audit_row;
ROLLBACK TO before;
SELECT is((SELECT state FROM audit.audited_tables WHERE table_name = 'pgtap_capture.t'::regclass), 'captured', 'what is rolled back has stopped nothing');
-- the extension's own
SELECT results_eq($$SELECT pgtap_capture.told('ALTER TABLE core.drones DISABLE TRIGGER ALL')$$,
	$$VALUES ('warning core.drones: capture was stopped {"of": "rows, TRUNCATE", "command": "ALTER TABLE"}')$$, 'tables of the extension');
SELECT results_eq($$SELECT pgtap_capture.told('DROP TRIGGER sentient_audit_row ON auth.users')$$,
	$$VALUES ('warning auth.users: capture was stopped {"of": "rows", "command": "DROP TRIGGER"}')$$, 'dropped');

SELECT * FROM finish();
ROLLBACK;
