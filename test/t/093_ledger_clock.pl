# 093_ledger_clock.pl
#		A clock that goes to and fro: every entry is sealed, whatever time it bears, and
#		old partitions are looked at only when one of them has a new entry.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1');
ok(defined $faketime, 'faketime is installed');
my $clock = PostgreSQL::Test::Utils::tempdir() . '/clock';
# A process that reads an empty file ends: the new one takes its place at once.
sub set_clock
{
	my ($offset) = @_;
	open my $file, '>', "$clock.new" or die $!;
	print $file "$offset\n";
	close $file;
	rename "$clock.new", $clock or die $!;
	return;
}

set_clock('+0d');
my $node;
my %fake = (LD_PRELOAD => $faketime, FAKETIME_TIMESTAMP_FILE => $clock, FAKETIME_NO_CACHE => 1, FAKETIME_DONT_RESET => 1);
{
	local %ENV = (%ENV, %fake);
	# The test seals; and its entries stay where they were written.
	$node = sentient_server('clock', conf => "timezone = UTC\nsentient_edge.ledger_interval = 3600\nsentient_edge.partition_maintenance_interval = 86400\n"
		  . "sentient_edge.audit_event_window = 3600\nmax_prepared_transactions = 2\nautovacuum = off");
}
sentient_database($node, 'fleet');

# A security event that comes when the clock leaps has waited for days at once: whether entries wait is asked apart.
my $findings = q{SELECT string_agg(concat_ws(' ', finding, block_number, audit_id), ', ' ORDER BY finding, block_number, audit_id)
	FROM audit.verify() WHERE finding <> 'sealing_stopped'};
my $unsealed = 'SELECT count(*) FROM audit.log l WHERE NOT EXISTS (SELECT FROM audit.blocks b, unnest(b.entry_ids) AS e (id) WHERE e.id = l.audit_id)';
sub ask { my ($sql) = @_; return $node->safe_psql('fleet', $sql); }
# How many entries have been sealed since it was called before: where the clock has
# leapt ahead, the scheduler may come first.
my $total = 0;
sub seal
{
	my $before = $total;

	ask('SELECT audit.seal()');
	$total = ask('SELECT coalesce(sum(entry_count), 0) FROM audit.blocks WHERE NOT holds_events');
	return $total - $before;
}
# Sealing comes to this many horizons, and so many of them that begin with a transaction.
# A worker's transaction may have old ones stay for a run more.
sub horizons
{
	my ($expected, $what) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $have;

	do
	{
		seal();
		$have = ask('SELECT count(*), count(from_transaction_id) FROM audit.horizons');
	} until ($have eq $expected || time >= $deadline);
	return is($have, $expected, $what);
}
sub clean { my ($what) = @_; is(ask($unsealed), '0', "$what: all entries are sealed"); is(ask($findings), '', "$what: nothing is wrong"); return; }
my $number = 0;
sub ship { $number++; return ask("INSERT INTO public.ship VALUES ($number)"); }

ask('CREATE TABLE public.ship (ship_id int PRIMARY KEY)');
ask("SELECT audit.enable('public.ship')");
ask('SELECT telemetry.run_maintenance()');
# What sealing keeps for itself is nobody's to replicate, and needs no replica identity.
ask('SET client_min_messages = error; CREATE PUBLICATION everything FOR ALL TABLES');
sentient_wait($node, 'fleet', q{SELECT runs > 0 AND state <> 'running' FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'ledger'}, 'the scheduler has sealed once');
horizons('1|1', 'there is a horizon');
clean('at first');
ship();
is(ask('SELECT count(*) FROM audit.horizon_notes'), '0', 'an entry before it needs no note');
is(seal(), '1', 'and is sealed');

set_clock('-40d');
cmp_ok(ask("SELECT now() < '" . ask('SELECT max(sealed_at) FROM audit.blocks') . "'"), 'eq', 't', 'the clock is set back');
ship();
set_clock('+0d');
ship();
is(ask('SELECT count(*) FROM audit.horizon_notes'), '1', 'and forth again before anything is sealed');
is(seal(), '2', 'both entries are sealed');
is(ask('SELECT count(*) FROM audit.horizon_notes'), '0', 'and the note is gone');
clean('back and forth');

