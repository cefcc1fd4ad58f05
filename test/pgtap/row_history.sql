-- audit.row_history finds a row whichever way its key is spelled, says what is wrong with a key, and still finds what was under other keys.
BEGIN;
SELECT plan(65);
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'Asia/Kolkata';
SET LOCAL datestyle = 'German';
CREATE SCHEMA pgtap_history;
CREATE TYPE pgtap_history.mood AS ENUM ('calm', 'hasty');
CREATE DOMAIN pgtap_history.positive AS integer NOT NULL CHECK (VALUE > 0);
CREATE TYPE pgtap_history.place AS (x numeric, at timestamptz);

-- One table for each type of key: the type, a value, and spellings of it.
CREATE TABLE pgtap_history.kind (id integer GENERATED ALWAYS AS IDENTITY, type text, value text, spellings jsonb[]);
INSERT INTO pgtap_history.kind (type, value, spellings) VALUES
	('integer', '1', '{1,1.0,"\"1\"","\" 1 \"",1e0}'),
	('bigint', '9007199254740993', '{9007199254740993,9007199254740993.00,"\"9007199254740993\""}'),
	('smallint', '-2', '{-2,-2.0,"\"-2\""}'),
	('numeric', '1.50', '{1.5,1.500,"\"1.5\"","\"01.50\""}'),
	('numeric(10,2)', '1.50', '{1.5,1.5000,"\"1.5\""}'),
	('numeric', 'NaN', '{"\"NaN\"","\"nan\""}'),
	('double precision', '0.1', '{0.1,0.10,"\"0.1\"","\"1e-1\""}'),
	('double precision', 'Infinity', '{"\"inf\"","\"Infinity\""}'),
	('real', '0.1', '{0.1,"\"0.1\""}'),
	('boolean', 'true', '{true,"\"yes\"","\"t\""}'),
	('text', '7.0', '{"\"7.0\"",7.0}'),
	('text', 'with "quotes"', '{"\"with \\\"quotes\\\"\""}'),
	('varchar(3)', 'abc', '{"\"abc\"","\"abc  \""}'),
	('char(4)', 'ab', '{"\"ab\"","\"ab  \""}'),
	('name', 'a name', '{"\"a name\""}'),
	('"char"', 'c', '{"\"c\""}'),
	('uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"\"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\"","\"{a0eebc999c0b4ef8bb6d6bb9bd380a11}\""}'),
	('timestamptz', '2026-01-02 03:04:05.600+00', '{"\"2026-01-02T03:04:05.6+00:00\"","\"2026-01-02 08:34:05.6+05:30\"","\"2026-01-02 03:04:05.6\""}'),
	('timestamp', '2026-01-02 03:04:05', '{"\"2026-01-02 03:04:05\"","\"2026-01-02T03:04:05.000\""}'),
	('date', '2026-01-02', '{"\"2026-01-02\"","\"20260102\"","\"2 January 2026\""}'),
	('interval', '1 day 02:00', '{"\"1 day 02:00:00\"","\"P1DT2H\""}'),
	('bytea', '\x00ff', '{"\"\\\\x00ff\"","\"\\\\x00FF\"","\"\\\\000\\\\377\""}'),
	('inet', '10.0.0.1', '{"\"10.0.0.1\"","\"10.0.0.1/32\""}'),
	('macaddr', '08:00:2b:01:02:03', '{"\"08-00-2B-01-02-03\""}'),
	('oid', '42', '{"\"42\"",42}'),
	('money', '1234.50', '{"\"$1,234.50\"","\"1234.5\"",1234.5}'),
	('pgtap_history.mood', 'hasty', '{"\"hasty\""}'),
	('pgtap_history.positive', '7', '{7,7.0,"\"7\""}'),
	('regclass', 'pg_class', '{"\"pg_class\"","\"pg_catalog.pg_class\"",1259}'),
	('integer[]', '{1,2}', '{"[1, 2]","\"{1,2}\"","\"{ 1, 2 }\""}'),
	('uuid[]', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', '{"[\"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\"]"}'),
	('int4range', '[1,3)', '{"\"[1,3)\"","\"[1,2]\"","\"(0,2]\""}'),
	('tstzrange', '[2026-01-02 00:00+00,)', '{"\"[2026-01-02 05:30+05:30,)\""}'),
	('jsonb', '{"a": [1.0]}', '{"{\"a\": [1]}","{\"a\": [1.00]}"}'),
	('pgtap_history.place', '(1.50,"2026-01-02 00:00+00")', '{"{\"x\": 1.5, \"at\": \"2026-01-02 05:30+05:30\"}","\"(1.5,2026-01-02 05:30+05:30)\""}');
DO $$
DECLARE
	k record;
BEGIN
	FOR k IN SELECT * FROM pgtap_history.kind LOOP
		-- a column that may not be null, of a domain that minds, is not part of it
		EXECUTE format('CREATE TABLE pgtap_history.t%s (gone text, "the Key" %s PRIMARY KEY, must pgtap_history.positive)', k.id, k.type);
		EXECUTE format('ALTER TABLE pgtap_history.t%s DROP gone', k.id);
		PERFORM audit.enable(format('pgtap_history.t%s', k.id)::regclass);
		EXECUTE format('SET LOCAL datestyle = ISO');
		EXECUTE format('INSERT INTO pgtap_history.t%s VALUES (%L, 1)', k.id, k.value);
		EXECUTE format('SET LOCAL datestyle = German');
		EXECUTE format('UPDATE pgtap_history.t%s SET must = 2', k.id);
	END LOOP;
END
$$;
SELECT is((SELECT string_agg(s::text, '  ') FROM unnest(k.spellings) s
			WHERE (SELECT count(*) FROM audit.row_history(format('pgtap_history.t%s', k.id)::regclass, jsonb_build_object('the Key', s))) <> 2), NULL, k.type || ' ' || k.value)
  FROM pgtap_history.kind k ORDER BY id;
SELECT is_empty($$SELECT k.type, l.row_key FROM pgtap_history.kind k JOIN audit.log l ON l.schema_name = 'pgtap_history' AND l.table_name = 't' || k.id
	WHERE audit.row_key(format('pgtap_history.t%s', k.id)::regclass, l.row_key)::text <> l.row_key::text$$, 'what an entry has is the key of the row');

-- several columns
CREATE TABLE pgtap_history.several (a integer, b uuid, "C" date, v integer, PRIMARY KEY (b, "C", a) INCLUDE (v));
SELECT audit.enable('pgtap_history.several');
INSERT INTO pgtap_history.several VALUES (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2026-01-02'::timestamp, 3);
SELECT is((SELECT count(*) FROM audit.row_history('pgtap_history.several', '{"C": "2026-01-02", "a": "1", "b": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}')), 1::bigint, 'columns in any order');
SELECT is(audit.row_key('pgtap_history.several', '{"b": "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "a": 1.0, "C": "20260102"}'),
	'{"C": "2026-01-02", "a": 1, "b": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}', 'the key as entries have it');

-- what is wrong with a key
CREATE FUNCTION pgtap_history.complaint(key jsonb, relation regclass DEFAULT 'pgtap_history.several') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM audit.row_history(relation, key);
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, detail, hint);
END
$$;
SELECT is(pgtap_history.complaint('{"a": 1, "b": "x"}'), '22023 | key lacks column "C" of the primary key of table "several" | Entries name rows of the table by b uuid, "C" date, a integer.'
	' | Entries from before the primary key changed are found by audit.row_history(schema_name, table_name, key), which takes the key as they have it.', 'a column is missing');
SELECT is(split_part(pgtap_history.complaint('{"a": 1, "b": "x", "C": "2026-01-01", "v": 3}'), ' | ', 1) || split_part(pgtap_history.complaint('{"a": 1, "v": 3}'), ' | ', 2),
	'42703column "v" is not in the primary key of table "several"', 'one too many');
SELECT is(split_part(pgtap_history.complaint('{"id": 1}'), ' | ', 2), 'column "id" is not in the primary key of table "several"', 'an unknown one');
SELECT is(split_part(pgtap_history.complaint('{"a": null, "b": "x", "C": "2026-01-01"}'), ' | ', 2), 'column "a" of the primary key of table "several" is never null', 'null');
SELECT matches(pgtap_history.complaint('{"a": 1, "b": "x", "C": "2026-01-01"}'), '^22P02 \| key is not valid for table "several" \| invalid input syntax for type uuid: "x" \| Entries name rows of the table by b uuid', 'a value that is none of the type');
SELECT matches(pgtap_history.complaint('{"a": 1.5, "b": "a0eebc999c0b4ef8bb6d6bb9bd380a11", "C": "2026-01-01"}'), '^22P02 .*1\.5', 'no integer');
SELECT matches(pgtap_history.complaint('{"a": 3000000000, "b": "a0eebc999c0b4ef8bb6d6bb9bd380a11", "C": "2026-01-01"}'), '^22003 .*out of range', 'out of range');
SELECT matches(pgtap_history.complaint('{"a": 1, "b": "a0eebc999c0b4ef8bb6d6bb9bd380a11", "C": "01/02/2026"}'), '^22', 'a date that could be two');
SELECT is(split_part(pgtap_history.complaint('[1]'), ' | ', 2), 'key is no object', 'an array');
SELECT is(split_part(pgtap_history.complaint('1'), ' | ', 2), 'key is no object', 'a number');
SELECT matches(pgtap_history.complaint('{}'), '^22023 \| key lacks', 'nothing');
SELECT throws_ok($$SELECT audit.row_history('pgtap_history.several', NULL)$$, '22004', NULL, 'NULL');
SELECT throws_ok($$SELECT audit.row_history(NULL::regclass, '{}')$$, '22004', NULL, 'no table');
CREATE TABLE pgtap_history.rounds (n numeric(10,2), t timestamptz(0), PRIMARY KEY (n, t));
SELECT matches(pgtap_history.complaint('{"n": 1.555, "t": "2026-01-01"}', 'pgtap_history.rounds'), '^22023 \| value of column "n" has more digits than the column keeps', 'a number that would be rounded to another row''s');
SELECT matches(pgtap_history.complaint('{"n": 1.55, "t": "2026-01-01 00:00:00.4"}', 'pgtap_history.rounds'), '^22023 \| value of column "t"', 'a time likewise');
CREATE TABLE pgtap_history.keyless (id integer);
SELECT matches(pgtap_history.complaint('{"id": 1}', 'pgtap_history.keyless'), '^55000 \| table "keyless" has no primary key', 'a table without a key');
SELECT matches(pgtap_history.complaint('{"id": 1}', 4000000000::regclass), '^42P01 ', 'no table at all');
SELECT matches(pgtap_history.complaint('{"the Key": "gone.thing"}', (SELECT format('pgtap_history.t%s', id)::regclass FROM pgtap_history.kind WHERE type = 'regclass')), '^(42P01|3F000) \| key is not valid', 'a name of nothing');

-- other keys than today's
CREATE TABLE pgtap_history.changing (id integer PRIMARY KEY, code text, v integer);
SELECT audit.enable('pgtap_history.changing');
INSERT INTO pgtap_history.changing VALUES (1, 'one', 1);
ALTER TABLE pgtap_history.changing RENAME id TO number;
UPDATE pgtap_history.changing SET v = 2;
ALTER TABLE pgtap_history.changing DROP CONSTRAINT changing_pkey, ADD PRIMARY KEY (code);
UPDATE pgtap_history.changing SET v = 3;
SELECT is((SELECT count(*) FROM audit.row_history('pgtap_history.changing', '{"code": "one"}')), 1::bigint, 'today''s key');
SELECT results_eq($$SELECT operation, new_values FROM audit.row_history('pgtap_history', 'changing', '{"number": 1}')$$, $$VALUES ('U'::"char", '{"v": 2}'::jsonb)$$, 'yesterday''s');
ALTER TABLE pgtap_history.changing RENAME TO changed;
DROP TABLE pgtap_history.changed;
SELECT is((SELECT count(*) FROM audit.row_history('pgtap_history', 'changing', '{"id": 1}')), 1::bigint, 'of a table that is gone');

-- partitions: entries have the name of the table, and of a table that was attached later its own
CREATE TABLE pgtap_history.parted (id integer, k integer, v integer, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE pgtap_history.part (v integer, k integer, id integer, PRIMARY KEY (id, k));
SELECT audit.enable('pgtap_history.part');
INSERT INTO pgtap_history.part VALUES (1, 7, 1);
SELECT audit.disable('pgtap_history.part');
SELECT audit.enable('pgtap_history.parted');
ALTER TABLE pgtap_history.parted ATTACH PARTITION pgtap_history.part FOR VALUES IN (7);
UPDATE pgtap_history.part SET v = 2;
SELECT results_eq($$SELECT operation FROM audit.row_history('pgtap_history.part', '{"k": "7", "id": 1.0}')$$, $$VALUES ('I'::"char"), ('U')$$, 'of a partition, its own and its table''s');
SELECT results_eq($$SELECT operation FROM audit.row_history('pgtap_history.parted', '{"k": "7", "id": 1.0}')$$, $$VALUES ('U'::"char")$$, 'of the table');

-- types that a cast writes
CREATE TYPE pgtap_history.feeling AS ENUM ('good');
CREATE FUNCTION pgtap_history.feeling_json(pgtap_history.feeling) RETURNS json LANGUAGE sql IMMUTABLE AS $$SELECT json_build_array($1::text)$$;
CREATE CAST (pgtap_history.feeling AS json) WITH FUNCTION pgtap_history.feeling_json(pgtap_history.feeling);
CREATE TABLE pgtap_history.felt (id pgtap_history.feeling PRIMARY KEY);
SELECT audit.enable('pgtap_history.felt');
INSERT INTO pgtap_history.felt VALUES ('good');
SELECT is((SELECT count(*) FROM audit.row_history('pgtap_history.felt', '{"id": ["good"]}')), 1::bigint, 'a type with a cast of its own is taken as it is');

-- functions of the table's owner run as he
CREATE ROLE pgtap_history_owner;
GRANT USAGE, CREATE ON SCHEMA pgtap_history TO pgtap_history_owner;
GRANT pgtap_history_owner TO CURRENT_USER;
SET LOCAL ROLE pgtap_history_owner;
CREATE FUNCTION pgtap_history.check_it(integer) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN IF current_user <> 'pgtap_history_owner' THEN RAISE 'runs as %', current_user; END IF; RETURN true; END$$;
CREATE DOMAIN pgtap_history.checked AS integer CHECK (pgtap_history.check_it(VALUE));
CREATE TABLE pgtap_history.trap (id pgtap_history.checked PRIMARY KEY);
RESET ROLE;
SELECT is(pgtap_history.complaint('{"id": 1}', 'pgtap_history.trap'), NULL, 'a domain''s check runs as the table''s owner');
GRANT USAGE ON SCHEMA pgtap_history TO sentient_admin;
SET LOCAL ROLE sentient_admin;
SELECT is((SELECT count(*) FROM audit.row_history('pgtap_history.several'::regclass, '{"C": "2026-01-02", "a": "1", "b": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}')), 1::bigint, 'an administrator reads what he may not change');
RESET ROLE;
SELECT is(current_setting('datestyle') || current_setting('timezone') || current_setting('search_path'), 'German, DMYAsia/Kolkata' || current_setting('search_path'), 'the session''s settings are as they were');

SELECT * FROM finish();
ROLLBACK;
