/*
 * security_events.sql
 *		Security events: what was tried by whom, the tables whose bulk reads are
 *		events, and the event triggers that record DDL.
 */

CREATE TABLE audit.security_events (
	event_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	occurred_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	last_occurred_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	transaction_id xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	event_count bigint NOT NULL DEFAULT 1 CHECK (event_count > 0),
	event_type text NOT NULL CHECK (event_type ~ '^[a-z][a-z0-9_.]*$'),
	severity text NOT NULL DEFAULT 'info' CHECK (severity IN ('emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info', 'debug')),
	succeeded boolean,
	user_id uuid,
	username text,
	db_role name,
	client_addr inet,
	application_name text,
	object text,
	message text,
	details jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(details) = 'object'),
	mac bytea,
	PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE TABLE audit.security_events_default PARTITION OF audit.security_events DEFAULT;
-- For sealing, which asks for the events of a few transactions every second.
CREATE INDEX security_events_transaction_idx ON audit.security_events (transaction_id);
CREATE INDEX security_events_occurred_at_idx ON audit.security_events (occurred_at);
CREATE INDEX security_events_type_idx ON audit.security_events (event_type, occurred_at);
CREATE INDEX security_events_user_idx ON audit.security_events (user_id, occurred_at) WHERE user_id IS NOT NULL;
CREATE INDEX security_events_addr_idx ON audit.security_events (client_addr, occurred_at) WHERE NOT succeeded;
COMMENT ON TABLE audit.security_events IS 'Logins, failures, denials, DDL, changes of roles and keys, integrity alarms';
COMMENT ON COLUMN audit.security_events.event_id IS 'Identifies the event';
COMMENT ON COLUMN audit.security_events.occurred_at IS 'Time of the event, of the first one if there are several';
COMMENT ON COLUMN audit.security_events.last_occurred_at IS 'Time of the last one';
COMMENT ON COLUMN audit.security_events.transaction_id IS 'Transaction that wrote the event, in the cluster that wrote it';
COMMENT ON COLUMN audit.security_events.event_count IS 'How many equal events this one stands for';
COMMENT ON COLUMN audit.security_events.event_type IS 'Kind of event, such as login, denied, ddl or key; those of applications begin with app.';
COMMENT ON COLUMN audit.security_events.severity IS 'emergency, alert, critical, error, warning, notice, info or debug';
COMMENT ON COLUMN audit.security_events.succeeded IS 'Whether what was tried succeeded; NULL where that has no sense';
COMMENT ON COLUMN audit.security_events.user_id IS 'User, when one was verified';
COMMENT ON COLUMN audit.security_events.username IS 'User name that was given, known or not';
COMMENT ON COLUMN audit.security_events.db_role IS 'Database role of the session; NULL before one is authenticated, and for what the server does by itself';
COMMENT ON COLUMN audit.security_events.client_addr IS 'Address of the client';
COMMENT ON COLUMN audit.security_events.application_name IS 'application_name of the session';
COMMENT ON COLUMN audit.security_events.object IS 'What it was done to';
COMMENT ON COLUMN audit.security_events.message IS 'What happened, in words; no secrets';
COMMENT ON COLUMN audit.security_events.details IS 'Whatever else is known, an object; no secrets';
COMMENT ON COLUMN audit.security_events.mac IS 'Keyed hash of the event; NULL when no key is set up';
COMMENT ON TABLE audit.security_events_default IS 'Events of audit.security_events whose month has no partition yet';

-- What new partitions take over that a parent cannot hold.  Always empty.
CREATE TABLE audit.security_events_template (LIKE audit.security_events INCLUDING COMMENTS);
COMMENT ON TABLE audit.security_events_template IS 'Template of the partitions of audit.security_events; always empty';

-- A restore makes audit.security_events anew, and step by step: until all of it is
-- there events go here, and then to where they belong.
CREATE TABLE audit.restore_events (LIKE audit.security_events INCLUDING ALL);
COMMENT ON TABLE audit.restore_events IS 'Events from before and of a restore, until it has ended; then they move to audit.security_events';

CREATE TABLE audit.watched_tables (
	watched_table regclass PRIMARY KEY,
	rows_threshold bigint NOT NULL CHECK (rows_threshold > 0)
);
COMMENT ON TABLE audit.watched_tables IS 'Tables of which a statement that reads many rows is a security event';
COMMENT ON COLUMN audit.watched_tables.watched_table IS 'The table, with all its partitions';
COMMENT ON COLUMN audit.watched_tables.rows_threshold IS 'Rows that a statement reads at least to be an event';

SELECT pg_catalog.pg_extension_config_dump('audit.restore_events', '');
SELECT pg_catalog.pg_extension_config_dump('audit.watched_tables', '');
GRANT SELECT ON audit.security_events, audit.security_events_template, audit.restore_events, audit.watched_tables TO sentient_admin;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.security_events FOR EACH ROW EXECUTE FUNCTION audit.append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit.security_events FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only();
ALTER TABLE audit.security_events ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate;
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit.security_events_default FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only();
ALTER TABLE audit.security_events_default ENABLE ALWAYS TRIGGER append_only_truncate;

