# Sockets of streams and what goes wrong: no hang, no thread or process left over, and no
# success that was none. An argument names a kind of event loop of StreamTest::Turns, which
# then moves the data in place of threads: t/39 runs it so.
use strict;
use warnings;

use IO::Select ();
use POSIX ();
use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Proxy;
use StreamTest::Turns;

plan skip_all => 'the C binding has no socket' unless rust();

$SIG{PIPE} = 'IGNORE';
my $loop = shift // 'none';
my $main = $$;
my $daemon = daemon();
StreamTest::Turns->import($loop, $daemon->uri);
my $size = 48 << 20;
my $content = pattern($size);
my $digest = sha($content);
$daemon->volume('down', undef, $content);
$daemon->volume('up', $size);

sub volume_of {
    my ($conn, $name) = @_;
    my ($pool) = grep { $_->get_name eq 'streams' } $conn->list_all_storage_pools;
    $pool->create unless $pool->is_active;
    return $pool->get_volume_by_name($name);
}

sub download {
    my ($conn) = @_;
    volume_of($conn, 'down')->download(my $st = $conn->new_stream, 0, 0);
    return $st;
}

sub upload {
    my ($conn) = @_;
    volume_of($conn, 'up')->upload(my $st = $conn->new_stream, 0, 0);
    return $st;
}

sub connected { return Sys::Virt->new(uri => $daemon->uri(@_)) }

sub pause {
    my $end = Time::HiRes::time() + $_[0];
    turn() while Time::HiRes::time() < $end;
    return;
}

# Runs the loop until the socket is ready, to be read or written. A child's loop is its parent's.
sub ready {
    my ($socket, $can) = @_;
    my $waits = $loop eq 'none' || $$ != $main;
    my $select = IO::Select->new($socket);
    $can ||= 'can_read';
    turn() until $select->$can($waits ? undef : 0);
    return 1;
}

sub read_all {
    my ($socket, $after_each) = @_;
    my $all = '';
    while (ready($socket) && sysread $socket, $all, 65536, length $all) {
        $after_each->() if $after_each;
    }
    return $all;
}

