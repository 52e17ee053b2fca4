# What a program sees of Perl's own accounts: callers, names, error variables, and the
# debugger's. They are those of the C binding.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);
use StreamTest::Turns;

# The same program on the C binding, which says what is right. Without it (an install
# that took its place, say) the answers are those written here.
sub like_c {
    my ($code, $out, $name, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok_perl($code, $out, "$name, on the C binding", %opt, env => { %{ $opt{env} || {} }, SYS_VIRT_STREAM => 'c' });
    ok_perl($code, $out, $name, %opt);
    return;
}

my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt; use Carp (); use Scalar::Util ();
$| = 1;
our $conn = Sys::Virt->new(uri => 'test:///default');
sub opened {
    my ($flags) = @_;
    my $st = $conn->new_stream($flags || 0);
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    return $st;
}
our $st = opened();
# The frames of the program, outermost last, each by its sub.
sub frames {
    my ($at, @names) = (1);
    while (my @frame = caller $at++) { push @names, $frame[3] }
    return join ' ', @names;
}
EOP

like_c($HEAD . <<'EOP', <<'OUT', 'caller in a handler');
sub outer { $st->recv_all(sub { our $n; print frames(), "\n" if !$n++; $_[2] }); return }
outer();
sub within_eval { my $other = opened(); eval { $other->recv_all(sub { our $m; print frames(), "\n" if !$m++; $_[2] }) }; return }
within_eval();
my $again = opened();
$again->recv_all(sub { our $k; print((caller 0)[3], ' ', join(' ', map { $_ // 'undef' } (caller 0)[0, 2, 4, 5]), "\n") if !$k++; $_[2] });
EOP
main::__ANON__ main::outer
main::__ANON__ (eval) main::within_eval
main::__ANON__ main 22 1 
OUT

like_c($HEAD . <<'EOP', "no eval\n1 lines\n", 'Carp in a handler');
my $trace;
sub outer { $st->recv_all(sub { $trace //= Carp::longmess('here'); $_[2] }); return }
outer(1);
print $trace =~ /eval \{/ ? $trace : "no eval\n";
print scalar(my @lines = $trace =~ /^\t/mg), " lines\n";
EOP

like_c($HEAD . <<'EOP', "main\nmain\n", 'Carp in a handler: who is to blame');
package Some::Code;
sub outer { $st->recv_all(sub { our $n; $n++ or eval { Carp::croak('wrong') }; $_[2] }); return }
package main;
sub told { my ($package) = caller; print "$package\n"; return }
$st->recv_all(sub { our $n; told() if $n++ < 1; $_[2] });
my $other = opened();
$other->recv_all(sub { our $m; print scalar(caller), "\n" if !$m++; $_[2] });
EOP

SKIP: {
    skip 'before 5.34 Perl has no way to call code but in an eval there', 6 if $] < 5.034;
    for my $kind (qw(default perl)) {
        like_c(<<'EOP', "main::__ANON__ main::turns\n", "caller in a callback ($kind)", args => [$kind]) }
use strict; use warnings; use Sys::Virt; use StreamTest::Loop;
$| = 1;
my $loop = $ARGV[0] eq 'perl' ? StreamTest::Loop->new : Sys::Virt::Event::register_default();
my $conn = Sys::Virt->new(uri => 'test:///default');
my $st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
$conn->get_domain_by_name('test')->screenshot($st, 0);
my $seen;
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    my ($at, @names) = (0);
    while (my @frame = caller $at++) { push @names, $frame[3] }
    # Sys::Virt's own, which differ by its version
    $seen //= join ' ', grep { !/^(?:StreamTest::|Sys::Virt::Event)/ } @names;
});
sub turns { for (1 .. 50) { last if $seen; $loop ? $loop->step(0.02) : Sys::Virt::Event::run_default() } return }
turns();
print "$seen\n";
EOP
    like_c(<<'EOP', "main::asks, no eval\n", "caller in a loop's method") if StreamTest::has('Sys::Virt');
use strict; use warnings; use Sys::Virt; use StreamTest::Loop;
$| = 1;
our $seen;
{
    package Some::Loop;
    our @ISA = 'StreamTest::Loop';
    sub add_handle {
        my ($at, @names) = (0);
        while (my @frame = caller $at++) { push @names, $frame[3] }
        $seen //= join(' ', grep { /^main::/ } @names) . (grep({ $_ eq '(eval)' } @names) ? ", @names" : ', no eval');
        return shift->SUPER::add_handle(@_);
    }
}
my $loop = Some::Loop->new;
my $conn = Sys::Virt->new(uri => 'test:///default');
my $st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
$conn->get_domain_by_name('test')->screenshot($st, 0);
sub asks { $st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { }); return }
asks();
$st->remove_callback;
print "$seen\n";
EOP
}

like_c($HEAD . <<'EOP', <<'OUT', 'error variables');
my $unopened = $conn->new_stream;
$@ = 'before';
{
    local $SIG{__DIE__} = sub {
        print ref $_[0], ' ', ref $@, ' ', ref $@ && Scalar::Util::refaddr($@) == Scalar::Util::refaddr($_[0]) ? 'same' : 'other', ' ', $^S // 'undef', "\n";
    };
    eval { $unopened->recv(my $data, 10) };
    eval { $unopened->finish };
    eval { $unopened->recv_all(sub { 1 }) };
    eval { $st->recv_all(sub { die "out\n" }) };
}
{
    my $seen = '';
    local $SIG{__DIE__} = sub { $seen .= $^S // 'undef' };
    my $other = opened();
    eval { $other->recv_all(sub { die "out\n" }) };
    print "seen $seen\n";
}
my $third = opened();
my $in = '';
$third->recv_all(sub { $in = $^S // 'undef'; $_[2] });
print "plain $in\n";
$third = opened();
eval { $third->recv_all(sub { $in = $^S // 'undef'; $_[2] }) };
print "in an eval $in\n";
EOP
Sys::Virt::Error Sys::Virt::Error same 1
Sys::Virt::Error Sys::Virt::Error same 1
Sys::Virt::Error Sys::Virt::Error same 1
  other 1
seen 1
plain 0
in an eval 1
OUT

like_c($HEAD . <<'EOP', "Sys::Virt::StorageVol::download\nSys::Virt::StorageVol::upload\nSys::Virt::Domain::screenshot\n"
require B;
sub full { my ($code) = @_; my $gv = B::svref_2object($code)->GV; return $gv->STASH->NAME . '::' . $gv->NAME }
print full(\&$_), "\n" for map { "Sys::Virt::$_" } qw(StorageVol::download StorageVol::upload Domain::screenshot
    Domain::open_console Domain::open_channel Event::run_default),
    map { "Stream::$_" } qw(NONBLOCK EVENT_READABLE EVENT_WRITABLE EVENT_ERROR EVENT_HANGUP RECV_STOP_AT_HOLE
        _new _new_obj DESTROY finish abort recv send recv_hole send_hole recv_all sparse_recv_all send_all
        sparse_send_all add_callback update_callback remove_callback);
EOP
    . "Sys::Virt::Domain::open_console\nSys::Virt::Domain::open_channel\nSys::Virt::Event::run_default\n"
    . join('', map { "Sys::Virt::Stream::$_\n" } qw(NONBLOCK EVENT_READABLE EVENT_WRITABLE EVENT_ERROR EVENT_HANGUP
        RECV_STOP_AT_HOLE _new _new_obj DESTROY finish abort recv send recv_hole send_hole recv_all sparse_recv_all
        send_all sparse_send_all add_callback update_callback remove_callback)), 'the names of subs');

if (rust()) {
    ok_perl(<<'EOP', '', 'the names of what only this module has');
use strict; use warnings; use Sys::Virt; use B;
for my $name (qw(new implementation recv_file send_file handle CLONE_SKIP)) {
    my $gv = B::svref_2object(Sys::Virt::Stream->can($name))->GV;
    print "$name: ", $gv->NAME, "\n" if $gv->NAME ne $name || $gv->STASH->NAME ne 'Sys::Virt::Stream';
}
EOP
}

# The debugger without a terminal, and what a program does under it.
my %debug = (PERLDB_OPTS => 'NonStop=1 noTTY TTY=/dev/null', PERL5DB => undef, HOME => '/nonexistent');
like_c($HEAD . <<'EOP', "33443\nout\nSys::Virt::Error\n33443\n", 'perl -d', switches => ['-d'], env => \%debug);
my $bytes = 0;
$st->recv_all(sub { $bytes += $_[2]; $_[2] });
$st->finish;
print "$bytes\n";
$st = opened();
eval { $st->recv_all(sub { die "out\n" }) };
print $@;
my $error = do { my $none = $conn->new_stream; eval { $none->recv(my $data, 1) }; $@ };
print ref $error, "\n";
$st = opened();
$bytes = 0;
while ((my $got = $st->recv(my $data, 1_000)) > 0) { $bytes += $got }
$st->finish;
print "$bytes\n";
EOP
# The debugger's own frame stands between libvirt and the loop's method.
ok_perl(<<'EOP', "add_handle failed\nnothing\n", 'perl -d: what a loop in Perl throws comes out of the call that asked it', switches => ['-d'], env => \%debug) if rust();
use strict; use warnings;
use Sys::Virt;
use StreamTest::Loop;
my $fails = 0;
{
    no warnings 'redefine';
    my $add = \&StreamTest::Loop::add_handle;
    *StreamTest::Loop::add_handle = sub { my $id = &$add; die "add_handle failed\n" if $fails; return $id };
}
my $loop = StreamTest::Loop->new;
my $conn = Sys::Virt->new(uri => 'test:///default');
my $st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
$conn->get_domain_by_name('test')->screenshot($st, 0);
$fails = 1;
eval { $st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { }) };
print $@;
eval { $loop->step(0.02) };
print $@ || "nothing\n";
EOP
# The stream is an argument of other subs, and code that makes it may free those.
ok_perl(<<'EOP', "image/png\n", 'a tied stream whose FETCH undefines the sub that it is for');
use strict; use warnings; use Sys::Virt;
{
    package Made;
    sub TIESCALAR { bless [$_[1]] }
    sub FETCH { no warnings; undef *Sys::Virt::Domain::screenshot; our @kept = map { my $n = $_; sub { $n } } 1 .. 50; $_[0][0] }
}
my $conn = Sys::Virt->new(uri => 'test:///default');
tie my $st, 'Made', $conn->new_stream;
print $conn->get_domain_by_name('test')->screenshot($st, 0), "\n";
EOP
if (rust() && StreamTest::has('libvirtd') && StreamTest::has('qemu')) {
    my $guest = daemon()->guest;
    ok_perl(<<'EOP', "came\n", 'perl -d: sysread on a handle takes what has come', switches => ['-d'], env => \%debug,
use strict; use warnings; use Sys::Virt;
$| = 1;
my $conn = Sys::Virt->new(uri => $ARGV[0]);
my $st = $conn->new_stream;
$conn->get_domain_by_name($ARGV[1])->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
my $handle = $st->handle;
syswrite $handle, 'x';
my $count = sysread $handle, my $data, 4_096;
print $count ? "came\n" : "nothing\n";
EOP
        args => [daemon()->uri, $guest->get_name], deadline => 30);
    $guest->destroy;
}

done_testing;
