# 097_attacks.pl
#		A superuser who wants to act unseen, or to keep others' doings from being
#		recorded: what he does is an event, or is found by audit.verify.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my $node = sentient_server('attacks', conf => "sentient_edge.audit_event_window = 1\nsentient_edge.partition_maintenance_interval = 86400");
sentient_database($node, 'fleet');
sentient_wait($node, 'fleet', "SELECT count(*) > 0 FROM sentient_edge.workers WHERE worker = 'security events' AND runs > 0", 'the job runs');
my $findings = q{SELECT string_agg(concat_ws(' ', finding, detail), ', ' ORDER BY finding, detail) FROM audit.verify()};

sub ask { my ($sql) = @_; return $node->safe_psql('fleet', $sql); }
sub event
{
	my ($type, $where, $what) = @_;
	return sentient_wait($node, 'fleet', "SELECT count(*) > 0 FROM audit.security_events WHERE event_type = '$type' AND $where", $what);
}
sub finds
{
	my ($tampering, $expected, $what) = @_;
	return like(ask("SET client_min_messages = error; BEGIN; $tampering; $findings; ROLLBACK"), $expected, $what);
}

ask('CREATE TABLE public.ship (ship_id int PRIMARY KEY, name text)');
ask("SELECT audit.enable('public.ship'); CREATE ROLE victim; CREATE ROLE pilot");
is(ask($findings), '', 'nothing is wrong');

# ---- catalogs, past DDL ----
ask(q{UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'public.ship'::regclass AND tgname = 'sentient_audit_row'});
event('superuser', "object = 'pg_catalog.pg_trigger' AND message = 'update' AND severity = 'warning'", 'a catalog that is written to');
like(ask($findings), qr/^capture_off changes of public.ship are not captured/, 'and what came of it is found');
ask(q{UPDATE pg_trigger SET tgenabled = 'A' WHERE tgrelid = 'public.ship'::regclass AND tgname = 'sentient_audit_row'});
ask('SELECT count(*) FROM pg_trigger');
is(ask("SELECT count(*) FROM audit.security_events WHERE object = 'pg_catalog.pg_trigger' AND message = 'select'"), '0', 'to read one is none');

# ---- the code that records ----
my $nothing = 'RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$';
finds("CREATE OR REPLACE FUNCTION audit.capture_row() $nothing", qr/capture_off function audit.capture_row\(\) was replaced or dropped/, 'another function that captures');
finds("CREATE OR REPLACE FUNCTION audit.append_only() $nothing", qr/protection_off function audit.append_only\(\) was replaced or dropped/, 'or that protects');
finds("UPDATE pg_proc SET prosrc = 'audit_note_drops' WHERE oid = 'audit.capture_truncate()'::regprocedure", qr/capture_off function audit.capture_truncate\(\) was replaced/, 'or is another of the library');
for my $trigger (qw(record_ddl record_drop note_drops follow_partitions))
{
	finds("ALTER EVENT TRIGGER sentient_edge_$trigger DISABLE", qr/^capture_off event trigger sentient_edge_$trigger is disabled/, "$trigger that is disabled");
}
finds('ALTER EVENT TRIGGER sentient_edge_record_ddl ENABLE REPLICA', qr/^capture_off event trigger sentient_edge_record_ddl/, 'or fires for replicas only');

finds("CREATE OR REPLACE VIEW audit.audited_tables AS SELECT NULL::regclass AS table_name, 'captured' AS state, NULL::name[] AS exclude, NULL::name[] AS mask, NULL::timestamptz AS enabled_at,
	NULL::text COLLATE \"C\" AS enabled_by; ALTER TABLE public.ship DISABLE TRIGGER sentient_audit_row", qr/^capture_off changes of public.ship are not captured: its triggers are suspended/, 'a view that lies');
