--
-- telemetry.ingest(jsonb): what is taken, what is rejected, what is an error.
--
SET timezone = 'UTC';
SET client_min_messages = warning;
INSERT INTO core.drones (drone_id, call_sign, drone_type)
SELECT ('11000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'JSON-' || i, 'quadcopter' FROM generate_series(1, 9) AS i;

CREATE VIEW refused AS
SELECT route, reason, sqlstate, payload FROM telemetry.rejected_samples WHERE route IN ('ingest', 'retry_rejected') ORDER BY rejection_id;
CREATE VIEW stored AS
SELECT * FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '11000000%' ORDER BY drone_id, recorded_at;
-- one sample of drone 1 with these members, at a time of its own
CREATE SEQUENCE tick;
CREATE FUNCTION sample(members jsonb, drone text DEFAULT '1') RETURNS jsonb LANGUAGE sql VOLATILE AS
$$SELECT jsonb_build_object('drone_id', '11000000-0000-4000-8000-' || lpad(drone, 12, '0'),
	'timestamp', '2026-10-01T00:00:00Z'::timestamptz + nextval('public.tick') * interval '1 s') || members$$;

-- the founding API's keys, and one object without an array
SELECT * FROM telemetry.ingest('{"droneId": "11000000-0000-4000-8000-000000000001", "timestamp": "2026-09-01T10:00:00Z",
	"latitude": 47.5, "longitude": 8.25, "altitude_m": 500.5, "battery_percentage": 80, "ground_speed_ms": 12.5}');
-- every column, in camelCase
SELECT * FROM telemetry.ingest('[{"droneId": "{11000000-0000-4000-8000-000000000001}", "recordedAt": "2026-09-01 10:00:01",
	"latitude": -90, "longitude": 180, "altitudeM": -1000, "relativeAltitudeM": 100000, "batteryPercentage": 0, "batteryVoltageV": 1000,
	"groundSpeedMs": 0, "verticalSpeedMs": -1000, "headingDeg": 360, "rollDeg": -180, "pitchDeg": 180, "temperatureC": -150,
	"signalStrengthDbm": -200, "gpsSatellites": 255, "gpsFix": 8, "flightMode": "AUTO.LOITER", "extra": {"a": 1}}]');
-- nothing but what must be there; null is absent
SELECT * FROM telemetry.ingest('{"drone_id": "11000000000040008000000000000001", "recorded_at": "2026-09-01T10:00:02Z",
	"latitude": null, "gps_fix": null, "flight_mode": null, "extra": null}');
\x on
SELECT * FROM (SELECT (to_jsonb(s) - 'received_at' - 'drone_id') AS row FROM stored s) s;
\x off
TRUNCATE telemetry.drone_telemetry;

-- errors of the whole call
SELECT * FROM telemetry.ingest(NULL);
SELECT * FROM telemetry.ingest('5');
SELECT * FROM telemetry.ingest('"text"');
SELECT * FROM telemetry.ingest('null');
\set VERBOSITY sqlstate
SELECT * FROM telemetry.ingest('{"drone_id": ');
SELECT * FROM telemetry.ingest('{"drone_id": "\u0000"}');
SELECT * FROM telemetry.ingest('{"latitude": NaN}');
\set VERBOSITY default
-- nothing sent
SELECT * FROM telemetry.ingest('[]');
SELECT * FROM telemetry.ingest('{}');
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';

-- elements that are no samples are rejected each by itself
SELECT * FROM telemetry.ingest(jsonb_build_array(5, 'text', true, NULL, '[]'::jsonb, '[[{}]]'::jsonb, '{}'::jsonb, sample('{"latitude": 1}')));
SELECT * FROM refused;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';

