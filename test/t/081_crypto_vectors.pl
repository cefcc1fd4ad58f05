# 081_crypto_vectors.pl
#		Builds test/unit/crypto_vectors.c, which links the primitives without the
#		server, and reports its tests as this file's.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

my $program = PostgreSQL::Test::Utils::tempdir() . '/crypto_vectors';

is(system('cc', '-std=c11', '-O1', '-Wall', '-Wextra', '-Isrc', '-o', $program, 'test/unit/crypto_vectors.c',
		'src/crypto/cipher.c', 'src/crypto/key_text.c', '-lcrypto'), 0, 'the program is built')
  or BAIL_OUT('no program');
my @lines = split /\n/, `$program`;
is($?, 0, 'it says that all is well');
for my $line (@lines)
{
	ok(!$1, $2) if $line =~ /^(not )?ok \d+ - (.*)/;
}
is($lines[-1], '1..' . (@lines - 1), 'and has run all of its tests');
done_testing();
