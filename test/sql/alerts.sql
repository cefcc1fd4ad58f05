--
-- Alerts: rules, geofences, hold times, hysteresis, late data, every route.
--
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SELECT name, metric, comparison, threshold, clear_threshold, hold_for, severity, enabled, is_builtin
  FROM telemetry.alert_rules WHERE is_builtin ORDER BY rule_id;

INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES
	('a1e70000-0000-4000-8000-000000000001', 'ALERT-1', 'alert-quad'),
	('a1e70000-0000-4000-8000-000000000002', 'ALERT-2', 'alert-wing'),
	('a1e70000-0000-4000-8000-000000000003', 'ALERT-3', 'alert-quad');
\set d1 'a1e70000-0000-4000-8000-000000000001'
\set d2 'a1e70000-0000-4000-8000-000000000002'
\set d3 'a1e70000-0000-4000-8000-000000000003'

CREATE VIEW alerts AS
SELECT d.call_sign, coalesce(r.name, f.name) AS name, a.alert_type AS type, a.severity, a.message,
	   to_char(a.opened_at, 'HH24:MI:SS') AS opened, a.opened_value AS first, a.last_value AS last,
	   to_char(a.last_seen_at, 'HH24:MI:SS') AS seen, to_char(a.cleared_at, 'HH24:MI:SS') AS cleared
  FROM telemetry.real_time_alerts a JOIN core.drones d USING (drone_id)
  LEFT JOIN telemetry.alert_rules r USING (rule_id) LEFT JOIN telemetry.geofences f USING (fence_id)
 WHERE d.call_sign LIKE 'ALERT-_' ORDER BY a.opened_at, d.call_sign, name, a.cleared_at;
CREATE VIEW states AS
SELECT d.call_sign, coalesce(r.name, f.name) AS name, to_char(s.since, 'HH24:MI:SS') AS since, s.alert_id IS NOT NULL AS open,
	   l.alert_states
  FROM telemetry.alert_states s JOIN core.drones d USING (drone_id) LEFT JOIN telemetry.drone_latest l USING (drone_id)
  LEFT JOIN telemetry.alert_rules r ON r.rule_id = s.watch_id LEFT JOIN telemetry.geofences f ON f.fence_id = s.watch_id
 WHERE d.call_sign LIKE 'ALERT-_' ORDER BY 1, 2;

-- one metric of one drone: 'HH:MI:SS=value' each
CREATE FUNCTION send(drone uuid, metric text, VARIADIC samples text[]) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s/%s/%s', i.accepted, i.duplicate, i.rejected) FROM telemetry.ingest((
		SELECT jsonb_agg(jsonb_build_object('drone_id', drone, 'timestamp', '2025-03-01T' || split_part(s, '=', 1) || 'Z',
			metric, split_part(s, '=', 2)::numeric)) FROM unnest(samples) s)) i
$$;

-- the rules that come with the extension: each opens at its own limit
SELECT send(:'d1', 'battery_percentage', '10:00:00=50', '10:00:01=15', '10:00:02=14.5', '10:00:03=6');
SELECT * FROM alerts;
SELECT * FROM states;
-- below the limit still: the alert follows; between threshold and clear_threshold: it stays
SELECT send(:'d1', 'battery_percentage', '10:00:04=4.5', '10:00:05=5.5');
SELECT send(:'d1', 'battery_percentage', '10:00:06=15.5');
SELECT * FROM alerts;
SELECT * FROM states;
-- and clears beyond it
SELECT send(:'d1', 'battery_percentage', '10:00:07=16');
SELECT name, last, seen, cleared FROM alerts;
SELECT * FROM states;
SELECT alert_states FROM telemetry.drone_latest WHERE drone_id = :'d1';
SELECT occurred_at, event_type, severity, message, source FROM telemetry.drone_events WHERE drone_id = :'d1'
 ORDER BY occurred_at, event_type DESC, message;

