#!perl
# Every way to a daemon carries the same bytes: its own socket, TCP, TLS with a CA made here, ssh
# to this machine. All of it is on the loopback interface, and in a folder that goes. With
# SYS_VIRT_STREAM_TEST_MODULAR=1 the daemon is virtqemud, with virtstoraged beside it.

use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd qemu console);
use lib 'xt/lib';
use Transport;

my $content = pattern((5 << 20) + 321);
my $other   = pattern((3 << 20) + 77, 'other');
my $transport = Transport->start;
my $daemon = $transport->daemon;
my $volume = $daemon->volume('volume', undef, $content);
my $guest  = $daemon->guest(paused => 1);
$guest->resume;

my %way = $transport->ways;
for my $way (sort keys %way) {
    subtest $way => sub {
        if (my $missing = $way{$way}{missing}) {
            return fail($missing) if $ENV{SYS_VIRT_STREAM_TEST_ALL} && $missing =~ / is missing\z/;
            plan skip_all => $missing;
        }
        deadline(600);
        my $conn = Sys::Virt->new(uri => $way{$way}{uri});
        transfers($conn);
        console($conn);
        read_only($way{$way}{uri});
    };
}

my ($refused) = grep { defined } map { $_->{refused} } values %way;
SKIP: {
    skip 'no TLS here', 1 unless $refused;
    isnt error_of(sub { Sys::Virt->new(uri => $refused) }), undef, 'a certificate of another CA is refused';
}

# The daemon's end in the middle of a transfer is an error, and no end of the data.
my %cut;
for my $way (grep { !$way{$_}{missing} } sort keys %way) {
    my $conn = Sys::Virt->new(uri => $way{$way}{uri});
    my $st = opened($conn, 'download');
    $st->recv(my $data, 1000);
    $cut{$way} = [$st, $conn];
}
local $SIG{PIPE} = 'IGNORE';
$daemon->kill;
for my $way (sort keys %cut) {
    deadline(600);
    my ($st) = @{ $cut{$way} };
    my $error = error_of(sub { while ((my $count = $st->recv(my $data, 262_144)) > 0) { } });
    isa_ok $error, 'Sys::Virt::Error', "$way: what a transfer ends with that is cut";
}

done_testing;

sub opened {
    my ($conn, $what, @flags) = @_;
    my $st = $conn->new_stream(@flags);
    $conn->get_storage_volume_by_path($volume->get_path)->$what($st, 0, 0);
    return $st;
}

sub received {
    my ($st) = @_;
    my $all = '';
    $st->recv_all(sub { $all .= substr $_[1], 0, $_[2]; return $_[2] });
    $st->finish;
    return $all;
}

sub transfers {
    my ($conn) = @_;
    for my $bytes ($content, $other) {
        my $st = opened($conn, 'upload');
        my $at = 0;
        $st->send_all(sub { $_[1] = substr $bytes, $at, $_[2]; $at += length $_[1]; return length $_[1] });
        $st->finish;
        is sha(substr slurp($volume->get_path), 0, length $bytes), sha($bytes), 'what went up';
    }
    # The volume has the second over the beginning of the first.
    my $whole = sha($other . substr $content, length $other);
    is sha(received(opened($conn, 'download'))), $whole, 'what comes down';

    # Left in the middle, by abort and by nobody's holding it any more.
    for my $leave (sub { $_[0]->abort }, sub { undef $_[0] }) {
        for my $what ('download', 'upload') {
            my $st = opened($conn, $what);
            $what eq 'download' ? $st->recv(my $data, 1000) : $st->send(substr($other, 0, 100_000), 100_000);
            $leave->($st);
        }
        is sha(received(opened($conn, 'download'))), $whole, 'a whole transfer after one that was left';
    }
    return unless rust();

    my $file = scratch() . '/file';
    opened($conn, 'download')->recv_file($file);
    is sha_file($file), $whole, 'recv_file';
    opened($conn, 'upload')->send_file($file);
    is sha_file($volume->get_path), $whole, 'send_file';
    my $error = error_of(sub {
        opened($conn, 'download')->recv_all(sub { die "enough\n" });
    });
    is $error, "enough\n", 'a callback that dies';
    is sha(received(opened($conn, 'download'))), $whole, '... leaves the connection as it was';
}

sub console {
    my ($conn) = @_;
    my $dom = $conn->get_domain_by_name($guest->get_name);
    my $st = $conn->new_stream;
    $dom->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE());
    # The guest speaks when it is first spoken to, and then sends back what it gets.
    our $greeted;
    my $first = $greeted++ ? '' : $daemon->guest_says;
    $st->send('?', 1);
    is said($st, length($first) + 1 - ($first ne '')), $first || '?', 'the guest answers';
    my $text = join '', map { chr } 0 .. 255;
    is $st->send($text, length $text), length $text, 'bytes for the console';
    is unpack('H*', said($st, length $text)), unpack('H*', $text), '... come back';

    if (rust()) {
        # Nothing comes now: the signal is all that can end the call.
        local $SIG{ALRM} = sub { die "signal\n" };
        alarm 1;
        is error_of(sub { $st->recv(my $nothing, 10) }), "signal\n", 'a signal ends a call that waits';
        deadline(600);
    }
    # The stream of a call that was left is aborted already.
    error_of(sub { $st->abort });
    return;
}

sub said {
    my ($st, $bytes) = @_;
    my $all = '';
    while (length $all < $bytes) {
        my $count = $st->recv(my $data, 1024);
        die "recv gave $count" if $count <= 0;
        $all .= $data;
    }
    return $all;
}

# All that opens a stream is refused, and the stream can be let go of.
sub read_only {
    my ($uri) = @_;
    my $conn = Sys::Virt->new(uri => $uri, readonly => 1);
    my $vol = $conn->get_storage_volume_by_path($volume->get_path);
    my $dom = $conn->get_domain_by_name($guest->get_name);
    my $denied = { code => 29, message => qr/read only/ };
    my $st = $conn->new_stream;
    error_is(sub { $vol->download($st, 0, 0) },    $denied, 'read-only: download');
    error_is(sub { $vol->upload($st, 0, 0) },      $denied, 'read-only: upload');
    error_is(sub { $dom->open_console($st, undef) },      $denied, 'read-only: console');
    error_is(sub { $dom->screenshot($st, 0, 0) },  $denied, 'read-only: screenshot');
    isa_ok error_of(sub { $st->recv(my $data, 10) }), 'Sys::Virt::Error', 'read-only: what recv gives then';
}