-- values that do not fit; each sample names the first fault, the good one is stored
SELECT * FROM telemetry.ingest(jsonb_build_array(
	sample('{"latitude": 91}'), sample('{"latitude": -90.0000000001}'), sample('{"longitude": 180.5}'), sample('{"battery_percentage": 140}'),
	sample('{"battery_percentage": -0.1}'), sample('{"altitude_m": 1e400}'), sample('{"altitude_m": -1e400}'), sample('{"ground_speed_ms": -1}'),
	sample('{"heading_deg": 360.1}'), sample('{"gps_fix": 9}'), sample('{"gps_fix": 2.5}'), sample('{"gps_satellites": 256}'),
	sample('{"gps_satellites": 1e300}'), sample('{"temperature_c": 501}'), sample('{"signal_strength_dbm": 101}'),
	sample('{"latitude": "47.5"}'), sample('{"latitude": "NaN"}'), sample('{"latitude": "Infinity"}'), sample('{"latitude": true}'),
	sample('{"latitude": {}}'), sample('{"latitude": []}'), sample('{"flight_mode": 5}'), sample('{"flight_mode": {"a": 1}}'),
	sample('{"extra": 5}'), sample('{"extra": []}'), sample('{"extra": "text"}'),
	sample('{"latitude": 91, "battery_percentage": 140}'), sample('{"latitude": 1e-400, "altitude_m": 1e-60}')));
SELECT reason, sqlstate, left((payload - 'drone_id' - 'timestamp')::text, 60) AS payload FROM refused;
SELECT count(*), min(latitude), min(altitude_m) FROM stored;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';

-- who and when
SELECT * FROM telemetry.ingest(jsonb_build_array(
	sample('{}', '404'), sample('{"drone_id": null}'), sample('{"drone_id": 5}'), sample('{"drone_id": ""}'),
	sample('{"drone_id": "11000000-0000-4000-8000-00000000000"}'), sample('{"drone_id": "11000000-0000-4000-8000-0000000000011"}'),
	sample('{"drone_id": "g1000000-0000-4000-8000-000000000001"}'), sample('{"drone_id": "{11000000-0000-4000-8000-000000000001"}'),
	sample('{"timestamp": null}'), sample('{"timestamp": 1759276800}'), sample('{"timestamp": ""}'), sample('{"timestamp": "infinity"}'),
	sample('{"timestamp": "now"}'), sample('{"timestamp": "yesterday"}'), sample('{"timestamp": "2026-02-29T00:00:00Z"}'),
	sample('{"timestamp": "2026-13-01T00:00:00Z"}'), sample('{"timestamp": "2026-01-00T00:00:00Z"}'), sample('{"timestamp": "2026-01-01T25:00:00Z"}'),
	sample('{"timestamp": "2026-01-01T00:60:00Z"}'), sample('{"timestamp": "2026-01-01T00:00:61Z"}'), sample('{"timestamp": "2026-01-01T24:00:01Z"}'),
	sample('{"timestamp": "2026-01-01"}'), sample('{"timestamp": "2026-01-01T00:00:00."}'), sample('{"timestamp": "2026-01-01T00:00:00+1"}'),
	sample('{"timestamp": "2026-01-01T00:00:00+16"}'), sample('{"timestamp": "2026-01-01T00:00:00+01:60"}'), sample('{"timestamp": "2026-01-01T00:00:00Zulu"}'),
	sample('{"timestamp": "2026-01-01T00:00:00 Europe/Zurich"}'), sample('{"timestamp": "0000-01-01T00:00:00Z"}'), sample('{"timestamp": "20260101T000000Z"}'),
	sample('{"timestamp": "2026-01-01T00:00:00Z", "recorded_at": "2026-01-01T00:00:00Z"}'),
	sample('{"droneId": "11000000-0000-4000-8000-000000000001"}'), sample('{"latitude": 1, "Latitude": 2}')));
SELECT reason, sqlstate, payload->>'drone_id' AS drone_id, payload->>'timestamp' AS at FROM refused;
-- a capital L names no column
SELECT latitude, extra FROM stored WHERE extra IS NOT NULL;
-- the row keeps drone and time as far as they are known
SELECT count(*) AS refused, count(drone_id) AS with_drone, count(recorded_at) AS with_time FROM telemetry.rejected_samples WHERE route = 'ingest';
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';
TRUNCATE telemetry.drone_telemetry;

-- forms of a time that are taken
SELECT * FROM telemetry.ingest((SELECT jsonb_agg(jsonb_build_object('drone_id', '11000000-0000-4000-8000-000000000002', 'timestamp', t, 't', t)) FROM unnest(ARRAY[
	'2026-03-01T12:00:00Z', '2026-03-02t12:00:00z', '2026-03-03 12:00:00', '2026-03-04T12:00', '2026-03-05T12:00:00.5Z', '2026-03-06T12:00:00,25Z',
	'2026-03-07T12:00:00.1234567899Z', '2026-03-08T12:00:00+02', '2026-03-09T12:00:00+0530', '2026-03-10T12:00:00-05:30', '2026-03-11T23:59:60Z',
	'2026-03-12T24:00:00Z', '2024-02-29T00:00:00Z', '2026-03-13T12:00:00-15:59']) AS t));
