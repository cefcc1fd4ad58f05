-- Alerts: what comes with the extension, who may do what.
BEGIN;
SELECT plan(38);

SELECT results_eq($$SELECT name, metric, comparison, threshold, severity, enabled FROM telemetry.alert_rules WHERE is_builtin ORDER BY threshold DESC$$,
	$$VALUES ('battery low', 'battery_percentage', '<', 15::float8, 'warning', true), ('link loss', 'link_silence_s', '>', 10, 'critical', true),
			 ('battery critical', 'battery_percentage', '<', 7, 'critical', true), ('battery emergency', 'battery_percentage', '<', 5, 'emergency', true)$$,
	'PX4''s defaults are there and enabled');
SELECT matches(obj_description('telemetry.alert_rules'::regclass), 'PX4', 'and the comment says whose they are');

SELECT table_privs_are('telemetry', t, 'sentient_viewer', ARRAY['SELECT'])
  FROM unnest('{alert_rules,geofences,real_time_alerts,alert_states,rejected_counts,sample_counts}'::name[]) AS t;
SELECT table_privs_are('telemetry', t, 'sentient_operator', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'])
  FROM unnest('{alert_rules,geofences}'::name[]) AS t;
SELECT table_privs_are('telemetry', 'alert_states', 'sentient_admin', ARRAY['SELECT']);
SELECT function_privs_are('telemetry', 'acknowledge_alert', ARRAY['uuid', 'uuid'], 'sentient_analyst', ARRAY[]::text[]);
SELECT function_privs_are('telemetry', 'acknowledge_alert', ARRAY['uuid', 'uuid'], 'sentient_operator', ARRAY['EXECUTE']);
SELECT function_privs_are('telemetry', 'check_link_loss', ARRAY[]::text[], 'sentient_analyst', ARRAY[]::text[]);
SELECT function_privs_are('telemetry', 'check_link_loss', ARRAY[]::text[], 'sentient_operator', ARRAY['EXECUTE']);
SELECT function_privs_are('telemetry', 'gaps', ARRAY['uuid', 'timestamptz', 'timestamptz', 'interval'], 'sentient_viewer', ARRAY['EXECUTE']);

INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('a1e76000-0000-4000-8000-000000000001', 'pgtap-alert', 'pgtap');
SET LOCAL ROLE sentient_operator;
SELECT lives_ok($$INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, drone_type) VALUES ('pgtap', 'altitude_m', '>=', 120, 'pgtap')$$,
	'an operator makes a rule');
SELECT throws_ok($$INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold) VALUES ('pgtap2', 'altitude', '>=', 120)$$, '22023', NULL,
	'but not of a column that is none');
SELECT lives_ok($$SELECT telemetry.ingest('[{"drone_id": "a1e76000-0000-4000-8000-000000000001", "timestamp": "2025-04-01T10:00:00Z", "altitude_m": 120},
	{"drone_id": "a1e76000-0000-4000-8000-000000000001", "timestamp": "2025-04-01T10:00:00Z", "altitude_m": 120}]')$$, 'sends samples');
SELECT results_eq($$SELECT name, a.severity, opened_value, cleared_at FROM telemetry.real_time_alerts a JOIN telemetry.alert_rules USING (rule_id)
	WHERE a.drone_id = 'a1e76000-0000-4000-8000-000000000001'$$, $$VALUES ('pgtap', 'warning', 120::float8, NULL::timestamptz)$$, 'and sees the alert in the same transaction');
SELECT results_eq($$SELECT open_alerts FROM telemetry.drone_health('a1e76000-0000-4000-8000-000000000001')$$, 'VALUES (1::bigint)', 'so does drone_health');
SELECT results_eq($$SELECT received, late, duplicate, rejected FROM telemetry.sample_counts WHERE drone_id = 'a1e76000-0000-4000-8000-000000000001'$$,
	'VALUES (1::bigint, 0::bigint, 1::bigint, 0::bigint)', 'the samples are counted');
SELECT throws_ok($$UPDATE telemetry.real_time_alerts SET cleared_at = now()$$, '42501', NULL, 'an operator does not clear alerts by hand');
SELECT lives_ok($$UPDATE telemetry.real_time_alerts SET acknowledged_at = now() WHERE drone_id = 'a1e76000-0000-4000-8000-000000000001'$$, 'but may acknowledge by hand');
SELECT results_eq($$SELECT event_type FROM telemetry.drone_events WHERE drone_id = 'a1e76000-0000-4000-8000-000000000001' ORDER BY 1$$,
	$$VALUES ('alert_acknowledged'), ('alert_opened')$$, 'which makes an event as well');
SELECT throws_ok($$DELETE FROM telemetry.alert_rules WHERE is_builtin$$, '55000', NULL, 'a built-in rule stays');
SELECT throws_ok($$UPDATE telemetry.alert_rules SET rule_id = NULL WHERE is_builtin$$, '23502', NULL, 'and keeps an id');
SELECT throws_ok($$UPDATE telemetry.alert_rules SET rule_id = gen_random_uuid() WHERE is_builtin$$, '55000', NULL, 'its own');
SELECT lives_ok($$UPDATE telemetry.alert_rules SET is_builtin = true WHERE name = 'pgtap'$$, 'no other rule can claim to be built in');
SELECT lives_ok($$DELETE FROM telemetry.alert_rules WHERE name = 'pgtap'$$, 'so it can be deleted');
RESET ROLE;
-- a drone whose registration was rolled back, and that is another one the next time
INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, drone_type) VALUES ('pgtap type', 'altitude_m', '>=', 120, 'pgtap');
SAVEPOINT mistaken;
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('a1e76000-0000-4000-8000-000000000002', 'pgtap-type', 'mistaken');
SELECT telemetry.ingest('{"drone_id": "a1e76000-0000-4000-8000-000000000002", "timestamp": "2025-04-01T10:00:00Z", "altitude_m": 120}');
ROLLBACK TO mistaken;
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('a1e76000-0000-4000-8000-000000000002', 'pgtap-type', 'pgtap');
SELECT telemetry.ingest('{"drone_id": "a1e76000-0000-4000-8000-000000000002", "timestamp": "2025-04-01T10:00:00Z", "altitude_m": 120}');
SELECT results_eq($$SELECT name FROM telemetry.real_time_alerts a JOIN telemetry.alert_rules USING (rule_id) WHERE a.drone_id = 'a1e76000-0000-4000-8000-000000000002'$$,
	$$VALUES ('pgtap type')$$, 'what a drone was said to be in a transaction that was rolled back is forgotten');

