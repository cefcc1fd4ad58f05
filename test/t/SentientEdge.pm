# SentientEdge.pm
#		What the TAP tests share: servers that run the extension.
#
#   use lib 'test/t';	(test/tools/suites passes -I as well)
#   use SentientEdge;
#   my $node = sentient_server('main', conf => "work_mem = '8MB'", durable => 1);
#   sentient_database($node, 'fleet');
#   sentient_wait($node, 'fleet', "SELECT count(*) > 0 FROM ...", 'a partition was made');
#   sentient_run($node, 'fleet', 'partitions', 'maintenance has had its turn');
#   sentient_events($node, 'fleet', 'what waited is written');
#   sentient_retired($node, 'fleet', 'who might use the key is gone');
#
# A server is a PostgreSQL::Test::Cluster: own directory, own Unix socket, gone
# when the test ends.

package SentientEdge;

use strict;
use warnings FATAL => 'all';
use feature 'state';

use Exporter 'import';
use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(sentient_server sentient_conf sentient_database
  sentient_drone sentient_wait sentient_run sentient_events sentient_retired);

# Configuration of a server that runs the extension.  PostgreSQL::Test::Cluster
# itself turns fsync and restart_after_crash off; a test that kills processes
# says durable => 1 to have both as they are in service.
sub sentient_conf
{
	my (%args) = (preload => 1, durable => 0, conf => '', @_);
	my $conf = "max_worker_processes = 24\nmax_connections = 100\n";

	$conf .= "shared_preload_libraries = 'sentient_edge'\n" if $args{preload};
	$conf .= "fsync = on\nrestart_after_crash = on\n" if $args{durable};
	return "$conf$args{conf}\n";
}

# A started server; arguments: preload (1), durable (0), conf (''), start (1),
# init ({}: arguments of PostgreSQL::Test::Cluster's init).
sub sentient_server
{
	my ($name, %args) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%{ $args{init} // {} });
	$node->append_conf('postgresql.conf', sentient_conf(%args));
	$node->start if $args{start} // 1;
	return $node;
}

# A new database that has the extension.
sub sentient_database
{
	my ($node, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database,
		'SET client_min_messages = warning; CREATE EXTENSION sentient_edge CASCADE');
	return $database;
}

# Register a drone and return its id.
sub sentient_drone
{
	my ($node, $database, $call_sign) = @_;

	return $node->safe_psql($database,
		"INSERT INTO core.drones (call_sign, drone_type) VALUES ('$call_sign', 'quadcopter') RETURNING drone_id");
}

# Wait until the query returns true, within PG_TEST_TIMEOUT_DEFAULT seconds;
# one test.  Not by poll_query_until: a psql that cannot connect, since the
# server is only coming back, leaves its standard input unread, and the test
# would get a broken pipe.
sub sentient_wait
{
	my ($node, $database, $query, $what) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my ($out, $err) = ('', '');

	while (1)
	{
		run([ 'psql', '-XAtq', '-d', $node->connstr($database), '-c', $query ], '<', '/dev/null', '>', \$out, '2>', \$err);
		return pass($what) if $out eq "t\n";
		last if time > $deadline;
		usleep(100_000);
	}
	diag("waited for: $query\nlast answer: $out$err");
	return fail($what);
}

# Wait until a run of the scheduler's job that began after this call has ended; one
# test.  (The run that is under way now may be the first to end.)
sub sentient_run
{
	my ($node, $database, $job, $what) = @_;
	my $runs = "SELECT runs FROM sentient_edge.workers WHERE database = '$database' AND worker = '$job'";
	my $before = $node->safe_psql($database, $runs) || 0;

	return sentient_wait($node, $database, "SELECT ($runs) >= $before + 2", $what);
}

# Wait until every security event that is due now has been written: whoever writes
# one more has written these before, or does it in the same transaction; one test.
sub sentient_events
{
	my ($node, $database, $what) = @_;
	state $turn = 0;
	my $name = 'no_such_table_' . ++$turn . "_$$";

	$node->psql($database, "DROP TABLE $name");
	return sentient_wait($node, $database, "SELECT count(*) > 0 FROM audit.security_events WHERE object LIKE '%$name'", $what);
}

# Wait until nobody is left who began before the last key was retired, and so may
# hold a value that is yet to be stored: the scheduler's transactions are such, too;
# one test.
sub sentient_retired
{
	my ($node, $database, $what) = @_;

	return sentient_wait($node, $database, q{
		SELECT count(*) = 0 FROM pg_stat_activity a, sentient_edge.data_keys k
		 WHERE a.xact_start <= k.rotated_at AND a.datname = current_database() AND a.pid <> pg_backend_pid()}, $what);
}

1;
