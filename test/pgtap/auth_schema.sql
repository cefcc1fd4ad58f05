-- auth: users, sessions, API keys.
BEGIN;
SELECT plan(25);

SELECT tables_are('auth', ARRAY['users', 'user_sessions', 'api_keys']);
SELECT columns_are('auth', 'users', ARRAY['user_id', 'username', 'email', 'password_hash', 'role', 'status', 'full_name', 'mfa_secret',
	'failed_login_count', 'last_failed_login_at', 'locked_until', 'last_login_at', 'password_changed_at', 'metadata', 'created_at', 'updated_at']);
SELECT columns_are('auth', 'user_sessions', ARRAY['session_id', 'user_id', 'family_id', 'parent_id', 'refresh_token_hash', 'created_at',
	'expires_at', 'family_expires_at', 'refreshed_at', 'revoked_at', 'revoke_reason', 'client_addr', 'user_agent', 'updated_at']);
SELECT columns_are('auth', 'api_keys', ARRAY['key_id', 'user_id', 'name', 'prefix', 'key_hash', 'signing_secret', 'scopes', 'allowed_addresses', 'expires_at',
	'revoked_at', 'last_used_at', 'last_used_addr', 'created_at', 'updated_at']);
SELECT col_is_pk('auth', 'users', 'user_id', 'key of users');
SELECT col_is_pk('auth', 'user_sessions', 'session_id', 'key of user_sessions');
SELECT col_is_pk('auth', 'api_keys', 'key_id', 'key of api_keys');
SELECT fk_ok('auth', 'user_sessions', 'user_id', 'auth', 'users', 'user_id');
SELECT fk_ok('auth', 'api_keys', 'user_id', 'auth', 'users', 'user_id');
SELECT col_type_is('auth', 'api_keys', 'allowed_addresses', 'cidr[]', 'allowed addresses are networks');

INSERT INTO auth.users (user_id, username, email) VALUES ('00000000-0000-4000-8000-00000000000a', 'Ada', 'Ada@example.org');
SELECT results_eq($$SELECT role, status, failed_login_count FROM auth.users WHERE username = 'Ada'$$,
	$$VALUES ('viewer', 'active', 0)$$, 'a new user is an active viewer');
SELECT throws_ok($$INSERT INTO auth.users (username) VALUES ('ADA')$$, '23505', NULL, 'a user name is unique without regard to case');
SELECT throws_ok($$INSERT INTO auth.users (username, email) VALUES ('eve', 'ada@EXAMPLE.org')$$, '23505', NULL, 'so is an address');
SELECT throws_ok($$INSERT INTO auth.users (username) VALUES (' eve')$$, '23514', NULL, 'a user name has no blanks around it');
SELECT throws_ok($$INSERT INTO auth.users (username, email) VALUES ('eve', 'nowhere')$$, '23514', NULL, 'an address has an @');
SELECT throws_ok($$INSERT INTO auth.users (username, role) VALUES ('eve', 'root')$$, '23514', NULL, 'an unknown role');
SELECT throws_ok($$INSERT INTO auth.users (username, status) VALUES ('eve', 'odd')$$, '23514', NULL, 'an unknown status');
SELECT throws_ok($$INSERT INTO auth.user_sessions (user_id, refresh_token_hash, expires_at, family_expires_at)
	VALUES ('00000000-0000-4000-8000-00000000000a', 'token', now() + '1 hour', now() + '1 day')$$, '23514', NULL, 'a token itself is not kept');
SELECT throws_ok($$INSERT INTO auth.user_sessions (user_id, refresh_token_hash, expires_at, family_expires_at)
	VALUES ('00000000-0000-4000-8000-00000000000a', sha256('a'), now() - '1 hour'::interval, now())$$, '23514', NULL, 'a session ends after it begins');
INSERT INTO auth.user_sessions (user_id, refresh_token_hash, expires_at, family_expires_at)
	VALUES ('00000000-0000-4000-8000-00000000000a', sha256('a'), now() + '1 hour', now() + '1 day');
SELECT throws_ok($$INSERT INTO auth.user_sessions (user_id, refresh_token_hash, expires_at, family_expires_at)
	VALUES ('00000000-0000-4000-8000-00000000000a', sha256('a'), now() + '1 hour', now() + '1 day')$$, '23505', NULL, 'a token is issued once');
INSERT INTO auth.api_keys (user_id, name, prefix, key_hash) VALUES ('00000000-0000-4000-8000-00000000000a', 'probe', 'se_1234', sha256('k'));
SELECT throws_ok($$INSERT INTO auth.api_keys (user_id, name, prefix, key_hash)
	VALUES ('00000000-0000-4000-8000-00000000000a', 'probe', 'se_1235', sha256('l'))$$, '23505', NULL, 'names of a user''s keys are unique');
UPDATE auth.api_keys SET revoked_at = now();
SELECT lives_ok($$INSERT INTO auth.api_keys (user_id, name, prefix, key_hash)
	VALUES ('00000000-0000-4000-8000-00000000000a', 'probe', 'se_1235', sha256('l'))$$, 'a revoked key frees its name');
SELECT throws_ok($$UPDATE auth.api_keys SET scopes = '{ingest,NULL}'$$, '23514', NULL, 'a scope is not null');
INSERT INTO core.missions (name, created_by) VALUES ('pgtap', '00000000-0000-4000-8000-00000000000a');
DELETE FROM auth.users WHERE username = 'Ada';
SELECT results_eq($$SELECT created_by FROM core.missions WHERE name = 'pgtap'$$, 'VALUES (NULL::uuid)', 'a mission outlives the user who made it');
SELECT is_empty('SELECT session_id FROM auth.user_sessions UNION ALL SELECT key_id FROM auth.api_keys', 'sessions and keys do not');

SELECT * FROM finish();
ROLLBACK;
