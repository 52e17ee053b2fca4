# A callback that dies: the exception comes out of the turn of the loop that ran it, the
# very same, and the loop, the stream and the connection go on.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);
use StreamTest::Turns;

plan skip_all => 'the C binding loses its loop when a callback dies' unless rust();

# Reads on after what the case did; then a second transfer by events.
my $READS_ON = <<'EOP';
    my $data = take($_[0]);
    $bytes += length $data if defined $data;
    if (!defined $data) { $_[0]->remove_callback; $_[0]->finish; $end = 1 }
});
print turns_until(sub { $end }) && $bytes > 30_000 ? "read\n" : "stuck at $bytes\n";
EOP
my $START = <<'EOP';
my ($calls, $bytes, $end) = (0, 0, 0);
my $st = opened();
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
EOP
my $END = "works();\n";

StreamTest::Turns::every('a string', $START . <<'EOP' . $READS_ON . <<'EOP' . $END, out => "read\nThe string\nworks\n");
    die "The string\n" if !$calls++;
EOP
print @CAUGHT;
EOP

StreamTest::Turns::every('an object', <<'EOP' . $START . <<'EOP' . $READS_ON . <<'EOP' . $END, out => "read\n1 same\ngone\nworks\n");
my $object = bless { text => 'x' }, 'Some::Error';
sub Some::Error::DESTROY { print "gone\n" }
EOP
    die $object if !$calls++;
EOP
print scalar(@CAUGHT), $CAUGHT[0] == $object ? " same\n" : " other\n";
undef $object;
@CAUGHT = ();
undef $@;
EOP

StreamTest::Turns::every('false and empty objects', $START . <<'EOP' . $READS_ON . <<'EOP' . $END, few => 1, out => "read\nARRAY Empty\nworks\n");
    $calls++;
    die [] if $calls == 1;
    die bless {}, 'Empty' if $calls == 2;
EOP
print join(' ', map { ref } @CAUGHT), "\n";
{ package Empty; use overload 'bool' => sub { 0 }, fallback => 1; }
EOP

StreamTest::Turns::every('again and again', $START . <<'EOP' . $READS_ON . <<'EOP' . $END, out => "read\n1 2 3 4 5\nworks\n");
    die "$calls\n" if $calls++ < 5;
EOP
chomp @CAUGHT;
print "@CAUGHT\n";
EOP

StreamTest::Turns::every('in an eval of its own', $START . <<'EOP' . $READS_ON . <<'EOP' . $END, few => 1, out => "read\n0 caught\nworks\n");
    eval { die "inside\n" } or $calls++;
EOP
print scalar(@CAUGHT), " caught\n";
EOP

StreamTest::Turns::every('$SIG{__DIE__} sees it once', <<'EOP' . $START . <<'EOP' . $READS_ON . <<'EOP' . $END, out => "read\n1 seen, 1 caught\nworks\n");
my $seen = 0;
$SIG{__DIE__} = sub { $seen++ if $_[0] eq "once\n" };
EOP
    die "once\n" if !$calls++;
EOP
print "$seen seen, ", scalar(@CAUGHT), " caught\n";
delete $SIG{__DIE__};
EOP

# Out of the callback there is nothing to go to.
my %leave = (
    'last' => ['OUT: for my $once (1) { $pass->() }', 'last OUT', 'Label not found for "last OUT"'],
    'next' => ['OUT: for my $once (1) { $pass->() }', 'next OUT', 'Label not found for "next OUT"'],
    'goto' => ['$pass->(); OUT: $bytes += 0;', 'goto OUT', 'Can\'t find label OUT'],
);
for my $how (sort keys %leave) {
    my ($outside, $word, $text) = @{ $leave{$how} };
    StreamTest::Turns::every("leaving by $how", <<"EOP" . <<'EOP', few => 1, out => "1\nread\nworks\n");
no warnings 'exiting';
my (\$calls, \$bytes, \$end) = (0, 0, 0);
my \$st = opened();
\$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    $word if !\$calls++;
    my \$data = take(\$_[0]);
    \$bytes += length \$data if defined \$data;
    if (!defined \$data) { \$_[0]->remove_callback; \$_[0]->finish; \$end = 1 }
});
my \$pass = sub { turns_until(sub { \$end }) };
$outside
print scalar(grep { /^\Q$text\E/ } \@CAUGHT), "\\n";
EOP
turns_until(sub { $end });
print $bytes > 30_000 ? "read\n" : "stuck\n";
works();
EOP
}

# What it did before it died.
my %before = (
    'removed itself' => '$_[0]->remove_callback',
    'finished' => '$_[0]->finish',
    'aborted' => '$_[0]->abort',
    'dropped the stream' => 'undef $st',
    'removed itself and dropped the stream' => '$_[0]->remove_callback; undef $st; undef $_[0]',
    'updated its mask' => '$_[0]->update_callback(0)',
);
for my $what (sort keys %before) {
    StreamTest::Turns::every("after it $what", <<"EOP", few => 1, out => "caught mine\nworks\n");
my \$st = opened();
my \$calls = 0;
\$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    return if \$calls++;
    eval { $before{$what}; 1 } or print "error \$@";
    die "mine\\n";
});
turns_until(sub { \@CAUGHT });
print "caught \$_" for \@CAUGHT;
\@CAUGHT = ();
turn() for 1 .. 3;
works();
EOP
}

# Both are due in the same turn; the second must not wait for another event to come.
StreamTest::Turns::every('two in one turn', <<'EOP', out => "first second\nworks\n");
my %st = map { ($_ => opened()) } qw(first second);
# So that both have something to say before the loop looks.
for my $name (sort keys %st) {
    $st{$name}->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
        $_[0]->remove_callback;
        die "$name\n";
    });
}
turns_until(sub { @CAUGHT == 2 });
chomp @CAUGHT;
print join(' ', sort @CAUGHT), "\n";
works();
EOP

# libvirt's loop waits until there is an event: what was thrown may not wait with it.
StreamTest::Turns::every('two in one turn, and no event after', <<'EOP', loop => 'default', out => "two before the timer\n");
my @st = map { opened(0) } 1, 2;
my ($timer, $late) = (undef, 0);
for my $st (@st) {
    $st->add_callback(Sys::Virt::Stream::EVENT_WRITABLE | Sys::Virt::Stream::EVENT_READABLE, sub {
        $_[0]->remove_callback;
        die "mine\n";
    });
}
# The loop's own timer would be such an event.
Sys::Virt::Event::remove_timeout($StreamTest::Turns::TIMER);
$timer = Sys::Virt::Event::add_timeout(30_000, sub { $late = 1 });
for (1 .. 10) {
    eval { Sys::Virt::Event::run_default(); 1 } or push @CAUGHT, $@;
    last if @CAUGHT == 2 || $late;
}
print @CAUGHT == 2 ? 'two' : scalar(@CAUGHT), $late ? " late\n" : " before the timer\n";
EOP

StreamTest::Turns::every('in a turn within a callback', <<'EOP', out => "inner caught mine\nworks\n");
my $st = opened();
my $other = opened();
my ($depth, $done) = (0, 0);
$other->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    return unless $depth;    # only in the turn within
    $_[0]->remove_callback;
    die "mine\n";
});
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    $_[0]->remove_callback;
    $depth++;
    turns_until(sub { @CAUGHT });
    print "inner caught $_" for splice @CAUGHT;
    $done = 1;
});
turns_until(sub { $done });
print "outer caught $_" for @CAUGHT;
works();
EOP

done_testing;