-- whatever the session's settings
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Kolkata';
SELECT * FROM telemetry.ingest('{"drone_id": "11000000-0000-4000-8000-000000000002", "timestamp": "2026-03-14 12:00:00", "t": "bare"}');
SET timezone = 'UTC';
RESET datestyle;
SELECT extra->>'t' AS sent, to_char(recorded_at, 'YYYY-MM-DD HH24:MI:SS.US') AS stored FROM stored ORDER BY recorded_at;

-- the window: accept_from is inside, the instant before is not
SELECT * FROM telemetry.ingest('[{"drone_id": "11000000-0000-4000-8000-000000000003", "timestamp": "2015-01-01T00:00:00Z"},
	{"drone_id": "11000000-0000-4000-8000-000000000003", "timestamp": "2014-12-31T23:59:59.999999Z"},
	{"drone_id": "11000000-0000-4000-8000-000000000003", "timestamp": "0001-01-01T00:00:00Z"},
	{"drone_id": "11000000-0000-4000-8000-000000000003", "timestamp": "9999-12-31T23:59:59Z"}]');
SELECT reason, sqlstate FROM refused;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';
-- five minutes ahead of the clock are in (it moves on while the call runs), a little more is not
SELECT * FROM telemetry.ingest(jsonb_build_array(
	jsonb_build_object('drone_id', '11000000-0000-4000-8000-000000000003', 'timestamp', clock_timestamp() + interval '5 minutes'),
	jsonb_build_object('drone_id', '11000000-0000-4000-8000-000000000003', 'timestamp', clock_timestamp() + interval '6 minutes')));
SELECT sqlstate FROM refused;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';
TRUNCATE telemetry.drone_telemetry;

-- extra: whatever is no column, nested or not, in any script; extra's own members beside it
SELECT * FROM telemetry.ingest(sample('{"camera": "on", "nested": {"a": [1, {"b": null}], "drone_id": 5}, "": 0, "Ωmega": "ж", "日本": [], "latitudE": 1,
	"a_key_that_is_longer_than_thirty_two_bytes": true, "extra": {"inner": {"extra": {}}, "latitude": 3}}'));
SELECT extra, latitude FROM stored;
-- one key in both places: neither value may get lost, so that the sample is rejected
SELECT * FROM telemetry.ingest(sample('{"camera": "on", "extra": {"camera": "off"}}'));
SELECT reason, sqlstate, payload->'camera' AS camera, payload->'extra' AS extra FROM refused;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';
-- keys in changing places
SELECT * FROM telemetry.ingest((SELECT jsonb_agg(CASE WHEN i % 2 = 0 THEN sample('{"aa": 1, "latitude": 2}') ELSE sample('{"latitude": 3, "x": 2, "b": 4}') END)
	FROM generate_series(1, 10) AS i));
SELECT latitude, extra, count(*) FROM stored WHERE latitude IS NOT NULL GROUP BY 1, 2 ORDER BY 1;
-- a megabyte that does not compress
SELECT * FROM telemetry.ingest(sample(jsonb_build_object('blob', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) AS i)), '4'));
SELECT length(s.extra->>'blob'), s.extra = l.extra AS same_in_latest,
	md5(s.extra->>'blob') = md5((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) AS i)) AS intact
FROM stored s JOIN telemetry.drone_latest l USING (drone_id) WHERE drone_id = '11000000-0000-4000-8000-000000000004';
-- and as a rejected payload
SELECT * FROM telemetry.ingest(sample(jsonb_build_object('latitude', 91, 'blob', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) AS i)), '4'));
SELECT length(payload->>'blob') FROM refused;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';
TRUNCATE telemetry.drone_telemetry;

-- idempotent; of samples with one key the first sent counts; an invalid one does not stand in a good one's way
SELECT * FROM telemetry.ingest('[{"drone_id": "11000000-0000-4000-8000-000000000005", "timestamp": "2026-04-01T00:00:02Z", "latitude": 1},
	{"drone_id": "11000000-0000-4000-8000-000000000005", "timestamp": "2026-04-01T02:00:02+02:00", "latitude": 2},
	{"drone_id": "11000000-0000-4000-8000-000000000005", "timestamp": "2026-04-01T00:00:01Z", "latitude": 91},
	{"drone_id": "11000000-0000-4000-8000-000000000005", "timestamp": "2026-04-01T00:00:01Z", "latitude": 3}]');
