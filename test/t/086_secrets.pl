# 086_secrets.pl
#		Canaries: a plaintext and a master key go through everything that takes or
#		returns secrets, on a server that logs all it can.  Then logs, statistics,
#		WAL, the data directory, dumps, the environment and the memory that a core
#		dump would hold are searched for them, in each form they may take.

use strict;
use warnings FATAL => 'all';
use feature 'state';
no warnings qw(portable);		# addresses of 64 bits

use Digest::SHA qw(hmac_sha256);
use File::Find;
use IPC::Run;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use SentientEdge;

my $canary = 'Canary-9f2B7xQ4mW6zT8kL';
my $master = pack 'H*', 'c4a7f10be55a9d3e07816bfc2d94a0533e6f1827c95db0461fa2837ce90d5b64';
my $wrapping = hmac_sha256("sentient_edge data key wrapping, version 1\x01", hmac_sha256($master, "\0" x 32));

# ---- what is searched for ----

# The part of a base64 text that does not depend on what stands before and after.
sub base64_core
{
	my ($bytes, $shift) = @_;
	my $text = encode_base64(("\0" x $shift) . $bytes, '');
	my $length = length($shift . $bytes);

	$text =~ s/=+$//;
	$text = substr $text, $shift == 0 ? 0 : 4;
	return substr $text, 0, length($text) - 2;
}

sub forms
{
	my ($bytes) = @_;
	my $hex = unpack 'H*', $bytes;
	my @base64 = map { base64_core($bytes, $_) } 0 .. 2;

	# the last as PostgreSQL prints the constants of a parse tree
	return ($bytes, $hex, uc $hex, @base64, (map { tr{+/}{-_}r } @base64), join(' ', unpack 'c*', $bytes));
}

my %secrets = (plaintext => [ forms($canary) ], 'master key' => [ forms($master) ], 'wrapping key' => [ forms($wrapping) ]);

sub found_in
{
	my ($text, @which) = @_;

	return join ', ', grep {
		my $name = $_;
		scalar grep { index($text, $_) >= 0 } @{ $secrets{$name} }
	} @which ? @which : sort keys %secrets;
}

sub nowhere_in
{
	my ($text, $what, @which) = @_;

	return is(found_in($text, @which), '', "no secret $what");
}

# Files below a folder that hold a secret; large ones are read in pieces.
sub files_with_secrets
{
	my ($folder) = @_;
	my @found;

	find({ no_chdir => 1, wanted => sub {
		my ($before, $piece) = ('', '');
		return unless -f $_ && !-l $_ && open my $file, '<:raw', $_;
		while (read $file, $piece, 1 << 20)
		{
			my $which = found_in($before . $piece);
			push(@found, "$_: $which") && last if $which ne '';
			$before = substr $piece, -400 if length $piece > 400;
		}
	} }, $folder);
	return join "\n", @found;
}

ok(found_in("x $canary y") eq 'plaintext' && found_in('\x' . unpack('H*', "ab$canary")) eq 'plaintext' &&
	found_in(encode_base64("a$canary.", '')) eq 'plaintext' && found_in(encode_base64("ab$canary.", '')) eq 'plaintext' &&
	found_in(unpack 'H*', $master) eq 'master key' && found_in('nothing') eq '', 'the search finds what it looks for');

# ---- a talkative server ----

my $logging = <<'END';
logging_collector = on
log_destination = 'stderr,csvlog,jsonlog'
log_directory = 'log'
log_filename = 'server.log'
log_min_messages = debug2
log_statement = all
log_min_duration_statement = 0
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_error_verbosity = verbose
log_lock_waits = on
deadlock_timeout = 10ms
debug_print_parse = on
debug_print_rewritten = on
debug_print_plan = on
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_verbose = on
auto_explain.log_nested_statements = on
pg_stat_statements.track = all
max_prepared_transactions = 2
sentient_edge.log_hidden_functions = 'keep_for_me, other'
END
delete @ENV{qw(SENTIENT_EDGE_MASTER_KEY DATABASE_ENCRYPTION_KEY)};
my $node = sentient_server('secrets', durable => 1, start => 0, conf => <<END);
$logging
include = 'last.conf'
END
my $data = $node->data_dir;
my $logs = "$data/log";

