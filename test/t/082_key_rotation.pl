# 082_key_rotation.pl
#		The life of keys: first use by many, rotation of data keys and master keys
#		without downtime, kills in the middle, dumps and standbys with and without
#		the key, exchanged rows, counted messages, destruction, and who may do what.

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(start finish);
use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my ($key_a, $key_b, $key_c) = map { sprintf '%064x', 0xfeed0000 + $_ } 1 .. 3;

# The audit trail and its ledger have keys of their own, made when they need them.
my $ours = "purpose IN ('field', 'search', 'token')";
my $to_wrap = q{SELECT count(*) FROM sentient_edge.data_keys WHERE state <> 'destroyed' AND master_fingerprint <>
	(SELECT master_fingerprint FROM sentient_edge.key_status() WHERE kind = 'master key' AND state = 'active')};
my $count;

delete @ENV{qw(SENTIENT_EDGE_MASTER_KEY DATABASE_ENCRYPTION_KEY)};

# Start or restart a server whose key file has these keys; the active one first.
sub with_keys
{
	my ($server, @keys) = @_;
	my $file = $server->basedir . '/master.key';

	$server->stop('fast') if $server->{_pid};
	unlink $file;
	PostgreSQL::Test::Utils::append_to_file($file, join '', map { "$_\n" } @keys);
	chmod 0600, $file;
	$server->start;
	return;
}

sub keyed_server
{
	my ($name, @keys) = @_;
	my $server = sentient_server($name, start => 0, durable => 1, init => { allows_streaming => 1 });

	$server->append_conf('postgresql.conf', "max_connections = 60\nsentient_edge.key_provider = file\nsentient_edge.key_file = '" . $server->basedir . "/master.key'");
	with_keys($server, @keys);
	return $server;
}

# Kill a process and wait until the server has restarted by itself.
sub kill_and_wait
{
	my ($server, $pid) = @_;
	my $offset = -s $server->logfile;

	kill 'KILL', $pid;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if substr(slurp_file($server->logfile), $offset) =~ /was terminated by signal 9.*database system is ready to accept connections/s;
		select undef, undef, undef, 0.1;
	}
	die 'the server did not come back';
}

sub fails_with
{
	my ($server, $query, $expected, $what) = @_;
	my ($status, $out, $err) = $server->psql('fleet', "\\set VERBOSITY verbose\n$query");

	return like($err, $expected, $what);
}

my $node = keyed_server('primary', $key_a);
sentient_database($node, 'fleet');

# ---- first use ----

