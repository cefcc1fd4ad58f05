# A database is dumped and restored, ten months later, into a server whose workers
# run: no error line, equal rows, the workers go on, and the extension can be
# dropped and created again.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

# The source lives ten months ago: what it has made ahead is used up when the
# target comes.  It runs no workers, because those that a postmaster forks while
# it waits do not see the false clock; the foreground does their work.
my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1');
ok(defined $faketime, 'faketime is installed');
my $source = sentient_server('source', start => 0, preload => 0, conf => 'max_worker_processes = 0');
{
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{FAKETIME} = '-300d';
	local $ENV{NO_FAKE_STAT} = 1;
	$source->start;
}
my $now = $source->safe_psql('postgres', 'SELECT extract(epoch FROM now())::bigint');
cmp_ok(time - $now, '>', 299 * 86400, 'the source lives ten months ago');

sentient_database($source, 'fleet');
my $drone = sentient_drone($source, 'fleet', 'dump-1');

# Rows of an old month and of now, an audit entry, a setting and a privilege;
# one row stays in the default partition.
$source->safe_psql('fleet', qq{
	SELECT telemetry.ingest(jsonb_agg(jsonb_build_object('droneId', '$drone', 'timestamp', t, 'altitude_m', 12.5)))
	  FROM (SELECT generate_series('2018-03-01 00:00Z'::timestamptz, '2018-04-30 00:00Z', '1 hour') AS t
			UNION ALL SELECT now() - interval '1 second') s;
	UPDATE sentient_edge.settings SET value = '6' WHERE name = 'telemetry.partition_premake';
	INSERT INTO audit.log (schema_name, table_name, operation, occurred_at) VALUES ('core', 'drones', 'T', now());
	GRANT SELECT ON telemetry.drone_telemetry TO PUBLIC;
	CREATE TABLE public.owned (id integer, k integer, secret text, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
	CREATE TABLE public.owned_1 PARTITION OF public.owned FOR VALUES FROM (0) TO (10);
	SELECT audit.enable('public.owned', mask => '{secret}');
	INSERT INTO public.owned VALUES (1, 1, 'x');
	UPDATE core.drones SET model = 'changed';
});
like($source->safe_psql('fleet', 'SELECT * FROM telemetry.run_maintenance()'),
	qr/^telemetry.drone_telemetry\|runway\|6 future partitions/m, 'partitions are made ahead');
$source->safe_psql('fleet',
	"INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('$drone', '2020-01-01 00:00Z')");

my %queries = (
	'samples' => 'SELECT count(*), md5(string_agg(t::text, E\'\n\' ORDER BY drone_id, recorded_at)) FROM telemetry.drone_telemetry t',
	'audit entries' => 'SELECT count(*), md5(string_agg(l::text, E\'\n\' ORDER BY audit_id)) FROM audit.log l',
	'security events' => 'SELECT count(*) > 0, count(*), md5(string_agg(e::text, E\'\n\' ORDER BY event_id)) FROM audit.security_events e WHERE occurred_at < to_timestamp(' . (time - 200 * 86400) . ')',
	'partitions' => "SELECT parent, name, range FROM telemetry.partitions ORDER BY 1, 2",
	'audited tables' => 'SELECT table_name::text, state, exclude, mask FROM audit.audited_tables ORDER BY 1',
	'triggers of an audited table' => "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE tgrelid IN ('public.owned'::regclass, 'public.owned_1'::regclass) ORDER BY 1, 2",
	'settings' => 'SELECT name, value FROM sentient_edge.settings ORDER BY 1',
	'drones' => 'SELECT d::text FROM core.drones d ORDER BY 1',
	'latest states' => 'SELECT l::text FROM telemetry.drone_latest l ORDER BY 1',
	'indexes' => "SELECT i.indexrelid::regclass::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace IN ('telemetry'::regnamespace, 'audit'::regnamespace) ORDER BY 1",
	'triggers' => "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE tgrelid IN ('telemetry.drone_telemetry'::regclass, 'audit.log'::regclass, 'audit.security_events'::regclass, 'audit.security_events_default'::regclass) ORDER BY 1, 2",
	'privileges' => "SELECT c.oid::regclass::text, g::text FROM pg_class c LEFT JOIN LATERAL unnest(c.relacl) g ON true WHERE c.oid IN ('telemetry.drone_telemetry'::regclass, 'telemetry.drone_telemetry_default'::regclass, 'audit.log'::regclass, 'audit.log_default'::regclass, 'audit.security_events'::regclass, 'audit.security_events_default'::regclass) ORDER BY 1, 2");
# A target whose restore has been noticed makes keys, which are entries more.
my $entries = $source->safe_psql('fleet', 'SELECT max(audit_id) FROM audit.log');
$queries{'audit entries'} =~ s/ l$/ l WHERE audit_id <= $entries/ or die;
my %expected = map { $_ => $source->safe_psql('fleet', $queries{$_}) } keys %queries;

my $dump = $source->basedir . '/fleet';
command_ok([ 'pg_dump', '-h', $source->host, '-p', $source->port, '-f', "$dump.sql", 'fleet' ], 'plain dump');
command_ok([ 'pg_dump', '-h', $source->host, '-p', $source->port, '-Fc', '-f', "$dump.custom", 'fleet' ], 'custom dump');
$source->stop;

my $target = sentient_server('target');

sub restore
{
	my ($database, @command) = @_;
	my ($out, $err) = ('', '');

	$target->safe_psql('postgres', "CREATE DATABASE $database");
	my $ok = IPC::Run::run([@command], '>', \$out, '2>', \$err);
	ok($ok, "$database: restored");
	unlike("$out$err", qr/error/i, "$database: no error line");
	return;
}

# What verify says of triggers and restores.
my $switched_off = "SELECT DISTINCT finding FROM audit.verify() WHERE finding IN ('restore_unfinished', 'capture_off', 'protection_off') ORDER BY 1";

sentient_database($target, 'first');    # the roles, and a scheduler at work
foreach my $case ([ 'plain', [ 'psql', '-X', '-v', 'ON_ERROR_STOP=0', '-q', '-f', "$dump.sql" ] ],
	[ 'parallel', [ 'pg_restore', '-j', '4', "$dump.custom" ] ],
	[ 'serial', [ 'pg_restore', '--exit-on-error', "$dump.custom" ] ])
{
	my ($database, $command) = @$case;

	restore($database, @$command, '-h', $target->host, '-p', $target->port, '-d', $database);
	# The scheduler may have made new partitions meanwhile: compare what was there.
	foreach my $what (sort keys %queries)
	{
		my $got = $target->safe_psql($database, $queries{$what});

		if ($what eq 'partitions' || $what eq 'indexes')
		{
			my %got = map { $_ => 1 } split /\n/, $got;
			is(join("\n", grep { !$got{$_} } split /\n/, $expected{$what}), '', "$database: no lost $what");
		}
		else
		{
			is($got, $expected{$what}, "$database: equal $what");
		}
	}

	is($target->safe_psql($database, $switched_off), '', "$database: and nothing is switched off");

	sentient_wait($target, $database,
		"SELECT count(*) > 0 FROM sentient_edge.workers WHERE database = current_database() AND worker = 'scheduler' AND state = 'running'",
		"$database: the scheduler runs");
	# What changes from now on has its entries again.
	is($target->safe_psql($database, qq{
		DELETE FROM public.owned;
		UPDATE core.drones SET model = NULL;
		SELECT operation, table_name, old_values - 'updated_at' FROM audit.log WHERE table_name IN ('owned', 'drones') ORDER BY audit_id DESC LIMIT 2}),
		qq{U|drones|{"model": "changed"}\nD|owned|{"k": 1, "id": 1, "secret": "[masked]"}}, "$database: changes are captured");
	# Samples of months that the source never had.
	$target->safe_psql($database,
		"INSERT INTO telemetry.drone_telemetry (drone_id, recorded_at) VALUES ('$drone', now()), ('$drone', '2019-07-01 00:00Z')");
	sentient_wait($target, $database,
		"SELECT count(*) = 2 FROM telemetry.partitions WHERE parent = 'telemetry.drone_telemetry' AND (state = 'current' OR range \@> '2019-07-01 00:00Z'::timestamptz)",
		"$database: new partitions are made");
	sentient_wait($target, $database, 'SELECT count(*) = 0 FROM telemetry.drone_telemetry_default',
		"$database: and the default partition is empty");
	sentient_wait($target, $database,
		"SELECT max(runway) >= 6 FROM telemetry.partitions WHERE parent = 'telemetry.drone_telemetry'",
		"$database: partitions are made ahead as the restored setting says");
	is($target->safe_psql($database, "SELECT count(*) FROM sentient_edge.managed_tables WHERE restored_at IS NOT NULL AND table_name = 'telemetry.drone_telemetry'"),
		'0', "$database: the restore is known to be complete");

	# A table of the user's that is audited has triggers that call the extension.
	$target->safe_psql($database, "SELECT audit.disable('public.owned')");
	my ($status, $out, $err) = $target->psql($database, 'DROP EXTENSION sentient_edge');
	is($status, 0, "$database: DROP EXTENSION needs no CASCADE") or diag $err;
	is($target->safe_psql($database, "SELECT count(*) FROM pg_namespace WHERE nspname IN ('telemetry', 'core', 'audit')"),
		'0', "$database: no schema is left");
	is($target->safe_psql($database,
			"SELECT coalesce(string_agg(parent_table, ','), '') FROM part_config"),
		'', "$database: pg_partman has forgotten the tables");
	sentient_wait($target, 'first',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '$database' AND backend_type LIKE 'sentient_edge%'",
		"$database: no worker is left");
	($status, $out, $err) = $target->psql($database, 'CREATE EXTENSION sentient_edge CASCADE');
	is($status, 0, "$database: CREATE EXTENSION again") or diag $err;
}

# In the middle of a restore triggers are missing, which verify knows why.
my @into_halfway = ('-h', $target->host, '-p', $target->port, '-d', 'halfway', "$dump.custom");
restore('halfway', 'pg_restore', '--section=pre-data', @into_halfway);
is($target->safe_psql('halfway', $switched_off), 'restore_unfinished', 'halfway: verify tells of a restore under way');
command_ok([ 'pg_restore', '--section=data', '--section=post-data', @into_halfway ], 'halfway: the rest is restored');
is($target->safe_psql('halfway', $switched_off), '', 'halfway: which has ended for verify, whether or not maintenance has noticed');

# Between CREATE EXTENSION and the tables a restore can take its time: nothing that
# would be in its way is made meanwhile.
$target->safe_psql('postgres', 'CREATE DATABASE slow');
is($target->safe_psql('slow', q{
	SET client_min_messages = warning;
	CREATE EXTENSION sentient_edge CASCADE;
	DO $$
	DECLARE
		goal bigint;
		runs bigint;
	BEGIN
		LOOP
			SELECT w.runs INTO runs FROM sentient_edge.workers w WHERE w.database = current_database() AND w.worker = 'ledger';
			IF goal IS NULL AND clock_timestamp() > (SELECT max(created_at) FROM sentient_edge.managed_tables) + interval '31 s' THEN
				goal := runs + 3;
			END IF;
			EXIT WHEN runs >= goal;
			PERFORM pg_sleep(0.1);
		END LOOP;
	END $$;
	SELECT count(*) FROM sentient_edge.data_keys;
	SELECT count(*) FROM audit.log}), "0\n0", 'no key is made while the session of CREATE EXTENSION is at work');
sentient_wait($target, 'slow', "SELECT count(*) = 1 FROM sentient_edge.data_keys WHERE purpose = 'audit_mac'",
	'it is made once that has ended');

unlike(slurp_file($target->logfile), qr/PANIC|terminated by signal|sentient_edge assertion/, 'no process died');
$target->stop;
done_testing();
