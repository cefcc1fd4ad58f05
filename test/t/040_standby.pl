# A streaming standby serves reads and runs no worker; once promoted it makes
# partitions by itself.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my $primary = sentient_server('primary', init => { allows_streaming => 1 },
	conf => 'sentient_edge.partition_wait = 60s');
sentient_database($primary, 'fleet');
my $drone = sentient_drone($primary, 'fleet', 's-1');
$primary->safe_psql('fleet', "SELECT telemetry.ingest('{\"droneId\": \"$drone\", \"timestamp\": \"2018-03-04T05:06:07Z\"}')");
sentient_wait($primary, 'fleet', "SELECT max(runway) = 4 FROM telemetry.partitions WHERE parent = 'telemetry.drone_telemetry'",
	'the primary has partitions ahead');

$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;
$primary->safe_psql('fleet', "SELECT telemetry.ingest('{\"droneId\": \"$drone\", \"timestamp\": \"2018-04-04T05:06:07Z\"}')");
$primary->wait_for_catchup($standby);

my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sentient_edge%'";
is($standby->safe_psql('fleet', 'SELECT count(*) FROM telemetry.drone_telemetry'), '2', 'the standby shows the samples');
is($standby->safe_psql('fleet', "SELECT count(*) FROM telemetry.partitions WHERE state = 'past'"), '2', 'and the partitions');
is($standby->safe_psql('fleet', "SELECT value FROM sentient_edge.settings WHERE name = 'telemetry.partition_premake'"), '4', 'and the settings');
is($standby->safe_psql('postgres', $workers), '0', 'no worker runs there');
is($standby->safe_psql('fleet', "SELECT state FROM sentient_edge.workers WHERE worker = 'launcher'"), 'stopped', 'as the view says');
my ($status, $out, $err) = $standby->psql('fleet', 'SELECT telemetry.run_maintenance()');
like($err, qr/cannot execute telemetry.run_maintenance\(\) in a read-only transaction/, 'maintenance is refused there');
($status, $out, $err) = $standby->psql('fleet', "\\set VERBOSITY verbose\nSELECT telemetry.submit('{\"droneId\": \"$drone\", \"timestamp\": \"2018-04-05T05:06:07Z\"}')");
like($err, qr/25006: cannot store samples during recovery/, 'samples cannot be submitted there');

# The audit trail: histories are whole there at once, and the ledger can be verified.
$primary->safe_psql('fleet', "CREATE TABLE public.ship (ship_id integer PRIMARY KEY, name text); SELECT audit.enable('public.ship');
	INSERT INTO public.ship SELECT n, 'ship' FROM generate_series(1, 1000) AS n; UPDATE public.ship SET name = 'boat'; UPDATE public.ship SET name = 'tug' WHERE ship_id = 7");
$primary->wait_for_catchup($standby);
is($standby->safe_psql('fleet', "SELECT min(n), max(n) FROM generate_series(1, 1000) AS i,
	LATERAL (SELECT count(*) AS n FROM audit.row_history('public.ship', jsonb_build_object('ship_id', i))) AS h"), '2|3', 'histories are whole on the standby');
is($standby->safe_psql('fleet', 'SELECT count(*) FROM audit.verify()'), '0', 'and the ledger is verified there');

$primary->stop;
$standby->promote;
sentient_wait($standby, 'postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'fleet' AND backend_type = 'sentient_edge scheduler'",
	'after the promotion the scheduler takes over');
$standby->safe_psql('fleet', "INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('$drone', '2018-05-01 00:00Z')");
sentient_wait($standby, 'fleet', 'SELECT count(*) = 0 FROM telemetry.drone_telemetry_default', 'rows are moved out of the default partition');
is($standby->safe_psql('fleet', "SELECT telemetry.ingest('{\"droneId\": \"$drone\", \"timestamp\": \"2018-06-04T05:06:07Z\"}')"),
	'(1,0,0)', 'and samples are accepted');
is($standby->safe_psql('fleet', "SELECT telemetry.submit('{\"droneId\": \"$drone\", \"timestamp\": \"2018-06-05T05:06:07Z\"}')"),
	'(1,0,0)', 'submitted, too');
is($standby->safe_psql('fleet', "SELECT count(*) FROM telemetry.partitions WHERE state = 'past'"), '4', 'into partitions of their own');

sentient_wait($standby, 'fleet', "SELECT runs > 1 FROM sentient_edge.workers WHERE worker = 'audit indexes' AND database = 'fleet'",
	'the indexes of the audit trail are kept there now');
is($standby->safe_psql('fleet', "SELECT count(*) FROM audit.row_history('public.ship', '{\"ship_id\": 7}')"), '3', 'and histories are what they were');

unlike(slurp_file($standby->logfile), qr/PANIC|sentient_edge assertion/, 'no assertion failed');
$standby->stop;
done_testing();
