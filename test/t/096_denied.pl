# 096_denied.pl
#		A permission that is denied is an event, whoever catches the error, wherever it
#		is raised, and whatever the server logs; and once.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my $node = sentient_server('denied', conf => 'sentient_edge.audit_event_window = 1');
sentient_database($node, 'fleet');
$node->safe_psql('fleet', q{
	CREATE ROLE pilot LOGIN;
	CREATE SCHEMA vault;
	CREATE TABLE vault.gold (id int);
	CREATE FUNCTION public.hidden() RETURNS int LANGUAGE sql AS 'SELECT 1';
	REVOKE ALL ON FUNCTION public.hidden() FROM PUBLIC;
	CREATE TABLE public.ship (id int);
	GRANT SELECT, INSERT ON public.ship TO pilot});
sentient_wait($node, 'fleet', "SELECT count(*) > 0 FROM sentient_edge.workers WHERE worker = 'security events' AND runs > 0", 'the job runs');

my $mark = 0;

# Do it as a role; then there is one denial of the object, or none.  The application's name tells it from the others.
sub denied
{
	my ($sql, $object, $count, $what) = @_;
	my $name = 'try ' . ++$mark;

	$node->psql('fleet', "SET application_name = '$name'; SET ROLE pilot; $sql; SELECT pg_sleep(0)", on_error_stop => 0);
	# What is recorded later was recorded before it.
	$node->psql('fleet', "SET application_name = '$name'; SET ROLE pilot; SELECT * FROM auth.users");
	sentient_wait($node, 'fleet', "SELECT count(*) > 0 FROM audit.security_events WHERE application_name = '$name' AND object = 'schema auth'", "$what: its turn is over");
	my $where = "application_name = '$name' AND event_type = 'denied' AND object IS DISTINCT FROM 'schema auth'" . ($object ? " AND object = '$object'" : '');
	# Equal events are counted, and the count is written when their window ends.
	sentient_wait($node, 'fleet', "SELECT coalesce(sum(event_count), 0) >= $count FROM audit.security_events WHERE $where", "$what: as often as it was");
	is($node->safe_psql('fleet', "SELECT coalesce(sum(event_count), 0), string_agg(DISTINCT details->>'role', ',') FROM audit.security_events WHERE $where"),
		$count ? "$count|pilot" : '0|', $what);
	return;
}
sub block { my ($statement, $handler) = @_; return "DO \$\$ BEGIN $statement; EXCEPTION WHEN OTHERS THEN " . ($handler // 'NULL') . "; END \$\$"; }

denied('SELECT * FROM vault.gold', 'schema vault', 1, 'a statement that is not analysed to its end');
denied(block('PERFORM * FROM vault.gold'), 'schema vault', 1, 'and whose error is caught');
denied(block("EXECUTE 'SELECT * FROM vault.gold'"), 'schema vault', 1, 'of a command made by a function');
denied(block('PERFORM public.hidden()'), 'function hidden', 1, 'a function');
denied(block('CREATE TABLE vault.more ()'), 'schema vault', 1, 'a command');
denied(block('DELETE FROM public.ship'), 'table ship', 1, 'a table');
denied(block('PERFORM * FROM vault.gold', 'RAISE'), 'schema vault', 1, 'an error that is thrown again');
denied(block(block('PERFORM * FROM vault.gold') =~ s/^DO \$\$ (.*) \$\$$/$1/r), 'schema vault', 1, 'blocks in each other');
denied(block('FOR i IN 1 .. 3 LOOP ' . (block('PERFORM * FROM vault.gold') =~ s/^DO \$\$ (.*) \$\$$/$1/r) . '; END LOOP'), 'schema vault', 3, 'three of them');
denied('BEGIN; SAVEPOINT s; SELECT * FROM vault.gold; ROLLBACK TO s; COMMIT', 'schema vault', 1, 'a savepoint');
denied("SELECT to_regclass('vault.gold')", 'schema vault', 1, 'a name that is looked up');
denied('PREPARE p AS SELECT * FROM vault.gold', 'schema vault', 1, 'a prepared statement');

# Functions that run where no hook is: in the planner, at the end of a statement, at commit.
$node->safe_psql('fleet', q{
	CREATE FUNCTION public.tries() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM * FROM vault.gold; RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN 0; END $$;
	CREATE FUNCTION public.after() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM * FROM vault.gold; RETURN NULL; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.ship DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.after()});
denied('SELECT public.tries()', 'schema vault', 1, 'a function that the planner calls');
denied('INSERT INTO public.ship VALUES (1)', 'schema vault', 1, 'a trigger at commit');
$node->safe_psql('fleet', 'DROP TRIGGER late ON public.ship; CREATE TRIGGER after AFTER INSERT ON public.ship FOR EACH ROW EXECUTE FUNCTION public.after()');
denied('INSERT INTO public.ship VALUES (2)', 'schema vault', 1, 'a trigger at the end of a statement');
denied(q{CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM * FROM vault.gold; RETURN 1; EXCEPTION WHEN insufficient_privilege THEN RETURN 0; END $$;
	SELECT pg_temp.f(); SELECT 1 / 0; SELECT pg_temp.f()}, 'schema vault', 2, 'after an error of another kind, too');
denied('BEGIN; SELECT 1 / 0; SELECT 1; ROLLBACK; ' . block('PERFORM * FROM vault.gold'), 'schema vault', 1, 'after an error in a transaction that had failed');

# Nobody was denied anything.
denied(q{DO $$ BEGIN RAISE insufficient_privilege; EXCEPTION WHEN OTHERS THEN NULL; END $$}, undef, 0, 'what a function raises and catches itself');
denied("SELECT has_schema_privilege('vault', 'USAGE'), has_function_privilege('public.hidden()', 'EXECUTE')", undef, 0, 'questions');
denied('SELECT 1 / 0; SELECT no_such_column; SELECT * FROM public.ship', undef, 0, 'other errors');
denied('REVOKE SELECT ON public.ship FROM PUBLIC', undef, 0, 'a warning of that class');

# The server's log has nothing to do with it.
$node->safe_psql('fleet', "ALTER ROLE pilot SET log_min_messages = 'panic'; GRANT CONNECT ON DATABASE fleet TO pilot");
{
	local $ENV{PGAPPNAME} = 'quiet';
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-X', '-U', 'pilot', '-d', $node->connstr('fleet'), '-c', 'SHOW log_min_messages', '-c', 'SELECT * FROM vault.gold' ], '>', \$out, '2>', \$err);
	like($out . $err, qr/panic.*permission denied for schema vault/s, 'a session that logs nothing');
}
sentient_wait($node, 'fleet', "SELECT count(*) > 0 FROM audit.security_events WHERE application_name = 'quiet' AND object = 'schema vault' AND db_role = 'pilot'", 'is seen');

# Errors in a transaction that has failed end nothing and are not logged: what comes behind it is seen all the same.
for my $end ('ROLLBACK', 'COMMIT', 'ROLLBACK AND CHAIN', 'ROLLBACK TO s')
{
	local $ENV{PGAPPNAME} = "behind $end";
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-X', '-U', 'pilot', '-d', $node->connstr('fleet'), map { ('-c', $_) } 'BEGIN', $end =~ / TO / ? 'SAVEPOINT s' : (), 'SELECT 1 / 0', 'SELECT 1', 'SELECT 1', $end, 'SELECT * FROM vault.gold' ],
		'>', \$out, '2>', \$err);
	like($err, qr/division.*aborted.*aborted.*permission denied for schema vault/s, "a failed transaction, $end");
	sentient_wait($node, 'fleet', "SELECT count(*) = 1 FROM audit.security_events WHERE application_name = 'behind $end' AND event_type = 'denied' AND object = 'schema vault'", 'and what comes behind it');
}

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|sentient_edge assertion/, 'no assertion failed');
$node->stop;
done_testing();
