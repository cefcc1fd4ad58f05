# 084_sealed.pl
#		Sealed values beyond one session: binary COPY, rotated and destroyed keys,
#		counts, a standby, a server without the library preloaded, and dumps that are
#		restored without the master key and with another one.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my ($key, $other_key) = ('3c' x 32, 'd4' x 32);
my $context = "sentient_edge.sealed_context('radios', 'serial', radio_id::text)";
my $open = "SELECT string_agg(coalesce(sentient_edge.unseal(serial, $context), 'null'), ',' ORDER BY radio_id) FROM radios";

sub with_key
{
	my ($value, $run) = @_;

	local $ENV{SENTIENT_EDGE_MASTER_KEY} = $value;
	delete local $ENV{SENTIENT_EDGE_MASTER_KEY} unless defined $value;
	return $run->();
}

# The SQLSTATE and message of a statement's error.
sub error_of
{
	my ($node, $database, $sql) = @_;
	my ($status, $out, $err) = $node->psql($database, "\\set VERBOSITY verbose\n$sql");

	return $err =~ /ERROR:  (\w{5}: .*)/ ? $1 : "no error: $out";
}

my $node = with_key($key, sub { sentient_server('sealed', conf => 'max_prepared_transactions = 2', init => { allows_streaming => 1 }) });
sentient_database($node, 'fleet');
$node->safe_psql('fleet', q{
	CREATE TABLE radios (radio_id integer PRIMARY KEY, note text, serial sentient_edge.sealed UNIQUE);
	CREATE TRIGGER require_context BEFORE INSERT OR UPDATE ON radios FOR EACH ROW EXECUTE FUNCTION sentient_edge.require_context('serial', 'radio_id');
	INSERT INTO radios SELECT i, 'note', sentient_edge.seal('SN-' || i, 'public.radios.serial:' || i, true) FROM generate_series(1, 4) i;
	INSERT INTO radios VALUES (5, 'none', NULL);
});
is($node->safe_psql('fleet', $open), 'SN-1,SN-2,SN-3,SN-4,null', 'values are sealed and opened');

# ---- binary form ----

my $file = $node->basedir . '/radios';
$node->safe_psql('fleet', "COPY radios TO '$file' (FORMAT binary)");
like(slurp_file($file), qr/sealed:\x01\x11/, 'the binary form is prefix and envelope');
unlike(slurp_file($file), qr/SN-1/, 'and no plaintext');
is($node->safe_psql('fleet', "CREATE TABLE copied (LIKE radios); COPY copied FROM '$file' (FORMAT binary); SELECT count(*) FROM copied JOIN radios USING (radio_id) WHERE copied.serial::text = radios.serial::text"),
	'4', 'and is read again');
$node->safe_psql('fleet', "COPY (SELECT 1, 'n', 'SN-1 plain'::text) TO '$file' (FORMAT binary)");
is(error_of($node, 'fleet', "COPY copied FROM '$file' (FORMAT binary)"), '22P03: invalid input syntax for type sentient_edge.sealed', 'a plaintext is not taken for a value');

# ---- what went wrong is logged without the statement ----

my $offset = -s $node->logfile;
my @canaries;
foreach my $sql ("INSERT INTO copied VALUES (1, 'n', '%s')", "SELECT '%s'::sentient_edge.sealed", "SELECT sentient_edge.seal('%s', '')", "SELECT sentient_edge.seal_bytes('%s', NULL)",
	"SELECT sentient_edge.search_token('%s', '')", "SELECT sentient_edge.search_tokens('%s', NULL)", "DO \$\$ BEGIN PERFORM sentient_edge.seal('%s', 'c', NULL); END \$\$",
	"COPY copied FROM stdin;\n1\tn\t%s\n\\.\n")
{
	my $canary = 'canary' . @canaries;
	local $ENV{PGOPTIONS} = '-c log_statement=none';
	my ($status, $out, $err) = $node->psql('fleet', sprintf($sql, $canary));

	push @canaries, $canary if $err =~ /ERROR: /;
}
is(scalar @canaries, 8, 'statements with a plaintext that fail');
my $log = substr(slurp_file($node->logfile), $offset);
is(() = $log =~ /ERROR:  (invalid input syntax for type sentient_edge.sealed|context of a sealed value|searchable must be)/g, 8, 'are logged');
unlike($log, qr/canary/, 'without it');

