# %SIG handlers while a call is blocked on a console that says nothing: they run, though
# the call would never end by itself, and what they throw comes out of it.
use strict;
use warnings;

use POSIX ();
use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd qemu);

plan skip_all => 'the C binding never leaves such a call' unless rust();

my $daemon = daemon();
my $conn = $daemon->conn;
my $guest = $daemon->guest(paused => 1);
my $content = pattern(700_000);
$daemon->volume('source', undef, $content);

sub console {
    my ($flags) = @_;
    my $st = $conn->new_stream($flags // 0);
    $guest->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
    return $st;
}

# What each blocked call is; none of them has anything to wait for.
my %blocked = (
    'recv' => sub { $_[0]->recv(my $data, 100) },
    'recv with a flag' => sub { $_[0]->recv(my $data, 100, Sys::Virt::Stream::RECV_STOP_AT_HOLE) },
    'recv_all' => sub { $_[0]->recv_all(sub { $_[2] }) },
    'sparse_recv_all' => sub { $_[0]->sparse_recv_all(sub { $_[2] }, sub { 0 }) },
);

# What it costs a program that has no handler: nothing.
my %none = (
    'nothing set' => '',
    'a signal ignored' => q($SIG{PIPE} = 'IGNORE';),
    'a signal set to what it was' => q($SIG{USR1} = 'DEFAULT';),
    'a handler that is gone' => q($SIG{USR1} = sub { }; delete $SIG{USR1};),
    'a local handler that is gone' => q({ local $SIG{USR1} = sub { }; }),
);
for my $what (sort keys %none) {
    ok_perl("use strict; use warnings; use Sys::Virt;\n$none{$what}\n" . <<'EOP', "33443, 1 thread\n", "no second thread: $what",
my $conn = Sys::Virt->new(uri => $ARGV[0]);
my ($bytes, $most, $st) = (0, 0, $conn->new_stream);
$conn->get_domain_by_name('test')->screenshot($st, 0);
sub count { my @tasks = glob '/proc/self/task/*'; $most = @tasks if @tasks > $most; return }
$st->recv_all(sub { $bytes += $_[2]; count(); $_[2] });
$st->finish;
count();
print "$bytes, $most thread\n";
EOP
        args => [$daemon->test_uri]);
}

my %throws = (
    'a string' => [sub { die "time is up\n" }, sub { $_[0] eq "time is up\n" }],
    'an object' => [sub { die bless { n => 7 }, 'Some::Alarm' }, sub { ref $_[0] eq 'Some::Alarm' && $_[0]{n} == 7 }],
);
for my $call (sort keys %blocked) {
    for my $what (sort keys %throws) {
        my ($throw, $is) = @{ $throws{$what} };
        my $st = console();
        local $SIG{USR1} = $throw;
        my $timer = signals(USR1 => 0.2);
        my $error = error_of(sub { $blocked{$call}->($st) });
        ok $is->($error), "$call: $what comes out" or diag explain $error;
        ok error_of(sub { $st->recv(my $data, 10); }), 'the stream is over';
        undef $st;
        ok $conn->get_library_version, 'the connection goes on';
    }
}

# One to the process of the test, so many seconds later and while it waits, and again until this
# is dropped.
sub signals {
    my ($name, @after) = @_;
    my $parent = $$;
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        for my $after (@after) {
            Time::HiRes::sleep($after);
            1 until getppid != $parent || waits($parent);
            kill $name, $parent if getppid == $parent;
        }
        POSIX::_exit(0);
    }
    return bless \$pid, 'Signals';
}
# It sleeps, and has done nothing else for a moment. (On a busy machine a call may begin late.)
sub waits {
    my ($pid) = @_;
    my @slept = map { Time::HiRes::sleep(0.05); slurp("/proc/$pid/status") =~ /^State:\s+S.*^voluntary_ctxt_switches:\s+(\d+)/ms ? $1 : -1 } 1, 2;
    return $slept[0] >= 0 && $slept[0] == $slept[1];
}
sub Signals::DESTROY { local ($?, $!); kill 'KILL', ${ $_[0] }; waitpid ${ $_[0] }, 0; return }

subtest 'a handler that returns lets the call go on' => sub {
    my $st = console();
    my $count = 0;
    local $SIG{USR1} = sub { $count++ == 2 and die "third\n" };
    my $timer = signals(USR1 => (0.2) x 20);
    is error_of(sub { $st->recv(my $data, 100) }), "third\n", 'until one dies';
    is $count, 3, 'all of them ran';
};

subtest 'in an eval around the call' => sub {
    my $st = console();
    my $left = '';
    my $timed_out = sub {
        eval {
            local $SIG{ALRM} = sub { die "alarm\n" };
            alarm 1;
            $st->recv(my $data, 100);
            alarm 0;
            1;
        } or $left = $@;
    };
    $timed_out->();
    is $left, "alarm\n", 'the idiom of every manual works';
    deadline();
};

