# 091_ledger_life.pl
#		What happens to a ledger: late and prepared transactions, two sealers at once,
#		crashes, a standby, other clusters, servers without the key, sinks that fail.

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(run start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use SentientEdge;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $findings = q{SELECT string_agg(concat_ws(' ', finding, block_number, audit_id), ', ' ORDER BY finding, block_number, audit_id) FROM };
my $unsealed = 'SELECT count(*) FROM audit.log l WHERE NOT EXISTS (SELECT FROM audit.blocks b, unnest(b.entry_ids) AS e (id) WHERE e.id = l.audit_id)';
my $unsealed_events = 'SELECT count(*) FROM audit.security_events l WHERE NOT EXISTS (SELECT FROM audit.blocks b, unnest(b.event_ids) AS e (id) WHERE e.id = l.event_id)';

my $node = sentient_server('life', durable => 1, init => { allows_streaming => 1 },
	conf => "max_prepared_transactions = 4\nsentient_edge.anchor_interval = 1");
sentient_database($node, 'fleet');

sub ask { my ($sql, $on) = @_; return ($on // $node)->safe_psql('fleet', $sql); }
sub clean { my ($what, $on) = @_; is(ask("$findings audit.verify()", $on), '', $what) or diag(ask('SELECT * FROM audit.verify()', $on)); return; }
sub sealed { my ($what, $on) = @_; return sentient_wait($on // $node, 'fleet', "SELECT ($unsealed) = 0", $what); }
sub ship { my ($id, $on) = @_; return ask("INSERT INTO public.ship VALUES ($id, 'ship', 0)", $on); }

# A session that stays open.
sub session
{
	my $s = $node->background_psql('fleet', on_error_stop => 0);
	return $s;
}
sub entry_of { my ($id, $on) = @_; return ask("SELECT audit_id FROM audit.log WHERE row_key = '{\"ship_id\": $id}' AND operation = 'I'", $on); }
sub block_of { my ($id, $on) = @_; return ask('SELECT block_number FROM audit.blocks WHERE ' . entry_of($id, $on) . ' = ANY (entry_ids)', $on); }

ask('CREATE TABLE public.ship (ship_id int PRIMARY KEY, name text, crew int)');
ask("SELECT audit.enable('public.ship')");
sealed('what setting up wrote is sealed');

# ---- transactions that end late ----

my $late = session();
$late->query_safe('BEGIN');
$late->query_safe("INSERT INTO public.ship VALUES (1, 'late', 0)");
$late->query_safe('SAVEPOINT s');
$late->query_safe("INSERT INTO public.ship VALUES (2, 'aborted', 0)");
$late->query_safe('ROLLBACK TO s');
$late->query_safe('SAVEPOINT t');
$late->query_safe("INSERT INTO public.ship VALUES (3, 'subtransaction', 0)");
$late->query_safe('RELEASE t');
ask(q{BEGIN; INSERT INTO public.ship VALUES (4, 'prepared', 0); PREPARE TRANSACTION 'later'});
for my $id (10 .. 13)
{
	ship($id);
	ask('SELECT audit.seal()');
}
clean('others are sealed while a transaction is open, and another prepared');
is(ask('SELECT count(DISTINCT b) FROM unnest(ARRAY[' . join(', ', map { block_of($_) } 10 .. 13) . ']) AS b'), 4, 'in blocks of their own');
$late->query_safe("INSERT INTO public.ship VALUES (5, 'later', 0)");
$late->query_safe('COMMIT');
$late->quit;
sealed('its entries are sealed when it has ended');
cmp_ok(block_of(1), '>', block_of(13), 'after those that were visible before');
is(block_of(1) . block_of(3) . block_of(5), block_of(1) x 3, 'all of them, of its subtransaction as well');
is(entry_of(2), '', 'not of the aborted one');
clean('and nothing is wrong');
$node->restart;
ship(14);
sealed('after a restart');
ask(q{COMMIT PREPARED 'later'});
sealed('the prepared transaction is sealed when it is committed');
cmp_ok(block_of(4), '>', block_of(14), 'in order of visibility');
ask(q{BEGIN; INSERT INTO public.ship VALUES (6, 'never', 0); PREPARE TRANSACTION 'never'});
ask(q{ROLLBACK PREPARED 'never'});
ask('BEGIN; INSERT INTO public.ship VALUES (7, \'own\', 0); SELECT audit.seal(); INSERT INTO public.ship VALUES (8, \'own\', 0); COMMIT');
sealed('a transaction that seals leaves its own entries to the next run');
is(block_of(7), block_of(8), 'all of them');
clean('still right');

# ---- ids in any order ----

ask('ALTER SEQUENCE audit.log_audit_id_seq CACHE 20');
my @hoard = (session(), session());
$hoard[$_]->query_safe("INSERT INTO public.ship VALUES (92$_, 'first', 0)") for 0, 1;
sealed('ids that sessions are given in advance');
$hoard[$_]->query_safe("INSERT INTO public.ship VALUES (93$_, 'second', 0)") for 1, 0;
cmp_ok(entry_of(930), '<', entry_of(921), 'and use later');
sealed('keep no entry from being sealed');
$_->quit for @hoard;
ask("ALTER SEQUENCE audit.log_audit_id_seq CACHE 1 INCREMENT -1 RESTART 100000");
for my $id (940, 941)
{
	ship($id);
	sealed('nor does a sequence that counts down');
}
ask("ALTER SEQUENCE audit.log_audit_id_seq INCREMENT 1 RESTART 200000");
clean('nothing is wrong with them');

# ---- two sealers at once, and many writers ----

sub writers
{
	my ($seconds) = @_;
	append_to_file("$folder/write.sql", "INSERT INTO public.ship SELECT nextval('public.number'), 'many', i FROM generate_series(1, 20) i;\n") unless -f "$folder/write.sql";
	append_to_file("$folder/seal.sql", "SELECT audit.seal();\n") unless -f "$folder/seal.sql";
	return start([ 'pgbench', '-n', '-c', '8', '-j', '1', '-T', $seconds, '-f', "$folder/write.sql\@7", '-f', "$folder/seal.sql\@2", $node->connstr('fleet') ],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}
ask('CREATE SEQUENCE public.number START 1000');
my $clients = writers(4);
$clients->finish;
sealed('what eight sessions wrote and sealed beside the scheduler');
clean('is one chain');
is(ask('SELECT count(*) = count(DISTINCT id) FROM audit.blocks, unnest(entry_ids) id'), 't', 'and no entry is in two blocks');

# ---- crashes ----

for my $turn (1 .. 3)
{
	$clients = writers(3);
	usleep(700_000);
	my $victim = ask(q{SELECT pid FROM pg_stat_activity WHERE datname = 'fleet' AND backend_type = 'sentient_edge scheduler'});
	kill 'KILL', $victim if $victim ne '';
	$clients->finish;
	# Not through poll_query_until: psql may be gone before its standard input is written.
	my $back = 0;
	for (1 .. 600)
	{
		last if $back = run([ 'psql', '-XAtq', '-d', $node->connstr('fleet'), '-c', 'SELECT 1' ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
		usleep(100_000);
	}
	$back or die 'the server did not come back';
}
sealed('after three crashes of the sealing process');
clean('nothing is wrong');
is(ask('SELECT count(*) = count(DISTINCT id) FROM audit.blocks, unnest(entry_ids) id'), 't', 'and nothing doubled');
is(ask('SELECT count(*) = count(DISTINCT id) FROM audit.blocks, unnest(event_ids) id'), 't', 'no event either');
is(ask("SELECT (SELECT sum(cardinality(entry_ids)) FROM audit.blocks) - (SELECT count(*) FROM audit.log)"), '0', 'nothing is missing');
is(ask("SELECT coalesce(sum(entry_count) FILTER (WHERE holds_events), 0) > 0, sum(entry_count) - sum(cardinality(entry_ids) + cardinality(event_ids)) FROM audit.blocks"),
	't|0', 'there are blocks of events');
is(ask("SELECT count(*) FROM audit.blocks, unnest(event_ids) AS e (id) WHERE NOT EXISTS (SELECT FROM audit.security_events s WHERE s.event_id = e.id)"), '0',
	'with no event that is not there');

# ---- sinks ----

mkdir "$folder/digests" or die $!;
append_to_file("$folder/take", "#!/bin/sh\ncat > '$folder/taken'.\$\$ && mv '$folder/taken'.\$\$ '$folder/taken'\n");
append_to_file("$folder/fail", "#!/bin/sh\nexit 3\n");
my $sleep = "sleep 12345.$$";
append_to_file("$folder/hang", "#!/bin/sh\n$sleep & $sleep\n");
chmod 0755, map { "$folder/$_" } qw(take fail hang);
ask('CREATE TABLE public.kept (received_at timestamptz DEFAULT now(), digest jsonb NOT NULL)');
ask("SELECT audit.set_anchor_sink('a file', 'file', ARRAY['$folder/digests']), audit.set_anchor_sink('a table', 'table', '{public.kept}'),
	audit.set_anchor_sink('a program', 'command', ARRAY['$folder/take'])");
is(ask('SELECT string_agg(sink_name || exported, \',\') FROM audit.export_digest()'), 'a filetrue,a programtrue,a tabletrue', 'a digest is exported to three sinks');
my ($file) = glob "$folder/digests/*.json";
is(ask("$findings audit.verify_digest('" . slurp_file($file) . "')"), '', 'to a file');
is((stat $file)[2] & 0777, 0600, 'which only the server reads');
is(ask("$findings audit.verify_digest('" . slurp_file("$folder/taken") . "')"), '', 'to a program');
is(ask("$findings public.kept, audit.verify_digest(digest)"), '', 'to a table');
ask("SELECT audit.set_anchor_sink('fails', 'command', ARRAY['$folder/fail']), audit.set_anchor_sink('is not there', 'command', ARRAY['$folder/nothing'])");
ship(20);
sentient_wait($node, 'fleet', q{SELECT count(*) = 2 FROM audit.anchor_exports WHERE failures > 0}, 'the worker exports, and counts the failures');
is(ask(q{SELECT string_agg(regexp_replace(last_error, '"[^"]*/', '"'), ',' ORDER BY sink_name) FROM audit.anchor_exports WHERE failures > 0}),
	'program "fail" failed,program "nothing" could not be executed', 'and says why');
sentient_wait($node, 'fleet', q{SELECT min(exports) >= 2 FROM audit.anchor_exports WHERE failures = 0}, 'the others have theirs');
# With programs that have a time that is short for any but this one.
ask("SELECT audit.drop_anchor_sink(sink_name) FROM audit.anchor_sinks WHERE kind = 'command'; ALTER SYSTEM SET sentient_edge.anchor_timeout = 500");
$node->reload;
ask("SELECT audit.set_anchor_sink('hangs', 'command', ARRAY['$folder/hang', 'x y'])");
ship(24);
sentient_wait($node, 'fleet', q{SELECT last_error ~ '^program "[^"]*hang" did not end within 500 ms$' FROM audit.anchor_exports WHERE sink_name = 'hangs'}, 'a program that hangs is ended, and that is said');
ask("SELECT audit.drop_anchor_sink('hangs')");
my $pgrep = 0;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if ($pgrep = system('pgrep', '-f', $sleep =~ s/^s/[s]/r) >> 8) == 1;
	usleep(100_000);
}
is($pgrep, 1, 'nothing is left of it');
ask("CREATE ROLE watcher LOGIN IN ROLE sentient_admin; CREATE TABLE public.secret (digest jsonb); CREATE TABLE public.mine (digest text); GRANT INSERT ON public.mine TO watcher");
for my $case ([ "audit.set_anchor_sink('x', 'command', '{/bin/true}')", 'only superusers can export digests' ],
	[ "audit.set_anchor_sink('x', 'file', '{/tmp}')", 'only superusers can export digests' ],
	[ "audit.set_anchor_sink('a file', 'table', '{public.mine}')", 'only superusers can change sink' ],
	[ "audit.drop_anchor_sink('a file')", 'only superusers can change sink' ],
	[ "audit.set_anchor_sink('x', 'table', '{public.secret}')", 'permission denied for table secret' ],
	[ "audit.set_anchor_sink('x', 'pigeon', '{public.mine}')", 'there is no kind of sink' ])
{
	my ($call, $error) = @$case;
	like(($node->psql('fleet', "SET ROLE watcher; SELECT $call"))[2], qr/$error/, $call);
}
like(($node->psql('fleet', "SELECT audit.set_anchor_sink('x', 'file', '{relative}')"))[2], qr/is not absolute/, 'a relative path');
like(($node->psql('fleet', "SELECT audit.set_anchor_sink('x', 'table', '{public.ship}')"))[2], qr/has no column "digest"/, 'a table without the column');
ask("SET ROLE watcher; SELECT audit.set_anchor_sink('mine', 'table', '{public.mine}')");
like(ask(q{SELECT string_agg(sink_name, ',') FROM audit.export_digest() WHERE exported}), qr/mine/, 'an administrator sets a table that he may insert into');
is(ask(q{SELECT string_agg(audit.drop_anchor_sink(sink_name)::text, ',') FROM audit.anchor_sinks}), join(',', ('true') x 3), 'sinks are dropped');

# ---- a table of another server, by postgres_fdw ----

$node->safe_psql('postgres', 'CREATE DATABASE vault');
$node->safe_psql('vault', 'CREATE TABLE public.kept (received_at timestamptz DEFAULT clock_timestamp(), digest jsonb NOT NULL)');
ask("CREATE EXTENSION postgres_fdw; CREATE SERVER vault FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $node->host . "', port '" . $node->port . "', dbname 'vault');
	CREATE USER MAPPING FOR CURRENT_USER SERVER vault;
	CREATE FOREIGN TABLE public.far_kept (digest jsonb) SERVER vault OPTIONS (schema_name 'public', table_name 'kept');
	SELECT audit.set_anchor_sink('far', 'table', '{public.far_kept}'), audit.set_anchor_sink('near', 'table', '{public.kept}')");
my $vault = q{SELECT coalesce(max((digest->>'block')::bigint), -1) FROM public.kept};
sub in_vault { return $node->safe_psql('vault', $vault); }
ship(21);
sealed('an entry for the vault');
sentient_wait($node, 'vault', "SELECT ($vault) >= " . block_of(21), 'the worker exports to a foreign table');
$node->safe_psql('postgres', 'ALTER DATABASE vault ALLOW_CONNECTIONS false');
my $at = ask(q{SELECT failures FROM audit.anchor_exports WHERE sink_name = 'far'});
my $near = ask(q{SELECT exports FROM audit.anchor_exports WHERE sink_name = 'near'});
ship($_) for 22 .. 23;
sealed('entries while the vault is down');
sentient_wait($node, 'fleet', "SELECT failures >= $at + 2 AND last_error LIKE '%vault%' AND last_error_at > last_success_at FROM audit.anchor_exports WHERE sink_name = 'far'",
	'a sink that is down shows, with the reason, and is tried again');
like(ask(q{SELECT string_agg(error, ',') FROM audit.export_digest() WHERE sink_name = 'far' AND NOT exported}), qr/could not connect to server "vault"/, 'also to who exports now');
cmp_ok(ask(q{SELECT exports FROM audit.anchor_exports WHERE sink_name = 'near'}), '>', $near, 'the other sink has its digests');
$node->safe_psql('postgres', 'ALTER DATABASE vault ALLOW_CONNECTIONS true');
sentient_wait($node, 'vault', "SELECT ($vault) >= " . block_of(23), 'when it is up again, it gets a digest that covers all');
sentient_wait($node, 'fleet', q{SELECT last_block_number IS NOT NULL AND last_success_at > last_error_at FROM audit.anchor_exports WHERE sink_name = 'far'}, 'and that shows, too');
my @digests = split /\n/, $node->safe_psql('vault', 'SELECT digest FROM public.kept');
is(ask("$findings audit.verify_digest('$_')"), '', 'a digest of the vault fits') for @digests[ 0, -1 ];
is(ask(q{SELECT count(audit.drop_anchor_sink(sink_name)) FROM audit.anchor_sinks}), '2', 'both sinks are dropped');

# ---- a standby ----

sealed('before the standby');
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('life_standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
ship(30);
sealed('an entry more');
$node->wait_for_catchup($standby);
clean('a standby verifies', $standby);
like(ask('SELECT audit.proof(' . entry_of(30) . ')', $standby), qr/"signature"/, 'and proves');
like(($standby->psql('fleet', 'SELECT audit.seal()'))[2], qr/cannot execute audit.seal\(\)/, 'but seals nothing');
my $digest = ask('SELECT audit.digest()');

# ---- a dump in another cluster, and an older one ----

my $other = sentient_server('life_other', conf => "max_prepared_transactions = 4");
$other->safe_psql('postgres', 'CREATE DATABASE fleet');
$other->safe_psql('postgres', 'CREATE ROLE watcher');
$node->command_ok([ 'pg_dump', '-Fp', '-f', "$folder/dump.sql", $node->connstr('fleet') ], 'a dump');
ship(31);
sealed('what comes after the dump');
my $newer = ask('SELECT audit.digest()');
$other->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$folder/dump.sql", $other->connstr('fleet') ], 'is restored in another cluster');
like(($other->psql('fleet', 'SELECT audit.seal()'))[2], qr/^$|nothing can be sealed while a dump is being restored/, 'nothing is sealed before its end is noticed');
ask('SELECT telemetry.run_maintenance()', $other);
is(ask('SELECT system_identifier FROM pg_control_system()', $other) eq ask('SELECT system_identifier FROM pg_control_system()'), '', 'which is another one');
sentient_wait($other, 'fleet', 'SELECT (SELECT system_identifier FROM audit.blocks ORDER BY block_number DESC LIMIT 1) = (SELECT system_identifier FROM pg_control_system())',
	'the chain goes over to it');
clean('nothing is wrong there', $other);
is(ask("$findings audit.verify_digest('$digest')", $other), '', 'a digest of before the dump fits');
like(ask("$findings audit.verify_digest('$newer')", $other), qr/^(missing_block|digest_mismatch) \d+$/, 'one of after it does not');
ship($_, $other) for 40 .. 42;
sealed('new entries are sealed there', $other);
# Its transaction numbers pass those of the first cluster: old entries must not be taken for new ones.
my ($highest, $here) = (ask('SELECT max(transaction_id::text::bigint) FROM audit.log', $other), ask('SELECT pg_current_xact_id()::text::bigint', $other));
ask("DO \$\$ BEGIN FOR i IN 1 .. greatest(0, $highest - $here + 10) LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END \$\$", $other);
ship($_, $other) for 43 .. 45;
sealed('when its transaction numbers have passed those of the first', $other);
clean('nothing is wrong', $other);
is(ask('SELECT count(*) = count(DISTINCT id) FROM audit.blocks, unnest(entry_ids) id', $other), 't', 'and no entry is in two blocks');
$other->stop;

# ---- promotion ----

$node->stop;
$standby->promote;
ship(50, $standby);
sealed('a promoted standby seals', $standby);
clean('in the same chain', $standby);

# ---- without the key ----

$standby->stop;
{
	local $ENV{SENTIENT_EDGE_MASTER_KEY};
	delete $ENV{SENTIENT_EDGE_MASTER_KEY};
	$standby->start;
	like(($standby->psql('fleet', "INSERT INTO public.ship VALUES (60, 'no key', 0); SELECT audit.seal()"))[2], qr/the ledger cannot be continued without its key/,
		'a signed chain is not continued without its key');
	like(ask("$findings audit.verify()", $standby), qr/unknown_key/, 'and cannot be verified');
	sentient_events($standby, 'fleet', 'the logins are written without a MAC');
	$standby->stop;
}
$standby->start;
my $refused = ask('SELECT refused FROM audit.seal()', $standby);
my $unkeyed = entry_of(60, $standby);
is(ask("$findings audit.verify() WHERE finding <> 'unkeyed_event'", $standby), "unkeyed_entry $unkeyed", 'an entry that was written without the key is reported');
is(ask("SELECT count(*) > 0 AND bool_and(e.mac IS NULL) FROM audit.verify() v JOIN audit.security_events e USING (event_id) WHERE v.finding = 'unkeyed_event'", $standby),
	't', 'so are events, of logins');
is(ask('SELECT entries FROM audit.seal(true)', $standby), '1', 'until an administrator accepts it');
is(ask("SELECT accepts_unkeyed, entry_count FROM audit.blocks WHERE $unkeyed = ANY (entry_ids)", $standby), 't|1', 'which its block says');
clean('then all is well', $standby);
ship(61, $standby);
sealed('and goes on', $standby);
clean('signed', $standby);
unlike(slurp_file($_->logfile), qr/PANIC|TRAP|sentient_edge assertion/, $_->name . ': no assertion failed') for $node, $standby, $other;
$standby->stop;

# ---- a database that never had a key, and gets one ----

{
	local $ENV{SENTIENT_EDGE_MASTER_KEY};
	delete $ENV{SENTIENT_EDGE_MASTER_KEY};
	my $plain = sentient_server('life_plain');
	sentient_database($plain, 'fleet');
	ask('CREATE TABLE public.ship (ship_id int PRIMARY KEY, name text, crew int)', $plain);
	ask("SELECT audit.enable('public.ship')", $plain);
	ship($_, $plain) for 1 .. 3;
	sealed('without any key', $plain);
	is(ask('SELECT (SELECT count(signature) FROM audit.blocks), (SELECT count(mac) FROM audit.log), (SELECT count(mac) FROM audit.security_events)', $plain), '0|0|0', 'unsigned');
	clean('but chained', $plain);
	unlike(ask('SELECT audit.digest()', $plain), qr/signature/, 'its digest is unsigned');
	$plain->stop;
	$ENV{SENTIENT_EDGE_MASTER_KEY} = '5ea1ed0000000000000000000000000000000000000000000000000000000001';
	$plain->start;
	ship($_, $plain) for 4 .. 6;
	sealed('with a key', $plain);
	sentient_wait($plain, 'fleet', 'SELECT signature IS NOT NULL FROM audit.blocks ORDER BY block_number DESC LIMIT 1', 'the chain goes over to signatures');
	clean('all of it', $plain);

	# Somebody seals, or prunes, and does not end his transaction.
	my $job = "FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'ledger'";
	my $told = "FROM audit.security_events WHERE event_type = 'integrity' AND message = 'sealing is held up'";
	my $holder = $plain->background_psql('fleet');
	my $holder_pid = $holder->query_safe('SELECT pg_backend_pid()');
	$holder->query_safe('BEGIN; SELECT audit.seal()');
	sentient_wait($plain, 'fleet', "SELECT last_error = 'sealing is held up by another session' $job", 'the scheduler tells that sealing is held up');
	sentient_wait($plain, 'fleet', "SELECT count(*) > 0 $told", 'with an event');
	sentient_wait($plain, 'fleet', 'SELECT errors > 1 + ' . ask("SELECT errors $job", $plain) . " $job", 'as long as it is');
	is(ask("SELECT severity, object, details->>'pid', details->>'role', event_count $told", $plain),
		"warning|audit.blocks|$holder_pid|" . ask('SELECT current_user', $plain) . '|1', 'which is one, of who it is');
	$holder->query_safe('COMMIT');
	$holder->quit;
	ship(7, $plain);
	sealed('goes on when the transaction has ended', $plain);
	clean('with nothing left out', $plain);
	$plain->stop;
}
done_testing();