-- late data neither reopens nor clears
SELECT send(:'d1', 'battery_percentage', '09:59:00=3', '10:00:00.5=3');
SELECT count(*) FROM alerts;
SELECT send(:'d1', 'battery_percentage', '10:01:00=10');
SELECT send(:'d1', 'battery_percentage', '10:00:30=90');
SELECT name, opened, last, cleared FROM alerts WHERE opened = '10:01:00';
-- samples of a call are taken in order of time, and duplicates say nothing
SELECT send(:'d1', 'battery_percentage', '10:01:03=12', '10:01:01=90', '10:01:02=13', '10:01:00=90');
SELECT name, opened, first, last, seen, cleared FROM alerts WHERE opened >= '10:01:00';
SELECT send(:'d1', 'battery_percentage', '10:01:04=90');

-- hold_for goes by the samples' own times
INSERT INTO telemetry.alert_rules (rule_id, name, metric, comparison, threshold, clear_threshold, hold_for, severity, drone_type)
VALUES ('a1e70000-0000-4000-8000-00000000000a', 'too fast', 'ground_speed_ms', '>', 20, 18, '3 s', 'error', 'alert-quad');
SELECT send(:'d1', 'ground_speed_ms', '11:00:00=25', '11:00:01=25');
SELECT * FROM states;
SELECT send(:'d1', 'ground_speed_ms', '11:00:02=19');	-- not above the limit: the clock starts again
SELECT * FROM states;
SELECT send(:'d1', 'ground_speed_ms', '11:00:03=21');
SELECT send(:'d1', 'battery_percentage', '11:00:04=80');	-- says nothing of the speed
SELECT send(:'d1', 'ground_speed_ms', '11:00:05=22', '11:00:06=23', '11:00:07=24');
SELECT name, message, opened, first, last, seen, cleared FROM alerts WHERE name = 'too fast';
-- not of that type
SELECT send(:'d2', 'ground_speed_ms', '11:00:00=25', '11:00:10=25');
SELECT count(*) FROM alerts WHERE call_sign = 'ALERT-2';
-- until its type changes
UPDATE core.drones SET drone_type = 'alert-quad' WHERE drone_id = :'d2';
SELECT send(:'d2', 'ground_speed_ms', '11:00:11=25', '11:00:14=25');
SELECT call_sign, name, opened FROM alerts WHERE call_sign = 'ALERT-2';
BEGIN;	-- so that the scheduler does not clear it before the sample comes
UPDATE core.drones SET drone_type = 'alert-wing' WHERE drone_id = :'d2';
SELECT send(:'d2', 'ground_speed_ms', '11:00:15=25');
COMMIT;
SELECT call_sign, name, opened, cleared FROM alerts WHERE call_sign = 'ALERT-2';
-- a rule that is disabled, or gone, clears with the next sample
BEGIN;
UPDATE telemetry.alert_rules SET enabled = false WHERE name = 'too fast';
SELECT send(:'d1', 'ground_speed_ms', '11:00:08=99');
COMMIT;
SELECT call_sign, name, opened, cleared FROM alerts WHERE name = 'too fast' AND call_sign = 'ALERT-1';
UPDATE telemetry.alert_rules SET enabled = true, hold_for = '0', drone_type = NULL, drone_id = :'d2' WHERE name = 'too fast';
SELECT send(:'d1', 'ground_speed_ms', '11:00:09=99'), send(:'d2', 'ground_speed_ms', '11:00:16=99');
BEGIN;
DELETE FROM telemetry.alert_rules WHERE name = 'too fast';
SELECT send(:'d2', 'ground_speed_ms', '11:00:17=99');
COMMIT;
SELECT call_sign, name, message, opened, cleared FROM alerts WHERE opened = '11:00:16';
SELECT * FROM states;

