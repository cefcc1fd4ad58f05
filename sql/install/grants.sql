/*
 * grants.sql
 *		The last sweep: PUBLIC gets nothing of what the extension made.
 *
 * It goes by membership, not by schema.  A stranger's object in one of the
 * schemas is left alone, and so are the partitioned tables:
 * tables are closed to PUBLIC as they are made, and a privilege recorded for
 * them here would be missing from dumps.
 */

COMMENT ON SCHEMA sentient_edge IS 'sentient_edge: settings, workers and maintenance of the extension itself';
REVOKE ALL ON SCHEMA sentient_edge FROM PUBLIC;
GRANT USAGE ON SCHEMA sentient_edge TO sentient_viewer;

DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT pg_catalog.format('REVOKE ALL ON %s %s FROM PUBLIC',
				CASE o.type WHEN 'schema' THEN 'SCHEMA' WHEN 'sequence' THEN 'SEQUENCE'
					WHEN 'table' THEN 'TABLE' WHEN 'view' THEN 'TABLE' WHEN 'materialized view' THEN 'TABLE'
					ELSE 'ROUTINE' END, o.identity)
		  FROM pg_catalog.pg_extension e
		  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
		 CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) o
		 WHERE e.extname = 'sentient_edge' AND d.deptype = 'e'
		   AND o.type IN ('schema', 'sequence', 'table', 'view', 'materialized view', 'function', 'procedure', 'aggregate')
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;
