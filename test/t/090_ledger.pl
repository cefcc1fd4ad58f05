# 090_ledger.pl
#		What audit.verify finds of tampering, each kind by its own finding and nothing
#		where all is well; digests, proofs and pruning; the checker that needs no server.

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(run);
use PostgreSQL::Test::Utils;
use Test::More;

use SentientEdge;

my $node = sentient_server('ledger', conf => "timezone = UTC\nsentient_edge.partition_maintenance_interval = 86400\n"
	  # Blocks are numbered: the test seals, and equal events (its logins) come once.
	  . "sentient_edge.ledger_interval = 3600\nsentient_edge.audit_event_window = 3600");
sentient_database($node, 'fleet');
my $folder = PostgreSQL::Test::Utils::tempdir();
my $checker = "$folder/ledger_check";
system_or_bail('cc', '-O1', '-Wall', '-Wextra', '-Werror', '-o', $checker, 'test/checker/ledger_check.c', '-lcrypto');

# Blocks are numbered from the first one of the test's own entries: those of setting up come before it.
my ($first, $base) = (0, 0);

sub ask
{
	my ($sql) = @_;
	$sql =~ s/\bblock_number (=|>=) (\d+)/"block_number $1 " . ($first + $2)/ge;
	$sql =~ s/\bblock_header\((\d+)\)/'block_header(' . ($first + $1) . ')'/ge;
	return $node->safe_psql('fleet', $sql);
}
my $findings = q{SELECT string_agg(concat_ws(' ', finding, block_number - FIRST, audit_id), ', ' ORDER BY finding, block_number, audit_id) FROM };

my @tables = qw(audit.log audit.security_events audit.blocks audit.anchors);

# What verify finds of something that is done in a transaction and rolled back.  Triggers stand back for it.
sub finds
{
	my ($tampering, $expected, $what, $check) = @_;
	$check //= 'audit.verify()';
	my $out = ask("SET client_min_messages = error; BEGIN;" . join('', map { "ALTER TABLE $_ DISABLE TRIGGER ALL;" } @tables) . "$tampering;"
		  . join('', map { "ALTER TABLE $_ ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate;" } @tables)
		  . "$findings $check; ROLLBACK");
	return ref $expected ? like($out, $expected, $what) : is($out, $expected, $what);
}
sub clean { is(ask("$findings audit.verify()"), '', shift) or diag(ask('SELECT * FROM audit.verify()')); return; }
sub checked
{
	my ($input, @arguments) = @_;
	my $out = '';
	run([ $checker, @arguments ], '<', \$input, '>&', \$out);
	return $out;
}

# Five blocks of three entries each.
ask('CREATE TABLE public.ship (ship_id int PRIMARY KEY, name text, crew int)');
ask("SELECT audit.enable('public.ship')");
sentient_wait($node, 'fleet', q{SELECT count(*) > 0 FROM audit.security_events WHERE event_type = 'login'}, 'the login is an event');
# What a superuser reads, and what is rolled back, is an event once: let these come first.
ask("SELECT FROM $_ LIMIT 1") for @tables;
$findings =~ s/FIRST/0/;
finds('SELECT 1', qr/^/, 'nothing is asked yet');
$findings =~ s/block_number - 0/block_number - FIRST/;
ask('SELECT count(*) FROM audit.verify()');
sentient_wait($node, 'fleet', q{SELECT runs > 0 AND state <> 'running' FROM sentient_edge.workers WHERE database = 'fleet' AND worker = 'ledger'}, 'the scheduler has had its turn');
# Sealing makes keys, and they are entries and events.
ask('SELECT audit.seal()');
sentient_events($node, 'fleet', 'no event waits');
sentient_wait($node, 'fleet', 'SELECT blocks = 0 FROM audit.seal()', 'nothing is left to seal');
($first, $base) = split /\|/, ask('SELECT max(block_number) + 1, max(total_entries) FROM audit.blocks');
$findings =~ s/FIRST/$first/;
for my $block (0 .. 4)
{
	ask("INSERT INTO public.ship SELECT 10 * $block + i, 'needle-' || 10 * $block + i, i FROM generate_series(1, 3) AS i");
	is(ask('SELECT blocks, entries, refused, events FROM audit.seal()'), '1|3|0|0', "entries of turn $block are sealed");
}
is(ask('SELECT count(*), sum(entry_count), count(signature), count(DISTINCT key_id) FROM audit.blocks WHERE block_number >= 0'), '5|15|5|1', 'in signed blocks');
is(ask('SELECT bool_and(mac IS NOT NULL) FROM audit.log'), 't', 'every entry has a MAC');
clean('nothing is wrong');
my ($id, $next, $last) = split /\|/, ask(q{SELECT min(audit_id), min(audit_id) + 1, max(audit_id) FROM audit.log WHERE table_name = 'ship'});
is(ask("SELECT entry_ids[1] FROM audit.blocks WHERE block_number = 0"), $id, 'the first block has the first entry');

