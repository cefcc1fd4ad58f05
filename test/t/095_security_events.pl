# Security events: each source, storms and overflow, crash and restart, standby,
# restore, a server that does not preload the library; and that no secret is told.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use SentientEdge;

my $node = sentient_server('events', durable => 1,
	init => { allows_streaming => 1, auth_extra => [ '--create-role', 'gast' ] },
	conf => "sentient_edge.audit_event_window = 1\nsentient_edge.partition_maintenance_interval = 2\nsentient_edge.audit_event_slots = 64\nlisten_addresses = '127.0.0.1'");
sentient_database($node, 'fleet');
sentient_wait($node, 'fleet', "SELECT count(*) > 0 FROM sentient_edge.workers WHERE worker = 'security events' AND runs > 0", 'the job runs');

# How many events there are of this kind; waits for them.
sub event
{
	my ($type, $where, $what) = @_;

	return sentient_wait($node, 'fleet',
		"SELECT coalesce(sum(event_count), 0) > 0 FROM audit.security_events WHERE event_type = '$type' AND $where", $what);
}

sub count_of
{
	my ($where) = @_;

	return $node->safe_psql('fleet', "SELECT coalesce(sum(event_count), 0) FROM audit.security_events WHERE $where");
}

# ---- logins ----
$node->safe_psql('postgres', q{
	CREATE ROLE gast LOGIN PASSWORD 'canary-password';
	CREATE ROLE closed NOLOGIN;
	CREATE DATABASE plain});
