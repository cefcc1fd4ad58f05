# 085_reencrypt.pl
#		Re-encryption of sealed columns: what it changes and what not, while others
#		write, when it is killed, paused, blocked or cannot go on, and elsewhere.

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(run start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use lib 'test/t';
use SentientEdge;

my $node = sentient_server(
	'keys',
	durable => 1,
	init => { allows_streaming => 1 },
	conf => "max_prepared_transactions = 4\nsentient_edge.reencrypt_batch_rows = 50\n");
sentient_database($node, 'fleet');
my $worker = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sentient_edge re-encryption'";

# A table as users make them: a trigger that notes each change, columns that come
# before and after, a generated one, and a deleted one.
$node->safe_psql('fleet', q{
	CREATE TABLE public.vault (
		gone text, id integer PRIMARY KEY, version integer NOT NULL DEFAULT 0, counter integer NOT NULL DEFAULT 0,
		secret sentient_edge.sealed, key_id uuid GENERATED ALWAYS AS (sentient_edge.sealed_key_id(secret)) STORED,
		updated_at timestamptz NOT NULL DEFAULT now(), filler text DEFAULT repeat('x', 200));
	ALTER TABLE public.vault DROP COLUMN gone;
	CREATE INDEX ON public.vault (secret);
	CREATE INDEX ON public.vault (counter);
	CREATE TABLE public.noted (id integer);
	CREATE TABLE public.done (id integer);
	CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.noted VALUES (NEW.id); NEW.updated_at := clock_timestamp(); RETURN NEW; END';
	CREATE TRIGGER note BEFORE UPDATE ON public.vault FOR EACH ROW EXECUTE FUNCTION public.note();
	CREATE FUNCTION public.context(integer) RETURNS text LANGUAGE sql AS $$SELECT 'public.vault.secret:' || $1$$;
	INSERT INTO public.vault (id, secret)
	SELECT i, CASE WHEN i % 10 > 0 THEN sentient_edge.seal(i || ' 0', public.context(i), i % 2 = 0) END FROM generate_series(1, 2000) AS i;
	CREATE TABLE public.letters (id integer, secret sentient_edge.sealed);
	INSERT INTO public.letters SELECT i, sentient_edge.seal(repeat('long ' || i, 100000), 'public.letters.secret:' || i) FROM generate_series(1, 3) AS i});

my $left = q{SELECT count(*) FROM public.vault WHERE secret IS NOT NULL AND (
	sentient_edge.sealed_key_id(secret) <> (SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'field' AND state = 'active')
	OR sentient_edge.sealed_search_key_id(secret) <> (SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'search' AND state = 'active'))};
my $wrong = q{SELECT count(*) FROM public.vault WHERE secret IS NOT NULL
	AND sentient_edge.try_unseal(secret, public.context(id)) IS DISTINCT FROM id || ' ' || version};
my $untold = q{SELECT count(*) FROM public.vault v LEFT JOIN (SELECT id, count(*) AS n FROM public.done GROUP BY id) d USING (id) WHERE counter <> coalesce(n, 0)};

sub rotate
{
	my ($database) = @_;

	return $node->safe_psql($database // 'fleet', "SELECT sentient_edge.rotate_data_key('field') FROM sentient_edge.rotate_data_key('search')");
}

sub reencrypt
{
	my ($table, $column, $keys) = @_;

	return $node->safe_psql('fleet', "SELECT sentient_edge.reencrypt('$table', '$column'" . ($keys ? ", '$keys'" : '') . ')');
}

sub wait_state
{
	my ($id, $state, $what) = @_;

	sentient_wait($node, 'fleet', "SELECT state = '$state' FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'", $what)
	  or diag($node->safe_psql('fleet', 'TABLE sentient_edge.reencryptions'));
}

sub active_key
{
	my ($purpose) = @_;

	return $node->safe_psql('fleet', "SELECT key_id FROM sentient_edge.data_keys WHERE purpose = '$purpose' AND state = 'active'");
}

#
# Alone with the table.
#
my ($old_field, $old_search) = (active_key('field'), active_key('search'));
my $before = $node->safe_psql('fleet', "SELECT md5(string_agg(row(id, version, counter, updated_at, sentient_edge.unseal(secret, public.context(id)))::text, ',' ORDER BY id)) FROM public.vault");
rotate();
is($node->safe_psql('fleet', $left), '1800', 'after a rotation the values are under the old keys');
my $found = q{SELECT count(*) FROM public.vault WHERE secret = ANY (sentient_edge.search_tokens('42 0', public.context(0)))};
is($node->safe_psql('fleet', $found), '1', 'and are found by tokens of both search keys');
my ($status, $out, $err) = $node->psql('fleet', "SELECT sentient_edge.destroy_data_key('$old_field')");
isnt($status, 0, 'the old key cannot be destroyed');

$node->safe_psql('fleet', "SELECT audit.enable('public.vault')");
my $id = reencrypt('public.vault', 'secret', '{id}');
wait_state($id, 'finished', 'all values are re-encrypted');
is($node->safe_psql('fleet', "SELECT count(*) FROM audit.log WHERE table_name = 'vault'"), '0', 'the audit trail has no entry of a value');
is($node->safe_psql('fleet', "SELECT count(*) BETWEEN 10 AND 41 FROM audit.log WHERE table_name = 'reencryptions' AND operation = 'U' AND row_key ->> 'reencryption_id' = '$id'"),
	't', 'but one of each batch');
$node->safe_psql('fleet', "SELECT audit.disable('public.vault')");
is($node->safe_psql('fleet', $left), '0', 'none is under the old keys');
is($node->safe_psql('fleet', "SELECT values_done, values_busy, values_failed, error IS NULL, percent_of_pass FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'"),
	'1800|0|0|t|100', 'as its row says');
is($node->safe_psql('fleet', "SELECT field_key_id, search_key_id FROM sentient_edge.reencryptions WHERE reencryption_id = '$id'"),
	active_key('field') . '|' . active_key('search'), 'and under which keys they are now');
is($node->safe_psql('fleet', "SELECT md5(string_agg(row(id, version, counter, updated_at, sentient_edge.unseal(secret, public.context(id)))::text, ',' ORDER BY id)) FROM public.vault"),
	$before, 'the rows say what they said');
is($node->safe_psql('fleet', 'SELECT count(*) FROM public.noted'), '0', 'no trigger has fired');
is($node->safe_psql('fleet', 'SELECT count(*) FROM public.vault WHERE secret IS NOT NULL AND key_id IS DISTINCT FROM sentient_edge.sealed_key_id(secret)'),
	'0', 'generated columns have followed');
is($node->safe_psql('fleet', $found), '1', 'a value is found by its tokens');
is($node->safe_psql('fleet', q{SET enable_seqscan = off; SELECT id FROM public.vault WHERE secret = sentient_edge.search_token('42 0', public.context(0))}),
	'42', 'and by the new one through the index');
$id = reencrypt('public.letters', 'secret', '{id}');
wait_state($id, 'finished', 'long values, stored out of line');
is($node->safe_psql('fleet', q{SELECT count(*) FROM public.letters WHERE sentient_edge.unseal(secret, 'public.letters.secret:' || id) = repeat('long ' || id, 100000)
	AND sentient_edge.sealed_key_id(secret) = (SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'field' AND state = 'active')}), '3', 'are re-encrypted, too');
sentient_retired($node, 'fleet', 'who might use the old keys is gone');
is($node->safe_psql('fleet', "SELECT sentient_edge.destroy_data_key('$old_field'), sentient_edge.destroy_data_key('$old_search')"), 't|t', 'the old keys can be destroyed');
is($node->safe_psql('fleet', $wrong), '0', 'and every value is still there');
$id = reencrypt('public.vault', 'secret', '{id}');
wait_state($id, 'finished', 'once more, with nothing to do');
is($node->safe_psql('fleet', "SELECT values_done FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'"), '0', 'nothing is done');
sentient_wait($node, 'fleet', "SELECT ($worker) = 0", 'the worker has ended');

#
# Others write meanwhile, and it is killed: the whole server goes down each time.
#
my $load = $node->basedir . '/load.sql';
append_to_file($load, q{
	\set id random(1, 1000)
	\set id2 random(1001, 2000)
	BEGIN;
	UPDATE public.vault SET counter = counter + 1 WHERE id = :id;
	INSERT INTO public.done VALUES (:id);
	UPDATE public.vault SET version = version + 1, secret = sentient_edge.seal(id || ' ' || version + 1, public.context(id), true) WHERE id = :id2 AND secret IS NOT NULL;
	COMMIT;
});

sub start_load
{
	my ($seconds) = @_;
	my %run = (out => '');

	$run{handle} = start([ 'pgbench', '-n', '-c', '4', '-T', $seconds, '-f', $load, $node->connstr('fleet') ], '>', \$run{out}, '2>', \$run{out});
	return \%run;
}

for my $round (1 .. 3)
{
	my $run = start_load(30);

	$node->poll_query_until('fleet', 'SELECT count(*) > 0 FROM public.done') or die 'no load';
	rotate();
	$id = reencrypt('public.vault', 'secret', '{id}');
	my $pid = $node->poll_query_until('fleet', "SELECT values_done > 0 FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'")
	  && $node->safe_psql('fleet', "SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'sentient_edge re-encryption'");
	usleep(int(rand(150_000)));
	kill 'KILL', $pid if $pid;
	$run->{handle}->finish if $pid;
	$run->{handle}->kill_kill unless $pid;
	# psql without standard input, which nobody may read
	for (my $tries = 0; $tries < 600 && !run([ 'psql', '-XAtq', '-d', $node->connstr('fleet'), '-c', 'SELECT' ], '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null'); $tries++)
	{
		usleep(100_000);
	}
	$run = start_load(3);
	wait_state($id, 'finished', "round $round: it goes on by itself after kill -9");
	$run->{handle}->finish;
	unlike($run->{out}, qr/aborted|ERROR|deadlock/, 'no client of the running server has failed');
	is($node->safe_psql('fleet', $left), '0', 'no value is under the old keys');
	is($node->safe_psql('fleet', $wrong), '0', 'every value opens and is the last that was written');
	is($node->safe_psql('fleet', $untold), '0', 'no update of another column is lost');
}

unlike(slurp_file($node->logfile), qr/deadlock detected/, 'there was no deadlock');

#
# Pause, resume, restart.  A worker that rests for a minute behind each batch does
# not come to its end before the test has done what it means to do meanwhile; a
# reload wakes it.
#
sub rest
{
	my ($ms) = @_;

	$node->safe_psql('fleet', "ALTER SYSTEM SET sentient_edge.reencrypt_delay = $ms");
	$node->reload;
	return;
}

rest(60_000);
rotate();
$id = reencrypt('public.vault', 'secret', '{id}');
$node->poll_query_until('fleet', "SELECT values_done > 0 FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'");
$node->safe_psql('fleet', "SELECT sentient_edge.reencrypt_pause('$id')");
rest(0);
sentient_wait($node, 'fleet', "SELECT ($worker) = 0", 'a pause ends the worker');
cmp_ok($node->safe_psql('fleet', $left), '>', 0, 'with values left');
($status, $out, $err) = $node->psql('fleet', "SELECT sentient_edge.reencrypt_pause('$id')");
like($err, qr/re-encryption is not running/, 'what is paused cannot be paused');
($status, $out, $err) = $node->psql('fleet', "SELECT sentient_edge.reencrypt('public.vault', 'secret', '{id}')");
like($err, qr/is being re-encrypted already/, 'nor asked for again');
my $done = $node->safe_psql('fleet', "SELECT values_done FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'");
$node->restart;
$node->poll_query_until('fleet', "SELECT runs > 0 FROM sentient_edge.workers WHERE worker = 're-encryption' AND database = 'fleet'");
is($node->safe_psql('fleet', "SELECT state, values_done FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'"), "paused|$done", 'a restart leaves it paused');
rest(60_000);
$node->safe_psql('fleet', "SELECT sentient_edge.reencrypt_resume('$id')");
$node->poll_query_until('fleet', "SELECT values_done > $done FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'");
$node->restart;
rest(0);
wait_state($id, 'finished', 'resumed, and again after a restart');
is($node->safe_psql('fleet', $left), '0', 'no value is left');
is($node->safe_psql('fleet', "SELECT values_done FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'"),
	$node->safe_psql('fleet', 'SELECT count(secret) FROM public.vault'), 'and none was done twice');

#
# Transactions that are open: one that has sealed under the old key, one that has
# changed a row, and one that only keeps a row's key.
#
$node->safe_psql('fleet', q{
	CREATE TABLE public.child (id integer REFERENCES public.vault);
	BEGIN; INSERT INTO public.vault (id, secret) VALUES (3001, sentient_edge.seal('3001 0', public.context(3001))); PREPARE TRANSACTION 'sealed';
	BEGIN; UPDATE public.vault SET counter = counter WHERE id = 7; PREPARE TRANSACTION 'changed';
	BEGIN; INSERT INTO public.child VALUES (11); PREPARE TRANSACTION 'refers'});
my $retired = active_key('field');
rotate();
$id = reencrypt('public.vault', 'secret', '{id}');
sentient_wait($node, 'fleet', "SELECT phase = 'waiting' FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'", 'it waits for transactions');
is($node->safe_psql('fleet', "SELECT values_busy FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'"), '1', 'one row was busy');
is($node->safe_psql('fleet', "SELECT string_agg(id::text, ',') FROM public.vault WHERE key_id = '$retired'"), '7', 'the row that a foreign key holds was not');
$node->safe_psql('fleet', q{COMMIT PREPARED 'changed'});
is($node->safe_psql('fleet', "SELECT state FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'"), 'running', 'it still waits for the others');
$node->safe_psql('fleet', q{COMMIT PREPARED 'sealed'});
wait_state($id, 'finished', 'it has waited until they have ended');
is($node->safe_psql('fleet', $left), '0', 'and has found what they have left');
$node->safe_psql('fleet', q{ROLLBACK PREPARED 'refers'});
sentient_retired($node, 'fleet', 'nobody else is left');
is($node->safe_psql('fleet', "SELECT sentient_edge.destroy_data_key('$retired')"), 't', 'so that the key can be destroyed');

#
# Partitions, whose columns lie differently; a key of two columns; rows that move.
#
$node->safe_psql('fleet', q{
	CREATE TABLE public.logs (site text, n integer, secret sentient_edge.sealed, PRIMARY KEY (site, n)) PARTITION BY RANGE (n);
	CREATE TABLE public.logs_1 PARTITION OF public.logs FOR VALUES FROM (0) TO (1000);
	CREATE TABLE public.logs_2 (x integer, secret sentient_edge.sealed, n integer NOT NULL, site text NOT NULL);
	ALTER TABLE public.logs_2 DROP COLUMN x;
	ALTER TABLE public.logs ATTACH PARTITION public.logs_2 FOR VALUES FROM (1000) TO (2000);
	CREATE TABLE public.logs_3 PARTITION OF public.logs FOR VALUES FROM (2000) TO (3000) PARTITION BY LIST (site);
	CREATE TABLE public.logs_3a PARTITION OF public.logs_3 DEFAULT;
	CREATE TRIGGER bound BEFORE INSERT OR UPDATE ON public.logs FOR EACH ROW EXECUTE FUNCTION sentient_edge.require_context('secret', 'site', 'n');
	INSERT INTO public.logs
	SELECT 'a,b', i, sentient_edge.seal('log ' || i, sentient_edge.sealed_context('public.logs', 'secret', 'a,b', i::text)) FROM generate_series(0, 2999, 5) AS i});
rotate();
$id = reencrypt('public.logs', 'secret');
wait_state($id, 'finished', 'a partitioned table, the context taken from its trigger');
is($node->safe_psql('fleet', q{SELECT count(*), count(DISTINCT sentient_edge.sealed_key_id(secret)), max(sentient_edge.sealed_key_id(secret)::text) = max((SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'field' AND state = 'active')::text),
	count(*) FILTER (WHERE sentient_edge.unseal(secret, sentient_edge.sealed_context('public.logs', 'secret', site, n::text)) = 'log ' || n) FROM public.logs}),
	'600|1|t|600', 'every partition is re-encrypted');

#
# A table whose owner would like to be more than that: by an index expression that
# is evaluated when a row is stored, or when the index is opened.
#
$node->safe_psql('fleet', q{
	CREATE ROLE stranger;
	CREATE SCHEMA theirs AUTHORIZATION stranger;
	GRANT USAGE ON SCHEMA sentient_edge TO stranger;
	CREATE TABLE theirs.bait (id integer PRIMARY KEY, secret sentient_edge.sealed);
	INSERT INTO theirs.bait SELECT i, sentient_edge.seal('bait', 'theirs.bait.secret:' || i) FROM generate_series(1, 100) AS i;
	ALTER TABLE theirs.bait OWNER TO stranger;
	SET ROLE stranger;
	CREATE FUNCTION theirs.grab() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
			ALTER ROLE stranger SUPERUSER;
		END IF;
	END $$;
	CREATE FUNCTION theirs.take(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM theirs.grab(); RETURN $1; END';
	CREATE INDEX ON theirs.bait ((theirs.take(id) + theirs.take(1)))});
rotate();
$id = reencrypt('theirs.bait', 'secret', '{id}');
wait_state($id, 'finished', q{a stranger's table});
is($node->safe_psql('fleet', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'stranger'}), 'f', 'his code runs as him');

#
# Values that cannot be opened, and a name that two drones have under two keys.
#
$node->safe_psql('fleet', q{
	UPDATE public.vault SET secret = (SELECT secret FROM public.vault WHERE id = 2) WHERE id = 1;
	INSERT INTO core.drones (drone_id, call_sign, drone_type) SELECT md5(i::text)::uuid, 'drone ' || i, 'vtol' FROM generate_series(1, 300) AS i;
	SELECT count(core.set_drone_serial_number(drone_id, 'SN ' || call_sign)) FROM core.drones});
rotate();
$id = reencrypt('public.vault', 'secret', '{id}');
wait_state($id, 'failed', 'a value that was moved to another row is not re-encrypted');
like($node->safe_psql('fleet', "SELECT error FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'"),
	qr/^1 value could not be re-encrypted; row \(\d+,\d+\) of table "vault": its value cannot be opened$/, 'its place is told');
is($node->safe_psql('fleet', $left), '1', 'all the others are');
$node->safe_psql('fleet', 'DELETE FROM public.vault WHERE id = 1');
$node->safe_psql('fleet', "SELECT sentient_edge.reencrypt_resume('$id')");
wait_state($id, 'finished', 'when it is gone, a resumed re-encryption ends');

($status, $out, $err) = $node->psql('fleet', "SELECT core.set_drone_serial_number(md5('2')::uuid, 'SN drone 1')");
like($err, qr/another drone has this serial number/, 'a serial number is unique across search keys');
$node->safe_psql('fleet', q{UPDATE core.drones SET serial_number = sentient_edge.seal('SN drone 1', 'core.drones.serial_number:' || drone_id, true) WHERE drone_id = md5('2')::uuid});
$id = reencrypt('core.drones', 'serial_number');
wait_state($id, 'failed', 'two of a kind, which no index had seen, are found by re-encryption');
like($node->safe_psql('fleet', "SELECT error FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'"),
	qr/row \(\d+,\d+\) of table "drones": duplicate key value violates unique constraint "drones_serial_number_key"/, 'and told');
is($node->safe_psql('fleet', q{SELECT count(*) FROM core.drones WHERE call_sign NOT IN ('drone 1', 'drone 2') AND core.find_drone_by_serial_number('SN ' || call_sign) = drone_id}), '298', 'the other drones are found');
$node->safe_psql('fleet', q{SELECT core.set_drone_serial_number(md5('2')::uuid, 'SN drone 2')});
$node->safe_psql('fleet', "SELECT sentient_edge.reencrypt_resume('$id')");
wait_state($id, 'finished', 'corrected, it goes on');
is($node->safe_psql('fleet', q{SELECT count(*) FROM core.drones WHERE core.find_drone_by_serial_number('SN ' || call_sign) = drone_id}), '300', 'and every drone is found');
$node->safe_psql('fleet', q{SET application_name = 'reader'; SELECT count(core.drone_serial_number(drone_id)) FROM core.drones});
sentient_wait($node, 'fleet', q{SELECT count(*) = 1 AND max((details ->> 'values')::integer) = 300 FROM audit.security_events WHERE event_type = 'unseal' AND application_name = 'reader'},
	'who reads them all makes one security event');
is($node->safe_psql('fleet', q{SELECT count(*) FROM audit.security_events WHERE event_type = 'unseal' AND application_name ~ 're-encryption'}), '0', 'the worker makes none');
is($node->safe_psql('fleet', q{SELECT count(*) FROM core.drones WHERE updated_at > created_at + interval '1 hour'}), '0', 'updated_at stays');

#
# A table that goes away; the database wanted for somebody.
#
rotate();
rest(60_000);
$id = reencrypt('public.logs', 'secret');
$node->poll_query_until('fleet', "SELECT values_done > 0 FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'");
$node->safe_psql('fleet', 'DROP TABLE public.logs');
rest(0);
wait_state($id, 'failed', 'a table that is dropped ends its re-encryption');
$id = $node->safe_psql('fleet', q{BEGIN; SELECT sentient_edge.reencrypt('public.letters', 'secret', '{id}'); ALTER TABLE public.letters RENAME COLUMN id TO letter_id; COMMIT});
wait_state($id, 'failed', 'so does a column of the context that has another name');
rest(60_000);

sentient_database($node, 'other');
$node->safe_psql('other', q{
	INSERT INTO core.drones (drone_id, call_sign, drone_type) SELECT md5(i::text)::uuid, 'drone ' || i, 'vtol' FROM generate_series(1, 300) AS i;
	SELECT count(core.set_drone_serial_number(drone_id, 'SN ' || call_sign)) FROM core.drones});
rotate('other');
$node->safe_psql('other', q{SELECT sentient_edge.reencrypt('core.drones', 'serial_number')});
sentient_wait($node, 'other', 'SELECT values_done > 0 FROM sentient_edge.reencrypt_progress', 'another database is at it');
$node->safe_psql('postgres', 'ALTER DATABASE other RENAME TO another');
pass('its worker makes way for a RENAME');
sentient_wait($node, 'another', "SELECT blocks_done > 0 AND ($worker) > 0 FROM sentient_edge.reencrypt_progress", 'and is back afterwards');
$node->safe_psql('another', 'SELECT sentient_edge.reencrypt_pause(reencryption_id) FROM sentient_edge.reencryptions');

#
# A dump of it is restored, and goes on there.
#
my $dump = $node->basedir . '/another.sql';
command_ok([ 'pg_dump', '-f', $dump, $node->connstr('another') ], 'a dump while it is paused');
$node->safe_psql('postgres', 'DROP DATABASE another');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
run([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', $dump, $node->connstr('restored') ], '<', '/dev/null', '2>', \$err);
is($err, '', 'is restored');
rest(0);
$node->safe_psql('restored', 'SELECT sentient_edge.reencrypt_resume(reencryption_id) FROM sentient_edge.reencryptions');
sentient_wait($node, 'restored', "SELECT state = 'finished' FROM sentient_edge.reencryptions", 'and goes on there');
is($node->safe_psql('restored', q{SELECT count(DISTINCT sentient_edge.sealed_key_id(serial_number)) FROM core.drones}), '1', 'to its end');

#
# A restore locks the audit trail, then the keys, while a key is being made, which
# locks them the other way round: the restore must not be the victim.
#
sentient_database($node, 'fresh');
my ($maker, $restorer) = ({ out => '' }, { out => '' });
$restorer->{handle} = start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('fresh'), map { ('-c', $_) } (
			# later than the key worker looks for a deadlock, be the machine ever so slow
			q{SET deadlock_timeout = '60s'}, q{BEGIN}, q{LOCK TABLE audit.log IN ACCESS EXCLUSIVE MODE},
			q{DO $$BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND relation = 'audit.log'::regclass AND backend_type = 'sentient_edge key worker') LOOP PERFORM pg_stat_clear_snapshot(); PERFORM pg_sleep(0.01); END LOOP; END$$},
			q{SELECT pg_sleep(1.5)}, q{LOCK TABLE sentient_edge.data_keys IN SHARE ROW EXCLUSIVE MODE}, q{COMMIT}, q{SELECT 'restored'}) ],
	'<', '/dev/null', '>', \$restorer->{out}, '2>', \$restorer->{out});
sentient_wait($node, 'fresh', q{SELECT count(*) > 0 FROM pg_locks WHERE granted AND relation = 'audit.log'::regclass AND mode = 'AccessExclusiveLock'}, 'somebody has the audit trail to himself');
$maker->{handle} = start([ 'psql', '-XAtq', '-d', $node->connstr('fresh'), '-c', q{SELECT sentient_edge.seal('first use', 'a:1')} ],
	'<', '/dev/null', '>', \$maker->{out}, '2>', \$maker->{out});
$restorer->{handle}->finish;
$maker->{handle}->finish;
like($restorer->{out}, qr/^restored$/m, 'who has the audit trail gets the keys');
is($node->safe_psql('fresh', q{SELECT sentient_edge.unseal(sentient_edge.seal('second use', 'a:1'), 'a:1')}), 'second use', 'and keys are made afterwards');

#
# A standby reads, and goes on once it is promoted.
#
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
rotate();
rest(60_000);
$id = reencrypt('public.vault', 'secret', '{id}');
$node->poll_query_until('fleet', "SELECT values_done > 0 FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'");
$node->wait_for_catchup($standby);
is($standby->safe_psql('fleet', $wrong), '0', 'the standby opens values of old and new keys');
is($standby->safe_psql('fleet', q{SELECT core.drone_serial_number(core.find_drone_by_serial_number('SN drone 5'))}), 'SN drone 5', 'and finds a drone');
($status, $out, $err) = $standby->psql('fleet', "SELECT sentient_edge.reencrypt_pause('$id')");
like($err, qr/read-only transaction/, 'but nothing is changed there');
is($standby->safe_psql('postgres', $worker), '0', 'no worker runs there');
$node->stop('immediate');
$standby->promote;
$standby->safe_psql('fleet', 'ALTER SYSTEM SET sentient_edge.reencrypt_delay = 0');
$standby->reload;
sentient_wait($standby, 'fleet', "SELECT state = 'finished' FROM sentient_edge.reencrypt_progress WHERE reencryption_id = '$id'", 'after the promotion it goes on there');
is($standby->safe_psql('fleet', $left), '0', 'to its end');
is($standby->safe_psql('fleet', $wrong), '0', 'with every value');

unlike(slurp_file($_->logfile), qr/PANIC|sentient_edge assertion|TRAP/, 'no assertion failed') for $node, $standby;
$standby->stop;
done_testing();
