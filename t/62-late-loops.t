# An event loop that is registered after the stream was made, a loop in Perl that another
# thread runs, and callbacks that run the loop and are called again within.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Turns;

my $daemon = daemon();

# Streams of the program's `$conn`.
my $STREAMS = <<'EOP';
sub opened {
    my ($flags) = @_;
    my $st = $conn->new_stream($flags);
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    return $st;
}
sub whole {
    my ($bytes, $next) = (0, opened(0));
    $next->recv_all(sub { $bytes += $_[2]; $_[2] });
    $next->finish;
    print $bytes > 30_000 ? "whole\n" : "$bytes\n";
    return;
}
EOP

# --- the stream first, then the loop

my $LATE = <<'EOP';
use strict; use warnings; use Sys::Virt; use Time::HiRes ();
our ($uri, $kind, $handler) = @ARGV;
$| = 1;
$SIG{USR1} = sub { } if $handler;
our $conn = Sys::Virt->new(uri => $uri);
STREAMS
our $st = opened(Sys::Virt::Stream::NONBLOCK);
our $loop;
if ($kind eq 'perl') { require StreamTest::Loop; $loop = StreamTest::Loop->new }
else { Sys::Virt::Event::register_default(); Sys::Virt::Event::add_timeout(20, sub { }) }
sub turn { $loop ? $loop->step(0.02) : Sys::Virt::Event::run_default(); return }
sub turns_until {
    my ($true) = @_;
    my $end = Time::HiRes::time() + 60;
    until ($true->()) { die "no event\n" if Time::HiRes::time() > $end; turn() }
    return;
}
EOP
$LATE =~ s{^STREAMS\n}{$STREAMS}m;
my %late = (
    'a callback and an abort' => <<'EOP',
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { });
$st->abort;
EOP
    'a callback that is called, and an abort' => <<'EOP',
$st->abort;
$st = opened(0);
$st->recv(my $data, 10);
my $calls = 0;
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { $calls++ });
turns_until(sub { $calls });
$st->abort;
EOP
    'a callback, a blocking recv, and an abort' => <<'EOP',
$st->abort;
$st = opened(0);
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { });
$st->recv(my $data, 100);
$st->abort;
EOP
    'a callback and a finish' => <<'EOP',
$st->abort;
$st = opened(0);
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { });
1 while $st->recv(my $data, 1 << 20);
$st->finish;
EOP
    'a callback that is removed, and an abort' => <<'EOP',
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { });
$st->remove_callback;
$st->abort;
EOP
    'a callback, and a transfer that fails' => <<'EOP',
$st->abort;
$st = opened(0);
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { });
eval { $st->recv_all(sub { -1 }) };
EOP
    'no callback, and an abort' => '$st->abort;',
    'no callback, and a drop' => 'undef $st;',
);
for my $what (sort keys %late) {
    for my $kind (qw(default perl)) {
        for my $uri ($daemon->test_uri, 'test:///default') {
            for my $handler (0, 1) {
                my $on = join ', ', $kind, $uri =~ /unix/ ? 'remote' : 'local', $handler ? 'a signal handler' : ();
                ok_perl("$LATE$late{$what}\nwhole();\n", "whole\n", "a late loop: $what ($on)",
                    args => [$uri, $kind, $handler], deadline => 60);
            }
        }
    }
}

# --- a loop in one thread, streams in another

