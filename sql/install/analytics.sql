/*
 * analytics.sql
 *		Figures by time bucket.
 *
 * A row holds sums, counts and extremes rather than averages, so that a later
 * part of the same bucket is added by one INSERT ... ON CONFLICT DO UPDATE on
 * the primary key, and wider buckets are summed from narrower ones.  The rows
 * can be built anew from what they were counted from; fillfactor leaves room
 * for the updates of the current bucket on its own page.
 */

CREATE SCHEMA analytics;
COMMENT ON SCHEMA analytics IS 'sentient_edge: figures by time bucket';
GRANT USAGE ON SCHEMA analytics TO sentient_viewer;

CREATE TABLE analytics.system_performance (
	metric text NOT NULL CHECK (metric ~ '\S'),
	label text NOT NULL DEFAULT '',
	bucket_width_s integer NOT NULL CHECK (bucket_width_s > 0),
	bucket_start timestamptz NOT NULL,
	unit text,
	value_count bigint NOT NULL DEFAULT 1 CHECK (value_count > 0),
	value_sum double precision NOT NULL,
	value_min double precision NOT NULL,
	value_max double precision NOT NULL CHECK (value_max >= value_min),
	value_last double precision NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (metric, label, bucket_width_s, bucket_start)
) WITH (fillfactor = 90);
CREATE INDEX system_performance_bucket_idx ON analytics.system_performance (bucket_width_s, bucket_start);
COMMENT ON TABLE analytics.system_performance IS 'Measurements of the system itself';
COMMENT ON COLUMN analytics.system_performance.metric IS 'What was measured';
COMMENT ON COLUMN analytics.system_performance.label IS 'Which of several things it was measured on; empty when there is one';
COMMENT ON COLUMN analytics.system_performance.bucket_width_s IS 'Length of the bucket in seconds';
COMMENT ON COLUMN analytics.system_performance.bucket_start IS 'Begin of the bucket, inclusive';
COMMENT ON COLUMN analytics.system_performance.unit IS 'Unit of the values';
COMMENT ON COLUMN analytics.system_performance.value_count IS 'Number of measurements';
COMMENT ON COLUMN analytics.system_performance.value_sum IS 'Sum of the measurements';
COMMENT ON COLUMN analytics.system_performance.value_min IS 'Least measurement';
COMMENT ON COLUMN analytics.system_performance.value_max IS 'Greatest measurement';
COMMENT ON COLUMN analytics.system_performance.value_last IS 'Newest measurement';
COMMENT ON COLUMN analytics.system_performance.updated_at IS 'Time of the row''s last change';

