# 053_submit.pl
#		telemetry.submit by several sessions at a time: a failing neighbour, a writer
#		that dies, ends, cannot start or is not wanted, a queue that is full, and what
#		a session that gives up leaves behind.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use IPC::Run qw(start);

use lib 'test/t';
use SentientEdge;

my $node = sentient_server('submit', conf => "sentient_edge.queue_slots = 16\nsentient_edge.queue_pool = 1MB\nmax_worker_processes = 12\nlog_statement = none\n");
sentient_database($node, 'fleet');
sentient_database($node, 'other');
my $drone = sentient_drone($node, 'fleet', 'a-1');
sentient_drone($node, 'other', 'o-1');
my $second = 0;

sub sample_sql { my ($more) = @_; return sprintf("SELECT 'told ' || accepted || duplicate || rejected FROM telemetry.submit_sample('$drone', timestamptz '2026-03-01 00:00:00+00' + %d * interval '1 s'%s)", $second++, $more ? ", $more" : ''); }

# A session in the background, one command after the other; finish() tells what it said.
# (No wait that is to end by what the test does ends by the clock before, even if the machine stands still for minutes.)
sub session
{
	my ($database, @sql) = @_;
	my %s = (out => '', err => '');

	$s{handle} = start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($database), map { ('-c', $_) } @sql ],
		'<', '/dev/null', '>', \$s{out}, '2>', \$s{err}, IPC::Run::timeout(1200));
	return \%s;
}
sub finish { my ($s) = @_; $s->{handle}->finish; return "$s->{out}$s->{err}"; }

sub waiting { my ($n, $database) = @_; $database //= 'fleet'; return $node->poll_query_until('postgres', qq{SELECT count(*) >= $n FROM pg_stat_activity WHERE datname = '$database' AND state = 'active' AND query LIKE '%submit%' AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND wait_event_type = 'Extension'}); }
sub writer { my ($database) = @_; $database //= 'fleet'; return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE datname = '$database' AND backend_type = 'sentient_edge ingest writer'"); }
# A session that holds a lock on the table until unlock().
sub lock_table
{
	my $s = session('fleet', 'BEGIN; LOCK TABLE telemetry.drone_telemetry IN SHARE MODE; SELECT pg_sleep(1200)');

	$node->poll_query_until('fleet', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND wait_event = 'PgSleep'}) or die 'no lock';
	return $s;
}
sub unlock
{
	my ($s) = @_;

	$node->safe_psql('fleet', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND wait_event = 'PgSleep'});
	finish($s);
	return;
}
# A new session that sees the value was forked after the others had been told of it.
sub setting
{
	my ($name, $value) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	$node->poll_query_until('fleet', "SELECT current_setting('$name') = '$value'") or die "$name is not $value";
	return;
}
sub stat_of { my ($column) = @_; return $node->safe_psql('fleet', "SELECT $column FROM telemetry.queue_stats"); }

is($node->safe_psql('fleet', sample_sql()), 'told 100', 'a sample is stored');

# ---- a failing neighbour ----
$node->safe_psql('fleet', q{
	CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.latitude = 66 THEN RAISE 'poison' USING ERRCODE = 'SB001'; END IF; RETURN NEW; END$$;
	CREATE TRIGGER refuse BEFORE INSERT ON telemetry.drone_telemetry FOR EACH ROW EXECUTE FUNCTION public.refuse()});
setting('sentient_edge.queue_lock_timeout', '20min');
my $lock = lock_table();
my @neighbours = map { session('fleet', sample_sql($_ == 4 ? 'latitude => 66' : 'latitude => 1')) } 1 .. 9;
ok(waiting(9), 'nine sessions wait');
my $batches = stat_of('batches');
unlock($lock);
my @told = map { finish($_) } @neighbours;
like($told[3], qr/SB001: could not store samples: poison/, 'the sample at fault has the error');
is(scalar(grep { $_ eq "told 100\n" } @told), 8, 'its neighbours are stored');
cmp_ok(stat_of('batches') - $batches, '<', 8, 'by fewer transactions than sessions');
$node->safe_psql('fleet', 'DROP TRIGGER refuse ON telemetry.drone_telemetry; DROP FUNCTION public.refuse()');