my $THREAD = <<'EOP';
use strict; use warnings; use threads; use threads::shared; use Sys::Virt; use Time::HiRes ();
use StreamTest::Loop;
our ($uri, $handler) = @ARGV;
$| = 1;
$SIG{USR1} = sub { } if $handler;
our ($conn, $st);
our $stage :shared = 0;
sub stage { lock $stage; $stage = $_[0]; cond_broadcast($stage); return }
sub wait_for { lock $stage; cond_wait($stage) until $stage >= $_[0]; return }
STREAMS
# Each acts on a stream that is open, in the thread without the loop.
sub act {
    $st = opened(0);
    $st->recv(my $data, 100);
    ACT
    undef $st;
    whole();
    return;
}
EOP
$THREAD =~ s{^STREAMS\n}{$STREAMS}m;
my %where = (
    'the loop first, in the main thread' => <<'EOP',
my $loop = StreamTest::Loop->new;
my $thread = threads->create(sub { $conn = Sys::Virt->new(uri => $uri); act(); undef $conn; stage(1) });
until ($stage) { $loop->step(0.02); Time::HiRes::sleep(0.01) }
$thread->join;
EOP
    'the connection first, in a thread' => <<'EOP',
my $thread = threads->create(sub { $conn = Sys::Virt->new(uri => $uri); stage(1); wait_for(2); act(); undef $conn; stage(3) });
wait_for(1);
my $loop = StreamTest::Loop->new;
stage(2);
until ($stage == 3) { $loop->step(0.02); Time::HiRes::sleep(0.01) }
$thread->join;
EOP
    'the connection first, in the main thread' => <<'EOP',
$conn = Sys::Virt->new(uri => $uri);
my $thread = threads->create(sub {
    my $loop = StreamTest::Loop->new;
    stage(1);
    until ($stage == 2) { $loop->step(0.02); Time::HiRes::sleep(0.01) }
});
wait_for(1);
act();
stage(2);
$thread->join;
EOP
);
my %act = (
    'abort' => '$st->abort;',
    'a drop' => '',
    'a transfer that fails' => 'eval { $st->recv_all(sub { die "out\n" }) };',
    'finish' => '1 while $st->recv($data, 1 << 20); $st->finish;',
);
SKIP: {
    skip 'this perl has no threads', 1 unless StreamTest::has('threads');
    # C leaves a stream open whose handler dies.
    delete $act{'a transfer that fails'} unless rust();
    for my $uri ($daemon->test_uri, 'test:///default') {
        for my $handler (0, 1) {
            my $on = join ', ', $uri =~ /unix/ ? 'remote' : 'local', $handler ? 'a signal handler' : ();
            for my $where (sort keys %where) {
                ok_perl($THREAD =~ s/ACT/$act{$_}/r . $where{$where}, "whole\n", "a loop in one thread, $_ in another: $where ($on)",
                    args => [$uri, $handler], deadline => 60) for sort keys %act;
            }
        }
    }
}

# --- a callback that runs the loop, and is called again within. libvirt's own loop does that for a
# stream of a daemon whose events are set anew; a loop in Perl is kept from it, but not under C.

my $NESTED = <<'EOP';
my ($depth, $deepest, $done) = (0, 0, 0);
my $st = opened();
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    return if $done;
    $depth++;
    $deepest = $depth if $depth > $deepest;
    if ($depth < 3) { $_[0]->update_callback(1); for (1 .. 20) { last if $deepest > $depth; turn() } }
    $depth--;
    return if $depth || $done++;
    eval { ACT; 1 } or print "error: $@";
});
turns_until(sub { $done });
my $again = $ARGV[0] eq 'default' && $ARGV[1] =~ /unix/;
print "called $deepest deep\n" if $deepest != ($again ? 3 : 1);
turn() for 1 .. 5;
my ($bytes, $next) = (0, opened(0));
$next->recv_all(sub { $bytes += $_[2]; $_[2] });
$next->finish;
print $bytes > 30_000 ? "whole\n" : "$bytes\n";
EOP
my %nested = (
    'finish' => '1 while $_[0]->recv(my $data, 1 << 20) > 0; $_[0]->finish',
    'abort' => '$_[0]->abort',
    'finish, by the variable' => '1 while $st->recv(my $data, 1 << 20) > 0; $st->finish',
    'abort, and a turn' => '$_[0]->abort; turn()',
    'another opening' => '$_[0]->abort; conn()->get_domain_by_name("test")->screenshot($_[0], 0); $_[0]->abort',
);
my %nested_rust = (
    'remove_callback' => '$_[0]->remove_callback',
    'remove_callback and finish' => '$_[0]->remove_callback; $_[0]->finish',
    'remove_callback and another' => '$_[0]->remove_callback; $_[0]->add_callback(1, sub { $_[0]->remove_callback })',
    'another opening, while it is open' => 'conn()->get_domain_by_name("test")->screenshot($_[0], 0)',
    'a drop' => '$_[0]->remove_callback; undef $st; undef $_[0]',
);
my %all = (%nested, rust() ? %nested_rust : ());
for my $what (sort keys %all) {
    # With a loop in Perl, libvirt uses what C has freed.
    StreamTest::Turns::every("called again within, then $what", $NESTED =~ s/ACT/$all{$what}/r, out => "whole\n", rust() ? () : (loop => 'default'));
}

done_testing;
