# check_meta.pl
#		Validates META.json by the PGXN meta specification 1.0.0; called by test/tools/lint.

use strict;
use warnings;

use JSON::PP;

my $path = shift @ARGV // 'META.json';
my @findings;

open my $file, '<:raw', $path or die "$path: $!\n";
my $meta = eval { JSON::PP->new->utf8->decode(do { local $/; <$file> }) }
  or die "$path: not JSON: $@";

my $semver = qr/^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[A-Za-z][0-9A-Za-z-]*)?$/;
my %licenses = map { $_ => 1 } qw(agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd
  gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3 lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1 openssl
  perl_5 postgresql qpl_1_0 ssleay sun zlib open_source restricted unrestricted unknown);

# the prototype gives matches scalar context
sub need($$)
{
	my ($holds, $what) = @_;
	push @findings, $what unless $holds;
	return $holds;
}

sub strings
{
	my ($value) = @_;
	my @values = ref $value eq 'ARRAY' ? @$value : ($value);
	return @values && !grep { !defined || ref || !length } @values;
}

for my $key (qw(name version abstract maintainer license provides meta-spec))
{
	need(defined $meta->{$key}, "\"$key\" is missing");
}
for my $key (keys %$meta)
{
	need($key =~ /^(name|version|abstract|maintainer|license|provides|meta-spec|description|generated_by|no_index|prereqs|release_status|resources|tags|x_.+)$/i,
		"\"$key\" is no key of the specification");
}
need(($meta->{name} // '') =~ m{^[^\s/\\[:cntrl:]]{2,}$}, '"name" must be a term');
need(($meta->{version} // '') =~ $semver, '"version" must be a semantic version');
need(strings($meta->{$_}), "\"$_\" must be a string or a list of strings") for qw(abstract maintainer);
need(($meta->{release_status} // 'stable') =~ /^(stable|testing|unstable)$/, '"release_status" is unknown');
need(strings($meta->{tags}), '"tags" must be a list of strings') if exists $meta->{tags};

if (ref $meta->{license} eq 'HASH')
{
	need(m{^https?://}, "license: \"$_\" is no URL") for values %{ $meta->{license} };
}
else
{
	my @names = ref $meta->{license} ? @{ $meta->{license} } : ($meta->{license} // '');
	need($licenses{$_}, "license \"$_\" is unknown") for @names;
}

my $spec = $meta->{'meta-spec'};
need(ref $spec eq 'HASH' && ($spec->{version} // '') eq '1.0.0', '"meta-spec" must have version 1.0.0');

if (need(ref $meta->{provides} eq 'HASH' && %{ $meta->{provides} }, '"provides" must name an extension'))
{
	while (my ($name, $extension) = each %{ $meta->{provides} })
	{
		need(($extension->{version} // '') =~ $semver, "provides $name: \"version\" must be a semantic version");
		my $script = $extension->{file} // '';
		# the install script is composed by make
		need(-f $script || $script =~ /^sql\/\Q$name\E--[\d.]+\.sql$/, "provides $name: no file \"$script\"");
		need(!$extension->{docfile} || -f $extension->{docfile}, "provides $name: no file \"" . ($extension->{docfile} // '') . '"');
		my ($control) = do { open my $fh, '<', "$name.control" or die "$name.control: $!\n"; join('', <$fh>) =~ /^default_version = '([^']+)'/m };
		need(index(($extension->{version} // '') . '.', "$control.") == 0, "provides $name: version differs from $name.control's $control");
	}
}

for my $phase (keys %{ $meta->{prereqs} // {} })
{
	need($phase =~ /^(configure|build|test|runtime|develop)$/, "prereqs: unknown phase \"$phase\"");
	for my $relation (keys %{ $meta->{prereqs}{$phase} })
	{
		need($relation =~ /^(requires|recommends|suggests|conflicts)$/, "prereqs $phase: unknown relation \"$relation\"");
		while (my ($name, $range) = each %{ $meta->{prereqs}{$phase}{$relation} })
		{
			need($range =~ /^(0|((<|<=|==|!=|>=|>)?\s*\d+\.\d+\.\d+\S*)(\s*,\s*(<|<=|==|!=|>=|>)?\s*\d+\.\d+\.\d+\S*)*)$/,
				"prereqs $phase $relation: \"$name\" has no valid version range");
		}
	}
}

print "$path: $_\n" for @findings;
exit(@findings ? 1 : 0);
