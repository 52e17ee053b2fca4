# A daemon that does not answer: what a signal handler or a limit of time ends. The connection
# is as good as before when the daemon goes on.
use strict;
use warnings;

use POSIX ();
use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd);

plan skip_all => 'the C binding never leaves such a call' unless rust();
my $daemon = daemon();
$daemon->volume('source', undef, pattern(6 << 20));
$daemon->volume('target', 6 << 20);

# Runs a program that stops the daemon while it has an open stream; says what that printed.
my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt; use Time::HiRes ();
my ($uri, $dir, $pid, $name, $way, $flags) = @ARGV;
$| = 1;
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream($flags);
$conn->get_storage_volume_by_path("$dir/" . ($way eq 'upload' ? 'target' : 'source'))->$way($st, 0, 0);
sub connected { print eval { $conn->get_library_version } ? "connected\n" : "lost: $@\n" }
EOP
sub says {
    my ($code, $said, $what, %opt) = @_;
    my $got = run_perl($HEAD . $code, args => [
        $daemon->uri, $daemon->pool_dir, $daemon->pid, $opt{name}, $opt{way}, $opt{flags} // 0]);
    kill CONT => $daemon->pid;
    is_deeply $got, { out => $said, err => '', status => 0, signal => 0, hang => 0 }, $what
        or diag explain $got;
    return;
}

# Only a signal can end the wait.
my %way = (recv => 'download', recv_all => 'download', send => 'upload', finish => 'upload', abort => 'download');
says(<<'EOP', "alarm\nran\nover\nconnected\n", "$_, and a signal", name => $_, way => $way{$_}) for sort keys %way;
my $big = 'x' x 65_536;
my %code = (
    recv => sub { 1 while $st->recv(my $data, 1 << 20) > 0 },
    recv_all => sub { $st->recv_all(sub { $_[2] }) },
    send => sub { 1 while $st->send($big, 65_536) > 0 },
    finish => sub { $st->finish },
    abort => sub { $st->abort },
);
kill STOP => $pid;
my $ran = 0;
$SIG{ALRM} = sub { $ran++; die "alarm\n" };
eval { alarm 1; $code{$name}->(); 1 } and print "ended\n" or print $@;
print $ran ? "ran\n" : "not run\n";
kill CONT => $pid;
print eval { $st->recv(my $data, 10); 1 } ? "still open\n" : "over\n";
undef $st;
connected();
EOP

says(<<'EOP', "alarm\nconnected\n", 'an abort of a stream with a callback, and a signal', name => '', way => 'download');
Sys::Virt::Event::register_default();
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { });
kill STOP => $pid;
my $goes_on = fork // die "cannot fork: $!";
if (!$goes_on) { sleep 30; kill CONT => $pid; exec 'true' }
$SIG{ALRM} = sub { kill CONT => $pid; die kill(0, $goes_on) ? "alarm\n" : "late\n" };
alarm 1;
$SIG{CHLD} = 'IGNORE';
eval { $st->abort; 1 } and print "ended\n" or print $@;
kill KILL => $goes_on;
connected();
EOP

# Without a handler an abort ends by itself, and so does the stream; also an abort by a transfer
# that refuses a stream which does not block.
says(<<'EOP', "55\nconnected\n", "an abort by $$_[0]", name => $$_[0], way => $$_[1], flags => 1)
kill STOP => $pid;
print eval { $st->$name(sub { 0 }); 1 } ? "done\n" : $@->{code} . "\n";
undef $st;
kill CONT => $pid;
connected();
EOP
    for [recv_all => 'download'], [send_all => 'upload'];

my $closed = "9 operation failed: stream is closed\n";
says(<<'EOP', "68 Timed out during operation: the call has not been answered\n" . $closed x 4 . "connected\n",
kill STOP => $pid;
for my $call (qw(abort abort finish recv send)) {
    my @args = $call eq 'recv' ? (my $data, 1) : $call eq 'send' ? ('x', 1) : ();
    no strict 'refs';
    print eval { &{"Sys::Virt::Stream::$call"}($st, @args); 1 } ? "done\n" : $@->{code} . " $@->{message}\n";
}
undef $st;
kill CONT => $pid;
connected();
EOP
    'an abort, and further calls', way => 'download', name => 'abort');

# What a handler does with the stream whose call waits.
says(<<'EOP', "whole\nconnected\n", 'a handler that receives from the same stream: no byte is lost', way => 'download', name => '');
my ($all, $in_handler) = (0, 0);
$SIG{ALRM} = sub { kill CONT => $pid; $in_handler = $st->recv(my $data, 10) };
kill STOP => $pid;
alarm 1;
while ((my $got = $st->recv(my $data, 100)) > 0) { $all += $got }
print $in_handler > 0 && $all + $in_handler == 6 << 20 ? "whole\n" : "$all and $in_handler\n";
$st->finish;
connected();
EOP

# What a handler ends takes with it what the call has received.
says(<<'EOP', "9\n9\nconnected\n", 'a handler that aborts the stream when data has come', way => 'download', name => '');
$SIG{ALRM} = sub { kill CONT => $pid; Time::HiRes::sleep(0.5); $st->abort };
kill STOP => $pid;
alarm 1;
for (1, 2) { print eval { $st->recv(my $data, 10) } // $@->{code}, "\n" }
connected();
EOP

# A stream is not opened while a call that was left could still end it.
says(<<'EOP', "alarm\n55 Requested operation is not valid: an earlier call on the stream is under way\nwhole\nconnected\n",
my $other = $conn->get_storage_volume_by_path("$dir/source");
$SIG{ALRM} = sub { die "alarm\n" };
kill STOP => $pid;
eval { alarm 1; $st->finish; 1 } or print $@;
eval { $other->download($st, 0, 0); 1 } and print "opened\n" or print "$@->{code} $@->{message}\n";
kill CONT => $pid;
for (1 .. 3000) { last if eval { $other->download($st, 0, 0); 1 }; Time::HiRes::sleep(0.02) }
my $bytes = 0;
$st->recv_all(sub { $bytes += $_[2]; $_[2] });
$st->finish;
print $bytes == 6 << 20 ? "whole\n" : "$bytes\n";
connected();
EOP
    'a call that was left, and the stream opened again', way => 'upload', name => '');

my $refused = "9 operation failed: stream is closed\n";
says(<<'EOP', $refused x 2 . "done\nconnected\n", "a handler that ends the stream while $_ does so", way => 'upload', name => $_)
$SIG{ALRM} = sub {
    for my $end (qw(abort finish)) { print eval { $st->$end; 1 } ? "$end\n" : "$@->{code} $@->{message}\n" }
    kill CONT => $pid;
};
kill STOP => $pid;
alarm 1;
print eval { $st->$name; 1 } ? "done\n" : "$@->{code} $@->{message}\n";
connected();
EOP
    for qw(finish abort);

# A signal that has no handler ends a program at once, whatever call waits.
my %opens = (
    'a stream that is opened' => '$vol->download($st, 0, 0)',
    'a connection' => 'Sys::Virt->new(uri => $uri, auth => 1, credlist => [], callback => sub { 0 })',
);
for my $what (sort keys %opens) {
    my $ready = scratch() . '/ready';
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        exec $^X, map({ "-I$_" } @INC), '-e', <<"EOP", $daemon->uri, $daemon->pool_dir, $daemon->pid, $ready or die $!;
use Sys::Virt;
my (\$uri, \$dir, \$pid, \$ready) = \@ARGV;
my \$conn = Sys::Virt->new(uri => \$uri);
my (\$vol, \$st) = (\$conn->get_storage_volume_by_path("\$dir/source"), \$conn->new_stream);
kill STOP => \$pid;
open my \$fh, '>', \$ready or die;
$opens{$what};
EOP
    }
    within(60, sub { -e $ready }) or diag 'it did not come so far';
    Time::HiRes::sleep(0.5);
    kill TERM => $pid;
    my $ended = within(30, sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
    ok $ended && $? == POSIX::SIGTERM(), "$what: a signal without a handler ends the program";
    if (!$ended) { kill KILL => $pid; waitpid $pid, 0 }
    kill CONT => $daemon->pid;
    unlink $ready;
}

done_testing;