unlink($node->data_dir . '/pg_hba.conf');
$node->append_conf('pg_hba.conf',
	"local replication all trust\nlocal all gast scram-sha-256\nlocal all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
$node->reload;

sub connect_as
{
	my ($user, $database, %env) = @_;
	local %ENV = (%ENV, PGUSER => $user, PGAPPNAME => 'guest app', %env);
	my ($out, $err) = ('', '');

	return IPC::Run::run([ 'psql', '-X', '-w', '-d', $node->connstr($database), '-c', 'SELECT 1' ], '>', \$out, '2>', \$err);
}

ok(connect_as('gast', 'fleet', PGPASSWORD => 'canary-password'), 'a login');
event('login', "succeeded AND username = 'gast' AND db_role = 'gast' AND application_name = 'guest app' AND details->>'method' = 'scram-sha-256'",
	'is an event');
ok(!connect_as('gast', 'fleet', PGPASSWORD => 'canary-wrong'), 'a wrong password');
event('login', "NOT succeeded AND username = 'gast' AND db_role IS NULL AND details->>'sqlstate' = '28P01' AND severity = 'warning'", 'is an event');
ok(!connect_as('nobody', 'fleet'), 'an unknown role');
event('login', "NOT succeeded AND username = 'nobody' AND details->>'sqlstate' LIKE '28%'", 'is an event');
ok(!connect_as('closed', 'fleet'), 'a role that may not log in');
event('login', "NOT succeeded AND username = 'closed'", 'is an event');
is(count_of("event_type = 'login' AND succeeded AND username IN ('nobody', 'closed')"), '0', 'neither has succeeded first');
{
	local $ENV{PGPASSWORD} = 'canary-wrong';
	IPC::Run::run([ 'psql', '-X', '-w', '-h', '127.0.0.1', '-p', $node->port, '-U', 'gast', '-c', 'SELECT 1', 'fleet' ], '>', \my $o, '2>', \my $e);
}
event('login', "NOT succeeded AND client_addr = '127.0.0.1'", 'the address is known');

# Of a database without the extension, failures are counted, no more: once the server has learned its databases.
is($node->safe_psql('fleet', "SELECT count(*) FROM audit.security_events WHERE event_type = 'login' AND username IS NULL"), '0', 'a login has a name');

# ---- a storm is one event a window ----
my $began = time;
connect_as('stormy', 'fleet') for 1 .. 40;
my $seconds = time - $began;
sentient_wait($node, 'fleet', "SELECT coalesce(sum(event_count), 0) = 40 FROM audit.security_events WHERE username = 'stormy'", 'a storm is counted to the last');
cmp_ok($node->safe_psql('fleet', "SELECT count(*) FROM audit.security_events WHERE username = 'stormy'"), '<=', $seconds + 3, 'in a few rows');

# ---- roles ----
$node->safe_psql('fleet', q{
	CREATE ROLE pilot LOGIN PASSWORD 'canary-pilot';
	ALTER ROLE pilot PASSWORD 'canary-pilot2' VALID UNTIL '2099-01-01';
	GRANT sentient_viewer TO pilot;
	CREATE TABLE cargo (id int PRIMARY KEY, secret text);
	INSERT INTO cargo SELECT n, 'canary-cargo' FROM generate_series(1, 3000) n;
	GRANT SELECT (id) ON cargo TO pilot;
	ALTER ROLE pilot SET work_mem = '8MB'});
is(count_of("event_type = 'role_changed' AND succeeded AND object = 'pilot'"), '3', 'roles: created, altered, given a parameter');
is(count_of("event_type = 'role_changed' AND object = 'sentient_viewer' AND details->>'to' = 'pilot'"), '1', 'a membership');
is(count_of("event_type = 'privilege_changed' AND object = 'cargo' AND details->>'to' = 'pilot' AND details->>'privileges' = 'select'"), '1', 'a privilege');
is(count_of("event_type = 'ddl' AND object = 'public.cargo' AND details->>'command' = 'CREATE TABLE'"), '1', 'DDL');
$node->safe_psql('postgres', "CREATE ROLE elsewhere");
event('role_changed', "object = 'elsewhere'", 'a role that is created in another database');
$node->safe_psql('plain', "CREATE ROLE faraway; ALTER SYSTEM SET autovacuum_naptime = '2min'; CREATE DATABASE third; DROP DATABASE third");
event('role_changed', "object = 'faraway'", 'or in one without the extension');
event('setting_changed', "object = 'autovacuum_naptime' AND details->>'command' = 'ALTER SYSTEM'", 'ALTER SYSTEM');
event('database_changed', "object = 'third' AND details->>'command' = 'DROP DATABASE'", 'DROP DATABASE');
$node->reload;
event('setting_changed', "object = 'autovacuum_naptime' AND message LIKE 'configuration%'", 'a reload that changes something');

# ---- what fails or is rolled back ----
$node->psql('fleet', 'CREATE TABLE cargo (id int)');
event('ddl', "NOT succeeded AND object = 'cargo' AND details->>'sqlstate' = '42P07'", 'DDL that failed');
$node->safe_psql('fleet', 'BEGIN; CREATE ROLE shortlived; CREATE TABLE shortlived (); ROLLBACK');
event('role_changed', "NOT succeeded AND object = 'shortlived' AND message = 'rolled back'", 'a role that is rolled back');
event('ddl', "NOT succeeded AND object = 'public.shortlived' AND message = 'rolled back'", 'DDL that is rolled back');
$node->safe_psql('fleet', 'BEGIN; CREATE TABLE kept (); SAVEPOINT s; CREATE TABLE unkept (); ROLLBACK TO s; COMMIT');
event('ddl', "NOT succeeded AND object = 'public.unkept'", 'a subtransaction that is rolled back');
is(count_of("object = 'public.kept' AND succeeded"), '1', 'the rest is kept');
is(count_of("object = 'public.kept' AND NOT succeeded"), '0', 'once');

# ---- denied ----
$node->psql('fleet', 'SET ROLE pilot; SELECT secret FROM cargo');
event('denied', "object = 'table cargo' AND db_role = current_user AND details->>'role' = 'pilot' AND details->>'command' = 'SELECT'", 'a table that may not be read');
event('role_set', "object = 'pilot' AND details->>'command' = 'SET ROLE'", 'SET ROLE');
$node->psql('fleet', 'SET ROLE pilot; SELECT * FROM auth.users');
event('denied', "object = 'schema auth'", 'a schema that may not be used');
$node->psql('fleet', 'SET ROLE pilot; DROP TABLE cargo');
event('denied', "object = 'table cargo' AND details->>'command' = 'DROP TABLE'", 'a table that may not be dropped');
$node->safe_psql('fleet', q{SET ROLE pilot;
	DO $$ BEGIN DELETE FROM cargo; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$});
event('denied', "object = 'table cargo' AND details->>'command' = 'DELETE'", 'an error that is caught');
$node->psql('fleet', q{DO $$ BEGIN RAISE insufficient_privilege USING MESSAGE = 'canary-raised'; END $$});
event('denied', "message IS NULL AND details->>'command' = 'DO'", 'an error that a function raises, without its words');
is($node->safe_psql('fleet', "SELECT max(event_count) FROM audit.security_events WHERE event_type = 'denied'"), '1', 'each is counted once');
$node->psql('fleet', "SELECT set_config('role', 'pilot', false); SELECT secret FROM cargo");
event('role_set', "object = 'pilot' AND occurred_at > now() - interval '1 minute'", 'a role that set_config takes');
$node->psql('fleet', "SET SESSION AUTHORIZATION pilot; SELECT 1");
event('role_set', "object = 'pilot' AND details->>'command' = 'SET SESSION AUTHORIZATION'", 'SET SESSION AUTHORIZATION');
$node->safe_psql('fleet', 'SET session_replication_role = replica; SELECT 1');
event('setting_changed', "object = 'session_replication_role'", 'triggers that are switched off');

# ---- bulk reads ----
sub rows_of
{
	my ($command) = @_;
	my $query = "SELECT coalesce(sum((details->>'rows')::int), 0) FROM audit.security_events WHERE event_type = 'bulk_read' AND details->>'command' = '$command'";

	return $query;
}
$node->safe_psql('fleet', "SELECT audit.watch('cargo', 1000)");
is(count_of("event_type = 'audit_changed' AND object = 'public.cargo' AND details->>'operation' = 'watch'"), '1', 'to watch is an event');
$node->safe_psql('fleet', 'SELECT count(*) FROM (SELECT * FROM cargo LIMIT 999) c; SELECT * FROM cargo WHERE id = 7');
$node->safe_psql('fleet', 'SELECT * FROM cargo');
sentient_wait($node, 'fleet', 'SELECT (' . rows_of('SELECT') . ') = 3000', 'a SELECT of all rows, and none of few');
$node->safe_psql('fleet', 'COPY cargo TO STDOUT');
sentient_wait($node, 'fleet', 'SELECT (' . rows_of('COPY') . ') = 3000', 'COPY');
$node->safe_psql('fleet', 'CREATE TABLE copied AS SELECT * FROM cargo');
sentient_wait($node, 'fleet', 'SELECT (' . rows_of('SELECT') . ') = 6000', 'CREATE TABLE AS');
$node->safe_psql('fleet', q{SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
	ALTER TABLE cargo SET (parallel_workers = 2);
	SELECT count(*) FROM cargo});
sentient_wait($node, 'fleet', 'SELECT (' . rows_of('SELECT') . ') = 9000', 'parallel workers count');
$node->safe_psql('fleet', 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM cargo; FETCH 1500 FROM c; FETCH 300 FROM c; ROLLBACK');
sentient_wait($node, 'fleet', 'SELECT (' . rows_of('SELECT') . ') = 10800', 'a cursor that is rolled back');
$node->psql('fleet', 'SELECT 1 / (2500 - id) FROM cargo ORDER BY id');
event('bulk_read', 'NOT succeeded', 'a read that ends with an error');
my $dump = $node->basedir . '/fleet';
command_ok([ 'pg_dump', '-f', "$dump.sql", '-d', $node->connstr('fleet') ], 'pg_dump');
sentient_wait($node, 'fleet', 'SELECT (' . rows_of('COPY') . ') = 6000', 'is a bulk read');
$node->safe_psql('fleet', q{
	CREATE TABLE parted (id int) PARTITION BY RANGE (id);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (2000);
	INSERT INTO parted SELECT generate_series(0, 1999);
	SELECT audit.watch('parted', 1500)});
$node->safe_psql('fleet', 'SELECT * FROM parted_1');
event('bulk_read', "object = 'public.parted'", 'a partition of a watched table');
is($node->safe_psql('fleet', "SELECT audit.unwatch('parted')"), 't', 'no longer');
$node->safe_psql('fleet', 'DROP TABLE copied, parted');
is($node->safe_psql('fleet', 'SELECT string_agg(watched_table::text, $$,$$) FROM audit.watched_tables'), 'cargo', 'what is watched');

# ---- superusers, extensions, the event triggers ----
$node->safe_psql('fleet', "UPDATE core.drones SET call_sign = call_sign; TRUNCATE core.ai_models");
event('superuser', "object = 'core.drones' AND message = 'update' AND severity = 'notice'", 'a superuser writes');
event('superuser', "object = 'core.ai_models' AND details->>'command' = 'TRUNCATE TABLE'", 'and truncates');
$node->safe_psql('fleet', 'COPY cargo TO PROGRAM $$cat >/dev/null # canary-program$$');
event('superuser', "object = 'program'", 'COPY TO PROGRAM, without the command');
# Catalogs, by whatever command; those of the whole server from any database.
my $empty = $node->basedir . '/empty';
append_to_file($empty, '');
$node->safe_psql('fleet', "COPY pg_description FROM STDIN;\n\\.\nCOPY audit.log FROM STDIN;\n\\.\nCOPY pg_authid FROM '$empty';
	SET allow_system_table_mods = on; BEGIN; TRUNCATE core.ai_models, pg_seclabel; ROLLBACK");
event('superuser', "object = 'pg_catalog.pg_description' AND severity = 'warning' AND details->>'command' = 'COPY' AND details->>'direction' = 'from'", 'COPY into a catalog');
event('superuser', "object = 'audit.log' AND severity = 'notice' AND details->>'command' = 'COPY' AND details->>'direction' = 'from'", 'COPY into the audit trail');
event('superuser', "object = 'file' AND severity = 'warning' AND details->>'table' = 'pg_catalog.pg_authid' AND details->>'direction' = 'from'", 'COPY of a file into a catalog');
event('superuser', "object = 'core.ai_models, pg_catalog.pg_seclabel' AND severity = 'warning' AND details->>'command' = 'TRUNCATE TABLE'", 'TRUNCATE of a catalog');
$node->psql('fleet', "COPY pg_class FROM STDIN;\nnonsense\n\\.\n");
event('superuser', "NOT succeeded AND object = 'pg_catalog.pg_class' AND details->>'sqlstate' = '22P02'", 'a COPY that fails');
$node->safe_psql('plain', "UPDATE pg_authid SET rolvaliduntil = NULL WHERE rolname = 'closed'; COPY pg_auth_members FROM STDIN;\n\\.\nCOPY pg_tablespace FROM '$empty';
	UPDATE pg_description SET description = description WHERE false");
event('superuser', "object = 'pg_catalog.pg_authid' AND message = 'update' AND severity = 'warning'", 'a superuser writes to a catalog of the whole server elsewhere');
event('superuser', "object = 'pg_catalog.pg_auth_members' AND details->>'direction' = 'from'", 'COPY there');
event('superuser', "object = 'file' AND details->>'table' = 'pg_catalog.pg_tablespace'", 'and of a file');
is(count_of("event_type = 'superuser' AND object = 'pg_catalog.pg_description' AND message = 'update'"), '0', "another database's own catalogs are its own");
$node->safe_psql('fleet', 'CREATE EXTENSION pg_trgm; DROP EXTENSION pg_trgm');
is(count_of("event_type = 'extension_changed' AND object = 'pg_trgm'"), '2', 'extensions');
$node->safe_psql('fleet', 'ALTER EVENT TRIGGER sentient_edge_record_ddl DISABLE; ALTER EVENT TRIGGER sentient_edge_record_ddl ENABLE ALWAYS');
is(count_of("event_type = 'audit_changed' AND severity = 'alert' AND object = 'sentient_edge_record_ddl'"), '1', 'an event trigger that is disabled is an alert');
is(count_of("event_type = 'superuser' AND application_name LIKE 'sentient_edge%'"), '0', 'workers are no superusers who act');

# ---- nothing secret ----
is($node->safe_psql('fleet', "SELECT count(*) FROM audit.security_events e WHERE e::text LIKE '%canary%'"), '0', 'no secret is in an event');

# ---- overflow: more kinds of events than there is room for ----
$node->safe_psql('fleet', q{DO $$ BEGIN FOR n IN 1 .. 400 LOOP
	BEGIN EXECUTE format('ALTER TABLE no_such_table_%s ADD a int', n); EXCEPTION WHEN undefined_table THEN NULL; END;
END LOOP; END $$});
sentient_wait($node, 'fleet', q{SELECT coalesce(sum(event_count), 0) = 400 FROM audit.security_events
	WHERE event_type = 'events_lost' OR (event_type = 'ddl' AND NOT succeeded AND (object LIKE 'no_such_table%' OR message LIKE 'several%'))},
	'what there is no room for is counted, to the last');
cmp_ok($node->safe_psql('fleet', 'SELECT count(*) FROM audit.security_events WHERE object LIKE $$no_such_table%$$'), '<', 300, 'it does not flood the table');

# ---- restart: what waits is kept; kill -9: the events go on ----
connect_as('restarting', 'fleet') for 1 .. 5;
$node->restart;
sentient_wait($node, 'fleet', "SELECT coalesce(sum(event_count), 0) = 5 FROM audit.security_events WHERE username = 'restarting'", 'a restart loses nothing');
my $scheduler = $node->safe_psql('fleet', "SELECT pid FROM sentient_edge.workers WHERE worker = 'scheduler' AND database = 'fleet'");
kill 'KILL', $scheduler;
# Not through poll_query_until: psql may be gone before its standard input is written.
my $back = '';
for (1 .. 1800)
{
	IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'fleet' AND backend_type = 'sentient_edge scheduler' AND pid <> $scheduler" ],
		'<', '/dev/null', '>', \$back, '2>', '/dev/null');
	last if $back eq "t\n";
	usleep(100_000);
}
is($back, "t\n", 'the scheduler is back after kill -9');
connect_as('revenant', 'fleet');
event('login', "username = 'revenant'", 'after kill -9 events are written again');

# ---- a file of waiting events that is torn, foreign, or holds anything ----
my $file = $node->data_dir . '/pg_stat/sentient_edge_events.stat';
sub with_file
{
	my ($spoil, $what) = @_;
	my $lost = count_of("event_type = 'events_lost' AND message LIKE '%file is damaged'");

	# The scheduler may have written them already: once more, then.
	for (1 .. 100)
	{
		connect_as('waiting', 'fleet') for 1 .. 3;
		$node->stop;
		last if -f $file && -s $file > 1000;
		$node->start;
	}
	my $bytes = slurp_file($file);
	open my $out, '>:raw', $file or die "$file: $!";
	print $out $spoil->($bytes);
	close $out;
	$node->start;
	sentient_wait($node, 'fleet', "SELECT coalesce(sum(event_count), 0) > $lost FROM audit.security_events WHERE event_type = 'events_lost' AND message LIKE '%file is damaged'",
		"$what: is told by an event");
	ok(!-f $file, "$what: the file is gone");
	connect_as('goes on', 'fleet');
	event('login', "username = 'goes on'", "$what: events are written as ever");
	return;
}
with_file(sub { return '' }, 'an empty file');
with_file(sub { return substr($_[0], 0, length($_[0]) - 100) }, 'a torn file');
with_file(sub { my ($b) = @_; substr($b, 60, 4) = "\xff\xfe\xfd\xfc"; return $b }, 'a changed byte');
with_file(sub { return "\xff" x 5000 }, 'bytes of something else');
with_file(sub { return substr($_[0], 0, 12) . "\xff\xff\xff\x7f" . substr($_[0], 16) }, 'a count without end');
# Whoever can write the file can compute its checksum: what an event says is looked at, too.
sub crc32c
{
	my $crc = 0xffffffff;
	for my $byte (unpack 'C*', shift)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 for 1 .. 8;
	}
	return pack 'L', $crc ^ 0xffffffff;
}
with_file(
	sub {
		my ($bytes) = @_;
		my $event_bytes = unpack 'x8 L', $bytes;
		my $event = substr $bytes, 16, $event_bytes;
		my $header = substr($bytes, 0, 12) . pack 'L', 1;

		# the members of the details, and the strings, no longer end
		substr($event, 64, 3 * 64) = "\xff" x (3 * 64);
		return $header . $event . crc32c($event . $header);
	},
	'an event that is none');

# ---- an event that cannot be written: what it tells of fails ----
$node->safe_psql('fleet', "ALTER TABLE audit.security_events ADD CONSTRAINT refused CHECK (object NOT LIKE '%refused%') NOT VALID");
for my $command ('CREATE TABLE public.refused ()', 'CREATE ROLE refused', 'GRANT pg_monitor TO refused_not', 'CREATE FUNCTION public.refused() RETURNS int LANGUAGE sql AS $$SELECT 1$$')
{
	isnt(($node->psql('fleet', $command))[0], 0, "fails with its event: $command");
}
is($node->safe_psql('fleet', "SELECT to_regclass('public.refused') IS NULL AND to_regprocedure('public.refused()') IS NULL AND to_regrole('refused') IS NULL"), 't', 'nothing was made');
$node->safe_psql('fleet', 'ALTER TABLE audit.security_events DROP CONSTRAINT refused');
$node->safe_psql('fleet', 'CREATE TABLE public.refused ()');

# ---- tablespaces, what roles own, replication ----
my $space = $node->basedir . '/space';
mkdir $space or die "$space: $!";
$node->safe_psql('fleet', "CREATE TABLESPACE far LOCATION '$space'");
$node->safe_psql('fleet', 'ALTER TABLESPACE far SET (seq_page_cost = 2)');
$node->safe_psql('fleet', 'ALTER TABLESPACE far RENAME TO farther');
$node->safe_psql('fleet', 'CREATE TABLE public.distant (id int) TABLESPACE farther');
$node->safe_psql('fleet', 'DROP TABLE public.distant');
$node->safe_psql('fleet', 'DROP TABLESPACE farther');
event('database_changed', "object = '$_->[0]' AND details->>'command' = '$_->[1]'", $_->[1])
  for [ 'far', 'CREATE TABLESPACE' ], [ 'far', 'ALTER TABLESPACE' ], [ 'farther', 'DROP TABLESPACE' ];
is(count_of("event_type = 'database_changed' AND details->>'options' = 'seq_page_cost'"), '1', 'an option of a tablespace');
$node->psql('fleet', "CREATE TABLESPACE nowhere LOCATION '/no/such/folder'");
event('database_changed', "NOT succeeded AND object = 'nowhere'", 'a tablespace that is not made');
$node->safe_psql('fleet', q{CREATE ROLE leaver; CREATE ROLE heir;
	CREATE TABLE public.left_behind (); ALTER TABLE public.left_behind OWNER TO leaver; GRANT SELECT ON cargo TO leaver;
	REASSIGN OWNED BY leaver TO heir; DROP OWNED BY leaver; DROP OWNED BY heir});
event('role_changed', "object = 'leaver' AND details->>'command' = 'REASSIGN OWNED' AND details->>'to' = 'heir'", 'REASSIGN OWNED');
event('role_changed', "object = '$_' AND details->>'command' = 'DROP OWNED'", "DROP OWNED BY $_") for qw(leaver heir);
event('ddl', "object = 'public.left_behind' AND details->>'command' = 'DROP OWNED'", 'and what it dropped');

ok(IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('fleet') . ' replication=true', '-c', 'IDENTIFY_SYSTEM' ], '>', \my $identified, '2>', \my $trouble), 'a replication connection');
event('login', "succeeded AND details->>'replication' = 'on'", 'is an event');
$node->safe_psql('postgres', q{CREATE ROLE copier LOGIN PASSWORD 'canary-copier'});
$node->append_conf('pg_hba.conf', 'host replication all 127.0.0.1/32 scram-sha-256');
$node->reload;
{
	local $ENV{PGPASSWORD} = 'canary-copier';
	ok(!IPC::Run::run([ 'psql', '-XAtq', '-d', 'host=127.0.0.1 port=' . $node->port . ' user=copier replication=true', '-c', 'IDENTIFY_SYSTEM' ],
		'>', \$identified, '2>', \$trouble), 'a role without the right to replicate');
}
event('login', "NOT succeeded AND username = 'copier'", 'is one, too');