# ---- large calls do not make one large transaction ----
$lock = lock_table();
my $first = session('fleet', sample_sql());
sentient_wait($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'sentient_edge ingest writer' AND wait_event_type = 'Lock'", 'the writer has one sample');
my @many = map { session('fleet', q{SELECT telemetry.submit((SELECT jsonb_agg(1) FROM generate_series(1, 1000)))}) } 1 .. 12;
ok(waiting(13), 'twelve thousand more wait');
$batches = stat_of('batches');
unlock($lock);
is(finish($first), "told 100\n", 'the one is stored');
is(scalar(grep { finish($_) eq "(0,0,1000)\n" } @many), 12, 'the others have been answered');
is(stat_of('batches') - $batches, 3, 'by transactions of ten thousand at most');
$node->safe_psql('fleet', q{DELETE FROM telemetry.rejected_samples});

# ---- the writer is told to go ----
$lock = lock_table();
my $taken = session('fleet', sample_sql());
ok(waiting(1), 'a session waits');
sentient_wait($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'sentient_edge ingest writer' AND wait_event_type = 'Lock'", 'the writer waits for a lock');
my $queued = session('fleet', sample_sql());
ok(waiting(2), 'and another');
my $before = writer();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($before)");
like(finish($taken), qr/08007: could not store samples: the ingest writer ended/, 'what the writer had taken is in doubt');
unlock($lock);
is(finish($queued), "told 100\n", 'what it had not taken is stored by its successor');
isnt(writer(), $before, 'which is another process');
cmp_ok(stat_of('writer_restarts'), '>=', 1, 'and is counted');

# cancelled: what was taken is in doubt, and its slot comes back
$lock = lock_table();
$taken = session('fleet', sample_sql());
ok(waiting(1), 'a session waits');
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = 'fleet' AND state = 'active' AND query LIKE '%submit_sample%' AND backend_type = 'client backend'});
like(finish($taken), qr/08007: stopped waiting for the ingest writer/, 'and is cancelled');
# A short time may be over before the wait has begun: then it gets a longer one.
my $stopped_by;
for my $seconds (1, 10, 100)
{
	$stopped_by = finish(session('fleet', "SET statement_timeout = '${seconds}s'", sample_sql()));
	last if $stopped_by !~ /57014/;
}
like($stopped_by, qr/08007: stopped waiting for the ingest writer\nDETAIL:  Reason: canceling statement due to statement timeout\. The samples may be stored or not\.\nHINT:  Send them again/,
	'statement_timeout while waiting');
unlock($lock);
$second--;
like($node->safe_psql('fleet', sample_sql()), qr/told (100|010)/, 'sending again is safe');

