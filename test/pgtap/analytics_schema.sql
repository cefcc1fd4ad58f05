-- analytics: keys that take upserts.
BEGIN;
SELECT plan(12);

SELECT tables_are('analytics', ARRAY['system_performance', 'drone_analytics', 'mission_analytics', 'user_analytics']);
SELECT col_is_pk('analytics', 'system_performance', ARRAY['metric', 'label', 'bucket_width_s', 'bucket_start'], 'key of system_performance');
SELECT col_is_pk('analytics', 'drone_analytics', ARRAY['drone_id', 'bucket_width_s', 'bucket_start'], 'key of drone_analytics');
SELECT col_is_pk('analytics', 'mission_analytics', ARRAY['mission_id', 'bucket_width_s', 'bucket_start'], 'key of mission_analytics');
SELECT col_is_pk('analytics', 'user_analytics', ARRAY['user_id', 'bucket_width_s', 'bucket_start'], 'key of user_analytics');
SELECT fk_ok('analytics', 'drone_analytics', 'drone_id', 'core', 'drones', 'drone_id');
SELECT fk_ok('analytics', 'mission_analytics', 'mission_id', 'core', 'missions', 'mission_id');
SELECT fk_ok('analytics', 'user_analytics', 'user_id', 'auth', 'users', 'user_id');

PREPARE measure(double precision) AS
	INSERT INTO analytics.system_performance AS s (metric, bucket_width_s, bucket_start, value_sum, value_min, value_max, value_last)
	VALUES ('pgtap', 60, '2026-01-01 00:00+00', $1, $1, $1, $1)
	ON CONFLICT (metric, label, bucket_width_s, bucket_start) DO UPDATE
	SET value_count = s.value_count + 1, value_sum = s.value_sum + excluded.value_sum, value_last = excluded.value_last,
		value_min = least(s.value_min, excluded.value_min), value_max = greatest(s.value_max, excluded.value_max);
EXECUTE measure(3);
EXECUTE measure(1);
EXECUTE measure(2);
SELECT results_eq($$SELECT value_count, value_sum, value_min, value_max, value_last FROM analytics.system_performance WHERE metric = 'pgtap'$$,
	$$VALUES (3::bigint, 6::float8, 1::float8, 3::float8, 2::float8)$$, 'a bucket is added to by an upsert');
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('00000000-0000-4000-8000-00000000000d', 'pgtap', 'vtol');
INSERT INTO analytics.drone_analytics (drone_id, bucket_width_s, bucket_start) VALUES ('00000000-0000-4000-8000-00000000000d', 3600, '2026-01-01 00:00+00');
SELECT throws_ok($$UPDATE analytics.drone_analytics SET bucket_width_s = 0$$, '23514', NULL, 'a bucket has a length');
SELECT throws_ok($$UPDATE analytics.drone_analytics SET altitude_min_m = 2, altitude_max_m = 1$$, '23514', NULL, 'the least is not above the greatest');
DELETE FROM core.drones WHERE call_sign = 'pgtap';
SELECT is_empty($$SELECT 1 FROM analytics.drone_analytics WHERE drone_id = '00000000-0000-4000-8000-00000000000d'$$, 'figures go with their drone');

SELECT * FROM finish();
ROLLBACK;
