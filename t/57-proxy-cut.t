# A connection that is cut or trickles at any byte of a message, in every kind of transfer:
# an exception in bounded time, and the program connects again.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Proxy;

my $daemon = daemon();
plan skip_all => 'libvirtd 11.3 itself may lock up when a connection is cut' unless $daemon->bears_cuts;
my $content = pattern(900_000);
$daemon->volume('source', undef, $content);
$daemon->volume('target', length $content);
sparse_file($daemon->pool_dir . '/holes', hole => 1 << 20, data => 600_000, hole => 1 << 20, data => 600_000);
$daemon->adopt('holes');
my $proxy = StreamTest::Proxy->start($daemon->socket);

# What the proxy has cut is told to nobody.
$SIG{PIPE} = 'IGNORE';
my $uri = $daemon->uri($proxy->socket);

my %flag = (
    download => Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM,
    upload => Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM,
);

sub opened {
    my ($way, $name, $sparse) = @_;
    my $conn = Sys::Virt->new(uri => $uri);
    my $st = $conn->new_stream;
    my $volume = $conn->get_storage_volume_by_path($daemon->pool_dir . "/$name");
    $volume->$way($st, 0, 0, $sparse ? $flag{$way} : 0);
    return $st;
}

sub supply {
    my ($at) = (0);
    return sub { $_[1] = substr $content, $at, $_[2]; $at += length $_[1]; length $_[1] };
}

my %transfer = (
    recv => ['server', sub {
        my $st = opened(download => 'source');
        1 while $st->recv(my $data, 65_536) > 0;
        $st->finish;
    }],
    recv_all => ['server', sub {
        my $st = opened(download => 'source');
        $st->recv_all(sub { $_[2] });
        $st->finish;
    }],
    sparse_recv_all => ['server', sub {
        my $st = opened(download => 'holes', 1);
        $st->sparse_recv_all(sub { $_[2] }, sub { 0 });
        $st->finish;
    }],
    send => ['client', sub {
        my $st = opened(upload => 'target');
        for my $piece (0 .. 8) { $st->send(substr($content, $piece * 100_000, 100_000), 100_000) }
        $st->finish;
    }],
    send_all => ['client', sub {
        my $st = opened(upload => 'target');
        $st->send_all(supply());
        $st->finish;
    }],
    sparse_send_all => ['client', sub {
        my $st = opened(upload => 'target', 1);
        my @sections = ([0, 100_000], [1, 400_000], [0, 100_000], [1, 300_000], [0, 0]);
        $st->sparse_send_all(sub { $_[1] = 'x' x $_[2]; $_[2] }, sub { @{ shift @sections } }, sub { 0 });
        $st->finish;
    }],
);

# An abort leaves a thread for the next one, which has two descriptors.
opened(download => 'source')->abort;

sub descriptors { my @all = glob '/proc/self/fd/*'; return scalar @all }

for my $name (sort keys %transfer) {
    my ($side, $code) = @{ $transfer{$name} };
    subtest $name => sub {
        $proxy->rule;
        is error_of($code), undef, 'undisturbed';
        my $before = descriptors();
        for my $nth (1, 2) {
            for my $at (0, 3, 4, 20, 28, 29, 50_000) {
                $proxy->rule(do => 'cut', side => $side, nth => $nth, at => $at);
                my $error = error_of($code);
                isa_ok $error, 'Sys::Virt::Error', "message $nth cut at byte $at";
            }
        }
        $proxy->rule(do => 'trickle', side => $side, nth => 2);
        is error_of($code), undef, 'a message that trickles in';
        is descriptors(), $before, 'no descriptor is left open' if rust();
    };
}

subtest 'the answer to the end is cut off' => sub {
    for my $name (qw(send_all recv_all)) {
        # What the daemon answers to a finish comes after all the data.
        my $nth = $name eq 'send_all' ? 1 : 5;
        $proxy->rule(do => 'cut', side => 'server', nth => $nth, at => 0);
        my $error = error_of($transfer{$name}[1]);
        isa_ok $error, 'Sys::Virt::Error', $name;
    }
};

subtest 'by hand, after the cut' => sub {
    $proxy->rule(do => 'cut', side => 'server', nth => 2);
    my $st = opened(download => 'source');
    error_is(sub { 1 while $st->recv(my $data, 65_536) > 0 }, {}, 'recv fails');
    for my $call (qw(finish abort)) {
        ok error_of(sub { $st->$call; die "no error\n" }), "$call after it returns";
    }
    ok error_of(sub { $st->recv(my $data, 10) }), 'there is no more to read';
    undef $st;
    $proxy->rule;
    is error_of($transfer{recv_all}[1]), undef, 'another connection works';
};

done_testing;
