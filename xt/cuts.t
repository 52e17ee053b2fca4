# Transfers of virt-stream that are cut off at 200 random points, and continued: the client, the
# daemon and the connection, in turn. Another number: prove -b xt/cuts.t :: 1000
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Cut;

my ($rounds) = @ARGV ? @ARGV : 200;
deadline($rounds * 60);
$SIG{PIPE} = 'IGNORE';
my $cut = StreamTest::Cut->new(daemon(), scratch());
my @ways = $cut->ways;
$cut->rounds($ways[$_ % @ways], 1) for 0 .. $rounds - 1;

done_testing;
