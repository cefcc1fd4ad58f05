--
-- Plain INSERT, COPY, UPDATE, DELETE and TRUNCATE on telemetry.drone_telemetry.
--
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET client_min_messages = warning;
INSERT INTO core.drones (drone_id, call_sign, drone_type)
SELECT ('13000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'PLAIN-' || i, 'quadcopter' FROM generate_series(1, 9) AS i;
CREATE FUNCTION drone(i int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$SELECT ('13000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid$$;
CREATE FUNCTION at(i int) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$SELECT timestamptz '2026-08-01 00:00:00+00' + i * interval '1 s'$$;
CREATE VIEW stored AS
SELECT * FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '13000000%' ORDER BY drone_id, recorded_at;
CREATE VIEW latest AS
SELECT * FROM telemetry.drone_latest WHERE drone_id::text LIKE '13000000%' ORDER BY drone_id;

-- the month has its partition before the first row of it comes: no rows are moved behind the test's back
SELECT accepted FROM telemetry.ingest_batch(ARRAY[drone(1)], ARRAY[at(0)]);
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(1);

-- the newest of a statement's rows becomes the latest state, an older one does not
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude, flight_mode, extra) VALUES
	(drone(1), at(1), 1, 'a', '{"n": 1}'), (drone(1), at(3), 3, 'c', '{"n": 3}'), (drone(1), at(2), 2, 'b', '{"n": 2}'), (drone(2), at(1), 9, NULL, NULL);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude) VALUES (drone(1), at(0), 0);
SELECT drone_id, recorded_at, latitude, flight_mode, extra FROM latest;
SELECT count(*), bool_and(received_at > now() - interval '1 hour') AS just_received FROM stored;

-- refused: duplicates, unknown drones, values out of range, times out of the window, NULLs; the statement as a whole
\set VERBOSITY sqlstate
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(3), at(1)), (drone(3), at(1));
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(3), at(5)), (drone(1), at(1));
\set VERBOSITY default
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(3), at(1)), (drone(404), at(1));
\set VERBOSITY terse
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude) VALUES (drone(3), at(1), 91);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, longitude) VALUES (drone(3), at(1), 'NaN');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, altitude_m) VALUES (drone(3), at(1), 'Infinity');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, battery_percentage) VALUES (drone(3), at(1), 140);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, gps_fix) VALUES (drone(3), at(1), -1);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(3), '2014-12-31 23:59:59.999999+00');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(3), 'infinity');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(3), '-infinity');
\set VERBOSITY sqlstate
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(3), clock_timestamp() + interval '6 minutes');
INSERT INTO telemetry.drone_telemetry (drone_id) VALUES (drone(3));
INSERT INTO telemetry.drone_telemetry (recorded_at) VALUES (at(1));
\set VERBOSITY default
SELECT count(*) FROM stored WHERE drone_id = drone(3);
SELECT count(*) FROM latest WHERE drone_id = drone(3);
-- the edges of the window are inside
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(3), '2015-01-01 00:00:00+00'), (drone(3), clock_timestamp() + interval '5 minutes');
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(3);
-- no row at all
INSERT INTO telemetry.drone_telemetry SELECT * FROM stored WHERE false;

-- ON CONFLICT: skipped rows are not news, changed ones are
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude) VALUES (drone(1), at(3), 33), (drone(1), at(4), 4)
ON CONFLICT (drone_id, recorded_at) DO NOTHING;
SELECT recorded_at, latitude FROM latest WHERE drone_id = drone(1);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude) VALUES (drone(1), at(4), 44), (drone(1), at(1), 11), (drone(2), at(2), 22)
ON CONFLICT (drone_id, recorded_at) DO UPDATE SET latitude = excluded.latitude;
SELECT drone_id, recorded_at, latitude FROM latest;
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(404), at(4)) ON CONFLICT (drone_id, recorded_at) DO UPDATE SET latitude = 1;

