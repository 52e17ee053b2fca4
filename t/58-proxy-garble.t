# A connection on which a message's length or header is garbled. What libvirt notices has to be
# an exception. A message that is for somebody else now is dropped, as under the C binding: then
# that message is missing, and nothing else is wrong. Where libvirt waits for ever, a signal
# handler that dies is the way out.
use strict;
use warnings;

use POSIX ();
use Test::More;
use lib 't/lib';
BEGIN { $ENV{LIBVIRT_LOG_OUTPUTS} = '4:file:/dev/null' }    # libvirt warns of what it can't place
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
# Where, and with what; and what may come of it in a download, an upload, and in the answer to a
# finish, which is not tried where it says nothing.
my %garbled = (
    'a huge length'                           => [0, number(0x7fffffff), 'error', 'error'],
    'the largest length'                      => [0, number(0xffffffff), 'error', 'error'],
    'a length of 0'                           => [0, number(0), 'error', 'error'],
    'a length of 4'                           => [0, number(4), 'error', 'error'],
    'a length within the header'              => [0, number(20), 'error', 'error'],
    # What this takes in looks like data.
    'a length that takes in the next message' => [0, number(262_148 + 100), 'error|error after wrong data', 'error'],
    'a length too small'                      => [0, number(1_000), 'error', 'error', 'left'],
    'another program'                         => [4, number(0x12345678), 'lost|error', 'lost|error'],
    'another version'                         => [8, number(77), 'lost|error', 'lost|error'],
    'another procedure'                       => [12, number(3), 'lost|error', 'lost|error'],
    'another type'                            => [16, number(1), 'lost|error', 'lost|error', 'error'],
    'no type at all'                          => [16, number(99), 'error', 'lost|error'],
    # A daemon answers this one with an error, which a finish that waits takes for its confirmation
    # (virNetClientStreamCheckSendStatus lets it pass), while the daemon is still writing.
    'a call of the client\'s'                 => [16, number(0), 'error', 'lost|error|cut off|wrong data'],
    'another serial'                          => [20, number(4_000), 'lost|error', 'lost|error', 'left'],
    # To a daemon this is an abort. What confirms that may be taken for a finish's confirmation.
    'another status'                          => [24, number(1), 'error', 'error|cut off'],
    'no status at all'                        => [24, number(99), 'error', 'error'],
);
my %transfer = (
    # The daemon sends each block as a full message and a short one.
    recv_all => { side => 'server', nth => 3, may => 2, code => sub {
        my ($st, $got) = (opened(download => 'source'), $_[0]);
        $st->recv_all(sub { $$got .= $_[1]; $_[2] });
        # What was wrong with the data was for recv_all to say.
        eval { $st->finish; 1 } or die "finish: $@";
    } },
    send_all => { side => 'client', nth => 2, may => 3, code => \&upload },
    'the answer to a finish' => { side => 'server', nth => 1, may => 4, code => \&upload },
);
sub upload {
    my ($st, $at) = (opened(upload => 'target'), 0);
    $st->send_all(sub { $_[1] = substr $content, $at, $_[2]; $at += length $_[1]; length $_[1] });
    $st->finish;
    return;
}

# What has arrived: all, all but one message in the middle, all up to some place with zeroes
# behind, or something else.
my $message = 262_120;
sub arrived {
    my ($data) = @_;
    return 'whole' if $data eq $content;
    my $missing = length($content) - length $data;
    return 'wrong data' if $missing <= 0 || $missing > $message;
    (my $differs = $data ^ substr $content, 0, length $data) =~ /[^\0]/ or return 'wrong data';
    my $at = $-[0];
    return 'cut off' if substr($data, $at) !~ /[^\0]/;
    return substr($data, $at) eq substr($content, $at + $missing) ? 'lost' : 'wrong data';
}

# What comes of a transfer, in a word, and the exception.
sub outcome {
    my ($name, $waits) = @_;
    # A process of its own, since what waits for ever may do so again at its end.
    my $said = scratch() . '/said';
    $daemon->volume('target', length $content);
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        local $SIG{ALRM} = sub { die "alarm\n" };
        my $got = '';
        alarm($waits ? 1 : 0);
        my $error = error_of(sub { $transfer{$name}{code}->(\$got) });
        alarm 0;
        my $what = !defined $error ? 'done'
            : "$error" eq "alarm\n" ? 'left'
            : ref $error ne 'Sys::Virt::Error' || !$error->{code} || !length $error->{message} ? 'no libvirt error'
            : $got eq substr($content, 0, length $got) ? 'error' : 'error after wrong data';
        $what = arrived($got) if $what eq 'done' && $name eq 'recv_all';
        spew($said, join "\n", $what, $error // '');
        POSIX::_exit(0);
    }
    my $over = within(120, sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
    if (!$over) { kill 'KILL', $pid; waitpid $pid, 0; return 'a hang', '' }
    return "status $?", '' if $?;
    my ($what, $error) = split /\n/, slurp($said), 2;
    if ($what eq 'done') {
        # Where a message is missing, as much at the end stays as it was.
        my $file = slurp($daemon->pool_dir . '/target');
        substr($file, -$message) = '' if substr($file, -$message) eq "\0" x $message;
        $what = arrived($file);
    }
    return $what, $error;
}

for my $name (sort keys %transfer) {
    my ($side, $nth, $may) = @{ $transfer{$name} }{qw(side nth may)};
    next if $side eq 'client' && !$daemon->bears_failed_uploads;
    for my $what (sort keys %garbled) {
        my ($at, $with) = @{ $garbled{$what} };
        my $allowed = $garbled{$what}[$may] // next;
        $proxy->rule(do => 'garble', side => $side, nth => $nth, at => $at, with => $with);
        my ($is, $error) = outcome($name, $allowed eq 'left');
        like $is, qr/^(?:$allowed)\z/, "$name: $what" or diag $error;
    }
}

$proxy->rule;
is join(' ', outcome($_, 0)), 'whole ', "$_ works again" for sort keys %transfer;

done_testing;
