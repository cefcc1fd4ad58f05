# 052_submit_faults.pl
#		Faults while several clients submit samples: afterwards every sample that
#		was acknowledged exists exactly once, and every other was reported with an
#		error.  Prints the counts of each fault.
#
# FAULT_SECONDS	about how long it takes beside the faults themselves (default 18; make test-faults gives it 600)
#
# The disk that gets full is a small tmpfs at SMALL_DISK, mounted by test/tools/test,
# with a partition in a tablespace there.  Only root can mount one: where there is
# none, the size of the writer's files is limited (prlimit), which fails at the
# same places with another code.  WAL is elsewhere: PostgreSQL answers its loss
# with the crash restart that other faults drive.

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(run start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use lib 'test/t';
use SentientEdge;

my $total = $ENV{FAULT_SECONDS} // 18;
my $long = $total >= 300;
my $load = $total / 40;		# seconds before a fault, and after it; the faults themselves take their time
my $drones = 20;
my $clients = 8;
my $next_client = 1;
my $work = PostgreSQL::Test::Utils::tempdir;
my $program = "$work/submit_client";

# No client outlives the test.
my @running;
END
{
	my $status = $?;
	kill 'KILL', @running if @running;
	$? = $status;
}

sub config { my ($what) = @_; return `$ENV{PG_CONFIG} --$what` =~ s/\s+\z//r; }
$ENV{PG_CONFIG} //= 'pg_config';
is(system('cc', '-O1', '-Wall', '-Wextra', '-Wno-unused-parameter', '-I' . config('includedir'), '-o', $program,
	'test/t/submit_client.c', '-L' . config('libdir'), '-lpq'), 0, 'the client is built') or BAIL_OUT('no client');

# small WAL files, so that a limit on the size of files can be below that of a table
my $node = sentient_server('faults', durable => 1, start => 0,
	init => { allows_streaming => 1, extra => ['--wal-segsize=1'] },
	conf => "synchronous_commit = on\nsentient_edge.queue_lock_timeout = 20min\nmax_wal_size = 2GB\nautovacuum_naptime = 1s\nlog_statement = none\n");
$node->start;
sentient_database($node, 'fleet');
$node->safe_psql('fleet', qq{
	INSERT INTO core.drones (drone_id, call_sign, drone_type)
	SELECT ('52000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'FAULT-' || i, 'vtol' FROM generate_series(1, $drones) AS i;
	CREATE TABLE public.told (client int, n bigint, state text, accepted int, duplicate int, rejected int);
	SELECT telemetry.ingest('{"drone_id": "52000000-0000-4000-8000-000000000001", "timestamp": "2026-03-01T00:00:00Z"}');});

# What a query says; undef while the server does not answer.  (Not by standard input: a
# psql that cannot connect leaves it unread, and the test would get a broken pipe.)
sub ask
{
	my ($query) = @_;
	my $out = '';

	return run([ 'psql', '-XAtq', '-d', $node->connstr('fleet'), '-c', $query ], '<', '/dev/null', '>', \$out, '2>', '/dev/null') ? $out =~ s/\s+\z//r : undef;
}

# A worker's pid; one that a fault before has ended may still have to come back.
sub worker_pid
{
	my ($type) = @_;
	my $deadline = time + 300;
	my $pid = '';

	while ($pid eq '' && time < $deadline)
	{
		$pid = ask("SELECT pid FROM pg_stat_activity WHERE datname = 'fleet' AND backend_type = 'sentient_edge $type'") // '';
		usleep(20_000) if $pid eq '';
	}
	return $pid eq '' ? BAIL_OUT("there is no $type") : $pid;
}

sub writer_pid { return worker_pid('ingest writer'); }

sub kill_worker
{
	my ($type) = @_;

	ok(kill('KILL', worker_pid($type)), "the $type was killed");
	return;
}

# The server answers again, after a crash of its own or because it is started.
sub wait_for_server
{
	my ($start) = @_;
	my $deadline = time + 300;

	while (1)
	{
		last if $start ? $node->start(fail_ok => 1) : defined ask('SELECT 1');
		die 'the server does not come back' if time > $deadline;
		$node->stop('immediate', fail_ok => 1) if $start;
		usleep(200_000);
	}
	return;
}

sub lines { my ($log, $regex) = @_; my $text = -f $log ? slurp_file($log) : ''; my $n = () = $text =~ /$regex/mg; return $n; }

# Wait until the log of clients has so many lines of this kind.
sub wait_lines
{
	my ($log, $regex, $n) = @_;
	my $deadline = time + 300;

	usleep(20_000) while lines($log, $regex) < $n && time < $deadline;
	return;
}

# The log of the clients that run now.
sub current_log { return "$work/told_" . ($next_client - $clients); }

# Run clients, strike in their midst, let them go on, end them and count.  Arguments:
# connection string, statement_timeout (ms), expect: SQLSTATE that must have been
# reported, unheard: clients that were killed (each may have one sample without
# a line), skip: SQL condition of samples that were deleted on purpose.
sub fault
{
	my ($name, $strike, %arg) = @_;
	my $log = "$work/told_$next_client";
	my $first = $next_client;
	my ($out, $err) = ('', '');

	$next_client += $clients;
	my $run = start([ $program, $arg{connstr} // $node->connstr('fleet'), $log, $first, $clients, $drones, $arg{timeout} // 0 ], '>', \$out, '2>', \$err);
	my $deadline = time + 300;
	while ((lines($log, '\t-1\t') < $clients || lines($log, '\t00000\t1\t') < 100) && time < $deadline)
	{
		$run->pump_nb;
		usleep(10_000);
	}
	usleep($load * 1e6);
	$run->pump_nb;
	@running = split ' ', $out;
	$strike->($out);
	my $at_strike = lines($log, '\t00000\t1\t');
	wait_lines($log, '\t00000\t1\t', $at_strike + 100);
	cmp_ok(lines($log, '\t00000\t1\t'), '>=', $at_strike + 100, "$name: the clients are served again");
	usleep($load * 1e6);
	$run->pump_nb;
	kill 'TERM', @running;
	$run->finish;
	@running = ();
	count($name, $log, $first, %arg);
	return $log;
}

sub count
{
	my ($name, $log, $first, %arg) = @_;
	my $skip = $arg{skip} // 'false';
	my $unheard = $arg{unheard} // 0;

	run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('fleet'), '-c', 'TRUNCATE public.told',
		'-c', "\\copy public.told FROM '$log'", '-c', 'DELETE FROM public.told WHERE n = -1', '-c', 'ANALYZE public.told' ]) or die 'could not load the log';
	my ($sent, $acknowledged, $rejected, $errors, $gaps, $odd) = split /\|/, $node->safe_psql('fleet', q{
		SELECT count(DISTINCT (client, n)), count(DISTINCT (client, n)) FILTER (WHERE accepted + duplicate = 1), coalesce(sum(rejected), 0),
			(SELECT coalesce(string_agg(state || ' ' || n, ', ' ORDER BY state), 'none') FROM (SELECT state, count(*) AS n FROM told WHERE state <> '00000' GROUP BY 1) s),
			(SELECT coalesce(sum(hi + 1 - n), 0) FROM (SELECT client, max(n) AS hi, count(DISTINCT n) AS n FROM told GROUP BY 1) c),
			count(*) FILTER (WHERE state = '00000' AND accepted + duplicate + rejected <> 1) FROM told});
	my $stored = qq{FROM telemetry.drone_telemetry t WHERE t.recorded_at >= timestamptz '2026-03-01 00:00:00+00' + $first * 1000 * interval '1 s'
		AND t.recorded_at < timestamptz '2026-03-01 00:00:00+00' + ($first + $clients) * 1000 * interval '1 s'};
	my ($rows, $single) = split /\|/, $node->safe_psql('fleet', "SELECT count(*), count(DISTINCT (drone_id, recorded_at)) $stored");
	my $missing = $node->safe_psql('fleet', qq{
		SELECT count(*) FROM (SELECT DISTINCT client, n FROM told WHERE accepted + duplicate = 1 AND NOT ($skip)) a
		LEFT JOIN (SELECT drone_id, recorded_at, latitude $stored) t
			ON t.drone_id = ('52000000-0000-4000-8000-' || lpad((1 + a.n % $drones)::text, 12, '0'))::uuid
			AND t.recorded_at = timestamptz '2026-03-01 00:00:00+00' + (a.client * 1000000::bigint + a.n) * interval '1 ms'
			AND t.latitude = (a.client * 1000000::bigint + a.n) % 90
		WHERE t.drone_id IS NULL});
	my $untold = $node->safe_psql('fleet', qq{
		SELECT count(*) FROM (SELECT recorded_at $stored) t LEFT JOIN told
			ON t.recorded_at = timestamptz '2026-03-01 00:00:00+00' + (told.client * 1000000::bigint + told.n) * interval '1 ms'
		WHERE told.client IS NULL});

	note("$name: $sent samples sent, $acknowledged acknowledged, $rejected rejected, errors: $errors; $rows rows, $untold never answered");
	cmp_ok($acknowledged, '>', 0, "$name: samples were acknowledged ($acknowledged)");
	is($missing, 0, "$name: all of them exist");
	is($rows, $single, "$name: exactly once");
	is($gaps + $odd, 0, "$name: all others were reported");
	cmp_ok($untold, '<=', $unheard, "$name: no row that nobody was told of");
	like($errors, qr/\Q$arg{expect}\E/, "$name: reported as $arg{expect}") if $arg{expect};
	is($errors, 'none', "$name: nobody saw an error") if $arg{no_errors};
	return;
}

# ---- processes ----

fault('kill -9 writer', sub { kill_worker('ingest writer'); wait_for_server() });
fault('kill -9 scheduler', sub { kill_worker('scheduler'); wait_for_server() });
fault('terminate writer', sub { for (1 .. ($long ? 50 : 5)) { $node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . writer_pid() . ')'); usleep(100_000) } });
fault('kill -9 clients', sub { my ($pids) = @_; my @all = split ' ', $pids; kill 'KILL', @all[0 .. $clients / 2 - 1]; }, unheard => $clients / 2);
fault('kill -9 backend', sub {
	my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%submit_sample%' AND backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1});
	kill 'KILL', $pid;
	wait_for_server();
});
fault('kill -9 postmaster', sub { $node->kill9; wait_for_server(1) });
fault('SIGSTOP of the writer', sub { my $pid = writer_pid(); kill 'STOP', $pid; wait_lines(current_log(), '\t08007\t', 1); sleep 10 if $long; kill 'CONT', $pid; }, timeout => 500, expect => '08007');

# ---- storage ----

# April's partition lies on the small disk
my $small = $ENV{SMALL_DISK} // '';
note($small ne '' ? "the full disk is a tmpfs at $small" : 'no SMALL_DISK: the full disk is a limit on the size of files');
$next_client = 2700;
$node->safe_psql('fleet', q{SELECT telemetry.ingest('{"drone_id": "52000000-0000-4000-8000-000000000001", "timestamp": "2026-04-01T00:00:00Z"}')});
if ($small ne '')
{
	mkdir "$small/space" or die "$small: $!";
	$node->safe_psql('fleet', "CREATE TABLESPACE small LOCATION '$small/space'");
	$node->safe_psql('fleet', q{
		DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE %s SET TABLESPACE small', tableoid::regclass) FROM telemetry.drone_telemetry WHERE recorded_at = '2026-04-01 00:00:00+00'); END $$});
}
fault('full disk', sub {
	my $pid = writer_pid();
	my $full = $small ne '' ? '53100' : 'XX000';

	if ($small ne '')
	{
		open my $ballast, '>', "$small/ballast" or die "$small: $!";
		$ballast->autoflush(1);
		1 while syswrite($ballast, 'x' x 65536);
		close $ballast;
	}
	else
	{
		is(system('prlimit', "--pid=$pid", '--fsize=2097152:'), 0, 'the writer may not make files larger');
	}
	wait_lines(current_log(), "\t$full\t", 1);
	usleep($load * 1e6);
	$small ne '' ? unlink "$small/ballast" : system('prlimit', "--pid=$pid", '--fsize=unlimited:');
	is(writer_pid(), $pid, 'the writer is the same');
}, expect => $small ne '' ? '53100' : 'XX000');
if ($small ne '')
{
	$node->safe_psql('fleet', q{DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE %s SET TABLESPACE pg_default', oid::regclass) FROM pg_class WHERE reltablespace = (SELECT oid FROM pg_tablespace WHERE spcname = 'small') AND relkind = 'r'); END $$});
	$node->safe_psql('fleet', 'DROP TABLESPACE small');
}
$next_client = 500;
$node->safe_psql('postgres', q{ALTER SYSTEM SET max_wal_size = '2MB'});
$node->safe_psql('postgres', q{ALTER SYSTEM SET wal_keep_size = '0'});
$node->reload;
fault('max_wal_size pressure', sub { my $end = time + 2 * $load; do { $node->safe_psql('postgres', 'CHECKPOINT') } while (time < $end) }, no_errors => 1);
$node->safe_psql('postgres', q{ALTER SYSTEM SET max_wal_size = '2GB'});
# a standby that is stopped later must find what it missed
$node->safe_psql('postgres', q{ALTER SYSTEM SET wal_keep_size = '2GB'});
$node->reload;

# ---- what is changed under way ----

my $third = "'52000000-0000-4000-8000-000000000003'";
my $told = fault('delete of a drone', sub {
	for (1 .. ($long ? 20 : 2))
	{
		$node->safe_psql('fleet', qq{
			BEGIN; LOCK TABLE telemetry.drone_telemetry IN SHARE ROW EXCLUSIVE MODE;
			DELETE FROM telemetry.drone_telemetry WHERE drone_id = $third; DELETE FROM core.drones WHERE drone_id = $third; COMMIT});
		wait_lines(current_log(), '\t00000\t0\t0\t1$', $_);
		$node->safe_psql('fleet', "INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ($third, 'FAULT-3', 'vtol')");
	}
}, skip => "n % $drones = 2");
my $refused = lines($told, '\t00000\t0\t0\t1$');
cmp_ok($refused, '>', 0, "samples of a drone that is gone are rejected ($refused)");
is($node->safe_psql('fleet', "SELECT count(*) FROM telemetry.rejected_samples WHERE route = 'submit' AND sqlstate = '23503'"), $refused, 'each is kept');
is($node->safe_psql('fleet', 'SELECT accepted + duplicate FROM telemetry.retry_rejected(1000000)'), $refused, 'and can be taken up again');

fault('settings change', sub {
	my $end = time + 2 * $load;
	for (my $i = 1; time < $end || $i < 5; $i++)
	{
		$node->safe_psql('fleet', 'UPDATE sentient_edge.settings SET value = ' . (3 + $i % 3) . q{ WHERE name = 'telemetry.partition_premake'});
		$node->safe_psql('fleet', q{UPDATE sentient_edge.settings SET value = '201} . $i % 9 . q{-01-01 00:00:00+00' WHERE name = 'telemetry.accept_from'});
		$node->safe_psql('postgres', 'ALTER SYSTEM SET sentient_edge.queue_lock_timeout = ' . (1_200_000 + $i % 3));
		$node->reload;
	}
}, no_errors => 1);
# Rules and geofences come, change and go while samples break and keep them.  Only
# samples newer than a drone's latest count: these clients are ahead of all others.
my $behind = $next_client;
my $rules = 0;
$next_client = 2800;
fault('rules change', sub {
	my $end = time + 2 * $load;
	my $deadline = time + 300;
	my $cleared = 0;
	for (my $i = 1; time < $end || $i < 12 || ($cleared <= 20 && time < $deadline); $i++)
	{
		$rules = $i;
		change(sprintf(q{INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, clear_threshold, hold_for, drone_type)
				VALUES ('fault %d', 'latitude', '>', %d, %d, %d * interval '1 ms', %s)}, $i, 40 + $i % 9, 30 + $i % 9, $i % 3 * 30, $i % 2 ? 'NULL' : q{'vtol'}),
			sprintf(q{INSERT INTO telemetry.geofences (name, kind, boundary) VALUES ('fault %d', '%s', box(point(%d, 0), point(%d, 60))::polygon)},
				$i, $i % 2 ? 'exclusion' : 'inclusion', $i % 40, 90 + $i % 40));
		change(q{UPDATE telemetry.alert_rules SET enabled = NOT enabled WHERE name LIKE 'fault %' AND random() < 0.4},
			q{UPDATE telemetry.geofences SET enabled = NOT enabled WHERE name LIKE 'fault %' AND random() < 0.4});
		change(q{UPDATE telemetry.alert_rules SET threshold = threshold + 1, drone_type = CASE WHEN random() < 0.2 THEN 'none' END WHERE name LIKE 'fault %' AND random() < 0.3},
			q{SELECT telemetry.acknowledge_alert(alert_id) FROM telemetry.real_time_alerts WHERE cleared_at IS NULL ORDER BY random() LIMIT 3});
		change(sprintf(q{DELETE FROM telemetry.alert_rules WHERE name = 'fault %d'}, $i - 3), sprintf(q{DELETE FROM telemetry.geofences WHERE name = 'fault %d'}, $i - 4));
		$cleared = $node->safe_psql('fleet', 'SELECT count(cleared_at) FROM telemetry.real_time_alerts');
	}
});
$next_client = $behind;
my ($opened, $cleared, $open) = split /\|/, $node->safe_psql('fleet', 'SELECT count(*), count(cleared_at), count(*) - count(cleared_at) FROM telemetry.real_time_alerts');
note("rules change: $rules rules and geofences, $opened alerts opened, $cleared cleared, $open open");
cmp_ok($cleared, '>', 20, "alerts were opened and cleared ($opened, $cleared)");
check_alerts('rules change');
change(q{UPDATE telemetry.alert_rules SET enabled = false WHERE name LIKE 'fault %'}, q{DELETE FROM telemetry.geofences});
sentient_wait($node, 'fleet', q{SELECT count(*) = 0 FROM telemetry.real_time_alerts WHERE cleared_at IS NULL AND alert_type <> 'link_loss'},
	'without rules no alert stays open');
check_alerts('without rules');

# Change something about rules by statements of their own.  A deadlock with the
# ingest writer may hit either.
sub change
{
	for my $statement (@_)
	{
		my ($status, $out, $err);

		do
		{
			($status, $out, $err) = $node->psql('fleet', "\\set VERBOSITY sqlstate\n$statement");
		} while ($status != 0 && $err =~ /40P01/);
		die "$statement: $err" if $err ne '';
	}
	return;
}

# Alerts, their events and their states say the same.
sub check_alerts
{
	my ($name) = @_;
	my %wrong = (
		'one open alert of a drone and a rule at most' => q{
			SELECT FROM telemetry.real_time_alerts WHERE cleared_at IS NULL AND coalesce(rule_id, fence_id) IS NOT NULL
			GROUP BY drone_id, rule_id, fence_id HAVING count(*) > 1},
		'each alert has one event that it was opened, and one that it was cleared if it was' => q{
			SELECT FROM telemetry.real_time_alerts a
			LEFT JOIN telemetry.drone_events e ON (e.payload->>'alert_id')::uuid = a.alert_id AND e.drone_id = a.drone_id AND e.source = 'alert'
			GROUP BY a.alert_id HAVING count(*) FILTER (WHERE event_type = 'alert_opened' AND occurred_at = opened_at) <> 1
				OR count(*) FILTER (WHERE event_type = 'alert_opened') <> 1
				OR count(*) FILTER (WHERE event_type = 'alert_cleared') <> count(DISTINCT cleared_at)
				OR count(*) FILTER (WHERE event_type = 'alert_cleared' AND occurred_at = cleared_at) <> count(DISTINCT cleared_at)},
		'no event without its alert' => q{
			SELECT FROM telemetry.drone_events e WHERE source = 'alert' AND event_type IN ('alert_opened', 'alert_cleared')
			AND NOT EXISTS (SELECT FROM telemetry.real_time_alerts a WHERE a.alert_id = (e.payload->>'alert_id')::uuid)},
		'each open alert has its state, and each state its open alert' => q{
			SELECT FROM (SELECT alert_id, drone_id FROM telemetry.real_time_alerts WHERE cleared_at IS NULL) a
			FULL JOIN (SELECT alert_id, drone_id FROM telemetry.alert_states WHERE alert_id IS NOT NULL) s USING (alert_id, drone_id)
			WHERE a IS NULL OR s IS NULL},
		'the states of each drone are counted' => q{
			SELECT FROM telemetry.drone_latest l WHERE alert_states <> (SELECT count(*) FROM telemetry.alert_states s WHERE s.drone_id = l.drone_id)});

	# of one moment, for the scheduler clears alerts meanwhile
	my @names = sort keys %wrong;
	my @counts = split /\|/, $node->safe_psql('fleet', 'SELECT ' . join(', ', map { "(SELECT count(*) FROM ($wrong{$_}) AS w)" } @names));
	is($counts[$_], 0, "$name: $names[$_]") for 0 .. $#names;
	return;
}

$node->safe_psql('postgres', q{ALTER SYSTEM SET sentient_edge.queue_lock_timeout = '300ms'});
$node->reload;
fault('locked table', sub {
	my $locker = $node->background_psql('fleet');

	$locker->query_safe('BEGIN; LOCK TABLE telemetry.drone_telemetry IN SHARE MODE');
	wait_lines(current_log(), '\t55P03\t', 1);
	$locker->query_safe('COMMIT');
	$locker->quit;
}, expect => '55P03');
$node->safe_psql('postgres', q{ALTER SYSTEM SET sentient_edge.queue_lock_timeout = '20min'});
$node->reload;

# ---- PgBouncer ----

my $pool_port = PostgreSQL::Test::Cluster::get_free_port();
my $user = getpwuid($<);
append_to_file("$work/pgbouncer.ini", <<"END");
[databases]
fleet = host=@{[ $node->host ]} port=@{[ $node->port ]} dbname=fleet user=$user
[pgbouncer]
listen_addr =
listen_port = $pool_port
unix_socket_dir = $work
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_login_retry = 1
logfile = $work/pgbouncer.log
pidfile = $work/pgbouncer.pid
END
$ENV{PATH} .= ':/usr/sbin';
my $database = "host=$work port=$pool_port dbname=fleet user=$user";
my $pooler = start([ 'pgbouncer', '-q', "$work/pgbouncer.ini" ], '>', "$work/pgbouncer.out", '2>&1');
ok(poll(sub { system("psql -Xqc 'SELECT 1' '$database' >/dev/null 2>&1") == 0 }), 'PgBouncer runs') or diag(slurp_file("$work/pgbouncer.log"));
fault('PgBouncer, transaction mode', sub { $node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . writer_pid() . ')') }, connstr => $database);
fault('PgBouncer, kill -9 writer', sub { kill_worker('ingest writer'); wait_for_server() }, connstr => $database);
kill 'TERM', slurp_file("$work/pgbouncer.pid") =~ /(\d+)/;
$pooler->finish;

sub poll { my ($what) = @_; my $deadline = time + 300; while (time < $deadline) { return 1 if $what->(); usleep(100_000) } return 0; }

# ---- synchronous standby ----

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = '*'});
$node->reload;
sentient_wait($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'the standby is synchronous');
my $last = fault('synchronous standby stopped and resumed', sub {
	$standby->stop('immediate');
	wait_lines(current_log(), '\t08007\t', 1);
	sleep 10 if $long;
	$standby->start;
}, timeout => 700, expect => '08007');
# what was acknowledged is on the standby, whatever becomes of the primary
$node->stop('immediate');
unlike(slurp_file($node->logfile), qr/^TRAP: |PANIC: |terminated by signal (?!9)/m, 'nothing crashed that was not killed');
$standby->promote;
$node = $standby;
count('on the promoted standby', $last, $next_client - $clients);
$node->safe_psql('postgres', q{ALTER SYSTEM RESET synchronous_standby_names});
$node->reload;
fault('after the promotion', sub { });

unlike(slurp_file($node->logfile), qr/sentient_edge assertion/, 'no assertion failed');
is($node->safe_psql('fleet', 'SELECT depth FROM telemetry.queue_stats'), 0, 'the queue is empty');
$node->stop;
done_testing();