-- COPY, text, csv and binary
COPY telemetry.drone_telemetry (drone_id, recorded_at, latitude, extra) FROM STDIN (FORMAT csv);
13000000-0000-4000-8000-000000000004,2026-08-01 00:00:02+00,2,"{""n"": 2}"
13000000-0000-4000-8000-000000000004,2026-08-01 00:00:01+00,1,
13000000-0000-4000-8000-000000000005,2026-08-01 00:00:01+00,,{}
\.
COPY telemetry.drone_telemetry (drone_id, recorded_at) FROM STDIN;
13000000-0000-4000-8000-000000000404	2026-08-01 00:00:02+00
\.
COPY telemetry.drone_telemetry (drone_id, recorded_at) FROM STDIN;
13000000-0000-4000-8000-000000000004	2014-08-01 00:00:02+00
\.
SELECT drone_id, recorded_at, latitude, extra FROM latest WHERE drone_id IN (drone(4), drone(5));
\getenv out PG_ABS_BUILDDIR
\if :{?out}
\else
\set out /tmp
\endif
SELECT :'out' || '/results/plain_insert.' || pg_backend_pid() AS file \gset
COPY (SELECT drone(6), at(i), i / 10::float8, i::real FROM generate_series(1, 1000) AS i) TO :'file' (FORMAT binary);
COPY telemetry.drone_telemetry (drone_id, recorded_at, longitude, altitude_m) FROM :'file' (FORMAT binary);
COPY (SELECT) TO :'file';
SELECT count(*), sum(longitude), sum(altitude_m) FROM stored WHERE drone_id = drone(6);
SELECT recorded_at, longitude FROM latest WHERE drone_id = drone(6);

-- UPDATE: the latest state follows; a row may move to another partition, but to no drone that is not there
UPDATE telemetry.drone_telemetry SET latitude = 5 WHERE drone_id = drone(1) AND recorded_at = at(4);
SELECT recorded_at, latitude FROM latest WHERE drone_id = drone(1);
UPDATE telemetry.drone_telemetry SET recorded_at = '2020-02-01 00:00:00+00' WHERE drone_id = drone(1) AND recorded_at = at(4);
SELECT recorded_at, latitude FROM latest WHERE drone_id = drone(1);
UPDATE telemetry.drone_telemetry SET drone_id = drone(7) WHERE drone_id = drone(2);
SELECT drone_id, recorded_at, latitude FROM latest WHERE drone_id IN (drone(2), drone(7));
\set VERBOSITY sqlstate
UPDATE telemetry.drone_telemetry SET drone_id = drone(404) WHERE drone_id = drone(7);
UPDATE telemetry.drone_telemetry SET battery_percentage = 140 WHERE drone_id = drone(7);
\set VERBOSITY default
-- a row that was moved and then deleted is not held against its drone
BEGIN;
UPDATE telemetry.drone_telemetry SET recorded_at = '2020-03-01 00:00:00+00' WHERE drone_id = drone(7) AND recorded_at = at(1);
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(7);
DELETE FROM core.drones WHERE drone_id = drone(7);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(8), at(1));
ROLLBACK;

-- DELETE and TRUNCATE leave the newest of what is left
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(1) AND recorded_at >= at(2);
SELECT recorded_at, latitude FROM latest WHERE drone_id = drone(1);
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(6);
SELECT count(*) FROM latest WHERE drone_id = drone(6);
BEGIN;
TRUNCATE telemetry.drone_telemetry;
SELECT count(*) FROM telemetry.drone_latest;
ROLLBACK;
SELECT count(*) > 0 AS back FROM latest;

-- rolled back to a savepoint, prepared, and in one statement with ingest
BEGIN;
SAVEPOINT s;
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(8), at(8)), (drone(404), at(8));
ROLLBACK TO s;
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(8), at(7));
COMMIT;
SELECT recorded_at FROM latest WHERE drone_id = drone(8);
WITH a AS (INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(8), at(9)) RETURNING drone_id),
	b AS (INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(8), at(10)) RETURNING drone_id)
SELECT telemetry.ingest_batch(ARRAY[a.drone_id, b.drone_id], ARRAY[at(9), at(11)]) FROM a, b;
SELECT recorded_at FROM latest WHERE drone_id = drone(8);

-- straight into a partition: the row is checked and stored, and ingest knows it; rebuild_latest finds it
CREATE TABLE plain_partition (LIKE telemetry.drone_telemetry INCLUDING ALL);
ALTER TABLE telemetry.drone_telemetry ATTACH PARTITION plain_partition FOR VALUES FROM ('2016-01-01 00:00:00+00') TO ('2016-02-01 00:00:00+00');
INSERT INTO plain_partition (drone_id, recorded_at, latitude) VALUES (drone(9), '2016-01-02 00:00:00+00', 1);
\set VERBOSITY sqlstate
INSERT INTO plain_partition (drone_id, recorded_at, latitude) VALUES (drone(9), '2016-01-03 00:00:00+00', 91);
INSERT INTO plain_partition (drone_id, recorded_at) VALUES (drone(9), '2016-03-01 00:00:00+00');
\set VERBOSITY default
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(9)], ARRAY[timestamptz '2016-01-02 00:00:00+00']);
SELECT count(*) FROM latest WHERE drone_id = drone(9);
SELECT telemetry.rebuild_latest(ARRAY[drone(9)]);
SELECT recorded_at, latitude FROM latest WHERE drone_id = drone(9);
SELECT telemetry.rebuild_latest(ARRAY[drone(9)]) AS nothing_to_do;
BEGIN;
INSERT INTO plain_partition (drone_id, recorded_at) VALUES (drone(404), '2016-01-04 00:00:00+00');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(9), '2016-01-05 00:00:00+00');
ROLLBACK;

