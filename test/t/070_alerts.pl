# Alerts outside of a session: the scheduler reports a lost link, what is crossed
# and counted survives a crash, and a dump carries alerts, states and changed
# built-in rules into a server whose workers run.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my $node = sentient_server('main', durable => 1, conf => 'sentient_edge.alert_check_interval = 1');
sentient_database($node, 'fleet');
my ($flying, $parked, $log) = map { sentient_drone($node, 'fleet', "alert-$_") } 1 .. 3;

sub ask { return $node->safe_psql('fleet', shift) }

sub send_sample
{
	my ($drone, $at, $key, $value) = @_;
	return ask("SELECT accepted FROM telemetry.ingest(jsonb_build_object('drone_id', '$drone', 'timestamp', $at, '$key', $value))");
}

# the link
ask("UPDATE core.drones SET status = s FROM unnest('{standby,active}'::text[]) s WHERE drone_id = '$flying' AND s = 'standby'");
ask("UPDATE core.drones SET status = 'active' WHERE drone_id = '$flying'");
ask("UPDATE core.drones SET status = 'standby' WHERE drone_id = '$parked'");
send_sample($_, "now() - interval '30 s'", 'altitude_m', 1) for $flying, $parked;
send_sample($log, "'2018-08-08T14:00:00Z'", 'altitude_m', 1);
sentient_wait($node, 'fleet', "SELECT count(*) = 1 FROM telemetry.real_time_alerts WHERE alert_type = 'link_loss' AND cleared_at IS NULL",
	'the scheduler reports a lost link');
is(ask("SELECT drone_id, opened_at - recorded_at FROM telemetry.real_time_alerts JOIN telemetry.drone_latest USING (drone_id)"),
	"$flying|00:00:10", 'of the flying drone alone, ten seconds after its newest sample');
