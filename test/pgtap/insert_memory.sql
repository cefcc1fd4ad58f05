-- What storing samples leaves in a session's memory.
BEGIN;
SELECT plan(3);

INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('3e300000-0000-4000-8000-000000000001', 'pgtap-memory', 'pgtap');

-- errors that are caught, in one transaction
CREATE FUNCTION memory_of(contexts text) RETURNS bigint LANGUAGE sql AS $$
	SELECT coalesce(sum(used_bytes), 0)::bigint FROM pg_backend_memory_contexts WHERE name ~ contexts
$$;
CREATE FUNCTION insert_unknown(times int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	refused int := 0;
BEGIN
	FOR i IN 1 .. times LOOP
		BEGIN
			INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('3e300000-0000-4000-8000-000000000404', '2025-04-04 00:00+00');
		EXCEPTION WHEN foreign_key_violation THEN
			refused := refused + 1;
		END;
	END LOOP;
	RETURN refused;
END $$;
SELECT is(insert_unknown(20), 20, 'twenty samples are refused');
SELECT is(memory_of('^(inserted samples|newest sample|drone latest)$'), 0::bigint, 'and leave nothing');

-- what goes through the executor
CREATE TABLE seen (second int, bytes bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.latitude IN (1, 2) THEN
		INSERT INTO seen VALUES (NEW.latitude, memory_of('^ingest$'));
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION see();
SELECT telemetry.ingest_batch(array_agg('3e300000-0000-4000-8000-000000000001'::uuid), array_agg('2025-04-04 00:00+00'::timestamptz + i * interval '1 s'),
	latitude => array_agg(CASE i WHEN 10 THEN 1 WHEN 1010 THEN 2 END)) FROM generate_series(1, 1010) AS i;
SELECT cmp_ok((SELECT bytes FROM seen WHERE second = 2) - (SELECT bytes FROM seen WHERE second = 1), '<', 100000::bigint, 'a thousand samples more take no more room');

SELECT * FROM finish();
ROLLBACK;
