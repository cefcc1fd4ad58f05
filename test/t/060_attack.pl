# What others than superusers may try: to have code of theirs run as superuser by
# the workers and functions that do, and to use up or stop the workers.

use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SentientEdge;
use Test::More;

my $drone = '11111111-1111-1111-1111-111111111111';
my $node = sentient_server('attack', conf => "max_worker_processes = 8\nmax_prepared_transactions = 2\nsentient_edge.worker_max_databases = 4");

sub as
{
	my ($role, $database, $sql) = @_;
	my ($status, $out, $err) =
	  $node->psql($database, $sql, extra_params => [ '-U', $role ]);
	return ($status, $out, $err);
}

sub is_superuser
{
	my ($role) = @_;
	return $node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles WHERE rolname = '$role'");
}

sub send_sample
{
	my ($database, $time) = @_;
	return $node->safe_psql($database,
		qq{SELECT accepted FROM telemetry.ingest('{"drone_id": "$drone", "timestamp": "$time"}')});
}

$node->safe_psql('postgres', q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE maker LOGIN CREATEDB;
	CREATE DATABASE owned OWNER owner;
	CREATE DATABASE fleet});

#
# The owner of the database, who owns schema public, where pg_partman is.
#
my $planted = q{
	CREATE FUNCTION public.%s RETURNS %s LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF current_setting('is_superuser') = 'on' OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
			ALTER ROLE owner SUPERUSER;
		END IF;
		RETURN pg_catalog.%s;
	END $$;};
as('owner', 'owned', sprintf($planted, 'to_tsvector(text, text)', 'tsvector', 'to_tsvector($1::regconfig, $2)'));
$node->safe_psql('owned', 'SET client_min_messages = warning; CREATE EXTENSION sentient_edge CASCADE');
is( $node->safe_psql('owned', q{
	SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_proc'::regclass
	   AND refobjid IN (SELECT oid FROM pg_proc WHERE proowner = 'owner'::regrole)}),
	'0', 'nothing of the extension rests on a function that was planted before');

as('owner', 'owned', sprintf($planted, 'length(text)', 'integer', 'length($1)')
	  . sprintf($planted, 'current_setting(text)', 'text', 'current_setting($1, false)')
	  . sprintf($planted, 'to_char(timestamptz, text)', 'text', 'to_char($1, $2)'));
$node->safe_psql('owned', "INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('$drone', 'a', 'quadcopter')");
is(send_sample('owned', '2020-05-05T00:00:00Z'), '1', 'a sample of a new month is taken');
sentient_wait($node, 'owned', q{
	SELECT count(*) FILTER (WHERE state = 'future') = 4 AND count(*) FILTER (WHERE name = 'drone_telemetry_p20200501') = 1
	  FROM telemetry.partitions WHERE parent = 'telemetry.drone_telemetry'},
	'partitions are made although the schema of pg_partman is not safe');
$node->safe_psql('owned', q{
	UPDATE sentient_edge.settings SET value = '1 year' WHERE name = 'telemetry.retention';
	SELECT telemetry.run_maintenance()});
sentient_wait($node, 'owned', q{SELECT state = 'detached' FROM telemetry.partitions WHERE name = 'drone_telemetry_p20200501'}, 'and retired');
is(is_superuser('owner'), 'f', 'and none of the functions planted beside pg_partman was called as superuser');
is($node->safe_psql('owned', 'SELECT count(*) FROM part_config'), '0', 'pg_partman was left alone');

# Parameters of the database apply to its workers, too.
my ($status, $out, $err) = as('owner', 'owned', q{
	ALTER DATABASE owned SET statement_timeout = '1ms';
	ALTER DATABASE owned SET lock_timeout = '1ms';
	ALTER DATABASE owned SET idle_in_transaction_session_timeout = '1ms';
	ALTER DATABASE owned SET default_transaction_isolation = 'serializable';
	ALTER DATABASE owned SET search_path = public, pg_catalog;
	ALTER DATABASE owned SET role = 'owner';
	SELECT});
