-- Entries of one row are the same whatever the session that changes it has set, for every type there is, alone and inside others.
BEGIN;
SELECT plan(29);
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = public, pg_catalog;

CREATE SCHEMA pgtap_values;
CREATE TYPE pgtap_values.mood AS ENUM ('calm');
CREATE TABLE pgtap_values.thing (id integer);
CREATE FUNCTION pgtap_values.twice(integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * $1';
CREATE OPERATOR pgtap_values.%%% (FUNCTION = pgtap_values.twice, RIGHTARG = integer);
CREATE TEXT SEARCH CONFIGURATION pgtap_values.conf (COPY = simple);
CREATE TEXT SEARCH DICTIONARY pgtap_values.dict (TEMPLATE = pg_catalog.simple);
CREATE COLLATION pgtap_values.coll FROM "C";

CREATE TABLE pgtap_values.sample (id integer GENERATED ALWAYS AS IDENTITY, type regtype PRIMARY KEY, value text);
INSERT INTO pgtap_values.sample (type, value) VALUES
	('boolean', 't'), ('bytea', '\x00ff5c'), ('"char"', 'c'), ('name', 'a name'), ('bigint', '-9007199254740993'), ('smallint', '-2'), ('integer', '7'),
	('text', 'text " ''\ '), ('oid', '1'), ('tid', '(1,2)'), ('xid', '3'), ('cid', '4'), ('json', '{"z": 1, "a": [1.0]}'), ('xml', '<a b="1">x</a>'), ('point', '(0.1,3e-30)'),
	('lseg', '[(0.1,1),(2,3)]'), ('path', '((0.1,1),(2,3))'), ('box', '(2,3),(0.1,1)'), ('polygon', '((0.1,1),(2,3),(4,5))'), ('line', '{0.1,1,2}'),
	('cidr', '10.0.0.0/8'), ('real', '0.1'), ('double precision', '0.30000000000000004'), ('circle', '<(0.1,1),2>'), ('macaddr8', '08:00:2b:01:02:03:04:05'),
	('macaddr', '08:00:2b:01:02:03'), ('inet', '10.0.0.1/8'), ('character', 'x'), ('character varying', 'y'), ('time without time zone', '03:04:05.678'),
	('time with time zone', '03:04:05.678-08'), ('bit', '1'), ('bit varying', '101'), ('numeric', '-1234567.500'), ('refcursor', 'c'), ('uuid', '00000000-0000-4000-8000-000000000001'),
	('txid_snapshot', '10:20:10,15'), ('pg_snapshot', '10:20:10,15'), ('pg_lsn', '16/B374D848'), ('tsvector', '''a'':1A ''b'':2'), ('tsquery', '''a'' & !''b'''),
	('jsonb', '{"z": 1, "a": [1.0]}'), ('jsonpath', '$."a"[*]?(@ > 1.5)'), ('xid8', '5'), ('date', '2026-11-02'), ('timestamp', '2026-11-02 03:04:05.678'),
	('timestamptz', '2026-11-02 03:04:05.678+00'), ('interval', '-1 year -2 mons +3 days -04:05:06.7'), ('money', '-1234567.89'), ('aclitem', 'sentient_admin=r/sentient_admin'),
	('regproc', 'pgtap_values.twice'), ('regprocedure', 'pgtap_values.twice(integer)'), ('regoper', 'pgtap_values.%%%'), ('regoperator', 'pgtap_values.%%%(NONE,integer)'),
	('regclass', 'pgtap_values.thing'), ('regtype', 'pgtap_values.mood'), ('regconfig', 'pgtap_values.conf'), ('regdictionary', 'pgtap_values.dict'),
	('regcollation', 'pgtap_values.coll'), ('regnamespace', 'pgtap_values'), ('regrole', 'sentient_admin'),
	('int4range', '[1,3)'), ('int8range', '[1,3)'), ('numrange', '[1.0,3)'), ('tsrange', '["2026-11-02 03:04:05",)'), ('tstzrange', '["2026-11-02 03:04:05+00",)'),
	('daterange', '[2026-11-02,2026-12-02)'), ('int4multirange', '{[1,3)}'), ('int8multirange', '{[1,3)}'), ('nummultirange', '{[1.0,3)}'),
	('tsmultirange', '{["2026-11-02 03:04:05",)}'), ('tstzmultirange', '{["2026-11-02 03:04:05+00",)}'), ('datemultirange', '{[2026-11-02,2026-12-02)}'),
	('pgtap_values.mood', 'calm');
SELECT is_empty($$SELECT t.oid::regtype FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm') AND t.typsubscript <> 'array_subscript_handler'::regproc
		AND t.typname NOT IN ('pg_node_tree', 'pg_ndistinct', 'pg_dependencies', 'pg_mcv_list', 'pg_brin_bloom_summary', 'pg_brin_minmax_multi_summary', 'gtsvector')
		AND NOT EXISTS (SELECT FROM pgtap_values.sample s WHERE s.type = t.oid)$$, 'there is a sample of every type that columns may have');
-- a server that was built without libxml
DO $$BEGIN PERFORM '<a/>'::xml; EXCEPTION WHEN feature_not_supported THEN DELETE FROM pgtap_values.sample WHERE type = 'xml'::regtype; END$$;

-- Each type by itself, in a domain, an array, a range and a multirange where it has an order; all of them in a composite, in one within, and in an array of it.
CREATE VIEW pgtap_values.column_of AS
SELECT id, format_type(type, NULL) AS name, format('%L::text::%s', value, format_type(type, NULL)) AS value FROM pgtap_values.sample;
DO $$
DECLARE
	s record;
BEGIN
	EXECUTE (SELECT format('CREATE TYPE pgtap_values.everything AS (%s)', string_agg(format('v%s %s', id, name), ', ' ORDER BY id)) FROM pgtap_values.column_of);
	CREATE TYPE pgtap_values.outer AS (inner_one pgtap_values.everything, many pgtap_values.everything[]);
	CREATE TYPE pgtap_values.pair AS (amount money, tables regclass[]);
	CREATE TYPE pgtap_values.pairs AS RANGE (subtype = pgtap_values.pair);
	FOR s IN SELECT id, name FROM pgtap_values.column_of LOOP
		EXECUTE format('CREATE DOMAIN pgtap_values.d%s AS %s', s.id, s.name);
		BEGIN
			EXECUTE format('CREATE TYPE pgtap_values.r%1$s AS RANGE (subtype = %2$s%3$s, multirange_type_name = pgtap_values.m%1$s)', s.id, s.name,
				CASE WHEN s.name LIKE 'reg%' THEN ', subtype_opclass = oid_ops' ELSE '' END);
		EXCEPTION WHEN undefined_object THEN
			NULL;	-- without an order, no range
		END;
	END LOOP;
	EXECUTE (SELECT format('CREATE TABLE pgtap_values.staging AS SELECT 1 AS id, %s, ROW(%s)::pgtap_values.everything AS everything',
			string_agg(format('%2$s AS v%1$s, %2$s::pgtap_values.d%1$s AS d%1$s, ARRAY[NULL, %2$s] AS a%1$s', id, value)
				|| CASE WHEN to_regtype('pgtap_values.r' || id) IS NULL THEN ''
					ELSE format(', pgtap_values.r%1$s(%2$s, NULL) AS r%1$s, pgtap_values.m%1$s(pgtap_values.r%1$s(%2$s, NULL)) AS m%1$s', id, value) END, ', ' ORDER BY id),
			string_agg(value, ', ' ORDER BY id))
		FROM pgtap_values.column_of);
END
$$;
ALTER TABLE pgtap_values.staging ADD outer_one pgtap_values.outer, ADD many pgtap_values.outer[], ADD pairs pgtap_values.pairs[];
UPDATE pgtap_values.staging SET outer_one = (everything, ARRAY[everything, NULL]),
	pairs = ARRAY[pgtap_values.pairs((1.5::money, '{pgtap_values.thing,pg_class}')::pgtap_values.pair, NULL)];
UPDATE pgtap_values.staging SET many = ARRAY[outer_one];
SELECT ok((SELECT count(*) > 60 FROM pg_type WHERE typnamespace = 'pgtap_values'::regnamespace AND typtype IN ('r', 'm')), 'ranges of many types');

CREATE TABLE pgtap_values.kinds (LIKE pgtap_values.staging);
SELECT audit.enable('pgtap_values.kinds');

-- The row's entry under these settings, key by key; the settings end with the call.
CREATE FUNCTION pgtap_values.entry(settings text[]) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	before text[];
BEGIN
	FOR i IN 1 .. cardinality(settings) BY 2 LOOP
		before := before || current_setting(settings[i]);
		PERFORM pg_catalog.set_config(settings[i], settings[i + 1], true);
	END LOOP;
	DELETE FROM pgtap_values.kinds;
	INSERT INTO pgtap_values.kinds SELECT * FROM pgtap_values.staging;
	UPDATE pgtap_values.kinds SET v1 = NOT v1;
	FOR i IN 1 .. cardinality(settings) BY 2 LOOP
		PERFORM pg_catalog.set_config(settings[i], before[(i + 1) / 2], true);
	END LOOP;
	RETURN QUERY SELECT e.key, e.value FROM (SELECT l.new_values FROM audit.log l WHERE l.schema_name = 'pgtap_values' AND l.operation = 'I' ORDER BY l.audit_id DESC LIMIT 1) l,
		jsonb_each(l.new_values) e;
END
$$;
CREATE TABLE pgtap_values.plain AS SELECT * FROM pgtap_values.entry('{}') AS e (key text, value jsonb);
SELECT cmp_ok((SELECT count(*) FROM pgtap_values.plain WHERE value <> 'null'), '>', 250::bigint, 'a row of many columns');

-- What they hold under other settings that differs.
CREATE FUNCTION pgtap_values.differing(VARIADIC settings text[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(key || ': ' || left(p.value::text, 100) || ' <> ' || left(e.value::text, 100), E'\n')
	  FROM pgtap_values.plain p FULL JOIN pgtap_values.entry(settings) AS e (key text, value jsonb) USING (key)
	 WHERE p.value IS DISTINCT FROM e.value
$$;
SELECT is(pgtap_values.differing('search_path', 'pgtap_values'), NULL, 'search_path');
SELECT is(pgtap_values.differing('search_path', ''), NULL, 'an empty search_path');
SELECT is(pgtap_values.differing('quote_all_identifiers', 'on'), NULL, 'quote_all_identifiers');
SELECT lives_ok($$SET LOCAL lc_monetary = 'de_DE.UTF-8'$$, 'there is another lc_monetary');
SELECT isnt(1::money::text, '$1.00', 'which writes money in its own way');
SET LOCAL lc_monetary = 'C';
SELECT is(pgtap_values.differing('lc_monetary', 'de_DE.UTF-8'), NULL, 'lc_monetary');
SELECT is(pgtap_values.differing('datestyle', 'SQL, DMY'), NULL, 'DateStyle SQL');
SELECT is(pgtap_values.differing('datestyle', 'German'), NULL, 'DateStyle German');
SELECT is(pgtap_values.differing('datestyle', 'Postgres, MDY'), NULL, 'DateStyle Postgres');
SELECT is(pgtap_values.differing('intervalstyle', 'sql_standard'), NULL, 'IntervalStyle sql_standard');
SELECT is(pgtap_values.differing('intervalstyle', 'iso_8601'), NULL, 'IntervalStyle iso_8601');
SELECT is(pgtap_values.differing('timezone', 'Asia/Kolkata'), NULL, 'TimeZone');
SELECT is(pgtap_values.differing('extra_float_digits', '-10'), NULL, 'extra_float_digits');
SELECT is(pgtap_values.differing('extra_float_digits', '3'), NULL, 'many of them');
SELECT is(pgtap_values.differing('bytea_output', 'escape'), NULL, 'bytea_output');
SELECT is(pgtap_values.differing('xmlbinary', 'hex', 'xmloption', 'document'), NULL, 'xmlbinary, xmloption');
SELECT is(pgtap_values.differing('lc_time', 'de_DE.UTF-8', 'lc_numeric', 'de_DE.UTF-8', 'client_encoding', 'LATIN1', 'array_nulls', 'off', 'standard_conforming_strings', 'off'), NULL, 'and others');
SELECT is(pgtap_values.differing('search_path', 'pgtap_values', 'quote_all_identifiers', 'on', 'lc_monetary', 'de_DE.UTF-8', 'datestyle', 'German', 'intervalstyle', 'iso_8601',
	'timezone', 'America/New_York', 'extra_float_digits', '-15', 'bytea_output', 'escape'), NULL, 'all of them');

-- What they hold.
CREATE FUNCTION pgtap_values.held(type regtype) RETURNS jsonb LANGUAGE sql AS $$
	SELECT p.value FROM pgtap_values.sample s JOIN pgtap_values.plain p ON p.key = 'v' || s.id WHERE s.type = held.type
$$;
SELECT is(pgtap_values.held('money'), '"-$1,234,567.89"', 'money as in the C locale');
SELECT is(pgtap_values.held('regclass'), '"pgtap_values.thing"', 'a name with its schema');
SELECT is((SELECT value FROM pgtap_values.plain WHERE key = 'pairs'), '["[\"($1.50,\"\"{pgtap_values.thing,pg_class}\"\")\",)"]', 'without it in pg_catalog');

-- Temporary tables are told from others: by pg_catalog's names they have a schema.
CREATE TABLE pgtap_values.pointer (id integer PRIMARY KEY, target regclass);
SELECT audit.enable('pgtap_values.pointer');
CREATE TEMPORARY TABLE pgtap_temporary ();
CREATE TEMPORARY TABLE pg_ts_dict ();
INSERT INTO pgtap_values.pointer VALUES (1, 'pg_temp.pgtap_temporary'), (2, 'pg_temp.pg_ts_dict'), (3, 'pg_catalog.pg_ts_dict');
SELECT is((SELECT string_agg(regexp_replace(new_values->>'target', 'pg_temp_\d+', 'pg_temp_n'), ' ' ORDER BY audit_id) FROM audit.log WHERE table_name = 'pointer'),
	'pgtap_temporary pg_temp_n.pg_ts_dict pg_ts_dict', 'temporary tables');
DROP TABLE pgtap_temporary, pg_temp.pg_ts_dict;

-- The session's settings are what they were, also after an error.
SET LOCAL search_path = pgtap_values, public, pg_catalog;
SET LOCAL lc_monetary = 'de_DE.UTF-8';
SET LOCAL quote_all_identifiers = on;
INSERT INTO kinds SELECT * FROM staging;
SELECT is(current_setting('search_path') || current_setting('lc_monetary') || current_setting('quote_all_identifiers'), 'pgtap_values, public, pg_catalogde_DE.UTF-8on', 'the settings come back');
CREATE FUNCTION pgtap_values.fails(pgtap_values.mood) RETURNS json LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;
CREATE CAST (pgtap_values.mood AS json) WITH FUNCTION pgtap_values.fails(pgtap_values.mood);
SELECT throws_ok('INSERT INTO kinds SELECT * FROM staging', 'P0001', NULL, 'a cast to json fails');
SELECT is(current_setting('search_path') || current_setting('lc_monetary') || current_setting('quote_all_identifiers'), 'pgtap_values, public, pg_catalogde_DE.UTF-8on', 'they come back then, too');
DROP CAST (pgtap_values.mood AS json);

-- A composite that gets another attribute while a session knows the table.
CREATE TYPE pgtap_values.grows AS (a integer);
CREATE TABLE pgtap_values.growing (id integer PRIMARY KEY, g pgtap_values.grows[]);
SELECT audit.enable('pgtap_values.growing');
INSERT INTO pgtap_values.growing VALUES (1, ARRAY[ROW(1)::pgtap_values.grows]);
ALTER TYPE pgtap_values.grows ADD ATTRIBUTE b regclass;
INSERT INTO pgtap_values.growing VALUES (2, ARRAY[ROW(1, 'pgtap_values.thing')::pgtap_values.grows]);
SELECT is((SELECT new_values #>> '{g,0,b}' FROM audit.log WHERE schema_name = 'pgtap_values' AND table_name = 'growing' AND row_key = '{"id": 2}'), 'pgtap_values.thing',
	'a composite that has grown');

SELECT * FROM finish();
ROLLBACK;