-- a partition that was made by hand, its columns in another order
CREATE TABLE other_order (extra jsonb, flight_mode text, recorded_at timestamptz NOT NULL, drone_id uuid NOT NULL, received_at timestamptz NOT NULL DEFAULT now(),
	gps_fix smallint, gps_satellites smallint, signal_strength_dbm real, temperature_c real, pitch_deg real, roll_deg real, heading_deg real, vertical_speed_ms real,
	ground_speed_ms real, battery_voltage_v real, battery_percentage real, relative_altitude_m real, altitude_m real, longitude float8, latitude float8,
	CONSTRAINT sample_in_range CHECK (telemetry.sample_in_range(latitude, longitude, altitude_m, relative_altitude_m, battery_percentage, battery_voltage_v,
		ground_speed_ms, vertical_speed_ms, heading_deg, roll_deg, pitch_deg, temperature_c, signal_strength_dbm, gps_satellites, gps_fix)));
ALTER TABLE telemetry.drone_telemetry ATTACH PARTITION other_order FOR VALUES FROM ('2016-02-01 00:00:00+00') TO ('2016-03-01 00:00:00+00');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude, flight_mode, extra) VALUES (drone(9), '2016-02-01 00:00:00+00', 2, 'hand', '{"made": true}');
SELECT recorded_at, latitude, flight_mode, extra FROM latest WHERE drone_id = drone(9);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(9), drone(9), drone(404)], ARRAY['2016-02-01 00:00:00+00', '2016-02-02 00:00:00+00', '2016-02-02 00:00:00+00']::timestamptz[], latitude => ARRAY[7, 3, 1]);
SELECT recorded_at, latitude FROM latest WHERE drone_id = drone(9);
DELETE FROM telemetry.rejected_samples WHERE drone_id = drone(404);
-- two columns of one type that changed places
BEGIN;
CREATE TABLE swapped (LIKE telemetry.drone_telemetry INCLUDING ALL);
ALTER TABLE swapped DROP CONSTRAINT sample_in_range;
ALTER TABLE swapped RENAME latitude TO l;
ALTER TABLE swapped RENAME longitude TO latitude;
ALTER TABLE swapped RENAME l TO longitude;
ALTER TABLE swapped ADD CONSTRAINT sample_in_range CHECK (telemetry.sample_in_range(latitude, longitude, altitude_m, relative_altitude_m, battery_percentage, battery_voltage_v,
	ground_speed_ms, vertical_speed_ms, heading_deg, roll_deg, pitch_deg, temperature_c, signal_strength_dbm, gps_satellites, gps_fix));
ALTER TABLE telemetry.drone_telemetry ATTACH PARTITION swapped FOR VALUES FROM ('2016-03-01 00:00:00+00') TO ('2016-04-01 00:00:00+00');
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(9)], ARRAY[timestamptz '2016-03-02 00:00:00+00'], latitude => ARRAY[7], longitude => ARRAY[80]);
SELECT latitude, longitude FROM stored WHERE drone_id = drone(9) AND recorded_at = '2016-03-02 00:00:00+00';
SELECT latitude, longitude FROM latest WHERE drone_id = drone(9);
ROLLBACK;

-- the user's own triggers: every route fires them, and what they do is honoured
CREATE TABLE seen (tg text, drone_id uuid, recorded_at timestamptz);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen VALUES (TG_NAME, NEW.drone_id, NEW.recorded_at);
	PERFORM 1 / 0;
	RETURN NEW;
EXCEPTION WHEN division_by_zero THEN
	INSERT INTO public.seen VALUES (TG_NAME, NEW.drone_id, NEW.recorded_at);
	RETURN NEW;
END $$;
CREATE FUNCTION adjust() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.latitude = 13 THEN
		RETURN NULL;
	END IF;
	NEW.altitude_m := 77;
	RETURN NEW;