-- Nothing may be granted on it later in this script: see audit.log.
SELECT sentient_edge.adopt_partitioned_table('audit.security_events');

CREATE FUNCTION audit.watched_tables_changed() RETURNS trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'watched_tables_changed';
COMMENT ON FUNCTION audit.watched_tables_changed() IS
	'Trigger of audit.watched_tables: has every session read the list again.';
CREATE TRIGGER watched_tables_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON audit.watched_tables
	FOR EACH STATEMENT EXECUTE FUNCTION audit.watched_tables_changed();
ALTER TABLE audit.watched_tables ENABLE ALWAYS TRIGGER watched_tables_changed;

CREATE FUNCTION audit.watch(watched regclass, rows_threshold bigint DEFAULT 1000) RETURNS void
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'watch_table';
COMMENT ON FUNCTION audit.watch(regclass, bigint) IS
	'From now on a statement that reads at least so many rows of the table, or of its partitions, is a security event (bulk_read); once more to change the number. Needs the preload to have effect. Errors: 42809 for a view, foreign or temporary table, 22023 for a number below 1, 22004 null. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.watch(regclass, bigint) TO sentient_admin;

CREATE FUNCTION audit.unwatch(watched regclass) RETURNS boolean
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'unwatch_table';
COMMENT ON FUNCTION audit.unwatch(regclass) IS
	'Ends what audit.watch began; false when the table was not watched. Error: 22004 null. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.unwatch(regclass) TO sentient_admin;

CREATE FUNCTION audit.record_event(event_type text, severity text, message text, details jsonb DEFAULT '{}') RETURNS uuid
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'record_event';
COMMENT ON FUNCTION audit.record_event(text, text, text, jsonb) IS
	'Records a security event of an application, in this transaction; returns its event_id. The type begins with app., so that no event of the server can be forged. Errors: 22004 null; 22023 for any other type, an unknown severity, or details that are no object; 23514 for a type with other characters than a-z, 0-9, _ and a dot. May be called by sentient_operator.';
-- Operators call it; they still read nothing in the schema.
GRANT USAGE ON SCHEMA audit TO sentient_operator;
GRANT EXECUTE ON FUNCTION audit.record_event(text, text, text, jsonb) TO sentient_operator;

CREATE FUNCTION audit.verify_events(from_time timestamptz DEFAULT '-infinity', to_time timestamptz DEFAULT 'infinity',
	OUT finding text, OUT event_id uuid, OUT detail text)
	RETURNS SETOF record
	LANGUAGE c VOLATILE ROWS 10 AS 'MODULE_PATHNAME', 'verify_events';
COMMENT ON FUNCTION audit.verify_events(timestamptz, timestamptz) IS
	'Security events of that time that are not what was written: forged (the MAC does not fit), unsigned (no MAC, although there was a key), key_unknown (nobody can say). No row when all is well. Errors: 22004 null, 22023 when from_time is after to_time. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.verify_events(timestamptz, timestamptz) TO sentient_admin;

CREATE FUNCTION audit.event_statistics(OUT slots integer, OUT slots_in_use integer, OUT received bigint, OUT collapsed bigint,
	OUT written bigint, OUT lost bigint, OUT elsewhere bigint)
	LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'event_statistics';
COMMENT ON FUNCTION audit.event_statistics() IS
	'Security events that went through shared memory since the server started, of all its databases. Error: 55000 unless the library is preloaded. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.event_statistics() TO sentient_admin;

CREATE FUNCTION audit.record_ddl() RETURNS event_trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'record_ddl';
COMMENT ON FUNCTION audit.record_ddl() IS 'Event trigger (ddl_command_end): records DDL as a security event.';
CREATE FUNCTION audit.record_drop() RETURNS event_trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'record_drop';
COMMENT ON FUNCTION audit.record_drop() IS 'Event trigger (sql_drop): records dropped objects as security events, and forgets watched tables that are gone.';
CREATE FUNCTION audit.record_rewrite() RETURNS event_trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'record_rewrite';
COMMENT ON FUNCTION audit.record_rewrite() IS 'Event trigger (table_rewrite): records as a security event that rows of an audited table are rewritten, which makes no entries.';

CREATE EVENT TRIGGER sentient_edge_record_ddl ON ddl_command_end EXECUTE FUNCTION audit.record_ddl();
COMMENT ON EVENT TRIGGER sentient_edge_record_ddl IS 'Records DDL as security events';
CREATE EVENT TRIGGER sentient_edge_record_drop ON sql_drop EXECUTE FUNCTION audit.record_drop();
COMMENT ON EVENT TRIGGER sentient_edge_record_drop IS 'Records dropped objects as security events';
ALTER EVENT TRIGGER sentient_edge_record_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER sentient_edge_record_drop ENABLE ALWAYS;
CREATE EVENT TRIGGER sentient_edge_record_rewrite ON table_rewrite EXECUTE FUNCTION audit.record_rewrite();
COMMENT ON EVENT TRIGGER sentient_edge_record_rewrite IS 'Records as security events that rows of audited tables are rewritten';
ALTER EVENT TRIGGER sentient_edge_record_rewrite ENABLE ALWAYS;
