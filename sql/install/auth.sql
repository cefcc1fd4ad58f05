/*
 * auth.sql
 *		Users, their sessions and their API keys.
 *
 * Passwords, tokens and keys are kept as hashes only, secrets that must be known
 * again are sealed.  Nobody below sentient_admin has any right here; clients go
 * through functions.
 */

CREATE SCHEMA auth;
COMMENT ON SCHEMA auth IS 'sentient_edge: users, sessions and API keys';
GRANT USAGE ON SCHEMA auth TO sentient_admin;

CREATE TABLE auth.users (
	user_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	username text NOT NULL CHECK (username ~ '^\S(.*\S)?$' AND pg_catalog.length(username) <= 128),
	email text CHECK (email ~ '^[^@\s]+@[^@\s]+$' AND pg_catalog.length(email) <= 320),
	password_hash text CHECK (password_hash <> ''),
	role text NOT NULL DEFAULT 'viewer' CHECK (role IN ('admin', 'operator', 'analyst', 'viewer')),
	status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
	full_name text,
	mfa_secret sentient_edge.sealed,
	failed_login_count integer NOT NULL DEFAULT 0 CHECK (failed_login_count >= 0),
	last_failed_login_at timestamptz,
	locked_until timestamptz,
	last_login_at timestamptz,
	password_changed_at timestamptz,
	metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE UNIQUE INDEX users_username_key ON auth.users (pg_catalog.lower(username));
CREATE UNIQUE INDEX users_email_key ON auth.users (pg_catalog.lower(email));
CREATE INDEX users_role_idx ON auth.users (role) WHERE status = 'active';
CREATE INDEX users_locked_idx ON auth.users (locked_until) WHERE locked_until IS NOT NULL;
COMMENT ON TABLE auth.users IS 'People and services that log in; not database roles';
COMMENT ON COLUMN auth.users.user_id IS 'Identifies the user in every other table';
COMMENT ON COLUMN auth.users.username IS 'Name to log in with, unique without regard to case';
COMMENT ON COLUMN auth.users.email IS 'Address, unique without regard to case';
COMMENT ON COLUMN auth.users.password_hash IS 'Salted hash of the password; NULL when the user cannot log in with one';
COMMENT ON COLUMN auth.users.role IS 'admin, operator, analyst or viewer, with the rights of the database role sentient_<role>';
COMMENT ON COLUMN auth.users.status IS 'active or disabled';
COMMENT ON COLUMN auth.users.full_name IS 'Name to show';
COMMENT ON COLUMN auth.users.mfa_secret IS 'Secret of the second factor, sealed; NULL when there is none';
COMMENT ON COLUMN auth.users.failed_login_count IS 'Failed logins since the last good one';
COMMENT ON COLUMN auth.users.last_failed_login_at IS 'Time of the last failed login';
COMMENT ON COLUMN auth.users.locked_until IS 'No login before this time; NULL when not locked';
COMMENT ON COLUMN auth.users.last_login_at IS 'Time of the last good login';
COMMENT ON COLUMN auth.users.password_changed_at IS 'Time when the password was last set';
COMMENT ON COLUMN auth.users.metadata IS 'Whatever else is known, an object';
COMMENT ON COLUMN auth.users.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN auth.users.updated_at IS 'Time of the row''s last change';

CREATE TABLE auth.user_sessions (
	session_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
	family_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	parent_id uuid CHECK (parent_id <> session_id),
	refresh_token_hash bytea NOT NULL UNIQUE CHECK (pg_catalog.octet_length(refresh_token_hash) = 32),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	expires_at timestamptz NOT NULL,
	family_expires_at timestamptz NOT NULL,
	refreshed_at timestamptz,
	revoked_at timestamptz,
	revoke_reason text,
	client_addr inet,
	user_agent text,
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	CHECK (expires_at > created_at),
	CHECK (family_expires_at >= expires_at),
	CHECK (revoke_reason IS NULL OR revoked_at IS NOT NULL)
);
CREATE INDEX user_sessions_user_idx ON auth.user_sessions (user_id, created_at DESC);
CREATE INDEX user_sessions_live_idx ON auth.user_sessions (user_id, expires_at) WHERE revoked_at IS NULL AND refreshed_at IS NULL;
CREATE INDEX user_sessions_family_idx ON auth.user_sessions (family_id, created_at);
CREATE INDEX user_sessions_parent_idx ON auth.user_sessions (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX user_sessions_expires_at_idx ON auth.user_sessions (expires_at);
COMMENT ON TABLE auth.user_sessions IS 'Refresh tokens, one row each; a refresh adds a row of the same family';
COMMENT ON COLUMN auth.user_sessions.session_id IS 'Identifies the token';
COMMENT ON COLUMN auth.user_sessions.user_id IS 'User who logged in';
COMMENT ON COLUMN auth.user_sessions.family_id IS 'Login that the token descends from; a token''s reuse revokes its family';
COMMENT ON COLUMN auth.user_sessions.parent_id IS 'Token that this one replaced; NULL for a login''s first. No foreign key, as expired tokens are removed';
COMMENT ON COLUMN auth.user_sessions.refresh_token_hash IS 'SHA-256 of the refresh token, 32 bytes; the token itself is not kept';
COMMENT ON COLUMN auth.user_sessions.created_at IS 'Time of issue';
COMMENT ON COLUMN auth.user_sessions.expires_at IS 'The token is not accepted after this time';
COMMENT ON COLUMN auth.user_sessions.family_expires_at IS 'No token of the family is accepted after this time, however often it is refreshed';
COMMENT ON COLUMN auth.user_sessions.refreshed_at IS 'Time when another token replaced this one; NULL for the newest';
COMMENT ON COLUMN auth.user_sessions.revoked_at IS 'Time of the revocation; NULL when not revoked';
COMMENT ON COLUMN auth.user_sessions.revoke_reason IS 'Why it was revoked, such as logout or reuse';
COMMENT ON COLUMN auth.user_sessions.client_addr IS 'Address of the client it was issued to';
COMMENT ON COLUMN auth.user_sessions.user_agent IS 'What the client calls itself';
COMMENT ON COLUMN auth.user_sessions.updated_at IS 'Time of the row''s last change';

CREATE TABLE auth.api_keys (
	key_id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
	name text NOT NULL CHECK (name ~ '\S'),
	prefix text NOT NULL UNIQUE CHECK (pg_catalog.length(prefix) BETWEEN 4 AND 32),
	key_hash bytea NOT NULL UNIQUE CHECK (pg_catalog.octet_length(key_hash) = 32),
	signing_secret sentient_edge.sealed,
	scopes text[] NOT NULL DEFAULT '{}' CHECK (pg_catalog.array_position(scopes, NULL) IS NULL),
	allowed_addresses cidr[] CHECK (pg_catalog.array_position(allowed_addresses, NULL) IS NULL),
	expires_at timestamptz CHECK (expires_at > created_at),
	revoked_at timestamptz,
	last_used_at timestamptz,
	last_used_addr inet,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE UNIQUE INDEX api_keys_name_key ON auth.api_keys (user_id, name) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_user_idx ON auth.api_keys (user_id);
CREATE INDEX api_keys_expires_at_idx ON auth.api_keys (expires_at) WHERE revoked_at IS NULL AND expires_at IS NOT NULL;
COMMENT ON TABLE auth.api_keys IS 'Keys of programs; a key acts for its user within its scopes';
COMMENT ON COLUMN auth.api_keys.key_id IS 'Identifies the key';
COMMENT ON COLUMN auth.api_keys.user_id IS 'User for whom the key acts';
COMMENT ON COLUMN auth.api_keys.name IS 'Name of the key, unique among the user''s keys that are not revoked';
COMMENT ON COLUMN auth.api_keys.prefix IS 'Begin of the key, to find it by; not secret';
COMMENT ON COLUMN auth.api_keys.key_hash IS 'SHA-256 of the key, 32 bytes; the key itself is not kept';
COMMENT ON COLUMN auth.api_keys.signing_secret IS 'Secret that the program signs its requests with, sealed; NULL when it sends the key itself';
COMMENT ON COLUMN auth.api_keys.scopes IS 'What the key may be used for';
COMMENT ON COLUMN auth.api_keys.allowed_addresses IS 'Networks that it may be used from; NULL is anywhere';
COMMENT ON COLUMN auth.api_keys.expires_at IS 'The key is not accepted after this time; NULL is no limit';
COMMENT ON COLUMN auth.api_keys.revoked_at IS 'Time of the revocation; NULL when not revoked';
COMMENT ON COLUMN auth.api_keys.last_used_at IS 'Time of the last use, to the minute or so';
COMMENT ON COLUMN auth.api_keys.last_used_addr IS 'Address of the last use';
COMMENT ON COLUMN auth.api_keys.created_at IS 'Time of the row''s insertion';
COMMENT ON COLUMN auth.api_keys.updated_at IS 'Time of the row''s last change';

CREATE TRIGGER touch_updated_at BEFORE UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON auth.user_sessions FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON auth.api_keys FOR EACH ROW EXECUTE FUNCTION core.touch_updated_at();

-- A sealed value belongs to its row.
CREATE TRIGGER require_context BEFORE INSERT OR UPDATE OF user_id, mfa_secret ON auth.users
	FOR EACH ROW EXECUTE FUNCTION sentient_edge.require_context('mfa_secret', 'user_id');
CREATE TRIGGER require_context BEFORE INSERT OR UPDATE OF key_id, signing_secret ON auth.api_keys
	FOR EACH ROW EXECUTE FUNCTION sentient_edge.require_context('signing_secret', 'key_id');

CREATE FUNCTION auth.set_user_mfa_secret(user_id uuid, mfa_secret text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE auth.users u SET mfa_secret = sentient_edge.seal($2, 'auth.users.mfa_secret:' || $1) WHERE u.user_id = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'user "%" does not exist', user_id USING ERRCODE = 'no_data_found';
	END IF;
END
$$;
COMMENT ON FUNCTION auth.set_user_mfa_secret(uuid, text) IS
'Seals the secret of a user''s second factor; NULL removes it. Errors: P0002 unknown user, 55000 without a key. May be called by sentient_admin.';

CREATE FUNCTION auth.user_mfa_secret(user_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT sentient_edge.unseal(u.mfa_secret, 'auth.users.mfa_secret:' || u.user_id) FROM auth.users u WHERE u.user_id = $1
$$;
COMMENT ON FUNCTION auth.user_mfa_secret(uuid) IS
'The secret of a user''s second factor in clear; NULL when there is none. A security event. Errors: SE002 when the value is not that of this user or was changed, 55000 without a key. May be called by sentient_admin.';

CREATE FUNCTION auth.set_api_key_signing_secret(key_id uuid, signing_secret text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE auth.api_keys k SET signing_secret = sentient_edge.seal($2, 'auth.api_keys.signing_secret:' || $1) WHERE k.key_id = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'API key "%" does not exist', key_id USING ERRCODE = 'no_data_found';
	END IF;
END
$$;
COMMENT ON FUNCTION auth.set_api_key_signing_secret(uuid, text) IS
'Seals the secret with which a program signs its requests; NULL removes it. Errors: P0002 unknown key, 55000 without a master key. May be called by sentient_admin.';

CREATE FUNCTION auth.api_key_signing_secret(key_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT sentient_edge.unseal(k.signing_secret, 'auth.api_keys.signing_secret:' || k.key_id) FROM auth.api_keys k WHERE k.key_id = $1
$$;
COMMENT ON FUNCTION auth.api_key_signing_secret(uuid) IS
'The secret with which a program signs its requests in clear; NULL when there is none. A security event. Errors: SE002 when the value is not that of this key or was changed, 55000 without a master key. May be called by sentient_admin.';
GRANT EXECUTE ON FUNCTION auth.set_user_mfa_secret(uuid, text), auth.user_mfa_secret(uuid),
	auth.set_api_key_signing_secret(uuid, text), auth.api_key_signing_secret(uuid) TO sentient_admin;

-- What the fleet's tables say of users.
ALTER TABLE core.missions ADD FOREIGN KEY (created_by) REFERENCES auth.users ON DELETE SET NULL;
ALTER TABLE core.mission_drones ADD FOREIGN KEY (assigned_by) REFERENCES auth.users ON DELETE SET NULL;
ALTER TABLE core.messages ADD FOREIGN KEY (sender_user_id) REFERENCES auth.users ON DELETE SET NULL;
ALTER TABLE core.messages ADD FOREIGN KEY (recipient_user_id) REFERENCES auth.users ON DELETE SET NULL;
ALTER TABLE core.ai_models ADD FOREIGN KEY (created_by) REFERENCES auth.users ON DELETE SET NULL;

SELECT pg_catalog.pg_extension_config_dump('auth.users', '');
SELECT pg_catalog.pg_extension_config_dump('auth.user_sessions', '');
SELECT pg_catalog.pg_extension_config_dump('auth.api_keys', '');

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.users, auth.user_sessions, auth.api_keys TO sentient_admin;
