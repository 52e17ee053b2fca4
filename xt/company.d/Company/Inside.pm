package Company::Inside;

# -MCompany::Inside=KIND: the program runs inside of a coroutine, a thread, a child, ...

use strict;
use warnings;

use Company ();
use POSIX ();

my %KIND = (
    coro => sub {
        require Coro;
        Company::run_program(sub { my ($program) = @_; my $coro = Coro->new($program); $coro->ready; $coro->join });
    },
    thread => sub {
        require threads;
        # What a thread puts into %ENV reaches no program that it starts.
        unshift @INC, 't/lib';
        require StreamTest;
        StreamTest::daemon() if StreamTest::find_program('libvirtd') && require Sys::Virt;
        Company::run_program(sub { my ($program) = @_; threads->create($program)->join });
    },
    async => sub {
        eval q{ use Future::AsyncAwait; Company::run_program(sub { my ($program) = @_; my $run = async sub { $program->() }; $run->()->get }); 1 } or die $@;
    },
    # Its parent has used streams, and ends as it does.
    forked => sub {
        require Sys::Virt;
        $SIG{URG} = sub { };
        {
            my ($conn, $bytes) = (Sys::Virt->new(uri => 'test:///default'), 0);
            for my $end (qw(finish abort)) {
                my $st = $conn->new_stream;
                $conn->get_domain_by_name('test')->screenshot($st, 0);
                $end eq 'finish' ? $st->recv_all(sub { $_[2] }) : $st->recv(my $data, 10);
                $st->$end;
            }
        }
        delete $SIG{URG};
        my $child = fork // die "cannot fork: $!";
        return if !$child;
        waitpid $child, 0;
        POSIX::_exit($? & 127 ? 128 + ($? & 127) : $? >> 8);
    },
    # A handler that does nothing, and signals all the time.
    ticks => sub { $SIG{URG} = sub { }; tick() },
    # What Perl checks at a safe place is set by another thread.
    interrupt => sub {
        require Async::Interrupt;
        our $interrupt = Async::Interrupt->new(cb => sub { }, signal => 'URG');
        tick();
    },
    # Magic on the package's own hash and the signals', which each look at them meets.
    magic => sub {
        require Variable::Magic;
        our $wizard = Variable::Magic::wizard(fetch => sub { }, store => sub { }, free => sub { });
        require Sys::Virt;
        &Variable::Magic::cast(\%SIG, $wizard);
        &Variable::Magic::cast(\%Sys::Virt::Stream::, $wizard);
    },
    # Their own names, so that -T has only what a test puts in.
    taint => sub {
        ($^X) = $^X =~ /(.*)/s;
        ($ENV{$_}) = $ENV{$_} =~ /(.*)/s for keys %ENV;
        require Cwd;
        no warnings 'redefine';
        for my $name (qw(abs_path getcwd cwd)) {
            no strict 'refs';
            my $old = \&{"Cwd::$name"};
            *{"Cwd::$name"} = sub { my ($path) = ($old->(@_) // return) =~ /(.*)/s; return $path };
        }
    },
);

# By a signal that ends nothing while no handler is set, from no child of this program's, as tests wait for all that they have.
sub tick {
    my $program = $$;
    my $between = fork // die "cannot fork: $!";
    if (!$between) {
        POSIX::_exit(0) if fork;
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/dev/null';
        select undef, undef, undef, 0.005 while kill URG => $program;
        POSIX::_exit(0);
    }
    waitpid $between, 0;
    return;
}

sub import {
    my ($class, $kind) = @_;
    return if Company::is_guard();
    ($KIND{$kind} || die "no kind $kind")->();
    return;
}

1;