# ---- entries ----

finds("UPDATE audit.log SET new_values = new_values || '{\"crew\": 99}' WHERE audit_id = $id", "altered_entry 0 $id", 'a value that was edited');
finds("UPDATE audit.log SET occurred_at = occurred_at + interval '1 us' WHERE audit_id = $id", "altered_entry 0 $id", 'a time');
finds("UPDATE audit.log SET db_role = 'nobody' WHERE audit_id = $id", "altered_entry 0 $id", 'a role');
finds("UPDATE audit.log SET user_id = gen_random_uuid() WHERE audit_id = $id", "altered_entry 0 $id", 'a user');
finds("UPDATE audit.log SET client_addr = '10.0.0.1' WHERE audit_id = $id", "altered_entry 0 $id", 'an address');
finds("UPDATE audit.log SET audit_id = $id + $next - audit_id WHERE audit_id IN ($id, $next)", "altered_entry 0 $id, altered_entry 0 $next",
	'two entries that were swapped');
finds("DELETE FROM audit.log WHERE audit_id = $next", "missing_entry 0 $next", 'an entry that was deleted');
finds(q{DELETE FROM audit.log WHERE table_name = 'ship'}, qr/^(missing_entry \d \d+(, |$)){15}$/, 'all of them');
my $columns = 'occurred_at, statement_at, transaction_id, query_id, operation, schema_name, table_name, row_key, old_values, new_values,
	user_id, db_role, session_role, client_addr, application_name';
finds("INSERT INTO audit.log (audit_id, $columns, mac) SELECT 1000, $columns, mac FROM audit.log WHERE audit_id = $id", 'forged_entry 1000',
	'an entry that was copied');
finds("INSERT INTO audit.log (audit_id, $columns) SELECT 1000, $columns FROM audit.log WHERE audit_id = $id", 'unkeyed_entry 1000',
	'an entry without a MAC');
finds("INSERT INTO audit.log (audit_id, $columns, mac) SELECT -7, $columns, mac FROM audit.log WHERE audit_id = $id", 'forged_entry -7',
	'wherever its id is');
finds("INSERT INTO audit.log (audit_id, $columns, mac) SELECT 1000, $columns, set_byte(mac, 0, 255 - get_byte(mac, 0)) FROM audit.log WHERE audit_id = $id",
	qr/^unknown_key 1000, unsealed_entry 1000$/, 'a MAC of another key');
finds("INSERT INTO audit.log SELECT * FROM audit.log WHERE audit_id = $id", "duplicate_entry 0 $id", 'a copy of one');
finds("INSERT INTO audit.log (audit_id, $columns, mac) SELECT audit_id, occurred_at + interval '1 s', statement_at, transaction_id, query_id, operation, schema_name,
	table_name, row_key, old_values, new_values, user_id, db_role, session_role, client_addr, application_name, mac FROM audit.log WHERE audit_id = $id",
	qr/^(altered_entry 0 $id, )?duplicate_entry 0 $id$/, 'a second entry of the same id');
my $indexes = q{UPDATE pg_index SET indisready = %1$s, indisvalid = %1$s WHERE indrelid IN (SELECT relid FROM pg_partition_tree('audit.log'))};
finds("DO 'BEGIN PERFORM brin_summarize_new_values(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid IN (SELECT relid FROM pg_partition_tree(''audit.log'')) AND c.relkind = ''i'' AND c.relam = (SELECT oid FROM pg_am WHERE amname = ''brin''); END';"
	  . sprintf($indexes, 'false') . "; INSERT INTO audit.log (audit_id, $columns) SELECT 1000000000, $columns FROM audit.log WHERE audit_id = $id; "
	  . sprintf($indexes, 'true'), 'hidden_entries', 'an entry that no index knows of');