finds("DROP TRIGGER sentient_audit_row ON public.ship; CREATE TRIGGER sentient_audit_row AFTER INSERT OR UPDATE OR DELETE ON public.ship FOR EACH ROW WHEN (current_user <> 'pilot') EXECUTE FUNCTION audit.capture_row('{}', '{}');
	ALTER TABLE public.ship ENABLE ALWAYS TRIGGER sentient_audit_row", qr/^capture_off changes of public.ship are not captured: its triggers are changed/, 'a trigger that spares somebody');
finds("DROP TRIGGER sentient_audit_row ON core.drones; DROP TRIGGER sentient_audit_truncate ON core.drones; DELETE FROM audit.targets WHERE table_id = 'core.drones'::regclass",
	qr/^capture_off changes of core.drones are not captured: its triggers are missing/, 'a table that is not to be audited all at once');
finds("DROP TRIGGER append_only ON audit.blocks; CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.blocks FOR EACH ROW WHEN (current_user <> 'pilot') EXECUTE FUNCTION audit.append_only();
	ALTER TABLE audit.blocks ENABLE ALWAYS TRIGGER append_only", qr/^protection_off audit.blocks can be changed/, 'protection that spares somebody');

# ---- events that get lost on their way ----
ask("CREATE FUNCTION public.swallow() $nothing");
my ($status, $out, $err) = $node->psql('fleet', 'CREATE TRIGGER swallow BEFORE INSERT ON audit.security_events FOR EACH ROW EXECUTE FUNCTION public.swallow()');
like($err, qr/a security event was not stored/, 'a trigger that keeps events away keeps its own from being told, and is not made');
finds("ALTER EVENT TRIGGER sentient_edge_record_ddl DISABLE; CREATE TRIGGER swallow BEFORE INSERT ON audit.security_events FOR EACH ROW EXECUTE FUNCTION public.swallow()",
	qr/protection_off what is written to audit.security_events passes through swallow/, 'one that is made all the same is found');
finds("ALTER EVENT TRIGGER sentient_edge_record_ddl DISABLE; CREATE RULE swallow AS ON INSERT TO audit.security_events DO INSTEAD NOTHING",
	qr/protection_off what is written to audit.security_events passes through swallow/, 'so is a rule');
finds("CREATE TRIGGER tell AFTER INSERT ON audit.security_events FOR EACH ROW EXECUTE FUNCTION public.swallow()", qr/^$/, 'one that hears of events only is nobody\'s concern');

$node->psql('fleet', q{SET application_name = 'many'; BEGIN; DO $$ BEGIN FOR i IN 1 .. 130 LOOP EXECUTE format('CREATE TABLE public.many_%s ()', i); END LOOP; END $$;
	SAVEPOINT s; DO $$ BEGIN FOR i IN 131 .. 140 LOOP EXECUTE format('CREATE TABLE public.many_%s ()', i); END LOOP; END $$; ROLLBACK TO s; ROLLBACK});
sentient_wait($node, 'fleet', q{SELECT coalesce(sum(event_count) FILTER (WHERE event_type = 'ddl'), 0) = 100 AND coalesce(sum(event_count) FILTER (WHERE event_type = 'events_lost'), 0) = 40
	FROM audit.security_events WHERE application_name = 'many' AND succeeded IS NOT true}, 'of very many events that are rolled back, those beyond a hundred are counted');

is(ask(q{SET client_min_messages = error; BEGIN; CREATE TABLE public.subs (); DO $$ BEGIN FOR i IN 1 .. 1000 LOOP BEGIN COMMENT ON TABLE public.subs IS 'x'; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
	SELECT sum(total_bytes) < 2 * 1024 * 1024 FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext'; ROLLBACK}), 't', 'they take no memory, in subtransactions either');
event('events_lost', "message LIKE 'rolled back, %' AND event_count = 901", 'and are counted together');

# ---- parameters, whatever sets them ----
ask("SELECT set_config('allow_system_table_mods', 'on', false); SELECT 1");
event('setting_changed', "object = 'allow_system_table_mods' AND severity = 'warning'", 'set_config');
ask("UPDATE pg_settings SET setting = 'on' WHERE name = 'zero_damaged_pages'; SELECT 1");
event('setting_changed', "object = 'zero_damaged_pages'", 'an UPDATE of pg_settings');
ask('DELETE FROM audit.watched_tables');
{
	local $ENV{PGOPTIONS} = '-c allow_system_table_mods=on';
	local $ENV{PGAPPNAME} = 'options';
	$node->safe_psql('fleet', 'SELECT 1');
}
event('setting_changed', "object = 'allow_system_table_mods' AND application_name = 'options'", 'what a connection brings');
# A parameter since 17.
if (ask('SHOW server_version_num') >= 170000)
{
	ask("SELECT set_config('event_triggers', 'off', false); CREATE TABLE public.unseen ()");
	event('setting_changed', "object = 'event_triggers'", 'event triggers that are switched off');
}

# ---- in another's name, and in a function's ----
ask("SET SESSION AUTHORIZATION victim; SELECT 1");
event('role_set', "object = 'victim' AND db_role = 'victim' AND details->>'authenticated' = current_user", 'whose session it is in truth');
ask("CREATE FUNCTION pg_temp.users() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM auth.users'; SELECT pg_temp.users()");
is(ask(q{SELECT string_agg(object, ',') FROM audit.security_events WHERE event_type = 'ddl' AND object LIKE 'pg\\_temp%users()' AND details->>'object_type' = 'function'}) =~ s{_\d+}{}r, 'pg_temp.users()', 'a temporary function');
ask('CREATE TEMP TABLE t ()');
is(ask(q{SELECT count(*) FROM audit.security_events WHERE event_type = 'ddl' AND object LIKE 'pg_temp.t%'}), '0', 'a temporary table is none');

# ---- what is removed or accepted ----
ask("INSERT INTO public.ship VALUES (1, 'one'); SELECT audit.seal()");
ask("SELECT audit.prune(now(), 'because')");
is(ask(q{SELECT count(*) FROM audit.security_events WHERE event_type = 'audit_changed' AND details->>'operation' = 'prune' AND (details->>'entries')::int > 0 AND db_role = current_user}), '1', 'who pruned');
ask('SELECT audit.seal(true)');
is(ask(q{SELECT count(*) FROM audit.security_events WHERE event_type = 'audit_changed' AND details->>'operation' = 'accept_unkeyed'}), '1', 'who accepted what has no MAC');

# ---- an entry that hides another in a row's history ----
ask("INSERT INTO public.ship VALUES (2, 'two')");
ask("UPDATE public.ship SET name = 'deux' WHERE ship_id = 2");
ask("SELECT setval('audit.log_audit_id_seq', (SELECT max(audit_id) FROM audit.log), false); UPDATE public.ship SET name = 'zwei' WHERE ship_id = 2");
is(ask(q{SELECT string_agg(new_values->>'name', ',' ORDER BY occurred_at) FROM audit.row_history('public.ship', '{"ship_id": 2}')}), 'two,deux,zwei', 'the same id again');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|sentient_edge assertion/, 'no assertion failed');
$node->stop;
done_testing();
