package StreamTest::Slots;

# Every place where a transfer calls a handler: one table for the tests of what
# a handler may do. A slot opens a stream, runs it with the handler under test
# and harmless others, and knows the file on the daemon's side.

use strict;
use warnings;
no warnings 'uninitialized';    # a handler's undef is reported at the call

use Exporter 'import';

use StreamTest ();
use Test::More ();

our @EXPORT = qw(slots is_over daemon_fds memory_kib);

# A download this big never fits the buffers on its way, so that a transfer that
# has been left alone would still be under way.
my $SIZE = 6 << 20;

# The slots; those of one daemon, and those that need none with no daemon given.
sub slots {
    my ($daemon) = @_;
    my @slots = ({
        name => 'recv_all, local', who => 'recv handler', sink => 1, local => 1,
        open => sub {
            my $conn = $_[0] || StreamTest::connect_test();
            my $st = $conn->new_stream;
            $conn->get_domain_by_name('test')->screenshot($st, 0);
            return $st;
        },
        run => sub { $_[0]->recv_all($_[1]) },
    });
    return @slots unless $daemon;

    $daemon->volume('slots-down', undef, StreamTest::pattern($SIZE));
    $daemon->volume('slots-up', $SIZE);
    StreamTest::sparse_file($daemon->pool_dir . '/slots-holes',
        hole => 4 << 20, data => $SIZE, hole => 4 << 20);
    $daemon->adopt('slots-holes');

    my $open = sub {
        my ($way, $name, $flag) = @_;
        return sub {
            my ($conn) = @_;
            my $pool = $conn ? $conn->get_storage_pool_by_name('streams') : $daemon->pool;
            my $st = ($conn || $daemon->conn)->new_stream;
            $pool->get_volume_by_name($name)->$way($st, 0, 0, $flag);
            return $st;
        };
    };
    my %kind = (
        down => ['slots-down', $open->(download => 'slots-down', 0)],
        up => ['slots-up', $open->(upload => 'slots-up', 0)],
        sparse_down => ['slots-holes', $open->(download => 'slots-holes',
            Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM())],
        sparse_up => ['slots-up', $open->(upload => 'slots-up',
            Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM())],
    );
    my @remote = (
        ['recv_all', 'recv handler', down => sub { $_[0]->recv_all($_[1]) }, sink => 1],
        ['send_all', 'send handler', up => sub { $_[0]->send_all($_[1]) }, source => 1],
        ['sparse_recv_all', 'recv handler',
            sparse_down => sub { $_[0]->sparse_recv_all($_[1], sub { 0 }) }, sink => 1],
        ['sparse_recv_all, hole', 'recv holeHandler',
            sparse_down => sub { $_[0]->sparse_recv_all(sub { $_[2] }, $_[1]) }, told => 1],
        ['sparse_send_all', 'send handler', sparse_up => sub {
            my ($st, $handler) = @_;
            $st->sparse_send_all($handler, sub { (1, 1 << 20) }, sub { 0 });
        }, source => 1],
        ['sparse_send_all, hole', 'send holeHandler', sparse_up => sub {
            my ($st, $handler) = @_;
            $st->sparse_send_all(sub { 0 }, $handler, sub { 0 });
        }, sections => 1],
        ['sparse_send_all, skip', 'send skipHandler', sparse_up => sub {
            my ($st, $handler) = @_;
            my @sections = ([0, 4096]);
            $st->sparse_send_all(sub { 0 }, sub { @{ shift @sections || [1, 0] } }, $handler);
        }, told => 1],
    );
    for my $remote (@remote) {
        my ($name, $who, $kind, $run, $role) = @$remote;
        my ($file, $opener) = @{ $kind{$kind} };
        push @slots, {
            name => $name, who => $who, open => $opener, run => $run, $role => 1,
            path => $daemon->pool_dir . "/$file",
        };
    }
    return @slots;
}

# How often the daemon has a file open: nothing else shows from outside whether
# its side of a stream is over.
sub daemon_fds {
    my ($daemon, $path) = @_;
    my $dir = '/proc/' . $daemon->pid . '/fd';
    return scalar grep { (readlink($_) // '') eq $path } glob "$dir/*";
}

# The stream of this slot has been aborted: the client's side refuses everything,
# and the daemon's is closed. Nothing here could wait for one that was not.
sub is_over {
    my ($slot, $st, $daemon) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $again = StreamTest::error_of(sub { $st->abort });
    $slot->{local}
        ? Test::More::is($again, undef, 'a second abort does nothing')
        : Test::More::like($again, qr/stream is closed/, 'the stream was aborted');
    Test::More::like(StreamTest::error_of(sub { $st->recv(my $data, 1) }),
        qr/stream is (?:closed|not open)/, 'and refuses to go on');
    return unless $daemon && $slot->{path};
    Test::More::ok(StreamTest::within(60, sub { daemon_fds($daemon, $slot->{path}) == 0 }),
        'on the daemon\'s side too');
    return;
}

# What this process has in memory.
sub memory_kib {
    my ($field) = @_;
    my ($kib) = StreamTest::slurp('/proc/self/status') =~ /^\Q$field\E:\s+(\d+)/m;
    return $kib;
}

1;