is(ask("BEGIN; SELECT refused FROM audit.seal(); ROLLBACK"), '0', 'what was rolled back is not looked at');

# ---- blocks ----

finds('DELETE FROM audit.blocks WHERE block_number = 2', qr/^missing_block 2(, unsealed_entry \d+){3}$/, 'a block that was deleted');
finds('DELETE FROM audit.blocks WHERE block_number IN (0)', qr/^missing_block -$first(, un(seal|key)ed_e\w+( \d+)?)+$/, 'the first of all');
finds('UPDATE audit.blocks SET sealed_at = sealed_at - interval \'1 day\' WHERE block_number = 2', 'altered_block 2', 'a time of sealing');
finds('UPDATE audit.blocks SET total_entries = 1000 WHERE block_number = 2', qr/^altered_block 2, altered_block 2, altered_block 3$/, 'a count');
finds("UPDATE audit.blocks SET leaf_hashes = set_byte(leaf_hashes, 0, 255 - get_byte(leaf_hashes, 0)) WHERE block_number = 2",
	qr/^altered_block 2, altered_entry 2 \d+$/, 'a leaf');
finds("UPDATE audit.blocks SET entry_ids = ARRAY[entry_ids[2], entry_ids[1], entry_ids[3]] WHERE block_number = 2",
	qr/^altered_block 2, altered_entry 2 \d+, altered_entry 2 \d+$/, 'the order of entries');
finds("UPDATE audit.blocks SET entry_ids = '{}', leaf_hashes = '' WHERE block_number = 2", qr/^emptied_block 2(, unsealed_entry \d+){3}$/, 'a list that was emptied');
finds("UPDATE audit.blocks SET signature = set_byte(signature, 5, 255 - get_byte(signature, 5)) WHERE block_number = 2", 'bad_signature 2', 'a signature');
finds("UPDATE audit.blocks SET signature = NULL, key_id = NULL, algorithm = NULL WHERE block_number = 2", 'altered_block 2, unsigned_block 2', 'a signature that was removed');

# Whoever rewrites a block properly, hash and all, has no key to sign it with: the block of another key, of the same, and of one that was slipped in.
my $rewrite = q{UPDATE audit.blocks SET leaf_hashes = sha256('\x00'::bytea) || sha256('\x01') || sha256('\x02'), merkle_root = sha256('\x01'::bytea
	|| sha256('\x01'::bytea || sha256('\x00'::bytea) || sha256('\x01')) || sha256('\x02'))};
$rewrite .= q{ WHERE block_number = 2; UPDATE audit.blocks SET block_hash = sha256(audit.block_header(2))%s WHERE block_number = 2};
finds(sprintf($rewrite, ''), qr/^altered_entry 2 \d+, altered_entry 2 \d+, altered_entry 2 \d+, bad_signature 2, broken_chain 3$/, 'a block that was made anew');
finds(q{UPDATE audit.blocks SET key_id = gen_random_uuid() WHERE block_number = 2; UPDATE audit.blocks SET block_hash = sha256(audit.block_header(2)) WHERE block_number = 2},
	'broken_chain 3, unknown_key', 'and says that another key signed it');
finds(q{ALTER TABLE sentient_edge.data_keys DISABLE TRIGGER ALL; UPDATE sentient_edge.data_keys SET state = 'decrypt_only', rotated_at = now() WHERE purpose = 'ledger' AND false;
	UPDATE audit.blocks SET key_id = (SELECT key_id FROM sentient_edge.data_keys WHERE purpose = 'audit_mac') WHERE block_number = 2;
	UPDATE audit.blocks SET block_hash = sha256(audit.block_header(2)) WHERE block_number = 2},
	qr/broken_chain 3, capture_off, unknown_key/, 'or a key of another purpose');

# ---- digests ----

