-- The trigger that takes only values sealed for their own rows, and who may seal and unseal.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = public, sentient_edge;
SELECT plan(56);

-- Contexts

CREATE TABLE item (item_id integer PRIMARY KEY, note text, serial sealed);
SELECT is(sealed_context('item', 'serial', '7'), 'public.item.serial:7', 'a context names schema, table, column and key');
SELECT is(sealed_context('item', 'serial', 'a,b\c'), 'public.item.serial:a,b\c', 'one key as it is');
SELECT is(sealed_context('item', 'serial', 'a,b', '\', 'c'), 'public.item.serial:a\,b,\\,c', 'several so that they can be told apart');
SELECT is(sealed_context('item', 'serial', 'a', NULL), NULL, 'no key, no context');
SELECT throws_ok($$SELECT sealed_context('item', 'no_such', '7')$$, '42703', 'column "no_such" of relation "item" does not exist', 'nor without a column');
SELECT throws_ok($$SELECT sealed_context('item', 'serial', VARIADIC '{}')$$, '22023', 'a context needs a key', 'nor without keys');
CREATE TABLE "Odd "".:name" ("user" integer, "Serial" sealed);
SELECT is(sealed_context('"Odd "".:name"', 'Serial', '7'), 'public."Odd "".:name"."Serial":7', 'odd names are quoted');
SELECT is(sealed_context('"Odd "".:name"', 'user', '7'), 'public."Odd "".:name".user:7', 'keywords are not, for they change');

-- The trigger

CREATE TRIGGER require_context BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION require_context('serial', 'item_id');
SELECT lives_ok($$INSERT INTO item VALUES (1, 'a', seal('S-1', 'public.item.serial:1')), (2, 'b', seal('S-2', 'public.item.serial:2', true)), (3, 'c', NULL)$$, 'values of their own rows are taken, and null');
CREATE FUNCTION pg_temp.refusal(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT is_empty($$SELECT value FROM unnest(ARRAY[seal('S', 'public.item.serial:5'), seal('S', 'public.item.serial:40'), seal('S', 'public.item.note:4'), seal('S', 'other.item.serial:4'), 'sealed:AQ']) value
	WHERE pg_temp.refusal(format('INSERT INTO item VALUES (4, NULL, %L)', value)) <> 'SE002 value of column "serial" of relation "item" is not sealed for its own row'$$, 'those of other rows, columns, tables are refused');
SELECT is(pg_temp.refusal($$INSERT INTO item VALUES (4, NULL, search_token('S', 'public.item.serial'))$$), '22023 a search token holds no value', 'and so is a search token');
SELECT matches(pg_temp.refusal('UPDATE item SET serial = (SELECT serial FROM item other WHERE other.item_id = 3 - item.item_id) WHERE item_id < 3'), '^SE002', 'two values are not exchanged');
SELECT matches(pg_temp.refusal('UPDATE item SET item_id = 9 WHERE item_id = 1'), '^SE002', 'a row with a value keeps its key');
SELECT is(pg_temp.refusal('UPDATE item SET item_id = 9 WHERE item_id = 3'), 'taken', 'one without does not');
SELECT is(pg_temp.refusal($$UPDATE item SET item_id = 8, serial = seal('S-1', 'public.item.serial:8') WHERE item_id = 1$$), 'taken', 'a new key goes with a value sealed for it');
SELECT is(pg_temp.refusal('UPDATE item SET serial = NULL WHERE item_id = 8'), 'taken', 'a value can be removed');
SELECT matches(pg_temp.refusal($$INSERT INTO item SELECT 10, NULL, serial FROM item WHERE item_id = 2$$), '^SE002', 'a row is not copied with it');
ALTER TABLE item DISABLE TRIGGER require_context;
INSERT INTO item VALUES (20, 'a', seal('S-20', 'public.item.serial:20')), (21, 'b', seal('S-21', 'public.item.serial:21'));
UPDATE item SET serial = CASE item_id WHEN 20 THEN (SELECT serial FROM item WHERE item_id = 21) ELSE (SELECT serial FROM item WHERE item_id = 20) END WHERE item_id IN (20, 21);
ALTER TABLE item ENABLE TRIGGER require_context;
SELECT throws_ok($$SELECT unseal(serial, sealed_context('item', 'serial', item_id::text)) FROM item WHERE item_id = 20$$, 'SE002', 'sealed value cannot be opened', 'values that a superuser has exchanged without the trigger are not opened');
SELECT is(pg_temp.refusal($$UPDATE item SET note = 'z' WHERE item_id = 20$$), 'taken', 'a value that stays is not looked at');
SELECT matches(pg_temp.refusal('UPDATE item SET serial = serial, item_id = 22 WHERE item_id = 20'), '^SE002', 'unless the key changes');

-- More keys, partitions, domains, wide values

CREATE DOMAIN secret AS sealed;
CREATE TABLE part (region text, part_id bigint, serial secret, PRIMARY KEY (region, part_id)) PARTITION BY LIST (region);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a', 'a,1');
CREATE TABLE part_b (part_id bigint NOT NULL, gone integer, serial secret, region text NOT NULL);
ALTER TABLE part_b DROP COLUMN gone;
ALTER TABLE part ATTACH PARTITION part_b FOR VALUES IN ('b');
CREATE TRIGGER require_context BEFORE INSERT OR UPDATE ON part FOR EACH ROW EXECUTE FUNCTION require_context('serial', 'region', 'part_id');
SELECT is(sealed_context('part_b', 'serial', 'b', '1'), 'public.part.serial:b,1', 'a partition''s rows have the context of the parent');
SELECT is(pg_temp.refusal($$INSERT INTO part VALUES ('a', 1, seal('x', 'public.part.serial:a,1')), ('b', 2, seal('x', 'public.part.serial:b,2'))$$), 'taken', 'through it');
SELECT is(pg_temp.refusal($$INSERT INTO part_b (region, part_id, serial) VALUES ('b', 3, seal('x', 'public.part.serial:b,3'))$$), 'taken', 'and straight into it');
SELECT matches(pg_temp.refusal($$INSERT INTO part_b (region, part_id, serial) VALUES ('b', 4, seal('x', 'public.part_b.serial:b,4'))$$), '^SE002', 'not with its own');
SELECT matches(pg_temp.refusal($$INSERT INTO part VALUES ('a,1', 1, seal('x', 'public.part.serial:a,1,1'))$$), '^SE002', 'keys are told apart');
SELECT is(pg_temp.refusal($$INSERT INTO part VALUES ('a,1', 1, seal('x', 'public.part.serial:a\,1,1'))$$), 'taken', 'by a backslash');
SELECT matches(pg_temp.refusal($$UPDATE part SET region = 'b' WHERE region = 'a'$$), '^SE002', 'a row that moves to another partition has a new key');
SELECT is(pg_temp.refusal($$UPDATE part SET region = 'b', part_id = 9, serial = seal('x', 'public.part.serial:b,9') WHERE region = 'a'$$), 'taken', 'and may with a new value');
SELECT is(pg_temp.refusal($$INSERT INTO item VALUES (30, NULL, seal(repeat('long', 100000), 'public.item.serial:30'))$$), 'taken', 'long values are taken');
SELECT is(pg_temp.refusal($$UPDATE item SET note = 'z' WHERE item_id = 30$$), 'taken', 'and kept');
SELECT is(md5(unseal(serial, 'public.item.serial:30')), md5(repeat('long', 100000)), 'and opened') FROM item WHERE item_id = 30;

-- Used wrongly

CREATE TABLE wrong (id integer, at timestamptz, value sealed);
CREATE TRIGGER t AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION require_context('value', 'id');
SELECT throws_ok('INSERT INTO wrong (id) VALUES (1)', '39P01', NULL, 'it is no AFTER trigger');
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON wrong FOR EACH STATEMENT EXECUTE FUNCTION require_context('value', 'id');
SELECT throws_ok('INSERT INTO wrong (id) VALUES (1)', '39P01', NULL, 'nor one for statements');
CREATE OR REPLACE TRIGGER t BEFORE INSERT OR DELETE ON wrong FOR EACH ROW EXECUTE FUNCTION require_context('value');
SELECT throws_ok('INSERT INTO wrong (id) VALUES (1)', '39P01', 'sentient_edge.require_context() needs the names of the sealed column and of its key columns', 'it needs a key');
CREATE OR REPLACE TRIGGER t BEFORE INSERT OR DELETE ON wrong FOR EACH ROW EXECUTE FUNCTION require_context('value', 'gone');
SELECT throws_ok($$INSERT INTO wrong VALUES (1, now(), seal('x', 'c'))$$, '42703', 'column "gone" of relation "wrong" does not exist', 'which is there');
CREATE OR REPLACE TRIGGER t BEFORE INSERT OR DELETE ON wrong FOR EACH ROW EXECUTE FUNCTION require_context('id', 'id');
SELECT throws_ok($$INSERT INTO wrong VALUES (1, now(), NULL)$$, '42804', 'column "id" of relation "wrong" is not of type sentient_edge.sealed', 'and a sealed column');
CREATE OR REPLACE TRIGGER t BEFORE INSERT OR DELETE ON wrong FOR EACH ROW EXECUTE FUNCTION require_context('value', 'at');
SELECT throws_ok($$INSERT INTO wrong VALUES (1, now(), seal('x', 'c'))$$, '42804', 'column "at" of type timestamp with time zone cannot be the key of a context', 'of a type that always reads the same');
CREATE OR REPLACE TRIGGER t BEFORE INSERT OR DELETE ON wrong FOR EACH ROW EXECUTE FUNCTION require_context('value', 'id');
SELECT throws_ok($$INSERT INTO wrong VALUES (NULL, now(), seal('x', 'c'))$$, '22004', 'column "id" must not be null in a row with a sealed value', 'and not null');
INSERT INTO wrong VALUES (1, now(), NULL);
SELECT throws_ok('DELETE FROM wrong', '39P01', NULL, 'it is no DELETE trigger');

-- On the extension's own tables it stands back while a dump is restored

CREATE TABLE sentient_edge.member (id integer PRIMARY KEY, value sealed);
CREATE TRIGGER require_context BEFORE INSERT OR UPDATE ON sentient_edge.member FOR EACH ROW EXECUTE FUNCTION require_context('value', 'id');
ALTER EXTENSION sentient_edge ADD TABLE sentient_edge.member;
SELECT is((SELECT is_enforced FROM foreign_keys WHERE table_name = 'sentient_edge.member'::regclass AND trigger_name = 'require_context' AND constraint_name IS NULL), true, 'it is among the checks that stand back');
SELECT throws_ok($$INSERT INTO sentient_edge.member VALUES (1, 'sealed:AQ')$$, 'SE002', NULL, 'it checks');
DO 'BEGIN PERFORM sentient_edge.enforce_foreign_keys(false); END';
SELECT lives_ok($$INSERT INTO sentient_edge.member VALUES (1, 'sealed:AQ')$$, 'then not');
DO 'BEGIN PERFORM sentient_edge.enforce_foreign_keys(); END';
SELECT throws_ok($$INSERT INTO sentient_edge.member VALUES (2, 'sealed:AQ')$$, 'SE002', NULL, 'then again');
ALTER EXTENSION sentient_edge DROP TABLE sentient_edge.member;

-- Who may do what

CREATE TEMP VIEW may AS
SELECT r.role, p.oid::regprocedure::text AS function, has_function_privilege(r.role, p.oid, 'EXECUTE') AS allowed
  FROM unnest(ARRAY['sentient_admin', 'sentient_operator', 'sentient_analyst', 'sentient_viewer', 'sentient_app', 'public']) WITH ORDINALITY r (role, rank), pg_proc p
 WHERE p.pronamespace = 'sentient_edge'::regnamespace;
SELECT set_eq($$SELECT DISTINCT function FROM may WHERE role = 'sentient_operator' AND allowed AND function ~ '^(seal|seal_bytes|sealed_context|search_tokens?)\('$$,
	ARRAY['seal(text,text,boolean)', 'seal_bytes(bytea,text,boolean)', 'sealed_context(regclass,name,text[])', 'search_token(text,text)', 'search_tokens(text,text)'], 'operators seal and search');
SELECT is_empty($$SELECT role, function FROM may WHERE role NOT IN ('sentient_admin', 'sentient_operator') AND allowed AND function ~ '^(seal|seal_bytes|sealed_context|search_tokens?)\('$$, 'nobody below does');
SELECT is_empty($$SELECT role, function FROM may WHERE role <> 'sentient_admin' AND allowed AND function ~ '^(try_)?unseal(_bytes)?\('$$, 'nobody but an administrator unseals');
SELECT is((SELECT count(*) FROM may WHERE role = 'sentient_admin' AND allowed AND function ~ '^(try_)?unseal(_bytes)?\('), 4::bigint, 'who does');
SELECT is_empty($$SELECT role, function FROM may WHERE allowed AND function ~ '^(require_context|sealed_(in|out|send|recv|sortsupport))\('$$, 'what is for the server is for nobody');
GRANT SELECT ON item TO sentient_viewer;
GRANT USAGE ON SCHEMA public TO sentient_viewer;
GRANT INSERT ON item TO sentient_operator;
SET LOCAL ROLE sentient_viewer;
SELECT is((SELECT count(*) FROM item a JOIN item b USING (serial) WHERE a.serial IS NOT NULL), 4::bigint, 'a viewer compares');
SELECT throws_ok($$SELECT unseal(serial, 'public.item.serial:2') FROM item WHERE item_id = 2$$, '42501', NULL, 'but does not open');
SELECT throws_ok($$SELECT search_token('S-2', 'public.item.serial')$$, '42501', NULL, 'nor guess');
SELECT throws_ok($$SELECT seal('x', 'c')$$, '42501', NULL, 'nor seal');
SET LOCAL ROLE sentient_operator;
SELECT lives_ok($$INSERT INTO item VALUES (50, NULL, seal('S-50', 'public.item.serial:50', true))$$, 'an operator seals, and the trigger opens for him');
SELECT is((SELECT item_id FROM item WHERE serial = search_token('S-2', 'public.item.serial')), 2, 'and finds');
SELECT throws_ok($$SELECT unseal(serial, 'public.item.serial:50') FROM item WHERE item_id = 50$$, '42501', NULL, 'but does not open, not even his own');
SET LOCAL ROLE sentient_admin;
SELECT is(unseal(serial, 'public.item.serial:50'), 'S-50', 'an administrator does') FROM item WHERE item_id = 50;

SELECT * FROM finish();
ROLLBACK;
