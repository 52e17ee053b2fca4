#!/usr/bin/perl
# What a program does around its transfers, for the C binding and for this library.
# Usage: habits.pl URI DOWN UP HABIT HANDLER DAEMON. HANDLER: whether a handler of signals is
# set. DAEMON is the number of the process.
# Says the seconds that a habit takes: the median of some goes, connecting not included. Of
# `signal` it says the median and the longest time from a signal to its handler in a call
# that waits, and how often a second such a call wakes up with no signal.
use strict;
use warnings;

use POSIX ();
use Sys::Virt;
use Time::HiRes ();

use constant MIB => 1 << 20;

my ($uri, $down, $up, $habit, $handler, $daemon) = @ARGV;
my $conn = Sys::Virt->new(uri => $uri);
my %volume = map { $_ => $conn->get_storage_volume_by_path($_) } $down, $up;
local $SIG{USR1} = sub { }
    if $handler;

# A stream that `bytes` go through.
sub stream {
    my ($how, $bytes) = @_;
    my $st = $conn->new_stream;
    $volume{ $how eq 'upload' ? $up : $down }->$how($st, 0, $bytes);
    return $st;
}

sub receive {
    my ($size, $bytes) = @_;
    my ($st, $left) = (stream(download => $bytes), $bytes);
    while ((my $got = $st->recv(my $data, $size)) > 0) { $left -= $got }
    $st->finish;
    return $left;
}

sub send_pieces {
    my ($size, $bytes) = @_;
    my ($st, $left, $data) = (stream(upload => $bytes), $bytes, 'x' x $size);
    while ($left > 0) { $left -= $st->send($data, $size) }
    $st->finish;
    return $left;
}

sub receive_all {
    my ($bytes) = @_;
    my ($st, $left) = (stream(download => $bytes), $bytes);
    $st->recv_all(sub { $left -= $_[2]; $_[2] });
    $st->finish;
    return $left;
}

sub send_all {
    my ($bytes) = @_;
    my ($st, $left, $data) = (stream(upload => $bytes), $bytes, 'x' x MIB);
    $st->send_all(sub {
        my $len = $left < $_[2] ? $left : $_[2];
        $_[1] = substr $data, 0, $len;
        $left -= $len;
        $len;
    });
    $st->finish;
    return $left;
}

sub drop {
    for (1 .. 20_000) { my $st = $conn->new_stream }
    return 0;
}

sub abort {
    for (1 .. 200) {
        my $st = stream(download => 0);
        $st->recv(my $data, 1000);
        $st->abort;
    }
    return 0;
}

my %does = (
    'recv:1024'  => sub { receive(1024, 32 * MIB) },
    'recv:65536' => sub { receive(65536, 128 * MIB) },
    'send:1024'  => sub { send_pieces(1024, 8 * MIB) },
    'recv_all'   => sub { receive_all(128 * MIB) },
    'send_all'   => sub { send_all(128 * MIB) },
    'drop'       => \&drop,
    'abort'      => \&abort,
);

if ($habit eq 'signal') {
    printf "%.6f %.6f %d\n", signals(20);
    exit 0;
}
my @took = sort { $a <=> $b } map {
    my $began = Time::HiRes::time();
    my $left = $does{$habit}->();
    die "$habit: $left bytes are missing\n" if $left;
    Time::HiRes::time() - $began;
} 1 .. 3;
print "$took[1]\n";

# A child sends the signals, while the daemon does not answer.
sub signals {
    my ($count) = @_;
    my $st = stream(download => 0);
    $st->recv(my $some, 1);
    pipe my $in, my $out or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        my ($parent, $old) = (getppid, -1);
        # It waits when it has slept for a while.
        while ((my $now = switches($parent)) != $old) { $old = $now; Time::HiRes::sleep(0.2) }
        Time::HiRes::sleep(1);
        my @line = switches($parent) - $old;
        for (1 .. $count) {
            Time::HiRes::sleep(0.05 + rand 0.05);
            push @line, Time::HiRes::time();
            kill USR1 => $parent;
        }
        syswrite $out, join(' ', map { sprintf '%.6f', $_ } @line) . "\n";
        POSIX::_exit(0);
    }
    close $out;
    my @ran;
    local $SIG{USR1} = sub {
        push @ran, Time::HiRes::time();
        kill CONT => $daemon if @ran == $count;
    };
    kill STOP => $daemon;
    while ($st->recv(my $data, 65536) > 0) { }
    $st->finish;
    waitpid $pid, 0;
    my ($woken, @sent) = split ' ', readline $in;
    my @after = sort { $a <=> $b } map { $ran[$_] - $sent[$_] } 0 .. $#sent;
    return (@after[@after / 2, -1], $woken);
}

# How often the threads of a process have slept.
sub switches {
    my ($pid) = @_;
    my $sum = 0;
    for my $file (glob "/proc/$pid/task/*/status") {
        open my $status, '<', $file or next;
        /^voluntary_ctxt_switches:\s*(\d+)/ and $sum += $1 while <$status>;
    }
    return $sum;
}
