--
-- telemetry: samples, latest state, rejected samples, events, alerts, flight paths.
--
-- telemetry.drone_telemetry and its partitions are ordinary tables of the
-- database, not members of the extension, so that pg_dump carries them whole.
--

CREATE SCHEMA telemetry;
COMMENT ON SCHEMA telemetry IS
  'High-rate samples of the fleet, its latest state, events, alerts and flight paths';

CREATE FUNCTION telemetry.sample_in_range(
    latitude double precision, longitude double precision, altitude_m real, relative_altitude_m real,
    battery_percentage real, battery_voltage_v real, ground_speed_ms real, vertical_speed_ms real,
    heading_deg real, roll_deg real, pitch_deg real, temperature_c real, signal_strength_dbm real,
    gps_satellites smallint, gps_fix smallint) RETURNS boolean
    LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1 AS 'MODULE_PATHNAME', 'telemetry_sample_in_range';
COMMENT ON FUNCTION telemetry.sample_in_range(double precision, double precision, real, real, real, real, real, real, real, real, real, real, real, smallint, smallint) IS
'CHECK constraint of telemetry.drone_telemetry: true when every value is NULL or inside its column''s range.
Errors: 23514 a value is out of range or NaN; the message names the column and the range.';

CREATE TABLE telemetry.drone_telemetry (
    drone_id             uuid             NOT NULL,
    recorded_at          timestamptz      NOT NULL,
    latitude             double precision,
    longitude            double precision,
    altitude_m           real,
    relative_altitude_m  real,
    battery_percentage   real,
    battery_voltage_v    real,
    ground_speed_ms      real,
    vertical_speed_ms    real,
    heading_deg          real,
    roll_deg             real,
    pitch_deg            real,
    temperature_c        real,
    signal_strength_dbm  real,
    gps_satellites       smallint,
    gps_fix              smallint,
    flight_mode          text,
    extra                jsonb,
    received_at          timestamptz      NOT NULL DEFAULT now(),
    CONSTRAINT drone_telemetry_pkey PRIMARY KEY (drone_id, recorded_at),
    CONSTRAINT sample_in_range CHECK (telemetry.sample_in_range(
        latitude, longitude, altitude_m, relative_altitude_m, battery_percentage, battery_voltage_v,
        ground_speed_ms, vertical_speed_ms, heading_deg, roll_deg, pitch_deg, temperature_c,
        signal_strength_dbm, gps_satellites, gps_fix))
) PARTITION BY RANGE (recorded_at);

COMMENT ON TABLE telemetry.drone_telemetry IS
  'One row a sample; a value that the drone did not send is NULL, never 0';
COMMENT ON COLUMN telemetry.drone_telemetry.drone_id IS 'Drone that sent the sample (core.drones)';
COMMENT ON COLUMN telemetry.drone_telemetry.recorded_at IS 'When the drone took the sample; inside the accepted window of sentient_edge.settings';
COMMENT ON COLUMN telemetry.drone_telemetry.latitude IS 'WGS 84 latitude, degrees, -90 to 90';
COMMENT ON COLUMN telemetry.drone_telemetry.longitude IS 'WGS 84 longitude, degrees, -180 to 180';
COMMENT ON COLUMN telemetry.drone_telemetry.altitude_m IS 'Altitude above mean sea level, metres, -1000 to 100000';
COMMENT ON COLUMN telemetry.drone_telemetry.relative_altitude_m IS 'Altitude above the home position, metres, -100000 to 100000';
COMMENT ON COLUMN telemetry.drone_telemetry.battery_percentage IS 'Remaining battery charge, percent, 0 to 100';
COMMENT ON COLUMN telemetry.drone_telemetry.battery_voltage_v IS 'Battery voltage, volts, 0 to 1000';
COMMENT ON COLUMN telemetry.drone_telemetry.ground_speed_ms IS 'Speed over ground, metres a second, 0 to 1000';
COMMENT ON COLUMN telemetry.drone_telemetry.vertical_speed_ms IS 'Vertical speed, metres a second, up is positive, -1000 to 1000';
COMMENT ON COLUMN telemetry.drone_telemetry.heading_deg IS 'Heading, degrees clockwise from true north, 0 to 360';
COMMENT ON COLUMN telemetry.drone_telemetry.roll_deg IS 'Roll, degrees, -180 to 180';
COMMENT ON COLUMN telemetry.drone_telemetry.pitch_deg IS 'Pitch, degrees, -180 to 180';
COMMENT ON COLUMN telemetry.drone_telemetry.temperature_c IS 'Temperature at the drone, degrees Celsius, -150 to 500';
COMMENT ON COLUMN telemetry.drone_telemetry.signal_strength_dbm IS 'Received radio signal, dBm, -200 to 100';
COMMENT ON COLUMN telemetry.drone_telemetry.gps_satellites IS 'Satellites in view, 0 to 255';
COMMENT ON COLUMN telemetry.drone_telemetry.gps_fix IS 'GPS fix type as MAVLink numbers it: 0 no receiver, 1 none, 2 2D, 3 3D, 4 DGPS, 5 RTK float, 6 RTK fixed, 7 static, 8 PPP';
COMMENT ON COLUMN telemetry.drone_telemetry.flight_mode IS 'Flight mode by the autopilot''s own name';
COMMENT ON COLUMN telemetry.drone_telemetry.extra IS 'What the drone sent that has no column of its own';
COMMENT ON COLUMN telemetry.drone_telemetry.received_at IS 'When the server took the sample';

CREATE TABLE telemetry.drone_telemetry_default PARTITION OF telemetry.drone_telemetry DEFAULT;
COMMENT ON TABLE telemetry.drone_telemetry_default IS
  'Samples whose partition could not be made yet; maintenance moves them out';

-- pg_partman copies a new partition's extra properties from here.
CREATE TABLE telemetry.drone_telemetry_template (LIKE telemetry.drone_telemetry);
COMMENT ON TABLE telemetry.drone_telemetry_template IS
  'Template of the partitions of telemetry.drone_telemetry; always empty';