sub configure
{
	my ($conf) = @_;

	open my $file, '>', "$data/last.conf" or die $!;
	print $file $conf;
	close $file;
	return;
}

# The logger writes when it comes to it: wait until it has written what the server has said so far.
sub wait_for_log
{
	state $turn = 0;
	my $mark = 'mark ' . ++$turn . ' of the log';

	$node->safe_psql('postgres', "DO 'BEGIN RAISE LOG ''$mark''; END'");
	for my $file (map { "$logs/server.$_" } qw(log csv json))
	{
		for (1 .. 100 * $PostgreSQL::Test::Utils::timeout_default)
		{
			last if system('grep', '-qsF', $mark, $file) == 0;
			usleep 10_000;
		}
	}
	return;
}

sub logged { wait_for_log(); return join '', map { -e $_ ? slurp_file($_) : '' } map { "$logs/server.$_" } qw(log csv json) }

# Both orders of the libraries must do.
my @libraries = ("'sentient_edge, pg_stat_statements, auto_explain'", "'pg_stat_statements, auto_explain, sentient_edge'");

configure("shared_preload_libraries = $libraries[0]");
{
	local $ENV{SENTIENT_EDGE_MASTER_KEY} = unpack 'H*', $master;
	$node->start;
}
sentient_database($node, 'fleet');
$node->safe_psql('fleet', q{CREATE EXTENSION pg_stat_statements;
	ALTER SYSTEM SET auto_explain.log_parameter_max_length = -1}) if $node->pg_version >= 16;
$node->safe_psql('fleet', 'CREATE EXTENSION IF NOT EXISTS pg_stat_statements');
$node->reload;

