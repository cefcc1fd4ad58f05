/*
 * ledger.sql
 *		The ledger that seals audit.log and audit.security_events: blocks, anchors,
 *		and where digests go.
 *
 * A block names its entries one by one: a range of ids or of transactions would
 * have holes, because a transaction that began earlier commits later, and would
 * mean something else in a restored cluster.  With the leaf hashes beside them
 * an altered entry is told from its neighbours, and a block of which a part was
 * pruned still proves the rest.  It holds either entries or security events, never
 * both: they are found, checked and pruned by different means.
 */

CREATE TABLE audit.blocks (
	block_number bigint PRIMARY KEY CHECK (block_number >= 0),
	format_version smallint NOT NULL DEFAULT 1 CHECK (format_version > 0),
	previous_hash bytea NOT NULL CHECK (pg_catalog.octet_length(previous_hash) = 32),
	merkle_root bytea NOT NULL CHECK (pg_catalog.octet_length(merkle_root) = 32),
	block_hash bytea NOT NULL UNIQUE CHECK (pg_catalog.octet_length(block_hash) = 32),
	entry_count integer NOT NULL CHECK (entry_count >= 0),
	total_entries bigint NOT NULL CHECK (total_entries >= entry_count),
	entry_ids bigint[] NOT NULL DEFAULT '{}',
	event_ids uuid[] NOT NULL DEFAULT '{}',
	leaf_hashes bytea NOT NULL,
	min_audit_id bigint CHECK ((min_audit_id IS NULL) = (entry_count = 0 OR holds_events)),
	max_audit_id bigint CHECK (max_audit_id >= min_audit_id AND (max_audit_id IS NULL) = (entry_count = 0 OR holds_events)),
	first_occurred_at timestamptz CHECK ((first_occurred_at IS NULL) = (entry_count = 0)),
	last_occurred_at timestamptz CHECK (last_occurred_at >= first_occurred_at AND (last_occurred_at IS NULL) = (entry_count = 0)),
	sealed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	system_identifier bigint NOT NULL,
	accepts_unkeyed boolean NOT NULL DEFAULT false,
	holds_events boolean NOT NULL DEFAULT false,
	algorithm text CHECK (algorithm IN ('ed25519')),
	key_id uuid,
	signature bytea CHECK (pg_catalog.octet_length(signature) = 64),
	visible_snapshot pg_snapshot,
	visible_audit_id bigint NOT NULL DEFAULT 0,
	next_transaction_id xid8 NOT NULL DEFAULT '0',
	foreign_max_audit_id bigint NOT NULL DEFAULT 0,
	CHECK (pg_catalog.cardinality(entry_ids) = 0 OR NOT holds_events),
	CHECK (pg_catalog.cardinality(event_ids) = 0 OR holds_events),
	CHECK (pg_catalog.cardinality(entry_ids) + pg_catalog.cardinality(event_ids) IN (entry_count, 0)),
	CHECK (pg_catalog.octet_length(leaf_hashes)::bigint =
		   32 * (pg_catalog.cardinality(entry_ids) + pg_catalog.cardinality(event_ids))::bigint),
	CHECK ((signature IS NULL) = (key_id IS NULL) AND (signature IS NULL) = (algorithm IS NULL))
);
-- Hashes and uuids do not compress.  Ids do, but it takes a fifth of the time of sealing.
ALTER TABLE audit.blocks ALTER COLUMN leaf_hashes SET STORAGE EXTERNAL, ALTER COLUMN entry_ids SET STORAGE EXTERNAL,
	ALTER COLUMN event_ids SET STORAGE EXTERNAL;
-- One block follows another: a chain does not fork.
CREATE UNIQUE INDEX blocks_previous_hash_key ON audit.blocks (previous_hash);
CREATE INDEX blocks_min_audit_id_idx ON audit.blocks (min_audit_id);
CREATE INDEX blocks_audit_ids_idx ON audit.blocks USING gist (pg_catalog.int8range(min_audit_id, max_audit_id, '[]'))
	WHERE min_audit_id IS NOT NULL;	-- or blocks of events would be about all ids
CREATE INDEX blocks_event_times_idx ON audit.blocks
	USING gist (pg_catalog.tstzrange(first_occurred_at, last_occurred_at, '[]')) WHERE holds_events;
