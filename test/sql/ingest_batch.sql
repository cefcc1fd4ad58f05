--
-- telemetry.ingest_batch(): arrays in, counts out.
--
SET timezone = 'UTC';
SET client_min_messages = warning;
INSERT INTO core.drones (drone_id, call_sign, drone_type)
SELECT ('12000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'BATCH-' || i, 'quadcopter' FROM generate_series(1, 9) AS i;
CREATE FUNCTION drone(i int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$SELECT ('12000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid$$;
CREATE FUNCTION at(i int) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$SELECT timestamptz '2026-09-01 00:00:00+00' + i * interval '1 s'$$;
CREATE VIEW refused AS
SELECT drone_id, recorded_at, reason, sqlstate, payload FROM telemetry.rejected_samples WHERE route = 'ingest_batch' ORDER BY rejection_id;
CREATE VIEW stored AS
SELECT * FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '12000000%' ORDER BY drone_id, recorded_at;

-- every column; NULL elements are absent values
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(1), drone(1), drone(1)], ARRAY[at(1), at(2), at(3)],
	latitude => ARRAY[47.5, NULL, -90], longitude => ARRAY[8.25, NULL, 180], altitude_m => ARRAY[500.5, NULL, -1000],
	relative_altitude_m => ARRAY[1.5, NULL, 100000], battery_percentage => ARRAY[80, NULL, 0], battery_voltage_v => ARRAY[16.2, NULL, 1000],
	ground_speed_ms => ARRAY[12.5, NULL, 0], vertical_speed_ms => ARRAY[-1, NULL, 1000], heading_deg => ARRAY[0, NULL, 360],
	roll_deg => ARRAY[1, NULL, -180], pitch_deg => ARRAY[2, NULL, 180], temperature_c => ARRAY[20, NULL, 500],
	signal_strength_dbm => ARRAY[-70, NULL, -200], gps_satellites => ARRAY[12, NULL, 255], gps_fix => ARRAY[3, NULL, 8],
	flight_mode => ARRAY['AUTO', NULL, 'a longer flight mode, ж'], extra => ARRAY['{"a": 1}', NULL, '{"nested": {"b": [1, 2]}}']::jsonb[]);
SELECT to_jsonb(s) - 'received_at' - 'drone_id' AS row FROM stored s;
-- nothing but what must be there
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2)], ARRAY[at(1)]);
SELECT jsonb_strip_nulls(to_jsonb(s) - 'received_at') FROM stored s WHERE drone_id = drone(2);

-- nothing sent
SELECT * FROM telemetry.ingest_batch('{}', '{}');
SELECT * FROM telemetry.ingest_batch('{}', '{}', latitude => '{}', extra => '{}', flight_mode => NULL);

-- errors of the whole call: nothing is stored
SELECT * FROM telemetry.ingest_batch(NULL, ARRAY[at(9)]);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2)], NULL);
SELECT * FROM telemetry.ingest_batch(NULL, NULL);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2)], ARRAY[at(9), at(10)]);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2)], '{}');
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2)], ARRAY[at(9)], latitude => ARRAY[1, 2]);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2)], ARRAY[at(9)], latitude => '{}');
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2)], ARRAY[at(9)], extra => ARRAY['{}', '{}']::jsonb[]);
SELECT * FROM telemetry.ingest_batch(ARRAY[ARRAY[drone(2)]], ARRAY[at(9)]);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2)], ARRAY[ARRAY[at(9)]]);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2), drone(2)], ARRAY[at(9), at(10)], latitude => ARRAY[ARRAY[1, 2]]);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2), drone(2)], ARRAY[at(9), at(10)], flight_mode => ARRAY[ARRAY['a'], ARRAY['b']]);
SELECT count(*) FROM stored WHERE drone_id = drone(2);

-- lower bounds other than 1, in rejections too
SELECT * FROM telemetry.ingest_batch(('[0:2]={' || concat_ws(',', drone(2), drone(2), drone(404)) || '}')::uuid[],
	('[-1:1]={"' || concat_ws('","', at(2), at(3), at(4)) || '"}')::timestamptz[], latitude => '[5:7]={1,91,3}', flight_mode => '[2:4]={a,b,c}');
SELECT recorded_at, latitude, flight_mode FROM stored WHERE drone_id = drone(2);
SELECT payload FROM refused;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest_batch';

-- what is rejected, each with what was sent
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(3), NULL, drone(3), drone(404), drone(3), drone(3), drone(3), drone(3), drone(3), drone(3), drone(3), drone(3), drone(3), drone(3)],
	ARRAY[at(1), at(2), NULL, at(4), at(5), at(6), at(7), at(8), at(9), at(10), '-infinity', 'infinity', '2014-12-31 23:59:59.999999+00', at(14)],
	latitude => '{91,1,2,3,NaN,Infinity,-Infinity,8,9,10,11,12,13,14}',
	battery_percentage => ARRAY[50, 50, 50, 50, 50, 50, 50, 140, 50, 50, 50, 50, 50, 50],
	gps_fix => ARRAY[3, 3, 3, 3, 3, 3, 3, 3, 9, 3, 3, 3, 3, 3],
	extra => ARRAY['{}', '{"a": 1}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '[1]', '{}', '{}', '{}', '{"good": true}']::jsonb[]);
SELECT drone_id, recorded_at, reason, sqlstate FROM refused;
SELECT payload FROM refused;
SELECT recorded_at, latitude, battery_percentage, gps_fix, extra FROM stored WHERE drone_id = drone(3);
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest_batch';

-- the edges of the window
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(4), drone(4), drone(4)],
	ARRAY['2015-01-01 00:00:00+00', clock_timestamp() + interval '5 minutes', clock_timestamp() + interval '6 minutes']);
