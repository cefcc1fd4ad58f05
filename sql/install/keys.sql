/*
 * keys.sql
 *		Data keys, wrapped by the server's master key, and what administrators do
 *		with them.
 */

CREATE TABLE sentient_edge.data_keys (
	key_id uuid PRIMARY KEY,
	purpose text NOT NULL CHECK (purpose IN ('field', 'search', 'audit_mac', 'ledger', 'token')),
	state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'decrypt_only', 'destroyed')),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	rotated_at timestamptz,
	destroyed_at timestamptz,
	master_fingerprint text NOT NULL,
	wrapped_key bytea,
	public_key bytea,
	reserved_messages bigint NOT NULL DEFAULT 0 CHECK (reserved_messages >= 0),
	CHECK ((state = 'destroyed') = (wrapped_key IS NULL))
);
CREATE UNIQUE INDEX data_keys_active ON sentient_edge.data_keys (purpose) WHERE state = 'active';
COMMENT ON TABLE sentient_edge.data_keys IS 'Data keys of this database, wrapped by a master key of the server; written by the functions for keys only';
COMMENT ON COLUMN sentient_edge.data_keys.key_id IS 'The key''s name; what it has made carries it';
COMMENT ON COLUMN sentient_edge.data_keys.purpose IS 'field (sealed values), search (search tags), audit_mac, ledger (signatures) or token';
COMMENT ON COLUMN sentient_edge.data_keys.state IS 'active (one for each purpose), decrypt_only (opens and verifies what it has made) or destroyed';
COMMENT ON COLUMN sentient_edge.data_keys.created_at IS 'When it was made';
COMMENT ON COLUMN sentient_edge.data_keys.rotated_at IS 'When it was no longer active';
COMMENT ON COLUMN sentient_edge.data_keys.destroyed_at IS 'When it was destroyed';
COMMENT ON COLUMN sentient_edge.data_keys.master_fingerprint IS 'Which master key wraps it';
COMMENT ON COLUMN sentient_edge.data_keys.wrapped_key IS 'Nonce, encrypted key and tag (AES-256-GCM, bound to the other columns but state); null once destroyed';
COMMENT ON COLUMN sentient_edge.data_keys.public_key IS 'Of a ledger key, the Ed25519 public key: what verifies its signatures, also when the key is destroyed';
COMMENT ON COLUMN sentient_edge.data_keys.reserved_messages IS 'Messages that it has encrypted at most; counted ahead, so that a crash loses none';
SELECT pg_catalog.pg_extension_config_dump('sentient_edge.data_keys', '');
GRANT SELECT (key_id, purpose, state, created_at, rotated_at, destroyed_at, master_fingerprint, public_key, reserved_messages)
	ON sentient_edge.data_keys TO sentient_admin;

CREATE FUNCTION sentient_edge.retire_data_key() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NEW.state = 'active' THEN
		UPDATE sentient_edge.data_keys SET state = 'decrypt_only', rotated_at = clock_timestamp()
		 WHERE purpose = NEW.purpose AND state = 'active' AND key_id <> NEW.key_id;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION sentient_edge.retire_data_key() IS
	'Trigger of sentient_edge.data_keys: a new active key takes the place of the one before, also when a dump brings it.';
CREATE FUNCTION sentient_edge.data_keys_changed() RETURNS trigger
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'data_keys_changed';
COMMENT ON FUNCTION sentient_edge.data_keys_changed() IS
	'Trigger of sentient_edge.data_keys: has every session read the keys again.';

CREATE TRIGGER retire_data_key BEFORE INSERT ON sentient_edge.data_keys
	FOR EACH ROW EXECUTE FUNCTION sentient_edge.retire_data_key();
CREATE TRIGGER data_keys_changed AFTER INSERT OR DELETE OR TRUNCATE
	OR UPDATE OF key_id, purpose, state, created_at, master_fingerprint, wrapped_key, public_key ON sentient_edge.data_keys
	FOR EACH STATEMENT EXECUTE FUNCTION sentient_edge.data_keys_changed();
ALTER TABLE sentient_edge.data_keys ENABLE ALWAYS TRIGGER retire_data_key;
ALTER TABLE sentient_edge.data_keys ENABLE ALWAYS TRIGGER data_keys_changed;

CREATE FUNCTION sentient_edge.key_status(
	OUT kind text, OUT key_id uuid, OUT purpose text, OUT state text, OUT master_fingerprint text, OUT source text,
	OUT created_at timestamptz, OUT rotated_at timestamptz, OUT destroyed_at timestamptz, OUT messages bigint, OUT problem text)
	RETURNS SETOF record
	LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'key_status';
COMMENT ON FUNCTION sentient_edge.key_status() IS
	'The master keys that the server has read, by fingerprint and source, and the data keys of this database with their states, ages and messages; problem says what is wrong with one. Never tells bytes of a key. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION sentient_edge.key_status() TO sentient_admin;

CREATE FUNCTION sentient_edge.rotate_data_key(purpose text) RETURNS uuid
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rotate_data_key';
COMMENT ON FUNCTION sentient_edge.rotate_data_key(text) IS
	'Makes a new active data key for a purpose and returns its id; the one before still decrypts. A transaction of its own does it, which the caller''s rollback does not undo. Errors: 22004 null, 22023 unknown purpose, 55000 without a master key or when no background worker can do it, 25006 on a standby. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION sentient_edge.rotate_data_key(text) TO sentient_admin;

CREATE FUNCTION sentient_edge.rotate_master_key() RETURNS integer
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rotate_master_key';
COMMENT ON FUNCTION sentient_edge.rotate_master_key() IS
	'Wraps by the active master key every data key that another one wraps, all or none, and returns how many. Errors: 55000 without a master key, or when one of the others is not known to this server; 25001 in a transaction above READ COMMITTED; 25006 on a standby. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION sentient_edge.rotate_master_key() TO sentient_admin;

CREATE FUNCTION sentient_edge.destroy_data_key(key_id uuid, force boolean DEFAULT false) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'destroy_data_key';
COMMENT ON FUNCTION sentient_edge.destroy_data_key(uuid, boolean) IS
	'Destroys a data key; false when it was destroyed before. Without force only after a scan of the database has proved that no stored value needs it; with force these values are lost for good. Errors: 22004 null, 42704 unknown key, 55006 the key is active or may be in use, 2BP01 stored values need it, 25001 in a transaction above READ COMMITTED, 25006 on a standby. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION sentient_edge.destroy_data_key(uuid, boolean) TO sentient_admin;