CREATE INDEX blocks_occurred_at_idx ON audit.blocks (last_occurred_at, first_occurred_at);
COMMENT ON TABLE audit.blocks IS 'Blocks of the ledger: sealed entries of audit.log and events of audit.security_events, chained by hash';
COMMENT ON COLUMN audit.blocks.block_number IS 'Number of the block, from 0 without gaps';
COMMENT ON COLUMN audit.blocks.format_version IS 'Version of the bytes that were hashed';
COMMENT ON COLUMN audit.blocks.previous_hash IS 'block_hash of the block before, 32 bytes; zeros for the first';
COMMENT ON COLUMN audit.blocks.merkle_root IS 'Root of the Merkle tree over the entries or events, 32 bytes';
COMMENT ON COLUMN audit.blocks.block_hash IS 'SHA-256 over the block''s header, 32 bytes';
COMMENT ON COLUMN audit.blocks.entry_count IS 'Number of entries or events; 0 where the chain only goes over to another cluster';
COMMENT ON COLUMN audit.blocks.total_entries IS 'Entries and events of this block and all before it';
COMMENT ON COLUMN audit.blocks.entry_ids IS 'audit_id of every entry, rising (equal ones where ids were given again); the order of the leaves; empty once all entries are pruned';
COMMENT ON COLUMN audit.blocks.event_ids IS 'event_id of every security event, rising; the order of the leaves; empty once all events are pruned';
COMMENT ON COLUMN audit.blocks.leaf_hashes IS 'Leaf hash of every entry or event, 32 bytes each, in the order of entry_ids or event_ids';
COMMENT ON COLUMN audit.blocks.min_audit_id IS 'Least of the entries'' ids; NULL without entries';
COMMENT ON COLUMN audit.blocks.max_audit_id IS 'Greatest of the entries'' ids; NULL without entries';
COMMENT ON COLUMN audit.blocks.first_occurred_at IS 'Earliest time of an entry or event; NULL without any';
COMMENT ON COLUMN audit.blocks.last_occurred_at IS 'Latest time of an entry or event; NULL without any';
COMMENT ON COLUMN audit.blocks.sealed_at IS 'Time of sealing';
COMMENT ON COLUMN audit.blocks.system_identifier IS 'Cluster that sealed the block';
COMMENT ON COLUMN audit.blocks.accepts_unkeyed IS 'Holds entries or events without a MAC that an administrator has accepted';
COMMENT ON COLUMN audit.blocks.holds_events IS 'It holds security events, else entries of audit.log';
COMMENT ON COLUMN audit.blocks.algorithm IS 'Algorithm of the signature';
COMMENT ON COLUMN audit.blocks.key_id IS 'Key that signed';
COMMENT ON COLUMN audit.blocks.signature IS 'Signature of block_hash, 64 bytes; NULL when no key was set up';
COMMENT ON COLUMN audit.blocks.visible_snapshot IS 'Which transactions had ended when the entries were collected, in the cluster of system_identifier';
COMMENT ON COLUMN audit.blocks.visible_audit_id IS 'Transactions from next_transaction_id on have entries above this audit_id only, unless the sequence of ids was set back';
COMMENT ON COLUMN audit.blocks.next_transaction_id IS 'First transaction that had no number yet when visible_audit_id was read, before the snapshot';
COMMENT ON COLUMN audit.blocks.foreign_max_audit_id IS 'Entries up to this id may carry transaction ids of another cluster';