-- plain INSERT and COPY; rows of a statement in any order
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, battery_percentage) VALUES (:'d1', '2025-03-01 12:00:00+00', 14);
SELECT name, opened, last, cleared FROM alerts WHERE opened >= '12:00:00';
COPY telemetry.drone_telemetry (recorded_at, drone_id, battery_percentage) FROM STDIN (FORMAT csv);
2025-03-01 12:00:03+00,a1e70000-0000-4000-8000-000000000001,6
2025-03-01 12:00:02+00,a1e70000-0000-4000-8000-000000000001,70
2025-03-01 12:00:01+00,a1e70000-0000-4000-8000-000000000001,12
2025-03-01 11:59:59+00,a1e70000-0000-4000-8000-000000000001,1
2025-03-01 12:00:01+00,a1e70000-0000-4000-8000-000000000003,80
2025-03-01 12:00:02+00,a1e70000-0000-4000-8000-000000000003,
\.
SELECT call_sign, name, opened, first, last, seen, cleared FROM alerts WHERE opened >= '12:00:00';
SELECT send(:'d1', 'battery_percentage', '12:00:04=90');
-- a late comer of the statement that breaks a limit, behind one that keeps it
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, battery_percentage) VALUES
	(:'d1', '2025-03-01 12:01:05+00', 90), (:'d1', '2025-03-01 12:01:01+00', 12), (:'d1', '2025-03-01 12:01:06+00', 91);
SELECT name, opened, first, last, seen, cleared FROM alerts WHERE opened >= '12:01:00';
-- a drone with an open alert, rows in disorder
SELECT send(:'d1', 'battery_percentage', '12:02:00=13');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, battery_percentage) VALUES
	(:'d1', '2025-03-01 12:02:03+00', 90), (:'d1', '2025-03-01 12:02:01+00', 12), (:'d1', '2025-03-01 12:02:02+00', 15.5);
SELECT name, opened, first, last, seen, cleared FROM alerts WHERE opened >= '12:02:00';
-- values that flap: the first ten of a statement, and an event that tells of the rest
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, battery_percentage)
SELECT :'d1', '2025-03-01 12:03:00+00'::timestamptz + i * interval '1 s', CASE WHEN i % 2 = 0 THEN 14 ELSE 20 END FROM generate_series(0, 40) i;
SELECT count(*), min(opened), max(opened), max(cleared), count(*) FILTER (WHERE cleared IS NULL) AS open FROM alerts WHERE opened >= '12:03:00';
SELECT event_type, count(*) FROM telemetry.drone_events WHERE drone_id = :'d1' AND occurred_at >= '2025-03-01 12:03:00+00' GROUP BY 1 ORDER BY 1;
SELECT occurred_at, severity, message, payload FROM telemetry.drone_events WHERE drone_id = :'d1' AND event_type = 'alert_flapping';
SELECT send(:'d1', 'battery_percentage', '12:04:00=90');
-- what is rolled back has not been
BEGIN;
SAVEPOINT s;
SELECT send(:'d1', 'battery_percentage', '12:10:00=3');
SELECT count(*) FROM alerts WHERE opened >= '12:10:00';
ROLLBACK TO s;
SELECT count(*) FROM alerts WHERE opened >= '12:10:00';
SELECT send(:'d1', 'battery_percentage', '12:10:00=70');
COMMIT;
SELECT * FROM states;

-- = and <>, whole numbers and reals
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, drone_id, severity) VALUES
	('no fix', 'gps_fix', '<=', 1, :'d3', 'error'), ('RTK lost', 'gps_fix', '<>', 6, :'d3', 'notice'),
	('a tenth', 'battery_voltage_v', '=', 0.1, :'d3', 'notice');
SELECT send(:'d3', 'gps_fix', '13:00:00=6', '13:00:01=5', '13:00:02=1', '13:00:03=6');
SELECT send(:'d3', 'battery_voltage_v', '13:00:04=0.1', '13:00:05=0.2');
SELECT name, message, opened, first, last, seen, cleared FROM alerts WHERE opened BETWEEN '13:00:00' AND '13:01:00';

-- geofences
INSERT INTO telemetry.geofences (name, kind, boundary, floor_m, ceiling_m, valid_from, valid_until, drone_id, severity) VALUES
	('field', 'inclusion', '((8,47),(9,47),(9,48),(8,48))', NULL, 600, NULL, NULL, :'d3', 'error'),
	('tower', 'exclusion', '((8.4,47.4),(8.6,47.4),(8.5,47.6))', 100, 500, '2025-03-01 14:00:00+00', '2025-03-01 14:10:00+00', :'d3', 'critical');
