# What a stream with a socket refuses, and which streams get none.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

plan skip_all => 'the C binding has no socket' unless rust();

my $daemon = daemon();
my $conn = $daemon->conn;
my $content = pattern(300_000);
my $down = $daemon->volume('down', undef, $content);

sub download {
    my ($st) = ($_[0] // $conn->new_stream);
    $down->download($st, 0, 0);
    return $st;
}

my $HAS = { code => 55, message => 'Requested operation is not valid: the stream has a socket' };

subtest 'beside the socket' => sub {
    my $st = download();
    my $socket = $st->socket;
    my %call = (
        socket          => sub { $st->socket },
        recv            => sub { $st->recv(my $data, 10) },
        'recv of much'  => sub { $st->recv(my $data, 100_000) },
        'recv at holes' => sub { $st->recv(my $data, 10, Sys::Virt::Stream::RECV_STOP_AT_HOLE) },
        send            => sub { $st->send('x', 1) },
        recv_hole       => sub { $st->recv_hole },
        send_hole       => sub { $st->send_hole(10) },
        recv_all        => sub { $st->recv_all(sub { die 'called' }) },
        send_all        => sub { $st->send_all(sub { die 'called' }) },
        sparse_recv_all => sub { $st->sparse_recv_all(sub { die 'called' }, sub { die 'called' }) },
        sparse_send_all => sub { $st->sparse_send_all((sub { die 'called' }) x 3) },
        recv_file       => sub { $st->recv_file(scratch() . '/file') },
        send_file       => sub { $st->send_file($0) },
        handle          => sub { $st->handle },
        add_callback    => sub { $st->add_callback(1, sub { }) },
        update_callback => sub { $st->update_callback(1) },
        remove_callback => sub { $st->remove_callback },
    );
    error_is($call{$_}, $HAS, $_) for sort keys %call;
    my $got = do { local $/; <$socket> };
    is sha($got), sha($content), 'all of it has come all the same';
    is_deeply [$st->finish], [], 'and finish succeeds';
    error_is(sub { $st->recv(my $data, 10) }, { message => qr/stream is closed/ }, 'then it is an ended stream');
};

subtest 'no socket' => sub {
    my $st = $conn->new_stream;
    error_is(sub { $st->socket }, { code => 3, message => qr/not supported/ }, 'a stream that is not open');
    $st = download();
    $st->abort;
    error_is(sub { $st->socket }, { message => qr/stream is closed/ }, 'one that has ended');
    $st = download($conn->new_stream(Sys::Virt::Stream::NONBLOCK));
    error_is(sub { $st->socket }, { code => 55, message => qr/sockets cannot be used for non-blocking streams/ },
        'one that does not block');
    $st->abort;
    my $open = () = glob "/proc/$$/fd/*";
    for (1 .. 50) { eval { $conn->new_stream->socket } }
    is scalar(() = glob "/proc/$$/fd/*"), $open, 'a refusal leaves no descriptor open';
    error_is(sub { Sys::Virt::Stream::socket(bless \(my $x = 17), 'Sys::Virt::Stream') },
        { message => qr/invalid stream pointer/ }, 'no stream');
};

ok_perl(<<'PERL', <<'OUT', 'event loops and close callbacks beside threads', args => [$daemon->uri]);
    use Sys::Virt;
    use StreamTest::Loop;
    my $conn = Sys::Virt->new(uri => shift);
    my ($pool) = grep { $_->get_name eq 'streams' } $conn->list_all_storage_pools;
    $pool->get_volume_by_name('down')->download(my $st = $conn->new_stream, 0, 0);
    my $socket = $st->socket;
    my $said = sub { my ($code) = @_; eval { $code->(); 1 } ? 'fine' : $@->message };
    print $said->(sub { $conn->register_close_callback(sub { }) }), "\n";
    print $said->(sub { Sys::Virt::Event::register_default() }), "\n";
    print $said->(sub { StreamTest::Loop->new }), "\n";
    $st->abort;
    undef $socket;
    my $then;
    for (1 .. 120) { last if ($then = $said->(sub { $conn->register_close_callback(sub { }) })) eq 'fine'; sleep 1 }
    print "$then\n";
    $pool->get_volume_by_name('down')->download($st, 0, 0);
    print $said->(sub { $st->socket }), "\n";
PERL
Requested operation is not valid: a close callback must be registered before the first socket of a stream
Requested operation is not valid: the event loop must be registered before the first socket of a stream
Requested operation is not valid: the event loop must be registered before the first socket of a stream
fine
Requested operation is not valid: a stream's socket needs an event loop where a close callback is registered
OUT

subtest 'with a callback' => sub {
    ok_perl(<<'PERL', "Requested operation is not valid: the stream has a callback\n", 'refused', args => [$daemon->uri]);
        use Sys::Virt;
        Sys::Virt::Event::register_default();
        my $conn = Sys::Virt->new(uri => shift);
        my ($pool) = grep { $_->get_name eq 'streams' } $conn->list_all_storage_pools;
        $pool->get_volume_by_name('down')->download(my $st = $conn->new_stream, 0, 0);
        $st->add_callback(1, sub { });
        print eval { $st->socket; 1 } ? 'fine' : $@->message, "\n";
        $st->abort;
PERL
};

done_testing;