CREATE TABLE audit.anchors (
	anchor_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	kind text NOT NULL CHECK (kind IN ('digest', 'prune')),
	block_number bigint NOT NULL CHECK (block_number >= 0),
	block_hash bytea NOT NULL CHECK (pg_catalog.octet_length(block_hash) = 32),
	pruned_before timestamptz,
	pruned_from text CHECK (pruned_from IN ('entries', 'events')),
	pruned_entries bigint CHECK (pruned_entries >= 0),
	pruned_partly jsonb CHECK (pg_catalog.jsonb_typeof(pruned_partly) = 'object'),
	digest jsonb CHECK (pg_catalog.jsonb_typeof(digest) = 'object'),
	algorithm text CHECK (algorithm IN ('ed25519')),
	key_id uuid,
	signature bytea CHECK (pg_catalog.octet_length(signature) = 64),
	note text,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	created_by uuid,
	db_role name NOT NULL DEFAULT SESSION_USER,
	CHECK ((kind = 'prune') = (pruned_before IS NOT NULL)),
	CHECK ((kind = 'prune') = (pruned_from IS NOT NULL)),
	CHECK ((kind = 'prune') = (pruned_entries IS NOT NULL)),
	CHECK ((kind = 'prune') = (pruned_partly IS NOT NULL)),
	CHECK ((kind = 'digest') = (digest IS NOT NULL)),
	CHECK ((signature IS NULL) = (key_id IS NULL) AND (signature IS NULL) = (algorithm IS NULL))
);
CREATE INDEX anchors_block_idx ON audit.anchors (block_number, kind);
CREATE INDEX anchors_created_at_idx ON audit.anchors (created_at);
COMMENT ON TABLE audit.anchors IS 'Fixed points of the ledger: digests handed out, and what was pruned';
COMMENT ON COLUMN audit.anchors.anchor_id IS 'Identifies the anchor';
COMMENT ON COLUMN audit.anchors.kind IS 'digest: a digest was handed out; prune: entries or events before a time were removed';
COMMENT ON COLUMN audit.anchors.block_number IS 'Last block that the anchor covers';
COMMENT ON COLUMN audit.anchors.block_hash IS 'Hash of that block, 32 bytes';
COMMENT ON COLUMN audit.anchors.pruned_before IS 'prune: what was before this time was removed';
COMMENT ON COLUMN audit.anchors.pruned_from IS 'prune: whether entries of audit.log or security events were removed';
COMMENT ON COLUMN audit.anchors.pruned_entries IS 'prune: how many were removed';
COMMENT ON COLUMN audit.anchors.pruned_partly IS 'prune: of blocks that also have later ones, the ids removed; an object by block number';
COMMENT ON COLUMN audit.anchors.digest IS 'digest: what was handed out';
COMMENT ON COLUMN audit.anchors.algorithm IS 'Algorithm of the signature';
COMMENT ON COLUMN audit.anchors.key_id IS 'Key that signed';
COMMENT ON COLUMN audit.anchors.signature IS 'Signature of the anchor, 64 bytes; NULL when no key was set up';
COMMENT ON COLUMN audit.anchors.note IS 'Why it was made';
COMMENT ON COLUMN audit.anchors.created_at IS 'Time of its making';
COMMENT ON COLUMN audit.anchors.created_by IS 'Verified user who made it; NULL when none was known';
COMMENT ON COLUMN audit.anchors.db_role IS 'Database role that made it';

SELECT pg_catalog.pg_extension_config_dump('audit.blocks', '');
SELECT pg_catalog.pg_extension_config_dump('audit.anchors', '');
GRANT SELECT ON audit.blocks, audit.anchors TO sentient_admin;

-- How far back sealing looks, and what lies behind it all the same: src/capture/horizon.c
-- counts on the order of the columns, and on notes without index or trigger.  A crash
-- may empty both, and no subscriber is to have those of another cluster.
CREATE UNLOGGED TABLE audit.horizons (
	horizon_number bigint NOT NULL,
	entries_since timestamptz NOT NULL,
	from_transaction_id xid8,
	published_by xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()
);
CREATE UNLOGGED TABLE audit.horizon_notes (
	transaction_id xid8 NOT NULL,
	occurred_at timestamptz NOT NULL
);
COMMENT ON TABLE audit.horizons IS 'Times behind which sealing does not look for new entries, unless a note tells of one; kept by sealing';
COMMENT ON COLUMN audit.horizons.horizon_number IS 'The greatest is the latest';
COMMENT ON COLUMN audit.horizons.entries_since IS 'The time';
COMMENT ON COLUMN audit.horizons.from_transaction_id IS 'First transaction that is sure to have known of it; NULL until the next run';
COMMENT ON COLUMN audit.horizons.published_by IS 'Transaction that wrote the row';
COMMENT ON TABLE audit.horizon_notes IS 'Entries of audit.log whose time lies behind the horizon, as after the clock was set back, until they are sealed';
COMMENT ON COLUMN audit.horizon_notes.transaction_id IS 'Transaction that wrote such entries';
COMMENT ON COLUMN audit.horizon_notes.occurred_at IS 'Earliest time of one';
-- Transaction ids mean something in one cluster only.
SELECT pg_catalog.pg_extension_config_dump('audit.horizons', 'WHERE false');
SELECT pg_catalog.pg_extension_config_dump('audit.horizon_notes', 'WHERE false');
GRANT SELECT ON audit.horizons, audit.horizon_notes TO sentient_admin;

