-- Capture of changes: what an entry holds, for whom, and what is refused.
SET client_min_messages = warning;
SET timezone = 'Asia/Kolkata';
CREATE SCHEMA watched;
CREATE VIEW watched.entries AS
SELECT l.operation AS op, l.table_name, l.row_key, l.old_values, l.new_values FROM audit.log l
 WHERE l.schema_name = 'watched' ORDER BY l.audit_id;

-- every kind of value, whatever the session's settings are
CREATE TYPE watched.mood AS ENUM ('calm', 'hasty');
CREATE TYPE watched.pair AS (a integer, b timestamptz);
CREATE DOMAIN watched.percentage AS numeric CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE watched.kinds (
	id integer PRIMARY KEY, flag boolean, small smallint, big bigint, single real, double double precision, exact numeric,
	letters text, fixed character(4), name name, code "char", at timestamptz, local timestamp, day date, time_of_day time, span interval,
	bytes bytea, place point, net inet, ident uuid, document jsonb, plain json, list integer[], times timestamptz[], range tstzrange,
	mood watched.mood, pair watched.pair, share watched.percentage, double_id integer GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE watched.kinds ADD COLUMN gone text;
ALTER TABLE watched.kinds DROP COLUMN gone;
SELECT audit.enable('watched.kinds');
SELECT audit.enable('watched.kinds');
SET extra_float_digits = -10;
SET intervalstyle = 'iso_8601';
SET bytea_output = 'escape';
SET datestyle = 'German';
INSERT INTO watched.kinds VALUES (1, true, -2, 9007199254740993, 0.1, 1.0 / 3, 1.500, E'quote " and \\ and \t', 'ab', 'a name', 'c',
	'2026-01-02 03:04:05.678+00', '2026-01-02 03:04:05', '2026-01-02', '03:04', '1 day 2 hours', '\x00ff', '(1,2)', '10.0.0.1/8',
	'00000000-0000-4000-8000-000000000001', '{"b": [1, {"c": null}], "a": 1.0}', '{"z": 1, "y": [true]}', '{{1,NULL},{3,4}}',
	'{2026-01-02 00:00+00}', '[2026-01-01 00:00+00,2026-01-02 00:00+00)', 'hasty', '(7,2026-01-02 00:00+00)', 99.9);
RESET extra_float_digits;
RESET intervalstyle;
RESET bytea_output;
RESET datestyle;
SELECT jsonb_pretty(new_values) FROM watched.entries;
SET timezone = 'UTC';
SELECT e.new_values = to_jsonb(k), pg_column_size(e.new_values) FROM watched.entries e, watched.kinds k;
RESET timezone;
INSERT INTO watched.kinds (id, double, single, exact) VALUES (2, 'NaN', '-Infinity', 'NaN'), (3, 1e20, 1e-7, 1e-20);
SELECT row_key, new_values -> 'double' AS double, new_values -> 'single' AS single, new_values -> 'exact' AS exact FROM watched.entries WHERE row_key ->> 'id' IN ('2', '3');

-- only what changed; bytes count, not equality; nothing changed is no entry
UPDATE watched.kinds SET exact = 1.50, letters = letters, document = '{"a": 1.0, "b": [1, {"c": null}]}' WHERE id = 1;
UPDATE watched.kinds SET id = id WHERE id = 1;
UPDATE watched.kinds SET id = 10, flag = NULL WHERE id = 1;
SELECT * FROM watched.entries WHERE op = 'U';
SELECT operation, row_key, old_values ->> 'id' AS was FROM audit.row_history('watched.kinds', '{"id": 10}');

-- an unchanged TOAST value is not part of it, a changed one is
CREATE TABLE watched.large (id integer PRIMARY KEY, body text, n integer);
ALTER TABLE watched.large ALTER body SET STORAGE EXTERNAL;
SELECT audit.enable('watched.large');
INSERT INTO watched.large VALUES (1, repeat('x', 100000), 1);
UPDATE watched.large SET n = 2;
UPDATE watched.large SET body = repeat('x', 100000);
UPDATE watched.large SET body = body || 'y';
SELECT op, length(old_values ->> 'body') AS old, length(new_values ->> 'body') AS new, old_values -> 'n' AS n FROM watched.entries WHERE table_name = 'large';

-- excluded and masked columns
CREATE TABLE watched.account (id integer PRIMARY KEY, password_hash text, seen integer, n integer);
SELECT audit.enable('watched.account', exclude => '{seen}');
INSERT INTO watched.account VALUES (1, 'hash 1', 1, 1);
UPDATE watched.account SET seen = 2;
UPDATE watched.account SET password_hash = 'hash 2', seen = 3;
ALTER TABLE watched.account RENAME password_hash TO secret;
UPDATE watched.account SET n = 2;
SELECT audit.enable('watched.account', mask => '{secret}');
UPDATE watched.account SET n = 2, secret = NULL, seen = 4;
SELECT op, old_values, new_values FROM watched.entries WHERE table_name = 'account';
SELECT table_name, state, exclude, mask FROM audit.audited_tables WHERE table_name::text LIKE 'watched.%' ORDER BY table_name::text;

-- partitions, present and future
CREATE TABLE watched.parted (id integer, k integer, v text, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
CREATE TABLE watched.parted_1 PARTITION OF watched.parted FOR VALUES FROM (0) TO (10);
SELECT audit.enable('watched.parted');
CREATE TABLE watched.parted_2 PARTITION OF watched.parted FOR VALUES FROM (10) TO (20);
CREATE TABLE watched.parted_3 (v text, k integer NOT NULL, id integer NOT NULL);
ALTER TABLE watched.parted ATTACH PARTITION watched.parted_3 FOR VALUES FROM (20) TO (30);
SELECT audit.enable('watched.parted_2');
SELECT audit.disable('watched.parted_2');
INSERT INTO watched.parted SELECT i, i, 'v' || i FROM generate_series(9, 21, 6) AS i;
UPDATE watched.parted SET k = 12 WHERE id = 9;
UPDATE watched.parted_3 SET v = 'direct';
MERGE INTO watched.parted p USING (VALUES (15, 15), (1, 1)) s (id, k) ON p.id = s.id AND p.k = s.k
	WHEN MATCHED THEN UPDATE SET v = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.k, 'new');
INSERT INTO watched.parted VALUES (1, 1, 'again') ON CONFLICT (id, k) DO UPDATE SET v = 'conflict';
INSERT INTO watched.parted VALUES (1, 1, 'never') ON CONFLICT DO NOTHING;
TRUNCATE watched.parted_2;
DROP TABLE watched.parted_3;
TRUNCATE watched.parted;
SELECT op, table_name, row_key, CASE WHEN new_values ->> 'event' = 'drop' THEN old_values - 'rows' ELSE old_values END AS old_values, new_values
  FROM watched.entries WHERE table_name LIKE 'parted%';

-- cascades, COPY, more rows than a batch
CREATE TABLE watched.parent (id integer PRIMARY KEY);
CREATE TABLE watched.child (id integer PRIMARY KEY, parent integer REFERENCES watched.parent ON UPDATE CASCADE ON DELETE CASCADE);
SELECT audit.enable('watched.parent'), audit.enable('watched.child');
COPY watched.parent FROM stdin;
1
2
\.
INSERT INTO watched.child SELECT i, 1 + i % 2 FROM generate_series(1, 4) AS i;
UPDATE watched.parent SET id = 11 WHERE id = 1;
DELETE FROM watched.parent WHERE id = 2;
SELECT * FROM watched.entries WHERE table_name IN ('parent', 'child') AND op <> 'I';
INSERT INTO watched.child SELECT i, 11 FROM generate_series(1001, 4000) AS i;
UPDATE watched.child SET parent = NULL WHERE id > 1000;
DELETE FROM watched.child WHERE id > 1000;
SELECT op, count(*), count(DISTINCT row_key) FROM watched.entries WHERE table_name = 'child' AND (row_key ->> 'id')::integer > 1000 GROUP BY op ORDER BY op;

-- a rolled back change has no entry; statements of one transaction see theirs
BEGIN;
INSERT INTO watched.large VALUES (2);
SAVEPOINT inner_one;
INSERT INTO watched.large VALUES (3);
ROLLBACK TO inner_one;
DO $$
BEGIN
	INSERT INTO watched.large VALUES (4);
	BEGIN
		INSERT INTO watched.large VALUES (5);
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
		INSERT INTO watched.large VALUES (6);
	END;
END $$;
SELECT row_key FROM watched.entries WHERE table_name = 'large' AND (row_key ->> 'id')::integer > 1;
COMMIT;
SELECT row_key FROM watched.entries WHERE table_name = 'large' AND (row_key ->> 'id')::integer > 1;
BEGIN;
DELETE FROM watched.large;
ROLLBACK;
SELECT count(*) FROM watched.entries WHERE table_name = 'large' AND op = 'D';

-- who
CREATE ROLE regress_owner;
CREATE ROLE regress_other;
GRANT sentient_viewer TO regress_owner, regress_other;
GRANT USAGE, CREATE ON SCHEMA watched TO regress_owner, regress_other;
SET ROLE regress_owner;
CREATE TABLE watched.owned (id integer PRIMARY KEY);
SELECT audit.enable('watched.owned');
SET application_name = 'the test';
INSERT INTO watched.owned VALUES (1);
SELECT count(*) FROM audit.log;
INSERT INTO audit.log (schema_name, table_name, operation) VALUES ('watched', 'owned', 'D');
SET ROLE regress_other;
SELECT audit.enable('watched.owned');
SELECT audit.disable('watched.owned');
RESET ROLE;
SELECT db_role, session_role = session_user AS other_session, application_name, client_addr, transaction_id IS NOT NULL AS has_transaction,
	statement_at < occurred_at IS NOT false AS in_order FROM audit.log WHERE table_name = 'owned';
SET session_replication_role = replica;
INSERT INTO watched.owned VALUES (2);
RESET session_replication_role;
SELECT count(*) FROM watched.entries WHERE table_name = 'owned';
ALTER TABLE watched.owned DISABLE TRIGGER sentient_audit_row;
SELECT table_name, state FROM audit.audited_tables WHERE state <> 'captured';
DROP TRIGGER sentient_audit_row ON watched.owned;
SELECT table_name, state FROM audit.audited_tables WHERE state <> 'captured';
SELECT audit.enable('watched.owned');
SELECT audit.disable('watched.owned');
SELECT audit.disable('watched.owned');

-- what cannot be audited
SELECT audit.enable('pg_catalog.pg_class');
SELECT audit.enable('core.drones');
SELECT audit.disable('core.drones');
SELECT audit.enable('audit.log_default');
SELECT audit.enable('audit.audited_tables');
CREATE TEMP TABLE passing (id integer);
SELECT audit.enable('passing');
SELECT audit.enable('watched.large', '{no_such}');
SELECT audit.enable('watched.large', mask => '{id}');
SELECT audit.enable('watched.large', NULL);
CREATE TABLE watched.strange (id integer);
CREATE TRIGGER strange BEFORE INSERT ON watched.strange FOR EACH ROW EXECUTE FUNCTION audit.capture_row();
INSERT INTO watched.strange VALUES (1);

-- append-only, whose partition it is
CREATE FUNCTION watched.refusal(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || regexp_replace(SQLERRM, '(log|security_events)_(p\d+|default)', '\1');
END $$;
SELECT count(*) FROM audit.seal();
SELECT watched.refusal(command) FROM unnest('{UPDATE audit.log SET mac = NULL,DELETE FROM audit.log,TRUNCATE audit.log,TRUNCATE audit.log_default,
	DELETE FROM audit.blocks,TRUNCATE audit.blocks,DELETE FROM audit.security_events,UPDATE audit.security_events SET message = NULL}'::text[]) AS command;
SET session_replication_role = replica;
SELECT watched.refusal('DELETE FROM audit.log'), watched.refusal('TRUNCATE audit.log');
RESET session_replication_role;

-- no entry, no change
BEGIN;
ALTER TABLE audit.log RENAME TO log_away;
INSERT INTO watched.large VALUES (99);
ROLLBACK;
SELECT count(*) FROM watched.large WHERE id = 99;

SELECT inserted > 0, updated > 0, tables @> '{watched.large}' FROM audit.activity() WHERE db_role = session_user;
DROP SCHEMA watched CASCADE;
SELECT count(*) FROM audit.targets WHERE table_id::text LIKE 'watched%' OR table_id::text ~ '^[0-9]';
DROP ROLE regress_owner, regress_other;
