# 094_ledger_ids.pl
#		The sequence of audit_ids is set back, so that ids are given again: that is an
#		event and ends by itself, and the ledger still knows each entry.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my $conf = "timezone = UTC\nsentient_edge.ledger_interval = 3600\nsentient_edge.partition_maintenance_interval = 86400\nsentient_edge.audit_event_window = 3600";
my $node = sentient_server('ids', conf => $conf);
sentient_database($node, 'fleet');
my $folder = PostgreSQL::Test::Utils::tempdir();
my $findings = q{SELECT string_agg(concat_ws(' ', finding, block_number, audit_id), ', ' ORDER BY finding, block_number, audit_id) FROM audit.verify()};

sub ask { my ($sql, $on) = @_; return ($on // $node)->safe_psql('fleet', $sql); }
sub clean { my ($what, $on) = @_; is(ask($findings, $on), '', $what) or diag(ask('SELECT * FROM audit.verify()', $on)); return; }
sub sealed_once { my ($on) = @_; return sentient_wait($on // $node, 'fleet', q{SELECT runs > 0 AND state <> 'running' FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'ledger'}, 'the scheduler has sealed once, and leaves it to the test'); }
sub seal { my ($on) = @_; return ask('SELECT entries FROM audit.seal()', $on); }
sub ship { my ($id, $on) = @_; ask("INSERT INTO public.ship VALUES ($id)", $on); return ask("SELECT audit_id FROM audit.log WHERE row_key = '{\"ship_id\": $id}'", $on); }
sub alarms { my ($on) = @_; return ask(q{SELECT string_agg(concat_ws(' ', message, details->>'entries', details->>'first_id', details ? 'sequence_is'), '; ' ORDER BY occurred_at)
	FROM audit.security_events WHERE event_type = 'integrity' AND severity = 'critical' AND object = 'audit.log_audit_id_seq'}, $on); }
sub finds
{
	my ($tampering, $expected, $what) = @_;
	my $out = ask("SET client_min_messages = error; BEGIN; ALTER TABLE audit.log DISABLE TRIGGER ALL; $tampering;
		ALTER TABLE audit.log ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate; $findings; ROLLBACK");
	return like($out, $expected, $what);
}

ask('CREATE TABLE public.ship (ship_id int PRIMARY KEY)');
ask("SELECT audit.enable('public.ship')");
like(($node->psql('fleet', "SET ROLE sentient_admin; SELECT setval('audit.log_audit_id_seq', 1)"))[2], qr/permission denied for sequence/, 'an administrator cannot set the sequence');

sealed_once();
my $old = ship(1);
ship(2);
seal();
clean('at first');
ask("SELECT setval('audit.log_audit_id_seq', $old, false)");
is(ship(11), $old, 'an id is given again');
is(ship(12), $old + 1, 'and another');
clean('before they are sealed');
cmp_ok(seal(), '>=', 2, 'both are sealed');
is(alarms(), "audit entries have ids that others had before 2 $old t", 'which is an event');
clean('and nothing is wrong with them');
my $new = ship(3);
cmp_ok($new, '>', $old + 2, 'the sequence has been set forward');
seal();
clean('it goes on');

# The sequence alone.
ask("SELECT setval('audit.log_audit_id_seq', $old, false)");
seal();
like(alarms(), qr/; the sequence of audit ids was set back t$/, 'a sequence that was set back is noticed before it is used');
cmp_ok(ship(4), '>', $new, 'it is set forward then');
seal();

# One id twice in a block.
ask("SELECT setval('audit.log_audit_id_seq', 90000000, false)");
ship(5);
ask("SELECT setval('audit.log_audit_id_seq', 90000000, false)");
is(ship(6), 90000000, 'an id twice');
is(seal(), '2', 'in one block');
clean('is right as well');

# Each of them is still what was sealed.
my ($first, $second) = split /\n/, ask("SELECT occurred_at FROM audit.log WHERE audit_id = $old ORDER BY occurred_at");
finds("DELETE FROM audit.log WHERE audit_id = $old AND occurred_at = '$first'", qr/^missing_entry \d+ $old$/, 'the older one that is missing');
finds("DELETE FROM audit.log WHERE audit_id = $old AND occurred_at = '$second'", qr/^missing_entry \d+ $old$/, 'the newer one');
finds("UPDATE audit.log SET db_role = 'nobody' WHERE audit_id = $old AND occurred_at = '$first'", qr/^altered_entry \d+ $old$/, 'one that was edited');
finds("DELETE FROM audit.log WHERE audit_id = $old AND occurred_at = '$first'; INSERT INTO audit.log SELECT * FROM audit.log WHERE audit_id = $old", qr/^altered_entry \d+ $old$/,
	'one in the place of the other');
finds("INSERT INTO audit.log SELECT * FROM audit.log WHERE audit_id = $old AND occurred_at = '$second'", qr/^duplicate_entry \d+ $old$/, 'a copy of one');
finds("DELETE FROM audit.log WHERE audit_id = 90000000 AND row_key = '{\"ship_id\": 5}'", qr/^missing_entry \d+ 90000000$/, 'one of a block that has its id twice');
like(ask("SELECT audit.proof($old)"), qr/"signature"/, 'an id that was given again has a proof');
is(ask("SELECT count(*) FROM audit.log l JOIN audit.blocks b ON l.audit_id = ANY (b.entry_ids) WHERE audit_id = $old
	AND audit.leaf_hash(l) = substr(b.leaf_hashes, 32 * (array_position(b.entry_ids, l.audit_id) - 1) + 1, 32)"), '2', 'the leaf hash tells them apart');
like(($node->psql('fleet', "SELECT audit.leaf_hash(b) FROM audit.blocks b"))[2], qr/not one of audit.log or audit.security_events/, 'of entries and events only');

# A copy of an entry that is not sealed yet is not sealed with it.
ship(7);
ask("INSERT INTO audit.log SELECT * FROM audit.log WHERE row_key = '{\"ship_id\": 7}'");
is(seal(), '1', 'a copy that was there before the entry was sealed');
like(ask($findings), qr/^duplicate_entry \d+ \d+$/, 'is found');
ask("SET client_min_messages = error; BEGIN; ALTER TABLE audit.log DISABLE TRIGGER ALL; DELETE FROM audit.log WHERE ctid = (SELECT max(ctid) FROM audit.log WHERE row_key = '{\"ship_id\": 7}');
	ALTER TABLE audit.log ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate; COMMIT");
clean('without it all is well');

# A dump whose sequence is not restored.
my $other = sentient_server('ids_other', conf => $conf);
$other->safe_psql('postgres', 'CREATE DATABASE fleet');
$node->command_ok([ 'pg_dump', '-f', "$folder/dump.sql", $node->connstr('fleet') ], 'a dump');
my $dump = slurp_file("$folder/dump.sql");
$dump =~ s/setval\('audit.log_audit_id_seq', \d+, \w+\)/setval('audit.log_audit_id_seq', $old, false)/ or die;
append_to_file("$folder/behind.sql", $dump);
$other->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$folder/behind.sql", $other->connstr('fleet') ], 'is restored with its sequence left behind');
ask('SELECT telemetry.run_maintenance()', $other);
sealed_once($other);
is(ship(21, $other), $old, 'an id of the dump is given again there');
clean('before it is sealed', $other);
is(seal($other), '1', 'and sealed');
like(alarms($other), qr/; audit entries have ids that others had before 1 $old t$/, 'which is an event there');
clean('all is well there', $other);
cmp_ok(ship(22, $other), '>', 90000000, 'the sequence is put right');
is(seal($other), '1', 'sealing goes on');
ask("SELECT setval('audit.log_audit_id_seq', $old, false)", $other);
is(ship(23, $other), $old, 'set back once more');
is(seal($other), '1', 'sealed');
clean('all is well there', $other);
$other->stop;

# What is pruned of them.
ask("SELECT audit.prune('$second')");
clean('the older one is pruned');
is(ask("SELECT count(*) FROM audit.log WHERE audit_id = $old"), '1', 'the newer one is left');
finds("DELETE FROM audit.log WHERE audit_id = $old", qr/^missing_entry \d+ $old$/, 'and is missed');

# The times of a block say nothing of which entry is meant: here an old transaction is sealed with a newer entry of an id that others have.
my $late = $node->background_psql('fleet', on_error_stop => 0);
$late->query_safe('BEGIN');
$late->query_safe('INSERT INTO public.ship VALUES (30)');
my $twice = ship(31);
seal();
my $cut = ask('SELECT clock_timestamp()');
ask("SELECT setval('audit.log_audit_id_seq', $twice, false)");
is(ship(32), $twice, 'an id in two blocks whose times overlap');
$late->query_safe('COMMIT');
$late->quit;
seal();
clean('before pruning');
ask("SELECT audit.prune('$cut')");
clean('after it');
finds("DELETE FROM audit.log WHERE audit_id = $twice", qr/^missing_entry \d+ $twice$/, 'the one that was not pruned is missed');

# The older entry of an id is pruned from a block that keeps others; the newer one goes to another cluster before it is sealed.
my $gone = ship(50);
$cut = ask('SELECT clock_timestamp()');
ship(51);
seal();
is(ask("SELECT entries FROM audit.prune('$cut')"), ask("SELECT pruned_entries FROM audit.anchors WHERE kind = 'prune' AND pruned_from = 'entries' ORDER BY created_at DESC LIMIT 1"), 'pruned');
is(ask("SELECT array_length(entry_ids, 1) > 1 FROM audit.blocks WHERE $gone = ANY (entry_ids)"), 't', 'the block still names it, and others');
ask("SELECT setval('audit.log_audit_id_seq', $gone, false)");
is(ship(52), $gone, 'its id is given again');
clean('before it is sealed');
my $third = sentient_server('ids_third', conf => $conf);
$third->safe_psql('postgres', 'CREATE DATABASE fleet');
$node->command_ok([ 'pg_dump', '-f', "$folder/third.sql", $node->connstr('fleet') ], 'a dump before it is sealed');
$third->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$folder/third.sql", $third->connstr('fleet') ], 'is restored');
ask('SELECT telemetry.run_maintenance()', $third);
clean('nothing is wrong there before it is sealed', $third);
my $blocks_of_it = "SELECT count(*) FROM audit.blocks WHERE $gone = ANY (entry_ids)";
seal($third);
is(ask($blocks_of_it, $third), '2', 'it is sealed there');
like(alarms($third), qr/audit entries have ids that others had before 1 $gone t$/, 'which is an event');
clean('and all is well', $third);
seal($third);
is(ask($blocks_of_it, $third), '2', 'it is sealed once');
like(ask("SET client_min_messages = error; BEGIN; ALTER TABLE audit.log DISABLE TRIGGER ALL; DELETE FROM audit.log WHERE audit_id = $gone;
	ALTER TABLE audit.log ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate; $findings; ROLLBACK", $third), qr/^missing_entry \d+ $gone$/, 'and would be missed');
$third->stop;
seal();
clean('nor is anything wrong where it was written');

# There is no room behind the greatest id: nothing can be set forward, and all else goes on.
ask("SELECT setval('audit.log_audit_id_seq', 9223372036854775800, false)");
is(ship(40), '9223372036854775800', 'one of the last ids');
is(seal(), '1', 'is sealed');
ask("SELECT setval('audit.log_audit_id_seq', 9223372036854775800, false)");
is(seal(), '0', 'the sequence is set back there');
like(alarms(), qr/; the sequence of audit ids was set back f$/, 'which is told at once');
my $told = alarms();
seal() for 1 .. 3;
is(alarms(), $told, 'and once');
is(ship(41), '9223372036854775800', 'and gives the id again');
is(seal(), '1', 'which is sealed');
like(alarms(), qr/; audit entries have ids that others had before 1 9223372036854775800 f$/, 'and an event');
clean('without room');
ask('ALTER SEQUENCE audit.log_audit_id_seq MAXVALUE 200000000 RESTART 150000000');
$told = alarms();
seal() for 1 .. 3;
is(alarms(), "$told; the sequence of audit ids was set back f", 'nor is there room below a lower end of the sequence');
is(ship(42), '150000000', 'entries get ids there');
seal();
is(alarms(), "$told; the sequence of audit ids was set back f", 'which nobody had before');
clean('below it');

unlike(slurp_file($_->logfile), qr/PANIC|TRAP|sentient_edge assertion/, $_->name . ': no assertion failed') for $node, $other, $third;
$node->stop;
done_testing();