CREATE TABLE analytics.drone_analytics (
	drone_id uuid NOT NULL REFERENCES core.drones ON DELETE CASCADE,
	bucket_width_s integer NOT NULL CHECK (bucket_width_s > 0),
	bucket_start timestamptz NOT NULL,
	sample_count bigint NOT NULL DEFAULT 0 CHECK (sample_count >= 0),
	first_sample_at timestamptz,
	last_sample_at timestamptz CHECK (last_sample_at >= first_sample_at),
	flight_time_s double precision NOT NULL DEFAULT 0 CHECK (flight_time_s >= 0),
	distance_m double precision NOT NULL DEFAULT 0 CHECK (distance_m >= 0),
	altitude_count bigint NOT NULL DEFAULT 0 CHECK (altitude_count >= 0),
	altitude_sum_m double precision NOT NULL DEFAULT 0,
	altitude_min_m real,
	altitude_max_m real CHECK (altitude_max_m >= altitude_min_m),
	ground_speed_count bigint NOT NULL DEFAULT 0 CHECK (ground_speed_count >= 0),
	ground_speed_sum_ms double precision NOT NULL DEFAULT 0,
	ground_speed_max_ms real,
	battery_min_percentage real,
	battery_max_percentage real CHECK (battery_max_percentage >= battery_min_percentage),
	temperature_max_c real,
	signal_strength_min_dbm real,
	alert_count bigint NOT NULL DEFAULT 0 CHECK (alert_count >= 0),
	rejected_count bigint NOT NULL DEFAULT 0 CHECK (rejected_count >= 0),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (drone_id, bucket_width_s, bucket_start)
) WITH (fillfactor = 90);
CREATE INDEX drone_analytics_bucket_idx ON analytics.drone_analytics (bucket_width_s, bucket_start);
COMMENT ON TABLE analytics.drone_analytics IS 'Flight figures of a drone';
COMMENT ON COLUMN analytics.drone_analytics.drone_id IS 'Drone';
COMMENT ON COLUMN analytics.drone_analytics.bucket_width_s IS 'Length of the bucket in seconds';
COMMENT ON COLUMN analytics.drone_analytics.bucket_start IS 'Begin of the bucket, inclusive';
COMMENT ON COLUMN analytics.drone_analytics.sample_count IS 'Number of samples';
COMMENT ON COLUMN analytics.drone_analytics.first_sample_at IS 'Time of the oldest sample';
COMMENT ON COLUMN analytics.drone_analytics.last_sample_at IS 'Time of the newest sample';
COMMENT ON COLUMN analytics.drone_analytics.flight_time_s IS 'Time in the air in seconds';
COMMENT ON COLUMN analytics.drone_analytics.distance_m IS 'Distance over ground in metres';
COMMENT ON COLUMN analytics.drone_analytics.altitude_count IS 'Number of samples with an altitude';
COMMENT ON COLUMN analytics.drone_analytics.altitude_sum_m IS 'Sum of the altitudes in metres';
COMMENT ON COLUMN analytics.drone_analytics.altitude_min_m IS 'Least altitude in metres';
COMMENT ON COLUMN analytics.drone_analytics.altitude_max_m IS 'Greatest altitude in metres';
COMMENT ON COLUMN analytics.drone_analytics.ground_speed_count IS 'Number of samples with a ground speed';
COMMENT ON COLUMN analytics.drone_analytics.ground_speed_sum_ms IS 'Sum of the ground speeds in m/s';
COMMENT ON COLUMN analytics.drone_analytics.ground_speed_max_ms IS 'Greatest ground speed in m/s';
COMMENT ON COLUMN analytics.drone_analytics.battery_min_percentage IS 'Least battery charge in percent';
COMMENT ON COLUMN analytics.drone_analytics.battery_max_percentage IS 'Greatest battery charge in percent';
COMMENT ON COLUMN analytics.drone_analytics.temperature_max_c IS 'Greatest temperature in degrees Celsius';
COMMENT ON COLUMN analytics.drone_analytics.signal_strength_min_dbm IS 'Weakest signal in dBm';
COMMENT ON COLUMN analytics.drone_analytics.alert_count IS 'Number of alerts opened';
COMMENT ON COLUMN analytics.drone_analytics.rejected_count IS 'Number of samples rejected';
COMMENT ON COLUMN analytics.drone_analytics.updated_at IS 'Time of the row''s last change';

CREATE TABLE analytics.mission_analytics (
	mission_id uuid NOT NULL REFERENCES core.missions ON DELETE CASCADE,
	bucket_width_s integer NOT NULL CHECK (bucket_width_s > 0),
	bucket_start timestamptz NOT NULL,
	drone_count integer NOT NULL DEFAULT 0 CHECK (drone_count >= 0),
	sample_count bigint NOT NULL DEFAULT 0 CHECK (sample_count >= 0),
	flight_time_s double precision NOT NULL DEFAULT 0 CHECK (flight_time_s >= 0),
	distance_m double precision NOT NULL DEFAULT 0 CHECK (distance_m >= 0),
	altitude_max_m real,
	ground_speed_max_ms real,
	battery_min_percentage real,
	alert_count bigint NOT NULL DEFAULT 0 CHECK (alert_count >= 0),
	message_count bigint NOT NULL DEFAULT 0 CHECK (message_count >= 0),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (mission_id, bucket_width_s, bucket_start)
) WITH (fillfactor = 90);
CREATE INDEX mission_analytics_bucket_idx ON analytics.mission_analytics (bucket_width_s, bucket_start);
COMMENT ON TABLE analytics.mission_analytics IS 'Figures of a mission, over its drones while assigned';
COMMENT ON COLUMN analytics.mission_analytics.mission_id IS 'Mission';
COMMENT ON COLUMN analytics.mission_analytics.bucket_width_s IS 'Length of the bucket in seconds';
COMMENT ON COLUMN analytics.mission_analytics.bucket_start IS 'Begin of the bucket, inclusive';
COMMENT ON COLUMN analytics.mission_analytics.drone_count IS 'Number of drones that took part';
COMMENT ON COLUMN analytics.mission_analytics.sample_count IS 'Number of samples';
COMMENT ON COLUMN analytics.mission_analytics.flight_time_s IS 'Time in the air in seconds, of all drones together';
COMMENT ON COLUMN analytics.mission_analytics.distance_m IS 'Distance over ground in metres, of all drones together';
COMMENT ON COLUMN analytics.mission_analytics.altitude_max_m IS 'Greatest altitude in metres';
COMMENT ON COLUMN analytics.mission_analytics.ground_speed_max_ms IS 'Greatest ground speed in m/s';
COMMENT ON COLUMN analytics.mission_analytics.battery_min_percentage IS 'Least battery charge in percent';
COMMENT ON COLUMN analytics.mission_analytics.alert_count IS 'Number of alerts opened';
COMMENT ON COLUMN analytics.mission_analytics.message_count IS 'Number of messages sent';
COMMENT ON COLUMN analytics.mission_analytics.updated_at IS 'Time of the row''s last change';