# ---- sessions that are cancelled wherever they are ----
my $crowd = sub {
	my ($seconds) = @_;
	$node->safe_psql('fleet', q{INSERT INTO core.drones (drone_id, call_sign, drone_type) SELECT lpad(i::text, 32, '0')::uuid, 'crowd-' || i, 'quadcopter' FROM generate_series(0, 11) AS i ON CONFLICT DO NOTHING});
	my $script = $node->basedir . '/crowd.sql';
	PostgreSQL::Test::Utils::append_to_file($script, "SELECT telemetry.submit_sample(lpad(:client_id::text, 32, '0')::uuid, clock_timestamp());\n") unless -f $script;
	my ($text) = ('');
	return { text => \$text, handle => IPC::Run::start([ 'pgbench', '-n', '-c', 12, '-j', 2, '-T', $seconds, '-f', $script, $node->connstr('fleet') ], '<', \undef, '>', \$text, '2>&1') };
};
my $busy = q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT telemetry.submit_sample(lpad%'};
my $clients = $crowd->(1200);
sentient_wait($node, 'fleet', "SELECT count(*) = 12 FROM ($busy) AS b", 'twelve sessions submit');
my $log_begin = -s $node->logfile;
# Whoever is cancelled submits no more.
my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
while (time < $deadline)
{
	last unless $node->safe_psql('fleet', "SELECT count(pg_cancel_backend(pid)) FROM ($busy ORDER BY random() LIMIT 3) AS b");
}
$clients->{handle}->signal('TERM');
IPC::Run::finish($clients->{handle});
like(slurp_file($node->logfile, $log_begin), qr/stopped waiting for the ingest writer/, 'sessions were cancelled while they waited');
sentient_wait($node, 'fleet', 'SELECT depth = 0 FROM telemetry.queue_stats', 'nothing is left in the queue');
@told = map { finish($_) } map { session('fleet', sample_sql()) } 1 .. 16;
is(scalar(grep { $_ eq "told 100\n" } @told), 16, 'and every slot is free');

# ---- locks ----
setting('sentient_edge.queue_lock_timeout', '10s');
$lock = lock_table();
my $started = time;
my @stuck = map { session('fleet', sample_sql()) } 1 .. 12;
@told = map { finish($_) } @stuck;
is(scalar(grep { /55P03: could not store samples/ } @told), 12, 'all samples for a locked table fail with 55P03');
# Or it would take two minutes, of which it takes less than one even if they come one by one in the beginning.
cmp_ok(time - $started, '<', 100, 'and do not wait for one another');
unlock($lock);

# ---- a deadlock of two transactions that ingest: tried again, but not for long ----
my $second_drone = sentient_drone($node, 'fleet', 'a-deadlock');
my $at = sub { my ($id, $time) = @_; return qq{SELECT 'told ' || accepted FROM telemetry.ingest('{"drone_id": "$id", "timestamp": "2026-04-01T00:00:0${time}Z"}')} };
$node->safe_psql('fleet', $at->($_, 0)) for $drone, $second_drone;
my $barrier = session('fleet', 'SELECT pg_advisory_lock(53)', 'SELECT pg_sleep(1200)');
sentient_wait($node, 'fleet', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 53 AND granted}, 'a barrier is up');
my @crossed = map { session('fleet', q{SET deadlock_timeout = '200ms'}, 'SET log_lock_waits = on', 'BEGIN', $at->($_->[0], $_->[2]), 'SELECT pg_advisory_xact_lock_shared(53)', $at->($_->[1], $_->[2]), 'COMMIT') }
	[ $drone, $second_drone, 1 ], [ $second_drone, $drone, 2 ];
sentient_wait($node, 'fleet', q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND objid = 53 AND NOT granted}, 'two transactions have a drone each');
$log_begin = -s $node->logfile;
$node->safe_psql('fleet', q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 53 AND granted});
finish($barrier);
@told = map { finish($_) } @crossed;
is(scalar(grep { /40P01: deadlock detected/ } @told), 1, 'one of them has the error') or diag("@told");
my $deadlocks = () = slurp_file($node->logfile, $log_begin) =~ /detected deadlock while waiting/g;
ok($deadlocks >= 2 && $deadlocks <= 3, "when both, or one twice, have run into it") or diag($deadlocks);

# ---- the queue is full ----
setting('sentient_edge.queue_lock_timeout', '20min');
$lock = lock_table();
my @full = map { session('fleet', sample_sql()) } 1 .. 16;
ok(waiting(16), 'sixteen sessions have all slots');
my ($status, $out, $err) = $node->psql('fleet', "\\set VERBOSITY verbose\nSET sentient_edge.queue_wait = '300ms'; " . sample_sql());
like($err, qr/53400: telemetry queue is full/, 'another one is refused');
like($err, qr/All 16 slots are in use/, 'and told why');
my $patient = session('fleet', "SET sentient_edge.queue_wait = '20min'", sample_sql());
($status, $out, $err) = $node->psql('other', "\\set VERBOSITY verbose\nSET sentient_edge.queue_wait = 0; SELECT telemetry.submit('[]')");
like($err, qr/53400: telemetry queue is full/, 'in another database, too');
unlock($lock);
is(scalar(grep { finish($_) eq "told 100\n" } @full), 16, 'when the writer goes on all are stored');
is(finish($patient), "told 100\n", 'and the one that had patience');

