/*
 * sealed.sql
 *		The type of sealed values: envelopes of AES-256-GCM, which are opened with
 *		the context they were sealed for.
 *
 * There is no cast to or from other types.  Text and binary form are the envelope,
 * so that what a dump carries is ciphertext, and a restore cannot seal it twice.
 */

CREATE TYPE sentient_edge.sealed;

CREATE FUNCTION sentient_edge.sealed_in(cstring) RETURNS sentient_edge.sealed
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sealed_in';
COMMENT ON FUNCTION sentient_edge.sealed_in(cstring) IS 'Text input of type sealed: an envelope with the prefix "sealed:", nothing else';

CREATE FUNCTION sentient_edge.sealed_out(sentient_edge.sealed) RETURNS cstring
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sealed_out';
COMMENT ON FUNCTION sentient_edge.sealed_out(sentient_edge.sealed) IS 'Text output of type sealed: the envelope';

CREATE FUNCTION sentient_edge.sealed_recv(internal) RETURNS sentient_edge.sealed
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sealed_recv';
COMMENT ON FUNCTION sentient_edge.sealed_recv(internal) IS 'Binary input of type sealed: an envelope with the prefix "sealed:", nothing else';

CREATE FUNCTION sentient_edge.sealed_send(sentient_edge.sealed) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sealed_send';
COMMENT ON FUNCTION sentient_edge.sealed_send(sentient_edge.sealed) IS 'Binary output of type sealed: the envelope';

-- Ciphertext does not compress.
CREATE TYPE sentient_edge.sealed (
	INPUT = sentient_edge.sealed_in,
	OUTPUT = sentient_edge.sealed_out,
	RECEIVE = sentient_edge.sealed_recv,
	SEND = sentient_edge.sealed_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = external
);
COMMENT ON TYPE sentient_edge.sealed IS
'A value encrypted with AES-256-GCM for one context. Made by sentient_edge.seal(), opened by sentient_edge.unseal().';

-- Sealing and opening

CREATE FUNCTION sentient_edge.seal(plaintext text, context text, searchable boolean DEFAULT false) RETURNS sentient_edge.sealed
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'sealed_seal';
COMMENT ON FUNCTION sentient_edge.seal(text, text, boolean) IS
'Encrypts a text for a context of 1 to 1024 bytes (schema.table.column:key); searchable adds a tag that is equal for equal texts of the same column. Null for a null text. 55000 without a key. For sentient_operator.';

CREATE FUNCTION sentient_edge.seal_bytes(plaintext bytea, context text, searchable boolean DEFAULT false) RETURNS sentient_edge.sealed
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'sealed_seal_bytes';
COMMENT ON FUNCTION sentient_edge.seal_bytes(bytea, text, boolean) IS
'Encrypts bytes, as sentient_edge.seal() does a text. For sentient_operator.';

CREATE FUNCTION sentient_edge.unseal(value sentient_edge.sealed, context text) RETURNS text
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'sealed_unseal';
COMMENT ON FUNCTION sentient_edge.unseal(sentient_edge.sealed, text) IS
'Decrypts a value that was sealed for the context. SE002 when it was not, was changed, or is of an unknown key; 55000 without a key. Counted, and a security event. For sentient_admin.';

CREATE FUNCTION sentient_edge.unseal_bytes(value sentient_edge.sealed, context text) RETURNS bytea
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'sealed_unseal_bytes';
COMMENT ON FUNCTION sentient_edge.unseal_bytes(sentient_edge.sealed, text) IS
'Decrypts to bytes, as sentient_edge.unseal() does to a text. For sentient_admin.';

CREATE FUNCTION sentient_edge.try_unseal(value sentient_edge.sealed, context text) RETURNS text
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'sealed_try_unseal';
COMMENT ON FUNCTION sentient_edge.try_unseal(sentient_edge.sealed, text) IS
'As sentient_edge.unseal(), but null where that fails; failures are counted. For sentient_admin.';

CREATE FUNCTION sentient_edge.try_unseal_bytes(value sentient_edge.sealed, context text) RETURNS bytea
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'sealed_try_unseal_bytes';
COMMENT ON FUNCTION sentient_edge.try_unseal_bytes(sentient_edge.sealed, text) IS
'As sentient_edge.unseal_bytes(), but null where that fails; failures are counted. For sentient_admin.';

