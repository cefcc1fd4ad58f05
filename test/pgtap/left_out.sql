-- Samples that a trigger of the user's leaves out, and what repeats them.
BEGIN;
SELECT plan(16);

INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES
	('1ef70000-0000-4000-8000-000000000001', 'pgtap-left-1', 'pgtap'), ('1ef70000-0000-4000-8000-000000000002', 'pgtap-left-2', 'pgtap');
CREATE SEQUENCE asked;
CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('asked');
	RETURN CASE WHEN NEW.latitude = 66 THEN NULL ELSE NEW END;
END $$;
CREATE TRIGGER leave_out BEFORE INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION leave_out();

CREATE FUNCTION sample(second int, latitude float8, drone int DEFAULT 1) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('drone_id', '1ef70000-0000-4000-8000-00000000000' || drone,
		'timestamp', timestamptz '2025-04-02 00:00:00+00' + second * interval '1 s', 'latitude', latitude)
$$;

-- a sample that the trigger leaves out is none that others repeat
SELECT results_eq($$SELECT * FROM telemetry.ingest(jsonb_build_array(sample(1, 66), sample(1, 5), sample(1, 6)))$$,
	'VALUES (1, 1, 1)', 'the next one of its time is stored, the one after is a duplicate');
SELECT results_eq($$SELECT latitude FROM telemetry.drone_telemetry WHERE drone_id = '1ef70000-0000-4000-8000-000000000001'$$, 'VALUES (5::float8)', 'the first that the trigger lets in');
SELECT results_eq($$SELECT (payload->>'latitude')::int, sqlstate FROM telemetry.rejected_samples WHERE drone_id = '1ef70000-0000-4000-8000-000000000001'$$,
	$$VALUES (66, '09000')$$, 'the one that it does not is kept');
SELECT results_eq($$SELECT * FROM telemetry.ingest(jsonb_build_array(sample(1, 66), sample(1, 5)))$$, 'VALUES (0, 2, 0)', 'all are duplicates of what is stored');

-- many of them: each is asked for once
SELECT setval('asked', 1, false);
SELECT results_eq($$SELECT * FROM telemetry.ingest((SELECT jsonb_agg(sample(i, v, 2) ORDER BY v DESC, i DESC)
	FROM generate_series(1, 10000) AS i, (VALUES (66), (5), (4)) AS latitudes (v) WHERE v > 5 OR i % 2 = 0))$$, 'VALUES (5000, 5000, 10000)',
	'of ten thousand that are left out, half are followed by two that are not');
SELECT is(nextval('asked'), 15001::bigint, 'the trigger is asked until it lets one in');
SELECT results_eq($$SELECT count(*), min(latitude), max(latitude) FROM telemetry.drone_telemetry WHERE drone_id = '1ef70000-0000-4000-8000-000000000002'$$,
	'VALUES (5000::bigint, 5::float8, 5::float8)', 'of the two the first sent is stored');
SELECT results_eq($$SELECT bool_and(next > recorded_at) FROM (SELECT recorded_at, lead(recorded_at) OVER (ORDER BY rejection_id) AS next
	FROM telemetry.rejected_samples WHERE drone_id = '1ef70000-0000-4000-8000-000000000002') AS r$$, 'VALUES (true)', 'what was left out is kept in order of time');
SELECT results_eq($$SELECT received, duplicate, rejected FROM telemetry.sample_counts WHERE drone_id = '1ef70000-0000-4000-8000-000000000002'$$,
	'VALUES (5000::bigint, 5000::bigint, 10000::bigint)', 'and all are counted');

-- what goes through the executor advances the drone once a call, and alerts like any other
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, drone_type) VALUES ('pgtap left out', 'latitude', '>', 80, 'pgtap');
CREATE FUNCTION latest_writes() RETURNS bigint LANGUAGE sql AS $$
	SELECT n_tup_ins + n_tup_upd FROM pg_stat_xact_user_tables WHERE relid = 'telemetry.drone_latest'::regclass
$$;
CREATE TEMP TABLE writes AS SELECT latest_writes() AS before;
SELECT results_eq($$SELECT * FROM telemetry.ingest((SELECT jsonb_agg(sample(20000 + i, CASE WHEN i % 100 < 50 THEN i % 100 ELSE 85 END)) FROM generate_series(0, 999) AS i))$$,
	'VALUES (1000, 0, 0)', 'a thousand are stored');
SELECT cmp_ok(latest_writes() - before, '<=', 2::bigint, 'the latest state is written once for all, not once for each') FROM writes;
SELECT results_eq($$SELECT recorded_at, samples_received FROM telemetry.drone_latest WHERE drone_id = '1ef70000-0000-4000-8000-000000000001'$$,
	$$VALUES (timestamptz '2025-04-02 00:00:00+00' + 20999 * interval '1 s', 1001::bigint)$$, 'it is the newest one''s');
SELECT results_eq($$SELECT count(*), count(cleared_at) FROM telemetry.real_time_alerts WHERE drone_id = '1ef70000-0000-4000-8000-000000000001'$$,
	'VALUES (10::bigint, 9::bigint)', 'each time that the limit was broken there was an alert');

-- a trigger that stores by itself, in a subtransaction, straight into a partition
CREATE FUNCTION store_as_well() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.latitude = 7 THEN
		BEGIN
			EXECUTE format('INSERT INTO %s (drone_id, recorded_at, latitude) VALUES ($1, $2, 8)', TG_RELID::regclass) USING NEW.drone_id, NEW.recorded_at + interval '1 ms';
			INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude) VALUES (NEW.drone_id, NEW.recorded_at + interval '2 ms', 8);
		END;
		BEGIN
			INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, latitude) VALUES (NEW.drone_id, NEW.recorded_at + interval '3 ms', 8);
			RAISE 'undone';
		EXCEPTION WHEN raise_exception THEN
			PERFORM telemetry.ingest(sample(40000, 1, 2));
		END;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER store_as_well AFTER INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION store_as_well();
SELECT telemetry.ingest(jsonb_build_array(sample(30000, 7), sample(30001, 9, 2)));
SELECT results_eq($$SELECT recorded_at, latitude, samples_received FROM telemetry.drone_latest WHERE drone_id::text LIKE '1ef70000%' ORDER BY drone_id$$,
	$$VALUES (timestamptz '2025-04-02 00:00:00.002+00' + 30000 * interval '1 s', 8::float8, 1004::bigint), ('2025-04-02 00:00:00+00'::timestamptz + 40000 * interval '1 s', 1, 5002)$$,
	'what a trigger stores counts as well');

-- an error of a trigger's comes at once, whatever it looks like
CREATE TABLE taken (id int PRIMARY KEY);
INSERT INTO taken VALUES (1);
CREATE FUNCTION take_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('asked');
	INSERT INTO taken VALUES (1);
	RETURN NEW;
END $$;
CREATE TRIGGER take_again BEFORE INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION take_again();
SELECT setval('asked', 1, false);
SELECT throws_ok($$SELECT telemetry.ingest(sample(50000, 1))$$, '23505', 'duplicate key value violates unique constraint "taken_pkey"',
	'what violates a primary key of the user''s is an error');
SELECT is(nextval('asked'), 3::bigint, 'which both triggers count once, and no reason to try again');

SELECT * FROM finish();
ROLLBACK;
