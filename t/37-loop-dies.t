# A loop written in Perl whose own methods die, or exit, while libvirt calls them from the
# middle of its own work: that comes out of the call, or the turn, and nothing stays locked.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);
use StreamTest::Turns;

plan skip_all => 'under the C binding it leaves libvirt locked' unless rust();

my $START = <<'EOP';
# How many of each method's next calls fail, once armed.
our (%fails, $how);
BEGIN {
    $how = sub { die { method => $_[0] } };
    no warnings 'redefine';
    no strict 'refs';
    for my $method (map { ("add_$_", "update_$_", "remove_$_") } qw(handle timeout)) {
        my $real = \&{"StreamTest::Loop::$method"};
        *{"StreamTest::Loop::$method"} = sub {
            # What it was asked to do is done: only then does it fail.
            my @result = &$real;
            $how->($method) if ($fails{$method} || 0) > 0 && $fails{$method}--;
            return $result[0];
        };
    }
}
sub said { return ref $_[0] eq 'HASH' ? $_[0]{method} : $_[0] }
sub attempt {
    my ($name, $method, $call) = @_;
    local $fails{$method} = 1;
    eval { $call->(); print "$name: nothing\n"; 1 }
        or print "$name: ", said($@), "\n";
    conn()->get_library_version;
}
my $st = opened();
my $nothing = sub { };
EOP

# A timer stands for a remote stream, a handle for a local one.
for my $case ([remote => 'timeout'], [local => 'handle']) {
    my ($on, $what) = @$case;
    my $each = sub {
        my ($name, $code, $out) = @_;
        $code =~ s/WHAT/$what/g;
        $out =~ s/WHAT/$what/g;
        StreamTest::Turns::every($name, $START . $code . "\nworks();\n",
            loop => 'perl', on => $on, out => $out . "works\n");
    };
    $each->('add_callback', <<'EOP', "add: add_WHAT\nadd: nothing\nremove: nothing\n");
attempt(add => add_WHAT => sub { $st->add_callback(Sys::Virt::Stream::EVENT_READABLE, $nothing) });
eval { $st->remove_callback };
attempt(add => remove_WHAT => sub { $st->add_callback(Sys::Virt::Stream::EVENT_READABLE, $nothing) });
attempt(remove => add_WHAT => sub { $st->remove_callback });
EOP
    $each->('update_callback', <<'EOP', "update: update_WHAT\nupdate: nothing\n");
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, $nothing);
attempt(update => update_WHAT => sub { $st->update_callback(0) });
attempt(update => remove_WHAT => sub { $st->update_callback(Sys::Virt::Stream::EVENT_READABLE) });
$st->remove_callback;
EOP
    $each->('remove_callback', <<'EOP', "remove: remove_WHAT\n");
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, $nothing);
attempt(remove => remove_WHAT => sub { $st->remove_callback });
EOP
    for my $end (qw(finish abort)) {
        $each->($end, <<"EOP", "$end: remove_WHAT\n");
\$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, \$nothing);
attempt($end => remove_WHAT => sub { \$st->$end });
undef \$st;
EOP
    }
    # A destructor has no caller to throw to: only the order matters.
    $each->('the end of a stream', <<'EOP', "drop: nothing\n");
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, $nothing);
$SIG{__WARN__} = sub { print "warned: @_" unless "@_" =~ /in cleanup/ };
attempt(drop => remove_WHAT => sub { $st->remove_callback if 0; undef $st; });
$_->remove_callback for grep { defined } $st;
EOP
    $each->('the end of a stream that its callback let go', <<'EOP', "drop: remove_WHAT\n");
my $turns = 0;
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { $_[0]->remove_callback; $turns++ });
undef $st;
attempt(drop => remove_WHAT => sub { my $end = time + 10; while (!$turns && time < $end) { turn() } turn() });
EOP
}

# Freed without a destructor of ours, and with no eval around it: there is nobody to throw to.
StreamTest::Turns::every('the end of a stream of a class with a DESTROY of its own', $START . <<'EOP',
{ package WithoutSuper; our @ISA = 'Sys::Virt::Stream'; sub DESTROY { } }
bless $st, 'WithoutSuper';
$fails{update_handle} = 1;
undef $st;
print $fails{update_handle} ? "not asked\n" : "on\n";
%fails = ();
works();
EOP
    loop => 'perl', on => 'remote', out => "on\nworks\n");

