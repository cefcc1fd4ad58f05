--
-- What works at once in a new database.  Run twice: with sentient_edge in
-- shared_preload_libraries and without.
--
SET timezone = 'UTC';
SELECT extname, extversion FROM pg_extension WHERE extname = 'sentient_edge';

-- only call_sign and drone_type must be given
INSERT INTO core.drones (call_sign, drone_type) VALUES ('BASIC-1', 'vtol')
RETURNING drone_id IS NOT NULL AS has_id, swarm_id, metadata;
SELECT drone_id AS drone FROM core.drones WHERE call_sign = 'BASIC-1' \gset

-- a sample of now, and one of a month that has no partition yet
SELECT * FROM telemetry.ingest(jsonb_build_array(
	jsonb_build_object('droneId', :'drone', 'timestamp', now() - interval '1 second',
					   'latitude', 47.25, 'longitude', 8.5, 'battery_percentage', 81),
	jsonb_build_object('drone_id', :'drone', 'timestamp', '2018-08-08T14:06:02Z',
					   'latitude', 47, 'longitude', 8, 'altitude_m', 500, 'camera', 'on')));

-- again, with a third that is out of range
SELECT * FROM telemetry.ingest(jsonb_build_array(
	jsonb_build_object('drone_id', :'drone', 'timestamp', '2018-08-08T14:06:02Z', 'latitude', 47, 'longitude', 8),
	jsonb_build_object('drone_id', :'drone', 'timestamp', '2018-08-08T14:06:03Z', 'latitude', 91, 'longitude', 8)));

-- plain INSERT
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude, longitude, altitude_m)
VALUES (:'drone', '2018-08-08 14:06:04+00', 47.001, 8.001, 501);

SELECT recorded_at, latitude, longitude, altitude_m, extra,
	   tableoid = 'telemetry.drone_telemetry_default'::regclass AS in_default
FROM telemetry.drone_telemetry
WHERE drone_id = :'drone' AND recorded_at < '2019-01-01' ORDER BY recorded_at;

-- the latest state is of the newest sample, not of the last that came
SELECT latitude, longitude, battery_percentage, altitude_m FROM telemetry.drone_latest WHERE drone_id = :'drone';
SELECT status, battery_percentage, open_alerts, problems FROM telemetry.drone_health(:'drone');

DELETE FROM telemetry.rejected_samples WHERE drone_id = :'drone';
DELETE FROM telemetry.drone_latest WHERE drone_id = :'drone';
DELETE FROM telemetry.drone_telemetry WHERE drone_id = :'drone';
