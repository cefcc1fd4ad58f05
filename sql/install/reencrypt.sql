/*
 * reencrypt.sql
 *		Values of a column brought under the active keys, in the background.
 *
 * A row of sentient_edge.reencryptions is the whole state of one piece of work:
 * a worker changes some rows of the table and this row in one transaction, so
 * that a crash at any instruction loses neither values nor the place.
 */

CREATE TABLE sentient_edge.reencryptions (
	reencryption_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	table_name text NOT NULL,
	column_name name NOT NULL,
	context_columns name[] NOT NULL CHECK (pg_catalog.cardinality(context_columns) > 0),
	state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'finished', 'failed')),
	phase text NOT NULL DEFAULT 'converting' CHECK (phase IN ('converting', 'waiting', 'proving')),
	pass integer NOT NULL DEFAULT 0 CHECK (pass >= 0),
	position_table text,
	position_block bigint NOT NULL DEFAULT 0 CHECK (position_block >= 0),
	blocks_total bigint NOT NULL DEFAULT 0 CHECK (blocks_total >= 0),
	blocks_done bigint NOT NULL DEFAULT 0 CHECK (blocks_done >= 0),
	values_done bigint NOT NULL DEFAULT 0 CHECK (values_done >= 0),
	pass_done bigint NOT NULL DEFAULT 0 CHECK (pass_done >= 0),
	pass_busy bigint NOT NULL DEFAULT 0 CHECK (pass_busy >= 0),
	pass_failed bigint NOT NULL DEFAULT 0 CHECK (pass_failed >= 0),
	field_key_id uuid,
	search_key_id uuid,
	error text,
	requested_by name NOT NULL DEFAULT SESSION_USER,
	requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	progressed_at timestamptz,
	finished_at timestamptz CHECK ((finished_at IS NOT NULL) = (state = 'finished'))
);
CREATE UNIQUE INDEX reencryptions_open_key ON sentient_edge.reencryptions (table_name, column_name) WHERE state <> 'finished';
COMMENT ON TABLE sentient_edge.reencryptions IS 'Columns that were or are being brought under the active keys; see sentient_edge.reencrypt_progress';
COMMENT ON COLUMN sentient_edge.reencryptions.reencryption_id IS 'Identifies the work';
COMMENT ON COLUMN sentient_edge.reencryptions.table_name IS 'Table, with its schema';
COMMENT ON COLUMN sentient_edge.reencryptions.column_name IS 'Column of type sentient_edge.sealed';
COMMENT ON COLUMN sentient_edge.reencryptions.context_columns IS 'Columns whose values end the context of each value';
COMMENT ON COLUMN sentient_edge.reencryptions.state IS 'running, paused, finished or failed';
COMMENT ON COLUMN sentient_edge.reencryptions.phase IS 'converting values, waiting for transactions that began to write before, or proving that no value is left';
COMMENT ON COLUMN sentient_edge.reencryptions.pass IS 'How often the table has been gone through, this pass included';
COMMENT ON COLUMN sentient_edge.reencryptions.position_table IS 'Table or partition that the pass has come to; NULL before its first';
COMMENT ON COLUMN sentient_edge.reencryptions.position_block IS 'Block of it that comes next';
COMMENT ON COLUMN sentient_edge.reencryptions.blocks_total IS 'Blocks of the table when the pass began';
COMMENT ON COLUMN sentient_edge.reencryptions.blocks_done IS 'Blocks that the pass has gone through';
COMMENT ON COLUMN sentient_edge.reencryptions.values_done IS 'Values brought under new keys in all passes';
COMMENT ON COLUMN sentient_edge.reencryptions.pass_done IS 'Values brought under new keys in this pass';
COMMENT ON COLUMN sentient_edge.reencryptions.pass_busy IS 'Values of this pass that another transaction was changing; the next pass takes them';
COMMENT ON COLUMN sentient_edge.reencryptions.pass_failed IS 'Values of this pass that could not be opened or stored again';
COMMENT ON COLUMN sentient_edge.reencryptions.field_key_id IS 'Key of the values of this pass; once finished, the key that all values are under';
COMMENT ON COLUMN sentient_edge.reencryptions.search_key_id IS 'The same of the search tags; NULL while there are none';
COMMENT ON COLUMN sentient_edge.reencryptions.error IS 'What went wrong last; NULL when nothing did';
COMMENT ON COLUMN sentient_edge.reencryptions.requested_by IS 'Database role that asked for it';
COMMENT ON COLUMN sentient_edge.reencryptions.requested_at IS 'Time when it was asked for';
COMMENT ON COLUMN sentient_edge.reencryptions.progressed_at IS 'Time of the last step';
COMMENT ON COLUMN sentient_edge.reencryptions.finished_at IS 'Time when it was proved that no value is left';

