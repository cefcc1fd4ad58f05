/*
 * administration.sql
 *		What an administrator sees and does: workers, partitions, maintenance.
 */

CREATE FUNCTION sentient_edge.workers_status(
	OUT database text, OUT worker text, OUT pid integer, OUT state text,
	OUT last_run_at timestamptz, OUT last_error text, OUT runs bigint, OUT errors bigint)
	RETURNS SETOF record
	LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'workers_status';
COMMENT ON FUNCTION sentient_edge.workers_status() IS
	'Rows of the view sentient_edge.workers. Error: 55000 unless the library is preloaded. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION sentient_edge.workers_status() TO sentient_admin;

CREATE VIEW sentient_edge.workers AS SELECT * FROM sentient_edge.workers_status();
COMMENT ON VIEW sentient_edge.workers IS 'Background workers of the whole server: the launcher, and the scheduler of each database with its jobs';
COMMENT ON COLUMN sentient_edge.workers.database IS 'Database of the worker; null for the launcher';
COMMENT ON COLUMN sentient_edge.workers.worker IS 'launcher, scheduler, or the name of one of the scheduler''s jobs';
COMMENT ON COLUMN sentient_edge.workers.pid IS 'Process, null while there is none';
COMMENT ON COLUMN sentient_edge.workers.state IS 'starting, running or stopped; a job is waiting or running';
COMMENT ON COLUMN sentient_edge.workers.last_run_at IS 'End of a job''s last run, start of a scheduler, last turn of the launcher';
COMMENT ON COLUMN sentient_edge.workers.last_error IS 'Message of the last error since the server started';
COMMENT ON COLUMN sentient_edge.workers.runs IS 'Runs of a job, starts of a scheduler, turns of the launcher, since the server started';
COMMENT ON COLUMN sentient_edge.workers.errors IS 'How many of them ended with an error';
GRANT SELECT ON sentient_edge.workers TO sentient_admin;

CREATE FUNCTION sentient_edge.partition_ranges(
	parent regclass, OUT partition regclass, OUT is_default boolean, OUT lower timestamptz, OUT upper timestamptz)
	RETURNS SETOF record
	LANGUAGE c STRICT VOLATILE PARALLEL SAFE ROWS 50 AS 'MODULE_PATHNAME', 'partition_ranges';
COMMENT ON FUNCTION sentient_edge.partition_ranges(regclass) IS
	'Partitions of a table that is partitioned by range of one timestamptz column, with their bounds, in order of time; the default partition last. May be called by sentient_viewer.';
GRANT EXECUTE ON FUNCTION sentient_edge.partition_ranges(regclass) TO sentient_viewer;

CREATE VIEW telemetry.partitions AS
WITH parent AS (
	SELECT m.table_name, c.oid, c.relnamespace, c.relname
	  FROM sentient_edge.managed_tables m
	  -- to_regclass would ask for the right to use the schema
	  JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) pg_catalog.split_part(m.table_name, '.', 1)::name
	  JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
	   AND c.relname OPERATOR(pg_catalog.=) pg_catalog.split_part(m.table_name, '.', 2)::name
), part AS (
	SELECT p.table_name, r.partition::oid AS oid,
		CASE WHEN NOT r.is_default THEN pg_catalog.tstzrange(r.lower, r.upper) END AS range,
		CASE WHEN r.is_default THEN 'default'
			 WHEN r.lower OPERATOR(pg_catalog.>) pg_catalog.now() THEN 'future'
			 WHEN r.upper OPERATOR(pg_catalog.<=) pg_catalog.now() THEN 'past'
			 ELSE 'current' END AS state
	  FROM parent p, sentient_edge.partition_ranges(p.oid) r
	UNION ALL
	SELECT p.table_name, d.oid, NULL, 'detached'
	  FROM parent p
	  JOIN pg_catalog.pg_class d ON d.relnamespace OPERATOR(pg_catalog.=) p.relnamespace
	   AND d.relkind OPERATOR(pg_catalog.=) 'r' AND NOT d.relispartition
	   AND d.relname OPERATOR(pg_catalog.~) pg_catalog.concat('^', p.relname, '_p[0-9]{8}(_[0-9]+)?$')
)
SELECT part.table_name AS parent, c.relname::text AS name, part.range,
	CASE WHEN c.reltuples OPERATOR(pg_catalog.>=) 0 THEN c.reltuples::bigint END AS estimated_rows,
	pg_catalog.pg_total_relation_size(c.oid) AS bytes, part.state,
	pg_catalog.count(*) FILTER (WHERE part.state OPERATOR(pg_catalog.=) 'future') OVER (PARTITION BY part.table_name) AS runway
  FROM part JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) part.oid
 ORDER BY part.table_name, part.range NULLS LAST, c.relname;
COMMENT ON VIEW telemetry.partitions IS 'Partitions of telemetry.drone_telemetry, audit.log and audit.security_events, and the tables that retention has detached from them';
COMMENT ON COLUMN telemetry.partitions.parent IS 'The partitioned table';
COMMENT ON COLUMN telemetry.partitions.name IS 'The partition, in the schema of its parent';
COMMENT ON COLUMN telemetry.partitions.range IS 'Times that it takes; null for a default or detached one';
COMMENT ON COLUMN telemetry.partitions.estimated_rows IS 'Rows at the last VACUUM or ANALYZE; null before the first';
COMMENT ON COLUMN telemetry.partitions.bytes IS 'Bytes on disk with indexes and TOAST';
COMMENT ON COLUMN telemetry.partitions.state IS 'current, future, past, default or detached';
COMMENT ON COLUMN telemetry.partitions.runway IS 'How many future partitions the parent has';
GRANT SELECT ON telemetry.partitions TO sentient_viewer;
GRANT SELECT ON sentient_edge.managed_tables TO sentient_viewer;

CREATE FUNCTION telemetry.run_maintenance(OUT parent text, OUT action text, OUT detail text)
	RETURNS SETOF record
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 10
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'run_maintenance';
COMMENT ON FUNCTION telemetry.run_maintenance() IS
	'Does what the scheduler does, now and in this transaction: makes partitions ahead of now, moves rows out of the default partitions, retires old partitions; one row for each thing done, and the runway. Call it on its own: its locks last until the transaction ends. A restore that seems unfinished is taken as finished. What cannot be done because of locks is reported as postponed, not raised. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION telemetry.run_maintenance() TO sentient_admin;
