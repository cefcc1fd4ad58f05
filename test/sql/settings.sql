--
-- sentient_edge.settings: values, limits, permissions.
--
SET timezone = 'America/New_York';
SET datestyle = 'SQL, DMY';
SET intervalstyle = 'iso_8601';
\set VERBOSITY terse
SELECT name, value, unit FROM sentient_edge.settings ORDER BY name;
SELECT count(*) FROM sentient_edge.settings WHERE value IS DISTINCT FROM default_value;

-- values are kept in a form that reads the same in every session
BEGIN;
UPDATE sentient_edge.settings SET value = '2016-02-01' WHERE name = 'telemetry.accept_from' RETURNING value;
UPDATE sentient_edge.settings SET value = '2016-02-01 01:00-05' WHERE name = 'telemetry.accept_from' RETURNING value;
UPDATE sentient_edge.settings SET value = 'PT90S' WHERE name = 'telemetry.accept_ahead' RETURNING value;
UPDATE sentient_edge.settings SET value = '2 days' WHERE name = 'telemetry.accept_ahead' RETURNING value;
UPDATE sentient_edge.settings SET value = '7 days' WHERE name = 'telemetry.partition_interval' RETURNING value;
UPDATE sentient_edge.settings SET value = ' 12 ' WHERE name = 'telemetry.partition_premake' RETURNING value;
UPDATE sentient_edge.settings SET value = '2 years' WHERE name = 'telemetry.retention' RETURNING value;
UPDATE sentient_edge.settings SET value = NULL WHERE name = 'telemetry.retention' RETURNING value;
UPDATE sentient_edge.settings SET value = 'drop' WHERE name = 'telemetry.retention_action' RETURNING value;
-- the INSERT of a restored dump is an update
INSERT INTO sentient_edge.settings (name, value, default_value, unit, description)
VALUES ('telemetry.mavlink_state_age', '10 seconds', 'x', 'y', 'z');
SELECT value, default_value, unit FROM sentient_edge.settings WHERE name = 'telemetry.mavlink_state_age';
COPY sentient_edge.settings (name, value, description) FROM stdin;
audit.partition_premake	9	from a dump
\.
SELECT name, value FROM sentient_edge.settings WHERE value IS DISTINCT FROM default_value ORDER BY name;
UPDATE sentient_edge.settings SET value = default_value;
SELECT count(*) FROM sentient_edge.settings WHERE value IS DISTINCT FROM default_value;
ROLLBACK;

-- bad values
UPDATE sentient_edge.settings SET value = 'never' WHERE name = 'telemetry.accept_from';
UPDATE sentient_edge.settings SET value = 'infinity' WHERE name = 'telemetry.accept_from';
UPDATE sentient_edge.settings SET value = NULL WHERE name = 'telemetry.accept_from';
UPDATE sentient_edge.settings SET value = '-1 second' WHERE name = 'telemetry.accept_ahead';
UPDATE sentient_edge.settings SET value = '1 month' WHERE name = 'telemetry.accept_ahead';
UPDATE sentient_edge.settings SET value = '2 months' WHERE name = 'telemetry.partition_interval';
UPDATE sentient_edge.settings SET value = '0' WHERE name = 'telemetry.partition_premake';
UPDATE sentient_edge.settings SET value = '101' WHERE name = 'telemetry.partition_premake';
UPDATE sentient_edge.settings SET value = 'four' WHERE name = 'telemetry.partition_premake';
UPDATE sentient_edge.settings SET value = '1 hour' WHERE name = 'telemetry.retention';
UPDATE sentient_edge.settings SET value = '-1 month' WHERE name = 'telemetry.retention';
UPDATE sentient_edge.settings SET value = 'burn' WHERE name = 'telemetry.retention_action';
-- other changes
INSERT INTO sentient_edge.settings (name, value, description) VALUES ('telemetry.colour', 'red', '');
UPDATE sentient_edge.settings SET name = 'telemetry.colour' WHERE name = 'telemetry.retention';
UPDATE sentient_edge.settings SET default_value = '1' WHERE name = 'telemetry.partition_premake';
DELETE FROM sentient_edge.settings WHERE name = 'telemetry.partition_premake';

-- a change is in force at once, and gone after a rollback
INSERT INTO core.drones (call_sign, drone_type) VALUES ('SETTINGS-1', 'vtol');
SELECT drone_id AS drone FROM core.drones WHERE call_sign = 'SETTINGS-1' \gset
BEGIN;
UPDATE sentient_edge.settings SET value = '2014-01-01 00:00Z' WHERE name = 'telemetry.accept_from';
SELECT telemetry.ingest(jsonb_build_object('droneId', :'drone', 'timestamp', '2014-06-01T00:00:00Z'));
SAVEPOINT s;
UPDATE sentient_edge.settings SET value = '2015-01-01 00:00Z' WHERE name = 'telemetry.accept_from';
SELECT telemetry.ingest(jsonb_build_object('droneId', :'drone', 'timestamp', '2014-06-02T00:00:00Z'));
ROLLBACK TO s;
SELECT telemetry.ingest(jsonb_build_object('droneId', :'drone', 'timestamp', '2014-06-03T00:00:00Z'));
ROLLBACK;
BEGIN;
SELECT telemetry.ingest(jsonb_build_object('droneId', :'drone', 'timestamp', '2014-06-01T00:00:00Z'));
ROLLBACK;

-- who may do what
SET ROLE sentient_viewer;
SELECT value FROM sentient_edge.settings WHERE name = 'telemetry.partition_premake';
UPDATE sentient_edge.settings SET value = '5' WHERE name = 'telemetry.partition_premake';
SELECT * FROM sentient_edge.workers;
SELECT * FROM telemetry.run_maintenance();
SET ROLE sentient_operator;
UPDATE sentient_edge.settings SET value = '5' WHERE name = 'telemetry.partition_premake';
SELECT * FROM telemetry.run_maintenance();
SET ROLE sentient_admin;
BEGIN;
UPDATE sentient_edge.settings SET value = '5' WHERE name = 'telemetry.partition_premake';
SELECT value FROM sentient_edge.settings WHERE name = 'telemetry.partition_premake';
ROLLBACK;
SELECT count(*) > 0 AS has_workers FROM sentient_edge.workers;
RESET ROLE;
SELECT sentient_edge.adopt_partitioned_table('core.drones');
DELETE FROM core.drones WHERE call_sign = 'SETTINGS-1';
