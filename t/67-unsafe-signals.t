# Handlers that Perl runs in the middle of a system call, and not between two ops: set by
# POSIX::sigaction, or under PERL_SIGNALS=unsafe. What they throw comes out of a call that
# waits, and the stream is over then: it never goes on with a piece missing.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd qemu);

my $daemon = daemon();
my $content = pattern(6 << 20);
$daemon->volume('source', undef, $content);

my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt; use POSIX (); use Time::HiRes (); use Digest::SHA ();
our ($uri, $dir, $guest, $pid, $sha, $how) = @ARGV;
$| = 1;
our $conn = Sys::Virt->new(uri => $uri);
sub volume {
    my $st = $conn->new_stream;
    $conn->get_storage_volume_by_path("$dir/source")->download($st, 0, 0);
    return $st;
}
sub console {
    my $st = $conn->new_stream;
    $conn->get_domain_by_name($guest)->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
    return $st;
}
sub handle_by {
    my ($code) = @_;
    if ($how eq 'sigaction') {
        POSIX::sigaction(POSIX::SIGUSR1(), POSIX::SigAction->new($code, POSIX::SigSet->new, 0));
    }
    elsif ($how eq 'safe') {
        my $action = POSIX::SigAction->new($code, POSIX::SigSet->new, 0);
        $action->safe(1);
        POSIX::sigaction(POSIX::SIGUSR1(), $action);
    }
    else { $SIG{USR1} = $code }
    return;
}
# One to this process, later.
sub signal_after {
    my ($seconds) = @_;
    my $parent = $$;
    my $child = fork // die "cannot fork: $!";
    return $child if $child;
    Time::HiRes::sleep($seconds);
    kill USR1 => $parent;
    exec 'true';
}
# What the call leaves: the exception, and a stream that refuses to go on.
sub left {
    my ($call, $st) = @_;
    my $error = eval { $call->(); 1 } ? "returned\n" : $@;
    print "left: $error";
    alarm 15;    # where it is still open, that waits too
    my $got = eval { ${$st}->recv(my $data, 100) };
    print defined $got ? "goes on with $got\n" : "refuses\n";
    $got = eval { ${$st}->finish; 1 };
    print "finished\n" if $got && $dir;
    undef $$st;
    return;
}
# A new stream on the same connection, whole.
sub goes_on {
    my ($digest, $st) = (Digest::SHA->new(256), volume());
    $st->recv_all(sub { $digest->add($_[1]); $_[2] });
    $st->finish;
    print $digest->hexdigest eq $sha ? "whole\n" : "not whole\n";
    return;
}
EOP

# Each waits for what does not come: a console that says nothing.
my %waits = (
    'recv' => '$st->recv(my $data, 100)',
    'recv with a flag' => '$st->recv(my $data, 100, Sys::Virt::Stream::RECV_STOP_AT_HOLE)',
    'recv_all' => '$st->recv_all(sub { $_[2] })',
    'sparse_recv_all' => '$st->sparse_recv_all(sub { $_[2] }, sub { 0 })',
    'recv_file' => '$st->recv_file("/dev/null")',
);
# Or for a daemon that stands still, in the middle of a transfer.
my %stalled = (
    'recv' => 'while ($st->recv(my $data, 262_120) > 0) { stall() if !$n++; }',
    'small recvs' => 'while ($st->recv(my $data, 1_000) > 0) { stall() if !$n++; }',
    'recv_all' => '$st->recv_all(sub { stall() if !$n++; $_[2] })',
    'recv_file' => 'stall(); $st->recv_file("/dev/null")',
);
my $STALL = <<'EOP';
# The daemon goes on again once the call is left, or after all.
sub stall {
    kill STOP => $pid;
    my $child = fork // die "cannot fork: $!";
    return if $child;
    Time::HiRes::sleep(0.5);
    kill USR1 => getppid;
    Time::HiRes::sleep(0.5);
    kill CONT => $pid;
    exec 'true';
}
EOP

