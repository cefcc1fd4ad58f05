-- telemetry.drone_telemetry as somebody has changed it: a sample is stored as it was sent, or not at all.
BEGIN;
SELECT plan(21);

-- at once, for the scheduler may have a lock and want another
LOCK TABLE telemetry.drone_telemetry IN ACCESS EXCLUSIVE MODE;
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('c4a96000-0000-4000-8000-000000000001', 'pgtap-changed', 'pgtap');
CREATE TYPE mode AS ENUM ('AUTO', 'MANUAL');
CREATE FUNCTION send(flight_mode text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT * FROM telemetry.ingest(jsonb_build_object('drone_id', 'c4a96000-0000-4000-8000-000000000001', 'timestamp', '2025-04-03T00:00:00Z', 'flight_mode', flight_mode))
$$;
CREATE FUNCTION stored() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM telemetry.drone_telemetry WHERE drone_id = 'c4a96000-0000-4000-8000-000000000001'
$$;

-- another type: by no route
CREATE FUNCTION change(what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	wrong text := '42804';
BEGIN
	BEGIN
		EXECUTE 'ALTER TABLE telemetry.' || what;
		RETURN NEXT throws_ok($q$SELECT send('AUTO')$q$, wrong, NULL, what || ': ingest');
		RETURN NEXT throws_ok($q$SELECT telemetry.ingest_batch('{c4a96000-0000-4000-8000-000000000001}', '{2025-04-03 00:00+00}', flight_mode => '{AUTO}')$q$, wrong, NULL, what || ': ingest_batch');
		RETURN NEXT throws_ok($q$INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, flight_mode) VALUES ('c4a96000-0000-4000-8000-000000000001', '2025-04-03 00:00+00', 'AUTO')$q$, wrong, NULL, what || ': INSERT');
		RETURN NEXT is(stored(), 0::bigint, what || ': nothing is stored');
		RAISE 'undo' USING ERRCODE = 'SE999';
	EXCEPTION WHEN SQLSTATE 'SE999' THEN
		NULL;
	END;
END $$;
SELECT change('drone_telemetry ALTER flight_mode TYPE mode USING NULL');
SELECT change('drone_telemetry ALTER flight_mode TYPE varchar(10)');
SELECT change('drone_telemetry ALTER extra TYPE json USING NULL');
SELECT change('drone_latest ALTER flight_mode TYPE mode USING NULL');
SELECT results_eq($$SELECT * FROM send('AUTO') AS s (accepted int, duplicate int, rejected int)$$, 'VALUES (1, 0, 0)', 'back in order it is stored');

-- a check of one's own in the place of the extension's
SAVEPOINT changed;
ALTER TABLE telemetry.drone_telemetry DROP CONSTRAINT sample_in_range;
ALTER TABLE telemetry.drone_telemetry ADD CONSTRAINT no_hover CHECK (flight_mode <> 'HOVER');
DELETE FROM telemetry.drone_telemetry;
SELECT throws_ok($$SELECT send('HOVER')$$, '23514', NULL, 'a check in the place of the extension''s is heeded');
SELECT results_eq($$SELECT * FROM send('AUTO') AS s (accepted int, duplicate int, rejected int)$$, 'VALUES (1, 0, 0)', 'what it allows is stored');
ROLLBACK TO changed;

-- a rule, which ON CONFLICT cannot be used with
CREATE RULE elsewhere AS ON INSERT TO telemetry.drone_telemetry DO ALSO NOTIFY elsewhere;
DELETE FROM telemetry.drone_telemetry;
SELECT throws_ok($$SELECT send('AUTO')$$, '0A000', NULL, 'a rule is not passed over');
SELECT is(stored(), 0::bigint, 'nothing is stored then');

SELECT * FROM finish();
ROLLBACK;