END $$;
CREATE TRIGGER aaa_note AFTER INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER zzz_note AFTER INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER adjust BEFORE INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION adjust();
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(2), at(20)), (drone(3), at(20)), (drone(4), at(20));
SELECT drone_id, recorded_at, altitude_m FROM latest WHERE drone_id IN (drone(2), drone(3), drone(4));
-- (an error that a trigger swallowed once hid the rows before it from the check)
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (drone(404), at(20)), (drone(3), at(21));
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(2), drone(2), drone(3), drone(404), drone(3), drone(2)], ARRAY[at(20), at(21), at(22), at(21), at(23), at(19)],
	latitude => ARRAY[1, 2, 3, 4, 13, 6]);
SELECT * FROM telemetry.ingest(jsonb_build_object('drone_id', drone(2), 'timestamp', at(22)));
SELECT drone_id, recorded_at, latitude, altitude_m FROM latest WHERE drone_id IN (drone(2), drone(3));
SELECT tg, drone_id, recorded_at, count(*) FROM seen GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
DROP TRIGGER aaa_note ON telemetry.drone_telemetry;
DROP TRIGGER zzz_note ON telemetry.drone_telemetry;
DROP TRIGGER adjust ON telemetry.drone_telemetry;
SELECT recorded_at, reason, sqlstate FROM telemetry.rejected_samples WHERE drone_id = drone(3);
DELETE FROM telemetry.rejected_samples WHERE drone_id IN (drone(3), drone(404));

-- the user's own columns, constraints, indexes
ALTER TABLE telemetry.drone_telemetry ADD COLUMN own text NOT NULL DEFAULT 'default', ADD COLUMN twice float8 GENERATED ALWAYS AS (latitude * 2) STORED;
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude, own) VALUES (drone(4), at(30), 1, 'given');
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(4)], ARRAY[at(31)], latitude => ARRAY[2]);
SELECT recorded_at, latitude, own, twice FROM stored s JOIN telemetry.drone_telemetry t USING (drone_id, recorded_at, latitude) WHERE drone_id = drone(4) AND recorded_at >= at(30);
SELECT recorded_at, latitude FROM latest WHERE drone_id = drone(4);
DELETE FROM telemetry.drone_telemetry WHERE drone_id = drone(4) AND recorded_at = at(31);
UPDATE telemetry.drone_telemetry SET latitude = 5 WHERE drone_id = drone(4) AND recorded_at = at(30);
SELECT recorded_at, latitude FROM latest WHERE drone_id = drone(4);
ALTER TABLE telemetry.drone_telemetry DROP COLUMN own, DROP COLUMN twice;
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(4), drone(4)], ARRAY[at(30), at(31)], latitude => ARRAY[2, 2]);
\set VERBOSITY sqlstate
ALTER TABLE telemetry.drone_telemetry ADD CONSTRAINT own_check CHECK (latitude <> 66);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(4), drone(4)], ARRAY[at(32), at(33)], latitude => ARRAY[1, 66]);
ALTER TABLE telemetry.drone_telemetry DROP CONSTRAINT own_check;
CREATE UNIQUE INDEX own_unique ON telemetry.drone_telemetry (flight_mode, recorded_at);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(4), drone(5)], ARRAY[at(32), at(32)], flight_mode => ARRAY['same', 'same']);
SELECT * FROM telemetry.ingest_batch(ARRAY[drone(4), drone(5)], ARRAY[at(32), at(32)], flight_mode => ARRAY['one', 'other']);
DROP INDEX telemetry.own_unique;
\set VERBOSITY default
CREATE INDEX own_index ON telemetry.drone_telemetry (flight_mode, (latitude + 1)) WHERE latitude > 0;
SELECT telemetry.ingest_batch(array_agg(drone(5)), array_agg(at(100 + i)), latitude => array_agg((i % 90)::float8), flight_mode => array_agg('indexed'::text)) FROM generate_series(1, 1000) AS i;
SET enable_seqscan = off;
SELECT count(*) FROM telemetry.drone_telemetry WHERE flight_mode = 'indexed' AND latitude + 1 > 1 AND latitude > 0;
SET enable_seqscan = on;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT count(*) FROM telemetry.drone_telemetry WHERE flight_mode = 'indexed' AND latitude + 1 > 1 AND latitude > 0;
RESET enable_seqscan;
RESET enable_indexscan;
RESET enable_bitmapscan;
DROP INDEX telemetry.own_index;

