# A connection's close callback is Perl code that libvirt calls in the middle of whatever
# call finds the daemon gone. It runs on the interpreter's own thread, and what it throws
# comes out of the program's call.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

$SIG{PIPE} = 'IGNORE';

my $daemon = daemon();
my $size = 6 << 20;
my $content = pattern($size);

my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt; use Time::HiRes ();
our ($uri, $dir, $pid, $handler) = @ARGV;
$| = 1;
$SIG{PIPE} = 'IGNORE';
$SIG{USR1} = sub { } if $handler;
Sys::Virt::Event::register_default();
our $conn = Sys::Virt->new(uri => $uri);
our $st = $conn->new_stream;
our ($calls, $thread, $then) = (0, '', sub { });
sub kernel_thread { return readlink '/proc/thread-self' }
our $home = kernel_thread();
$conn->register_close_callback(sub {
    my ($self, $reason) = @_;
    $calls++;
    $thread = 'another thread, ' if kernel_thread() ne $home;
    $then->();
});
sub volume { return $conn->get_storage_volume_by_path("$dir/$_[0]") }
sub daemon_dies {
    kill KILL => $pid;
    Time::HiRes::sleep(0.02) while readlink "/proc/$pid/exe";
    return;
}
# Dies once it is well under way, as one that is waited for.
sub daemon_dies_meanwhile {
    my $child = fork // die "cannot fork: $!";
    return if $child;
    Time::HiRes::sleep(0.5);
    kill KILL => $pid;
    exec 'true';
}
sub what { my ($error) = @_; return ref $error ? ref $error : $error // 'fine' }
sub try { my ($call) = @_; my $error = eval { $call->(); 1 } ? undef : $@; print what($error) =~ s/\n?\z/, /r; return }
# The program goes on: a whole transfer, on a connection that lives.
sub told {
    my ($local, $bytes) = (Sys::Virt->new(uri => 'test:///default'), 0);
    my $next = $local->new_stream;
    $local->get_domain_by_name('test')->screenshot($next, 0);
    $next->recv_all(sub { $bytes += $_[2]; $_[2] });
    $next->finish;
    print $bytes > 30_000 ? '' : 'no more, ', "${thread}called $calls\n";
    return;
}
EOP

# Each is a program that goes on after its head; [code, what it prints].
my %program = (
    abort => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('source')->download($st, 0, 0);
daemon_dies();
try(sub { $st->abort });
told();
EOP
    finish => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('target')->upload($st, 0, 0);
daemon_dies();
try(sub { $st->finish });
told();
EOP
    'a drop' => [<<'EOP', "fine, called 1\n"],
volume('source')->download($st, 0, 0);
daemon_dies();
try(sub { undef $st });
eval { $conn->get_hostname };
told();
EOP
    recv => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('source')->download($st, 0, 0);
daemon_dies();
try(sub { 1 while $st->recv(my $data, 1 << 20) > 0 });
told();
EOP
    send => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('target')->upload($st, 0, 0);
daemon_dies();
try(sub { $st->send('x' x 100_000, 100_000) for 1 .. 100 });
told();
EOP
    recv_all => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('source')->download($st, 0, 0);
my $handled = 0;
try(sub { $st->recv_all(sub { daemon_dies() if !$handled++; $_[2] }) });
told();
EOP
    send_all => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('target')->upload($st, 0, 0);
my $handled = 0;
try(sub { $st->send_all(sub { daemon_dies() if !$handled++; $_[1] = 'x' x $_[2]; $_[2] }) });
told();
EOP
    'a transfer whose handler dies' => [<<'EOP', "out, called 1\n"],
volume('source')->download($st, 0, 0);
try(sub { $st->recv_all(sub { daemon_dies(); die "out\n" }) });
eval { $conn->get_hostname };
told();
EOP
    'recv that waits' => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('source')->download($st, 0, 0);
kill STOP => $pid;
daemon_dies_meanwhile();
try(sub { 1 while $st->recv(my $data, 1 << 20) > 0 });
told();
EOP
    'recv_all that waits' => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('source')->download($st, 0, 0);
kill STOP => $pid;
daemon_dies_meanwhile();
try(sub { $st->recv_all(sub { $_[2] }) });
told();
EOP
    'finish that waits' => [<<'EOP', "Sys::Virt::Error, called 1\n"],
volume('target')->upload($st, 0, 0);
kill STOP => $pid;
daemon_dies_meanwhile();
try(sub { $st->finish });
told();
EOP
    'libvirt\'s loop' => [<<'EOP', "fine, called 1\n"],
volume('source')->download($st, 0, 0);
daemon_dies();
try(sub { for (1 .. 100) { last if $calls; Sys::Virt::Event::run_default() } });
told();
EOP
    # Another stream's call finds it, and this one's closes on nothing.
    'two streams' => [<<'EOP', "Sys::Virt::Error, Sys::Virt::Error, called 1\n"],
volume('source')->download($st, 0, 0);
my $second = $conn->new_stream;
volume('source')->download($second, 0, 0);
daemon_dies();
try(sub { $st->abort });
try(sub { $second->abort });
told();
EOP
);

# Where a die jumps over libvirt, or what a call still uses is freed, C crashes at times.
my %rust = (
    'a die in it: abort' => [<<'EOP', "closed, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { die "closed\n" };
daemon_dies();
try(sub { $st->abort });
told();
EOP
    'a die in it: finish' => [<<'EOP', "closed, called 1\n"],
volume('target')->upload($st, 0, 0);
$then = sub { die "closed\n" };
daemon_dies();
try(sub { $st->finish });
told();
EOP
    'a die in it: recv' => [<<'EOP', "closed, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { die "closed\n" };
daemon_dies();
try(sub { 1 while $st->recv(my $data, 1 << 20) > 0 });
told();
EOP
    'a die in it: recv_all' => [<<'EOP', "closed, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { die "closed\n" };
my $handled = 0;
try(sub { $st->recv_all(sub { daemon_dies() if !$handled++; $_[2] }) });
told();
EOP
    'a die in it: send' => [<<'EOP', "closed, called 1\n"],
volume('target')->upload($st, 0, 0);
$then = sub { die "closed\n" };
daemon_dies();
try(sub { $st->send('x' x 100_000, 100_000) for 1 .. 100 });
told();
EOP
    'a die in it: the loop' => [<<'EOP', "closed, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { die "closed\n" };
daemon_dies();
try(sub { for (1 .. 100) { last if $calls; Sys::Virt::Event::run_default() } });
told();
EOP
    'a die in it: an object' => [<<'EOP', "Some::Error, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { die bless {}, 'Some::Error' };
daemon_dies();
try(sub { $st->abort });
told();
EOP
    # As from any destructor: a warning says what is lost.
    'a die in it: a drop' => [<<'EOP', "fine, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { die "closed\n" };
$SIG{__WARN__} = sub { };
daemon_dies();
try(sub { undef $st });
eval { $conn->get_hostname };
told();
EOP
    'a die in it: a handler dies first' => [<<'EOP', "out, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { die "closed\n" };
$SIG{__WARN__} = sub { };
try(sub { $st->recv_all(sub { daemon_dies(); die "out\n" }) });
eval { $conn->get_hostname };
told();
EOP
    'exit in it' => [<<'EOP', "ends, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { exit 0 };
daemon_dies();
END { print 'ends, '; told() }
$st->abort;
print "not reached\n";
EOP
    'exit in it: recv' => [<<'EOP', "ends, called 1\n"],
volume('source')->download($st, 0, 0);
$then = sub { exit 0 };
daemon_dies();
END { print 'ends, '; told() }
1 while $st->recv(my $data, 1 << 20) > 0;
print "not reached\n";
EOP
    map({ my ($name, $open, $call) = @$_; ("the variable undefined in it: $name" => [<<"EOP", "Sys::Virt::Error, called 1\n"]) }
$open;
\$then = sub { undef \$st };
daemon_dies();
try(sub { $call });
told();
EOP
        ['abort', q(volume('source')->download($st, 0, 0)), '$st->abort'],
        ['finish', q(volume('target')->upload($st, 0, 0)), '$st->finish'],
        ['recv', q(volume('source')->download($st, 0, 0)), 'my $same = $$st; while ($st->recv(my $data, 1 << 20) > 0) { }'],
        ['recv_all', q(volume('source')->download($st, 0, 0)), 'my $n = 0; $st->recv_all(sub { daemon_dies() if !$n++; $_[2] })'],
        ['send', q(volume('target')->upload($st, 0, 0)), '$st->send("x" x 100_000, 100_000) for 1 .. 100']),
);

# The same program, with a daemon that has all its life before it, and again afterwards.
sub run_each {
    my ($name, $code, $out) = @_;
    for my $handler (0, 1) {
        ok_perl("$HEAD$code", $out, $name . ($handler ? ', with a signal handler' : ''), deadline => 60,
            args => [$daemon->uri, $daemon->pool_dir, $daemon->pid, $handler]);
        $daemon->kill;
        $daemon->launch;
        $daemon->pool;
    }
    return;
}

$daemon->volume('source', undef, $content);
$daemon->volume('target', $size);
run_each($_, @{ $program{$_} }) for sort keys %program;
SKIP: {
    skip 'the C binding jumps over libvirt, or uses what is freed', 2 * keys %rust unless rust();
    run_each($_, @{ $rust{$_} }) for sort keys %rust;
}

done_testing;
