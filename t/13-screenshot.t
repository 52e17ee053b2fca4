# The test domain's screenshot: a local stream, and the same through a daemon.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);

# The C binding's answer is the measure, where this module can stand aside.
my $reference = run_perl(<<'EOP', env => { SYS_VIRT_STREAM => 'c' });
use Sys::Virt;
my $conn = Sys::Virt->new(uri => 'test:///default');
my $st = $conn->new_stream;
$conn->get_domain_by_name('test')->screenshot($st, 0);
my $all = '';
$st->recv_all(sub { $all .= $_[1]; $_[2] });
$st->finish;
binmode STDOUT;
print $all;
EOP
is $reference->{err}, '', 'the reference was taken';
is substr($reference->{out}, 0, 8), "\x89PNG\r\n\x1a\n", 'and is a PNG';
like $reference->{out}, qr/IEND....\z/s, 'to its end';
my $sha = sha($reference->{out});

sub open_shot {
    my ($conn) = @_;
    my $st = $conn->new_stream;
    is $conn->get_domain_by_name('test')->screenshot($st, 0), 'image/png', 'a PNG is coming';
    return $st;
}

sub by_recv {
    my ($conn, $nbytes) = @_;
    my $st = open_shot($conn);
    my ($all, $sum) = ('', 0);
    while ((my $count = $st->recv(my $data, $nbytes)) > 0) {
        is length $data, $count, 'the count is the length of the data' if length $data != $count;
        cmp_ok $count, '<=', $nbytes, 'no more than asked' if $count > $nbytes;
        $all .= $data;
        $sum += $count;
    }
    is $sum, length $all, "recv of $nbytes: the counts add up";
    my $kept = 'as it was';
    is_deeply [$st->recv($kept, 10)], [0], 'at the end 0, again and again';
    is $kept, 'as it was', 'and the variable is left alone';
    is_deeply [$st->finish], [], 'finish returns nothing';
    return $all;
}

sub by_recv_all {
    my ($conn) = @_;
    my $st = open_shot($conn);
    my ($all, $odd) = ('', 0);
    my @back = $st->recv_all(sub {
        my ($self, $data, $nbytes) = @_;
        $odd++ if @_ != 3 || length $data != $nbytes || $nbytes <= 0;
        $all .= $data;
        return $nbytes;
    });
    is_deeply \@back, [], 'recv_all returns nothing';
    is $odd, 0, 'three arguments, the last one the length';
    is_deeply [$st->finish], [], 'finish returns nothing';
    return $all;
}

sub check {
    my ($conn) = @_;
    for my $bytes (7, 1024, 1 << 20) {
        my $data = by_recv($conn, $bytes);
        is sha($data), $sha, "the whole of it by $bytes";
    }
    is sha(by_recv_all($conn)), $sha, 'the whole of it by recv_all';

    my $all = '';
    my $st = open_shot($conn);
    $st->recv(my $head, 100);
    $all .= $head;
    $st->recv_all(sub { $all .= $_[1]; $_[2] });
    $st->finish;
    is sha($all), $sha, 'recv, then recv_all for the rest';
    return;
}

subtest 'local' => sub { check(connect_test()) };

subtest 'through a daemon' => sub {
    plan skip_all => 'no libvirtd' unless StreamTest::has('libvirtd');
    check(Sys::Virt->new(uri => daemon()->test_uri));
};

# The local driver's own answers.
subtest 'local answers' => sub {
    my $st = open_shot(connect_test());
    error_is(sub { $st->send('x', 1) },
        { code => 38, domain => 38, message => 'cannot write to stream: Bad file descriptor' },
        'a stream to read from cannot be written');
    error_is(sub { $st->recv_hole },
        { code => 3, message => qr/driver: virStreamRecvHole$/ }, 'it was not opened as sparse');
    error_is(sub { $st->recv(my $data, 1, Sys::Virt::Stream::RECV_STOP_AT_HOLE) },
        { code => 3, message => qr/driver: virStreamRecvFlags$/ }, 'by flags neither');
    for my $method (['remove_callback'], ['update_callback', 1]) {
        my ($name, @arguments) = @$method;
        error_is(sub { $st->$name(@arguments) }, {
            code => 1, domain => 38, message => 'internal error: stream does not have a callback registered',
        }, "$name without a callback");
    }
    is $st->recv(my $data, 5, 0), 5, 'flags 0 are no flags';
    $st->finish;
    is_deeply [$st->finish], [], 'finish again is harmless';
    is_deeply [$st->abort], [], 'abort after it too';
    my $kept = 'as it was';
    error_is(sub { $st->recv($kept, 10) }, { code => 1, message => 'internal error: stream is not open' },
        'there is nothing left to receive');
    is $kept, 'as it was', 'and the variable is left alone';
    error_is(sub { $st->remove_callback }, { code => 1, message => 'internal error: stream is not open' },
        'nor a callback to remove');
};

done_testing;