subtest 'what a handler does with streams' => sub {
    my $own = console();
    my $got = '';
    my %acts = (
        'another stream' => sub {
            my $st = $conn->new_stream;
            $daemon->pool->get_volume_by_name('source')->download($st, 0, 0);
            $got = '';
            $st->recv_all(sub { $got .= $_[1]; $_[2] });
            $st->finish;
            return sha($got) eq sha($content);
        },
        'the connection' => sub { $conn->get_hostname ne '' },
        'the domain of the console' => sub { $guest->get_name =~ /guest/ },
        'the stream itself, sending' => sub { $own->send('x', 1) == 1 },
    );
    for my $what (sort keys %acts) {
        my $fine = 0;
        local $SIG{USR1} = sub { $fine = $acts{$what}->(); die "done\n" };
        $own = console();
        my $timer = signals(USR1 => 0.2);
        is error_of(sub { $own->recv(my $data, 100) }), "done\n", $what;
        ok $fine, 'works in the handler';
    }
    for my $end (qw(abort finish)) {
        $own = console();
        local $SIG{USR1} = sub { $own->$end };
        my $timer = signals(USR1 => 0.2);
        my $error = error_of(sub { $own->recv(my $data, 100) });
        ok !defined $error || ref $error eq 'Sys::Virt::Error', "$end in the handler ends the call";
    }
    $own = console();
    {
        local $SIG{USR1} = sub { undef $own; die "gone\n" };
        my $timer = signals(USR1 => 0.2);
        is error_of(sub { $own->recv(my $data, 100) }), "gone\n", 'the variable undefined';
    }
    ok $conn->get_library_version, 'the connection goes on';
};

subtest 'a blocked call within a handler of a blocked call' => sub {
    my ($outer, $depth, $waits, @log) = (console(), 0, 0);
    my $other = $daemon->guest(paused => 1);
    local $SIG{USR1} = sub {
        if (++$depth == 1) {
            my $inner = $conn->new_stream;
            $other->open_console($inner, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
            push @log, error_of(sub { $waits = 1; $inner->recv(my $data, 100) });
            die "outer\n";
        }
        die "inner\n";
    };
    # The handler also waits for the daemon, to open a console.
    local $SIG{USR2} = sub { return if !$waits; $waits = 0; die "inner\n" };
    my $timer = signals(USR1 => 0.2);
    my $second = signals(USR2 => (0.2) x 500);
    push @log, error_of(sub { $outer->recv(my $data, 100) });
    undef $second;
    is_deeply \@log, ["inner\n", "outer\n"], 'each comes out of its own';
    $other->destroy;
};

subtest 'between the chunks of a transfer' => sub {
    my %way = (
        recv_all => sub {
            my ($st, $chunks) = ($conn->new_stream, 0);
            $daemon->pool->get_volume_by_name('source')->download($st, 0, 0);
            $st->recv_all(sub { kill USR1 => $$ if !$chunks++; $_[2] });
        },
        send_all => sub {
            my ($st, $chunks) = ($conn->new_stream, 0);
            $daemon->pool->get_volume_by_name('source')->upload($st, 0, 0);
            $st->send_all(sub { kill USR1 => $$ if !$chunks++; $chunks < 4 ? ($_[1] = 'x' x $_[2], $_[2])[1] : 0 });
        },
    );
    for my $name (sort keys %way) {
        my $ran = 0;
        local $SIG{USR1} = sub { $ran++ };
        is error_of($way{$name}), undef, "$name goes on";
        is $ran, 1, 'after the handler has run';
        local $SIG{USR1} = sub { die "in between\n" };
        is error_of($way{$name}), "in between\n", 'or is left by a die';
    }
};

subtest 'exit' => sub {
    for my $call (qw(recv recv_all)) {
        my $got = run_perl(<<'EOP', args => [$daemon->uri, $guest->get_name, $call]);
use strict; use warnings; use Sys::Virt;
my ($uri, $name, $call) = @ARGV;
$| = 1;
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream;
$conn->get_domain_by_name($name)->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
END { print "end ", $conn->get_library_version ? "connected\n" : "lost\n" }
$SIG{ALRM} = sub { exit 13 };
alarm 1;
sub blocked { my @some = @_; $call eq 'recv' ? $st->recv(my $data, 100) : $st->recv_all(sub { $_[2] }) }
eval { blocked(1, 2, 3) };
print "not reached $@\n";
EOP
        is_deeply $got, { out => "end connected\n", err => '', status => 13, signal => 0, hang => 0 },
            "in a handler, $call" or diag explain $got;
    }
};

$guest->destroy;
done_testing;