is(ask('SELECT telemetry.check_link_loss()'), '0', 'once');
# In one transaction: the link may be lost again before somebody looks.
is(ask("BEGIN; SELECT accepted FROM telemetry.ingest(jsonb_build_object('drone_id', '$flying', 'timestamp', now(), 'altitude_m', 2));
	SELECT count(*) FROM telemetry.real_time_alerts WHERE cleared_at IS NULL;
	SELECT string_agg(event_type, ',' ORDER BY occurred_at) FROM telemetry.drone_events WHERE drone_id = '$flying'; COMMIT"),
	"1\n0\nalert_opened,alert_cleared", 'a live sample clears it, and both are events');
is(ask("SELECT errors FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'link loss'"), '0', 'the job has no errors');

# each rule at its own time after one and the same sample, and soon; a drone that was parked then
my $open = "FROM telemetry.real_time_alerts a WHERE alert_type = 'link_loss' AND cleared_at IS NULL";
ask("INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold) VALUES
	('lost 3', 'link_silence_s', '>', 3), ('lost 7', 'link_silence_s', '>', 7), ('parked 7', 'link_silence_s', '>', 7)");
ask("UPDATE telemetry.alert_rules SET drone_id = '$parked' WHERE name = 'parked 7'");
send_sample($_, 'now()', 'altitude_m', 3) for $flying, $parked;
sentient_wait($node, 'fleet', "SELECT count(*) = 3 $open", 'every rule opens its alert of one silence');
is(ask("SELECT string_agg(extract(epoch FROM a.opened_at - l.recorded_at)::integer::text, ',' ORDER BY a.opened_at)
	FROM telemetry.real_time_alerts a JOIN telemetry.drone_latest l USING (drone_id)
	WHERE alert_type = 'link_loss' AND cleared_at IS NULL"), '3,7,10', 'after the times of the rules');
is(ask("SELECT bool_and(last_seen_at >= opened_at AND last_seen_at < opened_at + interval '1 min') $open"), 't', 'soon after those, and never before');
ask("UPDATE core.drones SET status = 'active' WHERE drone_id = '$parked'");
sentient_wait($node, 'fleet', "SELECT count(*) = 4 $open AND drone_id = '$parked'", 'a silent drone that takes off has lost its link');
cmp_ok(ask("SELECT max(extract(epoch FROM last_seen_at - (SELECT max(changed_at) FROM core.drone_status_history))) $open AND drone_id = '$parked'"),
	'<', 60, 'at once');
ask("DELETE FROM telemetry.alert_rules WHERE name LIKE '% 7'; UPDATE telemetry.alert_rules SET threshold = 2 WHERE name = 'lost 3'");
sentient_wait($node, 'fleet', "SELECT count(*) = 4 $open", 'alerts of rules that are gone are cleared, the others stay');
send_sample($_, 'now()', 'altitude_m', 4) for $flying, $parked;
sentient_wait($node, 'fleet', "SELECT count(*) = 2 $open AND EXISTS
	(SELECT FROM telemetry.drone_latest l WHERE l.drone_id = a.drone_id AND a.opened_at = l.recorded_at + interval '2 s')",
	'a changed threshold is in force for every drone');
ask("DELETE FROM telemetry.alert_rules WHERE name = 'lost 3'");
is(ask("SELECT errors FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'link loss'"), '0', 'the job has no errors still');
ask("UPDATE core.drones SET status = 'standby' WHERE drone_id IN ('$flying', '$parked')");
send_sample($_, 'now()', 'altitude_m', 5) for $flying, $parked;
sentient_wait($node, 'fleet', "SELECT count(*) = 0 $open", 'nobody expects to hear of a parked drone');

# Who leaves a transaction open keeps the alerts of his own drones waiting, not those of the others.
my ($sending, $edited, $free) = map { sentient_drone($node, 'fleet', "locked-$_") } 1 .. 3;
my $locked = "drone_id IN ('$sending', '$edited', '$free')";
my $lost = sub { return "SELECT count(*) = 1 $open AND drone_id = '$_[0]'" };
ask("UPDATE telemetry.alert_rules SET enabled = false WHERE name = 'link loss';
	INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold) VALUES ('high', 'altitude_m', '>', 100)");
ask("UPDATE core.drones SET status = '$_' WHERE $locked") for 'standby', 'active';
send_sample($_, "now() - interval '30 s'", 'altitude_m', 200) for $sending, $edited, $free;
my $sender = $node->background_psql('fleet');
$sender->query_safe("BEGIN; SELECT FROM telemetry.drone_latest WHERE drone_id = '$sending' FOR UPDATE");
my $editor = $node->background_psql('fleet');
$editor->query_safe("BEGIN; SELECT FROM core.drones WHERE drone_id = '$edited' FOR UPDATE");
my $reader = $node->background_psql('fleet');
$reader->query_safe("BEGIN; SELECT FROM telemetry.real_time_alerts WHERE $locked AND alert_type = 'rule' ORDER BY alert_id FOR UPDATE");
ask("UPDATE telemetry.alert_rules SET enabled = name = 'link loss' WHERE name IN ('link loss', 'high')");
sentient_wait($node, 'fleet', $lost->($free), 'a drone that nobody has locked has lost its link');
is(ask("SELECT count(*) $open AND $locked"), '1', 'the others wait');
$sender->query_safe('COMMIT');
sentient_wait($node, 'fleet', $lost->($sending), 'until the lock is gone');
$editor->query_safe('COMMIT');
sentient_wait($node, 'fleet', $lost->($edited), 'and that of the drone itself');
is(ask("SELECT count(*) FROM telemetry.real_time_alerts WHERE $locked AND alert_type = 'rule' AND cleared_at IS NULL"), '3', 'alerts that somebody has locked are left');
$reader->query_safe('COMMIT');
$_->quit for $sender, $editor, $reader;
is(ask("SELECT errors FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'link loss'"), '0', 'the job has no errors still');
ask('SELECT telemetry.check_link_loss()');
# or for the scheduler's, if that is at them right now
sentient_wait($node, 'fleet', "SELECT count(*) = 0 FROM telemetry.real_time_alerts WHERE $locked AND alert_type = 'rule' AND cleared_at IS NULL", 'for the next check');
ask("DELETE FROM telemetry.real_time_alerts WHERE alert_type = 'rule'; DELETE FROM telemetry.alert_rules WHERE name = 'high';
	UPDATE core.drones SET status = 'standby' WHERE $locked");
send_sample($_, 'now()', 'altitude_m', 5) for $sending, $edited, $free;
sentient_wait($node, 'fleet', "SELECT count(*) = 0 $open", 'and they are parked');

# a crash while hold_for runs
ask("INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, hold_for, severity) VALUES ('too high', 'altitude_m', '>', 120, '5 s', 'error')");
send_sample($parked, 'now()', 'altitude_m', 5);
my $t0 = ask("SELECT recorded_at FROM telemetry.drone_latest WHERE drone_id = '$parked'");
my $at = sub { "'$t0'::timestamptz + interval '$_[0] s'" };
send_sample($parked, $at->(1), 'altitude_m', 130);
send_sample($parked, $at->(1), 'altitude_m', 130);
is(ask("SELECT alert_id IS NULL FROM telemetry.alert_states WHERE drone_id = '$parked'"), 't', 'the limit is crossed, nothing is open');
my $counts = "SELECT received, late, duplicate, rejected FROM telemetry.sample_counts WHERE drone_id = '$parked'";
my $counted = ask($counts);
is($counted, '6|0|1|0', 'samples are counted');
$node->stop('immediate');
$node->start;
is(ask($counts), $counted, 'and the counts survive a crash');
send_sample($parked, $at->(4), 'altitude_m', 131);
is(ask("SELECT count(*) FROM telemetry.real_time_alerts WHERE severity = 'error'"), '0', 'the hold time goes on where it was');
send_sample($parked, $at->(6), 'altitude_m', 132);
is(ask("SELECT opened_at = " . $at->(6) . ", opened_value FROM telemetry.real_time_alerts WHERE severity = 'error'"), 't|132', 'and opens the alert');

# a rule that is disabled while its drone is silent
ask("INSERT INTO telemetry.alert_rules (name, metric, comparison, threshold, severity) VALUES ('too warm', 'temperature_c', '>', 50, 'notice')");
send_sample($parked, $at->(6.5), 'temperature_c', 60);
my $warm = 'SELECT count(*) = 1 FROM telemetry.real_time_alerts WHERE severity = \'notice\' AND cleared_at IS';
is(ask("$warm NULL"), 't', 'another alert is open');
ask("UPDATE telemetry.alert_rules SET enabled = false WHERE name = 'too warm'");
sentient_wait($node, 'fleet', "$warm NOT NULL", 'the scheduler clears the alert of a rule that was disabled');
is(ask("SELECT string_agg(event_type, ',' ORDER BY occurred_at) FROM telemetry.drone_events WHERE message LIKE 'too warm%'"),
	'alert_opened,alert_cleared', 'with an event');
is(ask("SELECT alert_states FROM telemetry.drone_latest WHERE drone_id = '$parked'"),
	ask("SELECT count(*) FROM telemetry.alert_states WHERE drone_id = '$parked'"), 'and the states of the drone are counted');
ask("DELETE FROM telemetry.real_time_alerts WHERE severity = 'notice'; DELETE FROM telemetry.alert_rules WHERE name = 'too warm'");

# dump and restore
ask("UPDATE telemetry.alert_rules SET threshold = 30, clear_threshold = 31, name = 'battery half' WHERE name = 'battery low';
	UPDATE telemetry.alert_rules SET enabled = false WHERE name = 'link loss'");
my %queries = (
	rules => 'SELECT r::text FROM telemetry.alert_rules r ORDER BY 1',
	alerts => 'SELECT a::text FROM telemetry.real_time_alerts a ORDER BY 1',
	states => 'SELECT s::text FROM telemetry.alert_states s ORDER BY 1',
	'latest states' => 'SELECT l::text FROM telemetry.drone_latest l ORDER BY 1',
	events => 'SELECT e::text FROM telemetry.drone_events e ORDER BY 1',
	counts => 'SELECT c::text FROM telemetry.sample_counts c ORDER BY 1');
my $dump = $node->basedir . '/fleet';
my @server = ('-h', $node->host, '-p', $node->port);
command_ok([ 'pg_dump', @server, '-f', "$dump.sql", 'fleet' ], 'plain dump');
command_ok([ 'pg_dump', @server, '-Fc', '-f', "$dump.custom", 'fleet' ], 'custom dump');
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(plain custom);
command_ok([ 'psql', @server, '-qX', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql", 'plain' ], 'plain restore');
command_ok([ 'pg_restore', @server, '--exit-on-error', '-j', '2', '-d', 'custom', "$dump.custom" ], 'parallel restore');
for my $database (qw(plain custom))
{
	is($node->safe_psql($database, $queries{$_}), ask($queries{$_}), "$database: $_ are equal") for sort keys %queries;
	$node->safe_psql($database,
		"SELECT telemetry.ingest(jsonb_build_object('drone_id', '$parked', 'timestamp', " . $at->(7) . ", 'altitude_m', 100, 'battery_percentage', 20))");
	is($node->safe_psql($database,
			"SELECT severity, cleared_at IS NULL FROM telemetry.real_time_alerts WHERE alert_type = 'rule' ORDER BY opened_at"),
		"error|f\nwarning|t", "$database: the alert goes on, by the changed rule");
}

done_testing();