CREATE FUNCTION fly(drone uuid, at time, latitude float8, longitude float8, altitude real) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s/%s/%s', i.accepted, i.duplicate, i.rejected) FROM telemetry.ingest(jsonb_strip_nulls(jsonb_build_object('drone_id', drone,
		'timestamp', '2025-03-01T' || at || 'Z', 'latitude', latitude, 'longitude', longitude, 'altitude_m', altitude))) i
$$;
SELECT fly(:'d3', '13:59:00', 47.45, 8.5, 300);	-- the tower's fence is not in force yet
SELECT fly(:'d3', '14:00:00', 47.45, 8.5, 50);	-- below it
SELECT fly(:'d3', '14:00:01', 47.45, 8.5, NULL);	-- nobody knows
SELECT fly(:'d3', '14:00:02', 47.55, 8.42, 300);	-- beside the triangle, in its box
SELECT count(*) FROM alerts WHERE type = 'geofence';
SELECT fly(:'d3', '14:00:03', 47.45, 8.5, 300);	-- in it
SELECT fly(:'d3', '14:00:04', 47.45, 8.5, NULL);
SELECT fly(:'d3', '14:00:05', 47.45, 8.5, 700);	-- above both
SELECT fly(:'d3', '14:00:06', 47.5, 9.5, NULL);	-- out of the field at any altitude
SELECT fly(:'d3', '14:00:07', 47.45, 8.5, 300);
SELECT fly(:'d3', '14:10:00', 47.45, 8.5, 300);	-- no longer in force
SELECT name, severity, message, opened, first, seen, cleared FROM alerts WHERE type = 'geofence';
SELECT * FROM states;
DELETE FROM telemetry.geofences WHERE drone_id = :'d3';
-- across the antimeridian: longitudes go on beyond 180
INSERT INTO telemetry.geofences (name, kind, boundary, drone_id) VALUES
	('date line', 'exclusion', '((170,-20),(190,-20),(190,-10),(170,-10))', :'d3');
SELECT fly(:'d3', '15:00:00', -15, 169, 0), fly(:'d3', '15:00:01', -15, 175, 0), fly(:'d3', '15:00:02', -15, 180, 0),
	   fly(:'d3', '15:00:03', -15, -175, 0), fly(:'d3', '15:00:04', -15, -169, 0), fly(:'d3', '15:00:05', -15, 0, 0);
SELECT name, opened, seen, cleared FROM alerts WHERE name = 'date line';
DELETE FROM telemetry.geofences WHERE drone_id = :'d3';
SELECT fly(:'d3', '15:00:06', -15, 175, 0);

-- deleted samples and latest states leave the alerts in order
SELECT send(:'d3', 'battery_percentage', '16:00:00=10');
DELETE FROM telemetry.drone_telemetry WHERE drone_id = :'d3';
SELECT count(*) FROM telemetry.drone_latest WHERE drone_id = :'d3';
SELECT send(:'d3', 'battery_percentage', '15:30:00=10', '15:30:01=11');
SELECT name, opened, last, seen, cleared FROM alerts WHERE opened >= '15:30:00';
SELECT * FROM states;
SELECT send(:'d3', 'battery_percentage', '15:30:02=90');
SELECT name, opened, last, seen, cleared FROM alerts WHERE opened >= '15:30:00';

-- acknowledgement
SELECT send(:'d2', 'battery_percentage', '17:00:00=10');
SELECT alert_id AS alert FROM telemetry.real_time_alerts WHERE drone_id = :'d2' AND cleared_at IS NULL \gset
SET ROLE sentient_operator;
SELECT telemetry.acknowledge_alert(:'alert', 'a1e70000-0000-4000-8000-0000000000ff');
SELECT telemetry.acknowledge_alert(:'alert');
RESET ROLE;
SELECT acknowledged_at IS NOT NULL AS acknowledged, acknowledged_by, cleared_at FROM telemetry.real_time_alerts WHERE alert_id = :'alert';
SELECT event_type, message, payload - 'alert_id' - 'db_role' AS payload FROM telemetry.drone_events
 WHERE drone_id = :'d2' AND event_type = 'alert_acknowledged';
