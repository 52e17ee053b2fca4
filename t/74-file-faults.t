# What the code that recv_file and send_file call can do: progress and signal handlers
# that die, exit, leave, and meddle with the stream and the handle.
use strict;
use warnings;

use POSIX ();
use Scalar::Util qw(refaddr weaken);
use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Files;

plan skip_all => 'the C binding has no such methods' unless rust();

my $daemon = daemon();
my $dir = scratch();
my $content = pattern(4 << 20);
my $sha = sha($content);
$daemon->volume('source', undef, $content);
$daemon->volume('target', length $content);
my $file = spew("$dir/file", $content);
sub descriptors {
    Sys::Virt::Stream::_release_callbacks();    # a thread that waits for the next call is no leak
    my @all = glob '/proc/self/fd/*';
    return scalar @all;
}

# Each way with a progress handler that is called at the end, or in between as well.
my %way = (
    down => { open => sub { download('source') }, run => sub { my ($st, @o) = @_; $st->recv_file("$dir/target", @o) },
        whole => sub { sha_file("$dir/target") eq $sha } },
    'down, to a handle' => { open => sub { download('source') },
        run => sub { my ($st, @o) = @_; open my $fh, '>', "$dir/target" or die $!; $st->recv_file($fh, @o) },
        whole => sub { sha_file("$dir/target") eq $sha } },
    up => { open => sub { $daemon->volume('target', length $content); upload('target') }, run => sub { my ($st, @o) = @_; $st->send_file($file, @o) },
        whole => sub { sha_file(volume_path('target')) eq $sha } },
);
# A pause of the daemon's has progress called while there is more to come.
sub between { my ($way, $st, $code) = @_; return while_paused(sub { $way->{run}->($st, progress => $code) }) }
sub over {
    my ($st, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok error_of(sub { $st->recv(my $data, 1); die "open\n" }) !~ /^open$/, $name;
}

for my $name (sort keys %way) {
    my $way = $way{$name};
    subtest "$name: it dies" => sub {
        $way->{open}->()->abort;    # from here on a thread is kept, and its descriptors
        my $before = descriptors();
        for my $when ('in between', 'at the end') {
            for my $thrown ("text\n", { an => 'object' }, bless([], 'Some::Exception')) {
                my $st = $way->{open}->();
                my $dies = sub { die $thrown };
                my $error = $when eq 'in between' ? between($way, $st, $dies)
                    : error_of(sub { $way->{run}->($st, progress => $dies) });
                ref $thrown ? is(refaddr $error, refaddr $thrown, "$when: the same object") : is($error, $thrown, "$when: the text");
                over($st, 'the stream is over');
            }
        }
        my $st = $way->{open}->();
        eval { local $@ = 'kept'; eval { $way->{run}->($st, progress => sub { die "inner\n" }) }; die "outer $@" };
        is $@, "outer inner\n", 'within evals';
        is descriptors(), $before, 'no descriptor is left open';
        ok $daemon->conn->get_library_version, 'the connection goes on';
    };

    subtest "$name: it leaves" => sub {
        no warnings 'exiting';
        my %leave = (last => sub { last }, next => sub { next }, goto => sub { goto OUTSIDE });
        for my $how (sort keys %leave) {
            my $st = $way->{open}->();
            my $error;
            for (1) { $error = error_of(sub { $way->{run}->($st, progress => $leave{$how}) }) }
            OUTSIDE:
            like $error, qr/^(?:Can't "$how" outside a loop block|Can't find label)/, "by $how: an exception";
            over($st, 'the stream is over');
        }
    };

    subtest "$name: what it does to the stream" => sub {
        my $st;
        my %act = (
            'undefines the variable' => [sub { undef $st }, 1], 'uses it again' => [sub { $st = 'else' }, 1],
            'finishes' => [sub { $st->finish }, 0], 'aborts' => [sub { $st->abort }, 0], 'destroys' => [sub { $st->DESTROY }, undef],
            'transfers' => [sub { $name eq 'up' ? $st->send_file($file) : $st->recv_file("$dir/other") }, 0],
            'receives' => [sub { eval { $st->recv(my $data, 10) } }, undef], 'reblesses' => [sub { bless $st, 'Some' }, 1],
            'sets $@ and $!' => [sub { $@ = 'set'; $! = 5 }, 1],
            'another stream' => [sub { my $o = download('source'); $o->recv_file("$dir/other", length => 10) }, 1],
            'drops the connection' => [sub { undef $st }, 1],
        );
        delete $act{receives} if $name eq 'up';    # what nobody ever sends
        for my $what (sort keys %act) {
            my ($code, $well) = @{ $act{$what} };
            $st = $way->{open}->();
            my $calls = 0;
            my $error = between($way, $st, sub { $code->() if !$calls++ });
            if (!defined $well) { ok !defined $error || ref $error eq 'Sys::Virt::Error', "$what: a value or an exception" }
            elsif ($well) { is $error, undef, "$what: it goes on"; ok $way->{whole}->(), '... and becomes whole' }
            else { isa_ok $error, 'Sys::Virt::Error', "$what: an exception" }
        }
        ok $daemon->conn->get_library_version, 'the connection goes on';
    };

    subtest "$name: nothing is kept" => sub {
        my @weak;
        for my $dies (0, 1) {
            my $st = $way->{open}->();
            my $captured = { st => \$st };
            my $progress = sub { $captured->{n}++; die "out\n" if $dies };
            my $got = eval { $way->{run}->($st, progress => $progress) };
            push @weak, $st, $captured, $progress, $got // ();
        }
        weaken($_) for @weak;
        is_deeply [grep { defined } @weak], [], 'of the stream, the code and the result';
    };
}

subtest 'exit' => sub {
    for my $way (qw(down up)) {
        my $got = run_perl(<<'EOP', args => [$daemon->uri, $way, $way eq 'up' ? volume_path('target') : volume_path('source'), $way eq 'up' ? $file : "$dir/target"]);
use strict; use warnings; use Sys::Virt;
my ($uri, $way, $path, $file) = @ARGV;
$| = 1;
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream;
my $volume = $conn->get_storage_volume_by_path($path);
$way eq 'up' ? $volume->upload($st, 0, 0) : $volume->download($st, 0, 0);
END { print $conn->get_library_version ? "end\n" : "lost\n" }
my $call = $way eq 'up' ? 'send_file' : 'recv_file';
eval { $st->$call($file, progress => sub { exit 13 }) };
print "not reached $@\n";
EOP
        is_deeply $got, { out => "end\n", err => '', status => 13, signal => 0, hang => 0 }, $way or diag explain $got;
    }
};

subtest 'what is done to the handle' => sub {
    for my $what ('closed', 'opened again') {
        open my $fh, '>', "$dir/target" or die "cannot write: $!";
        my $calls = 0;
        my $st = download('source');
        is while_paused(sub { $st->recv_file($fh, progress => sub {
            return if $calls++;
            close $fh;
            open $fh, '<', $file or die "cannot read: $!" if $what ne 'closed';
        }) }), undef, "$what: it goes on";
        is sha_file("$dir/target"), $sha, '... into the file that it was';
        is tell $fh, 0, '... and leaves the other alone' if $what ne 'closed';
    }
    # Somebody moves the position that a child shares.
    open my $fh, '+>', "$dir/target" or die "cannot write: $!";
    my $st = download('source');
    is while_paused(sub { $st->recv_file($fh, progress => sub { seek $fh, 5, 0; print {$fh} '' }) }), undef, 'moved: it goes on';
    is sha_file("$dir/target"), $sha, '... where it was';
};

sub after {
    my ($seconds, $name) = @_;
    my $parent = $$;
    my $pid = fork // die "cannot fork: $!";
    return bless \$pid, 'Signal' if $pid;
    Time::HiRes::sleep($seconds);
    kill $name => $parent;
    POSIX::_exit(0);
}
sub Signal::DESTROY { local ($?, $!); kill KILL => ${ $_[0] }; waitpid ${ $_[0] }, 0; return }

subtest 'signals' => sub {
    for my $name (sort keys %way) {
        my $way = $way{$name};
        for my $thrown (undef, "signal\n", { an => 'object' }) {
            my ($ran, $st) = (0, $way->{open}->());
            my $parent = $$;
            local $SIG{USR1} = sub { $ran++; die $thrown if defined $thrown };
            my $error = while_paused(sub { $way->{run}->($st) }, sub { kill USR1 => $parent; Time::HiRes::sleep(0.5) });
            is $ran, 1, "$name: the handler has run while the daemon paused";
            is $error, $thrown, defined $thrown ? 'what it throws comes out' : 'it goes on';
            defined $thrown ? over($st, 'the stream is over') : ok($way->{whole}->(), '... and becomes whole');
        }
    }
    # A file that waits: the other end of a pipe says nothing.
    pipe my $out, my $in or die "pipe: $!";
    local $SIG{USR1} = sub { die "signal\n" };
    my $timer = after(0.5, 'USR1');
    my $st = upload('target');
    is error_of(sub { $st->send_file($out) }), "signal\n", 'while a pipe gives nothing';
    over($st, 'the stream is over');
    $timer = after(0.5, 'USR1');
    $st = download('source');
    is error_of(sub { $st->recv_file($in) }), "signal\n", 'while a pipe takes nothing';
    over($st, 'the stream is over');
    SKIP: {
        skip 'no named pipes', 3 unless POSIX::mkfifo("$dir/fifo", 0600);
        for my $call (qw(recv_file send_file)) {
            $st = $call eq 'recv_file' ? download('source') : upload('target');
            $timer = after(0.5, 'USR1');
            is error_of(sub { $st->$call("$dir/fifo") }), "signal\n", "$call: while a pipe has no other end";
        }
        ok error_of(sub { $st->finish }) // 1, 'which has not touched the stream';
    }
};

SKIP: {
    skip 'no guest with a console to be had here', 1 unless StreamTest::has('qemu') && StreamTest::has('console');
    subtest 'a silent console' => sub {
        my $guest = $daemon->guest(paused => 1);
        my $st = $daemon->conn->new_stream;
        $guest->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE());
        local $SIG{ALRM} = sub { die "alarm\n" };
        is error_of(sub { alarm 1; $st->recv_file("$dir/console") }), "alarm\n", 'is left by an alarm';
        deadline();
        ok !-e "$dir/console", 'no file is left of nothing';
        $guest->destroy;
    };
}

done_testing;