is($status, 0, 'the owner sets parameters of the database');
my $scheduler = q{SELECT pid FROM pg_stat_activity WHERE datname = 'owned' AND backend_type = 'sentient_edge scheduler'};
sentient_wait($node, 'postgres', "SELECT count(*) = 1 FROM ($scheduler) AS s", 'the database has a scheduler');
my $pid = $node->safe_psql('postgres', $scheduler);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
sentient_wait($node, 'postgres', "SELECT coalesce(($scheduler), $pid) <> $pid", 'a new scheduler comes');
sentient_database($node, 'watch');
sentient_wait($node, 'watch', qq{
	SELECT count(*) > 0 FROM sentient_edge.workers
	 WHERE database = 'owned' AND worker = 'partitions' AND last_run_at > (SELECT backend_start FROM pg_stat_activity a WHERE a.pid = workers.pid)
	   AND state = 'waiting' AND errors = 0 AND pid <> $pid}, 'and works under any of them');
is(is_superuser('owner'), 'f', 'the owner is what he was');

# Nor does a user who may not touch the database stop its worker.
$pid = $node->safe_psql('postgres', $scheduler);
for my $sql ('DROP DATABASE owned', 'ALTER DATABASE owned RENAME TO mine', 'CREATE DATABASE mine TEMPLATE owned')
{
	($status, $out, $err) = as('maker', 'postgres', $sql);
	like($err, qr/must be owner|permission denied/, "$sql is refused");
}
is($node->safe_psql('postgres', $scheduler), $pid, 'and the scheduler has not noticed');

#
# sentient_admin, through types of his own temporary schema.
#
$node->safe_psql('fleet', q{
	SET client_min_messages = warning;
	CREATE EXTENSION sentient_edge CASCADE;
	CREATE ROLE administrator LOGIN IN ROLE sentient_admin;
	CREATE ROLE operator LOGIN IN ROLE sentient_operator});
$node->safe_psql('fleet', "INSERT INTO core.drones (drone_id, call_sign, drone_type) VALUES ('$drone', 'a', 'quadcopter')");
sentient_wait($node, 'fleet', q{SELECT max(runway) = 4 FROM telemetry.partitions WHERE parent = 'telemetry.drone_telemetry'}, 'the worker has made its partitions');
my $types = join '', map { "CREATE DOMAIN pg_temp.$_ AS pg_catalog.$_ CHECK (pg_temp.took(value));" }
  qw(text name regclass timestamptz "char" oid);
($status, $out, $err) = as('administrator', 'fleet', q{
	CREATE TEMP TABLE here (i integer);
	CREATE FUNCTION pg_temp.took(anyelement) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> 'administrator' THEN
			ALTER ROLE administrator SUPERUSER;
		END IF;
		RETURN true;
	END $$;} . $types . q{
	CREATE TEMP TABLE part_config (parent_table pg_catalog.text);
	CREATE TEMP TABLE pg_index (indrelid pg_catalog.oid);
	DO $$
	BEGIN
		PERFORM public.create_partition_time('telemetry.drone_telemetry', ARRAY[now()]);
	EXCEPTION WHEN OTHERS THEN
		NULL;
	END $$;
	-- more than the worker has made
	BEGIN;
	UPDATE sentient_edge.settings SET value = '8' WHERE name = 'telemetry.partition_premake';
	SELECT count(*) FROM telemetry.run_maintenance() WHERE action = 'created' AND parent = 'telemetry.drone_telemetry';
	COMMIT;});
is($status, 0, 'maintenance in the foreground beside temporary types and tables') or diag $err;
like($out, qr/^4$/m, 'makes its partitions');
is(is_superuser('administrator'), 'f', 'and evaluates nothing of them');

#
# Values at the ends of their ranges.
#
for my $value ([ 'accept_ahead', '213503982 days' ], [ 'accept_ahead', '2147483647 days 2147483647 hours' ],
	[ 'retention', '100000000 hours' ], [ 'retention', '-1 day' ])
{
	($status, $out, $err) = as('administrator', 'fleet',
		"\\set VERBOSITY sqlstate\nUPDATE sentient_edge.settings SET value = '$value->[1]' WHERE name = 'telemetry.$value->[0]'");
	like($err, qr/22023/, "telemetry.$value->[0] = $value->[1] is refused");
}

