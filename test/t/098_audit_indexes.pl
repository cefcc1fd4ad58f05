# 098_audit_indexes.pl
#		The indexes of audit.log: histories are whole at any time, be their entries in the
#		pending list, sorted in, or both; and the scheduler's care for the indexes.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use SentientEdge;

my $node = sentient_server('audit_indexes', conf => "timezone = UTC\nautovacuum = off");
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
sentient_database($node, 'fleet');

sub ask { return $node->safe_psql('fleet', shift); }

# Rows of a table with other than the right number of entries in their history.
sub wrong
{
	my ($entries, $rows) = @_;
	return ask("SELECT count(*) FROM generate_series(1, $rows) AS n WHERE (SELECT count(*) FROM audit.row_history('public.ship', jsonb_build_object('ship_id', n))) <> $entries");
}

# Pages of the pending list, from the index's first page.
sub pending
{
	my ($index) = @_;
	ask('CHECKPOINT');
	return unpack('V', pack('H*', ask("SELECT encode(pg_read_binary_file(pg_relation_filepath('$index'), 36, 4), 'hex')")));
}

ask('SELECT telemetry.run_maintenance()');
ask("CREATE TABLE public.ship (ship_id integer PRIMARY KEY, name text, visits integer NOT NULL DEFAULT 0); SELECT audit.enable('public.ship')");
my $partition = ask("INSERT INTO public.ship SELECT n, 'ship ' || n FROM generate_series(1, 3000) AS n; SELECT max(tableoid::regclass::text) FROM audit.log WHERE table_name = 'ship'");
my $index = ask("SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = '$partition'::regclass AND a.amname = 'gin'");
my $ranges = ask("SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = '$partition'::regclass AND a.amname = 'brin'");

# ---- without the scheduler ----

cmp_ok(pending($index), '>=', 8, 'a statement\'s rows go to the pending list');
is(wrong(1, 3000), '0', 'where histories find all of them');
ask('UPDATE public.ship SET visits = visits + 1 WHERE ship_id > 0 AND mod(ship_id, 2) = 0; UPDATE public.ship SET visits = visits + 1 WHERE mod(ship_id, 2) = 1');
ask("UPDATE public.ship SET visits = 100 WHERE ship_id = $_") for 1, 2, 3000;
is(ask("SELECT string_agg(operation, '' ORDER BY audit_id) FROM audit.row_history('public.ship', '{\"ship_id\": 2}')"), 'IUU', 'changes one by one behind those of a statement');
is(ask("BEGIN; UPDATE public.ship SET visits = 7 WHERE ship_id = 5; SELECT count(*) FROM audit.row_history('public.ship', '{\"ship_id\": 5}'); ROLLBACK"),
	'3', 'a transaction sees its own');
is(wrong(2, 3000), '3', 'what is rolled back is no history');
ask("VACUUM $partition");
is(pending($index), 0, 'VACUUM sorts the list in');
is(wrong(2, 3000), '3', 'and loses nothing');

# ---- a crash between the list and the tree ----

ask('UPDATE public.ship SET visits = visits + 1');
$node->stop('immediate');
$node->start;
cmp_ok(pending($index), '>', 0, 'a crash leaves the list');
is(wrong(3, 3000), '3', 'and the histories');

# ---- with the scheduler ----

$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', 'sentient_edge');
$node->restart;
my $runs = q{SELECT runs FROM sentient_edge.workers WHERE worker = 'audit indexes' AND database = 'fleet'};
sentient_wait($node, 'fleet', "SELECT ($runs) > 0", 'the job runs');
# Other jobs write entries of their own, the first time behind this one.
my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
my $left = pending($index);
while ($left > 0 && time < $deadline)
{
	usleep(100_000);
	$left = pending($index);
}
is($left, 0, 'the scheduler sorts the list in');
is(wrong(3, 3000), '3', 'and loses nothing');

