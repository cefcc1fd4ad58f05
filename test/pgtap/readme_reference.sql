-- README.md describes every function, table and view of the extension with its arguments and columns, every parameter
-- and every setting, and nothing that is not there.
--
-- An entry of the reference is a heading "#### `schema.name`" or "#### `schema.name(arguments)`" with the text up to the
-- next heading, or a line "| `schema.name` |" of the table of internals.
BEGIN;
SELECT plan(9);

\set readme `cat README.md`
CREATE TEMP TABLE readme (text text NOT NULL);
INSERT INTO readme VALUES (:'readme');

CREATE TEMP TABLE entry AS
SELECT m[1] AS name, m[2] <> '' AS is_function, section AS text
  FROM readme, regexp_split_to_table(split_part(text, E'\n## Reference\n', 2), E'\n#+ ') section,
	   regexp_match(section, '^`([a-z_]+\.[a-z_]+)(\(?)') m
 WHERE m IS NOT NULL
UNION ALL
SELECT m[1], m[2] <> '', NULL
  FROM readme, regexp_matches(split_part(text, E'\n## Reference\n', 2), E'\n\\| `([a-z_]+\\.[a-z_]+)(\\(?)', 'g') m;

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
 WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'sentient_edge' AND d.deptype IN ('e', 'x');
CREATE TEMP VIEW ours AS
SELECT p.oid, format('%s.%s', n.nspname, p.proname) AS name, true AS is_function
  FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid JOIN pg_namespace n ON n.oid = p.pronamespace
UNION ALL
SELECT r.oid, format('%s.%s', n.nspname, r.relname), false
  FROM member m JOIN pg_class r ON m.classid = 'pg_class'::regclass AND r.oid = m.objid JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE r.relkind IN ('r', 'p', 'v', 'm');

SELECT cmp_ok((SELECT count(*) FROM entry), '>', 50::bigint, 'README.md has a reference');
SELECT is_empty('SELECT name FROM ours WHERE is_function EXCEPT SELECT name FROM entry WHERE is_function', 'every function has an entry');
SELECT is_empty('SELECT name FROM ours WHERE NOT is_function EXCEPT SELECT name FROM entry WHERE NOT is_function', 'every table and view has an entry');
SELECT is_empty('SELECT name, is_function FROM entry EXCEPT SELECT name, is_function FROM ours', 'every entry names what is there');
SELECT is_empty('SELECT name FROM entry GROUP BY name, is_function HAVING count(*) > 1', 'nothing has two entries');
SELECT is_empty($$SELECT o.name, argument FROM ours o JOIN entry e USING (name, is_function) JOIN pg_proc p ON p.oid = o.oid, unnest(p.proargnames) argument
	WHERE o.is_function AND e.text IS NOT NULL AND e.text !~ ('\m' || argument || '\M')$$, 'every argument and result column is described');
SELECT is_empty($$SELECT o.name, a.attname FROM ours o JOIN entry e USING (name, is_function) JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
	WHERE NOT o.is_function AND e.text IS NOT NULL AND strpos(e.text, format('`%s`', a.attname)) = 0$$, 'every column is described');
SELECT is_empty($$SELECT name, boot_val, min_val, max_val FROM pg_settings, readme WHERE name LIKE 'sentient\_edge.%'
	AND text !~ format(E'\n\\| `%s` \\| %s[^|]*\\| %s', name, coalesce('`' || nullif(boot_val, '') || '`', 'empty'), min_val || ' to ' || max_val || '\M')$$, 'every parameter is described with its default and range');
SELECT is_empty($$SELECT name, default_value FROM sentient_edge.settings, readme
	WHERE strpos(text, format(E'\n| `%s` | %s |', name, coalesce('`' || default_value || '`', 'null'))) = 0$$, 'every setting is described with its default');

SELECT * FROM finish();
ROLLBACK;