CREATE FUNCTION sentient_edge.sealed_counts(OUT opened bigint, OUT refused bigint) RETURNS record
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sealed_counts';
COMMENT ON FUNCTION sentient_edge.sealed_counts() IS
'Values of the whole cluster that were unsealed, and that could not be, since the server started; nulls when the library is not preloaded. For sentient_admin.';

-- Contexts

CREATE FUNCTION sentient_edge.sealed_context(table_name regclass, column_name name, VARIADIC key_values text[]) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sealed_context';
COMMENT ON FUNCTION sentient_edge.sealed_context(regclass, name, text[]) IS
'The context of a row''s value, schema.table.column:key, as the trigger sentient_edge.require_context() demands it; keys in the order of the trigger''s arguments. For sentient_operator.';

CREATE FUNCTION sentient_edge.require_context() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'sealed_require_context';
COMMENT ON FUNCTION sentient_edge.require_context() IS
'Trigger BEFORE INSERT OR UPDATE FOR EACH ROW: require_context(''column'', ''key column'', ...) takes a sealed value only if it was sealed for its own row (SE002). For triggers only.';

-- Search

CREATE FUNCTION sentient_edge.search_token(plaintext text, context text) RETURNS sentient_edge.sealed
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'sealed_search_token';
COMMENT ON FUNCTION sentient_edge.search_token(text, text) IS
'What a searchable value with this text is equal to, in the column that the context names up to its first colon, under the active search key. Whoever may call it can try guesses. For sentient_operator.';

CREATE FUNCTION sentient_edge.search_tokens(plaintext text, context text) RETURNS sentient_edge.sealed[]
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'sealed_search_tokens';
COMMENT ON FUNCTION sentient_edge.search_tokens(text, text) IS
'The search tokens under all search keys that values may have, the active one first: for column = ANY (...) while keys are being rotated. For sentient_operator.';

-- What is told without a key

CREATE FUNCTION sentient_edge.sealed_key_id(value sentient_edge.sealed) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sealed_key_id';
COMMENT ON FUNCTION sentient_edge.sealed_key_id(sentient_edge.sealed) IS
'Data key that a value is encrypted with; null for a search token or an unknown version. For sentient_admin.';

CREATE FUNCTION sentient_edge.sealed_search_key_id(value sentient_edge.sealed) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sealed_search_key_id';
COMMENT ON FUNCTION sentient_edge.sealed_search_key_id(sentient_edge.sealed) IS
'Data key of the search tag of a value or token; null where there is none. For sentient_operator.';

-- Operators: searchable values are equal when key and tag of the search are.  They
-- are in pg_catalog, where they are found whatever search_path is: by everybody who
-- compares a column, and by functions that trust no other schema.