# Full ranges are summarized: a search for a transaction that there is not reads no more than the last ones.
sub blocks_read
{
	return ask(q{SET enable_seqscan = off; CREATE FUNCTION pg_temp.blocks(OUT n integer) LANGUAGE plpgsql AS $$
		DECLARE line text; BEGIN n := 0; FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT FROM audit.log WHERE transaction_id = ''9999999999''' LOOP
		n := n + coalesce(substring(line FROM 'lossy=([0-9]+)')::integer, 0); END LOOP; END $$; SELECT pg_temp.blocks()});
}
cmp_ok(ask("SELECT pg_relation_size('$partition') / 8192"), '>', 150, 'there are several ranges of 32 blocks');
sentient_wait($node, 'fleet', "SELECT ($runs) > " . ask($runs), 'another run');
cmp_ok(blocks_read(), '<', 32, 'and only the one that is being filled is not summarized');
ask('UPDATE public.ship SET visits = visits + 1');
sentient_wait($node, 'fleet', "SELECT ($runs) > 1 + " . ask($runs), 'another run');
cmp_ok(blocks_read(), '<', 32, 'nor later');
is(ask("SELECT brin_summarize_range('$ranges', 0)"), '0', 'the first one is');
is(wrong(4, 3000), '3', 'histories are whole');

# Whoever vacuums the partition is neither waited for nor kept from it.
my $vacuum = $node->background_psql('fleet');
$vacuum->query_safe("BEGIN; LOCK TABLE $partition IN SHARE UPDATE EXCLUSIVE MODE");
ask('UPDATE public.ship SET visits = visits + 1');
sentient_wait($node, 'fleet', "SELECT ($runs) > 1 + " . ask($runs), 'the job runs beside a VACUUM');
cmp_ok(blocks_read(), '>', 32, 'which has the ranges to itself');
$vacuum->query_safe('COMMIT');
$vacuum->quit;
sentient_wait($node, 'fleet', "SELECT ($runs) > 1 + " . ask($runs), 'afterwards');
cmp_ok(blocks_read(), '<', 32, 'it goes on');

# Nor is somebody who moves an index; sealing would look into the newest partition itself.
my $lead = "SELECT ($runs) - runs FROM sentient_edge.workers WHERE worker = 'ledger' AND database = 'fleet'";
my $lead_before = ask($lead);
$node->append_conf('postgresql.conf', 'sentient_edge.ledger_interval = 3600');
$node->reload;
sentient_wait($node, 'fleet', "SELECT ($lead) > 2 + $lead_before", 'sealing rests');
my $mover = $node->background_psql('fleet');
$mover->query_safe("BEGIN; ALTER INDEX $index SET TABLESPACE pg_default; ALTER INDEX $ranges SET TABLESPACE pg_default");
sentient_wait($node, 'fleet', "SELECT ($runs) > 1 + " . ask($runs), 'the job runs beside an index that is being moved');
$mover->query_safe('COMMIT');
$mover->quit;

# A scheduler that was interrupted has left ranges out: the next one looks for them, some hundred in a run.
ask("SELECT brin_desummarize_range('$ranges', n) FROM (VALUES (0), (64)) AS r (n)");
$node->restart;
sentient_wait($node, 'fleet', "SELECT ($runs) > 1", 'a new scheduler');
is(ask("SELECT sum(brin_summarize_range('$ranges', n)) FROM (VALUES (0), (64)) AS r (n)"), '0', 'has summarized what was left out before other ranges');
my $definition = ask("SELECT pg_get_indexdef('audit.log_ranges_idx'::regclass)") =~ s/ ON ONLY / ON /r;
my $blocks = ask("SELECT pg_relation_size('$partition') / 8192");
cmp_ok($blocks, '>', 300, 'there are more ranges of one block than fit into a run');
ask('DROP INDEX audit.log_ranges_idx; ' . $definition =~ s/pages_per_range='?\d+'?/pages_per_range=1/r);
$ranges = ask("SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = '$partition'::regclass AND a.amname = 'brin'");
# The job knows by then that all are.
sentient_wait($node, 'fleet', "SELECT ($runs) > 1 + " . ask($runs), 'a run behind the new index');
ask("SELECT count(brin_desummarize_range('$ranges', n)) FROM generate_series(0, $blocks - 1) AS n");
cmp_ok(blocks_read(), '>', 300, 'none is summarized');
$node->restart;
sentient_wait($node, 'fleet', "SELECT ($runs) > 3 + $blocks / 256", 'a run for each part');
cmp_ok(blocks_read(), '<', 2, 'all are');
ask("DROP INDEX audit.log_ranges_idx; $definition");

# ---- other indexes than ours ----

ask("ALTER INDEX $index SET (fastupdate = off)");
ask('UPDATE public.ship SET visits = visits + 1 WHERE ship_id <= 1500');
ask("ALTER INDEX $index RESET (fastupdate)");
ask('UPDATE public.ship SET visits = visits + 1 WHERE ship_id > 1500');
is(wrong(6, 3000), '3', 'an index without a pending list');
ask('DROP INDEX audit.log_row_idx; CREATE INDEX log_row_idx ON audit.log (audit.row_position(schema_name, table_name, row_key)) WHERE row_key IS NOT NULL');
ask('UPDATE public.ship SET visits = visits + 1');
is(wrong(7, 3000), '3', 'a B-tree');
ask('DROP INDEX audit.log_row_idx');
ask('UPDATE public.ship SET visits = visits + 1 WHERE ship_id = 9');
is(ask("SELECT count(*) FROM audit.row_history('public.ship', '{\"ship_id\": 9}')"), '8', 'no index at all');
ask('CREATE INDEX log_row_idx ON audit.log USING gin (audit.row_position(schema_name, table_name, row_key)) WHERE row_key IS NOT NULL');
sentient_wait($node, 'fleet', "SELECT ($runs) > 1 + " . ask($runs), 'the job finds the new one');
is(ask("SELECT count(*), max(last_error) FROM sentient_edge.workers WHERE worker = 'audit indexes' AND database = 'fleet' GROUP BY ()"), '1|', 'and never had an error');
is(wrong(7, 3000), '4', 'with all in it');
is(ask('SELECT count(*) FROM audit.verify()'), '0', 'verify agrees');

$node->stop;
done_testing();
