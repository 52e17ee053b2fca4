# A callback that calls exit: the program ends with that code, by way of its END blocks.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);
use StreamTest::Turns;

my $START = <<'EOP';
END { print "end ", $? || 0, "\n" }
END { conn()->get_library_version; print "connected\n" }
our $guard = bless [];
sub DESTROY { print "destroyed\n" }
my $st = opened();
my $other = opened();
EOP

StreamTest::Turns::every('in a callback', $START . <<'EOP', status => 7, out => "connected\nend 7\ndestroyed\n");
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { exit 7 });
turns_until(sub { 0 });
print "not reached\n";
EOP

StreamTest::Turns::every('with 0, in evals', $START . <<'EOP', few => 1, out => "connected\nend 0\ndestroyed\n");
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { eval { eval { exit 0 }; print "on\n" }; print "on\n" });
turns_until(sub { 0 });
print "caught @CAUGHT";
print "not reached\n";
EOP

StreamTest::Turns::every('after another died', $START . <<'EOP', status => 9, out => "connected\nend 9\ndestroyed\n");
my $died = 0;
$other->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { exit 9 if $died });
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    $_[0]->remove_callback;
    $died = 1;
    die "mine\n";
});
turns_until(sub { 0 });
print "not reached\n";
EOP

StreamTest::Turns::every('in a turn within a callback', $START . <<'EOP', status => 11, out => "connected\nend 11\ndestroyed\n");
my $inside = 0;
$other->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { exit 11 if $inside });
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    $_[0]->remove_callback;
    $inside = 1;
    turns_until(sub { 0 });
    print "inner not reached\n";
});
turns_until(sub { 0 });
print "not reached\n";
EOP

StreamTest::Turns::every('having removed itself', $START . <<'EOP', few => 1, status => 3, out => "connected\nend 3\ndestroyed\n");
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { $_[0]->remove_callback; undef $st; exit 3 });
turns_until(sub { 0 });
print "not reached\n";
EOP

# An abort calls a local stream's callback a last time.
StreamTest::Turns::every('in the callback of an abort', $START . <<'EOP', on => 'local', status => 5, out => "connected\nend 5\ndestroyed\n");
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { exit 5 });
$st->abort;
print "not reached\n";
EOP

StreamTest::Turns::every('in what a callback held, at its end', $START . <<'EOP', few => 1, status => 6, out => "connected\nend 6\n");
# At the very end there may be no more destructors: one of them has called exit.
BEGIN { no warnings 'redefine'; *main::DESTROY = sub { } }
sub Held::DESTROY { exit 6 }
{
    my $held = bless {}, 'Held';
    $other->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { undef $held });
}
turns_until(sub { 0 });
print "not reached\n";
EOP

# exit in END blocks and destructors at the program's end, callbacks still registered.
StreamTest::Turns::every('with callbacks left behind', <<'EOP', out => "end\nleft\n", status => 4);
END { print "end\n"; $? = 4 }
our @left = map { opened() } 1 .. 3;
our $held = bless {}, 'Held';
sub Held::DESTROY { print "left\n" }
{
    my $keep = $held;
    $_->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { $keep }) for @left;
}
turn();
undef $held;
@left = ();
exit 2;
EOP

done_testing;