-- The newest sample of each drone.  The leading columns are those of
-- telemetry.drone_telemetry, in the same order; src/telemetry/latest.c counts on it.
CREATE TABLE telemetry.drone_latest (
    LIKE telemetry.drone_telemetry INCLUDING COMMENTS,
    samples_received   bigint  NOT NULL DEFAULT 0 CHECK (samples_received >= 0),
    samples_late       bigint  NOT NULL DEFAULT 0 CHECK (samples_late >= 0),
    samples_duplicate  bigint  NOT NULL DEFAULT 0 CHECK (samples_duplicate >= 0),
    alert_states       integer NOT NULL DEFAULT 0 CHECK (alert_states >= 0),
    PRIMARY KEY (drone_id),
    FOREIGN KEY (drone_id) REFERENCES core.drones (drone_id)
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.5);
COMMENT ON TABLE telemetry.drone_latest IS
  'Newest sample of each drone, changed in the transaction that stores it; never goes back in time';
COMMENT ON COLUMN telemetry.drone_latest.samples_received IS 'Samples of the drone that were ever stored, by any route';
COMMENT ON COLUMN telemetry.drone_latest.samples_late IS 'Of these, those older than the newest sample of the time';
COMMENT ON COLUMN telemetry.drone_latest.samples_duplicate IS 'Samples that an ingest function found stored already';
COMMENT ON COLUMN telemetry.drone_latest.alert_states IS 'At least 1 while telemetry.alert_states has rows of the drone; saves looking there otherwise';
SELECT pg_catalog.pg_extension_config_dump('telemetry.drone_latest', '');

CREATE TABLE telemetry.rejected_samples (
    rejection_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rejected_at   timestamptz NOT NULL DEFAULT now(),
    route         text        NOT NULL,
    drone_id      uuid,
    recorded_at   timestamptz,
    reason        text        NOT NULL,
    sqlstate      text        NOT NULL CHECK (sqlstate ~ '^[0-9A-Z]{5}$'),
    payload       jsonb       NOT NULL,
    retry_count   integer     NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    retried_at    timestamptz,
    resolved_at   timestamptz,
    resolution    text        CHECK (resolution IN ('accepted', 'duplicate')),
    CHECK ((resolved_at IS NULL) = (resolution IS NULL))
);
COMMENT ON TABLE telemetry.rejected_samples IS
  'Samples that were refused, each with its payload and the reason; telemetry.retry_rejected takes them up again';
COMMENT ON COLUMN telemetry.rejected_samples.route IS 'Function that refused the sample';
COMMENT ON COLUMN telemetry.rejected_samples.payload IS 'The sample as it was sent, in the form that telemetry.ingest takes';
COMMENT ON COLUMN telemetry.rejected_samples.resolution IS 'What became of it when it was taken up again; NULL while it waits';
CREATE INDEX rejected_samples_waiting_idx ON telemetry.rejected_samples (rejection_id) WHERE resolved_at IS NULL;
CREATE INDEX rejected_samples_drone_idx ON telemetry.rejected_samples (drone_id, rejected_at);
COMMENT ON COLUMN telemetry.rejected_samples.rejection_id IS 'Identifies the rejection; rises in the order of refusal';
COMMENT ON COLUMN telemetry.rejected_samples.rejected_at IS 'When the sample was refused';
COMMENT ON COLUMN telemetry.rejected_samples.drone_id IS 'Drone that the sample names, known or not; NULL when it names none';
COMMENT ON COLUMN telemetry.rejected_samples.recorded_at IS 'When the sample says it was taken; NULL when it does not say';
COMMENT ON COLUMN telemetry.rejected_samples.reason IS 'Why it was refused, in words';
COMMENT ON COLUMN telemetry.rejected_samples.sqlstate IS 'SQLSTATE of the reason';
COMMENT ON COLUMN telemetry.rejected_samples.retry_count IS 'How often it was taken up again';
COMMENT ON COLUMN telemetry.rejected_samples.retried_at IS 'When it was last taken up again';
COMMENT ON COLUMN telemetry.rejected_samples.resolved_at IS 'When it was stored or found to be there; NULL while it waits';
SELECT pg_catalog.pg_extension_config_dump('telemetry.rejected_samples', '');
SELECT pg_catalog.pg_extension_config_dump('telemetry.rejected_samples_rejection_id_seq', '');

