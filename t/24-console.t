# A guest's serial console, in both directions.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd qemu console);

my $daemon = daemon();
my $conn = $daemon->conn;
my $guest = $daemon->guest(paused => 1);

sub opened {
    my ($flags) = @_;
    my $st = $conn->new_stream($flags);
    $guest->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
    return $st;
}

# A console never ends: this takes as much as is due.
sub take {
    my ($st, $bytes) = @_;
    my $all = '';
    while (length $all < $bytes) {
        my $count = $st->recv(my $data, 1024);
        die "recv gave $count" if $count <= 0;
        $all .= $data;
    }
    return $all;
}

my $st = opened(0);
$guest->resume;
is $st->send('?', 1), 1, 'a byte in';
is take($st, length $daemon->guest_says), $daemon->guest_says, 'and what the guest says to it';

for my $text ("hello\r\n", "\x1b[2J", join '', map { chr } 0 .. 255) {
    is $st->send($text, length $text), length $text, 'bytes go in';
    is unpack('H*', take($st, length $text)), unpack('H*', $text), 'and come back';
}

my $long = pattern(3_000);
my ($sent, $back) = (0, '');
while ($sent < length $long) {
    my $piece = substr $long, $sent, 500;
    my $count = $st->send($piece, length $piece);
    $back .= take($st, $count);
    $sent += $count;
}
is sha($back), sha($long), 'a longer conversation';
is_deeply [$st->abort], [], 'abort ends it';

subtest 'non-blocking' => sub {
    my $st = opened(Sys::Virt::Stream::NONBLOCK);
    is $st->recv(my $nothing, 10), -2, 'nothing to read yet';
    is $nothing, undef, 'and nothing read';
    my $text = 'are you there?';
    my ($sent, $got) = (0, '');
    my $done = within(120, sub {
        if ($sent < length $text) {
            my $rest = substr $text, $sent;
            my $count = $st->send($rest, length $rest);
            $sent += $count if $count > 0;
        }
        my $count = $st->recv(my $data, 100);
        $got .= $data if $count > 0;
        # Only another call moves the connection's messages.
        $conn->get_library_version if $count == -2;
        return length $got >= length $text;
    });
    ok $done, 'an answer came';
    is $got, $text, 'the right one';
    $st->abort;
};

subtest 'in use' => sub {
    my $st = opened(0);
    my $second = $conn->new_stream;
    error_is(sub { $guest->open_console($second, undef, Sys::Virt::Domain::OPEN_CONSOLE_SAFE) },
        { level => 2, code => qr/^\d+$/, message => qr/console/ }, 'a second one is refused');
    is_deeply [$second->abort], [], 'its stream was never opened';
    $st->abort;
};

subtest 'the guest goes away' => sub {
    my $st = opened(0);
    is $st->send('x', 1), 1, 'a byte in';
    is take($st, 1), 'x', 'and out';
    $guest->destroy;
    my $over = error_of(sub { 1 while $st->recv(my $data, 100) > 0 });
    ok !defined $over || ref $over eq 'Sys::Virt::Error', 'the stream ends';
    eval { $st->abort };
    ok $conn->get_library_version, 'the connection goes on';
};

done_testing;
