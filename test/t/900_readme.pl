# 900_readme.pl
#		Runs the examples of README.md in their order, on a server that preloads the
#		library, in one database that is empty at first.
#
# ```sql	run by psql, stopping at the first error
# ```sh		run by bash -eu in the checkout, with psql's environment set to that
#			database; not run when a line says "# not run by the tests: <why>"
# other		(```console, ```text, ...) not run

use strict;
use warnings FATAL => 'all';

use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SentientEdge;
use Test::More;

my $readme = slurp_file('README.md');
my $node = sentient_server('readme');
my %count = (sql => 0, sh => 0);

$node->safe_psql('postgres', 'CREATE DATABASE fleet');
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'fleet';

while ($readme =~ /^```(sql|sh)[^\n]*\n(.*?)^```\s*$/msg)
{
	my ($language, $example, $line) = ($1, $2, 1 + (substr($readme, 0, $-[0]) =~ tr/\n//));
	my ($output, $title) = ('', $example =~ /^\s*([^\n]{1,60})/);

	next if $language eq 'sh' && $example =~ /^# not run by the tests: \S/m;
	my @command =
	  $language eq 'sql'
	  ? ('psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', '-')
	  : ('bash', '-eu', '-o', 'pipefail', '-s');
	ok(run(\@command, '<', \$example, '>&', \$output), "line $line: $title") or diag $output;
	$count{$language}++;
}
ok($count{sql} > 0, "README.md has examples ($count{sql} sql, $count{sh} sh were run)");

$node->stop;
done_testing();
