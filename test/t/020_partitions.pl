# Partitions come with the samples that need them, preloaded or not, behind long
# readers, beside other writers, and go when their time has come.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use SentientEdge;

my $default_rows = 'SELECT count(*) = 0 FROM telemetry.drone_telemetry_default';

# What holds in a server with workers and in one without.
foreach my $preload (1, 0)
{
	my $node = sentient_server($preload ? 'preloaded' : 'plain', preload => $preload);
	my $what = $preload ? 'preloaded' : 'not preloaded';

	sentient_database($node, 'fleet');
	# Alone with the tables: who would wait, waits as long as he may.
	sentient_wait($node, 'fleet', "SELECT runs > 0 AND state <> 'running' FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'partitions'",
		"$what: the scheduler has had its turn") if $preload;
	my $patient = "SET sentient_edge.partition_wait = '60s'; ";
	my $drone = sentient_drone($node, 'fleet', 'p-1');
	my $insert = "INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('$drone', ";

	# Ingest of a month without a partition: it is there when the call returns.
	is($node->safe_psql('fleet', "${patient}SELECT telemetry.ingest('{\"droneId\": \"$drone\", \"timestamp\": \"2018-03-04T05:06:07Z\"}')"),
		'(1,0,0)', "$what: an old sample is accepted");
	is($node->safe_psql('fleet', "SELECT tableoid::regclass FROM telemetry.drone_telemetry"),
		'telemetry.drone_telemetry_p20180301', "$what: into a partition of its own");
	sentient_wait($node, 'fleet', "SELECT max(runway) = 4 FROM telemetry.partitions WHERE parent = 'telemetry.drone_telemetry'",
		"$what: partitions ahead follow");

	# A plain INSERT goes to the default partition and is moved.
	$node->safe_psql('fleet', "$insert '2018-06-01 00:00Z'), ('$drone', '2018-06-30 23:59:59.999999Z')");
	sentient_wait($node, 'fleet', $default_rows, "$what: rows leave the default partition");
	is($node->safe_psql('fleet', "SELECT count(*), min(tableoid::regclass::text) FROM telemetry.drone_telemetry WHERE recorded_at >= '2018-06-01 00:00Z'"),
		'2|telemetry.drone_telemetry_p20180601', "$what: to their partition");

	# What is rolled back asks for nothing.
	$node->safe_psql('fleet', "BEGIN; SAVEPOINT s; $insert '2018-09-01 00:00Z'); ROLLBACK TO s; COMMIT; BEGIN; $insert '2018-09-01 00:00Z'); ROLLBACK");
	$node->safe_psql('fleet', "BEGIN; SAVEPOINT s; $insert '2018-10-01 00:00Z'); RELEASE s; COMMIT");
	sentient_wait($node, 'fleet', "SELECT count(*) = 1 FROM telemetry.partitions WHERE name = 'drone_telemetry_p20181001'",
		"$what: a released savepoint asks");
	is($node->safe_psql('fleet', "SELECT count(*) FROM telemetry.partitions WHERE name = 'drone_telemetry_p20180901'"), '0',
		"$what: nothing is made for rows that were rolled back");

	# A long reader of the default partition: ingest goes on beside it.
	my $reader = $node->background_psql('fleet');
	$reader->query_safe('BEGIN; SELECT count(*) FROM telemetry.drone_telemetry');
	my $bounded = "SET statement_timeout = '3min'; ";
	is($node->safe_psql('fleet', "${bounded}SELECT telemetry.ingest('{\"droneId\": \"$drone\", \"timestamp\": \"2019-01-01T00:00:00Z\"}')"),
		'(1,0,0)', "$what: a sample is accepted beside a long reader, who stays");
	is($node->safe_psql('fleet', "${bounded}SELECT telemetry.ingest_batch(ARRAY['$drone'::uuid], ARRAY['2019-01-02 00:00Z'::timestamptz])"),
		'(1,0,0)', "$what: and another");
	$node->safe_psql('fleet', "$bounded$insert '2019-01-03 00:00Z')");
	is($node->safe_psql('fleet', "SELECT count(*) FROM telemetry.drone_telemetry_default"), '3', "$what: they wait in the default partition");
	like($node->safe_psql('fleet', 'SELECT * FROM telemetry.run_maintenance()'), qr/telemetry.drone_telemetry\|postponed/,
		"$what: maintenance in the foreground says that it is postponed");
	$reader->query_safe('COMMIT');
	$reader->quit;
	$node->safe_psql('fleet', "$insert '2019-01-04 00:00Z')");
	sentient_wait($node, 'fleet', $default_rows, "$what: and are moved once the reader has gone");
	is($node->safe_psql('fleet', "SELECT count(*) FROM telemetry.drone_telemetry WHERE tableoid = 'telemetry.drone_telemetry_p20190101'::regclass"),
		'4', "$what: all of them");

	# Own locks: a transaction that has written to the default partition.
	my $start = time;
	$node->safe_psql('fleet', "${patient}BEGIN; $insert '2019-03-01 00:00Z');"
			. "SELECT telemetry.ingest('{\"droneId\": \"$drone\", \"timestamp\": \"2019-04-01T00:00:00Z\"}'); COMMIT");
	cmp_ok(time - $start, '<', 60, "$what: a transaction does not wait for its own lock");
	sentient_wait($node, 'fleet', $default_rows, "$what: both months get their partition");

	unlike(slurp_file($node->logfile), qr/PANIC|sentient_edge assertion/, "$what: no assertion failed");
	$node->stop;
}