# In the middle of a transfer, and in a turn: libvirt adapts what it waits for.
my @METHODS = qw(update_handle update_timeout);
for my $method (@METHODS) {
    StreamTest::Turns::every("$method in turns", $START . <<"EOP", loop => 'perl', on => 'remote', out => "read\nonly $method\nworks\n");
my (\$bytes, \$end, \%threw) = (0, 0);
undef \$st;
\$st = opened();
\$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    my \$data = eval { take(\$_[0]) };
    if (\$@) { \$threw{said(\$@)}++; return }
    if (defined \$data) { \$bytes += length \$data; return }
    \$_[0]->remove_callback;
    \$end = 1;
});
\$fails{$method} = 3;
my \$late = time + 10;
for (1 .. 100_000) {
    last if \$end || time > \$late;
    # Something for the connection's socket to do as well.
    eval { conn()->get_library_version unless \$_ % 10; 1 } or \$threw{said(\$@)}++;
    eval { turn(); 1 } or \$threw{said(\$@)}++;
}
print \$end && \$bytes > 0 ? "read\n" : "stuck at \$bytes\n";
print "only ", join(' ', sort keys \%threw), "\n";
\%fails = ();
eval { \$st->finish };
undef \$st;
works();
EOP
    StreamTest::Turns::every("$method in recv_all", $START . <<"EOP", loop => 'perl', on => 'remote', out => "$method\nworks\n");
undef \$st;
my \$blocking = opened(0);
\$blocking->add_callback(Sys::Virt::Stream::EVENT_READABLE, \$nothing);
\$fails{$method} = 1;
eval { \$blocking->recv_all(sub { \$_[2] }); 1 } and print "nothing, left \$fails{$method}\n"
    or print said(\$@), "\n";
\%fails = ();
undef \$blocking;
works();
EOP
}

# A signal that comes while libvirt waits finds perl's next op, and that is in the loop.
StreamTest::Turns::every('a signal handler that dies', $START . <<'EOP',
my ($threw, $other) = (0, 0);
undef $st;
our $armed;
$SIG{ALRM} = sub { die "alarm\n" if $armed };
for (1 .. 300) {
    my $blocking = opened(0);
    my $went = eval {
        local $armed = 1;
        Time::HiRes::ualarm(1 + rand 300);
        while ($blocking->recv(my $data, 4_000) > 0) { }
        1;
    };
    $went or ($@ eq "alarm\n" ? $threw : $other)++;
}
Time::HiRes::ualarm(0);
works();
print "then $other\n" if $other;
print $threw ? "threw\n" : "no signal was in time\n";
EOP
    loop => 'perl', on => 'remote', out => "works\nthrew\n");

# exit: the program ends by way of END, with the connection still in order there.
for my $case (
    ['add_callback', 'remote', 'add_timeout', '$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, $nothing)'],
    ['add_callback', 'local', 'add_handle', '$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, $nothing)'],
    ['finish', 'remote', 'remove_timeout', '$st->finish'],
    ['abort', 'local', 'remove_handle', '$st->abort'],
    ['update_callback', 'remote', 'update_timeout', '$st->update_callback(0)'],
) {
    my ($name, $on, $method, $code) = @$case;
    StreamTest::Turns::every("exit in $method, in $name", $START . <<"EOP", loop => 'perl', on => $on, status => 8, out => "connected\n");
END { conn()->get_library_version; print "connected\n" }
sub go { my \@args = \@_; $code; return }
\$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, \$nothing) unless '$name' eq 'add_callback';
\$how = sub { exit 8 };
\$fails{$method} = 1;
go(1);
print "not reached\n";
EOP
}

# What a guard is put around may be a value that its variable makes when it is asked.
for my $kind ('tie my $code, "Made", $dies; $code', 'tie my %of, "Made", $dies; $of{code}') {
    my $call = $kind =~ s/; (\S+)\z/; Sys::Virt::Event::add_timeout(1, $1)/r;
    ok_perl(<<"EOP", join('', map { "time $_\n" } 1 .. 3), "a callback that is made when it is asked for: $kind", deadline => 60);
use strict; use warnings; use Sys::Virt;
{ package Made; sub TIESCALAR { bless [\$_[1]] } sub TIEHASH { bless [\$_[1]] } sub FETCH { \$_[0][0] } sub STORE { } }
Sys::Virt::Event::register_default();
my \$times = 0;
my \$dies = sub { die 'time ', ++\$times, "\\n" };
my \$timer = do { $call };
for (1 .. 3) { eval { Sys::Virt::Event::run_default(); 1 } and redo; print \$@ }
EOP
}

# Perl frees what is global in an order of its own, and the C binding says nothing either.
ok_perl(<<'EOP', "end\n", 'a loop that is gone before the stream, at the end of the program', args => [StreamTest::daemon()->test_uri]) if StreamTest::has('libvirtd');
use strict; use warnings;
use Sys::Virt;
use StreamTest::Loop;
our $loop = StreamTest::Loop->new;
our $conn = Sys::Virt->new(uri => $ARGV[0]);
our $st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
$conn->get_domain_by_name('test')->screenshot($st, 0);
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { });
print "end\n";
EOP

done_testing;
