# A connection on which a message's length or header is garbled. libvirt notices some of
# it, which has to be an exception; for the rest it waits for ever, as it does under the C
# binding: there a signal handler that dies has to be the way out.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Proxy;

my $daemon = daemon();
my $content = pattern(900_000);
$daemon->volume('source', undef, $content);
$daemon->volume('target', length $content);
my $proxy = StreamTest::Proxy->start($daemon->socket);
$SIG{PIPE} = 'IGNORE';
my $uri = $daemon->uri($proxy->socket);

sub opened {
    my ($way, $name) = @_;
    my $conn = Sys::Virt->new(uri => $uri);
    my $st = $conn->new_stream;
    $conn->get_storage_volume_by_path($daemon->pool_dir . "/$name")->$way($st, 0, 0);
    return $st;
}

sub number { return pack 'N', $_[0] }
my %garbled = (
    'a huge length' => [0, number(0x7fffffff)],
    'the largest length' => [0, number(0xffffffff)],
    'a length of 0' => [0, number(0)],
    'a length of 4' => [0, number(4)],
    'a length within the header' => [0, number(20)],
    'a length that takes in the next message' => [0, number(262_148 + 100)],
    'a length too small' => [0, number(1_000)],
    'another program' => [4, number(0x12345678)],
    'another version' => [8, number(77)],
    'another procedure' => [12, number(3)],
    'another type' => [16, number(1)],
    'no type at all' => [16, number(99)],
    'another serial' => [20, number(4_000)],
    'another status' => [24, number(1)],
    'no status at all' => [24, number(99)],
    'a call of the client\'s' => [16, number(0)],
);

# Both ways out of a transfer are an exception; where libvirt waits for ever, the alarm's.
my %transfer = (
    recv_all => [server => 2, sub {
        my ($st, $bytes) = (opened(download => 'source'), 0);
        $st->recv_all(sub { $bytes += $_[2]; $_[2] });
        $st->finish;
        # Nothing says that data was lost when a message was not for this stream.
        die "short\n" if $bytes != length $content;
    }],
    send_all => [client => 2, \&upload],
    'the answer to a finish' => [server => 1, \&upload],
);
sub upload {
    my ($st, $at) = (opened(upload => 'target'), 0);
    $st->send_all(sub { $_[1] = substr $content, $at, $_[2]; $at += length $_[1]; length $_[1] });
    $st->finish;
    return;
}
my @waits;
for my $name (sort keys %transfer) {
    my ($side, $nth, $code) = @{ $transfer{$name} };
    for my $what (sort keys %garbled) {
        next if $side eq 'client' && !$daemon->bears_failed_uploads;
        # Each of these takes as long as the alarm and what comes after it.
        next if $name =~ /answer/ && $what !~ /^(?:another (?:serial|type)|a length too small)$/;
        my ($at, $with) = @{ $garbled{$what} };
        $proxy->rule(do => 'garble', side => $side, nth => $nth, at => $at, with => $with);
        my $pid = fork // die "cannot fork: $!";
        if (!$pid) {
            # A process of its own, since what waits for ever may do so again at its end.
            local $SIG{ALRM} = sub { die "alarm\n" };
            alarm 1;
            my $error = error_of($code);
            alarm 0;
            require POSIX;
            POSIX::_exit(!defined $error ? 3 : ref $error eq 'Sys::Virt::Error' ? 4
                : $error eq "alarm\n" ? 5 : $error eq "short\n" ? 6 : 7);
        }
        my $over = within(30, sub { waitpid($pid, 1) == $pid });
        my $status = $?;
        if (!$over) { kill 'KILL', $pid; waitpid $pid, 0 }
        ok $over && !($status & 127) && ($status >> 8) =~ /^[3456]$/, "$name: $what"
            or diag "over: $over, status $status";
        push @waits, "$name: $what" if $over && $status >> 8 == 5;
    }
}
note "left by the alarm: $_" for @waits;

$proxy->rule;
is error_of($transfer{$_}[2]), undef, "$_ works again" for sort keys %transfer;

done_testing;
