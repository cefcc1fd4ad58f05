--
-- Partition maintenance in the foreground, on audit.log: nothing else writes to it here.
-- Every block is one transaction, so that the scheduler does not do its work first.
--
SET timezone = 'Asia/Kolkata';
\set VERBOSITY terse
CREATE FUNCTION pg_temp.log_at(VARIADIC times timestamptz[]) RETURNS void LANGUAGE sql AS
$$INSERT INTO audit.log (schema_name, table_name, operation, occurred_at) SELECT 's', 't', 'T', unnest(times)$$;
-- Entries made by hand are not sealed, which the ledger warns of.
CREATE FUNCTION pg_temp.maintain() RETURNS TABLE (action text, detail text) LANGUAGE sql SET client_min_messages = error AS
$$SELECT m.action, m.detail FROM telemetry.run_maintenance() m
   WHERE m.parent = 'audit.log' AND m.action NOT IN ('runway', 'registered', 'configured')
	 AND m.detail !~ to_char(now(), '_pYYYY') AND m.detail !~ to_char(now() + interval '1 year', '_pYYYY')$$;
CREATE VIEW pg_temp.old AS
SELECT p.name, lower(p.range) AT TIME ZONE 'UTC' AS lower, upper(p.range) AT TIME ZONE 'UTC' AS upper, p.state
  FROM telemetry.partitions p WHERE p.parent = 'audit.log' AND p.name ~ '_p2016';

SELECT count(*) AS failed FROM telemetry.run_maintenance() WHERE action = 'postponed';
SELECT parent, max(runway) >= 4 AS ahead FROM telemetry.partitions GROUP BY parent ORDER BY parent;
SELECT parent, regexp_replace(detail, '[0-9]{4}-.*', '<time>') AS runway FROM telemetry.run_maintenance() WHERE action = 'runway';

-- a month, its last instant in UTC, and the next one's first
BEGIN;
SELECT pg_temp.log_at('2016-01-31 23:59:59.999999Z', '2016-02-01 00:00:00Z');
SELECT * FROM pg_temp.maintain();
SELECT * FROM pg_temp.old;
SELECT tableoid::regclass, occurred_at FROM audit.log WHERE occurred_at < '2017-01-01' ORDER BY 2;
COMMIT;

-- days: months that are there stay, free days are days
BEGIN;
UPDATE sentient_edge.settings SET value = '1 day' WHERE name = 'audit.partition_interval';
SELECT pg_temp.log_at('2016-02-10 12:00Z', '2016-03-01 00:00Z', '2016-03-31 23:59Z');
SELECT * FROM pg_temp.maintain();
-- weeks: from Monday, clipped to what the neighbours leave
UPDATE sentient_edge.settings SET value = '1 week' WHERE name = 'audit.partition_interval';
SELECT pg_temp.log_at('2016-03-02 00:00Z', '2016-03-30 00:00Z', '2016-04-03 23:59Z', '2016-04-04 00:00Z');
SELECT * FROM pg_temp.maintain();
-- months again: what is free of a month
UPDATE sentient_edge.settings SET value = '1 month' WHERE name = 'audit.partition_interval';
SELECT pg_temp.log_at('2016-03-15 00:00Z', '2016-04-20 00:00Z');
SELECT * FROM pg_temp.maintain();
SELECT * FROM pg_temp.old ORDER BY lower;
SELECT tableoid::regclass, occurred_at AT TIME ZONE 'UTC' FROM audit.log WHERE occurred_at < '2017-01-01' ORDER BY 2;
COMMIT;

-- every instant has one partition at most, and none overlaps
SELECT count(*) AS overlaps FROM telemetry.partitions a JOIN telemetry.partitions b
	ON a.parent = b.parent AND a.name < b.name AND a.range && b.range;

-- times outside the accepted window stay in the default partition, and are reported
BEGIN;
SELECT pg_temp.log_at('1999-01-01', '2100-01-01', '-infinity', 'infinity');
SELECT * FROM pg_temp.maintain();
ROLLBACK;

-- retention while the partitions are of different lengths: by their real bounds
BEGIN;
UPDATE sentient_edge.settings SET value = (now() - '2016-03-15 00:00Z'::timestamptz)::text WHERE name = 'audit.retention';
SELECT * FROM pg_temp.maintain();
SELECT name, state FROM pg_temp.old ORDER BY name;
SELECT count(*) FROM audit.log WHERE occurred_at < '2017-01-01';
SELECT count(*) FROM audit.log_p20160101;
ROLLBACK;
BEGIN;
UPDATE sentient_edge.settings SET value = (now() - '2016-03-15 00:00Z'::timestamptz)::text WHERE name = 'audit.retention';
UPDATE sentient_edge.settings SET value = 'drop' WHERE name = 'audit.retention_action';
SELECT * FROM pg_temp.maintain();
SELECT name, state FROM pg_temp.old ORDER BY name;
UPDATE sentient_edge.settings SET value = default_value WHERE name LIKE 'audit.%';
COMMIT;

-- a name that a detached table has taken
BEGIN;
CREATE TABLE audit.log_p20161001 (i int);
SELECT pg_temp.log_at('2016-10-01 00:00Z');
SELECT * FROM pg_temp.maintain();
SELECT name, state FROM pg_temp.old WHERE name ~ '201610' ORDER BY name;
DROP TABLE audit.log_p20161001;
COMMIT;

-- retention of partitions of one length is pg_partman's
BEGIN;
UPDATE sentient_edge.settings SET value = 'drop' WHERE name = 'audit.retention_action';
DO $$
DECLARE p text;
BEGIN
	FOR p IN SELECT name FROM pg_temp.old WHERE upper - lower < interval '28 days' LOOP
		EXECUTE format('DROP TABLE audit.%I', p);
	END LOOP;
END $$;
UPDATE sentient_edge.settings SET value = '5 years' WHERE name = 'audit.retention';
SELECT * FROM pg_temp.maintain();
SELECT * FROM pg_temp.old;
UPDATE sentient_edge.settings SET value = default_value WHERE name LIKE 'audit.%';
COMMIT;

-- maintenance leaves the session as it was
SHOW search_path;
SHOW timezone;
SHOW lock_timeout;
SELECT sentient_edge.partition_ranges('core.drones');