my $digest = ask("SELECT audit.digest('kept outside')");
like($digest, qr/"block": "@{[$first + 4]}"/, 'a digest of the last block');
is(ask("$findings audit.verify_digest('$digest')"), '', 'fits');
is(ask(qq{SELECT kind, block_number - $first, note, db_role FROM audit.anchors}), 'digest|4|kept outside|' . ask('SELECT current_user'), 'and is recorded');
(my $altered = $digest) =~ s/"entries": "/"entries": "9/;
is(ask("$findings audit.verify_digest('$altered')"), 'bad_signature 4', 'an altered digest');
($altered = $digest) =~ s/"hash": "(.)/'"hash": "' . ($1 eq '0' ? '1' : '0')/e;
is(ask("$findings audit.verify_digest('$altered')"), 'bad_signature 4, digest_mismatch 4', 'a digest of another block');
($altered = $digest) =~ s/"key": "[0-9a-f]{8}/"key": "00000000/;
is(ask("$findings audit.verify_digest('$altered')"), 'unknown_key', 'a digest of another key');
($altered = $digest) =~ s/, "signature": "[0-9a-f]*"//;
is(ask("$findings audit.verify_digest('$altered')"), 'bad_signature 4', 'a digest without its signature');
like(($node->psql('fleet', q{SELECT audit.verify_digest('{"block": 3}')}))[2], qr/the digest has no text "system"/, 'something else');

my $tail = "DELETE FROM audit.log WHERE audit_id >= (SELECT min_audit_id FROM audit.blocks WHERE block_number = %s); DELETE FROM audit.blocks WHERE block_number >= %s";
finds(sprintf($tail, 4, 4), 'digest_mismatch 4', 'the last block was deleted with its entries, after a digest');
finds(sprintf($tail, 2, 2), 'digest_mismatch 4', 'the whole tail');
finds(sprintf($tail, 2, 2) . '; DELETE FROM audit.anchors', '', 'of which nothing inside tells');
finds(sprintf($tail, 2, 2) . '; DELETE FROM audit.anchors', 'missing_block 4', 'but the digest kept outside does', "audit.verify_digest('$digest')");
finds("UPDATE audit.anchors SET digest = digest || '{\"entries\": \"99\"}'", 'bad_anchor 4', 'a recorded digest that was altered');

# ---- what should capture and protect ----

finds('ALTER TABLE core.drones DISABLE TRIGGER sentient_audit_row', 'capture_off', 'capture that was switched off');
finds('DROP TRIGGER sentient_audit_truncate ON public.ship', 'capture_off', 'or dropped');
like(ask(qq{BEGIN; ALTER TABLE audit.log DISABLE TRIGGER append_only; $findings audit.verify(); ROLLBACK}), qr/^protection_off(, protection_off)+$/, 'a log that can be changed');
is(ask(qq{SET client_min_messages = error; BEGIN; DROP TRIGGER append_only ON audit.blocks; $findings audit.verify(); ROLLBACK}), 'protection_off', 'blocks that can be');
for my $table (qw(log blocks anchors))
{
	like(($node->psql('fleet', "SET session_replication_role = replica; DELETE FROM audit.$table"))[2], qr/table "$table.*" is append-only/, "audit.$table is append-only, replica or not");
}
is(($node->psql('fleet', "BEGIN; SET session_replication_role = replica; UPDATE public.ship SET crew = 7 WHERE ship_id = 1; SELECT count(*) FROM audit.log WHERE audit_id > $last; ROLLBACK"))[1],
	'1', 'and tables are captured');
like(ask("BEGIN; ALTER TABLE public.ship DISABLE TRIGGER ALL; UPDATE public.ship SET crew = 8 WHERE ship_id = 1; $findings audit.verify(); ROLLBACK"), qr/capture_off/,
	'a change through disabled triggers shows as long as they are');

# ---- proofs ----

