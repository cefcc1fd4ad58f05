-- audit.row_position: where the entries of a row lie in the index that finds its history.
BEGIN;
SELECT plan(39);

CREATE FUNCTION pg_temp.at(key jsonb) RETURNS bigint LANGUAGE sql AS $$SELECT audit.row_position('public', 'ship', key)$$;

-- Indexes hold these numbers: they never change.
SELECT is(pg_temp.at('{"id": 1}'), (-7885908500642004991)::bigint, 'an integer');
SELECT is(pg_temp.at('{"name": "Ida"}'), (-7885893906395420872)::bigint, 'a text');
SELECT is(pg_temp.at('{"id": "3f0c9c1e-5a52-4c0e-9d7b-0a1b2c3d4e5f"}'), (-7885904167930063175)::bigint, 'a uuid');
SELECT is(pg_temp.at('{"id": "018f3c5e-7a52-7c0e-9d7b-0a1b2c3d4e5f"}'), (-7885891906522660489)::bigint, 'a uuid of version 7');
SELECT is(pg_temp.at('{"a": 5, "bc": "x"}'), (-7885908500635934195)::bigint, 'two columns');
SELECT is(pg_temp.at('{"at": 1.5}'), (-7885900050970395457)::bigint, 'a fraction');

-- Integers keep their order, whatever their type.
SELECT is(pg_temp.at('{"id": 43}') - pg_temp.at('{"id": 42}'), 1::bigint, 'neighbours are neighbours');
SELECT is(pg_temp.at('{"id": 10000}') - pg_temp.at('{"id": 9999}'), 1::bigint, 'so they are where the digits of a numeric end');
SELECT is(pg_temp.at('{"id": -41}') - pg_temp.at('{"id": -42}'), 1::bigint, 'and below zero');
SELECT is((pg_temp.at('{"id": 2147483647}') - pg_temp.at('{"id": -2147483648}')) & 17592186044415, 4294967295::bigint, 'the whole of integer fits');
SELECT is(pg_temp.at('{"id": 9223372036854775807}') - pg_temp.at('{"id": 9223372036854775806}'), 1::bigint, 'the last bigint');
SELECT is(pg_temp.at('{"id": -9223372036854775806}') - pg_temp.at('{"id": -9223372036854775807}'), 1::bigint, 'the first but one');
SELECT isnt(pg_temp.at('{"id": -9223372036854775808}'), NULL, 'the very first, which has no positive twin');
SELECT isnt(pg_temp.at('{"id": 9223372036854775808}'), pg_temp.at('{"id": 9223372036854775809}'), 'what no bigint holds has a hash');
SELECT isnt(pg_temp.at('{"id": 1e300}'), pg_temp.at('{"id": 1e301}'), 'however large');
SELECT is(pg_temp.at('{"id": 1.00}'), pg_temp.at('{"id": 1}'), 'what is equal has one number');
SELECT is(pg_temp.at('{"id": 150.0}'), pg_temp.at('{"id": 1.5e2}'), 'however it is written');
SELECT is(pg_temp.at('{"id": 0.0}'), pg_temp.at('{"id": 0}'), 'zero, too');
SELECT is(pg_temp.at('{"id": 0.50}'), pg_temp.at('{"id": 0.5}'), 'and fractions');
SELECT isnt(pg_temp.at('{"id": "1"}'), pg_temp.at('{"id": 1}'), 'a text is not a number');

-- uuids keep the order of what is in front, those of version 7 that of their time.
SELECT is_empty($$SELECT 1 FROM (SELECT id, pg_temp.at(jsonb_build_object('id', id)) AS at,
		lag(pg_temp.at(jsonb_build_object('id', id))) OVER (ORDER BY id) AS before
	FROM (SELECT overlay(md5(n::text)::uuid::text PLACING '4' FROM 15)::uuid AS id FROM generate_series(1, 1000) AS n) AS u) AS p
	WHERE (at >> 20) & 16777215 < (before >> 20) & 16777215$$, 'random ones');
