-- Sealed values: what they take and refuse, how they compare, who may do what.
--
-- Values are taken apart and put together again by their binary form, which only a superuser can call.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = public, sentient_edge;
SELECT plan(75);

CREATE FUNCTION pg_temp.bytes(sealed) RETURNS bytea LANGUAGE sql AS $$SELECT substr(sealed_send($1), 8)$$;
CREATE FUNCTION pg_temp.envelope(bytea) RETURNS sealed LANGUAGE sql
AS $$SELECT ('sealed:' || translate(encode($1, 'base64'), E'+/=\n', '-_'))::sealed$$;
-- What unseal says of a value: the whole of it, so that two answers can be compared.
CREATE FUNCTION pg_temp.answer(value sealed, context text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	RETURN 'opened: ' || unseal(value, context);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws('|', SQLSTATE, message, detail, hint);
END
$$;
CREATE FUNCTION pg_temp.refused() RETURNS text LANGUAGE sql
AS $$SELECT pg_temp.answer(seal('x', 'a.b.c:1'), 'a.b.c:2')$$;

-- There and back

SELECT is(unseal(seal('serial 4711', 'core.drones.serial_number:1'), 'core.drones.serial_number:1'), 'serial 4711', 'what was sealed is unsealed');
SELECT is_empty($$SELECT n FROM generate_series(0, 400) n WHERE unseal(seal(repeat('x', n), 'c'), 'c') IS DISTINCT FROM repeat('x', n)
	OR unseal_bytes(seal_bytes(decode(repeat('00ff', n), 'hex'), 'c', true), 'c') IS DISTINCT FROM decode(repeat('00ff', n), 'hex')$$, 'of every length');
SELECT is(md5(unseal(seal(repeat('0123456789abcdef', 200000), 'c'), 'c')), md5(repeat('0123456789abcdef', 200000)), 'and of megabytes');
SELECT is(unseal(seal('Größe 漢字 🛩', 'Zürich.漢.字:ü'), 'Zürich.漢.字:ü'), 'Größe 漢字 🛩', 'any text, any context');
SELECT is(unseal_bytes(seal('Größe', 'c'), 'c'), convert_to('Größe', 'UTF8'), 'a text is UTF-8 inside');
SELECT throws_ok($$SELECT unseal(seal_bytes('\x616200', 'c'), 'c')$$, '22021', 'sealed value is no text of this database''s encoding', 'bytes that are no text are refused as one');
SELECT is(try_unseal(seal_bytes('\xff', 'c'), 'c'), NULL, 'or null');
SELECT is(octet_length(pg_temp.bytes(seal(repeat('x', 64), 'c'))), 46 + 64, 'an envelope adds 46 bytes');
SELECT is(octet_length(pg_temp.bytes(seal(repeat('x', 64), 'c', true))), 78 + 64, 'a searchable one 78');
SELECT is(substr(pg_temp.bytes(seal('x', 'c')), 1, 2), '\x0101'::bytea, 'it begins with version and algorithm');
SELECT is((SELECT count(DISTINCT pg_temp.bytes(seal('same', 'c', true))) FROM generate_series(1, 1000)), 1000::bigint, 'no two are the same bytes');
SELECT is(seal(NULL, 'c'), NULL, 'null stays null');
SELECT is(unseal(NULL, NULL), NULL, 'both ways');
SELECT is(v::text::sealed::text, v::text, 'the text form is read as it was written') FROM (SELECT seal('x', 'c', true)) s(v);

-- Contexts

SELECT throws_ok($$SELECT seal('x', NULL)$$, '22004', 'context of a sealed value must not be null', 'a context is mandatory');
SELECT throws_ok($$SELECT seal('x', '')$$, '22023', 'context of a sealed value must be of 1 to 1024 bytes of UTF-8', 'and not empty');
SELECT throws_ok($$SELECT seal('x', repeat('c', 1025))$$, '22023', NULL, 'nor too long');
SELECT is(unseal(seal('x', repeat('c', 1024)), repeat('c', 1024)), 'x', 'but long');
SELECT throws_ok($$SELECT unseal(seal('x', 'c'), NULL)$$, '22004', NULL, 'also to unseal');
SELECT throws_ok($$SELECT try_unseal(seal('x', 'c'), '')$$, '22023', NULL, 'and to try');
SELECT throws_ok($$SELECT seal('x', 'c', NULL)$$, '22004', 'searchable must be true or false', 'searchable is known');

-- One error for everything that may come of tampering

SELECT matches(pg_temp.refused(), '^SE002\|sealed value cannot be opened\|', 'another context is refused');
SELECT is_empty($$SELECT context FROM unnest(ARRAY['a.b.c:', 'a.b.c:12', 'a.b.c', 'A.b.c:1', 'a.b.c:1 ', ' a.b.c:1', 'a.b.d:1', repeat('x', 1024)]) context,
	seal('x', 'a.b.c:1') v WHERE pg_temp.answer(v, context) <> pg_temp.refused()$$, 'whatever it is');
SELECT is_empty($$SELECT searchable, at, bit FROM unnest(ARRAY[false, true]) searchable, LATERAL seal('a secret', 'a.b.c:1', searchable) v,
	LATERAL generate_series(0, octet_length(pg_temp.bytes(v)) - 1) at, generate_series(0, 7) bit
	WHERE pg_temp.answer(pg_temp.envelope(set_bit(pg_temp.bytes(v), at * 8 + bit, 1 - get_bit(pg_temp.bytes(v), at * 8 + bit))), 'a.b.c:1') <> pg_temp.refused()$$,
	'every flipped bit of every byte is refused, and likewise');
SELECT is_empty($$SELECT searchable, size FROM unnest(ARRAY[false, true]) searchable, LATERAL seal('a secret', 'a.b.c:1', searchable) v,
	LATERAL generate_series(1, octet_length(pg_temp.bytes(v)) - 1) size
	WHERE pg_temp.answer(pg_temp.envelope(substr(pg_temp.bytes(v), 1, size)), 'a.b.c:1') <> pg_temp.refused()$$, 'and every end cut off');
SELECT is_empty($$SELECT size FROM seal('a secret', 'a.b.c:1', true) v, LATERAL generate_series(2, octet_length(pg_temp.bytes(v))) start,
	LATERAL (SELECT substr(pg_temp.bytes(v), start) AS rest) r, LATERAL octet_length(rest) size
	WHERE pg_temp.answer(pg_temp.envelope(rest), 'a.b.c:1') <> pg_temp.refused() AND NOT get_byte(rest, 0) = 1$$, 'and every beginning');
SELECT is(pg_temp.answer(pg_temp.envelope(pg_temp.bytes(seal('x', 'c')) || '\x00'), 'c'), pg_temp.refused(), 'and what was added to');
SELECT is_empty($$SELECT v FROM generate_series(0, 255) v WHERE v <> 1
	AND pg_temp.answer(pg_temp.envelope(set_byte(pg_temp.bytes(seal('x', 'c')), 0, v)), 'c') <> pg_temp.refused()$$, 'and every other version');
SELECT is_empty($$SELECT form FROM generate_series(0, 255) form, seal('x', 'c') v WHERE form <> 1
	AND pg_temp.answer(pg_temp.envelope(set_byte(pg_temp.bytes(v), 1, form)), 'c') <> pg_temp.refused()$$, 'and every other algorithm and flag');
SELECT is(pg_temp.answer(pg_temp.envelope(overlay(pg_temp.bytes(seal('x', 'c')) PLACING uuid_send(gen_random_uuid()) FROM 3)), 'c'), pg_temp.refused(), 'and a foreign key');
SELECT is(pg_temp.answer(pg_temp.envelope(overlay(pg_temp.bytes(v) PLACING uuid_send(sealed_search_key_id(v)) FROM 35)), 'c'), pg_temp.refused(), 'and a key of another purpose')
  FROM seal('x', 'c', true) v;
SELECT is(pg_temp.answer(pg_temp.envelope(overlay(pg_temp.bytes(seal('x', 'c', true)) PLACING substr(pg_temp.bytes(seal('y', 'c', true)), 3, 32) FROM 3)), 'c'), pg_temp.refused(),
	'and the tag of another value');
SELECT is(pg_temp.answer(pg_temp.envelope('\x0101'::bytea || substr(pg_temp.bytes(seal('x', 'c', true)), 35)), 'c'), pg_temp.refused(), 'and no tag where one was');
SELECT is(try_unseal(seal('x', 'c'), 'd'), NULL, 'which is null to try_unseal');
SELECT is(try_unseal_bytes(seal('x', 'c'), 'd'), NULL, 'and to try_unseal_bytes');
SELECT is(try_unseal(seal('x', 'c'), 'c') || convert_from(try_unseal_bytes(seal('y', 'c'), 'c'), 'UTF8'), 'xy', 'both tell what is right');

-- The type takes nothing but envelopes

CREATE FUNCTION pg_temp.input_answer(input text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
BEGIN
	RETURN input::sealed;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws('|', SQLSTATE, message, detail);
END
$$;
SELECT is_empty($$SELECT input FROM unnest(ARRAY['', 'serial 4711', 'sealed:', 'sealed', 'Sealed:AQ', ' sealed:AQ', 'sealed:A', 'sealed:AQ==', 'sealed:AR', 'sealed:AQ ',
	'sealed:+/+/', E'sealed:AQEB\n', '\x0101', 'sealed:AQEAA', 'sealed:é']) input
	WHERE pg_temp.input_answer(input) <> '22P02|invalid input syntax for type sentient_edge.sealed|It is not shown, for it may be a secret.'$$,
	'text that is no envelope is refused and not repeated');
SELECT is(pg_temp.input_answer('sealed:AQ'), 'sealed:AQ', 'a piece of one is kept as it is');
SELECT is(pg_temp.answer('sealed:AQ', 'c'), pg_temp.refused(), 'and cannot be opened');
SELECT is_empty($$SELECT castsource::regtype, casttarget::regtype FROM pg_cast WHERE 'sentient_edge.sealed'::regtype IN (castsource, casttarget)$$, 'there are no casts');
CREATE TABLE plain_input (value sealed);
SELECT throws_ok($$INSERT INTO plain_input SELECT 'serial 4711'::text$$, '42804', NULL, 'a text is not assigned');
SELECT throws_ok($$INSERT INTO plain_input SELECT 'serial 4711'::bytea$$, '42804', NULL, 'nor bytes');
SELECT is((SELECT typstorage::text || typalign::text FROM pg_type WHERE oid = 'sentient_edge.sealed'::regtype), 'ei', 'ciphertext is not compressed');

-- Search

SELECT ok(seal('x', 'a.b.c:1', true) = seal('x', 'a.b.c:2', true), 'equal texts of a column are equal');
SELECT ok(seal('x', 'a.b.c:1', true) <> seal('y', 'a.b.c:2', true), 'others are not');
SELECT ok(seal('x', 'a.b.c:1', true) <> seal('x', 'a.b.d:1', true), 'nor are those of other columns');
SELECT ok(seal('x', 'a.b.c:1', true) = search_token('x', 'a.b.c'), 'a token finds them');
SELECT ok(seal('x', 'a.b.c:1:2', true) = search_token('x', 'a.b.c:3'), 'for any row');
SELECT ok(seal('x', 'a.b.c:1', true) = ANY (search_tokens('x', 'a.b.c')), 'and so do the tokens of all keys');
SELECT ok(seal('', 'a.b.c:1', true) = search_token('', 'a.b.c'), 'the empty text, too');
SELECT ok(search_token('c', 'a.b') <> search_token('.bc', 'a'), 'where the column ends is part of it');
SELECT ok(search_token('x', '"a:b".t.v:1') <> search_token('x', '"a:c".t.v:1'), 'a colon within a quoted name does not end the column');
SELECT ok(seal('x', '"a:""b".t.v:1', true) = search_token('x', '"a:""b".t.v:2'), 'the one behind it does');
SELECT ok(seal('x', 'a"b:1', true) = search_token('x', 'a"b:2'), 'a quote that is not closed is no quote');
SELECT ok(v = v AND v <> seal('x', 'a.b.c:1') AND v <> search_token('x', 'a.b.c'), 'a value that is not searchable is equal to itself only') FROM seal('x', 'a.b.c:1') v;
SELECT is(search_token(NULL, 'c'), NULL, 'there is no token of null');
SELECT throws_ok($$SELECT search_token('x', '')$$, '22023', NULL, 'nor one without a column');
SELECT throws_ok($$SELECT unseal(search_token('x', 'c'), 'c')$$, '22023', 'a search token holds no value', 'a token is not a value');
SELECT is(try_unseal(search_token('x', 'c'), 'c'), NULL, 'not to try_unseal either');
SELECT ok(sealed_key_id(v) <> sealed_search_key_id(v) AND sealed_key_id(t) IS NULL AND sealed_search_key_id(t) = sealed_search_key_id(v)
	AND sealed_search_key_id(u) IS NULL AND sealed_key_id(u) = sealed_key_id(v) AND sealed_key_id('sealed:AQ') IS NULL, 'the keys of a value are told')
  FROM seal('x', 'c', true) v, search_token('x', 'c') t, seal('x', 'c') u;

CREATE TABLE item (id integer PRIMARY KEY, value sealed);
INSERT INTO item SELECT i, seal('v' || i % 500, 'public.item.value:' || i, true) FROM generate_series(1, 1000) i;
INSERT INTO item SELECT i, seal('v1', 'public.item.value:' || i) FROM generate_series(1001, 1010) i;
INSERT INTO item VALUES (1011, seal(repeat('long', 10000), 'public.item.value:1011', true)), (1012, seal(repeat('long', 10000), 'public.item.value:1012', true)),
	(1013, seal(repeat('long', 10000), 'public.item.value:1013')), (1014, NULL);
SELECT is((SELECT count(DISTINCT value) FROM item), 512::bigint, 'DISTINCT');
SELECT is((SELECT count(*) FROM (SELECT value FROM item WHERE value IS NOT NULL GROUP BY value) g), 512::bigint, 'GROUP BY');
CREATE FUNCTION pg_temp.join_by(how text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
	n bigint;
BEGIN
	PERFORM set_config('enable_' || m, CASE WHEN m = how THEN 'on' ELSE 'off' END, true) FROM unnest(ARRAY['hashjoin', 'mergejoin', 'nestloop']) m;
	FOR line IN EXPLAIN SELECT FROM item a JOIN item b USING (value) LOOP
		plan := plan || line;
	END LOOP;
	SELECT count(*) INTO n FROM item a JOIN item b USING (value);
	PERFORM set_config('enable_' || m, 'on', true) FROM unnest(ARRAY['hashjoin', 'mergejoin', 'nestloop']) m;
	RETURN substring(plan FROM '(Hash Join|Merge Join|Nested Loop)') || ' ' || n;
END
$$;
SELECT is(pg_temp.join_by('hashjoin'), 'Hash Join 2015', 'hash joins');
SELECT is(pg_temp.join_by('mergejoin'), 'Merge Join 2015', 'merge joins');
SELECT is(pg_temp.join_by('nestloop'), 'Nested Loop 2015', 'nested loops');
SELECT is_empty($$SELECT a.id, b.id FROM item a, item b WHERE a.id % 50 = 0 AND ((a.value < b.value) <> (b.value > a.value) OR (a.value <= b.value) <> NOT (a.value > b.value)
	OR (a.value >= b.value) <> NOT (a.value < b.value) OR (a.value = b.value) <> (a.value <= b.value AND a.value >= b.value) OR (a.value <> b.value) = (a.value = b.value)
	OR sign(sealed_cmp(a.value, b.value)) <> -sign(sealed_cmp(b.value, a.value)) OR (a.value = b.value AND sealed_hash(a.value) <> sealed_hash(b.value)))$$, 'the operators agree');
SELECT is_empty($$SELECT FROM (SELECT value, lag(value) OVER (ORDER BY value) AS previous FROM item WHERE value IS NOT NULL) s WHERE previous > value$$, 'values have an order');
CREATE INDEX item_hash ON item USING hash (value);
SET LOCAL enable_seqscan = off;
CREATE FUNCTION pg_temp.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		plan := plan || line;
	END LOOP;
	RETURN plan;
END
$$;
SELECT matches(pg_temp.plan($$SELECT FROM item WHERE value = search_token('v77', 'public.item.value')$$), 'item_hash', 'a token uses a hash index');
SELECT results_eq($$SELECT id FROM item WHERE value = search_token('v77', 'public.item.value') ORDER BY id$$, 'VALUES (77), (577)', 'and finds');
SELECT results_eq($$SELECT id FROM item WHERE value = search_token(repeat('long', 10000), 'public.item.value') ORDER BY id$$, 'VALUES (1011), (1012)', 'long values, too');
CREATE TABLE entry AS SELECT * FROM item WHERE id < 1011;
CREATE INDEX entry_btree ON entry (value);
SELECT matches(pg_temp.plan($$SELECT FROM entry WHERE value = ANY (search_tokens('v77', 'public.item.value'))$$), 'entry_btree', 'tokens use a btree index');
SELECT results_eq($$SELECT id FROM entry WHERE value = ANY (search_tokens('v77', 'public.item.value')) ORDER BY id$$, 'VALUES (77), (577)', 'and find');
RESET enable_seqscan;
SET LOCAL search_path = public;
SELECT ok(sentient_edge.seal('x', 'a.b.c:1', true) = sentient_edge.search_token('x', 'a.b.c') AND sentient_edge.seal('x', 'a.b.c:1', true) IN (sentient_edge.search_token('x', 'a.b.c')),
	'operators are found without search_path');
SET LOCAL search_path = public, sentient_edge;
CREATE TABLE single (id integer, value sealed UNIQUE);
INSERT INTO single VALUES (1, seal('x', 'public.single.value:1', true)), (2, seal('y', 'public.single.value:2', true)), (3, seal('x', 'public.single.value:3')), (4, seal('x', 'public.single.value:4'));
SELECT throws_ok($$INSERT INTO single VALUES (5, seal('x', 'public.single.value:5', true))$$, '23505', NULL, 'a unique index keeps equal values out, of those that are searchable');
CREATE TABLE spread (value sealed) PARTITION BY HASH (value);
CREATE TABLE spread_0 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE spread_1 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO spread SELECT seal('v' || i % 20, 'c:' || i, true) FROM generate_series(1, 200) i;
SELECT is_empty('SELECT FROM spread_0 JOIN spread_1 USING (value)', 'equal values are in the same hash partition');

SELECT * FROM finish();
ROLLBACK;
