# A stream that no other call has opened, and return values that need no data.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);

my $conn = connect_test();
my %unsupported = (
    recv            => ['Recv', sub { $_[0]->recv(my $data, 1) }],
    'recv flags'    => ['RecvFlags', sub { $_[0]->recv(my $data, 1, Sys::Virt::Stream::RECV_STOP_AT_HOLE) }],
    send            => ['Send', sub { $_[0]->send('x', 1) }],
    recv_hole       => ['RecvHole', sub { $_[0]->recv_hole }],
    'recv_hole 0'   => ['RecvHole', sub { $_[0]->recv_hole(0) }],
    send_hole       => ['SendHole', sub { $_[0]->send_hole(1) }],
    'send_hole 0'   => ['SendHole', sub { $_[0]->send_hole(1, 0) }],
    add_callback    => ['EventAddCallback', sub { $_[0]->add_callback(1, sub { }) }],
    update_callback => ['EventUpdateCallback', sub { $_[0]->update_callback(1) }],
    remove_callback => ['EventRemoveCallback', sub { $_[0]->remove_callback }],
    finish          => ['Finish', sub { $_[0]->finish }],
    recv_all        => ['Recv', sub { $_[0]->recv_all(sub { $_[2] }) }],
    send_all        => ['Send', sub { $_[0]->send_all(sub { $_[1] = 'x'; 1 }) }],
    sparse_recv_all => ['RecvFlags', sub { $_[0]->sparse_recv_all(sub { $_[2] }, sub { 0 }) }],
    sparse_send_all => ['Send',
        sub { $_[0]->sparse_send_all(sub { $_[1] = 'x'; 1 }, sub { (1, 1) }, sub { 0 }) }],
    'sparse_send_all of a hole' => ['SendHole',
        sub { $_[0]->sparse_send_all(sub { 0 }, sub { (0, 1) }, sub { 0 }) }],
);
for my $name (sort keys %unsupported) {
    my ($function, $call) = @{ $unsupported{$name} };
    for my $flags (0, Sys::Virt::Stream::NONBLOCK) {
        next if $flags && $name =~ /_all/;
        my $st = $conn->new_stream($flags);
        error_is(sub { $call->($st) }, {
            code => 3, domain => 38, level => 2,
            message => "this function is not supported by the connection driver: virStream$function",
        }, "$name, flags $flags");
    }
}

is_deeply [$conn->new_stream->abort], [], 'abort of a stream not in use succeeds';
is_deeply [map { scalar $_->abort } $conn->new_stream], [undef], 'in scalar context too';
is_deeply [$conn->new_stream->send_all(sub { 0 })], [], 'a source with nothing to send never asks libvirt';

subtest 'sparse_send_all asks the hole handler first' => sub {
    my @called;
    my $st = $conn->new_stream;
    $st->sparse_send_all(sub { push @called, 'data'; 0 }, sub { push @called, 'hole'; (0, 0) },
        sub { push @called, 'skip'; 0 });
    is_deeply \@called, [qw(hole data)], 'then the data handler, at the end of the file';
};

subtest 'the order of failures' => sub {
    my @called;
    my $st = $conn->new_stream;
    error_is(sub { $st->sparse_send_all(sub { 0 }, sub { push @called, 'hole'; (0, 5) },
        sub { push @called, 'skip'; 0 }) }, { code => 3 }, 'a hole that cannot be sent');
    is_deeply \@called, ['hole'], 'is not skipped';
};

subtest 'an error prints as Sys::Virt prints its own' => sub {
    my $error = error_of(sub { $conn->new_stream->finish });
    is "$error", "libvirt error code: 3, message: this function is not supported by the connection"
        . " driver: virStreamFinish\n", 'as text';
    is_deeply [sort keys %$error], [qw(code domain level message)], 'and holds these fields';
};

my %blocked = (
    recv_all        => ['sinks', sub { $_[0]->recv_all(sub { $_[2] }) }],
    sparse_recv_all => ['sinks', sub { $_[0]->sparse_recv_all(sub { $_[2] }, sub { 0 }) }],
    send_all        => ['sources', sub { $_[0]->send_all(sub { 0 }) }],
    sparse_send_all => ['sources', sub { $_[0]->sparse_send_all(sub { 0 }, sub { (0, 0) }, sub { 0 }) }],
);
for my $name (sort keys %blocked) {
    my ($kind, $call) = @{ $blocked{$name} };
    my $st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
    error_is(sub { $call->($st) }, {
        code => 55, domain => 38, level => 2,
        message => "Requested operation is not valid: data $kind cannot be used for non-blocking streams",
    }, "$name of a non-blocking stream");
}

done_testing;