my @sessions = map {
	my ($in, $out, $err) = ('', '', '');
	{ out => \$out, err => \$err,
		run => start([ 'psql', '-XAtq', '-d', $node->connstr('fleet'), '-c', "SELECT sentient_edge.unseal(sentient_edge.seal('v$_', 'c', true), 'c')" ],
			'<', \$in, '>', \$out, '2>', \$err) }
} 1 .. 24;
finish($_->{run}) for @sessions;
is(join(' ', sort map { ${ $_->{out} } =~ s/\n//r . ${ $_->{err} } } @sessions), join(' ', sort map { "v$_" } 1 .. 24), 'many use keys for the first time at once');
is($node->safe_psql('fleet', "SELECT purpose, state, count(*) FROM sentient_edge.data_keys WHERE $ours GROUP BY 1, 2 ORDER BY 1"), "field|active|1\nsearch|active|1", 'and get one of each');
is($node->safe_psql('fleet', 'SELECT DISTINCT problem IS NULL FROM sentient_edge.key_status()'), 't', 'without a problem');

# ---- a rollback takes no key with it ----

$node->safe_psql('fleet', "BEGIN; SELECT sentient_edge.rotate_data_key('token'); ROLLBACK");
is($node->safe_psql('fleet', "SELECT count(*) FROM sentient_edge.data_keys WHERE purpose = 'token'"), '1', 'a key that was made in a transaction outlives it');

# Where no other process can make it: what created the extension is not committed, or a lock is held.
$node->safe_psql('postgres', 'CREATE DATABASE single');
is($node->safe_psql('single', q{SET client_min_messages = warning; BEGIN; CREATE EXTENSION sentient_edge CASCADE;
	INSERT INTO core.drones (call_sign, drone_type) VALUES ('early', 'quadcopter');
	SELECT sentient_edge.unseal(sentient_edge.seal('early', 'c', true), 'c'); COMMIT}), 'early', 'a key is made in the transaction that creates the extension');
is($node->safe_psql('single', "SELECT bool_and(mac IS NOT NULL), count(*) FILTER (WHERE table_name = 'drones') FROM audit.log"), 't|1', 'for the audit trail, too');
is($node->safe_psql('single', q{BEGIN; SELECT sentient_edge.rotate_master_key(); SELECT sentient_edge.rotate_data_key('field') IS NOT NULL;
	SELECT sentient_edge.unseal(sentient_edge.seal('locked', 'c'), 'c'); COMMIT}), "0\nt\nlocked", 'or in one that holds a lock on the keys');
is($node->safe_psql('single', "SELECT purpose, state, count(*) FROM sentient_edge.data_keys WHERE $ours GROUP BY 1, 2 ORDER BY 1, 2"), "field|active|1\nfield|decrypt_only|1\nsearch|active|1", 'which leaves the right keys');

# A trigger of the table that wants a key itself, as the audit trail has one.
$node->safe_psql('single', q{CREATE TABLE noted (value sentient_edge.sealed); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO public.noted VALUES (sentient_edge.seal(NEW.purpose, 'c', true)); RETURN NULL; END$$;
	CREATE TRIGGER note AFTER INSERT ON sentient_edge.data_keys FOR EACH ROW EXECUTE FUNCTION note();
	DELETE FROM sentient_edge.data_keys});
$node->safe_psql('single', "SELECT sentient_edge.rotate_data_key('token')");
is($node->safe_psql('single', "SELECT string_agg(DISTINCT sentient_edge.unseal(value, 'c'), ' ' ORDER BY sentient_edge.unseal(value, 'c')) FROM noted WHERE sentient_edge.unseal(value, 'c') IN ('field', 'search', 'token')"),
	'field search token', 'a trigger may need keys while one is made, even that one');

# ---- rotation of a data key is seen by sessions that are open ----

$node->safe_psql('fleet', "CREATE TABLE secrets (id integer PRIMARY KEY, value sentient_edge.sealed)");
my $session = $node->background_psql('fleet');
$session->query_safe("INSERT INTO secrets SELECT n, sentient_edge.seal('secret ' || n, 'secrets.value:' || n, true) FROM generate_series(1, 100) n");
my $old_key = $node->safe_psql('fleet', "SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'field' AND state = 'active'");
my $new_key = $node->safe_psql('fleet', "SELECT sentient_edge.rotate_data_key('field')");
isnt($new_key, $old_key, 'a rotation makes a new key');
is($node->safe_psql('fleet', "SELECT state, rotated_at IS NOT NULL FROM sentient_edge.data_keys WHERE key_id = '$old_key'"), 'decrypt_only|t', 'and retires the old one');
$session->query_safe("INSERT INTO secrets SELECT n, sentient_edge.seal('secret ' || n, 'secrets.value:' || n, true) FROM generate_series(101, 110) n");
is($session->query_safe("SELECT count(*) FROM secrets WHERE sentient_edge.unseal(value, 'secrets.value:' || id) = 'secret ' || id"), '110', 'both open');
$session->quit;
my $count_of = "SELECT count(*) FROM secrets WHERE sentient_edge.unseal(value, 'secrets.value:' || id) = 'secret ' || id";

# ---- rotation of the master key ----

my $fingerprints = "SELECT string_agg(DISTINCT master_fingerprint, ',') FROM sentient_edge.data_keys WHERE state <> 'destroyed' AND $ours";
my $fingerprint_a = $node->safe_psql('fleet', $fingerprints);
with_keys($node, $key_b, $key_a);
my $fingerprint_b = $node->safe_psql('fleet', "SELECT master_fingerprint FROM sentient_edge.key_status() WHERE kind = 'master key' AND state = 'active'");
is($node->safe_psql('fleet', $count_of), '110', 'with two master keys everything opens');
is($node->safe_psql('fleet', "SELECT DISTINCT problem FROM sentient_edge.key_status() WHERE kind = 'data key'"), 'not wrapped by the active master key; call sentient_edge.rotate_master_key()', 'and the work to do is shown');

# Killed before, in or after the work; the session stays until then.
for my $turn (1 .. 4)
{
	my ($in, $out, $err) = ('', '', '');
	my $run = start([ 'psql', '-XAtq', '-d', $node->connstr('fleet') . " application_name=rotator$turn", '-c', 'SELECT sentient_edge.rotate_master_key()', '-c', 'SELECT pg_sleep(600)' ],
		'<', \$in, '>', \$out, '2>', \$err);

	$node->poll_query_until('fleet', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'rotator$turn'") or die 'no session';
	my $pid = $node->safe_psql('fleet', "SELECT pid FROM pg_stat_activity WHERE application_name = 'rotator$turn'");
	select undef, undef, undef, 0.005 * ($turn - 1);
	kill_and_wait($node, $pid);
	finish($run);
	like($node->safe_psql('fleet', $fingerprints), qr/^($fingerprint_a|$fingerprint_b)$/, "kill $turn: all keys or none");
	is($node->safe_psql('fleet', $count_of), '110', "kill $turn: everything opens");
	with_keys($node, $turn % 2 ? ($key_a, $key_b) : ($key_b, $key_a));
}
$node->safe_psql('fleet', 'SELECT sentient_edge.rotate_master_key()');

# A kill that is certainly in the middle.
with_keys($node, $key_a, $key_b);
$session = $node->background_psql('fleet', on_error_stop => 0);
my $wrapped_by = $node->safe_psql('fleet', $fingerprints);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$count = $node->safe_psql('fleet', $to_wrap);
cmp_ok($count, '>=', 4, 'there are keys to wrap');
is($session->query_safe('BEGIN; SELECT sentient_edge.rotate_master_key()'), $count, 'all keys are wrapped anew');
kill_and_wait($node, $pid);
eval { $session->quit; };
is($node->safe_psql('fleet', $fingerprints), $wrapped_by, 'killed before it commits, nothing has changed');
is($node->safe_psql('fleet', 'SELECT sentient_edge.rotate_master_key()'), $count, 'called again it does it all');
is($node->safe_psql('fleet', 'SELECT sentient_edge.rotate_master_key()'), '0', 'and has nothing left to do');
with_keys($node, $key_a);
is($node->safe_psql('fleet', $count_of), '110', 'without the other master key everything opens');
is($node->safe_psql('fleet', 'SELECT count(problem) FROM sentient_edge.key_status()'), '0', 'without a problem');

# ---- standby ----

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('fleet', $count_of), '110', 'a standby with the key reads');
is($standby->safe_psql('fleet', "SELECT count(*) FROM secrets WHERE value = sentient_edge.search_token('secret 7', 'secrets.value:7')"), '1', 'and finds');
fails_with($standby, "SELECT sentient_edge.seal('x', 'c')", qr/ERROR:  25006: cannot encrypt during recovery/, 'but seals nothing');
fails_with($standby, "SELECT sentient_edge.rotate_data_key('field')", qr/ERROR:  25006: cannot execute sentient_edge.rotate_data_key\(\) during recovery/, 'nor rotates a key');
fails_with($standby, 'SELECT sentient_edge.rotate_master_key()', qr/ERROR:  25006/, 'nor the master key');
fails_with($standby, "SELECT sentient_edge.destroy_data_key('$old_key')", qr/ERROR:  25006/, 'nor destroys one');
$node->safe_psql('fleet', "SELECT sentient_edge.rotate_data_key('field'); INSERT INTO secrets VALUES (111, sentient_edge.seal('secret 111', 'secrets.value:111', true))");
$node->wait_for_catchup($standby);
is($standby->safe_psql('fleet', $count_of), '111', 'a rotation on the primary is seen there');
$standby->stop;

# ---- dump and restore ----

my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-d', $node->connstr('fleet'), '-f', $dump ], 'dump');
unlike(slurp_file($dump), qr/secret 7\b|feed000/, 'it has no value and no key');
my $keys_query = 'SELECT k::text FROM sentient_edge.data_keys k ORDER BY key_id';
my $keys = $node->safe_psql('fleet', $keys_query);

my $other = keyed_server('other');    # without a key
$other->safe_psql('postgres', 'CREATE DATABASE fleet');
my ($out, $err) = ('', '');
ok(IPC::Run::run([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('fleet'), '-f', $dump ], '>', \$out, '2>', \$err), 'restored without a key') or diag $err;
unlike("$out$err", qr/error/i, 'no error line');
is($other->safe_psql('fleet', $keys_query), $keys, 'the keys are the same');
fails_with($other, $count_of, qr/ERROR:  55000: no master key is known to this server/, 'a clear error');
is($other->safe_psql('fleet', 'SELECT count(*) FROM secrets'), '111', 'the rest works');

with_keys($other, $key_c);
fails_with($other, "SELECT sentient_edge.seal('x', 'c')",
	qr/ERROR:  55000: the active data key for "field" is wrapped by a master key that this server does not have\nDETAIL:  The fingerprint of that master key is [0-9a-f]{16}\.\nHINT:  Provide that master key after the server's own/, 'a server with another master key says which is missing');
fails_with($other, $count_of, qr/ERROR:  (55000|SE002): /, 'and opens nothing');
fails_with($other, 'SELECT sentient_edge.rotate_master_key()', qr/ERROR:  55000: data key .* is wrapped by a master key that this server does not have/, 'nor can it wrap');
like($other->safe_psql('fleet', "SELECT DISTINCT problem FROM sentient_edge.key_status() WHERE kind = 'data key'"), qr/^wrapped by the master key [0-9a-f]{16}, which this server does not have$/, 'key_status says the same');
with_keys($other, $key_c, $key_a);
is($other->safe_psql('fleet', $count_of), '111', 'with both it opens');
$count = $other->safe_psql('fleet', $to_wrap);
cmp_ok($count, '>=', 5, 'there are keys to wrap');
is($other->safe_psql('fleet', 'SELECT sentient_edge.rotate_master_key()'), $count, 'all are wrapped');
with_keys($other, $key_c);
is($other->safe_psql('fleet', $count_of), '111', 'and needs its own only');

# A key that was made before the dump's arrived does not stand in its way.
$other->safe_psql('postgres', 'CREATE DATABASE again');
$other->safe_psql('again', 'SET client_min_messages = warning; CREATE EXTENSION sentient_edge CASCADE');
my $early = $other->safe_psql('again', "SELECT sentient_edge.rotate_data_key('field')");
my $rows = $other->safe_psql('fleet', "COPY sentient_edge.data_keys TO STDOUT");
ok(IPC::Run::run([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('again'), '-c', 'COPY sentient_edge.data_keys FROM STDIN' ], '<', \"$rows\n", '2>', \$err), 'keys are restored beside one that is there') or diag $err;
is($other->safe_psql('again', "SELECT state FROM sentient_edge.data_keys WHERE key_id = '$early'"), 'decrypt_only', 'which steps back');
is($other->safe_psql('again', "SELECT count(*) FROM sentient_edge.data_keys WHERE state = 'active' AND $ours"), '3', 'one of each is active');
$other->stop;

# ---- exchanged rows ----

my ($first, $second) = split /\n/, $node->safe_psql('fleet', "SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'field' ORDER BY created_at DESC LIMIT 2");
my $wrapped = "(SELECT wrapped_key FROM sentient_edge.data_keys WHERE key_id = '%s')";
for my $change ([ 'another key', sprintf("wrapped_key = $wrapped", $second) ], [ 'another time', "created_at = created_at + interval '1 microsecond'" ],
	[ 'a public key', "public_key = decode(repeat('00', 32), 'hex')" ], [ 'one bit', 'wrapped_key = set_bit(wrapped_key, 200, 1 - get_bit(wrapped_key, 200))' ],
	[ 'too few bytes', 'wrapped_key = substr(wrapped_key, 1, 59)' ])
{
	my ($what, $set) = @$change;
	my $saved = $node->safe_psql('fleet', "SELECT format('wrapped_key = %L, created_at = %L, public_key = NULL', wrapped_key, created_at) FROM sentient_edge.data_keys WHERE key_id = '$first'");

	$node->safe_psql('fleet', "UPDATE sentient_edge.data_keys SET $set WHERE key_id = '$first'");
	fails_with($node, "SELECT sentient_edge.seal('x', 'c')", qr/ERROR:  55000: the active data key for "field" does not unwrap\nDETAIL:  Its row in sentient_edge.data_keys was changed or exchanged/, "a row with $what does not unwrap");
	is($node->safe_psql('fleet', "SELECT problem FROM sentient_edge.key_status() WHERE key_id = '$first'"), 'its row was changed or exchanged', "$what: key_status says so");
	$node->safe_psql('fleet', "UPDATE sentient_edge.data_keys SET $saved WHERE key_id = '$first'");
}
fails_with($node, "UPDATE sentient_edge.data_keys SET purpose = 'search', state = 'active' WHERE key_id = '$second'", qr/23505|23514/, 'no purpose has two active keys');
$node->safe_psql('fleet', "UPDATE sentient_edge.data_keys SET purpose = 'search' WHERE key_id = '$second'");
is($node->safe_psql('fleet', "SELECT problem FROM sentient_edge.key_status() WHERE key_id = '$second'"), 'its row was changed or exchanged', 'a key is of no use for another purpose');
$node->safe_psql('fleet', "UPDATE sentient_edge.data_keys SET purpose = 'field' WHERE key_id = '$second'");
is($node->safe_psql('fleet', $count_of), '111', 'as it was, everything opens');

# ---- counted messages ----

my $messages = "SELECT messages FROM sentient_edge.key_status() WHERE key_id = '$first'";
my $before = $node->safe_psql('fleet', $messages);
$node->safe_psql('fleet', "SELECT count(sentient_edge.seal('x', 'c')) FROM generate_series(1, 50000)");
my $after = $node->safe_psql('fleet', $messages);
cmp_ok($after - $before, '>=', 50000, 'messages are counted');
cmp_ok($after - $before, '<', 60000, 'without much waste');
cmp_ok($node->safe_psql('fleet', "SELECT reserved_messages FROM sentient_edge.data_keys WHERE key_id = '$first'"), '>=', $after, 'and are reserved before');
$node->stop('immediate');
$node->start;
$node->safe_psql('fleet', "SELECT sentient_edge.seal('x', 'c')");
cmp_ok($node->safe_psql('fleet', $messages), '>=', $after, 'a crash loses none');

$node->safe_psql('fleet', "UPDATE sentient_edge.data_keys SET reserved_messages = 2::bigint ^ 30 WHERE key_id = '$first'");
$node->restart;
my $status;
($status, $out, $err) = $node->psql('fleet', "SELECT sentient_edge.unseal(sentient_edge.seal('x', 'c'), 'c')");
is($out, 'x', 'a key that has encrypted 2^30 messages still does');
like($err, qr/WARNING:  a data key for "field" has encrypted 10737\d+ messages; a new one is being made/, 'with a warning');
sentient_wait($node, 'fleet', "SELECT state = 'decrypt_only' FROM sentient_edge.data_keys WHERE key_id = '$first'", 'and is replaced');
my $third = $node->safe_psql('fleet', "SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'field' AND state = 'active'");
$node->safe_psql('fleet', "UPDATE sentient_edge.data_keys SET reserved_messages = 2::bigint ^ 31 WHERE key_id = '$third'");
$node->restart;
fails_with($node, "SELECT sentient_edge.seal('x', 'c')", qr/ERROR:  54000: a data key for "field" has encrypted as many messages as it may\nDETAIL:  A key encrypts at most 2147483648 messages.\nHINT:  Call sentient_edge.rotate_data_key\('field'\)/, 'at 2^31 it stops');
$node->safe_psql('fleet', "SELECT sentient_edge.rotate_data_key('field')");
is($node->safe_psql('fleet', "SELECT sentient_edge.unseal(sentient_edge.seal('x', 'c'), 'c')"), 'x', 'and the next one goes on');

# ---- no worker, a locked table ----

$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$node->restart;
fails_with($node, "SELECT sentient_edge.rotate_data_key('field')", qr/ERROR:  55000: no background worker is free to work on data keys\nHINT:  Increase max_worker_processes/, 'without a worker a key cannot be made');
is($node->safe_psql('fleet', $count_of), '111', 'but used');
$node->safe_psql('fleet', "UPDATE sentient_edge.data_keys SET state = 'decrypt_only', rotated_at = now() WHERE purpose = 'audit_mac'");
sentient_drone($node, 'fleet', 'audited');
is($node->safe_psql('fleet', "SELECT l.mac IS NOT NULL AND substr(l.mac, 1, 16) = uuid_send(k.key_id) FROM audit.log l, sentient_edge.data_keys k
	WHERE table_name = 'drones' AND k.purpose = 'audit_mac' AND k.state = 'active' ORDER BY audit_id DESC LIMIT 1"), 't', 'the audit trail makes its key all the same');
$node->append_conf('postgresql.conf', 'max_worker_processes = 24');
$node->restart;

# ---- destruction ----

fails_with($node, "SELECT sentient_edge.destroy_data_key('00000000-0000-4000-8000-000000000000')", qr/ERROR:  42704: there is no data key/, 'an unknown key');
my $active = $node->safe_psql('fleet', "SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'field' AND state = 'active'");
fails_with($node, "SELECT sentient_edge.destroy_data_key('$active')", qr/ERROR:  55006: data key .* is the active key for "field"/, 'an active key');
fails_with($node, "SELECT sentient_edge.destroy_data_key('$old_key')", qr/ERROR:  2BP01: data key $old_key is needed by 100 stored values\nDETAIL:  They are in public\.secrets\.value \(100\)\./, 'a key that values need');
$node->safe_psql('fleet', q{
	CREATE DOMAIN hidden AS sentient_edge.sealed;
	CREATE TABLE hidden_parts (id integer, one hidden, many hidden[]) PARTITION BY LIST (id);
	CREATE TABLE hidden_parts_1 PARTITION OF hidden_parts DEFAULT;
	INSERT INTO hidden_parts SELECT id, CASE WHEN id < 3 THEN value END, ARRAY[value, NULL, value]::hidden[] FROM secrets WHERE id < 10;
	DELETE FROM secrets WHERE id <= 100});
fails_with($node, "SELECT sentient_edge.destroy_data_key('$old_key')", qr/is needed by 20 stored values\nDETAIL:  They are in public\.hidden_parts_1\.one \(2\), public\.hidden_parts_1\.many \(18\)\./, 'in domains, arrays and partitions too');
$node->safe_psql('fleet', 'DROP TABLE hidden_parts; CREATE TYPE pair AS (a integer, b hidden); CREATE TABLE pairs (p pair); INSERT INTO pairs VALUES (ROW(1, NULL))');
fails_with($node, "SELECT sentient_edge.destroy_data_key('$old_key')", qr/ERROR:  2BP01: .* is needed by 1 stored values\nDETAIL:  They are in public\.pairs\.p \(1\)\./, 'where it cannot look, nothing is proved');
$node->safe_psql('fleet', 'DROP TABLE pairs');
fails_with($node, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT sentient_edge.destroy_data_key('$old_key')", qr/ERROR:  25001: data keys can be changed only in a transaction of isolation level READ COMMITTED/, 'nor by a look at the past');
$session = $node->background_psql('fleet');
$session->query_safe('BEGIN; SELECT 1');
$node->safe_psql('fleet', "SELECT sentient_edge.rotate_data_key('field')");
fails_with($node, "SELECT sentient_edge.destroy_data_key('$active')", qr/ERROR:  55006: data key $active may be in use by transactions that began before it was retired/, 'a transaction that is older than the retirement');
$session->query_safe('COMMIT');
sentient_retired($node, 'fleet', 'it ends, like all others');
is($session->query_safe("SELECT sentient_edge.destroy_data_key('$active')"), 't', 'and once it has ended');
is($node->safe_psql('fleet', "SELECT sentient_edge.destroy_data_key('$old_key')"), 't', 'a key that nothing needs is destroyed');
is($node->safe_psql('fleet', "SELECT sentient_edge.destroy_data_key('$old_key')"), 'f', 'once');
is($node->safe_psql('fleet', "SELECT state, wrapped_key IS NULL, destroyed_at IS NOT NULL FROM sentient_edge.data_keys WHERE key_id = '$old_key'"), 'destroyed|t|t', 'its bytes are gone');
my $search = $node->safe_psql('fleet', "SELECT sentient_edge.rotate_data_key('search'); SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'search' AND state = 'decrypt_only'");
$search = (split /\n/, $search)[-1];
sentient_retired($node, 'fleet', 'another key is retired');
fails_with($node, "SELECT sentient_edge.destroy_data_key('$search')", qr/is needed by 11 stored values/, 'a search key is needed by its tags');

# The audit trail.
my $mac_key = $node->safe_psql('fleet', "SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'audit_mac' AND state = 'active'");
$node->safe_psql('fleet', "SELECT sentient_edge.rotate_data_key('audit_mac')");
sentient_retired($node, 'fleet', 'and that of the audit trail');
fails_with($node, "SELECT sentient_edge.destroy_data_key('$mac_key')", qr/is needed by \d+ stored values\nDETAIL:  They are in audit\.log \(\d+\), audit\.security_events \(\d+\)\./, 'the audit trail needs the keys of its MACs');

# By force.
is($session->query_safe($count_of), '11', 'eleven values are left');
is($node->safe_psql('fleet', "SELECT sentient_edge.destroy_data_key('$new_key', force => true)"), 't', 'a key is destroyed by force');
my $refused = $node->safe_psql('fleet', "SELECT count(*) FROM secrets WHERE sentient_edge.try_unseal(value, 'secrets.value:' || id) IS NULL");
is($refused, '10', 'what it has sealed is lost');
is($session->query_safe("SELECT count(*) FROM secrets WHERE sentient_edge.try_unseal(value, 'secrets.value:' || id) IS NULL"), '10', 'also to a session that had the key');
$session->quit;

# ---- who may do what ----

$node->safe_psql('fleet', 'CREATE ROLE r_' . $_ . ' LOGIN; GRANT sentient_' . $_ . ' TO r_' . $_) for qw(viewer analyst operator admin);
my %calls = (
	'key_status' => 'SELECT count(*) > 0 FROM sentient_edge.key_status()',
	'rotate_data_key' => "SELECT sentient_edge.rotate_data_key('token') IS NOT NULL",
	'rotate_master_key' => 'SELECT sentient_edge.rotate_master_key() = 0',
	'destroy_data_key' => "SELECT NOT sentient_edge.destroy_data_key('$old_key')",
	'the harmless columns' => 'SELECT count(concat(key_id, purpose, state, created_at, rotated_at, destroyed_at, master_fingerprint, public_key, reserved_messages)) > 0 FROM sentient_edge.data_keys',
	'wrapped keys' => 'SELECT count(wrapped_key) > 0 FROM sentient_edge.data_keys',
	'the table' => "UPDATE sentient_edge.data_keys SET state = 'decrypt_only'");
for my $role (qw(viewer analyst operator admin))
{
	for my $call (sort keys %calls)
	{
		my ($ended, $result, $said) = $node->psql('fleet', $calls{$call}, connstr => $node->connstr('fleet') . " user=r_$role");
		my $may = $role eq 'admin' && $call ne 'wrapped keys' && $call ne 'the table';

		$may ? is($result, 't', "$role: $call") : like($said, qr/permission denied/, "$role: $call is refused");
	}
}

unlike(slurp_file($_->logfile), qr/PANIC|sentient_edge assertion/, 'no assertion failed') for $node, $other, $standby;
unlike(slurp_file($_->logfile), qr/feed000[123]/, 'no key is in the log') for $node, $other, $standby;
$node->stop;
done_testing();