# ---- counts: a statement at a time, whatever becomes of it ----

sub counted    # what the statements add to (opened, refused)
{
	my ($sql) = @_;
	my $counts = 'SELECT opened, refused FROM sentient_edge.sealed_counts()';
	my @before = split /\|/, $node->safe_psql('fleet', $counts);
	$node->psql('fleet', $sql);
	my @after = split /\|/, $node->safe_psql('fleet', $counts);

	return join ',', $after[0] - $before[0], $after[1] - $before[1];
}
is(counted($open), '4,0', 'values that a query opens are counted');
is(counted("SELECT sentient_edge.try_unseal(serial, 'elsewhere') FROM radios"), '0,4', 'and those it cannot');
is(counted("SELECT sentient_edge.unseal(serial, CASE radio_id WHEN 3 THEN 'elsewhere' ELSE $context END) FROM radios ORDER BY radio_id"), '2,1', 'also when it fails');
is(counted("BEGIN; $open; SAVEPOINT s; $open; ROLLBACK TO s; $open; ROLLBACK"), '12,0', 'and is rolled back');
is(counted("DO \$\$ DECLARE v text; BEGIN FOR i IN 1 .. 3 LOOP v := sentient_edge.unseal((SELECT serial FROM radios WHERE radio_id = i), 'public.radios.serial:' || i); END LOOP; END \$\$"), '3,0', 'in a DO block');
is(counted("BEGIN; DECLARE c CURSOR FOR SELECT sentient_edge.unseal(serial, $context) FROM radios; FETCH 2 FROM c; COMMIT"), '2,0', 'through a cursor');
is(counted("UPDATE radios SET note = sentient_edge.unseal(serial, $context) WHERE radio_id = 1; UPDATE radios SET note = 'note' WHERE radio_id = 1"), '1,0', 'by an UPDATE');
is(counted("BEGIN; $open; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'"), '4,0', 'in a prepared transaction');
is(counted("UPDATE radios SET serial = sentient_edge.seal('SN-1', 'public.radios.serial:1', true) WHERE radio_id = 1"), '0,0', 'the trigger opens for nobody');

my $session = $node->background_psql('fleet');
$session->query_safe("BEGIN");
$session->query_safe($open);
is(counted('SELECT 1'), '0,0', 'nothing is left over while a transaction is open');
$session->query_safe("COMMIT");
is(counted('SELECT 1'), '0,0', 'and nothing is counted twice');
$session->quit;

# ---- rotation ----

my ($old_field) = $node->safe_psql('fleet', q{SELECT sentient_edge.sealed_key_id(serial) FROM radios WHERE radio_id = 1});
my ($old_search) = $node->safe_psql('fleet', q{SELECT sentient_edge.sealed_search_key_id(serial) FROM radios WHERE radio_id = 1});
$session = $node->background_psql('fleet');
is($session->query_safe("SELECT count(*) FROM radios WHERE serial = sentient_edge.search_token('SN-1', 'public.radios.serial')"), '1', 'a session finds a value');
$node->safe_psql('fleet', "SELECT sentient_edge.rotate_data_key('field'); SELECT sentient_edge.rotate_data_key('search')");
is($session->query_safe("SELECT count(*) FROM radios WHERE serial = sentient_edge.search_token('SN-1', 'public.radios.serial')"), '0', 'not by the token of the new key');
is($session->query_safe("SELECT radio_id FROM radios WHERE serial = ANY (sentient_edge.search_tokens('SN-1', 'public.radios.serial'))"), '1', 'but by those of both');
$session->quit;
is($node->safe_psql('fleet', $open), 'SN-1,SN-2,SN-3,SN-4,null', 'values of the old key are opened');
$node->safe_psql('fleet', "UPDATE radios SET serial = sentient_edge.seal('SN-1', $context, true) WHERE radio_id = 1");
is($node->safe_psql('fleet', "SELECT radio_id FROM radios WHERE serial = ANY (sentient_edge.search_tokens('SN-1', 'public.radios.serial'))"), '1', 'both tags are searched meanwhile');
is($node->safe_psql('fleet', "SELECT string_agg(radio_id::text, ',') FROM radios WHERE serial = ANY (sentient_edge.search_tokens('SN-2', 'public.radios.serial'))"), '2', 'the old one, too');

