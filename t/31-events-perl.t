# Callbacks in an event loop written in Perl.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);
use StreamTest::Events;
use StreamTest::Loop;

my $loop = StreamTest::Loop->new;
StreamTest::Events::check(sub { $loop->step(0.005) });

done_testing;
