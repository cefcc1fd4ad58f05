# 092_ledger_events.pl
#		Security events in the ledger: what audit.verify finds of tampering with them,
#		their proofs, pruning and retention; and the findings that take a broken server.

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(run);
use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $checker = "$folder/ledger_check";
system_or_bail('cc', '-O1', '-Wall', '-Wextra', '-Werror', '-o', $checker, 'test/checker/ledger_check.c', '-lcrypto');

# The test seals, and equal events (its logins, what is rolled back) come once.
my $node = sentient_server('ledger_events',
	conf => "timezone = UTC\nsentient_edge.partition_maintenance_interval = 86400\nsentient_edge.ledger_interval = 3600\nsentient_edge.audit_event_window = 3600");
sentient_database($node, 'fleet');

my $found = q{SELECT string_agg(f, ', ' ORDER BY f COLLATE "C") FROM (SELECT concat_ws(' ', finding, (SELECT message FROM audit.security_events e WHERE e.event_id = v.event_id LIMIT 1)) AS f FROM audit.verify(%s) v) v};
my @tables = qw(audit.log audit.security_events audit.blocks audit.anchors);

sub ask { return $node->safe_psql('fleet', shift); }
sub clean { is(ask(sprintf $found, ''), '', shift) or diag(ask('SELECT * FROM audit.verify()')); return; }