CREATE FUNCTION sentient_edge.sealed_eq(sentient_edge.sealed, sentient_edge.sealed) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_eq';
COMMENT ON FUNCTION sentient_edge.sealed_eq(sentient_edge.sealed, sentient_edge.sealed) IS 'Implementation of the = operator: equal search tags, or else equal bytes. For sentient_viewer.';
CREATE FUNCTION sentient_edge.sealed_ne(sentient_edge.sealed, sentient_edge.sealed) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_ne';
COMMENT ON FUNCTION sentient_edge.sealed_ne(sentient_edge.sealed, sentient_edge.sealed) IS 'Implementation of the <> operator. For sentient_viewer.';
CREATE FUNCTION sentient_edge.sealed_lt(sentient_edge.sealed, sentient_edge.sealed) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_lt';
COMMENT ON FUNCTION sentient_edge.sealed_lt(sentient_edge.sealed, sentient_edge.sealed) IS 'Implementation of the < operator, an order without meaning. For sentient_viewer.';
CREATE FUNCTION sentient_edge.sealed_le(sentient_edge.sealed, sentient_edge.sealed) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_le';
COMMENT ON FUNCTION sentient_edge.sealed_le(sentient_edge.sealed, sentient_edge.sealed) IS 'Implementation of the <= operator, an order without meaning. For sentient_viewer.';
CREATE FUNCTION sentient_edge.sealed_gt(sentient_edge.sealed, sentient_edge.sealed) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_gt';
COMMENT ON FUNCTION sentient_edge.sealed_gt(sentient_edge.sealed, sentient_edge.sealed) IS 'Implementation of the > operator, an order without meaning. For sentient_viewer.';
CREATE FUNCTION sentient_edge.sealed_ge(sentient_edge.sealed, sentient_edge.sealed) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_ge';
COMMENT ON FUNCTION sentient_edge.sealed_ge(sentient_edge.sealed, sentient_edge.sealed) IS 'Implementation of the >= operator, an order without meaning. For sentient_viewer.';
CREATE FUNCTION sentient_edge.sealed_cmp(sentient_edge.sealed, sentient_edge.sealed) RETURNS integer
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_cmp';
COMMENT ON FUNCTION sentient_edge.sealed_cmp(sentient_edge.sealed, sentient_edge.sealed) IS 'Order of btree indexes. For sentient_viewer.';
CREATE FUNCTION sentient_edge.sealed_sortsupport(internal) RETURNS void
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_sortsupport';
COMMENT ON FUNCTION sentient_edge.sealed_sortsupport(internal) IS 'Sort support of btree indexes. For the server only.';
CREATE FUNCTION sentient_edge.sealed_hash(sentient_edge.sealed) RETURNS integer
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_hash';
COMMENT ON FUNCTION sentient_edge.sealed_hash(sentient_edge.sealed) IS 'Hash, equal for equal values. For sentient_viewer.';
CREATE FUNCTION sentient_edge.sealed_hash_extended(sentient_edge.sealed, bigint) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'MODULE_PATHNAME', 'sealed_hash_extended';
COMMENT ON FUNCTION sentient_edge.sealed_hash_extended(sentient_edge.sealed, bigint) IS 'Hash of 64 bits with a seed, for hash partitions. For sentient_viewer.';

