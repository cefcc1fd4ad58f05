# Rows that leave the default partition stay in sight: a query that comes while
# they are moved, and has to wait, looks at the partitions afterwards.

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(start finish);
use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

# Nothing is drained behind the test's back: the insert asks for it by a worker
# that gives up at once.
my $node = sentient_server('moved', preload => 0, conf => "sentient_edge.partition_lock_timeout = 1\nsentient_edge.partition_wait = 0\n");
sentient_database($node, 'fleet');
my $drone = sentient_drone($node, 'fleet', 'moved');

# One psql with one script; its output comes with finish.
sub session
{
	my ($script) = @_;
	my ($out, $err) = ('', '');
	my $handle = start [ "psql", '-XAtq', '-d', $node->connstr('fleet'), '-v', 'ON_ERROR_STOP=1', '-c', $script ],
	  '<', \undef, '>', \$out, '2>', \$err;

	return { handle => $handle, out => \$out, err => \$err };
}

# Wait until the session whose query begins so waits for this lock on this table.
sub waits
{
	my ($query, $table, $mode, $what) = @_;

	sentient_wait($node, 'fleet',
		"SELECT count(*) = 1 FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE query LIKE '$query%' AND NOT granted
			AND relation = '$table'::regclass AND mode = '$mode'", $what);
}

# A reader of the default partition, as a dump of it would be.
my $reader = $node->background_psql('fleet');
$reader->query_safe('BEGIN; LOCK TABLE telemetry.drone_telemetry_default IN ACCESS SHARE MODE');
$node->safe_psql('fleet', "INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('$drone', '2016-05-05 00:00Z')");

my $maintenance = session("SET sentient_edge.partition_lock_timeout = '60s'; SELECT count(*) FROM telemetry.run_maintenance() WHERE action = 'moved' AND parent = 'telemetry.drone_telemetry'");
waits('SET sentient_edge.partition_lock_timeout', 'telemetry.drone_telemetry_default', 'AccessExclusiveLock',
	'maintenance waits for the reader');
my $query = session("SELECT count(*) FROM telemetry.drone_telemetry WHERE recorded_at >= '2016-05-01 00:00Z' AND recorded_at < '2016-06-01 00:00Z'");
waits('SELECT count(*) FROM telemetry.drone_telemetry', 'telemetry.drone_telemetry', 'AccessShareLock', 'a query waits for maintenance');
$reader->query_safe('COMMIT');

ok(finish($maintenance->{handle}), 'maintenance ends');
is(${ $maintenance->{out} }, "1\n", 'it has moved the row');
ok(finish($query->{handle}), 'the query ends');
is(${ $query->{out} }, "1\n", 'and has seen the row');
is($node->safe_psql('fleet', "SELECT tableoid::regclass FROM telemetry.drone_telemetry"),
	'telemetry.drone_telemetry_p20160501', 'which is in its own partition');

$reader->quit;
$node->stop;
done_testing();
