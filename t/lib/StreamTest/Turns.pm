package StreamTest::Turns;

# The programs of the event tests: each case runs in programs of its own, on both kinds
# of loop (libvirt's own, one written in Perl) and both kinds of stream (local, remote).
# In a program, `use StreamTest::Turns @ARGV` gives what a case needs. Of the kind `none`, a
# program has no loop, and a turn is a pause.

use strict;
use warnings;

use Test::More ();
use Time::HiRes ();
use StreamTest ();

our @CAUGHT;    # what came out of the turns of turns_until
our $TIMER;     # what lets a turn of libvirt's loop find nothing to do
my ($loop, $conn);

# Runs a case in each combination. Options: loop (default, perl), on (local, remote),
# few (two combinations do), out, status, like (a pattern for stderr). With
# SYS_VIRT_STREAM_TEST_FEW each case runs in one, and the next one in another.
my $cases = 0;

sub every {
    my ($name, $code, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @loops = $opt{loop} || qw(default perl);
    my @places = $opt{on} || qw(local remote);
    my $only = $ENV{SYS_VIRT_STREAM_TEST_FEW} ? $cases++ % (@loops * @places) : undef;
    for my $kind (@loops) {
        for my $on (@places) {
            next if defined $only && $only-- != 0;
            next if $on eq 'remote' && !StreamTest::has('libvirtd');
            next if $opt{few} && !$ENV{SYS_VIRT_STREAM_TEST_FEW} && ($kind eq 'perl') != ($on eq 'remote');
            my $uri = $on eq 'local' ? 'test:///default' : StreamTest::daemon()->test_uri;
            my $got = StreamTest::run_perl("use strict; use warnings;\n"
                . "use StreamTest::Turns \@ARGV;\n$code", args => [$kind, $uri]);
            my %want = (out => $opt{out}, err => '', status => $opt{status} || 0, signal => 0, hang => 0);
            if ($opt{like}) {
                Test::More::like($got->{err}, $opt{like}, "$name ($kind, $on): stderr");
                $want{err} = $got->{err};
            }
            Test::More::is_deeply($got, \%want, "$name ($kind, $on)")
                or Test::More::diag(Test::More::explain($got));
        }
    }
    return;
}

# --- inside a program

sub import {
    my ($class, $kind, $uri) = @_;
    return unless defined $uri;
    require Sys::Virt;
    $| = 1;
    if ($kind eq 'perl') {
        require StreamTest::Loop;
        $loop = StreamTest::Loop->new;
    }
    elsif ($kind eq 'default') {
        Sys::Virt::Event::register_default();
        # A turn of this loop waits for an event, so there has to be one.
        $TIMER = Sys::Virt::Event::add_timeout(20, sub { });
    }
    $conn = Sys::Virt->new(uri => $uri);
    my $caller = caller;
    no strict 'refs';
    *{"${caller}::$_"} = \&$_ for qw(turn opened take turns_until works conn);
    *{"${caller}::CAUGHT"} = \@CAUGHT;
    return;
}

# While the loop is there: at the very end of a program nothing keeps the order.
END { undef $conn }

sub turn {
    return $loop->step(0.02) if $loop;
    return $TIMER ? Sys::Virt::Event::run_default() : Time::HiRes::sleep(0.01);
}

sub conn { return $conn }

# A stream with a known amount to read.
sub opened {
    my ($flags) = @_;
    my $st = $conn->new_stream($flags // Sys::Virt::Stream::NONBLOCK());
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    return $st;
}

# One read in a callback: its bytes; undef at the end, '' if there is nothing yet.
sub take {
    my ($st, $bytes) = @_;
    my $count = $st->recv(my $data, $bytes || 4_096);
    return $count == 0 ? undef : $count < 0 ? '' : $data;
}

# Turns until this is true, or it is clear that it will not be. What they throw is kept.
sub turns_until {
    my ($true) = @_;
    my $end = Time::HiRes::time() + 60;
    while (Time::HiRes::time() < $end) {
        return 1 if $true->();
        eval { turn(); 1 } or push @CAUGHT, $@;
    }
    return 0;
}

# A whole transfer by events, on the same connection and loop; says how that went.
sub works {
    my ($bytes, $end, @caught) = (0, 0);
    my $st = opened();
    $st->add_callback(Sys::Virt::Stream::EVENT_READABLE(), sub {
        my $data = take($_[0]);
        $bytes += length $data if defined $data;
        return if defined $data;
        $_[0]->remove_callback;
        $_[0]->finish;
        $end = 1;
    });
    undef $st;
    local @CAUGHT;
    my $done = turns_until(sub { $end });
    $conn->get_library_version;
    print $done && $bytes > 30_000 && !@CAUGHT ? "works\n" : "no more: $done, $bytes, @CAUGHT\n";
    return;
}

1;