SKIP: {
    skip 'the C binding never leaves such a call, or jumps over libvirt', 1 unless rust();
    my $guest = $daemon->guest(paused => 1);
    my @args = ($daemon->uri, $daemon->pool_dir, $guest->get_name, $daemon->pid, sha($content));
    for my $how (qw(sigaction safe unsafe)) {
        my %opt = (deadline => 30, env => { PERL_SIGNALS => $how eq 'unsafe' ? 'unsafe' : undef });
        for my $call (sort keys %waits) {
            ok_perl($HEAD . <<"EOP", "left: time is up\nrefuses\nwhole\n", "$call that waits ($how)", args => [@args, $how], %opt);
my \$st = console();
handle_by(sub { die "time is up\\n" });
signal_after(0.4);
left(sub { $waits{$call} }, \\\$st);
goes_on();
EOP
        }
        for my $call (sort keys %stalled) {
            ok_perl($HEAD . $STALL . <<"EOP", "left: time is up\nrefuses\nwhole\n", "$call in the middle ($how)", args => [@args, $how], %opt);
my (\$st, \$n) = (volume(), 0);
handle_by(sub { die "time is up\\n" });
left(sub { $stalled{$call} }, \\\$st);
goes_on();
EOP
        }
        # A handle that is dropped aborts its stream, in Rust and libvirt. A handler that jumped out
        # of that would leave the thread that waits for the daemon, each time. (One that is safe runs in
        # the destructor since Perl 5.38, which loses what it throws.) A handler that
        # dies while perl frees a file leaves some of its memory behind, which valgrind counts.
        $how eq 'safe' or $ENV{SYS_VIRT_STREAM_TEST_VALGRIND} or ok_perl($HEAD . $STALL . <<'EOP', "time is up\n" x 3 . "one thread\nwhole\n", "a handle that is dropped ($how)", args => [@args, $how], %opt);
handle_by(sub { die "time is up\n" });
for (1 .. 3) {
    my $st = volume();
    my $fh = $st->handle;
    read $fh, my $data, 100;
    undef $st;
    stall();
    print eval { undef $fh; 1 } ? "dropped\n" : $@;
    wait;
}
my @threads = grep { open my $name, '<', "$_/comm" or die "$_: $!"; <$name> =~ /^stream-call/ } glob '/proc/self/task/*';
print @threads == 1 ? "one thread\n" : @threads . " threads\n";
goes_on();
EOP
        # One that returns lets the call go on; none of the data is lost.
        ok_perl($HEAD . $STALL . <<'EOP', "ran, whole\n", "a handler that returns, in recv ($how)", args => [@args, $how], %opt);
my ($st, $n, $ran, $digest) = (volume(), 0, 0, Digest::SHA->new(256));
handle_by(sub { $ran++ });
while ($st->recv(my $data, 100_000) > 0) { $digest->add($data); stall() if !$n++ }
$st->finish;
print $ran ? 'ran, ' : 'did not run, ', $digest->hexdigest eq $sha ? "whole\n" : "not whole\n";
EOP
        ok_perl($HEAD . $STALL . <<'EOP', "ran, whole\n", "a handler that returns, in recv_all ($how)", args => [@args, $how], %opt);
my ($st, $n, $ran, $digest) = (volume(), 0, 0, Digest::SHA->new(256));
handle_by(sub { $ran++ });
$st->recv_all(sub { $digest->add($_[1]); stall() if !$n++; $_[2] });
$st->finish;
print $ran ? 'ran, ' : 'did not run, ', $digest->hexdigest eq $sha ? "whole\n" : "not whole\n";
EOP
        # The idiom of every manual.
        ok_perl($HEAD . <<'EOP', "alarm\nrefuses\nwhole\n", "alarm around a call ($how)", args => [@args, $how], %opt);
my $st = console();
eval {
    POSIX::sigaction(POSIX::SIGALRM(), POSIX::SigAction->new(sub { die "alarm\n" })) if $how ne 'unsafe';
    local $SIG{ALRM} = sub { die "alarm\n" } if $how eq 'unsafe';
    alarm 1;
    $st->recv(my $data, 100);
    alarm 0;
    1;
} or print $@;
$SIG{ALRM} = 'DEFAULT';
alarm 15;
print defined eval { $st->recv(my $data, 100) } ? "goes on\n" : "refuses\n";
undef $st;
goes_on();
EOP
    }
    $guest->destroy;
}

