# 080_keys.pl
#		Where master keys come from: environment, file and program, with everything
#		that must be refused; what of them is left where others could see it.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use SentientEdge;

my @variables = qw(SENTIENT_EDGE_MASTER_KEY DATABASE_ENCRYPTION_KEY KEY_OF_MINE);
my $hex = '8f1c3a5e7092b4d6f80a1c3e5072941b5d7f9a1c3e5f7082a4c6e80b2d4f6172';
my $base64 = 'DUUz6jQKD6CzM5rPpIk0SYlEBTW+r+XsTwTYnkfGJ4s=';
my $characters = 'Founding-deployment,key of 2025!';
my $second = '0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fff';

delete @ENV{@variables};
my $node = sentient_server('keys', conf => "include = 'keys.conf'", start => 0);
my $folder = PostgreSQL::Test::Utils::tempdir();
my $log_offset = 0;

# Restart with this configuration and environment, and return what the server says of its master keys.
sub restart
{
	my ($conf, %environment) = @_;

	PostgreSQL::Test::Utils::append_to_file($node->data_dir . '/keys.conf', '');
	open my $file, '>', $node->data_dir . '/keys.conf' or die $!;
	print $file $conf;
	close $file;
	$node->stop if $node->{_pid};
	$log_offset = -s $node->logfile // 0;
	local @ENV{ keys %environment } = values %environment;
	$node->start;
	return $node->safe_psql('fleet',
		q{SELECT string_agg(concat_ws('|', state, master_fingerprint, source, problem), E'\n') FROM sentient_edge.key_status() WHERE kind = 'master key'})
	  if $node->{_fleet};
	return;
}

sub server_log { return substr(slurp_file($node->logfile), $log_offset); }

restart('');
sentient_database($node, 'fleet');
$node->{_fleet} = 1;

# ---- environment ----

my $state = restart('', SENTIENT_EDGE_MASTER_KEY => $hex);
like($state, qr/^active\|[0-9a-f]{16}\|environment variable SENTIENT_EDGE_MASTER_KEY$/, 'a key of hexadecimal digits');
my ($fingerprint) = $state =~ /\|([0-9a-f]{16})\|/;
like(server_log(), qr/sentient_edge has read 1 master key\(s\); the active one has the fingerprint $fingerprint/, 'the log tells its fingerprint');

