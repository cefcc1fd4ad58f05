--
-- Who may send, retry and read samples; nobody gains by what the functions run as.
--
SET timezone = 'UTC';
SET client_min_messages = warning;
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('16000000-0000-4000-8000-000000000001', 'RIGHT-1', 'quadcopter');
CREATE ROLE regress_nobody;
CREATE ROLE regress_sender;
CREATE ROLE regress_operator IN ROLE sentient_operator;
GRANT CREATE ON SCHEMA public TO regress_operator;
CREATE VIEW routes AS SELECT * FROM (VALUES
	('ingest', $$SELECT telemetry.ingest(jsonb_build_object('drone_id', '16000000-0000-4000-8000-000000000001', 'timestamp', clock_timestamp()))$$),
	('ingest_batch', $$SELECT telemetry.ingest_batch(ARRAY['16000000-0000-4000-8000-000000000001']::uuid[], ARRAY[clock_timestamp()])$$),
	('ingest_mavlink', $$SELECT telemetry.ingest_mavlink('16000000-0000-4000-8000-000000000001', '')$$),
	('import_tlog', $$SELECT telemetry.import_tlog('16000000-0000-4000-8000-000000000001', '')$$),
	('submit', $$SELECT telemetry.submit('[]')$$),
	('submit_sample', $$SELECT telemetry.submit_sample('16000000-0000-4000-8000-000000000404', clock_timestamp())$$),
	('queue_stats', $$SELECT FROM telemetry.queue_stats$$),
	('queue_statistics', $$SELECT telemetry.queue_statistics()$$),
	('retry_rejected', $$SELECT telemetry.retry_rejected()$$),
	('INSERT', $$INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('16000000-0000-4000-8000-000000000001', clock_timestamp())$$),
	('UPDATE', $$UPDATE telemetry.drone_telemetry SET latitude = 1 WHERE drone_id = '16000000-0000-4000-8000-000000000001'$$),
	('DELETE', $$DELETE FROM telemetry.drone_telemetry WHERE drone_id = '16000000-0000-4000-8000-000000000001'$$),
	('rebuild_latest', $$SELECT telemetry.rebuild_latest('{}')$$),
	('drone_health', $$SELECT telemetry.drone_health('16000000-0000-4000-8000-000000000001')$$),
	('read samples', $$SELECT FROM telemetry.drone_telemetry LIMIT 1$$),
	('read latest', $$SELECT FROM telemetry.drone_latest LIMIT 1$$),
	('write latest', $$UPDATE telemetry.drone_latest SET latitude = 1$$),
	('read rejected', $$SELECT FROM telemetry.rejected_samples LIMIT 1$$),
	('write rejected', $$INSERT INTO telemetry.rejected_samples (route, reason, sqlstate, payload) VALUES ('x', 'x', '00000', '{}')$$),
	('after_insert_sample', $$SELECT telemetry.after_insert_sample()$$)) AS r (route, command);
