/*
 * settings.sql
 *		What an administrator may set in this database, and the partitioned tables
 *		that the extension looks after.  Runs before the modules' own pieces, which
 *		hand their partitioned tables to sentient_edge.adopt_partitioned_table.
 */

CREATE TABLE sentient_edge.settings (
	name text PRIMARY KEY,
	value text,
	default_value text,
	unit text,
	description text NOT NULL
);
COMMENT ON TABLE sentient_edge.settings IS 'Settings of this database; change value, in effect from the next transaction on';
COMMENT ON COLUMN sentient_edge.settings.name IS 'Module and name of the setting';
COMMENT ON COLUMN sentient_edge.settings.value IS 'Value in force, kept in a form that reads the same in every session; a time without a zone is taken as UTC';
COMMENT ON COLUMN sentient_edge.settings.default_value IS 'Value after CREATE EXTENSION; SET value = default_value resets the setting';
COMMENT ON COLUMN sentient_edge.settings.unit IS 'Type or unit of the value';
COMMENT ON COLUMN sentient_edge.settings.description IS 'What the setting does';

-- Rows of CREATE EXTENSION are not dumped, changed ones are.
SELECT pg_catalog.pg_extension_config_dump('sentient_edge.settings', 'WHERE value IS DISTINCT FROM default_value');

CREATE FUNCTION sentient_edge.settings_check() RETURNS trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'settings_check';
COMMENT ON FUNCTION sentient_edge.settings_check() IS
	'Trigger of sentient_edge.settings: validates a value and turns the INSERT of a setting that exists into an update, so that a restored dump does not collide. Errors: 42704 unknown setting, 22023 or a data exception for a bad value, 22004 null, 55000 any other change.';
CREATE FUNCTION sentient_edge.settings_changed() RETURNS trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'settings_changed';
COMMENT ON FUNCTION sentient_edge.settings_changed() IS
	'Trigger of sentient_edge.settings: has every session read the settings again.';

CREATE TRIGGER settings_check BEFORE INSERT OR UPDATE OR DELETE ON sentient_edge.settings
	FOR EACH ROW EXECUTE FUNCTION sentient_edge.settings_check();
CREATE TRIGGER settings_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sentient_edge.settings
	FOR EACH STATEMENT EXECUTE FUNCTION sentient_edge.settings_changed();
ALTER TABLE sentient_edge.settings ENABLE ALWAYS TRIGGER settings_check;
ALTER TABLE sentient_edge.settings ENABLE ALWAYS TRIGGER settings_changed;

INSERT INTO sentient_edge.settings (name, default_value, value, unit, description)
SELECT s.name, s.value, s.value, s.unit, s.description
  FROM (VALUES
	('telemetry.accept_from', '2015-01-01 00:00:00+00', 'timestamptz', 'Oldest recorded_at that is accepted'),
	('telemetry.accept_ahead', '00:05:00', 'interval', 'How far ahead of now a recorded_at may lie; at most 31 days'),
	('telemetry.mavlink_state_age', '00:00:05', 'interval', 'Oldest value of a MAVLink message that a sample is made of'),
	('telemetry.partition_interval', '1 month', 'interval', 'Length of new partitions of telemetry.drone_telemetry: 1 day, 1 week or 1 month'),
	('telemetry.partition_premake', '4', 'partitions', 'Partitions of telemetry.drone_telemetry that are made ahead of now'),
	('telemetry.retention', NULL, 'interval', 'Age at which a partition of telemetry.drone_telemetry is retired; null keeps all'),
	('telemetry.retention_action', 'detach', 'detach or drop', 'What becomes of a retired partition: detach keeps it as a table of its own'),
	('audit.partition_interval', '1 month', 'interval', 'Length of new partitions of audit.log: 1 day, 1 week or 1 month'),
	('audit.partition_premake', '4', 'partitions', 'Partitions of audit.log that are made ahead of now'),
	('audit.retention', NULL, 'interval', 'Age at which a partition of audit.log is retired; null keeps all'),
	('audit.retention_action', 'detach', 'detach or drop', 'What becomes of a retired partition: detach keeps it as a table of its own'),
	('security_events.partition_interval', '1 month', 'interval', 'Length of new partitions of audit.security_events: 1 day, 1 week or 1 month'),
	('security_events.partition_premake', '4', 'partitions', 'Partitions of audit.security_events that are made ahead of now'),
	('security_events.retention', NULL, 'interval', 'Age at which a partition of audit.security_events is retired; null keeps all'),
	('security_events.retention_action', 'detach', 'detach or drop', 'What becomes of a retired partition: detach keeps it as a table of its own')
	) AS s (name, value, unit, description);

GRANT SELECT ON sentient_edge.settings TO sentient_viewer;
GRANT INSERT (name, value), UPDATE (value) ON sentient_edge.settings TO sentient_admin;

CREATE TABLE sentient_edge.managed_tables (
	table_name text PRIMARY KEY,
	indexes integer NOT NULL,
	triggers integer NOT NULL,
	restored_at timestamptz,
	registered boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE sentient_edge.managed_tables IS 'Partitioned tables that live and die with the extension without being its members, so that dumps hold them';
COMMENT ON COLUMN sentient_edge.managed_tables.table_name IS 'Schema and name of the table';
COMMENT ON COLUMN sentient_edge.managed_tables.indexes IS 'How many indexes CREATE EXTENSION gave it';
COMMENT ON COLUMN sentient_edge.managed_tables.triggers IS 'How many triggers CREATE EXTENSION gave it';
COMMENT ON COLUMN sentient_edge.managed_tables.restored_at IS 'When a dump began to restore it; null once all its indexes and triggers are back';
COMMENT ON COLUMN sentient_edge.managed_tables.created_at IS 'When CREATE EXTENSION made it';
COMMENT ON COLUMN sentient_edge.managed_tables.registered IS 'Maintained without pg_partman, because others than superusers can create or rename objects in its schema';

CREATE FUNCTION sentient_edge.adopt_partitioned_table(adopted regclass) RETURNS void
	LANGUAGE c STRICT VOLATILE AS 'MODULE_PATHNAME', 'adopt_partitioned_table';
COMMENT ON FUNCTION sentient_edge.adopt_partitioned_table(regclass) IS
	'For the scripts of the extension only: takes a partitioned table out of the extension, so that it is dumped, and has DROP EXTENSION drop it. Errors: 55000 outside a script, 42809 for any other table.';

CREATE FUNCTION sentient_edge.ddl_starts() RETURNS event_trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'ddl_starts';
COMMENT ON FUNCTION sentient_edge.ddl_starts() IS
	'Event trigger: makes way for a partitioned table that a dump brings back, and cleans up before DROP EXTENSION.';
CREATE EVENT TRIGGER sentient_edge_ddl_starts ON ddl_command_start
	WHEN TAG IN ('CREATE TABLE', 'DROP EXTENSION')
	EXECUTE FUNCTION sentient_edge.ddl_starts();
COMMENT ON EVENT TRIGGER sentient_edge_ddl_starts IS
	'Makes way for a partitioned table that a dump brings back, and cleans up before DROP EXTENSION';