my $postmaster = $node->{_pid};
my @processes = ($postmaster, split /\s+/, slurp_file("/proc/$postmaster/task/$postmaster/children"));
my $shown = join '', map { my $p = $_; map { -r "/proc/$p/$_" ? eval { slurp_file("/proc/$p/$_") } // '' : '' } qw(environ cmdline) } @processes;
ok(length $shown > 100, 'environment and command line of the server and its children can be read');
nowhere_in($shown, 'in the environment or command line of the server');

# ---- everything that takes or returns secrets ----

$node->safe_psql('fleet', <<'END');
CREATE TABLE kept (id int PRIMARY KEY, note text, value sentient_edge.sealed);
CREATE TABLE typed (id int, value sentient_edge.sealed);
CREATE TRIGGER bound BEFORE INSERT OR UPDATE ON kept FOR EACH ROW EXECUTE FUNCTION sentient_edge.require_context('value', 'id');
CREATE TABLE kept_short (id int, note text CHECK (length(note) < 5), value sentient_edge.sealed);
CREATE FUNCTION keep_for_me(secret text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO kept VALUES (100, '', sentient_edge.seal(secret, 'public.kept.value:100', true));
	RAISE NOTICE 'kept %', secret;
END $$;
CREATE FUNCTION keep_dynamically(secret text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT sentient_edge.seal(%L, %L)', secret, 'x:1');
	EXECUTE format('SELECT sentient_edge.seal(%L, %L)::int', secret, 'x:1');
END $$;
INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('00000000-0000-4000-8000-0000000000d1', 'one', 'vtol'), ('00000000-0000-4000-8000-0000000000d2', 'two', 'vtol');
INSERT INTO core.communication_channels (channel_id, name, channel_type) VALUES ('00000000-0000-4000-8000-0000000000c1', 'secrets', 'radio');
INSERT INTO auth.users (user_id, username) VALUES ('00000000-0000-4000-8000-0000000000a1', 'secrets');
INSERT INTO auth.api_keys (key_id, user_id, name, prefix, key_hash) VALUES ('00000000-0000-4000-8000-0000000000b1', '00000000-0000-4000-8000-0000000000a1', 'secrets', 'se_secrets', sha256('secrets'));
CREATE PROCEDURE keep_by_call(secret text) LANGUAGE plpgsql AS $$ BEGIN PERFORM sentient_edge.seal(secret, 'x:1'); END $$;
END

# Text that stands in statements; the server logs each, many fail.
my $literals = <<'END';
INSERT INTO kept VALUES (1, '', sentient_edge.seal('CANARY', 'public.kept.value:1', true));
INSERT INTO kept VALUES (1, 'x', sentient_edge.seal('CANARY', 'public.kept.value:1', true));
INSERT INTO kept VALUES (2, 'CANARY', sentient_edge.seal('CANARY', 'public.kept.value:3', true));
INSERT INTO kept_short VALUES (3, 'CANARY', sentient_edge.seal('CANARY', 'public.kept_short.value:3'));
INSERT INTO kept SELECT i, '', sentient_edge.seal('CANARY' || i, 'public.kept.value:' || i) FROM generate_series(10, 60) i;
ANALYZE kept;
SELECT sentient_edge.seal('CANARY'::int, 'x:1');
SELECT sentient_edge.seal('CANARY', '');
SELECT sentient_edge.seal('CANARY', 'x:1') syntax error;
SELECT SENTIENT_EDGE."seal" /* or not */ ('CANARY', 'x:1', true);
SELECT U&"sentient\005fedge".u&"se\0061l" ('CANARY', 'x:1');
SELECT sentient_edge.seal[VT]('CANARY', 'x:1');
SELECT sentient_edge.seal_bytes('CANARY', 'x:1', true);
SELECT sentient_edge.unseal_bytes(sentient_edge.seal_bytes('CANARY', 'x:1'), 'x:1') = 'CANARY';
SELECT id FROM kept WHERE sentient_edge.unseal(value, 'public.kept.value:1') = 'CANARY';
SELECT id FROM kept WHERE sentient_edge.try_unseal(value, 'public.kept.value:' || id) LIKE 'CANARY%' ORDER BY sentient_edge.try_unseal(value, 'public.kept.value:' || id);
SELECT sentient_edge.unseal(value, 'public.kept.value:1')::int FROM kept WHERE id = 1;
SELECT sentient_edge.unseal(value, 'public.kept.value:2') FROM kept WHERE id = 1;
SELECT xmlparse(content '<' || sentient_edge.unseal(value, 'public.kept.value:1')) FROM kept WHERE id = 1;
SELECT id FROM kept WHERE value = sentient_edge.search_token('CANARY', 'public.kept.value');
SELECT id FROM kept WHERE value = ANY (sentient_edge.search_tokens('CANARY', 'public.kept.value'));
UPDATE kept SET value = sentient_edge.seal('CANARY', 'public.kept.value:' || id) WHERE id > 10;
MERGE INTO kept USING (SELECT 1) ON id = 1 WHEN MATCHED THEN UPDATE SET value = sentient_edge.seal('CANARY', 'public.kept.value:1', true);
PREPARE seal_it (text) AS SELECT sentient_edge.seal($1, 'x:1');
EXECUTE seal_it ('CANARY');
EXECUTE "seal_it" ('CANARY', 'CANARY');
PREPARE "odd ""Name" (text) AS SELECT sentient_edge.seal($1, 'x:1');
EXECUTE "odd ""Name" ('CANARY');
EXECUTE U&"odd \0022Name" ('CANARY');
EXECUTE /* with a comment */ seal_it ('CANARY');
EXECUTE -- or another
	seal_it ('CANARY');
EXECUTE gone_with_its_session ('CANARY');
EXPLAIN EXECUTE gone_with_its_session ('CANARY');
EXPLAIN (ANALYZE, VERBOSE) EXECUTE seal_it ('CANARY');
CREATE TEMP TABLE executed AS EXECUTE seal_it ('CANARY');
BEGIN; EXECUTE seal_it ('CANARY'); SELECT 1/0; COMMIT;
DO $$ BEGIN PERFORM sentient_edge.seal('CANARY', 'x:1'); END $$;
DO $$ DECLARE secret text := 'CANARY'; BEGIN PERFORM sentient_edge.seal(secret, 'x:1'); RAISE NOTICE '%', secret; RAISE EXCEPTION '% %', secret, secret USING DETAIL = secret, HINT = secret; END $$;
CALL keep_by_call(/* sentient_edge.seal( */ 'CANARY');
SELECT keep_for_me('CANARY');
SELECT keep_for_me('CANARY');
DECLARE held CURSOR WITH HOLD FOR SELECT sentient_edge.seal('CANARY', 'x:1') FROM generate_series(1, 3);
EXPLAIN VERBOSE SELECT sentient_edge.search_token('CANARY', 'x');
COPY (SELECT sentient_edge.seal('CANARY', 'x:1')) TO STDOUT;
COPY typed (id, value) FROM STDIN;
1	CANARY
\.
BEGIN; INSERT INTO kept VALUES (200, '', sentient_edge.seal('CANARY', 'public.kept.value:200')); PREPARE TRANSACTION 'kept';
COMMIT PREPARED 'kept';
SET statement_timeout = 200; SELECT sentient_edge.seal('CANARY', 'x:1'), pg_sleep(30); RESET statement_timeout;
SELECT sentient_edge.rotate_data_key('field'), sentient_edge.rotate_data_key('search');
SELECT count(*) FROM kept WHERE value = ANY (sentient_edge.search_tokens('CANARY', 'public.kept.value'));
SELECT sentient_edge.rotate_master_key();
SELECT sentient_edge.destroy_data_key(key_id) FROM sentient_edge.data_keys WHERE state <> 'active';
SELECT sentient_edge.destroy_data_key(key_id, force => true) FROM sentient_edge.data_keys WHERE state <> 'active' AND purpose = 'search';
SELECT core.set_drone_serial_number('00000000-0000-4000-8000-0000000000d1', 'CANARY');
SELECT core.drone_serial_number('00000000-0000-4000-8000-0000000000d1');
SELECT core.set_drone_serial_number('00000000-0000-4000-8000-0000000000d2', 'CANARY');
SELECT core.find_drone_by_serial_number('CANARY'), core.drone_serial_number('00000000-0000-4000-8000-0000000000d1')::int;
INSERT INTO core.drones (call_sign, drone_type, serial_number) VALUES ('bare', 'vtol', sentient_edge.seal('CANARY', 'core.drones.serial_number:1', true));
UPDATE core.drones SET serial_number = sentient_edge.seal('CANARY', 'core.drones.serial_number:' || drone_id, true);
SELECT core.set_channel_credentials('00000000-0000-4000-8000-0000000000c1', 'CANARY');
SELECT core.channel_credentials('00000000-0000-4000-8000-0000000000c1');
SELECT core.send_message('CANARY', confidential => true) AS message \gset
SELECT core.message_body(:'message');
SELECT core.send_message('CANARY', true, sender_drone => 'CANARY');
SELECT auth.set_user_mfa_secret('00000000-0000-4000-8000-0000000000a1', 'CANARY');
SELECT auth.user_mfa_secret('00000000-0000-4000-8000-0000000000a1');
SELECT auth.set_api_key_signing_secret('00000000-0000-4000-8000-0000000000b1', 'CANARY');
SELECT auth.api_key_signing_secret('00000000-0000-4000-8000-0000000000b1');
SELECT sentient_edge.rotate_data_key('field'), sentient_edge.rotate_data_key('search');
SELECT sentient_edge.reencrypt('core.drones', 'serial_number');
END

# Every other function with an argument or a name that speaks of secrets; it need not succeed to be logged.
my $functions = $node->safe_psql('fleet', <<'END');
SELECT n.nspname || '.' || p.proname
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'sentient_edge'
 WHERE p.prorettype <> 'trigger'::regtype AND p.proname !~ '^sealed_'
   AND (p.proargtypes::oid[] && ARRAY['text', 'bytea']::regtype[]::oid[] OR p.prorettype IN ('text'::regtype, 'bytea'::regtype))
   AND (p.proname || ' ' || coalesce(array_to_string(p.proargnames, ' '), '')) ~ '(plain|unseal|seal\M|secret|password|token|credential|serial_number|mfa|\mbody\M|message_body)'
 ORDER BY 1
END
my @functions = split /\n/, $functions;
cmp_ok(scalar @functions, '>=', 8, 'functions that take or return secrets: ' . scalar @functions);
$literals .= join '', map { "SELECT $_('CANARY', 'CANARY', 'CANARY', 'CANARY', 'CANARY', 'CANARY', 'CANARY');\nSELECT $_('CANARY', 'CANARY');\n" } @functions;

my ($output, $errors);
sub run_literals
{
	my $script = $literals =~ s/CANARY/$canary/gr =~ s/\[VT\]/\x0b/gr;	# a blank since PostgreSQL 16

	($output, $errors) = ('', '');
	IPC::Run::run([ 'psql', '-X', '-d', $node->connstr('fleet') ], '<', \$script, '>', \$output, '2>', \$errors);
	return;
}

# Bind parameters, some of statements that fail.
sub run_bound
{
	for my $statement ("SELECT sentient_edge.seal(:secret, 'x:1');",
		"SELECT sentient_edge.seal(:secret, '');",
		"SELECT sentient_edge.unseal(sentient_edge.seal(:secret, 'x:1'), 'x:1')::int;",
		"INSERT INTO kept VALUES (1, 'x', sentient_edge.seal(:secret, 'public.kept.value:1'));",
		"INSERT INTO kept_short VALUES (1, :secret, sentient_edge.seal(:secret, 'public.kept_short.value:1'));",
		"INSERT INTO typed VALUES (1, sentient_edge.seal(:secret, 'x:1')), (1/0, :secret);",
		"SELECT id FROM kept WHERE value = sentient_edge.search_token(:secret, 'public.kept.value');")
	{
		for my $mode (qw(extended prepared))
		{
			my $file = PostgreSQL::Test::Utils::tempdir() . '/bound.sql';

			open my $script, '>', $file or die $!;
			print $script "$statement\n";
			close $script;
			IPC::Run::run([ 'pgbench', '-n', '-t', '2', '-M', $mode, '-D', "secret=$canary", '-f', $file, $node->connstr('fleet') ],
				'>', \my $out, '2>', \my $err);
		}
	}
	return;
}

# A session that stays idle behind what it has done last.
sub session
{
	my ($statement) = @_;
	my %session = (in => "SELECT 'pid', pg_backend_pid();\n$statement\nSELECT 'done' AS ready \\gset\n\\echo :ready\n", out => '', err => '');

	$session{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('fleet') ],
		'<', \$session{in}, '>', \$session{out}, '2>', \$session{err}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$session{run}->pump until $session{out} =~ /^pid\|(\d+)$/m && $session{out} =~ /^done$/m;
	($session{pid}) = $session{out} =~ /^pid\|(\d+)$/m;
	return \%session;
}

sub activity { return $node->safe_psql('fleet', 'SELECT string_agg(query, E\'\n\') FROM pg_stat_activity') }

for my $order (0, 1)
{
	if ($order == 1)
	{
		configure("shared_preload_libraries = $libraries[1]");
		local $ENV{SENTIENT_EDGE_MASTER_KEY} = unpack 'H*', $master;
		$node->restart;
		$node->safe_psql('fleet', 'SELECT pg_stat_statements_reset()');
	}
	my $where = ", libraries in order $order";

	run_literals();
	like($errors, qr/invalid input syntax for type integer: "\Q$canary\E"/, "the client is told what is wrong$where");
	like($errors, qr/Failing row contains \(3, \Q$canary\E, sealed:/, "and sees its own row$where");
	run_bound();
	cmp_ok(scalar(() = $output =~ /\Q$canary\E/g), '>=', 5, "functions return the clear value$where");
	sentient_wait($node, 'fleet', q{SELECT count(*) > 0 AND bool_and(state = 'finished') FROM sentient_edge.reencryptions}, "the column is re-encrypted$where");
	nowhere_in(logged(), "in the server's logs$where");
	my $log = slurp_file("$logs/server.log");
	like($log, qr/ERROR:  22P02: invalid input syntax for type %s: "%s"\n.*DETAIL:  <hidden: it may contain a secret>\n/, "a failed statement is logged without what it says$where");
	like($log, qr/ERROR:  23505: duplicate key value violates unique constraint "%s"\n/, "so is a violated constraint$where");
	like($log, qr/LOG:  00000: duration: [0-9.]+ ms  <hidden/, "durations are logged$where");
	like($log, qr/LOG:  00000: statement: ANALYZE kept;/, "other statements are logged as they are$where");
	nowhere_in($node->safe_psql('fleet', q{SELECT string_agg(query, E'\n') FROM pg_stat_statements}), "in pg_stat_statements$where");
	like($node->safe_psql('fleet', 'SELECT string_agg(query, E\'\n\') FROM pg_stat_statements'), qr/SELECT sentient_edge\.seal\(\$1/, "which counts the statements$where");

	my $idle = session("SELECT sentient_edge.seal('$canary', 'x:1') \\g /dev/null");
	nowhere_in(activity(), "in pg_stat_activity behind a statement$where");
	$idle->{in} .= "\\q\n";
	$idle->{run}->finish;
	$idle = session("SELECT sentient_edge.seal('$canary', 'x:1') syntax error;");
	nowhere_in(activity(), "in pg_stat_activity behind a failed statement$where");
	$idle->{in} .= "\\q\n";
	$idle->{run}->finish;
}

# What a DBA is told to do about functions of one's own is needed, and does.
$node->psql('fleet', "SELECT keep_dynamically('harmless: not a canary')");
wait_for_log();
like(slurp_file("$logs/server.log"), qr/statement: SELECT keep_dynamically\('harmless/, 'the text of a call of an unknown function is logged before it runs');

# ---- what is stored ----

$node->safe_psql('fleet', 'CHECKPOINT');
is($node->safe_psql('fleet', q{SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'kept' AND attname = 'value'}), 't', 'there are statistics of the sealed column');
nowhere_in($node->safe_psql('fleet', q{SELECT string_agg(l::text, E'\n') FROM audit.log l}) . $node->safe_psql('fleet', q{SELECT string_agg(e::text, E'\n') FROM audit.security_events e}), 'in the audit trail');
cmp_ok($node->safe_psql('fleet', q{SELECT count(*) FROM audit.log WHERE new_values->>'serial_number' ~ '^sealed:'}), '>', 0, 'which has the sealed values');
nowhere_in($node->safe_psql('fleet', q{SELECT string_agg(s::text, E'\n') FROM pg_stats s WHERE schemaname !~ '^pg_'}), 'in statistics');
$node->safe_psql('fleet', 'SELECT pg_switch_wal()');
my @segments = sort grep { /\/[0-9A-F]{24}$/ } glob "$data/pg_wal/*";
IPC::Run::run([ 'pg_waldump', $segments[0], $segments[-1] ], '>', \my $wal, '2>', \my $ignored);
cmp_ok(length $wal, '>', 10000, 'the WAL can be read');
nowhere_in($wal, 'in the WAL as it is shown');
is(files_with_secrets($data), '', 'no secret in any file of the data directory: tables, WAL, statistics, logs');
for my $dump ([ 'pg_dump', '-d', $node->connstr('fleet') ], [ 'pg_dump', '--inserts', '-d', $node->connstr('fleet') ],
	[ 'pg_dumpall', '-d', $node->connstr('postgres') ])
{
	IPC::Run::run($dump, '>', \my $text, '2>', \my $error);
	like($text, qr/sealed:A/, "$dump->[0] carries sealed values");
	nowhere_in($text, "in what $dump->[0] writes");
}

# ---- crashes ----

# Memory of a process that a core dump would hold: all but what is marked as left out.
sub dumpable_memory
{
	my ($pid) = @_;
	my ($memory, $range, $found, $left_out) = ('', '', '', 0);

	open my $mem, '<:raw', "/proc/$pid/mem" or return;
	open my $maps, '<', "/proc/$pid/smaps" or return;
	while (<$maps>)
	{
		# not what the kernel itself shows to every process, such as its clock
		$range = / r.* \[v/ || /^[0-9a-f]+-[0-9a-f]+ -/ ? undef : [ hex $1, hex $2 ] if /^([0-9a-f]+)-([0-9a-f]+) /;
		next unless /^VmFlags:(.*)/ && $range;
		if ($1 =~ /\bdd\b/)
		{
			$left_out++;
			next;
		}
		my ($before, $piece) = ('', '');
		sysseek $mem, $range->[0], 0 or next;
		for (my $left = $range->[1] - $range->[0]; $left > 0 && sysread $mem, $piece, $left > 1 << 20 ? 1 << 20 : $left;)
		{
			$found .= found_in($before . $piece);
			$before = substr $piece, length $piece > 400 ? -400 : 0;
			$left -= length $piece;
		}
	}
	return ($found, $left_out);
}

sub cores { return grep { !/\.conf$/ } glob "$data/core*" }

sub start_with_cores
{
	configure("shared_preload_libraries = $libraries[1]\n" . shift);
	local $ENV{SENTIENT_EDGE_MASTER_KEY} = unpack 'H*', $master;
	$node->stop if $node->{_pid};
	command_ok([ 'pg_ctl', '--core-files', '-w', '-D', $data, '-l', $node->logfile, 'start' ], 'the server starts with core dumps allowed');
	$node->_update_pid(1);
	return;
}

sub crash
{
	my ($session) = @_;

	kill 'ABRT', $session->{pid};
	eval { $session->{run}->finish };
	for (1 .. 100 * $PostgreSQL::Test::Utils::timeout_default)
	{
		# psql without standard input, which nobody may read
		last if !-e "/proc/$session->{pid}" && IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT 1' ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
		usleep 10_000;
	}
	return;
}

my $pattern = slurp_file('/proc/sys/kernel/core_pattern');
my $here = $pattern =~ /^[^\/|]/;

start_with_cores('');
my $session = session("SELECT sentient_edge.unseal(sentient_edge.seal('$canary', 'x:1'), 'x:1') \\g /dev/null");
ok(!defined dumpable_memory($session->{pid}) && !-r "/proc/$session->{pid}/environ", 'a session that holds keys cannot be looked into');
crash($session);
is(join(' ', cores()), '', 'and leaves no core dump');
wait_for_log();
my $crash = slurp_file("$logs/server.log");
like($crash, qr/was terminated by signal 6/, 'it crashed');
nowhere_in(logged(), 'in what the server says of a crash');

start_with_cores('sentient_edge.key_core_dump = on');
$session = session("SELECT sentient_edge.seal('harmless', 'x:1') \\g /dev/null");
my ($in_memory, $left_out) = dumpable_memory($session->{pid});

{
	# Where the kernel lets a user look into one's own processes, as a core dump would.
	if (defined $in_memory)
	{
		is($in_memory, '', 'no master key in the memory of a session that may be dumped');
		is($left_out, 2, 'the key memory of the server and that of the session are left out of dumps');
	}
	crash($session);
	my @cores = cores();
	cmp_ok(scalar @cores, '>', 0, 'a core dump was allowed') if $here;
	nowhere_in(join('', map { slurp_file($_) } @cores), 'in a core dump', 'master key', 'wrapping key');
	unlink @cores;
}

$session = session("SELECT sentient_edge.seal('$canary', 'x:1') \\g /dev/null");
$node->stop('immediate');
eval { $session->{run}->finish };
is(files_with_secrets($data), '', 'no secret in the data directory of a server that was stopped at once');

# ---- where keys come from ----

my $folder = PostgreSQL::Test::Utils::tempdir();
my $hex = unpack 'H*', $master;
open my $file, '>', "$folder/key" or die $!;
print $file "$hex\n";
close $file;
for (
	[ 'a key file', 0600, "key_provider = file\nsentient_edge.key_file = '$folder/key'" ],
	[ 'a key file that others may read', 0644, "key_provider = file\nsentient_edge.key_file = '$folder/key'" ],
	[ 'a program', 0600, "key_provider = command\nsentient_edge.key_command = '/bin/cat $folder/key'" ],
	[ 'a program that prints a key and fails', 0600, "key_provider = command\nsentient_edge.key_command = '/bin/cat $folder/key $folder/none'" ],
	[ 'a program that prints a damaged key', 0600, "key_provider = command\nsentient_edge.key_command = '/bin/cat $folder/key $folder/damaged'" ],
	[ 'variables, one of them damaged', 0600, "key_env = 'GOOD DAMAGED'" ])
{
	my ($what, $mode, $conf) = @$_;

	chmod $mode, "$folder/key";
	open my $damaged, '>', "$folder/damaged" or die $!;
	print $damaged "$hex!\n";
	close $damaged;
	configure("shared_preload_libraries = $libraries[0]\nsentient_edge.$conf");
	local @ENV{qw(GOOD DAMAGED)} = ($hex, "${hex}00");
	$node->start;
	$node->safe_psql('fleet', 'SELECT * FROM sentient_edge.key_status()');
	$node->psql('fleet', "SELECT sentient_edge.seal('$canary', 'x:1')");
	nowhere_in(logged() . slurp_file($node->logfile) . $node->safe_psql('fleet', 'SELECT string_agg(s::text, \'\') FROM sentient_edge.key_status() s'), "of $what is told");
	$node->stop;
}
is(files_with_secrets($data), '', 'nor left in the data directory');

done_testing();
