# The launcher and the schedulers: they come with CREATE EXTENSION, survive what
# is done to them and to their databases, and leave with DROP EXTENSION.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my $node = sentient_server('workers', durable => 1);
my $running = sub {
	my ($database) = @_;
	return "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = '$database' AND backend_type = 'sentient_edge scheduler'";
};
my $pid = sub {
	my ($kind) = @_;
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'sentient_edge $kind' ORDER BY datname LIMIT 1");
};

sentient_wait($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'sentient_edge launcher'", 'the launcher runs');
sentient_wait($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'sentient_edge scheduler'",
	'no scheduler without the extension');

# CREATE EXTENSION brings one, in each database.
sentient_database($node, 'one');
sentient_database($node, 'two');
sentient_wait($node, 'postgres', $running->('one'), 'a scheduler comes with CREATE EXTENSION');
sentient_wait($node, 'postgres', $running->('two'), 'and in another database');
is($node->safe_psql('one', "SELECT count(*) FROM sentient_edge.workers WHERE worker = 'launcher' AND state = 'running' AND runs > 0"),
	'1', 'the launcher is shown');
sentient_wait($node, 'one',
	"SELECT count(*) = 2 FROM sentient_edge.workers WHERE worker = 'partitions' AND runs > 0 AND errors = 0",
	'the jobs are shown, and have run');

# The extension leaves and comes back.
$node->safe_psql('two', 'DROP EXTENSION sentient_edge');
sentient_wait($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'two'", 'DROP EXTENSION ends the scheduler');
$node->safe_psql('two', 'CREATE EXTENSION sentient_edge');
sentient_wait($node, 'postgres', $running->('two'), 'CREATE EXTENSION again brings it back');
# Workers lock many tables, and are at it whenever: none of the two may meet the other half-way.
$node->safe_psql('two', 'BEGIN; DROP EXTENSION sentient_edge; ROLLBACK') for 1 .. 20;
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'DROP EXTENSION and the workers do not deadlock');
sentient_wait($node, 'postgres', $running->('two'), 'a DROP EXTENSION that is rolled back changes nothing');

# Databases are renamed, copied and dropped while their schedulers run.
$node->safe_psql('postgres', 'ALTER DATABASE two RENAME TO deux');
pass('ALTER DATABASE RENAME is not blocked');
sentient_wait($node, 'postgres', $running->('deux'), 'the renamed database has its scheduler again');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE deux');
sentient_wait($node, 'postgres', $running->('copy'), 'a copy of a database gets a scheduler');
sentient_wait($node, 'postgres', $running->('deux'), 'and the original has its own again');
$node->safe_psql('postgres', 'DROP DATABASE copy');
pass('DROP DATABASE is not blocked');
$node->safe_psql('postgres', 'DROP DATABASE deux WITH (FORCE)');
pass('DROP DATABASE WITH FORCE neither');
is($node->safe_psql('one', "SELECT count(*) FROM sentient_edge.workers WHERE database IN ('deux', 'copy')"), '0',
	'dropped databases are not shown');

# Who may not drop a database does not stop its scheduler.
my $before = $pid->('scheduler');
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
my ($status, $out, $err) = $node->psql('postgres', 'SET ROLE nobody; DROP DATABASE one');
like($err, qr/must be owner/, 'another user cannot drop the database');
is($pid->('scheduler'), $before, 'and its scheduler has not noticed');
($status, $out, $err) = $node->psql('postgres', 'ALTER DATABASE one RENAME TO postgres');
like($err, qr/already exists/, 'a RENAME that fails');
sentient_wait($node, 'postgres', $running->('one'), 'gives the scheduler back');

# Workers are terminated.
$before = $pid->('scheduler');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($before)");
sentient_wait($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'one' AND backend_type = 'sentient_edge scheduler' AND pid <> $before",
	'a terminated scheduler is started again');
my $launcher = $pid->('launcher');
$before = $pid->('scheduler');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
sentient_wait($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'sentient_edge launcher' AND pid <> $launcher",
	'a terminated launcher is started again');
sentient_database($node, 'three');
sentient_wait($node, 'postgres', $running->('three'), 'and does its work');
is($pid->('scheduler'), $before, 'the schedulers have not noticed');

# Workers are killed: PostgreSQL starts all over, and so do they.
foreach my $kind ('scheduler', 'launcher')
{
	# the launcher goes in any case: until then the server has not noticed
	my $old = $pid->('launcher');

	kill 'KILL', $pid->($kind);
	sentient_wait($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'sentient_edge launcher' AND pid <> $old",
		"the launcher is back after kill -9 of the $kind");
	sentient_wait($node, 'postgres', $running->('one'), "the scheduler is back after kill -9 of the $kind");
	sentient_wait($node, 'postgres', $running->('three'), 'and that of the other database');
}

# SIGHUP reaches them.
$node->append_conf('postgresql.conf', 'sentient_edge.partition_maintenance_interval = 1');
$node->reload;
$node->safe_psql('one', "INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) SELECT '"
		. sentient_drone($node, 'one', 'hup') . "', now()");
sentient_wait($node, 'one', "SELECT max(runs) > 4 FROM sentient_edge.workers WHERE database = 'one' AND worker = 'partitions'",
	'a changed interval is taken up');

# An error of a job: logged once, counted, and the worker lives on.
my $drone = $node->safe_psql('one', 'SELECT drone_id FROM core.drones LIMIT 1');
sentient_wait($node, 'one', "SELECT max(runway) = 4 FROM telemetry.partitions WHERE parent = 'telemetry.drone_telemetry'", 'partitions ahead');
$before = $node->safe_psql('one', "SELECT pid FROM sentient_edge.workers WHERE database = 'one' AND worker = 'scheduler'");
my $log_begin = -s $node->logfile;
$node->safe_psql('one', 'ALTER TABLE part_config RENAME TO part_config_away');
sentient_wait($node, 'one', "SELECT max(errors) >= 3 FROM sentient_edge.workers WHERE database = 'one' AND worker = 'partitions'", 'errors are counted');
like($node->safe_psql('one', "SELECT last_error FROM sentient_edge.workers WHERE database = 'one' AND worker = 'partitions'"),
	qr/part_config/, 'and shown');
is($node->safe_psql('one', "SELECT pid FROM sentient_edge.workers WHERE database = 'one' AND worker = 'scheduler'"),
	$before, 'the scheduler lives on');
my @logged = slurp_file($node->logfile, $log_begin) =~ /ERROR:  partition maintenance is incomplete/g;
is(scalar(@logged), 1, 'and logs it once');
$node->safe_psql('one', 'ALTER TABLE part_config_away RENAME TO part_config');
$node->safe_psql('one', "UPDATE sentient_edge.settings SET value = '5' WHERE name = 'telemetry.partition_premake'");
sentient_wait($node, 'one', "SELECT max(runway) = 5 FROM telemetry.partitions WHERE parent = 'telemetry.drone_telemetry'", 'then it goes on');

# A job that does not get its lock has no other job wait with it, and is back soon.
my $runs = sub { return "SELECT runs FROM sentient_edge.workers WHERE database = 'one' AND worker = '$_[0]'"; };
my $owner = $node->background_psql('one');
$owner->query_safe('BEGIN; LOCK TABLE audit.blocks IN ACCESS EXCLUSIVE MODE');
sentient_wait($node, 'one', "SELECT last_error ~ 'lock timeout' FROM sentient_edge.workers WHERE database = 'one' AND worker = 'ledger'",
	'sealing gives up a lock that it does not get');
sentient_wait($node, 'one', 'SELECT (' . $runs->('link loss') . ') > 2 + ' . $node->safe_psql('one', $runs->('link loss')),
	'link loss is looked at meanwhile');
$owner->query_safe('COMMIT');
$owner->quit;
$node->safe_psql('one', "INSERT INTO core.drones (call_sign, drone_type) VALUES ('sealed later', 'quadcopter')");
sentient_wait($node, 'one', "SELECT max(audit_id) = (SELECT max(max_audit_id) FROM audit.blocks) FROM audit.log", 'then it seals');

# Without the preload the view says what is missing.
my $plain = sentient_server('plain', preload => 0);
sentient_database($plain, 'fleet');
($status, $out, $err) = $plain->psql('fleet', 'SELECT * FROM sentient_edge.workers');
like($err, qr/not preloaded.*shared_preload_libraries/s, 'not preloaded: the view says so, with a hint');

unlike(slurp_file($node->logfile), qr/PANIC|sentient_edge assertion/, 'no assertion failed');
$plain->stop;
$node->stop;
done_testing();
