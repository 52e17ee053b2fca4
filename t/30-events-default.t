# Callbacks in libvirt's own event loop.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);
use StreamTest::Events;

Sys::Virt::Event::register_default();
# A turn waits for an event, so there has to be one.
Sys::Virt::Event::add_timeout(5, sub { });
StreamTest::Events::check(sub { Sys::Virt::Event::run_default() });

done_testing;
