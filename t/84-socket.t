# A stream as a real socket: whatever reads and writes sockets does so with this one.
use strict;
use warnings;

use Fcntl ();
use IO::Select ();
use POSIX ();
use Socket ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

plan skip_all => 'the C binding has no socket' unless rust();

my $daemon = daemon();
my $conn = $daemon->conn;
my $content = pattern(3_000_001);
my $down = $daemon->volume('down', undef, $content);
my $text = $daemon->volume('text', undef, join '', map { "line $_\n" } 1 .. 50_000);
my $up_file = $daemon->pool_dir . '/up';

sub download {
    my ($volume, $flags) = @_;
    my $st = $conn->new_stream;
    ($volume // $down)->download($st, 0, 0, $flags // 0);
    return $st;
}

# To a new volume that is as large as what will be sent.
sub upload {
    my ($size) = @_;
    my $volume = $daemon->volume('up', $size // length $content);
    my $st = $conn->new_stream;
    $volume->upload($st, 0, 0);
    return $st;
}

sub read_all {
    my ($socket) = @_;
    my $all = '';
    while (my $count = sysread $socket, $all, 65536, length $all) { }
    return $all;
}

sub threads { return scalar(my @all = glob "/proc/$$/task/*") }

subtest 'what it is' => sub {
    my $st = download();
    my $socket = $st->socket;
    isa_ok $socket, 'IO::Socket::UNIX';
    cmp_ok fileno($socket), '>=', 0, 'a descriptor';
    ok -S $socket, 'a socket of the system\'s';
    ok fcntl($socket, Fcntl::F_GETFD(), 0) & Fcntl::FD_CLOEXEC(), 'closed by exec';
    ok $socket->blocking, 'it blocks';
    is $socket->socktype, Socket::SOCK_STREAM(), 'a stream of bytes';
    is_deeply [PerlIO::get_layers($socket)], [qw(unix perlio)], 'bytes on the way in';
    is_deeply [PerlIO::get_layers($socket, output => 1)], [qw(unix perlio)], 'and out';
    $st->abort;
};

subtest 'a download' => sub {
    my $st = download();
    is sha(read_all($st->socket)), sha($content), 'sysread, to the end of the file';
    is_deeply [$st->finish], [], 'finish';

    $st = download();
    my $socket = $st->socket;
    my $got = do { local $/; <$socket> };
    is sha($got), sha($content), 'one readline';
    $st->finish;

    $st = download($text);
    $socket = $st->socket;
    my @lines = <$socket>;
    is_deeply [scalar(@lines), @lines[0, -1]], [50_000, "line 1\n", "line 50000\n"], 'lines';
    ok eof $socket, 'eof';
    $st->finish;

    $st = download();
    $socket = $st->socket;
    $socket->blocking(0);
    my $select = IO::Select->new($socket);
    my $all = '';
    while (my ($ready) = $select->can_read) {
        last unless sysread $ready, $all, 65536, length $all;
    }
    is sha($all), sha($content), 'IO::Select and sysread that does not wait';
    $st->finish;

    $st = download();
    $st->recv(my $first, 1000);
    is sha($first . read_all($st->socket)), sha($content), 'what was received ahead comes first';
    $st->finish;

    $st = download($daemon->volume('empty', 0));
    is read_all($st->socket), '', 'an empty volume';
    $st->finish;
};

subtest 'finish before all has been read' => sub {
    my $st = download($daemon->volume('small', undef, 'small'));
    my $socket = $st->socket;
    $st->finish;
    is read_all($socket), 'small', 'the rest is there';
    is sysread($socket, my $nothing, 1), 0, 'and its end';

    $st = download($daemon->volume('small', undef, 'small'));
    $socket = $st->socket;
    IO::Select->new($socket)->can_read;
    close $socket;
    error_is(sub { $st->finish }, { code => 38, message => 'socket failed: Broken pipe' },
        'a socket that is closed unread: finish fails');
};

subtest 'a hole arrives as zeroes' => sub {
    sparse_file($daemon->pool_dir . '/sparse', hole => 1 << 20, data => 70_000, hole => 3 << 20, data => 1000, hole => 1 << 20);
    my $volume = $daemon->adopt('sparse');
    my $st = download($volume, Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM());
    is sha(read_all($st->socket)), sha_file($daemon->pool_dir . '/sparse'), 'the volume, byte for byte';
    $st->finish;
};

subtest 'an upload' => sub {
    my $st = upload();
    my $socket = $st->socket;
    print {$socket} $content or die "print: $!";
    shutdown $socket, 1;
    is_deeply [$st->finish], [], 'print, shutdown, finish';
    is sha_file($up_file), sha($content), 'is there';

    $st = upload();
    $socket = $st->socket;
    my $at = 0;
    $at += syswrite $socket, $content, 50_000, $at while $at < length $content;
    close $socket;
    $st->finish;
    is sha_file($up_file), sha($content), 'syswrite, and the last close';

    $st = upload();
    $socket = $st->socket;
    print {$socket} 'begun';
    error_is(sub { $st->finish }, { code => 38, message => qr/the socket is open for writing/ },
        'finish while the program could still write');
    print {$socket} substr $content, 5;
    shutdown $socket, 1;
    $st->finish;
    is sha_file($up_file), sha('begun' . substr $content, 5), 'and it goes on';
};

subtest 'of a child process' => sub {
    my $out = scratch() . '/out';
    my $spawn = sub {
        my ($in, $to, @command) = @_;
        my $pid = fork // die "fork: $!";
        return $pid if $pid;
        open STDIN,  '<&', $in or POSIX::_exit(126);
        open STDOUT, '>&', $to or POSIX::_exit(126);
        exec { $command[0] } @command or POSIX::_exit(127);
    };
    open my $null, '+<', '/dev/null' or die $!;
    open my $file, '>', $out or die $!;

    my $st = download();
    my $pid = $spawn->($st->socket, $file, 'cat');
    $st->finish;
    waitpid $pid, 0;
    is $?, 0, 'standard input: the child succeeds';
    is sha_file($out), sha($content), 'and has all, after the program\'s own socket is gone';

    $st = upload();
    spew($out, $content);
    open my $in, '<', $out or die $!;
    $pid = $spawn->($in, $st->socket, 'cat');
    $st->finish;
    waitpid $pid, 0;
    is sha_file($up_file), sha($content), 'standard output';

    $st = download();
    $pid = $spawn->($st->socket, $null, qw(head -c 1000));
    error_is(sub { $st->finish }, { code => 38, message => 'socket failed: Broken pipe' },
        'a child that closes early: finish fails');
    waitpid $pid, 0;

    $st = upload();
    $pid = $spawn->($null, $st->socket, $^X, '-e', 'print "x" x 5000; kill KILL => $$');
    waitpid $pid, 0;
    is $? & 127, 9, 'a child that is killed says so by its status';
    $st->finish;

    # perl's own fork, without exec: the child's copy of our end must not keep the socket open.
    $st = download();
    my $socket = $st->socket;
    $pid = fork // die "fork: $!";
    if (!$pid) {
        my $right = sha(read_all($socket)) eq sha($content);
        POSIX::_exit($right ? 0 : 1);
    }
    close $socket;
    $st->finish;
    waitpid $pid, 0;
    is $?, 0, 'a fork reads to the end of the file';
};

subtest 'both ends end' => sub {
    for my $way ([abort => sub { $_[0]->abort }], ['a drop' => sub { undef $_[0] }]) {
        my ($name, $ends) = @$way;
        my $st = download();
        my $socket = $st->socket;
        sysread $socket, my $data, 10;
        $ends->($st);
        my $rest = read_all($socket);
        cmp_ok length $rest, '<', length $content, "$name: the end of the file comes early";
        local $SIG{PIPE} = 'IGNORE';
        ok !defined syswrite($socket, 'x'), "$name: nothing can be written";
        ok $!{EPIPE}, "$name: a broken pipe";
    }
    my $socket;
    my $died = error_of(sub {
        my $st = upload();
        $socket = $st->socket;
        die "over\n";
    });
    is $died, "over\n", 'a die';
    is sysread($socket, my $nothing, 1), 0, 'ends the socket too';
};

subtest 'many at a time' => sub {
    my $bytes = pattern(100_000);
    my $volume = $daemon->volume('many', undef, $bytes);
    my $before = threads();
    my @streams = map { download($volume) } 1 .. 200;
    my @sockets = map { $_->socket } @streams;
    my $with = threads();
    cmp_ok $with - $before, '<=', 5, 'few threads serve them all';
    is scalar(grep { sha(read_all($_)) eq sha($bytes) } reverse @sockets), 200, 'each has its own bytes';
    $_->finish for @streams;
    ok within(60, sub { threads() <= $before }), 'the threads end with the last';
};

subtest 'a stream is opened again' => sub {
    my $st = download();
    $st->finish if read_all($st->socket);
    $down->download($st, 0, 0);
    is sha(read_all($st->socket)), sha($content), 'and has another socket';
    $st->finish;
};

subtest 'a stream without a daemon' => sub {
    my $local = connect_test();
    my $open = sub {
        my $st = $local->new_stream;
        $local->get_domain_by_name('test')->screenshot($st, 0);
        return $st;
    };
    my $picture = '';
    my $st = $open->();
    $st->recv_all(sub { $picture .= $_[1]; $_[2] });
    $st->finish;

    my $before = threads();
    my @streams = map { $open->() } 1 .. 3;
    my @sockets = map { $_->socket } @streams;
    ok read_all($_) eq $picture, 'the picture, to its end' for reverse @sockets;
    is_deeply [$_->finish], [], 'finish' for @streams;
    $st = $open->();
    my $socket = $st->socket;
    $st->abort;
    ok index($picture, read_all($socket)) == 0, 'abort: the end of the file comes';
    $st = $open->();
    $socket = $st->socket;
    close $socket;
    error_is(sub { $st->finish }, { code => 38, message => 'socket failed: Broken pipe' },
        'a socket that is closed unread: finish fails');
    ok within(60, sub { threads() <= $before }), 'the threads end';
};

done_testing;