my $key = ($digest =~ /"public_key": "([0-9a-f]{64})"/)[0];
my $proof = ask("SELECT audit.proof($next)");
is(checked($proof, 'proof', $key), "entry $next is in block $first, 2 steps below its root; the block was signed with that key\n", 'a proof is checked without the server');
is(checked($digest, 'digest', $key), "the digest of block @{[$first + 4]} over @{[$base + 15]} entries was signed with that key\n", 'so is a digest');
my $signed = ask('SELECT count(signature) FROM audit.blocks');
my $chain = ask(q{SELECT encode(audit.block_header(block_number), 'hex') || E'\t' || coalesce(encode(signature, 'hex'), '') FROM audit.blocks ORDER BY block_number}) . "\n";
append_to_file("$folder/digest.json", $digest);
is(checked($chain, 'chain', $key, "$folder/digest.json"), "blocks 0 to @{[$first + 4]} are one chain, $signed of them signed with that key; it holds the block of the digest\n", 'and a chain');
(my $other = $key) =~ tr/0-9a-f/1-9a-f0/;
like(checked($proof, 'proof', $other), qr/^WRONG: the block was not signed with that key/, 'not with another key');
(my $bent = $proof) =~ s/("entry": "[0-9a-f]{20})(.)/$1 . ($2 eq '0' ? '1' : '0')/e;
like(checked($bent, 'proof', $key), qr/^WRONG: the path does not lead/, 'not of another entry');
($bent = $proof) =~ s/"audit_id": \d+/"audit_id": 4711/ or die;
like(checked($bent, 'proof', $key), qr/^entry $next is in block $first,/, 'whatever id the proof says beside it');
($bent = $proof) =~ s/"side": "left"/"side": "right"/ or $bent =~ s/"side": "right"/"side": "left"/;
like(checked($bent, 'proof', $key), qr/^WRONG: the path does not lead/, 'not by another path');
($bent = $proof) =~ s/("header": "[0-9a-f]{250})(.)/$1 . ($2 eq '0' ? '1' : '0')/e;
like(checked($bent, 'proof', $key), qr/^WRONG: the block was not signed/, 'not in another block');
like(checked(join('', (split /^/, $chain)[ 0 .. $first + 1, $first + 3, $first + 4 ]), 'chain', $key), qr/^WRONG: block @{[$first + 2]} is missing/, 'not a chain with a gap');
like(checked(join('', (split /^/, $chain)[ 0 .. $first + 3 ]), 'chain', $key, "$folder/digest.json"), qr/^WRONG: the chain does not reach block @{[$first + 4]}/, 'not one that ends too early');
($bent = $chain) =~ s/\t[0-9a-f]*\n\z/\t\n/;
like(checked($bent, 'chain', $key), qr/^WRONG: block @{[$first + 4]} is not signed/, 'not one that ends unsigned');
like(($node->psql('fleet', 'SELECT audit.proof(1000)'))[2], qr/no block of the ledger holds audit entry 1000/, 'an entry that is in no block');
finds("UPDATE audit.log SET db_role = 'nobody' WHERE audit_id = $id", "altered_entry 0 $id", 'an altered entry');
like(($node->psql('fleet', "SET client_min_messages = error; BEGIN; ALTER TABLE audit.log DISABLE TRIGGER ALL; UPDATE audit.log SET db_role = 'nobody' WHERE audit_id = $id; SELECT audit.proof($id)"))[2],
	qr/audit entry $id is not what was sealed/, 'has no proof');

# ---- spans of time ----

my ($from, $to) = split /\|/, ask('SELECT first_occurred_at, last_occurred_at FROM audit.blocks WHERE block_number = 2');
is(ask("$findings audit.verify('$from', '$to')"), '', 'a span of time');
finds("DELETE FROM audit.log WHERE audit_id = (SELECT min_audit_id FROM audit.blocks WHERE block_number = 2)", qr/^missing_entry 2 \d+$/, 'in which an entry is missing',
	"audit.verify('$from', '$to')");
finds("DELETE FROM audit.log WHERE audit_id = $id", '', 'or not in it', "audit.verify('$from', '$to')");
finds("DELETE FROM audit.blocks WHERE block_number = 1", 'missing_block 1', 'the block before it', "audit.verify('$from', '$to')");

# ---- many ----

$node->append_conf('postgresql.conf', 'sentient_edge.ledger_interval = 1');
$node->reload;
my $sealed = 'SELECT coalesce(sum(entry_count), 0) FROM audit.blocks WHERE NOT holds_events';
my $before = ask($sealed);
ask('INSERT INTO public.ship SELECT 1000 + i, repeat(md5(i::text), 2), i FROM generate_series(1, 25000) AS i');
sentient_wait($node, 'fleet', "SELECT ($sealed) = $before + 25000", '25,000 entries of one transaction are sealed');
is(ask('SELECT max(entry_count) FROM audit.blocks'), '10000', 'in blocks of ten thousand');
clean('nothing is wrong with them');
my $deep = ask('SELECT entry_ids[7777] FROM audit.blocks WHERE entry_count = 10000 LIMIT 1');
like(checked(ask("SELECT audit.proof($deep)"), 'proof', $key), qr/^entry $deep is in block \d+, 14 steps below its root/, 'a proof out of many');

# ---- prune ----

like(($node->psql('fleet', "SELECT audit.prune(now() + interval '1 day')"))[2], qr/up to a time in the past only/, 'the future is not pruned');
# Nothing of the time before that entry comes any more.
sentient_events($node, 'fleet', 'all events are written');
ask('SELECT audit.seal()');
my $cut = ask("SELECT l.occurred_at FROM audit.log l WHERE audit_id = $deep");
my $gone = ask("SELECT count(*) FROM audit.log WHERE occurred_at < '$cut'");
my $emptied = ask("SELECT count(*) FROM audit.blocks WHERE last_occurred_at < '$cut'");
my $events_gone = ask("SELECT count(*) FROM audit.security_events WHERE occurred_at < '$cut'");
is(ask("SELECT entries, blocks, events FROM audit.prune('$cut', 'older than I care')"), "$gone|$emptied|$events_gone", 'in the middle of a block');
is(ask(q{SELECT string_agg(pruned_from, ',' ORDER BY pruned_from) FROM audit.anchors WHERE kind = 'prune'}), 'entries,events', 'with an anchor each of entries and events');
clean('what remains is right');
is(ask("SELECT count(*) FROM audit.log WHERE occurred_at < '$cut'"), '0', 'the older entries are gone');
like(checked(ask("SELECT audit.proof($deep)"), 'proof', $key), qr/^entry $deep is in block/, 'an entry of the same block is still provable');
like(($node->psql('fleet', "SELECT audit.proof($id)"))[2], qr/no block of the ledger holds/, 'a pruned one is not');
finds("DELETE FROM audit.log WHERE audit_id = $deep", qr/^missing_entry \d+ $deep$/, 'a later entry that is missing');
finds("DELETE FROM audit.anchors WHERE kind = 'prune'", qr/, emptied_block 0, emptied_block 1, emptied_block 2, emptied_block 3, emptied_block 4,.* missing_entry/, 'the anchor that was deleted');
finds("UPDATE audit.anchors SET pruned_before = pruned_before + interval '1 hour' WHERE kind = 'prune'", qr/^bad_anchor \d+,.* emptied_block 0,/, 'or altered');
finds("UPDATE audit.anchors SET pruned_from = CASE pruned_from WHEN 'events' THEN 'entries' ELSE 'events' END WHERE kind = 'prune'", qr/^bad_anchor \d+, bad_anchor \d+,/, 'or one of the other kind');
is(ask("$findings audit.verify_digest('$digest')"), '', 'the digest still fits');
ask('CREATE TABLE public.old AS SELECT * FROM audit.log ORDER BY audit_id LIMIT 3');
my $old = join '|', split /\n/, ask('SELECT audit_id FROM public.old ORDER BY 1');
ask('SELECT audit.prune(now())');
clean('all is pruned');
is(ask('SELECT count(*) FROM audit.log'), '0', 'and gone');
finds('INSERT INTO audit.log SELECT * FROM public.old', qr/^unsealed_entry ($old), unsealed_entry ($old), unsealed_entry ($old)$/, 'old entries that come back');

# ---- retention ----

ask("INSERT INTO public.ship SELECT 30000 + i, 'old', i FROM generate_series(1, 3) AS i");
ask('SELECT audit.seal()');
$node->stop;
my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1');
ok(defined $faketime, 'faketime is installed');
{
	# Some months later; the entries so far are of the past, and their partition goes.
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{FAKETIME} = '+100d';
	local $ENV{FAKETIME_DONT_RESET} = 1;
	$node->start;
	# After the scheduler's turn: under the false clock no timeout ends what two wait for.
	sentient_wait($node, 'fleet', "SELECT count(*) = 2 FROM sentient_edge.workers WHERE database = 'fleet' AND worker IN ('partitions', 'ledger') AND runs > 0 AND state <> 'running'",
		'the scheduler has had its turn');
	ask("INSERT INTO public.ship SELECT 31000 + i, 'new', i FROM generate_series(1, 3) AS i");
	ask('SELECT audit.seal()');
	clean('entries of two times, months apart');
	ask('SELECT telemetry.run_maintenance()');
	ask("UPDATE sentient_edge.settings SET value = '30 days' WHERE name = 'audit.retention'");
	like(ask('SELECT telemetry.run_maintenance()'), qr/retired/, 'retention takes a partition');
	is(ask(q{SELECT count(*) FROM audit.log WHERE table_name = 'ship'}), '3', 'with its entries');
	clean('and the ledger knows');
	is(ask(q{SELECT count(*) FROM audit.anchors WHERE kind = 'prune' AND note = 'retention'}), '1', 'by a signed anchor');
	$node->stop;
}
$node->start;
# The clock is back where it was.
ask("INSERT INTO public.ship SELECT 32000 + i, 'after the clock was set back', i FROM generate_series(1, 3) AS i");
ask('SELECT audit.seal()');
clean('a clock that was set back by months');
is(ask('SELECT count(*) FROM audit.blocks a JOIN audit.blocks b ON b.block_number = a.block_number + 1 WHERE b.sealed_at < a.sealed_at') > 0, 1, 'though blocks tell decreasing times');

# ---- rights ----

ask("CREATE ROLE plain; CREATE ROLE watcher IN ROLE sentient_admin; CREATE ROLE viewer IN ROLE sentient_viewer");
for my $call ('seal()', 'verify()', 'digest()', "verify_digest('{}')", 'proof(1)', 'proof_event(gen_random_uuid())', 'prune(now())', 'block_header(1)', 'export_digest()', "drop_anchor_sink('a')", "set_anchor_sink('a', 'table', '{t}')")
{
	like(($node->psql('fleet', "SET ROLE viewer; SELECT audit.$call"))[2], qr/permission denied/, "audit.$call is not for everybody");
}
is(ask("SET ROLE watcher; $findings audit.verify()"), '', 'an administrator verifies');
is(ask('SET ROLE watcher; SELECT refused FROM audit.seal()'), '0', 'seals');
like(ask('SET ROLE watcher; SELECT audit.digest()'), qr/"signature"/, 'makes digests');
like(($node->psql('fleet', 'SET ROLE watcher; INSERT INTO audit.blocks SELECT * FROM audit.blocks'))[2], qr/permission denied/, 'and writes nothing by hand');
like(($node->psql('fleet', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT audit.seal()'))[2], qr/only in a READ COMMITTED transaction/, 'sealing needs the newest block');
like(($node->psql('fleet', 'BEGIN READ ONLY; SELECT audit.seal()'))[2], qr/cannot execute audit.seal\(\) in a read-only transaction/, 'and to write');

# ---- a write past the server ----

ask("INSERT INTO public.ship VALUES (900, 'needle-in-the-heap', 1)");
ask('SELECT audit.seal(); CHECKPOINT');
my $victim = ask('SELECT audit_id FROM audit.log WHERE row_key = \'{"ship_id": 900}\' AND operation = \'I\'');
my $partition = ask("SELECT tableoid::regclass FROM audit.log WHERE audit_id = $victim");
my $path = $node->data_dir . '/' . ask("SELECT pg_relation_filepath('$partition')");
clean('before it');
$node->stop;
{
	open my $file, '+<:raw', $path or die "$path: $!";
	my $bytes = do { local $/; <$file> };
	my $count = ($bytes =~ s/needle-in-the-heap/needle-on-the-heap/g);
	ok($count, 'a byte was changed on disk');
	seek $file, 0, 0;
	print $file $bytes;
	close $file;
}
# where pages have checksums, whoever writes past the server mends them
$node->append_conf('postgresql.conf', 'ignore_checksum_failure = on');
$node->start;
like(ask("$findings audit.verify()"), qr/^altered_entry \d+ $victim$/, 'a write past the server is found');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|sentient_edge assertion/, 'no assertion failed');
$node->stop;
done_testing();
