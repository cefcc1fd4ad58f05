/*
 * restore.sql
 *		Foreign keys between the extension's tables, and triggers that open sealed
 *		values, stand back while a dump is restored, and so does the capture of
 *		changes: what a dump brings has its entries already.
 *
 * For an ordinary table a dump adds foreign keys after all data.  Those of a
 * member table are there as soon as CREATE EXTENSION has run.  Plain dumps sort
 * the data by them, but pg_restore --jobs knows no order between the data of
 * tables and would load a drone before its swarm.  Likewise require_context
 * triggers are there; the server that a dump is restored into may not have the
 * master key, and the values were checked when they were written.
 *
 * A restore shows itself by creating audit.log, which is no member any longer.
 * Its last steps are the privileges, on audit.log as well, when all data and all
 * indexes are in; pg_restore --section has the privileges earlier and ends with
 * attaching indexes.  So both are there exactly when everything is.  A restore
 * with --no-acl does not end so: sentient_edge.enforce_foreign_keys() is for it.
 */

CREATE VIEW sentient_edge.foreign_keys AS
SELECT t.tgrelid::pg_catalog.regclass AS table_name, c.conname AS constraint_name, t.tgname AS trigger_name,
	   t.tgenabled <> 'D' AS is_enforced
  FROM pg_catalog.pg_trigger t
  LEFT JOIN pg_catalog.pg_constraint c ON c.oid = t.tgconstraint AND c.conrelid = t.tgrelid AND c.contype = 'f'
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = t.tgrelid
		AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
  JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'sentient_edge'
 WHERE c.oid IS NOT NULL OR t.tgfoid = 'sentient_edge.require_context()'::pg_catalog.regprocedure;
COMMENT ON VIEW sentient_edge.foreign_keys IS 'Foreign keys of the extension''s tables, a row for each trigger that checks one, and their sealed columns, which a trigger checks, too';
COMMENT ON COLUMN sentient_edge.foreign_keys.table_name IS 'Referencing table';
COMMENT ON COLUMN sentient_edge.foreign_keys.constraint_name IS 'Name of the foreign key; null for a trigger that checks a sealed column';
COMMENT ON COLUMN sentient_edge.foreign_keys.trigger_name IS 'Trigger that checks it';
COMMENT ON COLUMN sentient_edge.foreign_keys.is_enforced IS 'False from the begin of a restore to its end';
GRANT SELECT ON sentient_edge.foreign_keys TO sentient_admin;

CREATE FUNCTION sentient_edge.enforce_foreign_keys(enforce boolean DEFAULT true) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command text;
	changed integer := 0;
BEGIN
	FOR command IN
		SELECT format('ALTER TABLE %s %s TRIGGER %I', table_name,
					  CASE WHEN enforce THEN 'ENABLE' ELSE 'DISABLE' END, trigger_name)
		  FROM sentient_edge.foreign_keys WHERE is_enforced <> enforce ORDER BY table_name::oid, trigger_name
	LOOP
		EXECUTE command;
		changed := changed + 1;
	END LOOP;
	PERFORM audit.suspend_capture(NOT enforce);
	RETURN changed;
END
$$;
COMMENT ON FUNCTION sentient_edge.enforce_foreign_keys(boolean) IS
'Enforces the foreign keys and sealed columns of the extension''s tables, and captures their changes, again after pg_restore --no-acl (other restores do it themselves), or suspends all that; returns the number of triggers of foreign keys and sealed columns changed. For superusers.';

CREATE FUNCTION sentient_edge.watch_restore() RETURNS event_trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_TAG = 'CREATE TABLE' THEN
		PERFORM sentient_edge.enforce_foreign_keys(false)
		   FROM pg_event_trigger_ddl_commands()
		  WHERE object_identity = 'audit.log' AND command_tag = 'CREATE TABLE' AND NOT in_extension;
	ELSIF EXISTS (SELECT FROM sentient_edge.foreign_keys WHERE NOT is_enforced)
		AND EXISTS (SELECT FROM pg_class r JOIN sentient_edge.managed_tables m ON m.table_name = 'audit.log'
					 WHERE r.oid = to_regclass('audit.log') AND r.relacl IS NOT NULL AND m.indexes <=
						   (SELECT CASE WHEN bool_and(i.indisvalid) THEN count(*) END FROM pg_index i WHERE i.indrelid = r.oid)) THEN
		PERFORM sentient_edge.enforce_foreign_keys(true);
	END IF;
END
$$;
COMMENT ON FUNCTION sentient_edge.watch_restore() IS
'Event trigger (ddl_command_end): suspends the foreign keys of the extension''s tables when a restore begins, and enforces them again when it has ended. For the event trigger only.';

CREATE EVENT TRIGGER sentient_edge_watch_restore ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'ALTER INDEX', 'GRANT')
	EXECUTE FUNCTION sentient_edge.watch_restore();
COMMENT ON EVENT TRIGGER sentient_edge_watch_restore IS 'Lets the foreign keys of sentient_edge''s tables stand back while a dump is restored';