\set SHOW_CONTEXT never
SELECT telemetry.acknowledge_alert('a1e70000-0000-4000-8000-0000000000ff');

-- link loss: of a drone that sent live; within one transaction, where the scheduler does not see it
BEGIN;
UPDATE core.drones SET status = 'standby' WHERE drone_id = :'d3';
UPDATE core.drones SET status = 'active' WHERE drone_id = :'d3';
UPDATE core.drones SET status = 'standby' WHERE drone_id = :'d2';
SELECT accepted FROM telemetry.ingest(jsonb_build_array(
	jsonb_build_object('drone_id', :'d1', 'timestamp', now() - interval '11 s', 'altitude_m', 1),
	jsonb_build_object('drone_id', :'d2', 'timestamp', now() - interval '1 min', 'altitude_m', 1),
	jsonb_build_object('drone_id', :'d3', 'timestamp', now() + interval '4 min', 'altitude_m', 1)));
SELECT telemetry.check_link_loss() >= 1 AS opened;
SELECT telemetry.check_link_loss() AS opened_again;
SELECT call_sign, name, severity, message, first BETWEEN 10 AND 600 AS silent, cleared FROM alerts WHERE type = 'link_loss';
SELECT call_sign, name, open, alert_states FROM states WHERE name = 'link loss';
-- what the drone had buffered does not bring the link back, a live sample does
SELECT accepted FROM telemetry.ingest(jsonb_build_object('drone_id', :'d1', 'timestamp', now() - interval '10.9 s', 'altitude_m', 1));
SELECT cleared IS NOT NULL AS cleared FROM alerts WHERE type = 'link_loss';
SELECT accepted FROM telemetry.ingest(jsonb_build_object('drone_id', :'d1', 'timestamp', now() + interval '3 min', 'altitude_m', 1));
SELECT cleared IS NOT NULL AS cleared FROM alerts WHERE type = 'link_loss';
SELECT telemetry.check_link_loss() AS opened_again;
ROLLBACK;
BEGIN READ ONLY;
SELECT telemetry.check_link_loss();
ROLLBACK;

-- rules and geofences that are gone, of drones that are silent
BEGIN;
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, hold_for, drone_type) VALUES
	('disabled', 'ground_speed_ms', '>', 20, '0', NULL), ('other type', 'ground_speed_ms', '>', 21, '0', 'alert-quad'),
	('deleted', 'ground_speed_ms', '>', 22, '0', NULL), ('held', 'ground_speed_ms', '>', 23, '1 hour', NULL),
	('kept', 'ground_speed_ms', '>', 24, '0', NULL);
INSERT INTO telemetry.geofences (name, kind, boundary, drone_id) VALUES ('no more', 'exclusion', '((8,47),(9,47),(9,48))', :'d1');
SELECT send(:'d1', 'ground_speed_ms', '18:30:00=30'), fly(:'d1', '18:30:01', 47.2, 8.9, NULL);
SELECT telemetry.check_link_loss() AS opened;
SELECT name, open, alert_states FROM states WHERE call_sign = 'ALERT-1';
UPDATE telemetry.alert_rules SET enabled = false WHERE name = 'disabled';
UPDATE core.drones SET drone_type = 'alert-wing' WHERE drone_id = :'d1';
DELETE FROM telemetry.alert_rules WHERE name IN ('deleted', 'held');
DELETE FROM telemetry.geofences WHERE name = 'no more';
SELECT telemetry.check_link_loss() AS opened;
SELECT message, cleared_at >= now() AS cleared FROM telemetry.real_time_alerts WHERE drone_id = :'d1' AND opened_at >= '2025-03-01 18:30:00+00' ORDER BY message;
SELECT message, event_type, severity FROM telemetry.drone_events WHERE drone_id = :'d1' AND occurred_at >= '2025-03-01 18:30:00+00' ORDER BY message, event_type DESC;
SELECT name, open, alert_states FROM states WHERE call_sign = 'ALERT-1';
ROLLBACK;