# What verify finds of something that is done in a transaction and rolled back.  Triggers stand back for it.
sub finds
{
	my ($tampering, $expected, $what, $check) = @_;
	my $out = ask("SET client_min_messages = error; BEGIN;" . join('', map { "ALTER TABLE $_ DISABLE TRIGGER ALL;" } @tables) . "$tampering;"
		  . join('', map { "ALTER TABLE $_ ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate;" } @tables)
		  . ($check // sprintf $found, '') . '; ROLLBACK');
	return ref $expected ? like($out, $expected, $what) : is($out, $expected, $what);
}

sub checked
{
	my ($input, @arguments) = @_;
	my $out = '';
	run([ $checker, @arguments ], '<', \$input, '>&', \$out);
	return $out;
}

# Two blocks of events, three doors each; an entry between them.
ask('CREATE TABLE public.ship (ship_id int PRIMARY KEY, name text)');
ask("SELECT audit.enable('public.ship')");
sentient_wait($node, 'fleet', q{SELECT count(*) > 0 FROM audit.security_events WHERE event_type = 'login'}, 'the login is an event');
# What a superuser reads, and what is rolled back, is an event once: let these come first.
ask("SELECT FROM $_ LIMIT 1") for @tables;
finds('SELECT 1', qr/^/, 'nothing is asked yet');
ask('SELECT count(*) FROM audit.verify()');
sentient_wait($node, 'fleet', q{SELECT runs > 0 AND state <> 'running' FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'ledger'}, 'the scheduler has had its turn');
# Sealing makes keys, and they are entries and events.
ask('SELECT audit.seal()');
sentient_events($node, 'fleet', 'no event waits');
sentient_wait($node, 'fleet', 'SELECT blocks = 0 FROM audit.seal()', 'nothing is left to seal');
my (@door, @block);
for my $turn (0 .. 1)
{
	push @door, split /\n/, ask("SELECT audit.record_event('app.door', 'info', 'door ' || i) FROM generate_series(3 * $turn, 3 * $turn + 2) i");
	ask("INSERT INTO public.ship VALUES ($turn, 'ship')");
	is(ask('SELECT blocks, entries, refused, events FROM audit.seal()'), '2|1|0|3', 'entries and events are sealed, in blocks of their own');
	push @block, ask("SELECT block_number FROM audit.blocks WHERE '$door[-1]' = ANY (event_ids)");
}
is(ask("SELECT bool_and(holds_events), bool_and(signature IS NOT NULL), sum(entry_count), sum(cardinality(entry_ids)) FROM audit.blocks WHERE block_number IN ($block[0], $block[1])"),
	't|t|6|0', 'signed ones');
is(ask("SELECT count(*) FROM audit.security_events e WHERE NOT EXISTS (SELECT FROM audit.blocks b WHERE e.event_id = ANY (b.event_ids))"), '0', 'no event is left out');
clean('nothing is wrong');

# ---- tampering ----

my $of = "WHERE event_id = '$door[1]'";
finds("UPDATE audit.security_events SET message = 'door 1b' $of", 'altered_event door 1b', 'words that were edited');
finds("UPDATE audit.security_events SET occurred_at = occurred_at + interval '1 us' $of", 'altered_event door 1', 'a time');
finds("UPDATE audit.security_events SET succeeded = true $of", 'altered_event door 1', 'an outcome');
finds("UPDATE audit.security_events SET event_count = event_count + 1 $of", 'altered_event door 1', 'a count');
finds("UPDATE audit.security_events SET db_role = 'nobody' $of", 'altered_event door 1', 'a role');
finds("UPDATE audit.security_events SET client_addr = '10.0.0.1' $of", 'altered_event door 1', 'an address');
finds("UPDATE audit.security_events SET user_id = gen_random_uuid() $of", 'altered_event door 1', 'a user');
finds("UPDATE audit.security_events SET severity = 'debug' $of", 'altered_event door 1', 'a severity');
finds("UPDATE audit.security_events SET details = '{\"x\": 1}' $of", 'altered_event door 1', 'details');
finds("UPDATE audit.security_events SET transaction_id = '7' $of", 'altered_event door 1', 'a transaction');
finds("UPDATE audit.security_events e SET message = s.message FROM audit.security_events s WHERE e.event_id IN ('$door[0]', '$door[1]') AND s.event_id IN ('$door[0]', '$door[1]') AND s.event_id <> e.event_id",
	'altered_event door 0, altered_event door 1', 'two events that were swapped');
finds("DELETE FROM audit.security_events $of", 'missing_event', 'an event that was deleted');
finds("DELETE FROM audit.security_events WHERE event_type = 'app.door'", join(', ', ('missing_event') x 6), 'all of them');
my $columns = 'last_occurred_at, transaction_id, event_count, event_type, severity, succeeded, user_id, username, db_role, client_addr, application_name, object, message, details';
finds("INSERT INTO audit.security_events (occurred_at, $columns, mac) SELECT occurred_at, $columns, mac FROM audit.security_events $of", 'forged_event door 1', 'an event that was copied');
finds("INSERT INTO audit.security_events (occurred_at, $columns) SELECT occurred_at, $columns FROM audit.security_events $of", 'unkeyed_event door 1', 'one without a MAC');
finds("INSERT INTO audit.security_events (event_type) VALUES ('login')", 'unkeyed_event', 'one that was written past the server');
finds("INSERT INTO audit.security_events (event_id, occurred_at, $columns, mac) SELECT event_id, occurred_at + interval '1 s', $columns, mac FROM audit.security_events $of",
	'altered_event door 1, duplicate_event door 1', 'a second event of the same id');
finds("DELETE FROM audit.security_events", qr/^missing_event(, missing_event){6,}$/, 'none left');
is(ask('BEGIN; SELECT refused FROM audit.seal(); ROLLBACK'), '0', 'what was rolled back is not looked at');

finds("DELETE FROM audit.blocks WHERE block_number = $block[0]", 'missing_block, unsealed_event door 0, unsealed_event door 1, unsealed_event door 2', 'a block that was deleted');
finds("UPDATE audit.blocks SET event_ids = ARRAY[event_ids[2], event_ids[1], event_ids[3]] WHERE block_number = $block[0]", qr/^altered_block, altered_event door \d, altered_event door \d$/, 'the order in a block');
finds("UPDATE audit.blocks SET event_ids = '{}', leaf_hashes = '' WHERE block_number = $block[0]", 'emptied_block, unsealed_event door 0, unsealed_event door 1, unsealed_event door 2', 'a list that was emptied');
finds("UPDATE audit.blocks SET holds_events = false, min_audit_id = 0, max_audit_id = 0, event_ids = '{}', entry_ids = '{1,2,3}' WHERE block_number = $block[0]",
	qr/^altered_block,.*unsealed_event door 0/, 'a block that says it holds entries');
finds("UPDATE audit.blocks SET event_ids = array_replace(event_ids, '$door[3]', '$door[0]') WHERE block_number = $block[1]", qr/duplicate_event door 0.*unsealed_event door 3/,
	'an event in two blocks');

# ---- the tail, after a digest ----

my $digest = ask('SELECT audit.digest()');
my $tail = "DELETE FROM audit.security_events WHERE event_id IN ('$door[3]', '$door[4]', '$door[5]'); DELETE FROM audit.blocks WHERE block_number >= $block[1]";
finds("$tail; DELETE FROM audit.anchors", '', 'the newest events with their block, of which nothing inside tells');
finds("$tail; DELETE FROM audit.anchors", "missing_block $block[1]", 'but the digest kept outside does',
	"SELECT string_agg(finding || ' ' || block_number, ', ') FROM audit.verify_digest('$digest')");

# ---- append-only ----

for my $table ('security_events', 'security_events_default', 'restore_events')
{
	for my $command ("DELETE FROM audit.$table", "UPDATE audit.$table SET message = ''", "TRUNCATE audit.$table")
	{
		ask("BEGIN; INSERT INTO audit.$table (event_type, occurred_at) VALUES ('app.x', '2001-01-01'); DO \$\$ BEGIN $command; RAISE 'was done'; EXCEPTION WHEN insufficient_privilege THEN NULL; END \$\$; ROLLBACK");
		pass("refused: $command");
	}
}
like(ask('BEGIN; ALTER TABLE audit.security_events DISABLE TRIGGER append_only; ' . (sprintf $found, '') . '; ROLLBACK'), qr/^protection_off(, protection_off)*$/, 'events that can be changed');

# ---- proofs ----

my $key = ($digest =~ /"public_key": "([0-9a-f]{64})"/)[0];
my $proof = ask("SELECT audit.proof_event('$door[1]')");
like(checked($proof, 'proof', $key), qr/^event $door[1] is in block $block[0], [12] steps below its root; the block was signed with that key$/, 'a proof is checked without the server');
(my $bent = $proof) =~ s/("entry": "[0-9a-f]{20})(.)/$1 . ($2 eq '0' ? '1' : '0')/e;
like(checked($bent, 'proof', $key), qr/^WRONG: the path does not lead/, 'not of another event');
like(($node->psql('fleet', 'SELECT audit.proof_event(gen_random_uuid())'))[2], qr/no block of the ledger holds audit event/, 'an event that is in no block has none');
finds("UPDATE audit.security_events SET message = 'x' $of", qr/^$/, 'nor has an altered one',
	"DO \$\$ BEGIN PERFORM audit.proof_event('$door[1]'); RAISE 'was proved'; EXCEPTION WHEN data_corrupted THEN NULL; END \$\$");

# ---- spans of time ----

my ($from, $to) = split /\|/, ask("SELECT first_occurred_at, last_occurred_at FROM audit.blocks WHERE block_number = $block[0]");
is(ask(sprintf $found, "'$from', '$to'"), '', 'a span of time');
finds("DELETE FROM audit.security_events $of", 'missing_event', 'in which an event is missing', sprintf $found, "'$from', '$to'");
finds("DELETE FROM audit.security_events WHERE event_id = '$door[4]'", '', 'or not in it', sprintf $found, "'$from', '$to'");

# ---- a transaction that ends late, a savepoint ----

my $late = $node->background_psql('fleet', on_error_stop => 0);
$late->query_safe('BEGIN');
$late->query_safe("SELECT audit.record_event('app.late', 'info', 'late')");
$late->query_safe('SAVEPOINT s');
$late->query_safe("SELECT audit.record_event('app.late', 'info', 'aborted')");
$late->query_safe('ROLLBACK TO s');
ask("SELECT audit.record_event('app.door', 'info', 'meanwhile')");
ask('SELECT audit.seal()');
clean('events are sealed while a transaction is open');
$late->query_safe('COMMIT');
$late->quit;
ask('SELECT audit.seal()');
is(ask(q{SELECT string_agg(message, ',') FROM audit.security_events e JOIN audit.blocks b ON e.event_id = ANY (b.event_ids) WHERE event_type = 'app.late'}), 'late', 'its event is sealed when it has ended');
clean('and all is well');

# ---- many ----

ask("SELECT count(audit.record_event('app.many', 'debug', 'many ' || i)) FROM generate_series(1, 12000) i");
is(ask('SELECT blocks >= 2, events >= 12000 FROM audit.seal()'), 't|t', '12,000 events of one transaction are sealed');
is(ask('SELECT max(entry_count) FROM audit.blocks'), '10000', 'in blocks of ten thousand');
clean('nothing is wrong with them');

# ---- prune ----

my $cut = ask("SELECT occurred_at FROM audit.security_events WHERE message = 'many 6000'");
my $gone = ask("SELECT count(*) FROM audit.security_events WHERE occurred_at < '$cut'");
is(ask("SELECT events FROM audit.prune('$cut')"), $gone, 'in the middle of a block');
clean('what remains is right');
like(checked(ask("SELECT audit.proof_event((SELECT event_id FROM audit.security_events WHERE message = 'many 6000'))"), 'proof', $key), qr/^event .* is in block/, 'and provable');
finds("DELETE FROM audit.security_events WHERE message = 'many 6001'", 'missing_event', 'a later event that is missing');
finds("DELETE FROM audit.anchors WHERE pruned_from = 'events'", qr/emptied_block.*missing_event/, 'the anchor that was deleted');

# ---- retention: by month, with partitions of their own ----

ask('SELECT audit.seal(); SELECT telemetry.run_maintenance()');
my $partitions = "SELECT count(*) FROM telemetry.partitions WHERE parent = 'audit.security_events' AND state";
is(ask("$partitions = 'current'") . ask("$partitions = 'future'"), '14', 'events have partitions by month');
is(ask('SELECT count(*) FROM audit.security_events_default'), '0', 'and no event is left in the default one');
is(ask("SELECT count(*) FROM pg_trigger t JOIN pg_inherits i ON i.inhrelid = t.tgrelid WHERE i.inhparent = 'audit.security_events'::regclass AND t.tgname = 'append_only_truncate' AND t.tgenabled = 'A'"),
	ask("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit.security_events'::regclass"), 'each of them append-only');
ask('SELECT audit.seal()');
clean('what was moved is what was sealed');
my $entries = ask('SELECT count(*) FROM audit.log');
$node->stop;
my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1');
ok(defined $faketime, 'faketime is installed');
{
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{FAKETIME} = '+100d';
	local $ENV{FAKETIME_DONT_RESET} = 1;
	$node->start;
	# After the scheduler's turn: under the false clock no timeout ends what two wait for, and what it writes has waited for months.
	sentient_wait($node, 'fleet', "SELECT count(*) = 3 FROM sentient_edge.workers WHERE database = 'fleet' AND worker IN ('partitions', 'security events', 'ledger')
		AND runs > 0 AND state <> 'running'", 'the scheduler has had its turn');
	ask("SELECT audit.record_event('app.door', 'info', 'months later'); SELECT audit.seal()");
	ask("UPDATE sentient_edge.settings SET value = 'drop' WHERE name = 'security_events.retention_action'; UPDATE sentient_edge.settings SET value = '30 days' WHERE name = 'security_events.retention'");
	like(ask('SELECT telemetry.run_maintenance()'), qr/audit.security_events,retired/, 'retention takes a partition');
	is(ask("SELECT string_agg(message, ',') FROM audit.security_events WHERE event_type LIKE 'app.%'"), 'months later', 'with its events');
	cmp_ok(ask('SELECT count(*) FROM audit.log'), '>=', $entries, 'not the entries of that time');
	clean('and the ledger knows');
	is(ask(q{SELECT string_agg(pruned_from, ',') FROM audit.anchors WHERE note = 'retention'}), 'events', 'by a signed anchor');
	$node->stop;
}
$node->start;

# ---- findings that take a broken server ----

ask("INSERT INTO public.ship VALUES (900, 'ship'); SELECT audit.seal(); CHECKPOINT");
my $partition = ask(q{SELECT tableoid::regclass FROM audit.log ORDER BY audit_id DESC LIMIT 1});
my $path = $node->data_dir . '/' . ask("SELECT pg_relation_filepath('$partition')");
my $events = ask(q{SELECT tableoid::regclass FROM audit.security_events ORDER BY occurred_at DESC LIMIT 1});
my $event_path = $node->data_dir . '/' . ask("SELECT pg_relation_filepath('$events')");
clean('before it');
sub with_damaged
{
	my ($file_name, $expected, $what) = @_;
	my $kept = slurp_file($file_name);

	$node->stop;
	open my $file, '+<:raw', $file_name or die "$file_name: $!";
	print $file "\xff" x 4096;		# the header of the first page, and line pointers
	close $file;
	$node->start;
	like(ask("SELECT string_agg(DISTINCT finding, ',') FROM audit.verify()"), $expected, $what);
	$node->stop;
	open $file, '>:raw', $file_name or die "$file_name: $!";
	print $file $kept;
	close $file;
	$node->start;
	return;
}
with_damaged($path, qr/unreadable_entries/, 'entries on a damaged page');
with_damaged($event_path, qr/unreadable_events/, 'events on a damaged page');
clean('mended');

# Nobody seals for more than an hour: the scheduler has had its turn, and does not come again.
$node->stop;
{
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{FAKETIME} = '-2h';
	local $ENV{FAKETIME_DONT_RESET} = 1;
	$node->start;
	sentient_wait($node, 'fleet', "SELECT runs > 0 FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'ledger'", 'the scheduler has had its turn');
	ask("INSERT INTO public.ship VALUES (901, 'ship')");
	$node->stop;
}
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
like(ask('SELECT audit.verify()'), qr/sealing_stopped,,,"\d+ entries or events wait to be sealed, the oldest since/, 'an entry that has waited for two hours');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'sentient_edge'");
$node->restart;
# With the entry come the events of that time that have waited in the queue's file.
sentient_wait($node, 'fleet', "SELECT runs > 0 AND state <> 'running' FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'security events'", 'what waited is written');
sentient_events($node, 'fleet', 'all of it');
ask('SELECT audit.seal()');
clean('it is sealed, and all is well');

# Maintenance, which ends restores, has had its turn after the restart, and does not come again.
sentient_wait($node, 'fleet', "SELECT runs > 0 AND state <> 'running' FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'partitions'", 'maintenance has run');

# Somebody says that a dump is being restored: nobody believes it, and that he says so shows.
ask("UPDATE sentient_edge.managed_tables SET restored_at = now()");
is(ask(sprintf $found, ''), 'restore_unfinished, restore_unfinished, restore_unfinished', 'a restore that is none');
like(ask('SELECT audit.verify()'), qr/says that a restore of audit.log began at .*, and there is none/, 'is told as such');
is(ask("SET client_min_messages = error; BEGIN; ALTER TABLE core.drones DISABLE TRIGGER ALL; SELECT string_agg(finding, ', ' ORDER BY finding) FROM audit.verify() WHERE finding <> 'restore_unfinished'; ROLLBACK"),
	'capture_off', 'triggers are checked all the same');
ask('CREATE TABLE public.unbelieved ()');
is(ask("SELECT details ? 'restore' FROM audit.security_events WHERE object = 'public.unbelieved'"), 'f', 'events are written as ever');
cmp_ok(ask('SELECT events FROM audit.seal()'), '>=', 1, 'and sealed');
ask('SELECT telemetry.run_maintenance()');
clean('maintenance ends it');

# He has the catalogs say so, too: nothing is sealed.
sub pretend
{
	my ($table, $when, $how) = @_;
	ask("DELETE FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = '$table'::regclass AND deptype = 'x'") unless $how;
	ask("UPDATE sentient_edge.managed_tables SET restored_at = $when WHERE table_name = '$table'");
	return;
}
pretend('audit.log', 'now()');
is(ask("SET client_min_messages = error; BEGIN; ALTER TABLE core.drones DISABLE TRIGGER ALL; SELECT string_agg(DISTINCT finding, ', ') FROM audit.verify(); ROLLBACK"),
	'restore_unfinished', 'triggers that are missing are those of a restore that is unfinished');
is(ask("SET client_min_messages = error; BEGIN; ALTER TABLE core.drones DISABLE TRIGGER sentient_audit_row; SELECT string_agg(DISTINCT finding, ', ') FROM audit.verify(); ROLLBACK"),
	'capture_off', 'unless it has all that it needs to end');
for my $when ("now() - interval '7 hours'", "now() + interval '1 year'")
{
	pretend('audit.log', $when, 'again');
	like(ask('SELECT audit.verify()'), qr/^\(restore_unfinished.*a restore of audit.log .* has not ended/, "a restore that does not end: since $when");
}
ask('CREATE TABLE public.meanwhile ()');
is(ask("SELECT details->>'restore' FROM audit.security_events WHERE object = 'public.meanwhile'"), 'true', 'DDL is recorded all the same');
pretend('audit.security_events', 'now()');
ask('CREATE TABLE public.later ()');
is(ask("SELECT count(*) FROM audit.restore_events WHERE object = 'public.later'"), '1', 'also where events wait for its end');
pretend('audit.security_events', 'NULL', 'again');
like(ask('SELECT audit.verify()'), qr/events wait in audit.restore_events for the end of a restore, and there is none/, 'where they are not forgotten');
ask('SELECT telemetry.run_maintenance()');
is(ask("SELECT count(*) FROM audit.security_events WHERE object = 'public.later'"), '1', 'which maintenance declares');
is(ask("SELECT count(*) FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid IN ('audit.log'::regclass, 'audit.security_events'::regclass) AND deptype = 'x'"), '2', 'both tables are the extension\'s again');
ask('SELECT audit.seal()');
clean('and the ledger goes on');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|sentient_edge assertion/, 'no assertion failed');
$node->stop;
done_testing();