# The threads of this process that move data.
sub movers {
    return scalar grep { my $in; open $in, "<", $_ and (<$in> // '') eq "stream-socket\n" }
        glob "/proc/$$/task/*/comm";
}

sub no_movers { ok within(60, sub { movers() == 0 }), "$_[0]: no thread is left"; return }

sub memory {
    my ($rss) = StreamTest::slurp("/proc/$$/status") =~ /^VmRSS:\s+(\d+)/m;
    return $rss << 10;
}

subtest 'a reader that stalls' => sub {
    my $conn = connected();
    my $st = download($conn);
    my $before = memory();
    my $socket = $st->socket;
    pause(1);
    # libvirt's client reads whatever comes as long as a loop runs.
    cmp_ok memory() - $before, '<', 8 << 20, 'memory is bounded' if $loop eq 'none';
    my $stalled = download(connected());
    my $kept = $stalled->socket;
    pause(0.5);
    undef $stalled;
    cmp_ok length(read_all($kept)), '<', 1 << 20, 'so is what is under way';
    my $other = download(connected());
    is sha(read_all($other->socket)), $digest, 'another connection is not held up';
    $other->finish;
    $other = download($conn);
    is sha(read_all($other->socket)), $digest, 'another stream of the connection is not either';
    $other->finish;
    is sha(read_all($socket)), $digest, 'and nothing of the first is lost';
    $st->finish;
    no_movers('stalled');
};

subtest 'calls on the connection meanwhile' => sub {
    my $conn = connected();
    my ($down, $idle) = (download($conn), download($conn));
    my $socket = $down->socket;
    my $other = $idle->socket;
    my $calls = 0;
    my $all = read_all($socket, sub { $calls += $conn->get_library_version > 0 });
    cmp_ok $calls, '>', 100, 'each call has been answered';
    is sha($all), $digest, 'the data is right';
    $down->finish;
    $idle->abort;
    no_movers('calls');
};

for my $case (['the daemon is killed', sub { $daemon->kill }, sub { $daemon->launch }],
    ['the connection is cut', undef, sub { }]) {
    my ($name, $spoil, $mend) = @$case;
    for my $way (qw(download upload)) {
        subtest "$name in a$way" =~ s/aup/an up/r =~ s/ado/a do/r => sub {
            my $proxy = $spoil ? undef : StreamTest::Proxy->start($daemon->socket);
            my $conn = connected($proxy ? $proxy->socket : ());
            my $st = $way eq 'download' ? download($conn) : upload($conn);
            my $socket = $st->socket;
            if ($way eq 'download') {
                ready($socket) && sysread $socket, my $some, 1000;
                $spoil ? $spoil->() : $proxy->cut;
                cmp_ok length(read_all($socket)), '<', $size, 'the file ends';
            }
            else {
                $socket->blocking(0);
                my $write = sub { ready($socket, 'can_write') && defined syswrite $socket, $content, 1 << 16 };
                $write->() for 1 .. 16;
                $spoil ? $spoil->() : $proxy->cut;
                my $end = time + 240;
                1 while time < $end && $write->();
                ok $!{EPIPE} || $!{ECONNRESET}, "a broken pipe: $!";
                shutdown $socket, 1;
            }
            my $error = error_of(sub { $st->finish });
            isa_ok $error, 'Sys::Virt::Error', 'finish' and note $error;
            undef $st;
            no_movers($name);
            undef $conn;
            $mend->();
        };
    }
}

subtest 'the daemon does not answer' => sub {
    my $conn = connected();
    my $st = download($conn);
    my $socket = $st->socket;
    ready($socket) && sysread $socket, my $some, 1000;
    $daemon->pause;
    my $ran = 0;
    local $SIG{ALRM} = sub { $ran++; die "enough\n" };
    alarm 2;
    my $error = error_of(sub { read_all($socket); $st->finish });
    deadline();
    is $error, "enough\n", 'a signal handler ends the wait';
    $daemon->resume;
    undef $st;
    undef $socket;
    no_movers('silent');
    ok $conn->get_library_version, 'the connection lives on';
};

subtest 'a signal while finish waits' => sub {
    my $conn = connected();
    my $st = download($conn);
    my $socket = $st->socket;
    my $ran = 0;
    local $SIG{USR1} = sub { $ran++ };
    my $parent = $$;
    my $pid = fork // die "fork: $!";
    if (!$pid) {    # reads only when the parent has had its signal
        Time::HiRes::sleep(0.5);
        kill USR1 => $parent;
        Time::HiRes::sleep(0.5);
        POSIX::_exit(sha(read_all($socket)) eq $digest ? 0 : 1);
    }
    close $socket;
    is_deeply [$st->finish], [], 'finish succeeds';
    is $ran, 1, 'the handler has run';
    waitpid $pid, 0;
    is $?, 0, 'the child has read all';
    no_movers('signalled');
};

# Programs that end in all kinds of ways with data under way.
my $begin = <<'PERL';
    use Sys::Virt; use POSIX (); use IO::Select;
    use StreamTest::Turns @ARGV;
    $SIG{PIPE} = 'IGNORE';
    my $conn = conn();
    my ($pool) = grep { $_->get_name eq 'streams' } $conn->list_all_storage_pools;
    $pool->get_volume_by_name('down')->download(my $st = $conn->new_stream, 0, 0);
    my $socket = $st->socket;
    turn() until IO::Select->new($socket)->can_read(0);
    sysread $socket, my $some, 1000;
PERL
my %end = (
    'exit'                      => ['exit 3', 3, 0],
    'the end of the file'       => ['', 0, 0],
    'die'                       => ['close STDERR; die "over"', undef, 0],
    '_exit'                     => ['POSIX::_exit(4)', 4, 0],
    'exec'                      => ['exec $^X, "-e", "exit 5"', 5, 0],
    'a signal'                  => ['kill KILL => $$; sleep 1', 0, 9],
    'a signal\'s handler'       => ['$SIG{USR1} = sub { exit 6 }; kill USR1 => $$; sleep 1', 6, 0],
    'exit in a child'           => ['if (my $pid = fork) { waitpid $pid, 0; exit $? >> 8 } exit 7', 7, 0],
    'die in a child\'s finish'  => ['if (my $pid = fork) { waitpid $pid, 0; exit $? >> 8 } eval { $st->finish }; exit($@ ? 8 : 1)', 8, 0],
    'a child with its own'      => [<<'PERL', 9, 0],
        if (my $pid = fork) { waitpid $pid, 0; exit $? >> 8 }
        my $mine = Sys::Virt->new(uri => $conn->get_uri);
        $mine->get_storage_pool_by_name('streams')->get_volume_by_name('down')->download(my $other = $mine->new_stream, 0, 0);
        my $theirs = $other->socket;
        my $bytes = 0;
        while (my $count = sysread $theirs, my $data, 65536) { $bytes += $count }
        $other->finish;
        exit($bytes == 48 << 20 ? 9 : 1);
PERL
);
# Its parent's loop, which the child has a copy of, has the parent's connection.
delete $end{'a child with its own'} if $loop ne 'none';
for my $name (sort keys %end) {
    my ($code, $status, $signal) = @{ $end{$name} };
    my $got = run_perl($begin . $code, args => [$loop, $daemon->uri]);
    is $got->{hang}, 0, "$name: the program ends";
    is $got->{status}, $status, "$name: its status" if defined $status;
    is $got->{signal}, $signal, "$name: its signal" or diag explain $got;
}

# The child's own files may have the numbers of our ends.
if ($loop ne 'none') {
    my $got = run_perl($begin . <<'PERL', args => [$loop, $daemon->uri]);
        use Socket;
        my @before = grep { -S "/proc/self/fd/$_" } map { m{(\d+)\z} } glob '/proc/self/fd/*';
        if (my $pid = fork) { waitpid $pid, 0; exit $? >> 8 }
        my %there = map { m{(\d+)\z} => 1 } glob '/proc/self/fd/*';
        my %free = map { $_ => 1 } grep { !$there{$_} } @before;
        keys %free or print("none is closed\n"), exit 1;
        my @own;
        while (keys %free) {
            socketpair my $one, my $other, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!";
            push @own, $one, $other;
            syswrite $other, 'own';
            syswrite $one, 'own';
            delete @free{ map { fileno $_ } $one, $other };
        }
        my $timer = Sys::Virt::Event::add_timeout(10, sub { });
        turn() for 1 .. 5;
        for my $own (@own) {
            $own->blocking(0);
            sysread $own, my $data, 10;
            print "a socket has ", $data // "nothing: $!", "\n" if ($data // '') ne 'own';
        }
        POSIX::_exit(9);
PERL
    is_deeply $got, { out => '', err => '', status => 9, signal => 0, hang => 0 }, 'a child that runs its copy of the loop'
        or diag explain $got;
}

subtest 'a reader outlives the program' => sub {
    my $out = scratch() . '/left';
    my $got = run_perl($begin . <<'PERL', args => [$loop, $daemon->uri, $out]);
        my $out = $ARGV[2];
        if (!fork) {
            my $bytes = 0;
            while (my $count = sysread $socket, my $data, 65536) { $bytes += $count; select undef, undef, undef, 0.02 }
            open my $file, '>', $out; print {$file} "ended after $bytes"; close $file;
            POSIX::_exit(0);
        }
        turn() for 1 .. 20;
        kill KILL => $$;
        sleep 1;
PERL
    is $got->{signal}, 9, 'the program is killed';
    ok within(120, sub { -s $out }), 'its child finds the end of the file' and note slurp($out);
};

subtest 'at random points' => sub {
    my $conn = connected();
    srand 14;
    for my $round (1 .. 60) {
        my $st = rand() < 0.5 ? download($conn) : upload($conn);
        my $socket = $st->socket;
        pause(rand 0.01);
        for (1 .. rand 5) {
            $socket->blocking(0);
            rand() < 0.5 ? sysread $socket, my $data, rand 1e6 : syswrite $socket, $content, rand 1e6;
        }
        my $end = int rand 4;
        undef $socket if rand() < 0.5;
        $end == 0 ? $st->abort : $end == 1 ? undef $st : $end == 2 ? shutdown($socket // next, int rand 3) : 1;
    }
    no_movers('after all of it');
    my $st = download($conn);
    is sha(read_all($st->socket)), $digest, 'the connection is as good as new';
    $st->finish;
};

done_testing;