# Signals that arrive all the time, and handlers that return: nothing is lost. They are held back
# while Perl itself works: a handler that runs in the middle of malloc may end any program.
for my $how (qw(sigaction safe unsafe)) {
    ok_perl($HEAD . <<'EOP', "file whole\n" x (rust() ? 3 : 0) . "whole\n", "signals all the time ($how)", deadline => 100,
my ($ran, $parent, $file) = (0, $$, $guest);
handle_by(sub { $ran++ });
my $signal = POSIX::SigSet->new(POSIX::SIGUSR1());
sub hold { POSIX::sigprocmask(POSIX::SIG_BLOCK(), $signal) or die "sigprocmask: $!" }
sub let { POSIX::sigprocmask(POSIX::SIG_UNBLOCK(), $signal) or die "sigprocmask: $!" }
hold();
my $child = fork // die "cannot fork: $!";
if (!$child) { while (getppid == $parent) { kill USR1 => $parent; Time::HiRes::sleep(0.003) } exec 'true' }
for (1 .. (Sys::Virt::Stream->can('recv_file') ? 3 : 0)) {
    my $st = volume();
    let();
    $st->recv_file($file);
    hold();
    $st->finish;
    print Digest::SHA->new(256)->addfile($file, 'b')->hexdigest eq $sha ? "file whole\n" : "file not whole\n";
}
my ($st, $digest) = (volume(), Digest::SHA->new(256));
while (1) {
    let();
    my $count = $st->recv(my $data, 100_000);
    hold();
    last if !$count;
    $digest->add($data);
}
$st->finish;
print $digest->hexdigest eq $sha ? "whole\n" : "not whole\n";
kill KILL => $child;
waitpid $child, 0;
$ran or print "none ran\n";
EOP
        args => [$daemon->uri, $daemon->pool_dir, scratch() . "/got.$how", $daemon->pid, sha($content), $how],
        env => { PERL_SIGNALS => $how eq 'unsafe' ? 'unsafe' : undef });
}

# libvirt has a thread of its own for a local stream, which must not get the signals.
ok_perl(<<'EOP', "whole\n" x 10, 'signals all the time, and local streams', deadline => 100);
use strict; use warnings; use Sys::Virt; use Time::HiRes ();
$| = 1;
Sys::Virt::Event::register_default();
Sys::Virt::Event::add_timeout(5, sub { });
my ($ran, $parent) = (0, $$);
$SIG{URG} = sub { $ran++ };
my $child = fork // die "cannot fork: $!";
if (!$child) { while (getppid == $parent) { kill URG => $parent; Time::HiRes::sleep(0.002) } exec 'true' }
my $conn = Sys::Virt->new(uri => 'test:///default');
for (1 .. 10) {
    my $idle = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
    $conn->get_domain_by_name('test')->screenshot($idle, 0);
    $idle->add_callback(0, sub { });
    Sys::Virt::Event::run_default() for 1 .. 8;
    for (1 .. 20) { $idle->update_callback(Sys::Virt::Stream::EVENT_READABLE); $idle->recv(my $data, 10); $idle->update_callback(0); Time::HiRes::sleep(0.001) }
    $idle->remove_callback;
    my ($bytes, $st) = (0, $conn->new_stream);
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    $st->recv_all(sub { Time::HiRes::sleep(0.004); $bytes += $_[2]; $_[2] });
    $st->finish;
    $idle->abort;
    print $bytes > 30_000 ? "whole\n" : "$bytes\n";
}
kill KILL => $child;
waitpid $child, 0;
$ran or print "none ran\n";
EOP

done_testing;
