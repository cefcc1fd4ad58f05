# 051_same_batch_race.pl
#		Two sessions send the same batch at once, 10,000 times over: no error, no
#		deadlock, no sample twice; accepted + duplicate + rejected = sent for each
#		call, and each key is accepted exactly once.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib 'test/t';
use SentientEdge;

my $rounds = 10_000;
my $node = sentient_server('race', conf => "synchronous_commit = off\nlog_lock_waits = on\ndeadlock_timeout = 200ms\n");
sentient_database($node, 'fleet');
$node->safe_psql('fleet', q{
	CREATE UNLOGGED TABLE outcome (session int, round int, accepted int, duplicate int, rejected int);
	CREATE SEQUENCE turn_1;
	CREATE SEQUENCE turn_2;
	INSERT INTO core.drones (drone_id, call_sign, drone_type)
	SELECT ('32000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'RACE-' || i, 'vtol' FROM generate_series(1, 8) AS i});

# Round r: 6 samples of drones that exist and one of a drone that does not.  Every
# other round runs backwards in time, so that some samples are late and some were
# sent by the round before; every hundredth goes to another month.  Both sessions
# begin a round together: whoever is second waits for the other's uncommitted rows
# or runs into them.
sub session
{
	my ($self, $other) = @_;

	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('fleet'), '-c', qq{
		DO \$\$
		DECLARE
			counts record;
		BEGIN
			FOR r IN 1 .. $rounds LOOP
				PERFORM nextval('turn_$self');
				WHILE (SELECT last_value < r OR NOT is_called FROM turn_$other) LOOP
					NULL;
				END LOOP;
				SELECT * INTO counts FROM telemetry.ingest_batch(
					ARRAY(SELECT ('32000000-0000-4000-8000-' || CASE i WHEN 7 THEN '000000000404' ELSE lpad((1 + (r * 3 + i * 5) % 8)::text, 12, '0') END)::uuid
						  FROM generate_series(1, 7) AS i ORDER BY i),
					ARRAY(SELECT timestamptz '2026-03-01 00:00:00+00' + CASE WHEN r % 100 = 0 THEN interval '-1 month' ELSE interval '0' END
							+ (r * 4 + i * (1 - 2 * (r % 2))) * interval '1 s' FROM generate_series(1, 7) AS i ORDER BY i));
				INSERT INTO outcome VALUES ($self, r, counts.accepted, counts.duplicate, counts.rejected);
				COMMIT;
			END LOOP;
		END \$\$} ], '>&', $_[2]);
}

my @output = ('', '');
my @runs = (session(1, 2, \$output[0]), session(2, 1, \$output[1]));
for my $session (0, 1)
{
	ok($runs[$session]->finish, "session " . ($session + 1) . ": no error") or diag($output[$session]);
}

is($node->safe_psql('fleet', 'SELECT count(*), count(*) FILTER (WHERE accepted + duplicate + rejected <> 7) FROM outcome'),
	(2 * $rounds) . '|0', 'accepted + duplicate + rejected = sent, for each call');
is($node->safe_psql('fleet', 'SELECT count(*) FROM outcome WHERE rejected <> 1'), '0', 'the unknown drone is rejected by each call');
is($node->safe_psql('fleet', 'SELECT sum(accepted) = (SELECT count(*) FROM telemetry.drone_telemetry) FROM outcome'), 't',
	'as many samples were accepted as there are: each key once');
is($node->safe_psql('fleet', q{
	WITH sent AS (SELECT DISTINCT ('32000000-0000-4000-8000-' || lpad((1 + (r * 3 + i * 5) % 8)::text, 12, '0'))::uuid AS drone_id,
		timestamptz '2026-03-01 00:00:00+00' + CASE WHEN r % 100 = 0 THEN interval '-1 month' ELSE interval '0' END + (r * 4 + i * (1 - 2 * (r % 2))) * interval '1 s' AS recorded_at
		FROM generate_series(1, 10000) AS r, generate_series(1, 6) AS i)
	SELECT count(*), count(*) FILTER (WHERE s.drone_id IS NULL OR t.drone_id IS NULL), (SELECT count(*) FROM sent) = count(*)
	FROM sent s FULL JOIN telemetry.drone_telemetry t USING (drone_id, recorded_at)}) =~ s/^\d+\|//r, '0|t', 'what was sent is what is stored');
is($node->safe_psql('fleet', 'SELECT count(*) FROM telemetry.rejected_samples'), 2 * $rounds, 'every rejected sample is kept');
is($node->safe_psql('fleet', q{
	SELECT count(*), count(*) FILTER (WHERE recorded_at <> (SELECT max(recorded_at) FROM telemetry.drone_telemetry t WHERE t.drone_id = l.drone_id))
	FROM telemetry.drone_latest l}), '8|0', 'the latest state is that of the newest sample');
cmp_ok($node->safe_psql('fleet', 'SELECT count(DISTINCT session) FROM outcome WHERE accepted > 0'), '==', 2, 'now the one was first, now the other');

my $log = slurp_file($node->logfile);
ok($log !~ /deadlock detected/, 'no deadlock in the log');
ok($log !~ /ERROR: /, 'no error in the log') or diag($log =~ /^.*ERROR: .*$/m ? $& : '');

$node->stop;
done_testing();
