# 050_ingest_crash.pl
#		kill -9 of the postmaster and of backends while several clients send samples:
#		after the restart every sample that was acknowledged is there, exactly once,
#		and sending again what was not acknowledged is safe.

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use lib 'test/t';
use SentientEdge;

my $clients = 4;
my $node = sentient_server('crash', durable => 1, conf => "synchronous_commit = on\nfull_page_writes = on\n");
sentient_database($node, 'fleet');
$node->safe_psql('fleet', q{
	INSERT INTO core.drones (drone_id, call_sign, drone_type)
	SELECT ('31000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'CRASH-' || i, 'vtol' FROM generate_series(1, 20) AS i});

# Batch n of client c: 50 samples of all drones, at times that no other batch has; the
# clients meet in drone_latest.
sub batch
{
	my ($client, $n) = @_;

	return sprintf(q{SELECT 'acknowledged %d %d ' || accepted || ' ' || duplicate || ' ' || rejected FROM telemetry.ingest_batch(
		ARRAY(SELECT ('31000000-0000-4000-8000-' || lpad((1 + (%d + i) %% 20)::text, 12, '0'))::uuid FROM generate_series(1, 50) AS i ORDER BY i),
		ARRAY(SELECT timestamptz '2026-03-01 00:00:00+00' + (%d * 1000000 + %d * 50 + i) * interval '1 s' FROM generate_series(1, 50) AS i ORDER BY i),
		latitude => ARRAY(SELECT %d::float8 / 1000000 FROM generate_series(1, 50) AS i), extra => ARRAY(SELECT jsonb_build_object('n', %d, 'i', i) FROM generate_series(1, 50) AS i ORDER BY i));
	}, $client, $n, $client * 5, $client, $n, $n, $n);
}

# One run: every client sends from batch $first on, and stays, until its connection breaks; the
# acknowledged ones are added to %$acknowledged.  $strike kills meanwhile.
sub run_clients
{
	my ($first, $acknowledged, $strike) = @_;
	my @runs;

	for my $client (1 .. $clients)
	{
		my %run = (out => '', err => '');
		my $file = $node->basedir . "/client_$client.sql";

		unlink $file;
		append_to_file($file, join('', map { batch($client, $_) } $first .. $first + 2999) . 'SELECT pg_sleep(1200) AS "after ingest_batch"');
		$run{handle} = start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('fleet'), '-f', $file ],
			'>', \$run{out}, '2>', \$run{err});
		push @runs, \%run;
	}

	# strike in the midst of it: once every client has had two answers
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $deadline && grep { $_->{out} !~ /acknowledged.*acknowledged/s } @runs)
	{
		$_->{handle}->pump_nb for @runs;
		usleep(1000);
	}
	my $until = time + 0.5;
	while (time < $until)
	{
		$_->{handle}->pump_nb for @runs;
		usleep(1000);
	}
	$strike->();

	my $sent = 0;
	for my $run (@runs)
	{
		$run->{handle}->finish;
		like($run->{err}, qr/server closed the connection|terminating connection|connection to server was lost|could not (?:receive|send)/, 'the client lost its connection');
		while ($run->{out} =~ /^acknowledged (\d+) (\d+) (\d+) (\d+) (\d+)$/mg)
		{
			$acknowledged->{"$1 $2"} = 1;
			fail("batch $1 $2 was not taken whole: $3 $4 $5") if $3 + $4 != 50 || $5 != 0;
			$sent++;
		}
	}
	cmp_ok($sent, '>', $clients, "$sent batches were acknowledged before the strike");
	return $first + 3000;
}

# Everything acknowledged is there, once and whole.
sub check
{
	my ($acknowledged, $when) = @_;
	my $list = join(',', map { my ($client, $n) = split; "($client,$n)" } keys %$acknowledged);
	my $missing = $node->safe_psql('fleet', qq{
		SELECT count(*) FROM (VALUES $list) AS a (client, n), generate_series(1, 50) AS i
		WHERE NOT EXISTS (SELECT FROM telemetry.drone_telemetry t
			WHERE t.drone_id = ('31000000-0000-4000-8000-' || lpad((1 + (a.client * 5 + i) % 20)::text, 12, '0'))::uuid
			  AND t.recorded_at = timestamptz '2026-03-01 00:00:00+00' + (a.client * 1000000 + a.n * 50 + i) * interval '1 s'
			  AND t.extra = jsonb_build_object('n', a.n, 'i', i))});

	is($missing, '0', "$when: all samples of " . scalar(keys %$acknowledged) . ' acknowledged batches are there');
	is($node->safe_psql('fleet', q{
		SELECT count(*) - count(DISTINCT (drone_id, recorded_at)), count(*) FILTER (WHERE n <> 50)
		FROM (SELECT drone_id, recorded_at, count(*) OVER (PARTITION BY extra->'n', latitude, floor(extract(epoch FROM recorded_at - '2026-03-01 00:00:00+00') / 1000000)) AS n
			  FROM telemetry.drone_telemetry) AS t}), '0|0', "$when: none twice, no batch in part");
	is($node->safe_psql('fleet', q{
		SELECT count(*) FROM telemetry.drone_latest l
		WHERE recorded_at <> (SELECT max(recorded_at) FROM telemetry.drone_telemetry t WHERE t.drone_id = l.drone_id)}),
		'0', "$when: the latest state is that of the newest sample");
}

my %acknowledged;
my $next = 1;

# a backend: the server restarts by itself
$next = run_clients($next, \%acknowledged, sub {
	my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%ingest_batch%' AND backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1});
	kill 'KILL', $pid;
});
sentient_wait($node, 'postgres', 'SELECT true', 'the server comes back') or BAIL_OUT('no server');
check(\%acknowledged, 'after kill -9 of a backend');

# the postmaster, twice: the second time while the first crash's data are hardly checkpointed
for my $time ('first', 'second')
{
	$next = run_clients($next, \%acknowledged, sub { $node->kill9 });
	# its backends notice by themselves; a new server cannot start before they have gone
	my $deadline = time + 300;
	while (!$node->start(fail_ok => 1))
	{
		die 'the server does not start' if time > $deadline;
		$node->stop('immediate', fail_ok => 1);
		usleep(200_000);
	}
	check(\%acknowledged, "after the $time kill -9 of the postmaster");
}

# sending again what may or may not have arrived
my ($batch) = keys %acknowledged;
my $again = batch(split(/ /, $batch));
like($node->safe_psql('fleet', $again), qr/ 0 50 0$/, 'a batch that was acknowledged is all duplicates');
for my $client (1 .. $clients)
{
	my $last = 0;
	/^$client (\d+)$/ && $1 > $last && ($last = $1) for keys %acknowledged;
	like($node->safe_psql('fleet', batch($client, $last + 1)), qr/ (?:50 0|0 50) 0$/,
		"client $client sends again what was under way: it arrived whole or not at all");
}
check(\%acknowledged, 'at the end');

$node->stop;
done_testing();