set_clock('-2000d');
ask("BEGIN; SAVEPOINT s; INSERT INTO public.ship VALUES (-1); ROLLBACK TO s; INSERT INTO public.ship VALUES (-2); SAVEPOINT t; INSERT INTO public.ship VALUES (-3); COMMIT");
ask("BEGIN; INSERT INTO public.ship VALUES (-4); PREPARE TRANSACTION 'late'");
set_clock('+0d');
is(seal(), '2', 'years back, in subtransactions');
clean('with one transaction prepared');
ask("COMMIT PREPARED 'late'");
is(seal(), '1', 'that is sealed when it commits');
clean('subtransactions');

# A transaction that began under one horizon and ends under another.
my $late = $node->background_psql('fleet', on_error_stop => 0);
$late->query_safe('BEGIN');
$late->query_safe('INSERT INTO public.ship VALUES (-5)');
set_clock('+30d');
ship();
is(seal(), '1', 'a month later');
cmp_ok(ask('SELECT count(*) FROM audit.horizons'), '>', 1, 'the horizon follows');
ship();
seal();
set_clock('+5d');
$late->query_safe('INSERT INTO public.ship VALUES (-6)');
set_clock('+30d');
$late->query_safe('COMMIT');
is(seal(), '2', 'what an old transaction wrote under an old horizon');
$late->quit;
clean('an old transaction');
seal();
ship();
horizons('1|1', 'one horizon remains');

# A session that knows a horizon hears of the next one.
my $session = $node->background_psql('fleet', on_error_stop => 0);
$session->query_safe('INSERT INTO public.ship VALUES (-7)');
set_clock('+90d');
seal() for 1 .. 3;
set_clock('+60d');
$session->query_safe('INSERT INTO public.ship VALUES (-8)');
set_clock('+90d');
is(seal(), '1', 'it leaves a note then');
$session->quit;
clean('a session');

# The clock has been ahead for long, and is put right.
set_clock('+0d');
ship();
is(seal(), '1', 'put right');
seal();
ship();
is(ask('SELECT count(*) FROM audit.horizon_notes'), '0', 'the horizon has gone back, too');
is(seal(), '1', 'and all is as ever');
clean('at last');

# A crash takes horizons and notes alike: what came before it is found all the same.
ask('BEGIN; INSERT INTO public.ship VALUES (-20); PREPARE TRANSACTION $$crash$$');
set_clock('-40d');
ship();
ask('BEGIN; INSERT INTO public.ship VALUES (-21); PREPARE TRANSACTION $$crash too$$');
set_clock('+0d');
$node->stop('immediate');
{
	local %ENV = (%ENV, %fake);
	$node->start;
}
sentient_wait($node, 'fleet', q{SELECT count(*) > 0 FROM sentient_edge.workers WHERE worker = 'ledger' AND runs > 0}, 'the scheduler has sealed once');
is(ask('SELECT count(*) FROM audit.horizon_notes'), '0', 'a crash takes notes');
clean('what was committed before it');
ship();
horizons('1|1', 'there is a horizon again');
ask('COMMIT PREPARED $$crash$$');
ask('COMMIT PREPARED $$crash too$$');
is(seal(), '2', 'and what was prepared before it');
clean('after a crash');

# Old partitions are left out: an entry without its note, which a superuser has taken away, is not found, and that is.
set_clock('-40d');
$number++;
ask("BEGIN; INSERT INTO public.ship VALUES ($number); DELETE FROM audit.horizon_notes; COMMIT");
set_clock('+0d');
ship();
is(seal(), '1', 'nobody looks where there is no note');
like(ask($findings), qr/^unsealed_entry \d+$/, 'verify does');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|sentient_edge assertion/, 'no assertion failed');
$node->stop;
done_testing();