SELECT recorded_at, latitude FROM stored;
SELECT * FROM telemetry.ingest('[{"drone_id": "11000000-0000-4000-8000-000000000005", "timestamp": "2026-04-01T00:00:02Z", "latitude": 5},
	{"drone_id": "11000000-0000-4000-8000-000000000005", "timestamp": "2026-04-01T00:00:01Z"},
	{"drone_id": "11000000-0000-4000-8000-000000000005", "timestamp": "2026-04-01T00:00:00Z", "latitude": 4}]');
SELECT recorded_at, latitude FROM stored;

-- several calls in one statement see each other
SELECT a, b, c FROM telemetry.ingest(sample('{"timestamp": "2026-04-02T00:00:00Z"}', '6')) AS a,
	LATERAL telemetry.ingest(sample('{"timestamp": "2026-04-02T00:00:00Z"}', '6')) AS b,
	LATERAL telemetry.ingest(sample('{"timestamp": "2026-04-02T00:00:01Z"}', '6')) AS c;
-- and what the statement itself has done to the drone
WITH d AS (INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('11000000-0000-4000-8000-000000000010', 'JSON-10', 'vtol') RETURNING drone_id)
SELECT telemetry.ingest(jsonb_build_object('drone_id', drone_id, 'timestamp', '2026-04-02T00:00:00Z')) FROM d;
WITH d AS (UPDATE core.drones SET drone_id = '11000000-0000-4000-8000-000000000077' WHERE call_sign = 'JSON-7' RETURNING drone_id)
SELECT telemetry.ingest(jsonb_build_object('drone_id', drone_id, 'timestamp', '2026-04-02T00:00:00Z')) FROM d;
WITH d AS (DELETE FROM core.drones WHERE call_sign = 'JSON-8' RETURNING drone_id)
SELECT telemetry.ingest(jsonb_build_object('drone_id', drone_id, 'timestamp', '2026-04-02T00:00:00Z')) FROM d;
SELECT count(*) FROM refused WHERE sqlstate = '23503';
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';

-- sent = accepted + duplicate + rejected, whatever is sent
SELECT count(*) AS calls, bool_and(accepted + duplicate + rejected = jsonb_array_length(payload)) AS complete, sum(accepted) AS accepted, sum(duplicate) AS duplicate, sum(rejected) AS rejected
FROM (SELECT i, (SELECT jsonb_agg(CASE j % 7 WHEN 0 THEN 'null' WHEN 1 THEN sample('{"latitude": 91}') WHEN 2 THEN sample('{}', '404')
		ELSE sample(jsonb_build_object('timestamp', '2026-05-01T00:00:00Z'::timestamptz + (i * j % 11) * interval '1 s'), (1 + j % 2)::text) END) FROM generate_series(0, i) AS j) AS payload
	FROM generate_series(0, 60) AS i) AS batch, LATERAL telemetry.ingest(payload);
SELECT count(*) FROM stored WHERE recorded_at >= '2026-05-01' AND recorded_at < '2026-05-02';
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest';

-- 100,000 samples in one call
SELECT * FROM telemetry.ingest((SELECT jsonb_agg(jsonb_build_object('drone_id', '11000000-0000-4000-8000-000000000009',
	'timestamp', '2026-06-01T00:00:00Z'::timestamptz + i * interval '1 s', 'latitude', i % 90, 'n', i)) FROM generate_series(1, 100000) AS i));
SELECT count(*), sum((extra->>'n')::int) FROM stored WHERE drone_id = '11000000-0000-4000-8000-000000000009';

DROP VIEW refused, stored;
DROP FUNCTION sample;
DROP SEQUENCE tick;
TRUNCATE telemetry.drone_telemetry;
DELETE FROM telemetry.drone_events WHERE drone_id::text LIKE '11000000%';
DELETE FROM telemetry.real_time_alerts WHERE drone_id::text LIKE '11000000%';
DELETE FROM core.drones WHERE drone_id::text LIKE '11000000%';
