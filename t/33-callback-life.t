# What an event callback holds is let go when it is removed, when the stream ends
# and when the program does, in whatever order.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

plan skip_all => 'the C binding never lets go on a remote stream' unless rust();
my $daemon = daemon();
slots($daemon);

# Each way is Perl code with a stream $st whose callback holds $held and maybe
# more; "freed" has to come out before "end".
my %way = (
    'removed' => 'held($st); $st->remove_callback;',
    'removed, then finished' => 'held($st); $st->remove_callback; drained($st); $st->finish;',
    'removed, then aborted' => 'held($st); $st->remove_callback; $st->abort;',
    'removed, then dropped' => 'held($st); $st->remove_callback; undef $st;',
    'finished' => 'held($st); drained($st); $st->finish;',
    'finished, then removed' => 'held($st); drained($st); $st->finish; $st->remove_callback;',
    'finished, removed, dropped' => 'held($st); drained($st); $st->finish; $st->remove_callback; undef $st;',
    'finished, dropped' => 'held($st); drained($st); $st->finish; undef $st;',
    'aborted' => 'held($st); $st->abort;',
    'aborted, then removed' => 'held($st); $st->abort; $st->remove_callback;',
    'aborted, dropped' => 'held($st); $st->abort; undef $st;',
    'aborted twice' => 'held($st); $st->abort; eval { $st->abort };',
    'holds its stream, aborted' => '{ my $own = $st; held($st, $own); } $st->abort;',
    'holds its stream, finished' => '{ my $own = $st; held($st, $own); } drained($st); $st->finish;',
    'holds its stream, removed' => '{ my $own = $st; held($st, $own); } $st->remove_callback;',
    'holds itself, removed' => 'my $code; { my $held = Some::Guard->new; $code = sub { my @own = ($held, $code) } } $st->add_callback(1, $code); undef $code; $st->remove_callback;',
    'updated, removed' => 'held($st); $st->update_callback(3); $st->update_callback(0); $st->remove_callback;',
    'no events, removed' => 'held($st, undef, 0); $st->remove_callback;',
    'no events, aborted' => 'held($st, undef, 0); $st->abort;',
    'every event, aborted' => 'held($st, undef, 15); $st->abort;',
    'destroyed' => 'held($st); $st->DESTROY;',
    'a failed transfer' => 'held($st); eval { $st->recv_all(sub { die "out\n" }) }; eval { $st->abort };',
    'run, then removed' => 'my $n = held($st); run_until(sub { $$n }); $st->remove_callback;',
    'removes itself' => 'my ($n, $gone) = held($st, undef, 1, sub { $_[0]->remove_callback }); run_until(sub { $$n });',
    'removes itself, dropped there' => 'my $n = held($st, undef, 1, sub { $_[0]->remove_callback; undef $st }); run_until(sub { $$n });',
    'aborts in itself' => 'my $n = held($st, undef, 1, sub { $_[0]->abort }); run_until(sub { $$n });',
    'aborts and removes in itself' => 'my $n = held($st, undef, 1, sub { $_[0]->abort; $_[0]->remove_callback }); run_until(sub { $$n });',
    'finishes in itself' => 'my $n = held($st, undef, 1, sub { drained($_[0]); $_[0]->finish }); run_until(sub { $$n });',
    'a second is refused' => 'held($st); eval { held($st) }; print "second "; $st->remove_callback;',
    'again, removed' => 'held($st); $st->remove_callback; held($st); $st->remove_callback;',
    'its variable dropped, removed in itself' => 'my $n = held($st, undef, 1, sub { $_[0]->remove_callback }); undef $st; run_until(sub { $$n });',
    # The program's end, without remove_callback.
    'forgotten' => 'held($st); END',
    'forgotten, its variable dropped' => 'held($st); undef $st; END',
    'forgotten, holds its stream' => 'held($st, $st); END',
    'forgotten, after running' => 'my $n = held($st); run_until(sub { $$n }); END',
    'forgotten, the connection dropped' => 'held($st); undef $conn; END',
    'forgotten, kept by the program' => 'our $keep = $st; held($st); END',
    'forgotten, by exit in itself' => 'held($st, undef, 1, sub { exit 0 }); run_until(sub { 0 });',
    'forgotten, by a die in itself' => 'close STDERR; held($st, undef, 1, sub { die "out\n" }); run_until(sub { 0 });',
    'forgotten, by exit' => 'held($st); exit 0;',
);
my $program = <<'CODE';
use strict; use warnings; use Sys::Virt; use Time::HiRes ();
our ($uri, $kind) = @ARGV;
our $LOOP = $kind =~ /perl/;
$| = 1;
{
    package Some::Guard;
    our $alive = 0;
    sub new { $alive++; return bless [] }
    sub DESTROY { $alive--; print "freed\n" }
}
our $loop;
if ($LOOP) { unshift @INC, 't/lib'; require StreamTest::Loop; $loop = StreamTest::Loop->new }
else       { Sys::Virt::Event::register_default() }
our $conn = Sys::Virt->new(uri => $kind =~ /local/ ? 'test:///default' : $uri);
sub opened {
    my $st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
    $kind =~ /local/ ? $conn->get_domain_by_name('test')->screenshot($st, 0)
        : $conn->get_storage_pool_by_name('streams')->get_volume_by_name('slots-down')->download($st, 0, 0);
    return $st;
}
sub turn { $LOOP ? $loop->step(0.2) : Sys::Virt::Event::run_default() }
sub run_until {
    my ($done) = @_;
    my $timer = $LOOP ? undef : Sys::Virt::Event::add_timeout(100, sub { });
    my $end = time + 30;
    until ($done->()) { die "no event came\n" if time > $end; turn() }
    Sys::Virt::Event::remove_timeout($timer) if defined $timer;
}
# A callback that holds a guard; a count of its calls comes back.
sub held {
    my ($st, $own, $events, $does) = @_;
    my $count = 0;
    my $guard = Some::Guard->new;
    $st->add_callback($events // 1, sub { $count++; my @held = ($guard, $own); $does->(@_) if $does });
    return \$count;
}
sub drained {
    my ($st) = @_;
    my $end = time + 30;
    while (1) {
        my $n = $st->recv(my $data, 1 << 20);
        return if $n == 0;
        die "no data came\n" if time > $end;
        if ($n == -2) { $conn->get_library_version; Time::HiRes::sleep(0.001) }
    }
}
CODE
for my $kind ('local', 'remote', 'local, perl loop', 'remote, perl loop') {
    for my $what (sort keys %way) {
        my $code = $way{$what};
        my $forgotten = $what =~ /^forgotten/;
        # On a loop of Perl's own fewer of them, for the time they take.
        next if $kind =~ /perl/ && $what !~ /^(?:removed|finished|aborted|forgotten|removes itself)$/;
        $code =~ s/END$//;
        my $guards = $what =~ /^(?:a second|again)/ ? 2 : 1;
        my $text = $forgotten ? "$code\n" : "$code\nprint \"alive \$Some::Guard::alive\\n\";\n";
        # A sub, since the temporary values of a file last until its next statement.
        my $own = $forgotten
            ? "$program my \$st = opened(); $text"
            : "$program { my \$st = opened(); sub { $code }->(); print \"\\nalive \$Some::Guard::alive\\n\"; eval { \$st->remove_callback } if \$st && '$what' =~ /then removed|finished/; }";
        my $got = run_perl($own, args => [$daemon->uri, $kind]);
        my $status = $what =~ /die in itself/ ? $got->{status} : 0;
        is_deeply [@$got{qw(err status signal hang)}], ['', $status, 0, 0], "$kind: $what: an ordinary end" or diag explain $got;
        is scalar(() = $got->{out} =~ /freed/g), $guards, "$kind: $what: freed once";
        like $got->{out}, qr/^alive 0$/m, "$kind: $what: in time" if !$forgotten;
    }
}

subtest 'remove_callback after finish stays harmless' => sub {
    for my $kind ('local', 'remote') {
        ok_perl("$program my \$st = opened(); held(\$st); drained(\$st); \$st->finish; print 'back ', scalar(my \@back = \$st->remove_callback), qq{\n};",
            "freed\nback 0\n", $kind, args => [$daemon->uri, $kind]);
    }
};

# A watch that stays would be dispatched for ever, and call nothing.
subtest 'what removes itself is out of the loop after that turn' => sub {
    for my $kind ('local, perl loop', 'remote, perl loop') {
        ok_perl($program . <<'CODE', "freed\nleft 0\n", $kind, args => [$daemon->uri, $kind]);
my $st = opened();
sub watches { return map { keys %{ $loop->{$_} } } qw(handle timeout) }
my $before = () = watches();
my $n = held($st, undef, 1, sub { $_[0]->remove_callback });
run_until(sub { $$n });
print 'left ', scalar(() = watches()) - $before, "\n";
CODE
    }
};

subtest 'thousands, one after the other' => sub {
    for my $kind ('local', 'remote') {
        my $got = run_perl($program . <<'CODE', args => [$daemon->uri, $kind]);
{ no warnings 'redefine'; *Some::Guard::DESTROY = sub { $Some::Guard::alive-- } }
sub rss { open my $in, '<', '/proc/self/status' or return 0; local $/; return <$in> =~ /VmRSS:\s+(\d+)/ ? $1 : 0 }
my @rss;
for my $round (1 .. 600) {
    my $st = opened();
    my $ballast = 'x' x 50_000;
    held($st, $ballast);
    $round % 3 == 0 ? $st->remove_callback : $round % 3 == 1 ? $st->abort : $st->DESTROY;
    # What libvirt keeps of a stream goes when its loop has nothing better to do.
    if ($round % 50 == 0) {
        my $timer = Sys::Virt::Event::add_timeout(10, sub { });
        turn() for 1 .. 15;
        Sys::Virt::Event::remove_timeout($timer);
    }
    push @rss, rss() if $round % 200 == 0;
}
# What is lost in each round grows all the time, and not for once.
my ($grown) = sort { $a <=> $b } map { $rss[$_] - $rss[$_ - 1] } 1, 2;
print "alive $Some::Guard::alive, ", $grown < ($ENV{SYS_VIRT_STREAM_TEST_VALGRIND} ? 32 << 10 : 4 << 10) ? 'flat' : "grown by $grown", "\n";
CODE
        is $got->{out}, "alive 0, flat\n", $kind or diag explain $got;
    }
};

# What is to be called may be a variable that cannot be read: that comes out of the turn,
# and nothing of this library's is jumped over, or else it would never let the stream go.
{
    { package Dying::Tie; sub TIESCALAR { bless [] } sub FETCH { die { a => 'death' } } }
    { package Some::Tie; sub TIESCALAR { bless [$_[1]] } sub FETCH { $_[0][0] } }
    Sys::Virt::Event::register_default();
    my $conn = Sys::Virt->new(uri => $daemon->uri);
    my $path = $daemon->pool_dir . '/slots-down';
    my $opened = sub { my $st = $conn->new_stream; $conn->get_storage_volume_by_path($path)->download($st, 0, 0); return $st };

    my $st = $opened->();
    tie my $bad, 'Dying::Tie';
    $st->add_callback(1, $bad);
    for (1, 2) {
        my $error;
        within(60, sub { $error = error_of(\&Sys::Virt::Event::run_default) });
        is_deeply $error, { a => 'death' }, 'a callback that cannot be read';
    }
    $st->remove_callback;
    undef $st;
    # The daemon itself ends what belongs to a program that sleeps for half a minute.
    ok within(20, sub { !daemon_fds($daemon, $path) }), 'and the stream is let go';

    $st = $opened->();
    my $calls = 0;
    tie my $good, 'Some::Tie', sub { $calls++ };
    $st->add_callback(1, $good);
    Sys::Virt::Event::add_timeout(20, sub { });
    within(60, sub { Sys::Virt::Event::run_default(); $calls });
    ok $calls, 'one in a tie is called';
    $st->remove_callback;
}

done_testing;