SELECT pg_catalog.pg_extension_config_dump('sentient_edge.reencryptions', '');
GRANT SELECT ON sentient_edge.reencryptions TO sentient_admin;

CREATE FUNCTION sentient_edge.reencrypt(target regclass, column_name name, context_columns name[] DEFAULT NULL) RETURNS uuid
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'reencrypt_request';
COMMENT ON FUNCTION sentient_edge.reencrypt(regclass, name, name[]) IS
	'Has a worker bring every value of a column under the active field and search keys, once this transaction has committed; returns the id of the work. context_columns are the columns whose values end the context; by default those of the column''s require_context trigger. Errors: 42703, 42809 or 42804 for a target that has no such column of type sealed, 0A000 for one that cannot be re-encrypted, 22023 when the context is not known, 55006 when it is being re-encrypted, 55000 without a key. May be called by a sentient_admin who may update the column.';
GRANT EXECUTE ON FUNCTION sentient_edge.reencrypt(regclass, name, name[]) TO sentient_admin;

CREATE FUNCTION sentient_edge.reencrypt_pause(reencryption_id uuid) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'reencrypt_pause';
COMMENT ON FUNCTION sentient_edge.reencrypt_pause(uuid) IS
	'Stops a re-encryption after the batch that it is at. Errors: 22004 null, 42704 unknown id, 55000 when it is not running. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION sentient_edge.reencrypt_pause(uuid) TO sentient_admin;

CREATE FUNCTION sentient_edge.reencrypt_resume(reencryption_id uuid) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'reencrypt_resume';
COMMENT ON FUNCTION sentient_edge.reencrypt_resume(uuid) IS
	'Lets a paused or failed re-encryption go on where it was. Errors: 22004 null, 42704 unknown id, 55000 when it is neither. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION sentient_edge.reencrypt_resume(uuid) TO sentient_admin;

CREATE VIEW sentient_edge.reencrypt_progress AS
SELECT r.reencryption_id, r.table_name, r.column_name, r.state, r.phase, r.pass, r.blocks_total, r.blocks_done,
	   CASE WHEN r.state = 'finished' THEN 100
			ELSE pg_catalog.round(100.0 * LEAST(r.blocks_done, r.blocks_total) / GREATEST(r.blocks_total, 1), 1) END AS percent_of_pass,
	   r.values_done, r.pass_busy AS values_busy, r.pass_failed AS values_failed, r.error,
	   r.requested_at, r.progressed_at, r.finished_at
  FROM sentient_edge.reencryptions r;
COMMENT ON VIEW sentient_edge.reencrypt_progress IS 'How far re-encryptions have come, to the last batch';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.reencryption_id IS 'Identifies the work';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.table_name IS 'Table, with its schema';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.column_name IS 'Column of type sentient_edge.sealed';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.state IS 'running, paused, finished or failed';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.phase IS 'converting, waiting or proving';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.pass IS 'How often the table has been gone through, this pass included';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.blocks_total IS 'Blocks of the table when the pass began';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.blocks_done IS 'Blocks that the pass has gone through';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.percent_of_pass IS 'Share of the pass that is done';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.values_done IS 'Values brought under new keys in all passes';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.values_busy IS 'Values of this pass that another transaction was changing; the next pass takes them';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.values_failed IS 'Values of this pass that could not be opened or stored again';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.error IS 'What went wrong last; NULL when nothing did';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.requested_at IS 'Time when it was asked for';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.progressed_at IS 'Time of the last step';
COMMENT ON COLUMN sentient_edge.reencrypt_progress.finished_at IS 'Time when it was proved that no value is left';
GRANT SELECT ON sentient_edge.reencrypt_progress TO sentient_admin;
