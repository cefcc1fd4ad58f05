--
-- telemetry.submit and submit_sample: what is stored, what is rejected, what is an error.
-- (Several sessions at a time: test/t/053_submit.pl.)
--
SET timezone = 'UTC';
SET client_min_messages = warning;
INSERT INTO core.drones (drone_id, call_sign, drone_type)
SELECT ('17000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'SUBMIT-' || i, 'quadcopter' FROM generate_series(1, 3) AS i;
CREATE VIEW refused AS
SELECT route, reason, sqlstate, payload FROM telemetry.rejected_samples WHERE route = 'submit' ORDER BY rejection_id;
CREATE VIEW stored AS
SELECT * FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '17000000%' ORDER BY drone_id, recorded_at;

-- one object, an array, the same again
SELECT * FROM telemetry.submit('{"droneId": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-01T10:00:00Z", "latitude": 47.5, "camera": "on"}');
SELECT * FROM telemetry.submit('[{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-01T10:00:00Z", "latitude": 1},
	{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-01T10:00:01Z", "latitude": 91},
	{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-01T10:00:02Z", "flightMode": "AUTO"},
	{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-01T10:00:02Z", "flightMode": "MANUAL"}]');
SELECT * FROM telemetry.submit('[]');
-- a transaction that only met duplicates, whose originals may be a moment old, has a commit that waits for them
BEGIN;
SELECT * FROM telemetry.ingest('{"droneId": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-01T10:00:00Z"}');
SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS has_commit;
COMMIT;
-- every column by typed arguments
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000002', '2026-09-01 10:00:00+00', -90, 180, -1000, 100000, 0, 1000, 0, -1000, 360, -180, 180, -150, -200, 255, 8, 'AUTO.LOITER', '{"a": 1}');
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000002', '2026-09-01 10:00:01+00');
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000002', '2026-09-01 10:00:01+00', latitude => 5);
\x on
SELECT to_jsonb(s) - 'received_at' - 'drone_id' AS row FROM stored s;
\x off
-- the latest state goes along
SELECT drone_id, recorded_at, flight_mode, extra FROM telemetry.drone_latest WHERE drone_id::text LIKE '17000000%' ORDER BY 1;

-- what is wrong is kept as it was sent
SELECT * FROM telemetry.submit_sample(NULL, '2026-09-01 10:00:00+00', 1);
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', NULL, 2);
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-01 11:00:00+00', 90.5, extra => '{"b": [1]}');
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-01 11:00:00+00', 'NaN', flight_mode => 'x');
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-01 11:00:00+00', gps_satellites => 256);
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-01 11:00:00+00', extra => '[1]');
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2000-01-01 00:00:00+00', 3);
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000404', '2026-09-01 11:00:00+00', 4, flight_mode => repeat('long ', 3));
SELECT * FROM telemetry.submit('["text", 5, {}]');
SELECT reason, sqlstate, payload FROM refused;
DELETE FROM telemetry.rejected_samples WHERE route = 'submit';

-- more in a call than others are made to wait for
CREATE FUNCTION many(n int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('drone_id', '17000000-0000-4000-8000-000000000003', 'timestamp', '2026-09-03T00:00:00Z'::timestamptz + i * interval '1 s', 'n', i))
	FROM generate_series(1, n) AS i
$$;
SELECT * FROM telemetry.submit(many(1001));
SELECT count(*) AS stored, (SELECT count(*) FROM refused) AS refused FROM stored WHERE recorded_at >= '2026-09-03';
SELECT * FROM telemetry.submit(many(1000));
SET sentient_edge.queue_call_samples = 1;
\set VERBOSITY sqlstate
SELECT * FROM telemetry.submit(many(2));
\set VERBOSITY default
SELECT * FROM telemetry.submit(many(1));
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000003', '2026-09-03 00:00:02+00');

-- larger than a slot, and larger than the pool
SET sentient_edge.queue_call_samples = 20000;
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000003', '2026-09-02 00:00:00+00', extra => jsonb_build_object('blob', repeat('x', 1000000)));
SELECT * FROM telemetry.submit(many(20000));
RESET sentient_edge.queue_call_samples;
SELECT length(extra->>'blob') FROM stored WHERE recorded_at = '2026-09-02 00:00:00+00';
SELECT count(*), sum((extra->>'n')::int) FROM stored WHERE recorded_at >= '2026-09-03';
\set VERBOSITY sqlstate
SELECT * FROM telemetry.submit(jsonb_build_object('blob', repeat('x', 17000000)));
\set VERBOSITY default
-- nothing of that stays in the pool
SELECT count(*), sum(accepted + duplicate) FROM generate_series(1, 40) AS i,
	LATERAL telemetry.submit_sample('17000000-0000-4000-8000-000000000003', '2026-09-04 00:00:00+00', extra => jsonb_build_object('blob', repeat('x', 1000000 + i)));

-- a month without a partition
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2016-02-03 00:00:00+00');
SELECT tableoid::regclass FROM telemetry.drone_telemetry WHERE recorded_at < '2017-01-01';

-- errors of the whole call
SELECT * FROM telemetry.submit(NULL);
SELECT * FROM telemetry.submit('5');
BEGIN READ ONLY;
SELECT * FROM telemetry.submit('[]');
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-01 12:00:00+00');
ROLLBACK;

-- it is none of the caller's transaction: a rollback takes nothing back
BEGIN;
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-05 00:00:00+00');
ROLLBACK;
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-05 00:00:00+00');
-- and a drone that the caller has not committed is unknown
BEGIN;
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('17000000-0000-4000-8000-000000000009', 'SUBMIT-9', 'vtol');
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000009', '2026-09-05 00:00:00+00');
ROLLBACK;
DELETE FROM telemetry.rejected_samples WHERE route = 'submit';

-- the writer waits for a lock of the caller's: found, not waited out
BEGIN;
LOCK TABLE telemetry.drone_telemetry IN SHARE MODE;
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-06 00:00:00+00');
ROLLBACK;
SELECT accepted + duplicate AS stored FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-06 00:00:00+00');
SELECT count(*) FROM stored WHERE recorded_at >= '2026-09-06';

-- triggers of the user's run in the writer, as the operator, to the end of its transaction
CREATE TABLE seen (who text, at text);
GRANT INSERT ON seen TO sentient_operator;
CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.latitude = 66 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'SB001'; END IF;
	IF NEW.latitude = 67 THEN PERFORM telemetry.submit('[]'); END IF;
	IF NEW.latitude = 68 THEN SET ROLE sentient_admin; END IF;
	INSERT INTO public.seen VALUES (current_user, TG_ARGV[0]);
	RETURN NULL;
END $$;
CREATE TRIGGER at_once AFTER INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION note_it('at once');
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON telemetry.drone_telemetry DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_it('at commit');
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-07 00:00:00+00');
SELECT who, at FROM seen ORDER BY at;
\set VERBOSITY sqlstate
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-07 00:00:01+00', 66);
\set VERBOSITY terse
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-07 00:00:02+00', 67);
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-07 00:00:03+00', 68);
\set VERBOSITY default
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-07 00:00:04+00');
-- an error leaves nothing behind in the process
DO $$BEGIN FOR i IN 1 .. 5 LOOP BEGIN
	PERFORM telemetry.ingest('{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-07T00:00:01Z", "latitude": 66}');
EXCEPTION WHEN SQLSTATE 'SB001' THEN NULL; END; END LOOP; END$$;
SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'CachedPlanSource' AND ident LIKE 'INSERT INTO telemetry.drone\_telemetry %';
DROP TRIGGER at_once ON telemetry.drone_telemetry;
DROP TRIGGER at_commit ON telemetry.drone_telemetry;
DROP FUNCTION note_it;
DROP TABLE seen;
SELECT recorded_at FROM stored WHERE recorded_at >= '2026-09-07';

-- what they do to the session is not for the samples of others, and does not make an answer a lie
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE NEW.latitude::int
		WHEN 1 THEN RAISE EXCEPTION '%', repeat(U&'\00FC', 300);
		WHEN 2 THEN PERFORM set_config('default_transaction_read_only', 'on', false);
		WHEN 3 THEN PERFORM pg_advisory_lock(1717);
		WHEN 4 THEN
			PERFORM set_config('synchronous_commit', 'off', true);
			NEW.extra := jsonb_build_object('at', pg_current_wal_insert_lsn());
		WHEN 5 THEN RETURN NULL;
		WHEN 6 THEN NEW.recorded_at := NEW.recorded_at - interval '1 hour';
		ELSE NULL;
	END CASE;
	RETURN NEW;
END $$;
CREATE TRIGGER meddle BEFORE INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION meddle();
-- a message that is too long is cut between two characters
DO $$BEGIN
	PERFORM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-08 00:00:01+00', 1);
EXCEPTION WHEN raise_exception THEN
	RAISE WARNING '% is cut to %', left(SQLERRM, 30), right(SQLERRM, 2);
	PERFORM convert_from(convert_to(SQLERRM, 'UTF8'), 'UTF8');
END$$;
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-08 00:00:02+00', 2);
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-08 00:00:03+00', 3);
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1717;
-- acknowledged is durable
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-08 00:00:04+00', 4);
SELECT pg_current_wal_flush_lsn() > (extra->>'at')::pg_lsn AS durable FROM stored WHERE recorded_at = '2026-09-08 00:00:04+00';
-- a sample that a trigger leaves out is no duplicate, and what repeats it neither
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-08 00:00:05+00', 5);
SELECT * FROM telemetry.ingest('[{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-08T00:00:05Z", "latitude": 5},
	{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-08T00:00:05Z", "latitude": 5.1},
	{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-08T00:00:04Z", "latitude": 6},
	{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-08T00:00:04Z", "latitude": 6},
	{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-08T00:00:07Z", "latitude": 7}]');
SELECT route, reason, sqlstate, payload->'latitude' AS latitude FROM telemetry.rejected_samples WHERE drone_id = '17000000-0000-4000-8000-000000000001' AND sqlstate = '09000' ORDER BY rejection_id;
SELECT * FROM telemetry.retry_rejected();
-- the latest is what was stored, not what was sent
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000001', '2026-09-08 00:30:00+00', 6);
SELECT recorded_at, latitude FROM telemetry.drone_latest WHERE drone_id = '17000000-0000-4000-8000-000000000001';
DROP TRIGGER meddle ON telemetry.drone_telemetry;
SELECT * FROM telemetry.retry_rejected();
DROP FUNCTION meddle;
DELETE FROM telemetry.rejected_samples WHERE drone_id = '17000000-0000-4000-8000-000000000001';

-- row-level security holds on every route
CREATE ROLE submit_tenant IN ROLE sentient_operator;
ALTER TABLE telemetry.drone_telemetry ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_all ON telemetry.drone_telemetry FOR SELECT USING (true);
CREATE POLICY own ON telemetry.drone_telemetry FOR INSERT TO submit_tenant WITH CHECK (drone_id = '17000000-0000-4000-8000-000000000002');
SET ROLE submit_tenant;
\set VERBOSITY terse
SELECT * FROM telemetry.ingest('{"drone_id": "17000000-0000-4000-8000-000000000001", "timestamp": "2026-09-09T00:00:00Z"}');
SELECT * FROM telemetry.ingest('{"drone_id": "17000000-0000-4000-8000-000000000002", "timestamp": "2026-09-09T00:00:00Z"}');
-- the writer is not the caller: it needs a policy for sentient_operator
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000002', '2026-09-09 00:00:01+00');
\set VERBOSITY default
RESET ROLE;
CREATE POLICY operators ON telemetry.drone_telemetry FOR INSERT TO sentient_operator WITH CHECK (true);
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000002', '2026-09-09 00:00:01+00');
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000002', '2026-09-09 00:00:01+00');
ALTER TABLE telemetry.drone_telemetry DISABLE ROW LEVEL SECURITY;
DROP POLICY read_all ON telemetry.drone_telemetry;
DROP POLICY own ON telemetry.drone_telemetry;
DROP POLICY operators ON telemetry.drone_telemetry;
DROP ROLE submit_tenant;

-- a rejected number keeps all its digits, whatever the session prints
SET extra_float_digits = -10;
SELECT * FROM telemetry.submit_sample('17000000-0000-4000-8000-000000000404', '2026-09-09 00:00:00+00', 12.345678901234567, 0.1::float8 + 0.2::float8, battery_percentage => 16.123456);
RESET extra_float_digits;
SELECT payload FROM refused;
DELETE FROM telemetry.rejected_samples WHERE route = 'submit';

-- figures
SELECT depth, writer_pid IS NOT NULL AS has_writer, writer_restarts >= 0 AS restarts, batches > 0 AS batches, requests >= batches AS requests, samples > 20000 AS samples,
	samples_per_batch > 1 AS per_batch, rejected > 10 AS rejected, failed >= 3 AS failed, wait_p50_ms > 0 AS p50, wait_p99_ms >= wait_p50_ms AS p99
FROM telemetry.queue_stats;

DROP VIEW refused, stored;
DROP FUNCTION many;
TRUNCATE telemetry.drone_telemetry;
DELETE FROM telemetry.drone_events WHERE drone_id::text LIKE '17000000%';
DELETE FROM telemetry.real_time_alerts WHERE drone_id::text LIKE '17000000%';
DELETE FROM core.drones WHERE drone_id::text LIKE '17000000%';
