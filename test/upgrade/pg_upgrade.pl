# pg_upgrade.pl
#		pg_upgrade from an older major version with flight data in it, workers running
#		on both sides.  OLD_BINDIR names the old version's programs (the extension is
#		installed there too); test/tools/matrix provides it.

use strict;
use warnings FATAL => 'all';

use Cwd qw(getcwd);
use File::Basename qw(dirname);
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SentientEdge;
use Test::More;

my $old_bindir = $ENV{OLD_BINDIR} or BAIL_OUT('OLD_BINDIR is not set');
my ($new_bindir) = run_command([ 'pg_config', '--bindir' ]);
my $tlog = encode_base64(slurp_file(getcwd() . '/test/data/vtol.tlog', 0), '');
my @initdb = ('--encoding', 'UTF8', '--locale', 'C');

my $old = PostgreSQL::Test::Cluster->new('old', install_path => dirname($old_bindir));
$old->init(extra => [@initdb]);
$old->append_conf('postgresql.conf', sentient_conf());
$old->start;
note 'from ' . $old->safe_psql('postgres', 'SHOW server_version');
sentient_database($old, 'fleet');
my $drone = sentient_drone($old, 'fleet', 'VTOL-1');

is( $old->safe_psql(
		'fleet',
		"SELECT accepted > 800 AND duplicate = 0 AND rejected = 0
		 FROM telemetry.import_tlog('$drone', decode('$tlog', 'base64'))"),
	't',
	'a flight of 2018 is stored by the old version');
is( $old->safe_psql(
		'fleet',
		"SELECT accepted FROM telemetry.ingest(jsonb_build_object('droneId', '$drone',
		 'timestamp', now(), 'latitude', 47.1, 'longitude', 8.5, 'note', 'kept in extra'))"),
	'1',
	'a sample of now is stored by the old version');
$old->safe_psql('fleet',
	"UPDATE sentient_edge.settings SET value = '6' WHERE name = 'telemetry.partition_premake'");

# What must be the same on both sides.
my %state = (
	samples => "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t.drone_id, t.recorded_at))
		FROM telemetry.drone_telemetry AS t",
	latest => 'SELECT * FROM telemetry.drone_latest',
	drones => 'SELECT * FROM core.drones',
	settings => 'SELECT name, value FROM sentient_edge.settings ORDER BY name',
	partitions => "SELECT inhrelid::regclass, pg_get_expr(relpartbound, inhrelid)
		FROM pg_inherits JOIN pg_class ON oid = inhrelid
		WHERE inhparent IN ('telemetry.drone_telemetry'::regclass, 'audit.log'::regclass, 'audit.security_events'::regclass)
		ORDER BY inhrelid::regclass::text",
	# PostgreSQL 17 does not list row types and array types of members any more; the
	# automatic dependencies of the partitioned tables come back when they are needed
	members => "SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
		WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sentient_edge')
		AND refclassid = 'pg_extension'::regclass AND classid <> 'pg_type'::regclass
		AND deptype = 'e' ORDER BY 1");

sub state_of
{
	my ($node, $what) = @_;

	return $node->safe_psql('fleet', "SET timezone = 'UTC'; $state{$what}");
}

$old->stop;
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(extra => [@initdb]);
$new->append_conf('postgresql.conf', sentient_conf());

# The state is read when no worker can change it any more.
$old->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$old->start;
my %before = map { $_ => state_of($old, $_) } keys %state;
$old->stop;
$old->append_conf('postgresql.conf', "shared_preload_libraries = 'sentient_edge'");

chdir $PostgreSQL::Test::Utils::tmp_check or die $!;
command_ok(
	[   'pg_upgrade', '-d', $old->data_dir, '-D', $new->data_dir,
		'-b', $old_bindir, '-B', $new_bindir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port ],
	'pg_upgrade succeeds');

$new->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$new->start;
note 'to ' . $new->safe_psql('postgres', 'SHOW server_version');
for my $what (sort keys %state)
{
	my %seen = map { $_ => '-' } split /\n/, $before{$what};
	for (split /\n/, state_of($new, $what))
	{
		if (exists $seen{$_}) { delete $seen{$_} } else { $seen{$_} = '+' }
	}
	is(join("\n", map { "$seen{$_} $_" } sort keys %seen), '', "$what are equal");
}
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'sentient_edge'");
$new->restart;

sentient_wait($new, 'fleet',
	"SELECT count(*) > 0 FROM sentient_edge.workers WHERE database = 'fleet' AND pid IS NOT NULL",
	'the scheduler runs in the new server');
is( $new->safe_psql(
		'fleet',
		"SELECT accepted, duplicate > 800, rejected
		 FROM telemetry.import_tlog('$drone', decode('$tlog', 'base64'))"),
	'0|t|0',
	'the flight is known in the new server');
is( $new->safe_psql(
		'fleet',
		"SELECT accepted FROM telemetry.ingest(jsonb_build_object('droneId', '$drone',
		 'timestamp', '2016-02-03T04:05:06Z', 'latitude', 47.1, 'longitude', 8.5))"),
	'1',
	'a sample of a month without a partition is accepted');
sentient_wait(
	$new, 'fleet',
	"SELECT tableoid <> 'telemetry.drone_telemetry_default'::regclass
	 FROM telemetry.drone_telemetry WHERE recorded_at = '2016-02-03 04:05:06+00'",
	'and gets its partition, whatever version of pg_partman was carried over');
$new->safe_psql('fleet', 'SELECT * FROM telemetry.run_maintenance()');
$new->safe_psql('fleet', 'DROP EXTENSION sentient_edge');
is($new->safe_psql('fleet', "SELECT count(*) FROM pg_class WHERE relname LIKE 'drone_telemetry%'"),
	'0', 'DROP EXTENSION leaves no table');
$new->stop;

done_testing();