CREATE OPERATOR pg_catalog.= (
	LEFTARG = sentient_edge.sealed, RIGHTARG = sentient_edge.sealed, FUNCTION = sentient_edge.sealed_eq,
	COMMUTATOR = OPERATOR(pg_catalog.=), NEGATOR = OPERATOR(pg_catalog.<>),
	RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES, MERGES
);
COMMENT ON OPERATOR pg_catalog.= (sentient_edge.sealed, sentient_edge.sealed) IS 'equal';
CREATE OPERATOR pg_catalog.<> (
	LEFTARG = sentient_edge.sealed, RIGHTARG = sentient_edge.sealed, FUNCTION = sentient_edge.sealed_ne,
	COMMUTATOR = OPERATOR(pg_catalog.<>), NEGATOR = OPERATOR(pg_catalog.=),
	RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (sentient_edge.sealed, sentient_edge.sealed) IS 'not equal';
CREATE OPERATOR pg_catalog.< (
	LEFTARG = sentient_edge.sealed, RIGHTARG = sentient_edge.sealed, FUNCTION = sentient_edge.sealed_lt,
	COMMUTATOR = OPERATOR(pg_catalog.>), NEGATOR = OPERATOR(pg_catalog.>=),
	RESTRICT = pg_catalog.scalarltsel, JOIN = pg_catalog.scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (sentient_edge.sealed, sentient_edge.sealed) IS 'less than';
CREATE OPERATOR pg_catalog.<= (
	LEFTARG = sentient_edge.sealed, RIGHTARG = sentient_edge.sealed, FUNCTION = sentient_edge.sealed_le,
	COMMUTATOR = OPERATOR(pg_catalog.>=), NEGATOR = OPERATOR(pg_catalog.>),
	RESTRICT = pg_catalog.scalarlesel, JOIN = pg_catalog.scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (sentient_edge.sealed, sentient_edge.sealed) IS 'less than or equal';
CREATE OPERATOR pg_catalog.> (
	LEFTARG = sentient_edge.sealed, RIGHTARG = sentient_edge.sealed, FUNCTION = sentient_edge.sealed_gt,
	COMMUTATOR = OPERATOR(pg_catalog.<), NEGATOR = OPERATOR(pg_catalog.<=),
	RESTRICT = pg_catalog.scalargtsel, JOIN = pg_catalog.scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (sentient_edge.sealed, sentient_edge.sealed) IS 'greater than';
CREATE OPERATOR pg_catalog.>= (
	LEFTARG = sentient_edge.sealed, RIGHTARG = sentient_edge.sealed, FUNCTION = sentient_edge.sealed_ge,
	COMMUTATOR = OPERATOR(pg_catalog.<=), NEGATOR = OPERATOR(pg_catalog.<),
	RESTRICT = pg_catalog.scalargesel, JOIN = pg_catalog.scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (sentient_edge.sealed, sentient_edge.sealed) IS 'greater than or equal';

-- Equal values differ in their bytes: no equalimage, and so no deduplication.
CREATE OPERATOR CLASS sentient_edge.sealed_ops
	DEFAULT FOR TYPE sentient_edge.sealed USING btree AS
	OPERATOR 1 pg_catalog.< (sentient_edge.sealed, sentient_edge.sealed),
	OPERATOR 2 pg_catalog.<= (sentient_edge.sealed, sentient_edge.sealed),
	OPERATOR 3 pg_catalog.= (sentient_edge.sealed, sentient_edge.sealed),
	OPERATOR 4 pg_catalog.>= (sentient_edge.sealed, sentient_edge.sealed),
	OPERATOR 5 pg_catalog.> (sentient_edge.sealed, sentient_edge.sealed),
	FUNCTION 1 sentient_edge.sealed_cmp(sentient_edge.sealed, sentient_edge.sealed),
	FUNCTION 2 sentient_edge.sealed_sortsupport(internal);
COMMENT ON OPERATOR CLASS sentient_edge.sealed_ops USING btree IS 'Searchable sealed values by their tags';

CREATE OPERATOR CLASS sentient_edge.sealed_ops
	DEFAULT FOR TYPE sentient_edge.sealed USING hash AS
	OPERATOR 1 pg_catalog.= (sentient_edge.sealed, sentient_edge.sealed),
	FUNCTION 1 sentient_edge.sealed_hash(sentient_edge.sealed),
	FUNCTION 2 sentient_edge.sealed_hash_extended(sentient_edge.sealed, bigint);
COMMENT ON OPERATOR CLASS sentient_edge.sealed_ops USING hash IS 'Searchable sealed values by their tags';

-- Who sees a column may compare it; who writes may seal; who opens holds all.
GRANT EXECUTE ON FUNCTION sentient_edge.sealed_eq(sentient_edge.sealed, sentient_edge.sealed),
	sentient_edge.sealed_ne(sentient_edge.sealed, sentient_edge.sealed),
	sentient_edge.sealed_lt(sentient_edge.sealed, sentient_edge.sealed),
	sentient_edge.sealed_le(sentient_edge.sealed, sentient_edge.sealed),
	sentient_edge.sealed_gt(sentient_edge.sealed, sentient_edge.sealed),
	sentient_edge.sealed_ge(sentient_edge.sealed, sentient_edge.sealed),
	sentient_edge.sealed_cmp(sentient_edge.sealed, sentient_edge.sealed),
	sentient_edge.sealed_hash(sentient_edge.sealed),
	sentient_edge.sealed_hash_extended(sentient_edge.sealed, bigint) TO sentient_viewer;
GRANT EXECUTE ON FUNCTION sentient_edge.seal(text, text, boolean), sentient_edge.seal_bytes(bytea, text, boolean),
	sentient_edge.sealed_context(regclass, name, text[]),
	sentient_edge.search_token(text, text), sentient_edge.search_tokens(text, text) TO sentient_operator;
GRANT EXECUTE ON FUNCTION sentient_edge.unseal(sentient_edge.sealed, text), sentient_edge.unseal_bytes(sentient_edge.sealed, text),
	sentient_edge.try_unseal(sentient_edge.sealed, text), sentient_edge.try_unseal_bytes(sentient_edge.sealed, text),
	sentient_edge.sealed_counts(), sentient_edge.sealed_key_id(sentient_edge.sealed),
	sentient_edge.sealed_search_key_id(sentient_edge.sealed) TO sentient_admin;