CREATE TABLE analytics.user_analytics (
	user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
	bucket_width_s integer NOT NULL CHECK (bucket_width_s > 0),
	bucket_start timestamptz NOT NULL,
	login_count bigint NOT NULL DEFAULT 0 CHECK (login_count >= 0),
	failed_login_count bigint NOT NULL DEFAULT 0 CHECK (failed_login_count >= 0),
	request_count bigint NOT NULL DEFAULT 0 CHECK (request_count >= 0),
	denied_count bigint NOT NULL DEFAULT 0 CHECK (denied_count >= 0),
	change_count bigint NOT NULL DEFAULT 0 CHECK (change_count >= 0),
	message_count bigint NOT NULL DEFAULT 0 CHECK (message_count >= 0),
	last_active_at timestamptz,
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (user_id, bucket_width_s, bucket_start)
) WITH (fillfactor = 90);
CREATE INDEX user_analytics_bucket_idx ON analytics.user_analytics (bucket_width_s, bucket_start);
COMMENT ON TABLE analytics.user_analytics IS 'What a user did';
COMMENT ON COLUMN analytics.user_analytics.user_id IS 'User';
COMMENT ON COLUMN analytics.user_analytics.bucket_width_s IS 'Length of the bucket in seconds';
COMMENT ON COLUMN analytics.user_analytics.bucket_start IS 'Begin of the bucket, inclusive';
COMMENT ON COLUMN analytics.user_analytics.login_count IS 'Number of good logins';
COMMENT ON COLUMN analytics.user_analytics.failed_login_count IS 'Number of failed logins';
COMMENT ON COLUMN analytics.user_analytics.request_count IS 'Number of transactions under the user''s identity';
COMMENT ON COLUMN analytics.user_analytics.denied_count IS 'Number of requests denied';
COMMENT ON COLUMN analytics.user_analytics.change_count IS 'Number of rows changed in audited tables';
COMMENT ON COLUMN analytics.user_analytics.message_count IS 'Number of messages sent';
COMMENT ON COLUMN analytics.user_analytics.last_active_at IS 'Time of the last request';
COMMENT ON COLUMN analytics.user_analytics.updated_at IS 'Time of the row''s last change';

CREATE TRIGGER touch_updated_at BEFORE UPDATE ON analytics.system_performance FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON analytics.drone_analytics FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON analytics.mission_analytics FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON analytics.user_analytics FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();

SELECT pg_catalog.pg_extension_config_dump('analytics.system_performance', '');
SELECT pg_catalog.pg_extension_config_dump('analytics.drone_analytics', '');
SELECT pg_catalog.pg_extension_config_dump('analytics.mission_analytics', '');
SELECT pg_catalog.pg_extension_config_dump('analytics.user_analytics', '');

-- How drones and missions do is for everybody; the system and its users are an analyst's.
GRANT SELECT ON analytics.drone_analytics, analytics.mission_analytics TO sentient_viewer;
GRANT SELECT ON analytics.system_performance, analytics.user_analytics TO sentient_analyst;
GRANT INSERT, UPDATE, DELETE ON analytics.system_performance, analytics.drone_analytics,
	analytics.mission_analytics, analytics.user_analytics TO sentient_admin;