-- with a trigger of the user's, rows are written by SQL: the same rows
BEGIN;
CREATE VIEW written AS
SELECT (SELECT jsonb_agg(to_jsonb(a) - 'alert_id' ORDER BY opened_at, severity) FROM telemetry.real_time_alerts a WHERE drone_id = 'a1e70000-0000-4000-8000-000000000001') AS alerts,
	   (SELECT jsonb_agg(to_jsonb(e) - 'event_id' - 'payload' ORDER BY occurred_at, event_type, severity, message) FROM telemetry.drone_events e WHERE drone_id = 'a1e70000-0000-4000-8000-000000000001') AS events,
	   (SELECT jsonb_agg(to_jsonb(s) - 'alert_id' ORDER BY watch_id) FROM telemetry.alert_states s WHERE drone_id = 'a1e70000-0000-4000-8000-000000000001') AS states,
	   (SELECT count(*) FROM telemetry.drone_events e JOIN telemetry.real_time_alerts a ON a.alert_id::text = e.payload->>'alert_id' WHERE e.source = 'alert' AND a.drone_id = e.drone_id) AS told;
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, hold_for) VALUES ('held', 'battery_percentage', '<', 50, '2 s');
INSERT INTO telemetry.drone_events (drone_id, occurred_at, event_type, message) VALUES (:'d1', '2025-03-01 19:00:00+00', 'alert_opened', 'battery low: battery_percentage 14 < 15');
SAVEPOINT s;
SELECT send(:'d1', 'battery_percentage', '19:00:00=14', '19:00:01=6', '19:00:02=90', '19:00:03=3'), send(:'d1', 'battery_percentage', '19:00:04=6.5'),
	send(:'d1', 'battery_percentage', '19:00:05=7.5', '19:00:06=4'), send(:'d1', 'battery_percentage', '19:00:07=49', '19:00:08=90', '19:00:09=49');
SELECT * FROM written \gset
ROLLBACK TO s;
CREATE TABLE public.fired (n integer);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.fired VALUES (1); RETURN NULL; END';
CREATE TRIGGER fire AFTER INSERT OR UPDATE ON telemetry.real_time_alerts FOR EACH ROW EXECUTE FUNCTION fire();
SELECT send(:'d1', 'battery_percentage', '19:00:00=14', '19:00:01=6', '19:00:02=90', '19:00:03=3'), send(:'d1', 'battery_percentage', '19:00:04=6.5'),
	send(:'d1', 'battery_percentage', '19:00:05=7.5', '19:00:06=4'), send(:'d1', 'battery_percentage', '19:00:07=49', '19:00:08=90', '19:00:09=49');
SELECT jsonb_array_length(alerts) AS alerts, alerts = :'alerts' AS same, jsonb_array_length(events) AS events, events = :'events' AS same,
	   jsonb_array_length(states) AS states, states = :'states' AS same, told = :told AS same FROM written;
SELECT count(*) FROM public.fired;
ROLLBACK;

-- rules and geofences that make no sense
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold) VALUES ('x', 'flight_mode', '<', 1);
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold) VALUES ('x', 'battery_percentage', '<', 'NaN');
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, clear_threshold) VALUES ('x', 'battery_percentage', '<', 10, 9);
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, clear_threshold) VALUES ('x', 'ground_speed_ms', '>=', 10, 11);
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, clear_threshold) VALUES ('x', 'gps_fix', '=', 1, 2);
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, hold_for) VALUES ('x', 'gps_fix', '=', 1, '1 month');
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, hold_for) VALUES ('x', 'link_silence_s', '>', 20, '1 s');
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold) VALUES ('x', 'link_silence_s', '>', 0);
\set VERBOSITY terse
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold) VALUES ('x', 'battery_percentage', '~', 0);
\set VERBOSITY default
INSERT INTO telemetry.geofences (name, kind, boundary) VALUES ('x', 'exclusion', '((47,91),(48,8),(47,9))');
INSERT INTO telemetry.geofences (name, kind, boundary) VALUES ('x', 'exclusion', '((-200,1),(200,8),(47,9))');
INSERT INTO telemetry.geofences (name, kind, boundary) VALUES ('x', 'exclusion', '((1,1),(2,2))');
-- the rules that came with the extension stay
DELETE FROM telemetry.alert_rules WHERE name = 'battery low';
UPDATE telemetry.alert_rules SET rule_id = gen_random_uuid() WHERE name = 'battery low';
BEGIN;
INSERT INTO telemetry.alert_rules (rule_id, name, metric, comparison, threshold, severity, enabled, is_builtin)
VALUES ('5e000000-0000-4000-8000-000000000001', 'battery getting low', 'battery_percentage', '<', 20, 'notice', false, true);
SELECT name, threshold, severity, enabled, is_builtin FROM telemetry.alert_rules WHERE is_builtin ORDER BY rule_id;
ROLLBACK;

