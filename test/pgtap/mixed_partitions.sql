-- Calls whose samples go to an ordinary partition and to one that only the executor can write to: they count in order of time.
BEGIN;
SELECT plan(13);

-- at once, for the scheduler may have a lock and want another
LOCK TABLE telemetry.drone_telemetry IN ACCESS EXCLUSIVE MODE;
CREATE TABLE ordinary (LIKE telemetry.drone_telemetry INCLUDING ALL);
CREATE TABLE special (LIKE telemetry.drone_telemetry INCLUDING ALL);
ALTER TABLE telemetry.drone_telemetry ATTACH PARTITION ordinary FOR VALUES FROM ('2016-01-01 00:00:00+00') TO ('2016-02-01 00:00:00+00');
ALTER TABLE telemetry.drone_telemetry ATTACH PARTITION special FOR VALUES FROM ('2016-02-01 00:00:00+00') TO ('2016-03-01 00:00:00+00');
CREATE SEQUENCE asked;
CREATE FUNCTION of_the_users() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('asked');
	RETURN CASE WHEN NEW.latitude = 66 THEN NULL ELSE NEW END;
END $$;
CREATE TRIGGER of_the_users BEFORE INSERT ON special FOR EACH ROW EXECUTE FUNCTION of_the_users();

INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, drone_type) VALUES ('pgtap mixed', 'latitude', '>', 80, 'pgtap');
INSERT INTO core.drones (drone_id, call_sign, drone_type)
SELECT ('313ed000-0000-4000-8000-00000000000' || i)::uuid, 'pgtap-mixed-' || i, 'pgtap' FROM generate_series(1, 5) AS i;
-- hours before (ordinary) and after (special) the limit between the two
CREATE FUNCTION at(hour int) RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz '2016-02-01 00:00:00+00' + hour * interval '1 hour'$$;
CREATE FUNCTION sample(drone int, hour int, latitude float8) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('drone_id', '313ed000-0000-4000-8000-00000000000' || drone, 'timestamp', at(hour), 'latitude', latitude)
$$;
CREATE FUNCTION alerts(drone int) RETURNS TABLE (opened_at timestamptz, cleared_at timestamptz) LANGUAGE sql AS $$
	SELECT opened_at, cleared_at FROM telemetry.real_time_alerts WHERE drone_id = ('313ed000-0000-4000-8000-00000000000' || drone)::uuid ORDER BY opened_at
$$;
CREATE FUNCTION counts(drone int) RETURNS TABLE (received bigint, late bigint, duplicate bigint, newest timestamptz) LANGUAGE sql AS $$
	SELECT samples_received, samples_late, samples_duplicate, recorded_at FROM telemetry.drone_latest WHERE drone_id = ('313ed000-0000-4000-8000-00000000000' || drone)::uuid
$$;

-- the drone's first samples
SELECT telemetry.ingest(jsonb_build_array(sample(1, -3, 1), sample(1, -2, 85), sample(1, -1, 2), sample(1, 1, 3), sample(1, 2, 4)));
SELECT results_eq('SELECT * FROM alerts(1)', 'VALUES (at(-2), at(-1))', 'the older samples alert');
SELECT results_eq('SELECT * FROM counts(1)', 'VALUES (5::bigint, 0::bigint, 0::bigint, at(2))', 'all of them are counted once');

-- one of each: the alert opens in one partition and ends in the other
SELECT telemetry.ingest(jsonb_build_array(sample(2, -10, 1)));
SELECT telemetry.ingest(jsonb_build_array(sample(2, -1, 85), sample(2, 1, 2)));
SELECT results_eq('SELECT * FROM alerts(2)', 'VALUES (at(-1), at(1))', 'an alert of the older one ends with the newer one');
SELECT telemetry.ingest(jsonb_build_array(sample(2, -5, 85), sample(2, 2, 85), sample(2, 3, 1), sample(2, -1, 85), sample(2, 3, 1), sample(2, 3, 2)));
SELECT results_eq('SELECT * FROM alerts(2)', 'VALUES (at(-1), at(1)), (at(2), at(3))', 'late ones do not alert');
SELECT results_eq('SELECT * FROM counts(2)', 'VALUES (6::bigint, 1::bigint, 3::bigint, at(3))', 'they are counted as late, and duplicates as such');

-- a newer one ends what an older one, which comes to the triggers later, has begun
SELECT telemetry.ingest(jsonb_build_array(sample(5, -1, 85), sample(5, 1, 1), sample(5, 2, 85)));
SELECT results_eq('SELECT * FROM alerts(5)', 'VALUES (at(-1), at(1)), (at(2), NULL)', 'alerts come and go in order of time');

-- the newer ones are left out
SELECT setval('asked', 1, false);
SELECT results_eq('SELECT * FROM telemetry.ingest(jsonb_build_array(sample(3, -2, 85), sample(3, -1, 1), sample(3, 1, 66)))', 'VALUES (2, 0, 1)', 'a trigger leaves the newest out');
SELECT results_eq('SELECT * FROM alerts(3)', 'VALUES (at(-2), at(-1))', 'the others alert');
SELECT results_eq('SELECT * FROM counts(3)', 'VALUES (2::bigint, 0::bigint, 0::bigint, at(-1))', 'and make the latest state');
SELECT is(nextval('asked'), 2::bigint, 'the trigger was asked once');

-- other drones of the call, and more samples than are written at a time
CREATE FUNCTION latest_writes() RETURNS bigint LANGUAGE sql AS $$
	SELECT n_tup_ins + n_tup_upd FROM pg_stat_xact_user_tables WHERE relid = 'telemetry.drone_latest'::regclass
$$;
CREATE TEMP TABLE writes AS SELECT latest_writes() AS before;
SELECT telemetry.ingest((SELECT jsonb_agg(sample(drone, hour, CASE WHEN abs(hour) % 200 = 150 THEN 85 ELSE 1 END)) FROM generate_series(3, 4) AS drone, generate_series(-700, 600) AS hour WHERE hour <> 0 AND hour < drone * 1000 - 3100));
SELECT results_eq('SELECT count(*), min(opened_at), max(cleared_at) FROM alerts(4)', 'VALUES (6::bigint, at(-550), at(551))', 'each time that the limit was broken there was an alert');
SELECT results_eq('SELECT * FROM counts(4)', 'VALUES (1300::bigint, 0::bigint, 0::bigint, at(600))', 'a drone of both partitions');
SELECT results_eq('SELECT drone_writes.n FROM (SELECT latest_writes() - before AS n FROM writes) AS drone_writes', 'VALUES (2::bigint)', 'the latest states are written once each');

SELECT * FROM finish();
ROLLBACK;