-- rows of a statement in any order: one that came before the first that breaks the rule ends what an older one has begun
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('a1e76000-0000-4000-8000-000000000003', 'pgtap-order', 'pgtap');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, altitude_m) SELECT 'a1e76000-0000-4000-8000-000000000003', timestamptz '2025-04-01 10:00+00' + minute * interval '1 min', altitude_m
  FROM (VALUES (10, 1), (20, 121), (5, 121)) AS samples (minute, altitude_m);
SELECT results_eq($$SELECT opened_at, cleared_at FROM telemetry.real_time_alerts WHERE drone_id = 'a1e76000-0000-4000-8000-000000000003' ORDER BY opened_at$$,
	$$VALUES (timestamptz '2025-04-01 10:05+00', timestamptz '2025-04-01 10:10+00'), ('2025-04-01 10:20+00', NULL)$$, 'rows of a statement alert in order of time');

-- statements that change samples and insert others: what is inserted alerts
CREATE FUNCTION pg_temp.opened_at() RETURNS timestamptz[] LANGUAGE sql AS $$
	SELECT array_agg(opened_at ORDER BY opened_at) FROM telemetry.real_time_alerts a JOIN telemetry.alert_rules USING (rule_id)
	WHERE a.drone_id = 'a1e76000-0000-4000-8000-000000000002' AND name = 'pgtap type' AND opened_at > '2025-04-02'
$$;
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, altitude_m) VALUES ('a1e76000-0000-4000-8000-000000000002', '2025-04-02 00:00+00', 5);
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, altitude_m)
VALUES ('a1e76000-0000-4000-8000-000000000002', '2025-04-02 00:00+00', 6), ('a1e76000-0000-4000-8000-000000000002', '2025-04-02 00:01+00', 121)
ON CONFLICT (drone_id, recorded_at) DO UPDATE SET altitude_m = excluded.altitude_m;
SELECT is(pg_temp.opened_at(), '{2025-04-02 00:01+00}', 'ON CONFLICT DO UPDATE');
INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at, altitude_m) VALUES ('a1e76000-0000-4000-8000-000000000002', '2025-04-02 00:02+00', 5);
MERGE INTO telemetry.drone_telemetry t
USING (VALUES ('a1e76000-0000-4000-8000-000000000002'::uuid, timestamptz '2025-04-02 00:00+00', 6::real), ('a1e76000-0000-4000-8000-000000000002', '2025-04-02 00:01+00', 7),
	('a1e76000-0000-4000-8000-000000000002', '2025-04-02 00:03+00', 122)) AS n (drone_id, recorded_at, altitude_m) ON t.drone_id = n.drone_id AND t.recorded_at = n.recorded_at
WHEN MATCHED AND n.altitude_m = 7 THEN DELETE
WHEN MATCHED THEN UPDATE SET altitude_m = n.altitude_m
WHEN NOT MATCHED THEN INSERT (drone_id, recorded_at, altitude_m) VALUES (n.drone_id, n.recorded_at, n.altitude_m);
SELECT is(pg_temp.opened_at(), '{2025-04-02 00:01+00,2025-04-02 00:03+00}', 'MERGE');
CREATE FUNCTION pgtap_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE telemetry.drone_telemetry SET altitude_m = altitude_m + 1 WHERE drone_id = NEW.drone_id AND recorded_at = '2025-04-02 00:00+00';
	RETURN NULL;
END $$;
CREATE TRIGGER thereafter AFTER INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION pgtap_change();
SELECT telemetry.ingest('[{"drone_id": "a1e76000-0000-4000-8000-000000000002", "timestamp": "2025-04-02T00:04:00Z", "altitude_m": 5},
	{"drone_id": "a1e76000-0000-4000-8000-000000000002", "timestamp": "2025-04-02T00:05:00Z", "altitude_m": 123},
	{"drone_id": "a1e76000-0000-4000-8000-000000000002", "timestamp": "2025-04-02T00:06:00Z", "altitude_m": 5}]');
SELECT is(pg_temp.opened_at(), '{2025-04-02 00:01+00,2025-04-02 00:03+00,2025-04-02 00:05+00}', 'an UPDATE in a trigger of the user''s');
SELECT results_eq($$SELECT recorded_at, samples_received, alert_states FROM telemetry.drone_latest WHERE drone_id = 'a1e76000-0000-4000-8000-000000000002'$$,
	$$VALUES (timestamptz '2025-04-02 00:06+00', 8::bigint, 0)$$, 'the latest state is the newest sample''s');

SET LOCAL ROLE sentient_viewer;
SELECT throws_ok($$SELECT telemetry.acknowledge_alert(gen_random_uuid())$$, '42501', NULL, 'a viewer does not acknowledge');
RESET ROLE;
SELECT throws_ok($$SELECT telemetry.alert_rule_check()$$, '39P01', NULL, 'a trigger function is not called by hand');


SELECT * FROM finish();
ROLLBACK;