SELECT is_empty($$SELECT 1 FROM (SELECT pg_temp.at(jsonb_build_object('id', lpad(to_hex(1732000000000 / 65536), 8, '0') || '-'
		|| lpad(to_hex(n), 4, '0') || '-7abc-8def-' || substr(md5(n::text), 1, 12))) >> 20 AS at, n FROM generate_series(0, 65535, 64) AS n) AS p
	GROUP BY at HAVING count(*) > 1$$, 'each 64 milliseconds are a place of their own');
SELECT is((SELECT count(DISTINCT pg_temp.at(jsonb_build_object('id', '0193455e-7a52-7abc-8def-' || substr(md5(n::text), 1, 12)))) FROM generate_series(1, 1000) AS n),
	1000::bigint, 'within which they differ');
SELECT isnt(pg_temp.at('{"id": "3F0C9C1E-5A52-4C0E-9D7B-0A1B2C3D4E5F"}'), pg_temp.at('{"id": "3f0c9c1e-5a52-4c0e-9d7b-0a1b2c3d4e5f"}'), 'another text is another key');

-- Of several columns the first is in order.
SELECT is((pg_temp.at('{"a": 6, "bc": "x"}') >> 20) - (pg_temp.at('{"a": 5, "bc": "y"}') >> 20), 1::bigint, 'neighbours in the first column');
SELECT isnt(pg_temp.at('{"a": 5, "bc": "x"}'), pg_temp.at('{"a": 5, "bc": "y"}'), 'the others count as well');

-- Nothing else fails.
SELECT is(pg_temp.at(NULL), NULL, 'no key');
SELECT isnt(pg_temp.at('{"id": null}'), NULL, 'a null in it');
SELECT isnt(pg_temp.at('{"id": {"x": [1, 2]}}'), pg_temp.at('{"id": {"x": [1, 3]}}'), 'an object in it');
SELECT isnt(pg_temp.at('{"id": true}'), pg_temp.at('{"id": false}'), 'a boolean');
SELECT is((SELECT count(pg_temp.at(key)) FROM unnest(ARRAY['{}', '[]', '[1]', '5', 'null', '"x"']::jsonb[]) AS key), 6::bigint, 'what is no object');
SELECT isnt(pg_temp.at(jsonb_build_object('id', repeat('x', 100000))), pg_temp.at(jsonb_build_object('id', repeat('x', 100001))), 'a long text');
SELECT isnt(audit.row_position('public', 'ship', '{"id": 1}'), audit.row_position('public', 'boat', '{"id": 1}'), 'another table');
SELECT isnt(audit.row_position('public', 'ship', '{"id": 1}'), audit.row_position('fleet', 'ship', '{"id": 1}'), 'another schema');