CREATE FUNCTION audit.seal(accept_unkeyed boolean DEFAULT false, OUT blocks bigint, OUT entries bigint, OUT refused bigint, OUT events bigint)
	RETURNS record
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_seal';
COMMENT ON FUNCTION audit.seal(boolean) IS
	'Seals what is committed and not sealed yet, as the scheduler does every second; how many blocks, entries of audit.log and security events, and how many of both were left out (refused) because their MAC is missing or wrong. accept_unkeyed seals those without a MAC as well, and marks their block. Errors: 55000 without the key of a signed chain or during a restore, 25001 in a transaction that cannot see the newest block, 22004 null. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.seal(boolean) TO sentient_admin;

CREATE FUNCTION audit.verify(from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL,
	OUT finding text, OUT block_number bigint, OUT audit_id bigint, OUT detail text, OUT event_id uuid)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'audit_verify';
COMMENT ON FUNCTION audit.verify(timestamptz, timestamptz) IS
	'Checks audit.log and audit.security_events against their ledger, all of them or those of a span of time with their blocks: a row for each thing that is wrong, none when all is well. Changes nothing, works on a standby. Error: 22023 when from_time is after to_time. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.verify(timestamptz, timestamptz) TO sentient_admin;

CREATE FUNCTION audit.proof(audit_id bigint) RETURNS jsonb
	LANGUAGE c STRICT STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_proof';
COMMENT ON FUNCTION audit.proof(bigint) IS
	'What shows without the server that an entry is in a signed block: its canonical bytes, the path through the Merkle tree, the block''s header and signature. Errors: 42704 when no block has the entry, XX001 when it was altered. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.proof(bigint) TO sentient_admin;

CREATE FUNCTION audit.proof_event(event_id uuid) RETURNS jsonb
	LANGUAGE c STRICT STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_proof_event';
COMMENT ON FUNCTION audit.proof_event(uuid) IS
	'The same of a security event. Errors: as audit.proof. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.proof_event(uuid) TO sentient_admin;

CREATE FUNCTION audit.leaf_hash(entry record) RETURNS bytea
	LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'audit_leaf_hash';
COMMENT ON FUNCTION audit.leaf_hash(record) IS
	'Leaf hash of a row of audit.log or audit.security_events, as audit.blocks.leaf_hashes has it, 32 bytes. Error: 42804 for any other row. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.leaf_hash(record) TO sentient_admin;

CREATE FUNCTION audit.digest(note text DEFAULT NULL) RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_digest';
COMMENT ON FUNCTION audit.digest(text) IS
	'The last block of the ledger in a few signed texts, to keep outside; records it in audit.anchors. Error: 55000 while there is no block. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.digest(text) TO sentient_admin;

CREATE FUNCTION audit.verify_digest(digest jsonb, OUT finding text, OUT block_number bigint, OUT audit_id bigint, OUT detail text, OUT event_id uuid)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'audit_verify_digest';
COMMENT ON FUNCTION audit.verify_digest(jsonb) IS
	'Checks a digest that was kept outside against the ledger: a row for each thing that is wrong, none when the ledger still has that block. Errors: 22004 null, 22023 for anything but a digest. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.verify_digest(jsonb) TO sentient_admin;

CREATE FUNCTION audit.prune(before timestamptz, note text DEFAULT NULL, OUT entries bigint, OUT blocks bigint, OUT events bigint)
	RETURNS record
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_prune';
COMMENT ON FUNCTION audit.prune(timestamptz, text) IS
	'Removes the sealed entries and security events of before a time, so that the rest stays verifiable; how many entries and events, and how many blocks have none left. What it removed is in signed rows of audit.anchors. Error: 22023 for a time that is not in the past. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.prune(timestamptz, text) TO sentient_admin;