# ---- the database can be dropped and renamed ----
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE fleet');
sentient_wait($node, 'copy', "SELECT count(*) > 0 FROM sentient_edge.workers WHERE database = 'copy' AND worker = 'security events' AND runs > 0", 'a copy has its own events');
connect_as('copycat', 'copy');
sentient_wait($node, 'copy', "SELECT count(*) > 0 FROM audit.security_events WHERE username = 'copycat'", 'there');
is(count_of("username = 'copycat'"), '0', 'not here');
$node->safe_psql('postgres', 'DROP DATABASE copy');
pass('DROP DATABASE is not blocked');

# ---- restore ----
$node->safe_psql('fleet', 'CREATE TABLE dumped AS SELECT md5(e::text) AS row FROM audit.security_events e');
command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", '-d', $node->connstr('fleet') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '-j', '2', '-d', $node->connstr('restored'), "$dump.custom" ], 'pg_restore');
sentient_wait($node, 'restored', "SELECT count(*) > 0 FROM audit.security_events WHERE event_type = 'restore'", 'the restore is an event');
my $since = $node->safe_psql('restored', "SELECT min(occurred_at) FROM audit.security_events WHERE event_type = 'restore'");
is($node->safe_psql('restored', "SELECT bool_and(details->>'restore' = 'true') AND bool_or(object = 'public.cargo') FROM audit.security_events WHERE event_type = 'ddl' AND details->>'command' = 'CREATE TABLE' AND occurred_at > '$since'"),
	't', 'its commands are events that say so');
