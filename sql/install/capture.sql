/*
 * capture.sql
 *		The extension's own tables that are audited, and those that only grow.
 *
 * Runs after the pieces that make tables.  Audited are all of core and auth, the
 * configuration of telemetry, and all of sentient_edge; of samples what is changed
 * or removed later.  Not audited is what workers and ingest keep at a high rate
 * and could be made again: the latest states, counters, alerts and events.
 */

DO $$
DECLARE
	target record;
BEGIN
	FOR target IN
		SELECT c.oid::pg_catalog.regclass AS id, coalesce(pg_catalog.array_agg(a.attname ORDER BY a.attnum)
				FILTER (WHERE a.attname IN ('password_hash', 'mfa_secret', 'refresh_token_hash', 'key_hash', 'signing_secret', 'wrapped_key')
						  AND pg_catalog.format_type(a.atttypid, NULL) NOT LIKE '%sealed'), '{}') AS secret
		  FROM pg_catalog.pg_class c
		  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'
		  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		 WHERE c.relkind = 'r' AND (n.nspname IN ('core', 'auth')
				OR n.nspname = 'sentient_edge' AND c.relname <> 'managed_tables'
				OR n.nspname = 'telemetry' AND c.relname IN ('alert_rules', 'geofences')
				OR n.nspname = 'audit' AND c.relname IN ('targets', 'anchor_sinks', 'watched_tables'))
		 GROUP BY c.oid ORDER BY c.oid
	LOOP
		PERFORM audit.enable(target.id, '{}', target.secret);
	END LOOP;
	FOR target IN
		SELECT c.oid::pg_catalog.regclass AS id FROM pg_catalog.pg_class c
		 WHERE c.relnamespace = 'audit'::pg_catalog.regnamespace AND c.relkind = 'r'
		   AND c.relname IN ('restore_events', 'blocks', 'anchors') ORDER BY c.oid
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION audit.append_only();'
			'CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %1$s FOR EACH STATEMENT EXECUTE FUNCTION audit.append_only();'
			'ALTER TABLE %1$s ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate', target.id);
	END LOOP;
END
$$;

-- Samples are not copied when they come in.
CREATE TRIGGER sentient_audit_row AFTER UPDATE OR DELETE ON telemetry.drone_telemetry
	FOR EACH ROW EXECUTE FUNCTION audit.capture_row('{}', '{}');
CREATE TRIGGER sentient_audit_truncate BEFORE TRUNCATE ON telemetry.drone_telemetry
	FOR EACH STATEMENT EXECUTE FUNCTION audit.capture_truncate();
ALTER TABLE telemetry.drone_telemetry ENABLE ALWAYS TRIGGER sentient_audit_row, ENABLE ALWAYS TRIGGER sentient_audit_truncate;
CREATE TRIGGER sentient_audit_truncate BEFORE TRUNCATE ON telemetry.drone_telemetry_default
	FOR EACH STATEMENT EXECUTE FUNCTION audit.capture_truncate();
ALTER TABLE telemetry.drone_telemetry_default ENABLE ALWAYS TRIGGER sentient_audit_truncate;
INSERT INTO audit.targets (table_id) VALUES ('telemetry.drone_telemetry');

-- Counts the triggers that it has now.
SELECT sentient_edge.adopt_partitioned_table('telemetry.drone_telemetry');