# the same with the room for large requests
$lock = lock_table();
my $large = q{extra => jsonb_build_object('blob', repeat('x', 700000))};
my @large = map { session('fleet', "SET sentient_edge.queue_wait = '20min'", sample_sql($large)) } 1 .. 2;
ok(waiting(2), 'of two large requests one has it, the other waits');
($status, $out, $err) = $node->psql('fleet', "\\set VERBOSITY verbose\nSET sentient_edge.queue_wait = '300ms'; " . sample_sql($large));
like($err, qr/53400: telemetry queue has no room for a request of 7\d+ bytes/, 'no room for a large request');
unlock($lock);
is(scalar(grep { finish($_) eq "told 100\n" } @large), 2, 'one that waits gets it');

# ---- statistics reach the tables while the writer is busy ----
sentient_wait($node, 'fleet', q{SELECT sum(n_tup_ins) > 10 FROM pg_stat_user_tables WHERE schemaname = 'telemetry' AND relname LIKE 'drone\_telemetry%'}, 'rows are reported to the statistics');

# ---- databases ----
like($node->safe_psql('other', q{SELECT telemetry.submit('[]')}), qr/^\(0,0,0\)$/, 'another database has a writer of its own');
my $requests = stat_of('requests');
ok(writer('other') ne '', 'it runs');
$node->safe_psql('postgres', 'ALTER DATABASE other RENAME TO third');
is(writer('third'), '', 'it steps aside when its database is renamed');
like($node->safe_psql('third', q{SELECT telemetry.submit('[]')}), qr/^\(0,0,0\)$/, 'and is started again');
$node->safe_psql('postgres', 'CREATE DATABASE fourth TEMPLATE third');
like($node->safe_psql('fourth', q{SELECT telemetry.submit('[]')}), qr/^\(0,0,0\)$/, 'in a copy as well');
$node->safe_psql('postgres', 'DROP DATABASE third');
$node->safe_psql('postgres', 'DROP DATABASE fourth');
is(stat_of('requests'), $requests, "another database's lane is not taken away");
# a database of its own standing: its defaults are for clients
$node->safe_psql('postgres', q{ALTER DATABASE fleet SET default_transaction_read_only = on; ALTER DATABASE fleet SET default_transaction_isolation = 'serializable'});
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . writer() . ')');
is($node->safe_psql('fleet', 'SET default_transaction_read_only = off; ' . sample_sql()), 'told 100', 'the writer minds no defaults of the database');
$node->safe_psql('postgres', 'ALTER DATABASE fleet RESET ALL');

# ---- no worker to be had ----
$node->safe_psql('postgres', 'ALTER DATABASE fleet SET sentient_edge.queue_wait = 300');
$node->append_conf('postgresql.conf', "max_worker_processes = 3\n");
$node->restart;
sentient_wait($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'fleet' AND backend_type = 'sentient_edge scheduler'}, 'launcher, scheduler and the logical replication launcher have all workers');
my @errors = map { ($node->psql('fleet', "\\set VERBOSITY verbose\n" . sample_sql()))[2] } 1 .. 20;
is(scalar(grep { /53400: could not start the ingest writer/ } @errors), 20, 'twenty sessions get no writer') or diag("@errors");
is(stat_of('depth'), 0, 'and leave nothing in the queue of sixteen');
$node->safe_psql('postgres', 'ALTER DATABASE fleet RESET ALL');
$node->append_conf('postgresql.conf', "max_worker_processes = 12\n");
$node->restart;
is($node->safe_psql('fleet', sample_sql()), 'told 100', 'with a worker all is well');