-- What capture enters into the index is what a search looks for there.
SET LOCAL enable_seqscan = off;
CREATE TABLE public.by_integer (id integer PRIMARY KEY, v integer);
CREATE TABLE public.by_bigint (id bigint PRIMARY KEY, v integer);
CREATE TABLE public.by_numeric (id numeric PRIMARY KEY, v integer);
CREATE TABLE public.by_text (id text PRIMARY KEY, v integer);
CREATE TABLE public.by_uuid (id uuid PRIMARY KEY, v integer);
CREATE TABLE public.by_time (id timestamptz PRIMARY KEY, v integer);
CREATE TABLE public.by_both (id uuid, "at" date, n smallint, v integer, PRIMARY KEY (id, "at", n));
CREATE TABLE public.by_bytea (id bytea PRIMARY KEY, v integer);
CREATE TABLE public.by_array (id integer[] PRIMARY KEY, v integer);
CREATE TEMP TABLE kind AS SELECT unnest('{by_integer,by_bigint,by_numeric,by_text,by_uuid,by_time,by_both,by_bytea,by_array}'::text[]) AS name;
DO 'BEGIN PERFORM audit.enable(name::regclass) FROM kind; END';
INSERT INTO public.by_integer SELECT unnest('{-2147483648,-1,0,1,2147483647}'::integer[]);
INSERT INTO public.by_bigint SELECT unnest('{-9223372036854775808,-1,0,17592186044416,9223372036854775807}'::bigint[]);
INSERT INTO public.by_numeric SELECT unnest('{-1e40,-1.50,0.000,100.00,1e140}'::numeric[]);
INSERT INTO public.by_text SELECT unnest(ARRAY['', 'x', E'\\\\ " \n', repeat('ä', 50), '018f3c5e-7a52-7c0e-9d7b-0a1b2c3d4e5f']);
INSERT INTO public.by_uuid SELECT md5(n::text)::uuid FROM generate_series(1, 5) AS n;
INSERT INTO public.by_time SELECT unnest('{-infinity,infinity,2026-02-03 04:05:06.789Z,1900-01-01 00:00Z,2026-06-01 00:00Z}'::timestamptz[]);
INSERT INTO public.by_both SELECT md5(n::text)::uuid, '2026-01-01'::date + n, n FROM generate_series(1, 5) AS n;
INSERT INTO public.by_bytea SELECT sha256(n::text::bytea) FROM generate_series(1, 5) AS n;
INSERT INTO public.by_array SELECT ARRAY[n, n + 1] FROM generate_series(1, 5) AS n;
CREATE FUNCTION pg_temp.found(kind text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('UPDATE public.%I SET v = 1', kind);	-- many at once, in another order
	EXECUTE format('UPDATE public.%I SET v = 2 WHERE ctid = (SELECT min(ctid) FROM public.%1$I)', kind);
	EXECUTE format('SELECT count(*) FROM (SELECT DISTINCT row_key FROM audit.log WHERE schema_name = ''public'' AND table_name = %L) AS k
		CROSS JOIN LATERAL audit.row_history(%1$L, k.row_key)', kind) INTO n;
	RETURN n;
END$$;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT results_eq('SELECT name, pg_temp.found(name) FROM kind', 'SELECT name, 11::bigint FROM kind', 'keys of every type');
ALTER TABLE public.by_uuid RENAME TO by_name;
SELECT is((SELECT count(*) FROM audit.row_history('by_name', jsonb_build_object('id', md5('1')::uuid))), 0::bigint, 'entries have the name that a table had then');


CREATE TABLE public.parted (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE public.parted_1 PARTITION OF public.parted DEFAULT;
DO 'BEGIN PERFORM audit.enable(''public.parted''); END';
INSERT INTO public.parted VALUES (1);
ALTER TABLE public.parted RENAME TO divided;
INSERT INTO public.divided VALUES (2);
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is((SELECT string_agg(table_name, ' ' ORDER BY audit_id) FROM audit.log WHERE table_name IN ('parted', 'divided')), 'parted divided',
	'those of a partition, too, that its table has');

-- A key that goes to and fro leads to each entry in very many ways.
INSERT INTO public.by_integer VALUES (7001, 0);
DO 'BEGIN FOR i IN 1..60 LOOP UPDATE public.by_integer SET id = 14003 - id WHERE id IN (7001, 7002); END LOOP; END';
SET LOCAL statement_timeout = '2min';
SELECT is((SELECT count(*) FROM audit.row_history('by_integer', '{"id": 7001}')), 61::bigint, 'they are followed once');

-- An index of ranges that keeps more of them than their ends gets every entry.
CREATE INDEX ON audit.log USING brin (audit_id int8_bloom_ops);
INSERT INTO public.by_bigint SELECT n FROM generate_series(1000, 1800) AS n;
SET CONSTRAINTS ALL IMMEDIATE;
DROP INDEX audit.log_ranges_idx;
CREATE TEMP TABLE entered AS SELECT audit_id FROM audit.log WHERE table_name = 'by_bigint' AND operation = 'I';
SELECT is_empty('SELECT audit_id FROM entered AS e WHERE NOT EXISTS (SELECT FROM audit.log AS l WHERE l.audit_id = e.audit_id OFFSET 0)', 'another operator class');

SELECT * FROM finish();
ROLLBACK;