CREATE TABLE audit.anchor_sinks (
	sink_name text PRIMARY KEY CHECK (sink_name <> ''),
	kind text NOT NULL CHECK (kind IN ('file', 'table', 'command')),
	target text[] NOT NULL,
	set_by name NOT NULL DEFAULT SESSION_USER,
	set_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
-- Apart from it, for the sinks are audited and their counters are not.
CREATE TABLE audit.anchor_exports (
	sink_name text PRIMARY KEY,
	exports bigint NOT NULL DEFAULT 0,
	last_block_number bigint,
	last_success_at timestamptz,
	failures bigint NOT NULL DEFAULT 0,
	last_error text,
	last_error_at timestamptz
);
COMMENT ON TABLE audit.anchor_sinks IS 'Where digests of the ledger are exported to; changed by audit.set_anchor_sink and audit.drop_anchor_sink';
COMMENT ON COLUMN audit.anchor_sinks.sink_name IS 'Name of the sink';
COMMENT ON COLUMN audit.anchor_sinks.kind IS 'file, table or command';
COMMENT ON COLUMN audit.anchor_sinks.target IS 'Directory; table; or program and its arguments';
COMMENT ON COLUMN audit.anchor_sinks.set_by IS 'Database role that set it';
COMMENT ON COLUMN audit.anchor_sinks.set_at IS 'When it was set';
COMMENT ON TABLE audit.anchor_exports IS 'What became of exports to the sinks';
COMMENT ON COLUMN audit.anchor_exports.sink_name IS 'The sink';
COMMENT ON COLUMN audit.anchor_exports.exports IS 'Number of digests that it took';
COMMENT ON COLUMN audit.anchor_exports.last_block_number IS 'Block of the last digest that it took';
COMMENT ON COLUMN audit.anchor_exports.last_success_at IS 'When it took it';
COMMENT ON COLUMN audit.anchor_exports.failures IS 'Number of digests that it did not take';
COMMENT ON COLUMN audit.anchor_exports.last_error IS 'Why it did not take the last of these';
COMMENT ON COLUMN audit.anchor_exports.last_error_at IS 'When that was';
SELECT pg_catalog.pg_extension_config_dump('audit.anchor_exports', '');
SELECT pg_catalog.pg_extension_config_dump('audit.anchor_sinks', '');
GRANT SELECT ON audit.anchor_sinks, audit.anchor_exports TO sentient_admin;

CREATE FUNCTION audit.set_anchor_sink(sink_name text, kind text, target text[]) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_set_anchor_sink';
COMMENT ON FUNCTION audit.set_anchor_sink(text, text, text[]) IS
	'Sets where digests of the ledger are exported to: file and a directory, command and a program with its arguments (both for superusers only), or table and a table with a column digest that the caller may insert into; it is inserted as the table''s owner. Errors: 42501, 22023, 42703, 22004. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.set_anchor_sink(text, text, text[]) TO sentient_admin;

CREATE FUNCTION audit.drop_anchor_sink(sink_name text) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_drop_anchor_sink';
COMMENT ON FUNCTION audit.drop_anchor_sink(text) IS
	'Removes a sink; whether there was one. A file or command sink is removed by superusers only. Error: 22004 null. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.drop_anchor_sink(text) TO sentient_admin;

CREATE FUNCTION audit.export_digest(OUT sink_name text, OUT exported boolean, OUT error text)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5 AS 'MODULE_PATHNAME', 'audit_export_digest';
COMMENT ON FUNCTION audit.export_digest() IS
	'Exports a digest to every sink now, as a worker does every sentient_edge.anchor_interval; a row for each sink. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.export_digest() TO sentient_admin;

CREATE FUNCTION audit.block_header(block_number bigint) RETURNS bytea
	LANGUAGE c STRICT STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_block_header';
COMMENT ON FUNCTION audit.block_header(bigint) IS
	'The bytes that the hash of a block is computed from, to check a chain without the server; NULL when there is no such block. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION audit.block_header(bigint) TO sentient_admin;
