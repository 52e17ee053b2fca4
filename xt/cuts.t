# Transfers of virt-stream that are cut off at random points, and continued: 200 cuts of the client,
# of the daemon and of the connection. Another number: prove -b xt/cuts.t :: 1000
use strict;
use warnings;

use List::Util qw(sum);
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Cut;

my ($wanted) = @ARGV ? @ARGV : 200;
deadline($wanted * 180);
$SIG{PIPE} = 'IGNORE';
my $cut = StreamTest::Cut->new(daemon(), scratch());
my (%cuts, %again);
# Some transfers are whole before the last cut, so the number of rounds is not known.
while (my @ways = grep { ($cuts{ (split /, /)[1] } // 0) < $wanted } $cut->ways) {
    for my $way (@ways) {
        my ($cuts, $again) = $cut->rounds($way, 1);
        $cuts{ (split /, /, $way)[1] } += $cuts;
        push @{ $again{$way} }, $again / ($cuts || 1);
    }
}
diag "$_: $cuts{$_} cuts" for sort keys %cuts;
diag sprintf '%s: %d transfers, %.1f MiB sent again for a cut, %.1f at most', $_, scalar @{ $again{$_} },
    map { $_ / (1 << 20) } sum(@{ $again{$_} }) / @{ $again{$_} }, (sort { $a <=> $b } @{ $again{$_} })[-1] for sort keys %again;

done_testing;