#
# Trigger functions on tables that are none of theirs: an error, no crash.
#
for my $function ('sentient_edge.settings_check', 'sentient_edge.settings_changed', 'telemetry.before_insert_samples',
	'telemetry.after_insert_sample', 'telemetry.after_insert_samples', 'telemetry.after_change_samples')
{
	for my $when ('BEFORE INSERT', 'AFTER INSERT')
	{
		for my $level ('ROW', 'STATEMENT')
		{
			($status, $out, $err) = $node->psql('fleet', qq{
				BEGIN;
				CREATE TABLE strange (drone_id integer, recorded_at integer, name integer, value integer);
				CREATE TRIGGER strange $when ON strange FOR EACH $level EXECUTE FUNCTION $function();
				INSERT INTO strange VALUES (1, 2, 3, 4);
				ROLLBACK});
			unlike($err, qr/server closed|terminat/, "$function $when FOR EACH $level");
		}
	}
}

#
# However many sessions want partitions that cannot be made, they leave workers to others.
#
$node->safe_psql('fleet', q{
	BEGIN;
	SELECT count(*) FROM telemetry.drone_telemetry;
	PREPARE TRANSACTION 'reader'});
my @sessions;
for my $month (1 .. 12)
{
	my $out = '';
	my $sql = sprintf q{SELECT accepted FROM telemetry.ingest('{"drone_id": "%s", "timestamp": "2018-%02d-01T00:00:00Z"}')},
	  $drone, $month;
	push @sessions, IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('fleet'), '-U', 'operator', '-c', $sql ], '>', \$out);
}
my ($most, $seen, $deadline) = (0, 0, time + 60);
while (time < $deadline)
{
	my ($workers, $busy) = split /\|/, $node->safe_psql('postgres', q{
		SELECT count(*) FILTER (WHERE backend_type = 'sentient_edge partition worker'),
			   count(*) FILTER (WHERE usename = 'operator') FROM pg_stat_activity});
	$most = $workers if $workers > $most;
	$seen = 1 if $busy > 0;
	last if $seen && $busy == 0;
}
$_->finish for @sessions;
cmp_ok($most, '<=', 3, "12 sessions occupied $most workers at most");
is($node->safe_psql('fleet', 'SELECT count(*) FROM telemetry.drone_telemetry'), '12', 'and their samples were taken');
$node->safe_psql('fleet', "ROLLBACK PREPARED 'reader'");
sentient_wait($node, 'fleet', 'SELECT count(*) = 0 FROM telemetry.drone_telemetry_default', 'and moved once the reader was gone');

#
# The owner of a table with sealed values, whose key is to be destroyed.
#
$node->safe_psql('fleet', 'CREATE ROLE keeper LOGIN IN ROLE sentient_admin');
as('keeper', 'fleet', q{SELECT sentient_edge.seal('x', 'y:1'), sentient_edge.rotate_data_key('field')});
sentient_retired($node, 'fleet', 'who might have used the key is gone');
my (undef, $told, $refused) = as('keeper', 'fleet', q{
	CREATE FUNCTION pg_temp.gain() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN ALTER ROLE keeper SUPERUSER; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$;
	CREATE FUNCTION pg_temp.planted(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN PERFORM pg_temp.gain(); RETURN true; END $$;
	CREATE TEMP TABLE mine (value sentient_edge.sealed, number integer CHECK (pg_temp.planted(2)));
	CREATE INDEX ours ON mine (number) WHERE pg_temp.planted(1);
	ALTER INDEX ours SET (fillfactor = 80);
	SELECT sentient_edge.destroy_data_key(key_id) FROM sentient_edge.data_keys WHERE purpose = 'field' AND state = 'decrypt_only'});
is("$told|$refused", 't|', 'the administrator of keys destroys one');
is(is_superuser('keeper'), 'f', "an index predicate does not run as superuser while the table is looked through");

#
# Databases without the extension do not keep one with it from having a scheduler.
#
as('maker', 'postgres', "CREATE DATABASE made$_") for 1 .. 3;
$node->safe_psql('postgres', 'DROP DATABASE watch');
sentient_database($node, 'late');
my $schedulers = q{SELECT string_agg(datname, ' ' ORDER BY datname) = 'fleet late owned'
	FROM pg_stat_activity WHERE backend_type = 'sentient_edge scheduler'};
sentient_wait($node, 'postgres', $schedulers, 'the last of more databases than there are slots has a scheduler');
$node->restart;
sentient_wait($node, 'postgres', $schedulers, 'after a restart, too');

$node->stop;
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');
done_testing();