# ---- a key is destroyed when nothing uses it, wherever that might be ----

$node->safe_psql('fleet', q{
	DROP TABLE copied;
	CREATE DOMAIN secret AS sentient_edge.sealed;
	CREATE TYPE pair AS (name text, value secret);
	CREATE TABLE lists (id integer, list sentient_edge.sealed[], domains secret[]);
	CREATE TABLE pairs (id integer, value pair);
	CREATE TABLE odd ("Value ""x" secret, gone sentient_edge.sealed) PARTITION BY LIST ("Value ""x");
	CREATE TABLE odd_all PARTITION OF odd DEFAULT;
	ALTER TABLE odd DROP COLUMN gone;
	CREATE MATERIALIZED VIEW copies AS SELECT serial FROM radios WHERE radio_id = 2;
	INSERT INTO lists SELECT 1, array_agg(serial), array_agg(serial::secret) FROM radios WHERE radio_id IN (2, 3);
	INSERT INTO pairs SELECT 1, ROW('x', serial)::pair FROM radios WHERE radio_id = 2;
	INSERT INTO odd SELECT serial FROM radios WHERE radio_id = 4;
});
sub destroy
{
	my ($id) = @_;
	my ($status, $out, $err) = $node->psql('fleet', "SELECT sentient_edge.destroy_data_key('$id')");

	return $err =~ /is needed by (\d+) stored values\nDETAIL:  They are in (.*)\./ ? "$1 in $2" : $out . $err;
}
sentient_retired($node, 'fleet', 'who might have used the old keys is gone');
my $expected = '10 in public.radios.serial (3), public.lists.list (2), public.lists.domains (2), public.pairs.value (1), public.odd_all."Value ""x" (1), public.copies.serial (1)';
is(destroy($old_field), $expected, 'a field key that is in use is not destroyed');
is(destroy($old_search), $expected, 'nor a search key');
$node->safe_psql('fleet', q{
	DROP TABLE lists, pairs;
	TRUNCATE odd;
	UPDATE radios SET serial = sentient_edge.seal('SN-' || radio_id, 'public.radios.serial:' || radio_id, true) WHERE radio_id < 5;
});
is(destroy($old_field), '1 in public.copies.serial (1)', 'nor for a materialized view');
my $copied = $node->safe_psql('fleet', 'SELECT serial FROM copies');
$node->safe_psql('fleet', 'REFRESH MATERIALIZED VIEW copies');
is(destroy($old_field), 't', 'then it is');
is(destroy($old_search), 't', 'and so is the search key');
is($node->safe_psql('fleet', $open), 'SN-1,SN-2,SN-3,SN-4,null', 'nothing is lost');
is(error_of($node, 'fleet', "SELECT sentient_edge.unseal('$copied', 'public.radios.serial:2')"), 'SE002: sealed value cannot be opened', 'what the key had sealed is');
$node->safe_psql('fleet', 'DROP MATERIALIZED VIEW copies; DROP TABLE odd; DROP TYPE pair; DROP DOMAIN secret');

# ---- a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
with_key($key, sub { $standby->start });
$node->wait_for_catchup($standby);
is($standby->safe_psql('fleet', $open), 'SN-1,SN-2,SN-3,SN-4,null', 'a standby opens values');
is($standby->safe_psql('fleet', "SELECT radio_id FROM radios WHERE serial = sentient_edge.search_token('SN-3', 'public.radios.serial')"), '3', 'and finds them');
like(error_of($standby, 'fleet', "SELECT sentient_edge.seal('x', 'c')"), qr/^25006: /, 'but seals none');
$standby->stop;

