--
-- telemetry.drone_latest: the newest sample of each drone, by every route.
--
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET client_min_messages = warning;
INSERT INTO core.drones (drone_id, call_sign, drone_type)
SELECT ('15000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'LATEST-' || i, 'quadcopter' FROM generate_series(1, 5) AS i;
CREATE FUNCTION drone(i int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$SELECT ('15000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid$$;
CREATE FUNCTION at(i int) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$SELECT timestamptz '2026-06-01 00:00:00+00' + i * interval '1 s'$$;
CREATE VIEW latest AS
SELECT right(drone_id::text, 1) AS drone, recorded_at, latitude, battery_percentage, flight_mode, extra FROM telemetry.drone_latest
WHERE drone_id::text LIKE '15000000%' ORDER BY drone_id;
-- is it what the samples say, for every drone?
CREATE VIEW wrong AS
SELECT d.drone_id FROM core.drones d LEFT JOIN telemetry.drone_latest l USING (drone_id)
LEFT JOIN LATERAL (SELECT * FROM telemetry.drone_telemetry t WHERE t.drone_id = d.drone_id ORDER BY recorded_at DESC LIMIT 1) t ON true
WHERE to_jsonb(l) - '{samples_received,samples_late,samples_duplicate,alert_states}'::text[] IS DISTINCT FROM to_jsonb(t);

-- no sample, no row; then forward only, whatever the order of arrival and the route
SELECT * FROM latest;
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(1), drone(2)], ARRAY[at(10), at(10)], latitude => ARRAY[10, 10], flight_mode => ARRAY['first', 'first']);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(1), drone(2)], ARRAY[at(5), at(11)], latitude => ARRAY[5, 11]);
SELECT * FROM latest;
SELECT * FROM telemetry.ingest(jsonb_build_object('drone_id', drone(1), 'timestamp', at(9), 'latitude', 9));
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude) VALUES (drone(1), at(8), 8);
-- a duplicate of the newest with other values changes nothing
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(1)], ARRAY[at(10)], latitude => ARRAY[77]);
SELECT * FROM latest;
SELECT * FROM wrong;
-- a value that the newest does not have is not carried over from an older one
SELECT * FROM telemetry.ingest(jsonb_build_object('drone_id', drone(1), 'timestamp', at(20), 'battery_percentage', 55, 'note', 'x'));
SELECT * FROM latest;

-- several steps in one transaction, some undone
BEGIN;
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(1), drone(3)], ARRAY[at(21), at(1)]);
SAVEPOINT s;
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(1), drone(3)], ARRAY[at(22), at(2)]);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(4), at(1)), (drone(3), at(3));
SELECT * FROM latest;
ROLLBACK TO s;
SELECT * FROM latest;
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(3)], ARRAY[at(2)]);
COMMIT;
SELECT * FROM latest;
BEGIN;
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(3);
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(3)], ARRAY[at(1)]);
SELECT * FROM latest WHERE drone = '3';
COMMIT;
SELECT * FROM wrong;

-- a drone whose row an administrator took away gets it back with the next sample, a late one too
DELETE FROM telemetry.drone_latest WHERE drone_id = drone(2);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2), drone(2)], ARRAY[at(9), at(11)]);
SELECT * FROM latest WHERE drone = '2';
SELECT telemetry.rebuild_latest();
SELECT * FROM latest WHERE drone = '2';
-- a row that ran ahead of the samples is brought back
UPDATE telemetry.drone_latest SET recorded_at = at(999) WHERE drone_id = drone(2);
SELECT telemetry.rebuild_latest(ARRAY[drone(2)]);
SELECT telemetry.rebuild_latest('{}');
SELECT telemetry.rebuild_latest(ARRAY[drone(404), NULL]);
SELECT * FROM wrong;

-- a drone is kept as long as its samples' state is; then it goes
DELETE FROM core.drones WHERE drone_id = drone(1);
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(1);
DELETE FROM core.drones WHERE drone_id = drone(1);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(1)], ARRAY[at(1)]);
DELETE FROM telemetry.rejected_samples WHERE drone_id = drone(1);

-- an index of the user's on drone_latest is kept
CREATE INDEX own_latest ON telemetry.drone_latest (battery_percentage);
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(2), drone(5)], ARRAY[at(50), at(50)], battery_percentage => ARRAY[42, 43]);
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(2)], ARRAY[at(51)], battery_percentage => ARRAY[41]);
SET enable_seqscan = off;
SELECT right(drone_id::text, 1), battery_percentage FROM telemetry.drone_latest WHERE battery_percentage BETWEEN 41 AND 43 ORDER BY 2;
RESET enable_seqscan;
DROP INDEX telemetry.own_latest;

-- by PREPARE TRANSACTION, where the server allows it
SELECT current_setting('max_prepared_transactions')::int > 0 AS prepared \gset
\if :prepared
BEGIN;
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(5)], ARRAY[at(60)]) \g /dev/null
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(5), at(61));
PREPARE TRANSACTION 'latest';
COMMIT PREPARED 'latest';
\else
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(5)], ARRAY[at(60)]) \g /dev/null
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(5), at(61));
\endif
SELECT * FROM latest WHERE drone = '5';
SELECT * FROM wrong;

-- drone_health reads it
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(3)], ARRAY[clock_timestamp()], battery_percentage => ARRAY[10], gps_fix => ARRAY[2], gps_satellites => ARRAY[4], signal_strength_dbm => ARRAY[-120]);
SELECT status, battery_percentage, gps_fix, gps_satellites, signal_strength_dbm, open_alerts, problems, age_s < 10 AS young FROM telemetry.drone_health(drone(3));
SELECT status, open_alerts, problems FROM telemetry.drone_health(drone(4));
SELECT status FROM telemetry.drone_health(drone(5));
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(3)], ARRAY[clock_timestamp()], battery_percentage => ARRAY[80], gps_fix => ARRAY[3]);
SELECT status, problems FROM telemetry.drone_health(drone(3));
SELECT * FROM telemetry.drone_health(drone(404));
SELECT * FROM telemetry.drone_health(NULL);

DROP VIEW latest, wrong;
DELETE FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '15000000%';
DELETE FROM telemetry.drone_events WHERE drone_id::text LIKE '15000000%';
DELETE FROM telemetry.real_time_alerts WHERE drone_id::text LIKE '15000000%';
DELETE FROM core.drones WHERE drone_id::text LIKE '15000000%';
DROP FUNCTION drone, at;
