# What has libvirt call Perl code under any call cannot be registered while another thread is in
# a call that would run it there: by a signal handler while a call waits, or after a call was left.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd qemu);

plan skip_all => 'the C binding runs no handler while a call waits' unless rust();

$SIG{PIPE} = 'IGNORE';
my $daemon = daemon();
$daemon->volume('source', undef, pattern(6 << 20));
$daemon->volume('target', 6 << 20);

my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt; use Time::HiRes ();
our ($uri, $dir, $pid, $name) = @ARGV;
$| = 1;
$SIG{PIPE} = 'IGNORE';
sub connects { return Sys::Virt->new(uri => $uri) }
our ($conn, $other) = (connects(), connects());
our $st = $conn->new_stream;
our ($calls, $home, $loop) = (0, readlink '/proc/thread-self');
sub volume { return $conn->get_storage_volume_by_path("$dir/$_[0]") }
sub called { $calls++; print "another thread\n" if $home ne readlink '/proc/thread-self'; return }
sub closes { my ($conn) = @_; return tried('closes', sub { $conn->register_close_callback(\&called) }) }
sub loops { return tried('loops', sub { require StreamTest::Loop; $loop = StreamTest::Loop->new }) }
sub tried { my ($what, $call) = @_; print eval { $call->(); 1 } ? "$what\n" : ref $@ ? "$@->{code} $@->{message}\n" : $@; return }
sub waits_in { my ($call) = @_; kill STOP => $pid; alarm 1; return tried('returns', $call) }
sub daemon_dies {
    kill KILL => $pid;
    Time::HiRes::sleep(0.02) while readlink "/proc/$pid/exe";
    return;
}
EOP
my $refused = '55 Requested operation is not valid: a stream\'s call is under way';
my $no_close = "$refused on the connection: the close callback can be registered when that has ended\n";
my $no_loop = "$refused: the event loop can be registered when that has ended\n";

# [code, what it prints]
my %program = (
    # Another connection's is its own business.
    'a close callback, by a handler' => [<<'EOP', "${no_close}closes\nSys::Virt::Error\ncalled 0\n"],
$conn->get_domain_by_name($name)->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
$SIG{ALRM} = sub { closes($conn); closes($other); daemon_dies() };
alarm 1;
print eval { $st->recv(my $data, 10); 1 } ? "received\n" : ref $@, "\n";
print "called $calls\n";
EOP
    'a close callback, by a handler, and again afterwards' => [<<'EOP', "${no_close}returns\ncloses\ncalled 1\n"],
volume('source')->download($st, 0, 0);
$SIG{ALRM} = sub { closes($conn); kill CONT => $pid };
waits_in(sub { 1 while $st->recv(my $data, 1 << 20) > 0 });
$st->finish;
closes($conn);
daemon_dies();
eval { $conn->get_hostname };
print "called $calls\n";
EOP
    'a close callback, after a call was left' => [<<'EOP', "left\n${no_close}registered\ncalled 1\n"],
volume('target')->upload($st, 0, 0);
$SIG{ALRM} = sub { die "left\n" };
waits_in(sub { $st->finish });
closes($conn);
kill CONT => $pid;
my $registered = 0;
for (1 .. 3000) { last if $registered = eval { $conn->register_close_callback(\&called); 1 }; Time::HiRes::sleep(0.02) }
print $registered ? "registered\n" : $@;
daemon_dies();
eval { $conn->get_hostname };
print "called $calls\n";
EOP
    'a loop in Perl, by a handler, and again afterwards' => [<<'EOP', "${no_loop}returns\nloops\nwhole\n"],
volume('source')->download($st, 0, 0);
$SIG{ALRM} = sub { loops(); kill CONT => $pid };
waits_in(sub { 1 while $st->recv(my $data, 1 << 20) > 0 });
$st->finish;
loops();
my $bytes = 0;
$conn = connects();
volume('source')->download($st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK), 0, 0);
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    my $got = $st->recv(my $data, 1 << 20);
    $bytes += $got if $got > 0;
    $st->remove_callback if $got == 0;
});
for (1 .. 3000) { last if $bytes >= 6 << 20; $loop->step(0.02) }
print $bytes == 6 << 20 ? "whole\n" : "$bytes\n";
$st->finish;
EOP
);
my $name = $daemon->guest(paused => 1)->get_name;
for my $what (sort keys %program) {
    ok_perl("$HEAD$program{$what}[0]", $program{$what}[1], $what,
        args => [$daemon->uri, $daemon->pool_dir, $daemon->pid, $name]);
    $daemon->kill;
    $daemon->launch;
    $daemon->pool;
}
eval { $daemon->conn->get_domain_by_name($name)->destroy };    # unless it went with its daemon

done_testing;