# Every process of the server, and what a child would be given.
my $postmaster = $node->{_pid};
my @processes = ($postmaster, split /\s+/, slurp_file("/proc/$postmaster/task/$postmaster/children"));
cmp_ok(scalar @processes, '>', 4, 'the server has children');
my $environments = join '', map { -r "/proc/$_/environ" ? eval { slurp_file("/proc/$_/environ") } // '' : '' } @processes;
like($environments, qr/PGDATA|PATH=/, 'their environments can be read');
unlike($environments, qr/\Q$hex\E/, 'the key is in none of them');
is($node->safe_psql('fleet', "COPY (SELECT 1) TO PROGRAM 'env > $folder/env; cat >/dev/null'; SELECT 1"), '1', 'a program of the server is started');
unlike(slurp_file("$folder/env"), qr/\Q$hex\E|SENTIENT_EDGE_MASTER_KEY/, 'which gets no key either');
is($node->safe_psql('fleet', q{SELECT count(*) FROM pg_settings WHERE setting ~ '8f1c3a5e|DUUz6j'}), '0', 'nor has a parameter it');

is(restart('', SENTIENT_EDGE_MASTER_KEY => uc $hex), $state, 'the same key in capitals');
like(restart('', DATABASE_ENCRYPTION_KEY => $base64), qr/^active\|[0-9a-f]{16}\|environment variable DATABASE_ENCRYPTION_KEY$/, 'a key in base64, in the variable of the founding deployment');
my $of_characters = restart('', DATABASE_ENCRYPTION_KEY => $characters);
like($of_characters, qr/^active\|[0-9a-f]{16}\|environment/, 'a key of 32 characters');
unlike($of_characters, qr/$fingerprint/, 'is another');

$state = restart("sentient_edge.key_env = 'KEY_OF_MINE,SENTIENT_EDGE_MASTER_KEY,  NOT_SET'", SENTIENT_EDGE_MASTER_KEY => $hex, KEY_OF_MINE => $second);
like($state, qr/^active\|[0-9a-f]{16}\|environment variable KEY_OF_MINE\ndecrypt_only\|$fingerprint\|environment variable SENTIENT_EDGE_MASTER_KEY$/,
	'two keys in the order of the parameter');
is(scalar(split /\n/, restart('', SENTIENT_EDGE_MASTER_KEY => $hex, DATABASE_ENCRYPTION_KEY => $hex)), 1, 'the same key twice is one');

is(restart(''), 'missing|no environment variable of sentient_edge.key_env is set', 'no variable is set');
like(server_log(), qr/LOG:  sentient_edge has no master key: no environment variable of sentient_edge.key_env is set/, 'the log says so');
is(restart('', SENTIENT_EDGE_MASTER_KEY => ''), 'missing|no environment variable of sentient_edge.key_env is set', 'an empty one is as good as none');
my $bad = substr($hex, 0, 63) . 'x';
is(restart('', SENTIENT_EDGE_MASTER_KEY => $bad, DATABASE_ENCRYPTION_KEY => $base64),
	'missing|environment variable SENTIENT_EDGE_MASTER_KEY: a key is written as 64 hexadecimal digits, base64 of 32 bytes, or 32 characters',
	'a key that cannot be read: the next one does not take its place');
unlike(server_log(), qr/\Q$bad\E|8f1c3a5e/, 'the log does not show it');
unlike(slurp_file('/proc/' . $node->{_pid} . '/environ'), qr/8f1c3a5e|DUUz6j/, 'it is removed all the same');

# ---- without a key ----

my ($status, $out, $err) = $node->psql('fleet', "\\set VERBOSITY verbose\nSELECT sentient_edge.rotate_data_key('field')");
like($err, qr/ERROR:  55000: no master key is known to this server\nDETAIL:  When it started: environment variable SENTIENT_EDGE_MASTER_KEY: a key is written as .*\nHINT:  Provide a master key/, 'a clear error');
($status, $out, $err) = $node->psql('fleet', 'SELECT sentient_edge.rotate_master_key()');
like($err, qr/no master key is known/, 'the same');
my $drone = sentient_drone($node, 'fleet', 'keyless-1');
is($node->safe_psql('fleet', "SELECT telemetry.ingest('{\"droneId\": \"$drone\", \"timestamp\": \"2024-03-04T05:06:07Z\"}')"), '(1,0,0)', 'everything else works');
is($node->safe_psql('fleet', "SELECT core.send_message('in clear') IS NOT NULL, count(*) FROM core.drones WHERE serial_number IS NULL"), 't|1', 'a fleet without secrets needs none');
for my $call ("core.set_drone_serial_number('$drone', 'SN-1')", "core.send_message('in confidence', true)", "core.find_drone_by_serial_number('SN-1')")
{
	($status, $out, $err) = $node->psql('fleet', "\\set VERBOSITY verbose\nSELECT $call");
	like($err, qr/ERROR:  55000: no master key is known to this server/, "$call fails for want of a key");
}

# ---- none ----

is(restart("sentient_edge.key_provider = none", SENTIENT_EDGE_MASTER_KEY => $hex), 'missing|sentient_edge.key_provider is none', 'provider none');

# Numbers with a hundred thousand digits, which are short in jsonb: nobody could hash their text.
my ($long) = ($node->psql('fleet', q{\set VERBOSITY sqlstate
	INSERT INTO core.missions (name, metadata) SELECT 'long', jsonb_build_object('digits', jsonb_agg(1e131071)) FROM generate_series(1, 8300)}))[2];
like($long, qr/ERROR:  54000/, 'an entry that the ledger could not take is refused without a key as well');
is($node->safe_psql('fleet', "SELECT count(*) FROM audit.log WHERE new_values ->> 'name' = 'long'"), '0', 'and not there');
unlike(server_log(), qr/sentient_edge has no master key/, 'is a choice, not worth a line of the log');
unlike(slurp_file('/proc/' . $node->{_pid} . '/environ'), qr/8f1c3a5e/, 'the variable is removed all the same');

# ---- file ----

sub key_file
{
	my ($name, $mode, $text) = @_;

	unlink "$folder/$name";
	PostgreSQL::Test::Utils::append_to_file("$folder/$name", $text);
	chmod $mode, "$folder/$name" or die $!;
	return "sentient_edge.key_provider = file\nsentient_edge.key_file = '$folder/$name'\n";
}

like(restart(key_file('good', 0600, "$hex\n"), SENTIENT_EDGE_MASTER_KEY => $second), qr/^active\|$fingerprint\|file .*good, line 1$/, 'a key file; the variable does not count');
like(restart(key_file('good', 0400, "# made today\r\n\r\n$hex\r\n$second")), qr/^active\|$fingerprint\|file .*good, line 3\ndecrypt_only\|[0-9a-f]{16}\|file .*good, line 4$/,
	'two keys, a comment, an empty line, no newline at the end');
like(restart(key_file('good', 0600, join '', map { sprintf "%064x\n", $_ } 1 .. 8)), qr/^(\w+\|[0-9a-f]{16}\|.*\n?){8}$/, 'eight keys');
like(restart(key_file('good', 0600, join '', map { sprintf "%064x\n", $_ } 1 .. 9)), qr/^missing\|.*line 9: at most 8 master keys/, 'but not nine');
like(restart(key_file('empty', 0600, "# nothing\n")), qr/^missing\|there was none where sentient_edge.key_provider says$/, 'no key in it');
like(restart(key_file('open', 0640, "$hex\n")), qr/^missing\|key file .*open": may be accessed by others; its mode must be 0600/, 'mode 0640');
like(restart(key_file('open', 0604, "$hex\n")), qr/^missing\|.*may be accessed by others/, 'mode 0604');
like(restart(key_file('open', 0000, "$hex\n")), qr/^missing\|.*Permission denied/, 'mode 0000') if $> != 0;
like(restart(key_file('bad', 0600, "$second\n$hex \n")), qr/^missing\|file .*bad, line 2: a key is written as/, 'a line that is no key');
like(restart(key_file('large', 0600, "#" x 5000)), qr/^missing\|.*is too large/, 'a large file');
key_file('good', 0600, "$hex\n");
symlink "$folder/good", "$folder/link" or die $!;
like(restart("sentient_edge.key_provider = file\nsentient_edge.key_file = '$folder/link'"), qr/^missing\|.*is a symbolic link/, 'a symbolic link');
like(restart("sentient_edge.key_provider = file\nsentient_edge.key_file = '$folder'"), qr/^missing\|.*is not a regular file/, 'a folder');
system('mkfifo', '-m', '0600', "$folder/pipe") == 0 or die;
like(restart("sentient_edge.key_provider = file\nsentient_edge.key_file = '$folder/pipe'"), qr/^missing\|.*is not a regular file/, 'a pipe, without waiting for it');
like(restart("sentient_edge.key_provider = file\nsentient_edge.key_file = '$folder/absent'"), qr/^missing\|.*No such file/, 'no such file');
like(restart("sentient_edge.key_provider = file\nsentient_edge.key_file = 'good'"), qr/^missing\|sentient_edge.key_file is not an absolute path/, 'a relative path');
like(restart("sentient_edge.key_provider = file"), qr/^missing\|sentient_edge.key_file is not an absolute path/, 'no path');
PostgreSQL::Test::Utils::append_to_file($node->data_dir . '/master.key', "$hex\n");
chmod 0600, $node->data_dir . '/master.key';
like(restart("sentient_edge.key_provider = file\nsentient_edge.key_file = '" . $node->data_dir . "/master.key'"), qr/^missing\|.*lies in the data directory/, 'in the data directory');

# ---- program ----

sub program
{
	my ($name, $text, $timeout) = @_;

	$timeout //= '10min';
	unlink "$folder/$name";
	PostgreSQL::Test::Utils::append_to_file("$folder/$name", "#!/bin/sh\n$text\n");
	chmod 0700, "$folder/$name" or die $!;
	return "sentient_edge.key_provider = command\nsentient_edge.key_command_timeout = $timeout\nsentient_edge.key_command = '$folder/$name";
}

like(restart(program('print', "echo $hex; echo $second") . "'"), qr/^active\|$fingerprint\|program, line 1\ndecrypt_only\|/, 'a program that prints keys');
like(restart(program('arguments', qq{printf "%s|" "\$@" > $folder/arguments.txt; echo $hex}) . q{ one  "two words" $HOME;id "a \\\\"b\\\\""'}), qr/^active\|$fingerprint\|/, 'its arguments');
is(slurp_file("$folder/arguments.txt"), 'one|two words|$HOME;id|a "b"|', 'come to it as they are, by no shell');
like(restart(program('fails', "echo $hex; exit 3") . "'"), qr/^missing\|the program .*fails" of sentient_edge.key_command failed$/, 'a program that fails');
like(restart(program('killed', "echo $hex; kill -9 \$\$") . "'"), qr/^missing\|.*killed" of sentient_edge.key_command failed$/, 'or is killed');
like(restart(program('hangs', "sleep 1000 & echo \$! > $folder/sleeper; echo $hex; wait", '10s') . "'"), qr/^missing\|.*hangs" of sentient_edge.key_command did not end in time$/, 'or hangs');
my $sleeper = slurp_file("$folder/sleeper") + 0;
# gone, or waiting for somebody to look at its end; it was to sleep for long after this
my $gone = 0;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if $gone = !-e "/proc/$sleeper/stat" || (eval { slurp_file("/proc/$sleeper/stat") } // '') =~ /^$|\) Z /;
	usleep(100_000);
}
ok($sleeper > 0 && $gone, 'its child is killed with it');
like(restart(program('closes', "echo $hex; exec >&-; sleep 1000", '1s') . "'"), qr/^missing\|.*closes" of sentient_edge.key_command did not end in time$/, 'or closes its output and stays');
like(restart(program('talks', "yes $hex") . "'"), qr/^missing\|.*talks" of sentient_edge.key_command prints too much$/, 'or prints without end');
like(restart(program('silent', 'true') . "'"), qr/^missing\|there was none/, 'or prints nothing');
like(restart("sentient_edge.key_provider = command\nsentient_edge.key_command = '$folder/absent'"), qr/^missing\|.*absent" of sentient_edge.key_command could not be executed$/, 'or does not exist');
for my $command ('echo x', '', '/bin/echo "x')
{
	like(restart("sentient_edge.key_provider = command\nsentient_edge.key_command = '$command'"), qr/^missing\|sentient_edge.key_command must begin with the absolute path/, "no command: $command");
}

# ---- what a process that holds keys tells others ----

SKIP:
{
	skip 'everything is visible to root', 4 if $> == 0;
	for my $allowed ('off', 'on')
	{
		restart("sentient_edge.key_core_dump = $allowed", SENTIENT_EDGE_MASTER_KEY => $hex);
		my $session = $node->background_psql('fleet');
		my $pid = $session->query_safe('SELECT pg_backend_pid()');

		is((stat "/proc/$pid/mem")[4], $>, "core dumps $allowed: a session without keys belongs to its user");
		$session->query_safe("SELECT sentient_edge.rotate_data_key('field'); SELECT count(*) FROM sentient_edge.key_status()");
		is((stat "/proc/$pid/mem")[4], $allowed eq 'on' ? $> : 0, "core dumps $allowed: with keys it " . ($allowed eq 'on' ? 'still does' : 'is closed'));
		$session->quit;
	}
}

# ---- not preloaded ----

$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$ENV{SENTIENT_EDGE_MASTER_KEY} = $hex;
$node->start;
is($node->safe_psql('fleet', q{SELECT state, problem FROM sentient_edge.key_status() WHERE kind = 'master key'}), 'missing|sentient_edge is not preloaded', 'a server that does not preload the library has no key');
($status, $out, $err) = $node->psql('fleet', "SELECT sentient_edge.rotate_data_key('field')");
like($err, qr/no master key is known to this server\nDETAIL:  sentient_edge reads master keys only in a server that loads it at start.\nHINT:  Add sentient_edge to shared_preload_libraries/, 'and says what to do');

unlike(slurp_file($node->logfile), qr/PANIC|sentient_edge assertion|terminated by signal/, 'no process died');
unlike(slurp_file($node->logfile), qr/8f1c3a5e7092|DUUz6jQKD6Cz|Founding-deploy|0102030405060708090a/, 'no key is in the log');
$node->stop;
done_testing();