-- what each drone sent
SELECT telemetry.ingest('[{"drone_id": "a1e70000-0000-4000-8000-000000000003", "timestamp": "1999-01-01T00:00:00Z"},
	{"drone_id": "a1e70000-0000-4000-8000-000000000003", "timestamp": "2025-03-01T18:00:00Z", "latitude": 91},
	{"drone_id": "a1e70000-0000-4000-8000-0000000000ff", "timestamp": "2025-03-01T18:00:00Z"}]');
SELECT d.call_sign, c.received, c.late, c.duplicate, c.rejected FROM telemetry.sample_counts c JOIN core.drones d USING (drone_id)
 WHERE d.call_sign LIKE 'ALERT-_' ORDER BY 1;
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at)
SELECT :'d3', '2025-03-01 18:00:00+00'::timestamptz + i * interval '1 s' FROM generate_series(0, 20) i WHERE i NOT IN (5, 8, 9, 10, 20);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES (:'d3', '2025-03-01 18:00:08+00'), (:'d3', '2025-03-01 18:00:20+00');
SELECT received, late FROM telemetry.sample_counts WHERE drone_id = :'d3';

-- holes
SELECT * FROM telemetry.gaps(:'d3', '2025-03-01 18:00:00+00', '2025-03-01 18:00:20+00', '1 s');
SELECT * FROM telemetry.gaps(:'d3', '2025-03-01 17:59:50+00', '2025-03-01 18:00:30+00', '2 s');
SELECT * FROM telemetry.gaps(:'d3', '2025-03-01 20:00:00+00', '2025-03-01 20:01:00+00', '10 s');
SELECT * FROM telemetry.gaps(:'d3', '2025-03-01 18:00:11+00', '2025-03-01 18:00:12+00', '1 s');
SELECT * FROM telemetry.gaps(:'d3', '2025-03-01', '2025-02-01', '1 s');
SELECT * FROM telemetry.gaps(:'d3', '2025-03-01', 'infinity', '1 s');
SELECT * FROM telemetry.gaps(:'d3', '2025-03-01', '2025-03-02', '0');
SELECT * FROM telemetry.gaps(NULL, '2025-03-01', '2025-03-02', '1 s');

DROP FUNCTION send(uuid, text, text[]), fly(uuid, time, float8, float8, real);
DROP VIEW alerts, states;
DELETE FROM telemetry.alert_rules WHERE drone_id IN (:'d1', :'d2', :'d3');
DELETE FROM telemetry.drone_events WHERE drone_id IN (:'d1', :'d2', :'d3');
DELETE FROM telemetry.real_time_alerts WHERE drone_id IN (:'d1', :'d2', :'d3');
DELETE FROM telemetry.drone_telemetry WHERE drone_id IN (:'d1', :'d2', :'d3');
DELETE FROM telemetry.rejected_samples WHERE drone_id::text LIKE 'a1e70000%';
DELETE FROM core.drones WHERE drone_id IN (:'d1', :'d2', :'d3');
SELECT count(*) FROM telemetry.alert_states WHERE drone_id::text LIKE 'a1e70000%';