# ---- the extension goes ----
$node->safe_psql('fleet', 'SET client_min_messages = warning; DROP EXTENSION sentient_edge CASCADE');
($status, $out, $err) = $node->psql('fleet', "SELECT telemetry.submit('[]')");
like($err, qr/does not exist/, 'without the extension there is no function');
sentient_wait($node, 'postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'fleet' AND backend_type = 'sentient_edge ingest writer'}, 'and no writer');
$node->safe_psql('fleet', 'SET client_min_messages = warning; CREATE EXTENSION sentient_edge CASCADE');
$drone = sentient_drone($node, 'fleet', 'a-2');
is($node->safe_psql('fleet', sample_sql()), 'told 100', 'with it again samples are stored');

unlike(slurp_file($node->logfile), qr/PANIC|sentient_edge assertion|was terminated by signal/, 'nothing crashed');
$node->stop;

# ---- where processes may open but few files, sessions wait at their latches ----
$node = sentient_server('few', init => { allows_streaming => 1 }, conf => "max_files_per_process = 100\n");
sentient_database($node, 'fleet');
$drone = sentient_drone($node, 'fleet', 'f-1');
@told = map { finish($_) } map { session('fleet', sample_sql()) } 1 .. 8;
is(scalar(grep { $_ eq "told 100\n" } @told), 8, 'samples are stored with few files');

# ---- a standby that is asked for in the middle of a statement, which reads no configuration then ----
# Workers do not wait for it, or they would keep their locks.
my ($midway, $stopped) = map { session('fleet', "SET application_name = 'midway $_'", "DO \$\$BEGIN PERFORM telemetry.submit_sample('$drone', '2026-03-02 00:00:0$_+00'); PERFORM pg_sleep(1200);
	EXCEPTION WHEN query_canceled THEN PERFORM telemetry.submit_sample('$drone', '2026-03-02 00:00:1$_+00'); END\$\$", q{SELECT 'returned'}) } 1, 2;
sentient_wait($node, 'postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE 'DO%' AND wait_event = 'PgSleep'}, 'two statements have submitted one sample each');
$node->safe_psql('postgres', q{SET synchronous_commit = local; ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$node->reload;
# those who commit wait
my $committer = session('postgres', 'CREATE TABLE public.waits ()');
sentient_wait($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CREATE TABLE%' AND wait_event = 'SyncRep'}, 'a standby is asked for');
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO%'});
sentient_wait($node, 'postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE 'DO%' AND wait_event = 'SyncRep'}, 'their next ones wait for the standby');
my $informed = session('fleet', "SELECT 'told ' || accepted FROM telemetry.submit_sample('$drone', '2026-03-02 00:00:03+00')");
sentient_wait($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%told%submit_sample%' AND wait_event = 'SyncRep'}, 'so does one of a session that knows of it from the start');
# who is cancelled is not told that all is well, whether the session knows of the standby or not
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'midway 2'});
like(finish($stopped), qr/WARNING:  01000: canceling wait for synchronous replication.*ERROR:  08007: stopped waiting for the synchronous standby/s, 'one that is cancelled is in doubt');
$node->safe_psql('postgres', q{SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names});
$node->reload;
is(finish($midway), "returned\n", 'the others return when none is asked for');
is(finish($informed), "told 1\n", 'without an error');
is($node->safe_psql('fleet', "SELECT count(*) FROM telemetry.drone_telemetry WHERE drone_id = '$drone' AND recorded_at >= '2026-03-02'"), 5, 'all of them are stored here');
finish($committer);
$node->stop;

# ---- without the preload ----
$node = sentient_server('plain', preload => 0);
sentient_database($node, 'fleet');
for my $call ("telemetry.submit('[]')", "telemetry.submit_sample(NULL, NULL)", 'telemetry.queue_stats')
{
	($status, $out, $err) = $node->psql('fleet', "\\set VERBOSITY verbose\nSELECT * FROM $call");
	like($err, qr/55000: sentient_edge is not preloaded.*HINT:  Add sentient_edge to shared_preload_libraries/s, "$call needs the preload and says so");
}
$node->stop;
done_testing();