my $node = sentient_server('more', conf => 'max_prepared_transactions = 2');
sentient_database($node, 'fleet');
my $drone = sentient_drone($node, 'fleet', 'p-2');

# Many sessions ask for the same new months at once, and plain INSERTs beside them.
my $base = $node->basedir;
append_to_file("$base/ingest.sql", "\\set day random(0, 700)\n"
		. "SELECT telemetry.ingest_batch(ARRAY['$drone'::uuid], ARRAY['2020-01-01 00:00Z'::timestamptz + :day * interval '1 day' + (random() * 86000000)::int * interval '1 ms'])\n");
append_to_file("$base/insert.sql", "\\set day random(0, 700)\n"
		. "INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('$drone', '2022-01-01 00:00Z'::timestamptz + :day * interval '1 day' + (random() * 86000000)::int * interval '1 ms') ON CONFLICT DO NOTHING\n");
my @clients = map {
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-t', '150', '-f', "$base/$_.sql", '-h', $node->host, '-p', $node->port, 'fleet' ],
		'>', \$out, '2>', \$err);
	[ $h, \$out, \$err ];
} ('ingest', 'insert');
foreach my $client (@clients)
{
	ok($client->[0]->finish, 'eight sessions at once, new months all the time: no error') or diag ${ $client->[2] };
}
sentient_wait($node, 'fleet', $default_rows, 'in the end no row is in the default partition');
is($node->safe_psql('fleet', 'SELECT count(*) BETWEEN 1190 AND 1200 FROM telemetry.drone_telemetry'), 't', 'and all are there');

# A prepared transaction is found by the next run.
$node->append_conf('postgresql.conf', 'sentient_edge.partition_maintenance_interval = 1');
$node->reload;
$node->safe_psql('fleet', "BEGIN; INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('$drone', '2016-01-01 00:00Z'); PREPARE TRANSACTION 'p'");
$node->safe_psql('fleet', "COMMIT PREPARED 'p'");
sentient_wait($node, 'fleet', $default_rows, 'rows of a prepared transaction are moved too');

# A far time zone changes no bound.
$node->safe_psql('fleet', "ALTER DATABASE fleet SET timezone = 'Pacific/Auckland'");
$node->safe_psql('fleet', "SELECT telemetry.ingest('{\"droneId\": \"$drone\", \"timestamp\": \"2017-01-31T23:00:00Z\"}')");
is($node->safe_psql('fleet', "SET timezone = 'UTC'; SELECT range FROM telemetry.partitions WHERE name = 'drone_telemetry_p20170101'"),
	'["2017-01-01 00:00:00+00","2017-02-01 00:00:00+00")', 'bounds are in UTC');
$node->safe_psql('fleet', "ALTER DATABASE fleet RESET timezone");

# Retention by the scheduler.
$node->safe_psql('fleet', "UPDATE sentient_edge.settings SET value = '3 years' WHERE name = 'telemetry.retention'");
sentient_wait($node, 'fleet', "SELECT count(*) = 0 FROM telemetry.partitions WHERE upper(range) < now() - interval '3 years'", 'old partitions are detached');
is($node->safe_psql('fleet', "SELECT count(*) > 20 FROM telemetry.partitions WHERE state = 'detached'"), 't', 'all of them');
is($node->safe_psql('fleet', 'SELECT count(*) > 0 FROM telemetry.drone_telemetry_p20200101'), 't', 'and kept as tables');
my ($status, $out, $err) = $node->psql('fleet', 'DROP EXTENSION sentient_edge');
like($err, qr/drone_telemetry_p20200101 depends on schema telemetry/, 'DROP EXTENSION does not drop detached partitions');

unlike(slurp_file($node->logfile), qr/PANIC|sentient_edge assertion/, 'no assertion failed');
$node->stop;
done_testing();