CREATE FUNCTION outcome(role_name name, command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', role_name);
	EXECUTE command;
	RESET ROLE;
	RETURN 'allowed';
EXCEPTION WHEN OTHERS THEN
	RESET ROLE;
	RETURN SQLSTATE;
END $$;
SELECT route, outcome('regress_nobody', command) AS nobody, outcome('sentient_app', command) AS app, outcome('sentient_viewer', command) AS viewer,
	outcome('sentient_analyst', command) AS analyst, outcome('sentient_operator', command) AS operator, outcome('sentient_admin', command) AS admin
FROM routes ORDER BY route;
-- PUBLIC runs none of the module's functions
SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE pronamespace = 'telemetry'::regnamespace AND a.grantee = 0;
-- the functions that run as their owner say where they look
SELECT p.oid::regprocedure, proconfig FROM pg_proc p WHERE pronamespace = 'telemetry'::regnamespace AND prosecdef ORDER BY p.oid::regprocedure::text;

-- the right to call is all that a sender needs; nothing of the tables
GRANT USAGE ON SCHEMA telemetry TO regress_sender;
GRANT EXECUTE ON FUNCTION telemetry.ingest(jsonb), telemetry.submit(jsonb) TO regress_sender;
SET ROLE regress_sender;
SELECT * FROM telemetry.ingest('[{"drone_id": "16000000-0000-4000-8000-000000000001", "timestamp": "2026-05-01T00:00:00Z"}, {"drone_id": "16000000-0000-4000-8000-000000000001"}]');
SELECT * FROM telemetry.submit('[{"drone_id": "16000000-0000-4000-8000-000000000001", "timestamp": "2026-05-01T00:00:05Z"}, {"drone_id": "16000000-0000-4000-8000-000000000001"}]');
SELECT * FROM telemetry.drone_telemetry;
RESET ROLE;
DELETE FROM telemetry.rejected_samples WHERE drone_id = '16000000-0000-4000-8000-000000000001';

-- an operator plants objects of his own where a careless function would look
SET ROLE regress_operator;
CREATE TEMP TABLE drone_telemetry (drone_id uuid, recorded_at timestamptz);
CREATE TEMP TABLE drone_latest (drone_id uuid, recorded_at timestamptz);
CREATE TEMP TABLE rejected_samples (rejection_id bigint, payload jsonb, resolved_at timestamptz, retry_count int);
CREATE TEMP TABLE drones (drone_id uuid);
CREATE TEMP TABLE old_samples (drone_id uuid);
CREATE TEMP TABLE new_samples (drone_id uuid);
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
CREATE FUNCTION pg_temp.unnest(uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
CREATE FUNCTION public.trap(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
CREATE FUNCTION public.trap(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
CREATE FUNCTION public.trap(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.trap);
CREATE OPERATOR public.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.trap);
CREATE OPERATOR public.<> (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.trap);
CREATE OPERATOR public.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = public.trap);
CREATE FUNCTION public.max(timestamptz) RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
CREATE FUNCTION public.unnest(uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
SET search_path = pg_temp, public, pg_catalog;
SELECT * FROM telemetry.ingest('[{"drone_id": "16000000-0000-4000-8000-000000000001", "timestamp": "2026-05-01T00:00:01Z"},
	{"drone_id": "16000000-0000-4000-8000-000000000001", "timestamp": "2026-05-01T00:00:02Z", "latitude": 91}, {"drone_id": "16000000-0000-4000-8000-000000000002", "timestamp": "2026-05-01T00:00:02Z"}]');
SELECT * FROM telemetry.submit('{"drone_id": "16000000-0000-4000-8000-000000000001", "timestamp": "2026-05-01T00:00:04Z"}');
SELECT * FROM telemetry.retry_rejected();
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('16000000-0000-4000-8000-000000000001', '2026-05-01 00:00:03+00');
SELECT status FROM telemetry.drone_health('16000000-0000-4000-8000-000000000001');
RESET ROLE;
UPDATE telemetry.drone_telemetry SET latitude = 1 WHERE drone_id OPERATOR(pg_catalog.=) '16000000-0000-4000-8000-000000000001'
	AND recorded_at OPERATOR(pg_catalog.=) '2026-05-01 00:00:03+00';
SELECT telemetry.rebuild_latest(ARRAY['16000000-0000-4000-8000-000000000001']::uuid[]);
SELECT (SELECT count(*) FROM pg_temp.drone_telemetry) AS t, (SELECT count(*) FROM pg_temp.drone_latest) AS l, (SELECT count(*) FROM pg_temp.rejected_samples) AS r;
DELETE FROM telemetry.drone_telemetry WHERE drone_id OPERATOR(pg_catalog.=) '16000000-0000-4000-8000-000000000001';
SELECT pg_catalog.count(*) FROM telemetry.drone_latest WHERE drone_id OPERATOR(pg_catalog.=) '16000000-0000-4000-8000-000000000001';
RESET search_path;
-- the settings of the caller are his again
SHOW search_path;
SELECT current_user = session_user AS myself;

DISCARD TEMP;
DROP VIEW routes;
DROP FUNCTION outcome;
DELETE FROM telemetry.rejected_samples WHERE drone_id::text LIKE '16000000%';
DELETE FROM telemetry.drone_telemetry WHERE drone_id::text LIKE '16000000%';
DROP OWNED BY regress_operator, regress_sender;
DROP ROLE regress_operator, regress_sender, regress_nobody;
DELETE FROM core.drones WHERE drone_id::text LIKE '16000000%';
