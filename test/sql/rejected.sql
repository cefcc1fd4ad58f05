--
-- telemetry.rejected_samples and telemetry.retry_rejected().
--
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET client_min_messages = warning;
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('14000000-0000-4000-8000-000000000001', 'REJECT-1', 'quadcopter');
CREATE VIEW refused AS
SELECT route, drone_id, recorded_at, reason, sqlstate, retry_count, retried_at IS NOT NULL AS retried, resolution, resolved_at IS NOT NULL AS resolved, payload
FROM telemetry.rejected_samples ORDER BY rejection_id;
SELECT count(*) FROM refused;

-- nothing waits
SELECT * FROM telemetry.retry_rejected();
-- errors
SELECT * FROM telemetry.retry_rejected(0);
SELECT * FROM telemetry.retry_rejected(-1);
SELECT * FROM telemetry.retry_rejected(NULL);

-- by every route: an unknown drone, which is registered later; a value that stays wrong; what is no sample at all
SELECT * FROM telemetry.ingest('[{"droneId": "14000000-0000-4000-8000-000000000002", "timestamp": "2026-07-01T00:00:01Z", "latitude": 1, "camera": "on"},
	{"droneId": "14000000-0000-4000-8000-000000000001", "timestamp": "2026-07-01T00:00:02Z", "latitude": 91}, 5]');
SELECT telemetry.ingest_batch(ARRAY['14000000-0000-4000-8000-000000000002', '14000000-0000-4000-8000-000000000002', '14000000-0000-4000-8000-000000000001']::uuid[],
	ARRAY['2026-07-01 00:00:03+00', '2026-07-01 00:00:01+00', 'infinity']::timestamptz[], altitude_m => ARRAY[16.2, 0.1, 3], gps_fix => ARRAY[3, 3, 3], flight_mode => ARRAY['AUTO', NULL, 'X'], extra => ARRAY['{"a": {"b": 1}}', NULL, '[]']::jsonb[]);
SELECT * FROM refused;
-- the sums of each call are what is kept
SELECT route, count(*) FROM refused GROUP BY 1 ORDER BY 1;

-- too early: they stay, with their newest reason and a count
SELECT * FROM telemetry.retry_rejected();
SELECT reason, sqlstate, retry_count, retried, resolution, resolved FROM refused;
-- the drone is there: of the two with one key the older is stored, the other is a duplicate
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('14000000-0000-4000-8000-000000000002', 'REJECT-2', 'quadcopter');
SELECT * FROM telemetry.retry_rejected();
SELECT reason, sqlstate, retry_count, resolution, resolved FROM refused;
SELECT recorded_at, latitude, altitude_m, gps_fix, flight_mode, extra FROM telemetry.drone_telemetry
WHERE drone_id = '14000000-0000-4000-8000-000000000002' ORDER BY recorded_at;
SELECT recorded_at FROM telemetry.drone_latest WHERE drone_id = '14000000-0000-4000-8000-000000000002';
-- what is resolved is not taken up again
SELECT * FROM telemetry.retry_rejected();
-- a payload that an administrator mended
UPDATE telemetry.rejected_samples SET payload = payload || '{"latitude": 9.1}' WHERE payload->>'latitude' = '91';
-- the least often retried come first: a new one before the old ones
SELECT * FROM telemetry.ingest('{"droneId": "14000000-0000-4000-8000-000000000003", "timestamp": "2026-07-01T00:00:01Z"}');
SELECT * FROM telemetry.retry_rejected(1);
SELECT reason, retry_count, resolution FROM refused WHERE resolution IS NULL;
SELECT * FROM telemetry.retry_rejected(2);
SELECT reason, retry_count, resolution FROM refused WHERE payload->>'latitude' = '9.1';
-- a rollback undoes the retry
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('14000000-0000-4000-8000-000000000003', 'REJECT-3', 'quadcopter');
BEGIN;
SELECT accepted FROM telemetry.retry_rejected();
SELECT count(*) FROM telemetry.drone_telemetry WHERE drone_id = '14000000-0000-4000-8000-000000000003';
ROLLBACK;
SELECT count(*) FROM telemetry.drone_telemetry WHERE drone_id = '14000000-0000-4000-8000-000000000003';
-- a sample that is stored meanwhile is a duplicate
SELECT accepted FROM telemetry.ingest('{"droneId": "14000000-0000-4000-8000-000000000003", "timestamp": "2026-07-01T00:00:01Z"}');
SELECT accepted, duplicate FROM telemetry.retry_rejected();
SELECT resolution FROM refused WHERE drone_id = '14000000-0000-4000-8000-000000000003';

-- through a user's trigger as well
CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER pass BEFORE INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION pass();
SELECT rejected FROM telemetry.ingest('[{"droneId": "14000000-0000-4000-8000-000000000004", "timestamp": "2026-07-01T00:00:01Z"},
	{"droneId": "14000000-0000-4000-8000-000000000004", "timestamp": "2026-07-01T00:00:02Z"}]');
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('14000000-0000-4000-8000-000000000004', 'REJECT-4', 'quadcopter');
SELECT accepted, duplicate FROM telemetry.retry_rejected();
SELECT recorded_at FROM telemetry.drone_latest WHERE drone_id = '14000000-0000-4000-8000-000000000004';
DROP FUNCTION pass CASCADE;

-- 20,000 of them, in bites
SELECT * FROM telemetry.ingest((SELECT jsonb_agg(jsonb_build_object('drone_id', '14000000-0000-4000-8000-000000000005',
	'timestamp', '2026-07-02T00:00:00Z'::timestamptz + i * interval '1 s', 'latitude', 1)) FROM generate_series(1, 20000) AS i));
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('14000000-0000-4000-8000-000000000005', 'REJECT-5', 'quadcopter');
SELECT accepted, duplicate FROM telemetry.retry_rejected(15000);
SELECT accepted, duplicate FROM telemetry.retry_rejected(15000);
SELECT count(*) FROM telemetry.drone_telemetry WHERE drone_id = '14000000-0000-4000-8000-000000000005';

-- the table guards its own sense
\set VERBOSITY terse
UPDATE telemetry.rejected_samples SET resolution = 'lost' WHERE resolution = 'accepted';
UPDATE telemetry.rejected_samples SET sqlstate = 'bad' WHERE resolution = 'accepted';
\set VERBOSITY sqlstate
UPDATE telemetry.rejected_samples SET resolution = NULL WHERE resolution = 'accepted';
\set VERBOSITY default

DROP VIEW refused;
DELETE FROM telemetry.rejected_samples;
DELETE FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '14000000%';
DELETE FROM core.drones WHERE drone_id::text LIKE '14000000%';
