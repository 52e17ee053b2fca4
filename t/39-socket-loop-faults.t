# The faults of t/86, where an event loop moves the data: libvirt's own, or one in Perl.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

plan skip_all => 'the C binding has no socket' unless rust();

for my $loop (qw(default perl)) {
    my $got = run_perl('do "./t/86-socket-faults.t" or die $@ || $!', args => [$loop], deadline => 600);
    my $fine = !grep { $_ } @$got{qw(status signal hang)};
    ok $fine, "loop: $loop" or diag explain $got;
}

done_testing;