SELECT sqlstate, count(*) FROM refused GROUP BY 1;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest_batch';
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(4);

-- duplicates inside the batch (the first stays) and against the table, in any order
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(5), drone(6), drone(5), drone(5), drone(6), drone(5)],
	ARRAY[at(3), at(1), at(1), at(3), at(1), at(2)], latitude => ARRAY[1, 2, 3, 4, 5, 6]);
SELECT drone_id, recorded_at, latitude FROM stored WHERE drone_id IN (drone(5), drone(6));
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(6), drone(6), drone(5), drone(5)], ARRAY[at(0), at(1), at(4), at(2)], latitude => ARRAY[7, 8, 9, 10]);
SELECT drone_id, recorded_at, latitude FROM stored WHERE drone_id IN (drone(5), drone(6));
-- where nothing is stored, there is nothing to repeat: each is rejected, and kept
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(404), drone(404)], ARRAY[at(1), at(1)]);
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest_batch';

-- several calls in one statement; after a rollback to a savepoint; in each isolation level
SELECT a, b FROM telemetry.ingest_batch(ARRAY[drone(7)], ARRAY[at(1)]) AS a, LATERAL telemetry.ingest_batch(ARRAY[drone(7), drone(7)], ARRAY[at(1), at(2)]) AS b;
BEGIN;
SAVEPOINT s;
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(7), drone(404)], ARRAY[at(3), at(3)]);
ROLLBACK TO s;
SELECT count(*) AS stored, (SELECT count(*) FROM refused) AS refused FROM stored WHERE drone_id = drone(7);
SELECT recorded_at FROM telemetry.drone_latest WHERE drone_id = drone(7);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(7)], ARRAY[at(3)]);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(7), drone(7)], ARRAY[at(3), at(4)]);
SELECT count(*) FROM stored WHERE drone_id = drone(7);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(7), drone(7)], ARRAY[at(4), at(5)]);
SELECT recorded_at FROM telemetry.drone_latest WHERE drone_id = drone(7);
COMMIT;
SELECT count(*) FROM stored WHERE drone_id = drone(7);
-- read-only
BEGIN READ ONLY;
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(7)], ARRAY[at(6)]);
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM telemetry.ingest('{}');
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM telemetry.retry_rejected();
ROLLBACK;
-- inside PL/pgSQL, where an exception undoes the block
DO $$
BEGIN
	BEGIN
		PERFORM telemetry.ingest_batch(ARRAY[public.drone(7)], ARRAY[public.at(6)]);
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		PERFORM telemetry.ingest_batch(ARRAY[public.drone(7)], ARRAY[public.at(7)]);
	END;
END $$;
SELECT max(s.recorded_at) = l.recorded_at AS agree, l.recorded_at FROM stored s JOIN telemetry.drone_latest l USING (drone_id) WHERE drone_id = drone(7) GROUP BY 2;

-- a batch over many months, drones and flushes
SELECT * FROM telemetry.ingest_batch((SELECT array_agg(drone(1 + i % 9) ORDER BY i) FROM generate_series(1, 6000) AS i),
	(SELECT array_agg(timestamptz '2025-01-01 00:00:00+00' + i * interval '1 hour' ORDER BY i) FROM generate_series(1, 6000) AS i),
	latitude => (SELECT array_agg((i % 90)::float8 ORDER BY i) FROM generate_series(1, 6000) AS i));
SELECT count(*), count(DISTINCT recorded_at), bool_and(latitude = (extract(epoch FROM recorded_at - '2025-01-01 00:00:00+00')::int / 3600) % 90) AS right_values
FROM stored WHERE recorded_at < '2026-01-01';

-- 100,000 samples, then all of them again, then 100,000 that are all rejected: none of it grows with the square
SET statement_timeout = '60s';
SELECT telemetry.ingest_batch(array_agg(drone(8)), array_agg(at(i)), flight_mode => array_agg('mode ' || i), extra => array_agg(jsonb_build_object('i', i)))
FROM generate_series(1, 100000) AS i;
SELECT telemetry.ingest_batch(array_agg(drone(8) ORDER BY i DESC), array_agg(at(i) ORDER BY i DESC)) FROM generate_series(1, 100000) AS i;
SELECT telemetry.ingest_batch(array_agg(drone(404)), array_agg(at(i)), latitude => array_agg(nullif(i % 90, 0)::float8), flight_mode => array_agg('mode ' || i))
FROM generate_series(1, 100000) AS i;
SELECT count(*), bool_and(flight_mode = 'mode ' || (extra->>'i')) AS right_values FROM stored WHERE drone_id = drone(8) AND extra IS NOT NULL;
SELECT count(*), bool_and(payload->>'flight_mode' = 'mode ' || extract(epoch FROM recorded_at - '2026-09-01 00:00:00+00')::int) AS right_payloads FROM refused;
RESET statement_timeout;
DELETE FROM telemetry.rejected_samples WHERE route = 'ingest_batch';

-- the newest stored sample is the latest state, for each drone
SELECT count(*), bool_and(l.recorded_at = (SELECT max(recorded_at) FROM telemetry.drone_telemetry t WHERE t.drone_id = l.drone_id)) AS agree
FROM telemetry.drone_latest l WHERE l.drone_id::text LIKE '12000000%';

DELETE FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '12000000%';
SELECT count(*) FROM telemetry.drone_latest WHERE drone_id::text LIKE '12000000%';
DELETE FROM telemetry.drone_events WHERE drone_id::text LIKE '12000000%';
DELETE FROM telemetry.real_time_alerts WHERE drone_id::text LIKE '12000000%';
DELETE FROM core.drones WHERE drone_id::text LIKE '12000000%';
DROP VIEW refused, stored;
DROP FUNCTION drone, at;