-- rows that an UPDATE moves to another partition are not inserted, in the same transaction as others or not
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('19000000-0000-4000-8000-000000000001', 'MOVED-1', 'quadcopter');
SELECT telemetry.ingest('[{"drone_id": "19000000-0000-4000-8000-000000000001", "timestamp": "2025-01-01T00:00:00Z", "battery_percentage": 90},
	{"drone_id": "19000000-0000-4000-8000-000000000001", "timestamp": "2025-03-01T00:00:00Z", "battery_percentage": 91}]');
BEGIN;
UPDATE telemetry.drone_telemetry SET recorded_at = '2025-03-02 00:00:00+00', battery_percentage = 3
WHERE drone_id = '19000000-0000-4000-8000-000000000001' AND recorded_at = '2025-01-01 00:00:00+00';
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('19000000-0000-4000-8000-000000000001', '2025-01-02 00:00:00+00');
COMMIT;
SELECT recorded_at, battery_percentage, samples_received, alert_states FROM telemetry.drone_latest WHERE drone_id = '19000000-0000-4000-8000-000000000001';
-- a statement that changes samples, within one that inserts and changes others
CREATE FUNCTION insert_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.battery_percentage = 4 THEN
		INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (NEW.drone_id, NEW.recorded_at - interval '1 s');
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER insert_before BEFORE INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION insert_before();
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, battery_percentage)
VALUES ('19000000-0000-4000-8000-000000000001', '2025-03-02 00:00:00+00', 90), ('19000000-0000-4000-8000-000000000001', '2025-03-03 00:00:00+00', 4)
ON CONFLICT (drone_id, recorded_at) DO UPDATE SET battery_percentage = excluded.battery_percentage;
SELECT recorded_at, battery_percentage, samples_received, alert_states FROM telemetry.drone_latest WHERE drone_id = '19000000-0000-4000-8000-000000000001';
SELECT message, opened_at, cleared_at FROM telemetry.real_time_alerts WHERE drone_id = '19000000-0000-4000-8000-000000000001' ORDER BY message;
DROP TRIGGER insert_before ON telemetry.drone_telemetry;
DROP FUNCTION insert_before;
DELETE FROM telemetry.drone_telemetry WHERE drone_id = '19000000-0000-4000-8000-000000000001';
DELETE FROM telemetry.drone_events WHERE drone_id = '19000000-0000-4000-8000-000000000001';
DELETE FROM telemetry.real_time_alerts WHERE drone_id = '19000000-0000-4000-8000-000000000001';
DELETE FROM core.drones WHERE drone_id = '19000000-0000-4000-8000-000000000001';

-- the triggers are for the table only
CREATE TABLE stranger (drone_id uuid, recorded_at timestamptz);
CREATE TRIGGER wrong AFTER INSERT ON stranger FOR EACH STATEMENT EXECUTE FUNCTION telemetry.after_insert_samples();
INSERT INTO stranger DEFAULT VALUES;
CREATE TRIGGER wrong_before BEFORE INSERT ON stranger FOR EACH STATEMENT EXECUTE FUNCTION telemetry.before_insert_samples();
INSERT INTO stranger DEFAULT VALUES;
SELECT telemetry.after_insert_sample();
DROP TABLE stranger;

ALTER TABLE telemetry.drone_telemetry DETACH PARTITION plain_partition;
ALTER TABLE telemetry.drone_telemetry DETACH PARTITION other_order;
DROP TABLE plain_partition, other_order, seen;
DROP FUNCTION note, adjust;
DELETE FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '13000000%';
SELECT telemetry.rebuild_latest(NULL) IS NOT NULL AS rebuilt;
SELECT count(*) FROM latest;
DROP VIEW stored, latest;
DROP FUNCTION drone, at;
DELETE FROM core.drones WHERE drone_id::text LIKE '13000000%';

-- An UPDATE obeys the accepted window too, but leaves alone what was there before it was narrowed.
BEGIN;
UPDATE sentient_edge.settings SET value = '2026-02-10 00:00:00+00' WHERE name = 'telemetry.accept_from';
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('0000000f-0000-4000-8000-00000000000f', 'window', 'quadcopter');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('0000000f-0000-4000-8000-00000000000f', '2026-02-12 00:00:00+00');
UPDATE sentient_edge.settings SET value = '2026-02-13 00:00:00+00' WHERE name = 'telemetry.accept_from';
UPDATE telemetry.drone_telemetry SET latitude = 1 WHERE drone_id = '0000000f-0000-4000-8000-00000000000f';
\set VERBOSITY terse
UPDATE telemetry.drone_telemetry SET recorded_at = '2026-02-11 00:00:00+00' WHERE drone_id = '0000000f-0000-4000-8000-00000000000f';
ROLLBACK;
\set VERBOSITY default