is($node->safe_psql('restored', 'SELECT count(*) FROM audit.restore_events'), '0', 'which have come to where they belong');
$node->safe_psql('restored', 'CREATE TABLE after_all ()');
is($node->safe_psql('restored', "SELECT details ? 'restore' FROM audit.security_events WHERE object = 'public.after_all'"), 'f', 'later ones are not of the restore');
is($node->safe_psql('restored', 'SELECT count(*) FROM dumped WHERE row NOT IN (SELECT md5(e::text) FROM audit.security_events e)'),
	'0', 'the events of the dump are equal');
is($node->safe_psql('restored', 'SELECT watched_table, rows_threshold FROM audit.watched_tables'), 'cargo|1000', 'watched tables are restored');
$node->safe_psql('postgres', 'DROP DATABASE restored');

# ---- standby ----
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('events_standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $asked = $standby->safe_psql('fleet', 'SELECT clock_timestamp()');
$standby->psql('fleet', 'SET ROLE pilot; SELECT secret FROM cargo');
like(slurp_file($standby->logfile), qr/security event on a standby: denied of role/, 'a standby logs its events');
my $waiting = $standby->safe_psql('fleet', 'SELECT slots_in_use FROM audit.event_statistics()');
cmp_ok($waiting, '>', 0, 'and keeps them');
$node->stop;
$standby->promote;
sentient_wait($standby, 'fleet',
	"SELECT count(*) > 0 FROM audit.security_events WHERE event_type = 'denied' AND object = 'table cargo' AND occurred_at > '$asked'",
	'until it is promoted') or diag $standby->safe_psql('fleet', 'SELECT * FROM audit.event_statistics()');
unlike(slurp_file($standby->logfile), qr/PANIC|TRAP|sentient_edge assertion/, 'no assertion failed');
$standby->stop;

# ---- a key: events carry a MAC, and key operations and opened values are events ----
delete @ENV{qw(SENTIENT_EDGE_MASTER_KEY DATABASE_ENCRYPTION_KEY)};
my $keyed = sentient_server('keyed', start => 0, conf => 'sentient_edge.audit_event_window = 1');
{
	local $ENV{SENTIENT_EDGE_MASTER_KEY} = '8f1c3a5e7092b4d6f80a1c3e5072941b5d7f9a1c3e5f7082a4c6e80b2d4f6172';
	$keyed->start;
}
sentient_database($keyed, 'fleet');
sentient_wait($keyed, 'fleet', "SELECT count(*) = 1 FROM sentient_edge.data_keys WHERE purpose = 'audit_mac'", 'the key of the MAC is made');
$keyed->safe_psql('fleet', q{CREATE TABLE signed ();
	SELECT sentient_edge.unseal(sentient_edge.seal('canary-sealed', 'a.b.c:' || n), 'a.b.c:' || n) FROM generate_series(1, 7) n;
	SELECT sentient_edge.rotate_data_key('field')});
sentient_wait($keyed, 'fleet', "SELECT (details->>'values')::int = 7 FROM audit.security_events WHERE event_type = 'unseal' AND succeeded", 'opened values are counted');
sentient_wait($keyed, 'fleet', "SELECT count(*) >= 2 FROM audit.security_events WHERE event_type = 'key' AND message = 'key_created'", 'keys that are made');
sentient_wait($keyed, 'fleet', "SELECT count(*) = 1 FROM audit.security_events WHERE event_type = 'key' AND message = 'key_rotated'", 'and rotated');
is($keyed->safe_psql('fleet', "SELECT count(*) FROM audit.security_events WHERE object = 'public.signed' AND mac IS NOT NULL"), '1', 'an event carries a MAC');
is($keyed->safe_psql('fleet', 'SELECT * FROM audit.verify_events()'), '', 'all is well');
my $forge = sub {
	my ($how) = @_;

	return $keyed->safe_psql('fleet', "BEGIN; SET session_replication_role = replica; ALTER TABLE audit.security_events DISABLE TRIGGER USER; $how; SELECT string_agg(finding, ',') FROM audit.verify_events(); ROLLBACK");
};
is($forge->("UPDATE audit.security_events SET object = 'public.other' WHERE object = 'public.signed'"), 'forged', 'a changed object is found');
is($forge->("UPDATE audit.security_events SET details = details || '{\"command\": \"SELECT\"}' WHERE object = 'public.signed'"), 'forged', 'changed details');
is($forge->("UPDATE audit.security_events SET occurred_at = occurred_at - interval '1 us' WHERE object = 'public.signed'"), 'forged', 'a changed time');
is($forge->("UPDATE audit.security_events SET db_role = NULL WHERE object = 'public.signed'"), 'forged', 'a role that was removed');
is($forge->("INSERT INTO audit.security_events (event_type, occurred_at) VALUES ('login', now() + interval '1 minute')"), 'unsigned', 'an event that was written past the server');
is($keyed->safe_psql('fleet', "SELECT count(*) FROM audit.security_events e WHERE e::text LIKE '%canary%'"), '0', 'no secret is in an event');
$keyed->restart;
is($keyed->safe_psql('fleet', "SELECT DISTINCT finding FROM audit.verify_events(to_time => now() - interval '0.1 s') WHERE finding <> 'unsigned'"), 'key_unknown', 'without the master key nobody can say');
$keyed->stop;

# ---- not preloaded ----
my $plain = sentient_server('plain', preload => 0);
sentient_database($plain, 'fleet');
$plain->safe_psql('fleet', "CREATE TABLE seen (); SELECT audit.record_event('app.test', 'info', 'hello'); SELECT audit.watch('seen')");
is($plain->safe_psql('fleet', "SELECT string_agg(event_type, ',' ORDER BY occurred_at) FROM audit.security_events WHERE object IN ('public.seen') OR event_type = 'app.test'"),
	'ddl,app.test,audit_changed', 'not preloaded: DDL and what belongs to a transaction');
my ($status, $out, $err) = $plain->psql('fleet', 'SELECT * FROM audit.event_statistics()');
like($err, qr/not preloaded/, 'and there is no queue');
$plain->stop;

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|sentient_edge assertion/, 'no assertion failed');
done_testing();