-- A drone that only ever sent refused samples has no row in drone_latest.
CREATE TABLE telemetry.rejected_counts (
    drone_id          uuid   PRIMARY KEY REFERENCES core.drones (drone_id) ON DELETE CASCADE,
    samples_rejected  bigint NOT NULL CHECK (samples_rejected >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE telemetry.rejected_counts IS 'How many samples of each drone were refused';
COMMENT ON COLUMN telemetry.rejected_counts.drone_id IS 'Drone that the samples name';
COMMENT ON COLUMN telemetry.rejected_counts.samples_rejected IS 'Samples that went to telemetry.rejected_samples; deleting rows there does not lower it';
SELECT pg_catalog.pg_extension_config_dump('telemetry.rejected_counts', '');

CREATE VIEW telemetry.sample_counts AS
SELECT d.drone_id,
       coalesce(l.samples_received, 0)  AS received,
       coalesce(l.samples_late, 0)      AS late,
       coalesce(l.samples_duplicate, 0) AS duplicate,
       coalesce(r.samples_rejected, 0)  AS rejected
  FROM core.drones d
  LEFT JOIN telemetry.drone_latest l ON l.drone_id = d.drone_id
  LEFT JOIN telemetry.rejected_counts r ON r.drone_id = d.drone_id;
COMMENT ON VIEW telemetry.sample_counts IS
  'What became of the samples that each drone sent, since it was registered; counted in the transaction that takes them';
COMMENT ON COLUMN telemetry.sample_counts.drone_id IS 'Drone that the samples are of';
COMMENT ON COLUMN telemetry.sample_counts.received IS 'Samples that were stored, by any route';
COMMENT ON COLUMN telemetry.sample_counts.late IS 'Of these, those older than the drone''s newest sample of the time';
COMMENT ON COLUMN telemetry.sample_counts.duplicate IS 'Samples that an ingest function found stored already; what plain INSERT leaves out or fails on is not counted';
COMMENT ON COLUMN telemetry.sample_counts.rejected IS 'Samples that were refused and kept in telemetry.rejected_samples';

CREATE TABLE telemetry.drone_events (
    event_id     uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    drone_id     uuid        NOT NULL REFERENCES core.drones (drone_id),
    occurred_at  timestamptz NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    event_type   text        NOT NULL CHECK (event_type <> ''),
    severity     text        NOT NULL DEFAULT 'info'
                 CHECK (severity IN ('emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info', 'debug')),
    message      text,
    payload      jsonb,
    source       text        NOT NULL DEFAULT 'client'
);
COMMENT ON TABLE telemetry.drone_events IS
  'What happened to a drone: status texts of the autopilot, alerts, changes that an operator noted';
COMMENT ON COLUMN telemetry.drone_events.severity IS 'Severity by its syslog name, as MAVLink numbers them';
-- The same event sent twice (a log imported again) is one event.
CREATE UNIQUE INDEX drone_events_identity_idx
    ON telemetry.drone_events (drone_id, occurred_at, event_type, md5(coalesce(message, '')));
CREATE INDEX drone_events_time_idx ON telemetry.drone_events (occurred_at DESC);
CREATE INDEX drone_events_serious_idx ON telemetry.drone_events (occurred_at DESC)
    WHERE severity IN ('emergency', 'alert', 'critical', 'error');
CREATE INDEX drone_events_text_idx ON telemetry.drone_events
    USING gin (pg_catalog.to_tsvector('pg_catalog.simple'::pg_catalog.regconfig, coalesce(message, '')));
COMMENT ON COLUMN telemetry.drone_events.event_id IS 'Identifies the event';
COMMENT ON COLUMN telemetry.drone_events.drone_id IS 'Drone that it happened to';
COMMENT ON COLUMN telemetry.drone_events.occurred_at IS 'When it happened';
COMMENT ON COLUMN telemetry.drone_events.received_at IS 'When the server took the event';
COMMENT ON COLUMN telemetry.drone_events.event_type IS 'Kind of event, such as statustext';
COMMENT ON COLUMN telemetry.drone_events.message IS 'What happened, in words';
COMMENT ON COLUMN telemetry.drone_events.payload IS 'Whatever else is known';
COMMENT ON COLUMN telemetry.drone_events.source IS 'Who reported it, such as mavlink or client';
SELECT pg_catalog.pg_extension_config_dump('telemetry.drone_events', '');

CREATE TABLE telemetry.alert_rules (
    rule_id          uuid             PRIMARY KEY DEFAULT gen_random_uuid(),
    name             text             NOT NULL UNIQUE CHECK (name <> ''),
    metric           text             NOT NULL CHECK (metric <> ''),
    comparison       text             NOT NULL CHECK (comparison IN ('<', '<=', '>', '>=', '=', '<>')),
    threshold        double precision NOT NULL,
    clear_threshold  double precision,
    hold_for         interval         NOT NULL DEFAULT '0' CHECK (hold_for >= interval '0'),
    severity         text             NOT NULL DEFAULT 'warning'
                     CHECK (severity IN ('emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info')),
    drone_type       text,
    drone_id         uuid             REFERENCES core.drones (drone_id) ON DELETE CASCADE,
    enabled          boolean          NOT NULL DEFAULT true,
    created_at       timestamptz      NOT NULL DEFAULT now(),
    updated_at       timestamptz      NOT NULL DEFAULT now(),
    is_builtin       boolean          NOT NULL DEFAULT false,
    CHECK (drone_type IS NULL OR drone_id IS NULL)
);
COMMENT ON TABLE telemetry.alert_rules IS
  'Limits on the columns of a sample, and on its absence; crossing one opens an alert. The rules that come with the extension are PX4''s defaults: battery below 15, 7 and 5 percent, link lost for 10 seconds. An INSERT of one of these updates its row.';
COMMENT ON COLUMN telemetry.alert_rules.metric IS 'Numeric column of telemetry.drone_telemetry that the rule watches; link_silence_s stands for the seconds without a sample';
COMMENT ON COLUMN telemetry.alert_rules.clear_threshold IS 'Value from which on the alert is cleared again; the threshold itself when NULL';
COMMENT ON COLUMN telemetry.alert_rules.is_builtin IS 'Came with the extension; cannot be deleted, only disabled';
COMMENT ON COLUMN telemetry.alert_rules.hold_for IS 'How long, by the samples'' own times, the limit must stay crossed';
COMMENT ON COLUMN telemetry.alert_rules.drone_type IS 'Only drones of this type; every drone when both this and drone_id are NULL';
COMMENT ON COLUMN telemetry.alert_rules.rule_id IS 'Identifies the rule';
COMMENT ON COLUMN telemetry.alert_rules.name IS 'Name of the rule';
COMMENT ON COLUMN telemetry.alert_rules.comparison IS 'How a value that breaks the rule compares to the threshold';
COMMENT ON COLUMN telemetry.alert_rules.threshold IS 'Limit, in the metric''s unit';
COMMENT ON COLUMN telemetry.alert_rules.severity IS 'Severity of the alerts that it opens';
COMMENT ON COLUMN telemetry.alert_rules.drone_id IS 'Only this drone; every drone when both this and drone_type are NULL';
COMMENT ON COLUMN telemetry.alert_rules.enabled IS 'Whether the rule is watched';
COMMENT ON COLUMN telemetry.alert_rules.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN telemetry.alert_rules.updated_at IS 'Time of the row''s last change';
CREATE INDEX alert_rules_drone_idx ON telemetry.alert_rules (drone_id) WHERE drone_id IS NOT NULL;

CREATE FUNCTION telemetry.alert_rule_check() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'telemetry_alert_rule_check';
COMMENT ON FUNCTION telemetry.alert_rule_check() IS
  'Trigger of telemetry.alert_rules: the metric is a numeric column or link_silence_s, the thresholds make sense (22023); the INSERT of a rule that came with the extension becomes an update, and it cannot be deleted (55000). For triggers only.';
CREATE FUNCTION telemetry.geofence_check() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'telemetry_geofence_check';
COMMENT ON FUNCTION telemetry.geofence_check() IS
  'Trigger of telemetry.geofences: the boundary is an area of the earth (22023). For triggers only.';
CREATE FUNCTION telemetry.alert_rules_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'telemetry_alert_rules_changed';
COMMENT ON FUNCTION telemetry.alert_rules_changed() IS
  'Statement trigger of telemetry.alert_rules, telemetry.geofences and core.drones: has every session read the rules again. For triggers only.';

CREATE TRIGGER check_rule BEFORE INSERT OR UPDATE OR DELETE ON telemetry.alert_rules
    FOR EACH ROW EXECUTE FUNCTION telemetry.alert_rule_check();
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON telemetry.alert_rules
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.alert_rules_changed();
ALTER TABLE telemetry.alert_rules ENABLE ALWAYS TRIGGER rules_changed;
-- Rules may apply to one type of drone.
CREATE TRIGGER drone_types_changed AFTER UPDATE OF drone_type OR DELETE ON core.drones
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.alert_rules_changed();

INSERT INTO telemetry.alert_rules
    (rule_id, name, metric, comparison, threshold, clear_threshold, hold_for, severity, is_builtin) VALUES
    ('5e000000-0000-4000-8000-000000000001', 'battery low', 'battery_percentage', '<', 15, 16, '0', 'warning', true),
    ('5e000000-0000-4000-8000-000000000002', 'battery critical', 'battery_percentage', '<', 7, 8, '0', 'critical', true),
    ('5e000000-0000-4000-8000-000000000003', 'battery emergency', 'battery_percentage', '<', 5, 6, '0', 'emergency', true),
    ('5e000000-0000-4000-8000-000000000004', 'link loss', 'link_silence_s', '>', 10, NULL, '0', 'critical', true);
-- Not when a dump's row is taken over by the INSERT trigger.
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON telemetry.alert_rules
    FOR EACH ROW WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION core.touch_updated_at();
SELECT pg_catalog.pg_extension_config_dump('telemetry.alert_rules', '');

CREATE TABLE telemetry.geofences (
    fence_id        uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    name            text        NOT NULL UNIQUE CHECK (name <> ''),
    kind            text        NOT NULL CHECK (kind IN ('inclusion', 'exclusion')),
    boundary        polygon     NOT NULL CHECK (npoints(boundary) >= 3),
    floor_m         real,
    ceiling_m       real,
    valid_from      timestamptz,
    valid_until     timestamptz,
    severity        text        NOT NULL DEFAULT 'critical'
                    CHECK (severity IN ('emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info')),
    drone_type      text,
    drone_id        uuid        REFERENCES core.drones (drone_id) ON DELETE CASCADE,
    enabled         boolean     NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK (floor_m IS NULL OR ceiling_m IS NULL OR floor_m < ceiling_m),
    CHECK (valid_from IS NULL OR valid_until IS NULL OR valid_from < valid_until),
    CHECK (drone_type IS NULL OR drone_id IS NULL)
);
COMMENT ON TABLE telemetry.geofences IS
  'Areas that drones must stay in (each inclusion that applies to them) or out of (exclusion), with their altitude band';
COMMENT ON COLUMN telemetry.geofences.boundary IS 'Polygon of (longitude, latitude) points, degrees; edges are straight in these. Across the antimeridian longitudes go on beyond 180 (170 to 190) or below -180';
COMMENT ON COLUMN telemetry.geofences.floor_m IS 'Lower edge of the altitude band, metres above mean sea level; unbounded when NULL';
COMMENT ON COLUMN telemetry.geofences.ceiling_m IS 'Upper edge of the altitude band, metres above mean sea level; unbounded when NULL';
COMMENT ON COLUMN telemetry.geofences.fence_id IS 'Identifies the geofence';
COMMENT ON COLUMN telemetry.geofences.name IS 'Name of the geofence';
COMMENT ON COLUMN telemetry.geofences.kind IS 'inclusion: stay inside; exclusion: stay outside';
COMMENT ON COLUMN telemetry.geofences.valid_from IS 'In force from this time; always when NULL';
COMMENT ON COLUMN telemetry.geofences.valid_until IS 'In force until this time; always when NULL';
COMMENT ON COLUMN telemetry.geofences.severity IS 'Severity of the alerts that it opens';
COMMENT ON COLUMN telemetry.geofences.drone_type IS 'Only drones of this type; every drone when both this and drone_id are NULL';
COMMENT ON COLUMN telemetry.geofences.drone_id IS 'Only this drone; every drone when both this and drone_type are NULL';
COMMENT ON COLUMN telemetry.geofences.enabled IS 'Whether the geofence is watched';
COMMENT ON COLUMN telemetry.geofences.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN telemetry.geofences.updated_at IS 'Time of the row''s last change';
CREATE INDEX geofences_drone_idx ON telemetry.geofences (drone_id) WHERE drone_id IS NOT NULL;
CREATE TRIGGER check_fence BEFORE INSERT OR UPDATE ON telemetry.geofences
    FOR EACH ROW EXECUTE FUNCTION telemetry.geofence_check();
CREATE TRIGGER fences_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON telemetry.geofences
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.alert_rules_changed();
ALTER TABLE telemetry.geofences ENABLE ALWAYS TRIGGER fences_changed;
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON telemetry.geofences FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
SELECT pg_catalog.pg_extension_config_dump('telemetry.geofences', '');

CREATE TABLE telemetry.real_time_alerts (
    alert_id         uuid             PRIMARY KEY DEFAULT gen_random_uuid(),
    drone_id         uuid             NOT NULL REFERENCES core.drones (drone_id),
    rule_id          uuid             REFERENCES telemetry.alert_rules (rule_id) ON DELETE SET NULL,
    fence_id         uuid             REFERENCES telemetry.geofences (fence_id) ON DELETE SET NULL,
    alert_type       text             NOT NULL DEFAULT 'rule' CHECK (alert_type IN ('rule', 'geofence', 'link_loss')),
    severity         text             NOT NULL
                     CHECK (severity IN ('emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info')),
    message          text,
    opened_at        timestamptz      NOT NULL,
    opened_value     double precision,
    last_value       double precision,
    last_seen_at     timestamptz,
    cleared_at       timestamptz,
    acknowledged_at  timestamptz,
    acknowledged_by  uuid,
    CHECK (cleared_at IS NULL OR cleared_at >= opened_at)
) WITH (fillfactor = 70);
COMMENT ON TABLE telemetry.real_time_alerts IS
  'Alerts raised by rules, geofences and link loss; open while cleared_at is NULL, at most one open for a drone and a rule';
COMMENT ON COLUMN telemetry.real_time_alerts.opened_at IS 'Time of the sample that opened the alert';
CREATE UNIQUE INDEX real_time_alerts_open_rule_idx ON telemetry.real_time_alerts (drone_id, rule_id)
    WHERE cleared_at IS NULL AND rule_id IS NOT NULL;
CREATE UNIQUE INDEX real_time_alerts_open_fence_idx ON telemetry.real_time_alerts (drone_id, fence_id)
    WHERE cleared_at IS NULL AND fence_id IS NOT NULL;
CREATE INDEX real_time_alerts_open_idx ON telemetry.real_time_alerts (severity, opened_at DESC) WHERE cleared_at IS NULL;
CREATE INDEX real_time_alerts_drone_idx ON telemetry.real_time_alerts (drone_id, opened_at DESC);
COMMENT ON COLUMN telemetry.real_time_alerts.alert_id IS 'Identifies the alert';
COMMENT ON COLUMN telemetry.real_time_alerts.drone_id IS 'Drone that the alert is about';
COMMENT ON COLUMN telemetry.real_time_alerts.rule_id IS 'Rule that opened it; NULL for another type or when the rule is gone';
COMMENT ON COLUMN telemetry.real_time_alerts.fence_id IS 'Geofence that opened it; NULL for another type or when the geofence is gone';
COMMENT ON COLUMN telemetry.real_time_alerts.alert_type IS 'rule, geofence or link_loss';
COMMENT ON COLUMN telemetry.real_time_alerts.severity IS 'Severity by its syslog name';
COMMENT ON COLUMN telemetry.real_time_alerts.message IS 'What is wrong, in words';
COMMENT ON COLUMN telemetry.real_time_alerts.opened_value IS 'Value that opened the alert';
COMMENT ON COLUMN telemetry.real_time_alerts.last_value IS 'Value of the newest sample that broke the limit';
COMMENT ON COLUMN telemetry.real_time_alerts.last_seen_at IS 'Time of the newest sample that broke the limit';
COMMENT ON COLUMN telemetry.real_time_alerts.cleared_at IS 'Time of the sample that cleared the alert; NULL while it is open';
COMMENT ON COLUMN telemetry.real_time_alerts.acknowledged_at IS 'When somebody took notice; NULL when nobody has';
COMMENT ON COLUMN telemetry.real_time_alerts.acknowledged_by IS 'User who took notice';
CREATE INDEX real_time_alerts_rule_idx ON telemetry.real_time_alerts (rule_id, opened_at DESC) WHERE rule_id IS NOT NULL;
CREATE INDEX real_time_alerts_fence_idx ON telemetry.real_time_alerts (fence_id, opened_at DESC) WHERE fence_id IS NOT NULL;
SELECT pg_catalog.pg_extension_config_dump('telemetry.real_time_alerts', '');

-- Changed only in transactions that change the drone's row of drone_latest as
-- well, whose lock guards these rows; src/alert counts on it.
CREATE TABLE telemetry.alert_states (
    drone_id  uuid        NOT NULL REFERENCES core.drones (drone_id) ON DELETE CASCADE,
    watch_id  uuid        NOT NULL,
    since     timestamptz NOT NULL,
    alert_id  uuid        REFERENCES telemetry.real_time_alerts (alert_id) ON DELETE CASCADE,
    PRIMARY KEY (drone_id, watch_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.5);
COMMENT ON TABLE telemetry.alert_states IS
  'Limits that are crossed: a row for each drone and rule or geofence whose alert is open or waits for hold_for; kept by ingest';
COMMENT ON COLUMN telemetry.alert_states.drone_id IS 'Drone that crossed the limit';
COMMENT ON COLUMN telemetry.alert_states.watch_id IS 'Rule or geofence, which may be gone by now';
COMMENT ON COLUMN telemetry.alert_states.since IS 'Time of the first sample that crossed the limit; of an open alert, when it opened';
COMMENT ON COLUMN telemetry.alert_states.alert_id IS 'The open alert; NULL while the rule''s hold_for runs';
CREATE INDEX alert_states_alert_idx ON telemetry.alert_states (alert_id) WHERE alert_id IS NOT NULL;
SELECT pg_catalog.pg_extension_config_dump('telemetry.alert_states', '');

CREATE FUNCTION telemetry.note_acknowledgement() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO telemetry.drone_events (drone_id, occurred_at, event_type, severity, message, payload, source)
    VALUES (NEW.drone_id, NEW.acknowledged_at, 'alert_acknowledged', 'info', NEW.message,
            jsonb_build_object('alert_id', NEW.alert_id, 'acknowledged_by', NEW.acknowledged_by, 'db_role', session_user), 'alert')
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION telemetry.note_acknowledgement() IS
  'Trigger of telemetry.real_time_alerts: notes in telemetry.drone_events that an alert was acknowledged. For triggers only.';
CREATE TRIGGER acknowledged AFTER UPDATE OF acknowledged_at ON telemetry.real_time_alerts
    FOR EACH ROW WHEN (OLD.acknowledged_at IS NULL AND NEW.acknowledged_at IS NOT NULL)
    EXECUTE FUNCTION telemetry.note_acknowledgement();

CREATE FUNCTION telemetry.acknowledge_alert(alert_id uuid, acknowledged_by uuid DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    UPDATE telemetry.real_time_alerts a
       SET acknowledged_at = clock_timestamp(), acknowledged_by = acknowledge_alert.acknowledged_by
     WHERE a.alert_id = acknowledge_alert.alert_id AND a.acknowledged_at IS NULL;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM telemetry.real_time_alerts a WHERE a.alert_id = acknowledge_alert.alert_id) THEN
        RAISE EXCEPTION 'alert % does not exist', acknowledge_alert.alert_id USING ERRCODE = 'no_data_found';
    END IF;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION telemetry.acknowledge_alert(uuid, uuid) IS
'Notes that somebody took notice of an alert, open or cleared; acknowledged_by is the user who did. The alert stays open until its limit is kept again. Makes an event alert_acknowledged.
Returns false when it had been acknowledged before, which stays as it is. Errors: P0002 no such alert. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.check_link_loss() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'telemetry_check_link_loss';
COMMENT ON FUNCTION telemetry.check_link_loss() IS
'Opens an alert for each drone whose newest sample is older than an enabled rule with metric link_silence_s allows; the scheduler does so every sentient_edge.alert_check_interval. Returns how many were opened.
Looks at drones whose status is a flying one, and at offline ones whose status was never changed, if their newest sample was less than an hour old when it came, less than a day ago: a log that is imported, a parked drone, or one in a restored dump has lost no link. The alert is cleared by the drone''s next sample that is not older than the rule allows.
Clears the open alerts whose rule or geofence is deleted, disabled or not for their drone any more.
Errors: 25006 in a read-only transaction. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.gaps(drone_id uuid, from_time timestamptz, to_time timestamptz, expected_interval interval)
    RETURNS TABLE (gap_start timestamptz, gap_end timestamptz, duration interval, missing_samples bigint)
    LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF num_nulls(drone_id, from_time, to_time, expected_interval) > 0 THEN
        RAISE EXCEPTION 'no argument of telemetry.gaps may be null' USING ERRCODE = 'null_value_not_allowed';
    ELSIF NOT isfinite(from_time) OR NOT isfinite(to_time) OR from_time > to_time OR expected_interval <= interval '0' THEN
        RAISE EXCEPTION 'from_time and to_time must be finite and in order, expected_interval above 0' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    SELECT g.earlier, g.later, g.later - g.earlier,
           greatest(round(extract(epoch FROM g.later - g.earlier) / extract(epoch FROM expected_interval))::bigint - 1, 1)
      FROM (SELECT lag(s.at, 1, from_time) OVER (ORDER BY s.at) AS earlier, s.at AS later
              FROM (SELECT t.recorded_at FROM telemetry.drone_telemetry t
                     WHERE t.drone_id = gaps.drone_id AND t.recorded_at >= from_time AND t.recorded_at <= to_time
                    UNION ALL VALUES (to_time)) AS s (at)) AS g
     WHERE g.later - g.earlier > expected_interval * 1.5
     ORDER BY g.earlier;
END $$;
COMMENT ON FUNCTION telemetry.gaps(uuid, timestamptz, timestamptz, interval) IS
'Holes in the stored samples of a drone from from_time to to_time: one row for each stretch longer than one and a half times expected_interval without a sample, from the begin or the sample before it to the sample after it or the end. missing_samples estimates how many would fill it.
Errors: 22004 an argument is null; 22023 times that are infinite or out of order, expected_interval not above 0. May be called by sentient_viewer and above.';

CREATE TABLE telemetry.flight_paths (
    path_id         uuid             PRIMARY KEY DEFAULT gen_random_uuid(),
    drone_id        uuid             NOT NULL REFERENCES core.drones (drone_id),
    mission_id      uuid             REFERENCES core.missions (mission_id) ON DELETE SET NULL,
    kind            text             NOT NULL DEFAULT 'flown' CHECK (kind IN ('planned', 'flown')),
    started_at      timestamptz,
    ended_at        timestamptz,
    waypoints       jsonb            NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(waypoints) = 'array'),
    sample_count    bigint           CHECK (sample_count >= 0),
    distance_m      double precision CHECK (distance_m >= 0),
    max_altitude_m  real,
    created_at      timestamptz      NOT NULL DEFAULT now(),
    CHECK (started_at IS NULL OR ended_at IS NULL OR started_at <= ended_at)
);
COMMENT ON TABLE telemetry.flight_paths IS 'Planned and flown paths, reduced to way points';
COMMENT ON COLUMN telemetry.flight_paths.waypoints IS
  'Array of objects with latitude, longitude (degrees), altitude_m and, on flown paths, recorded_at';
CREATE INDEX flight_paths_drone_idx ON telemetry.flight_paths (drone_id, started_at DESC);
CREATE INDEX flight_paths_mission_idx ON telemetry.flight_paths (mission_id) WHERE mission_id IS NOT NULL;
COMMENT ON COLUMN telemetry.flight_paths.path_id IS 'Identifies the path';
COMMENT ON COLUMN telemetry.flight_paths.drone_id IS 'Drone that flies or flew it';
COMMENT ON COLUMN telemetry.flight_paths.mission_id IS 'Mission that it belongs to';
COMMENT ON COLUMN telemetry.flight_paths.kind IS 'planned or flown';
COMMENT ON COLUMN telemetry.flight_paths.started_at IS 'Begin of the flight';
COMMENT ON COLUMN telemetry.flight_paths.ended_at IS 'End of the flight';
COMMENT ON COLUMN telemetry.flight_paths.sample_count IS 'Number of samples that it was reduced from';
COMMENT ON COLUMN telemetry.flight_paths.distance_m IS 'Length over ground, metres';
COMMENT ON COLUMN telemetry.flight_paths.max_altitude_m IS 'Greatest altitude above mean sea level, metres';
COMMENT ON COLUMN telemetry.flight_paths.created_at IS 'Time of the row''s insertion';
SELECT pg_catalog.pg_extension_config_dump('telemetry.flight_paths', '');

--
-- Plain INSERT, COPY, UPDATE, DELETE and TRUNCATE keep the latest state as well.
--

CREATE FUNCTION telemetry.before_insert_samples() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'telemetry_before_insert_samples';
COMMENT ON FUNCTION telemetry.before_insert_samples() IS
  'Statement trigger of telemetry.drone_telemetry: notes that the rows to come are inserted, and not moved by an UPDATE; not to be called';

CREATE FUNCTION telemetry.after_insert_sample() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'telemetry_after_insert_sample';
COMMENT ON FUNCTION telemetry.after_insert_sample() IS
  'Row trigger of telemetry.drone_telemetry: checks that recorded_at lies in the accepted window (22008) and notes the row for the statement trigger; not to be called';

CREATE FUNCTION telemetry.after_insert_samples() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'telemetry_after_insert_samples';
COMMENT ON FUNCTION telemetry.after_insert_samples() IS
  'Statement trigger of telemetry.drone_telemetry, after INSERT and, for those that insert as well, UPDATE and DELETE: checks that the drones exist (23503), brings telemetry.drone_latest up to date and opens and clears alerts; not to be called';

CREATE FUNCTION telemetry.rebuild_latest(drone_ids uuid[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ids uuid[] := coalesce(drone_ids, ARRAY(SELECT d.drone_id FROM core.drones d));
    changed bigint;
BEGIN
    DELETE FROM telemetry.drone_latest l
     WHERE l.drone_id = ANY (ids)
       AND NOT EXISTS (SELECT FROM telemetry.drone_telemetry t WHERE t.drone_id = l.drone_id);
    -- Back in time: so that the newest sample that is left is taken below.
    UPDATE telemetry.drone_latest l SET recorded_at = '-infinity'
      FROM unnest(ids) i (drone_id), LATERAL (SELECT max(t.recorded_at) AS recorded_at
             FROM telemetry.drone_telemetry t WHERE t.drone_id = i.drone_id) newest
     WHERE l.drone_id = i.drone_id AND l.recorded_at > newest.recorded_at;
    INSERT INTO telemetry.drone_latest
        (drone_id, recorded_at, latitude, longitude, altitude_m, relative_altitude_m, battery_percentage,
         battery_voltage_v, ground_speed_ms, vertical_speed_ms, heading_deg, roll_deg, pitch_deg,
         temperature_c, signal_strength_dbm, gps_satellites, gps_fix, flight_mode, extra, received_at,
         samples_received, samples_late, samples_duplicate, alert_states)
    SELECT newest.drone_id, newest.recorded_at, newest.latitude, newest.longitude, newest.altitude_m,
           newest.relative_altitude_m, newest.battery_percentage, newest.battery_voltage_v,
           newest.ground_speed_ms, newest.vertical_speed_ms, newest.heading_deg, newest.roll_deg,
           newest.pitch_deg, newest.temperature_c, newest.signal_strength_dbm, newest.gps_satellites,
           newest.gps_fix, newest.flight_mode, newest.extra, newest.received_at,
           coalesce(l.samples_received, 0), coalesce(l.samples_late, 0), coalesce(l.samples_duplicate, 0),
           coalesce(l.alert_states, (SELECT count(*) FROM telemetry.alert_states a WHERE a.drone_id = i.drone_id))
      FROM unnest(ids) i (drone_id)
      CROSS JOIN LATERAL (SELECT * FROM telemetry.drone_telemetry t
            WHERE t.drone_id = i.drone_id ORDER BY t.recorded_at DESC LIMIT 1) newest
      LEFT JOIN telemetry.drone_latest l ON l.drone_id = i.drone_id
    ON CONFLICT (drone_id) DO UPDATE SET (recorded_at, latitude, longitude, altitude_m, relative_altitude_m, battery_percentage,
         battery_voltage_v, ground_speed_ms, vertical_speed_ms, heading_deg, roll_deg, pitch_deg,
         temperature_c, signal_strength_dbm, gps_satellites, gps_fix, flight_mode, extra, received_at)
     = (excluded.recorded_at, excluded.latitude, excluded.longitude, excluded.altitude_m,
         excluded.relative_altitude_m, excluded.battery_percentage, excluded.battery_voltage_v,
         excluded.ground_speed_ms, excluded.vertical_speed_ms, excluded.heading_deg, excluded.roll_deg,
         excluded.pitch_deg, excluded.temperature_c, excluded.signal_strength_dbm,
         excluded.gps_satellites, excluded.gps_fix, excluded.flight_mode, excluded.extra,
         excluded.received_at)
     WHERE drone_latest IS DISTINCT FROM excluded AND drone_latest.recorded_at <= excluded.recorded_at;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;
COMMENT ON FUNCTION telemetry.rebuild_latest(uuid[]) IS
'Makes telemetry.drone_latest again from the stored samples, for these drones or, when NULL, for all.
Returns how many drones'' rows were written. Needed only after partitions were changed behind the triggers'' back. May be called by sentient_admin.';

CREATE FUNCTION telemetry.after_change_samples() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outside timestamptz;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM telemetry.rebuild_latest();
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM telemetry.rebuild_latest(ARRAY(SELECT DISTINCT o.drone_id FROM old_samples o));
        RETURN NULL;
    END IF;

    -- Times that were there before may be older than a window that was narrowed since.
    SELECT n.recorded_at INTO outside
      FROM (SELECT recorded_at FROM new_samples EXCEPT SELECT recorded_at FROM old_samples) n
     WHERE n.recorded_at < (SELECT s.value::timestamptz FROM sentient_edge.settings s WHERE s.name = 'telemetry.accept_from')
        OR n.recorded_at > clock_timestamp() + (SELECT s.value::interval FROM sentient_edge.settings s WHERE s.name = 'telemetry.accept_ahead')
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'recorded_at % is outside the accepted window', outside USING ERRCODE = '22008',
            HINT = 'The window is set by telemetry.accept_from and telemetry.accept_ahead in sentient_edge.settings.';
    END IF;
    PERFORM telemetry.rebuild_latest(ARRAY(SELECT o.drone_id FROM old_samples o
                                           UNION SELECT n.drone_id FROM new_samples n));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION telemetry.after_change_samples() IS
  'Statement trigger of telemetry.drone_telemetry: has an UPDATE obey the accepted window (22008), and rebuilds telemetry.drone_latest from the samples that are left after UPDATE, DELETE or TRUNCATE; not to be called';

CREATE TRIGGER samples_to_insert BEFORE INSERT ON telemetry.drone_telemetry
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.before_insert_samples();
CREATE TRIGGER sample_inserted AFTER INSERT ON telemetry.drone_telemetry
    FOR EACH ROW EXECUTE FUNCTION telemetry.after_insert_sample();
CREATE TRIGGER samples_inserted AFTER INSERT ON telemetry.drone_telemetry
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.after_insert_samples();
-- by its name before the next two
CREATE TRIGGER samples_also_inserted AFTER UPDATE OR DELETE ON telemetry.drone_telemetry
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.after_insert_samples();
CREATE TRIGGER samples_updated AFTER UPDATE ON telemetry.drone_telemetry
    REFERENCING OLD TABLE AS old_samples NEW TABLE AS new_samples
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.after_change_samples();
CREATE TRIGGER samples_deleted AFTER DELETE ON telemetry.drone_telemetry
    REFERENCING OLD TABLE AS old_samples
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.after_change_samples();
CREATE TRIGGER samples_truncated AFTER TRUNCATE ON telemetry.drone_telemetry
    FOR EACH STATEMENT EXECUTE FUNCTION telemetry.after_change_samples();

--
-- Ingest
--

CREATE FUNCTION telemetry.ingest(payload jsonb,
    OUT accepted integer, OUT duplicate integer, OUT rejected integer)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'telemetry_ingest';
COMMENT ON FUNCTION telemetry.ingest(jsonb) IS
'Stores one sample (a JSON object) or many (an array of objects) in the caller''s transaction.
Keys are the columns of telemetry.drone_telemetry, in snake_case or camelCase (droneId); timestamp stands for recorded_at, an ISO 8601 time, UTC when it names no zone. Keys that are no column are kept in extra. Units and ranges are those of the columns.
Returns how many samples were accepted, were duplicates of stored ones (same drone_id and recorded_at), and were rejected; their sum is the number sent. Rejected samples are kept in telemetry.rejected_samples with reason and SQLSTATE.
Errors: 22004 payload is null; 22023 payload is neither an object nor an array. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.ingest_batch(
    drone_ids            uuid[],
    recorded_at          timestamptz[],
    latitude             double precision[] DEFAULT NULL,
    longitude            double precision[] DEFAULT NULL,
    altitude_m           double precision[] DEFAULT NULL,
    relative_altitude_m  double precision[] DEFAULT NULL,
    battery_percentage   double precision[] DEFAULT NULL,
    battery_voltage_v    double precision[] DEFAULT NULL,
    ground_speed_ms      double precision[] DEFAULT NULL,
    vertical_speed_ms    double precision[] DEFAULT NULL,
    heading_deg          double precision[] DEFAULT NULL,
    roll_deg             double precision[] DEFAULT NULL,
    pitch_deg            double precision[] DEFAULT NULL,
    temperature_c        double precision[] DEFAULT NULL,
    signal_strength_dbm  double precision[] DEFAULT NULL,
    gps_satellites       integer[] DEFAULT NULL,
    gps_fix              integer[] DEFAULT NULL,
    flight_mode          text[] DEFAULT NULL,
    extra                jsonb[] DEFAULT NULL,
    OUT accepted integer, OUT duplicate integer, OUT rejected integer)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'telemetry_ingest_batch';
COMMENT ON FUNCTION telemetry.ingest_batch(uuid[], timestamptz[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], integer[], integer[], text[], jsonb[]) IS
'Stores many samples, one array a column, in the caller''s transaction; the fastest way in.
The arrays have one dimension and equal lengths; a NULL array is a column that no sample has. Units and ranges are those of the columns of telemetry.drone_telemetry.
Returns accepted, duplicate and rejected counts, whose sum is the arrays'' length. Rejected samples are kept in telemetry.rejected_samples with reason and SQLSTATE.
Errors: 22004 drone_ids or recorded_at is null; 2202E the arrays differ in length or have several dimensions. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.retry_rejected(max_rows integer DEFAULT 10000,
    OUT accepted integer, OUT duplicate integer, OUT rejected integer)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'telemetry_retry_rejected';
COMMENT ON FUNCTION telemetry.retry_rejected(integer) IS
'Takes up to max_rows (1 or more) waiting rows of telemetry.rejected_samples, least often retried first, and ingests them again, for instance after an unknown drone was registered.
Samples that are stored now, or are there already, are marked as resolved; the others stay with their newest reason. Returns the counts of this run. Rows that another session is retrying are left to it.
Errors: 22023 max_rows below 1. May be called by sentient_operator and above.';

CREATE FUNCTION telemetry.drone_health(drone_id uuid,
    OUT status text, OUT last_seen_at timestamptz, OUT age_s double precision,
    OUT battery_percentage real, OUT gps_fix smallint, OUT gps_satellites smallint,
    OUT signal_strength_dbm real, OUT open_alerts bigint, OUT problems text[])
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
        SELECT CASE WHEN l.recorded_at IS NULL THEN 'unknown'
                    WHEN l.recorded_at < now() - interval '10 seconds' THEN 'offline'
                    WHEN cardinality(p.problems) > 0 OR a.open_alerts > 0 THEN 'degraded'
                    ELSE 'healthy' END,
               l.recorded_at,
               extract(epoch FROM now() - l.recorded_at)::double precision,
               l.battery_percentage, l.gps_fix, l.gps_satellites, l.signal_strength_dbm,
               a.open_alerts, p.problems
          FROM core.drones d
          LEFT JOIN telemetry.drone_latest l ON l.drone_id = d.drone_id
          CROSS JOIN LATERAL (
               SELECT array_remove(ARRAY[
                        CASE WHEN l.battery_percentage <= 15 THEN 'battery low' END,
                        CASE WHEN l.gps_fix < 3 THEN 'no 3D position fix' END,
                        CASE WHEN l.gps_satellites < 6 THEN 'few satellites' END,
                        CASE WHEN l.signal_strength_dbm < -100 THEN 'weak signal' END], NULL) AS problems) p
          CROSS JOIN LATERAL (
               SELECT count(*) AS open_alerts FROM telemetry.real_time_alerts r
                WHERE r.drone_id = d.drone_id AND r.cleared_at IS NULL) a
         WHERE d.drone_id = drone_health.drone_id;
    END;
COMMENT ON FUNCTION telemetry.drone_health(uuid) IS
'Condition of a drone by its newest sample. status is unknown (no sample yet), offline (newest sample older than 10 s), degraded (an open alert or a problem) or healthy; age_s is the sample''s age in seconds; problems names battery low (15 % or less), no 3D position fix, few satellites (under 6), weak signal (under -100 dBm).
Returns NULLs for a drone that core.drones does not hold. May be called by sentient_viewer and above.';

--
-- Grants: viewers read; operators send samples and note events; admins configure.
--

GRANT USAGE ON SCHEMA telemetry TO sentient_viewer;
GRANT SELECT ON telemetry.drone_telemetry, telemetry.drone_latest, telemetry.drone_events, telemetry.alert_rules,
    telemetry.geofences, telemetry.real_time_alerts, telemetry.alert_states, telemetry.flight_paths,
    telemetry.rejected_counts, telemetry.sample_counts TO sentient_viewer;
GRANT SELECT ON telemetry.rejected_samples TO sentient_analyst;
GRANT INSERT ON telemetry.drone_telemetry TO sentient_operator;
GRANT INSERT, UPDATE ON telemetry.drone_events, telemetry.flight_paths, telemetry.alert_rules, telemetry.geofences TO sentient_operator;
GRANT DELETE ON telemetry.alert_rules, telemetry.geofences TO sentient_operator;
GRANT UPDATE (acknowledged_at, acknowledged_by) ON telemetry.real_time_alerts TO sentient_operator;
GRANT UPDATE, DELETE, TRUNCATE ON telemetry.drone_telemetry TO sentient_admin;
GRANT DELETE ON telemetry.rejected_samples, telemetry.drone_events, telemetry.flight_paths,
    telemetry.real_time_alerts, telemetry.drone_latest TO sentient_admin;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA telemetry FROM PUBLIC;
GRANT EXECUTE ON FUNCTION telemetry.ingest(jsonb), telemetry.retry_rejected(integer),
    telemetry.ingest_batch(uuid[], timestamptz[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], double precision[], integer[], integer[], text[], jsonb[])
    TO sentient_operator;
-- Whoever inserts or updates rows runs the table's CHECK constraint.
GRANT EXECUTE ON FUNCTION telemetry.sample_in_range(double precision, double precision, real, real, real, real, real, real, real, real, real, real, real, smallint, smallint)
    TO sentient_operator;
GRANT EXECUTE ON FUNCTION telemetry.rebuild_latest(uuid[]) TO sentient_admin;
GRANT EXECUTE ON FUNCTION telemetry.acknowledge_alert(uuid, uuid), telemetry.check_link_loss() TO sentient_operator;
GRANT EXECUTE ON FUNCTION telemetry.gaps(uuid, timestamptz, timestamptz, interval) TO sentient_viewer;
GRANT EXECUTE ON FUNCTION telemetry.drone_health(uuid) TO sentient_viewer;

-- The last step: what is granted before it is dumped like any grant of the user's.
SELECT sentient_edge.adopt_partitioned_table('telemetry.drone_telemetry');
