# house_rules.pl
#		The rules of this source tree that a program can check; called by
#		test/tools/lint in the checkout's top.  Prints a line a finding.

use strict;
use warnings;

use File::Find;

# A module includes itself and modules of a lower rank.  mavlink knows nothing of
# PostgreSQL, so that the fuzz targets can link it alone.
my %rank = (
	mavlink => 0,
	base => 1,
	crypto => 2,
	partition => 2,
	queue => 2,
	sealed => 3,
	audit => 3,
	capture => 4,
	alert => 4,
	events => 5,
	telemetry => 5,
	ledger => 6,);
my @findings;

sub finding
{
	my ($path, $line, $text) = @_;
	push @findings, "$path:$line: $text";
}

sub check_c
{
	my ($path, $text) = @_;
	my ($module) = $path =~ m{^src/(\w+)/};
	my ($name) = $path =~ m{([^/]+)$};

	finding($path, 1, 'no head comment that begins with the file\'s name')
	  unless $text =~ m{^/\*[ *-]*\n \*\s*\Q$name\E\n \*\t\t\S};

	my $number = 0;
	for my $line (split /\n/, $text)
	{
		$number++;
		finding($path, $number, 'PG_VERSION_NUM belongs in src/compat.h')
		  if $line =~ /PG_VERSION_NUM/ && $path ne 'src/compat.h';
		finding($path, $number, 'C++ comment') if $line =~ m{(^|[\s;{}])//};
		if ($line =~ /^\s*#include "(\w+)\/[^"]*"/ && exists $rank{$1} && defined $module)
		{
			my $included = $1;
			finding($path, $number, "$module must not include $included")
			  unless $module eq $included || ($rank{$included} // 99) < ($rank{$module} // -1);
		}
		finding($path, $number, 'mavlink is free of PostgreSQL')
		  if ($module // '') eq 'mavlink' && $line =~ /#include "(postgres|c|fmgr|utils\/|lib\/|nodes\/|access\/)/;
	}
	finding($path, 1, "module \"$module\" has no rank in test/tools/house_rules.pl")
	  if defined $module && !exists $rank{$module};

	# every ereport of an error says its errcode
	while ($text =~ /\bereport\((ERROR|FATAL|PANIC),((?:[^;"]|"(?:[^"\\]|\\.)*")*);/g)
	{
		my ($call, $end) = ($2, pos $text);
		next if $call =~ /errcode|err\w*_code|sqlerrcode/;
		my $line = 1 + (substr($text, 0, $end) =~ tr/\n//);
		finding($path, $line, 'ereport without an errcode');
	}
}

sub check_sql_piece
{
	my ($path, $text) = @_;

	finding($path, 1, 'no head comment') unless $text =~ /^(--|\/\*)/;
	while ($text =~ /\bCREATE\s+(?:OR\s+REPLACE\s+)?FUNCTION\s+([\w.]+)((?:(?!\bCREATE\b).)*?)(?:\$\w*\$|\bAS\s+'|;)/gsi)
	{
		my ($function, $head) = ($1, $2);
		my $line = 1 + (substr($text, 0, pos $text) =~ tr/\n//);
		finding($path, $line, "$function: not schema-qualified") unless $function =~ /\./;
		finding($path, $line, "$function: SECURITY DEFINER without SET search_path")
		  if $head =~ /SECURITY\s+DEFINER/i && $head !~ /SET\s+search_path\s*(=|TO)\s*pg_catalog,\s*pg_temp/i;
	}
}

sub check_any
{
	my ($path, $text) = @_;
	my $number = 0;

	for my $line (split /\n/, $text, -1)
	{
		$number++;
		finding($path, $number, 'trailing white space') if $line =~ /[ \t\r]$/;
		finding($path, $number, 'unfinished work')
		  if $line =~ /\b(TODO|FIXME|XXX|HACK)\b/ && $path ne 'test/tools/house_rules.pl';
		finding($path, $number, 'conflict marker') if $line =~ /^(<{7}|>{7})( |$)/;
	}
	finding($path, $number, 'no newline at the end of the file') if length $text && $text !~ /\n\z/;
}

find(
	{   no_chdir => 1,
		wanted => sub {
			my $path = $File::Find::name =~ s{^\./}{}r;
			if (-d $path && $path =~ m{^(\.git|test/fuzz/(build|corpus|seeds)|test/data|test/results|results)$})
			{
				$File::Find::prune = 1;
				return;
			}
			# expected output keeps what psql printed
			return if !-f $path || -l $path || $path =~ m{\.(o|so|bc|out)$|^sql/sentient_edge--};
			open my $file, '<:raw', $path or die "$path: $!\n";
			my $text = do { local $/; <$file> } // '';
			return if $text =~ /\0/;
			check_any($path, $text);
			check_c($path, $text) if $path =~ m{^src/.*\.[ch]$};
			check_sql_piece($path, $text) if $path =~ m{^sql/install/.*\.sql$};
			finding($path, 1, 'no head comment')
			  if $path =~ m{^test/.*\.(pl|pm|c|h|sh)$|^test/tools/} && $text !~ m{^(#!.*\n)?(#|/\*|<\?xml|--)};
		}
	},
	'.');

print "$_\n" for sort @findings;
exit(@findings ? 1 : 0);
