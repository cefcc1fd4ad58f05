# 910_demo.pl
#		`make demo` shows what it promises and leaves nothing behind; with KEEP=1 it
#		leaves a server that can be reached and stopped as it says.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

my ($bindir) = run_command([ 'pg_config', '--bindir' ]);
local $ENV{PG_CONFIG} = "$bindir/pg_config";
local $ENV{KEEP} = 1;

my ($output, $errors) = run_command(['test/tools/demo']);
is($errors, '', 'no error');
my @imports = $output =~ /^\s*(\d+) \|\s*(\d+) \|\s*(\d+) \|\s*[\d.]+ \|\s*\d+$/mg;
is(scalar @imports, 6, 'two imports');
cmp_ok($imports[0], '>', 800, 'the first takes the samples');
is($imports[4], $imports[0], 'to the second all are duplicates');
is("$imports[1] $imports[2] $imports[3] $imports[5]", '0 0 0 0', 'nothing is rejected');
like($output, qr/2018.?08/, 'the partition of the flight is listed');
like($output, qr/\*{2}.*S|S.*\*{2}/s, 'the path is drawn');

my ($connect) = $output =~ /^connect:\s+(.*)$/m;
my ($stop) = $output =~ /^stop:\s+(.*)$/m;
my ($samples) = run_command([ split(' ', $connect), '-XAtc', 'SELECT count(*) FROM telemetry.drone_telemetry' ]);
is($samples, $imports[0], 'the server that KEEP=1 leaves can be queried');
command_ok([$stop], 'and stopped');
ok(!-e $stop, 'and nothing of it is left');

done_testing();