# ---- dumps ----

my $select = 'SELECT string_agg(radio_id || coalesce(serial::text, \'null\'), \',\' ORDER BY radio_id) FROM radios';
my $stored = $node->safe_psql('fleet', $select);
my $dump = $node->basedir . '/fleet';
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-f', "$dump.custom", 'fleet' ], 'custom dump');
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', "$dump.sql", 'fleet' ], 'plain dump');
unlike(slurp_file("$dump.sql"), qr/SN-1/, 'without plaintexts');

my $target = with_key(undef, sub { sentient_server('target') });
foreach my $case ([ 'plain', [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql" ] ], [ 'custom', [ 'pg_restore', '-j', '2', "$dump.custom" ] ])
{
	my ($database, $command) = @$case;

	$target->safe_psql('postgres', "CREATE DATABASE $database");
	command_ok([ $command->[0], '-h', $target->host, '-p', $target->port, '-d', $database, @{$command}[ 1 .. $#$command ] ], "$database: restored without a master key");
	is($target->safe_psql($database, $select), $stored, "$database: the same envelopes");
	is($target->safe_psql($database, "SELECT count(*) FROM radios a JOIN radios b USING (serial)"), '4', "$database: they compare");
	like(error_of($target, $database, $open), qr/^55000: no master key/, "$database: they are not opened");
	like(error_of($target, $database, "SELECT sentient_edge.search_token('x', 'c')"), qr/^55000: no master key/, "$database: nor found");
	like(error_of($target, $database, "SELECT sentient_edge.seal('x', 'c')"), qr/^55000: no master key/, "$database: none are sealed");
	like(error_of($target, $database, "INSERT INTO radios SELECT 6, 'x', serial FROM radios WHERE radio_id = 1"), qr/^55000: no master key/, "$database: nor stored");
	is($target->safe_psql($database, "SELECT count(sentient_edge.try_unseal(serial, $context)) FROM radios"), '0', "$database: try_unseal has nothing");
	is($target->safe_psql($database, "UPDATE radios SET note = 'new' WHERE radio_id = 1; INSERT INTO radios VALUES (7, 'x', NULL); DELETE FROM radios WHERE radio_id = 7; SELECT note FROM radios WHERE radio_id = 1"), 'new',
		"$database: the rest of the table works");
}
$target->stop;
with_key($other_key, sub { $target->start });
like(error_of($target, 'plain', $open), qr/^55000: .* is wrapped by a master key that this server does not have/, 'another master key: a clear error');
like(error_of($target, 'plain', "INSERT INTO radios SELECT 6, 'x', serial FROM radios WHERE radio_id = 1"), qr/^55000: .* is wrapped by a master key/, 'from the trigger, too');
$target->stop;
$target->append_conf('postgresql.conf', "sentient_edge.key_env = 'SENTIENT_EDGE_MASTER_KEY,SOURCE_KEY'");
{
	local $ENV{SOURCE_KEY} = $key;
	with_key($other_key, sub { $target->start });
}
is($target->safe_psql('plain', $open), 'SN-1,SN-2,SN-3,SN-4,null', 'with both they are opened');
is($target->safe_psql('plain', 'SELECT sentient_edge.rotate_master_key() > 0'), 't', 'and wrapped by the new one');
$target->stop;
with_key($other_key, sub { $target->start });
is($target->safe_psql('plain', $open), 'SN-1,SN-2,SN-3,SN-4,null', 'which then does alone');
$target->stop;

# ---- not preloaded ----

$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
with_key($key, sub { $node->restart });
is($node->safe_psql('fleet', $select), $stored, 'not preloaded: envelopes are read');
like(error_of($node, 'fleet', $open), qr/^55000: /, 'but not opened');
is($node->safe_psql('fleet', 'SELECT opened IS NULL AND refused IS NULL FROM sentient_edge.sealed_counts()'), 't', 'nor counted');

$node->stop;
done_testing();
