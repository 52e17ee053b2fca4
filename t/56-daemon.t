# The daemon is killed, restarted or stopped for a while in the middle of each kind of
# transfer: an exception, or for a while only a delay, and the program connects again.
use strict;
use warnings;

use POSIX ();
use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd);

my $daemon = daemon();
my $size = 6 << 20;
my $content = pattern($size);
$daemon->volume('source', undef, $content);
$daemon->volume('target', $size);
sparse_file($daemon->pool_dir . '/holes', map { (hole => 1 << 20, data => 1 << 20) } 1 .. 4);
$daemon->adopt('holes');
$SIG{PIPE} = 'IGNORE';

my %flag = (
    download => Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM,
    upload => Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM,
);

sub opened {
    my ($way, $name, $sparse) = @_;
    my $conn = Sys::Virt->new(uri => $daemon->uri);
    my $st = $conn->new_stream;
    $conn->get_storage_volume_by_path($daemon->pool_dir . "/$name")
        ->$way($st, 0, 0, $sparse ? $flag{$way} : 0);
    return $st;
}

# Each calls $meanwhile once it is under way.
my $big = 'y' x 65_536;
my %transfer = (
    recv => sub {
        my ($meanwhile) = @_;
        my $st = opened(download => 'source');
        $st->recv(my $data, 65_536);
        $meanwhile->();
        1 while $st->recv($data, 65_536) > 0;
        $st->finish;
    },
    send => sub {
        my ($meanwhile) = @_;
        my $st = opened(upload => 'target');
        $st->send($big, 65_536);
        $meanwhile->();
        $st->send($big, 65_536) for 1 .. 90;
        $st->finish;
    },
    recv_all => sub {
        my ($meanwhile) = @_;
        my ($st, $calls) = (opened(download => 'source'), 0);
        $st->recv_all(sub { $meanwhile->() if !$calls++; $_[2] });
        $st->finish;
    },
    send_all => sub {
        my ($meanwhile) = @_;
        my ($st, $calls) = (opened(upload => 'target'), 0);
        $st->send_all(sub {
            $meanwhile->() if ++$calls == 2;
            return 0 if $calls > 90;
            $_[1] = $big;
            return 65_536;
        });
        $st->finish;
    },
    sparse_recv_all => sub {
        my ($meanwhile) = @_;
        my ($st, $calls) = (opened(download => 'holes', 1), 0);
        $st->sparse_recv_all(sub { $meanwhile->() if !$calls++; $_[2] }, sub { 0 });
        $st->finish;
    },
    sparse_send_all => sub {
        my ($meanwhile) = @_;
        my ($st, $calls) = (opened(upload => 'target', 1), 0);
        $st->sparse_send_all(sub { $_[1] = 'z' x $_[2]; $_[2] }, sub {
            $meanwhile->() if ++$calls == 3;
            return $calls > 90 ? (0, 0) : ($calls % 2, 65_536);
        }, sub { 0 });
        $st->finish;
    },
);

sub descriptors { my @all = glob '/proc/self/fd/*'; return scalar @all }

for my $name (sort keys %transfer) {
    my $before = descriptors();
    is error_of(sub { $transfer{$name}->(sub { }) }), undef, "$name: undisturbed";
    isa_ok error_of(sub { $transfer{$name}->(sub { $daemon->kill }) }), 'Sys::Virt::Error', "$name: killed";
    isa_ok error_of(sub { opened(download => 'source') }), 'Sys::Virt::Error', 'no daemon: a new connection';
    $daemon->launch;
    isa_ok error_of(sub { $transfer{$name}->(sub { $daemon->restart }) }), 'Sys::Virt::Error', "$name: restarted";
    is error_of(sub { $transfer{$name}->(sub { }) }), undef, 'it works on a new connection';
    is error_of(sub { $transfer{$name}->(sub { stopped(0.7) }) }), undef, "$name: stopped for a while";
    cmp_ok descriptors(), '<=', $before, 'no descriptor is left open';
}

# Goes on by itself after so many seconds, whatever this process waits for.
my $waker;
sub stopped {
    my ($seconds) = @_;
    $daemon->pause;
    my $pid = $daemon->pid;
    waitpid $waker, 0 if $waker;
    $waker = fork // die "cannot fork: $!";
    return if $waker;
    Time::HiRes::sleep($seconds);
    kill CONT => $pid;
    POSIX::_exit(0);
}
waitpid $waker, 0 if $waker;

# The loop is libvirt's own; a child, since a process has only one.
my $EVENTS = <<'EOP';
use strict; use warnings; use Sys::Virt;
$| = 1;
$SIG{PIPE} = 'IGNORE';
my ($uri, $path, $way, $pid) = @ARGV;
Sys::Virt::Event::register_default();
Sys::Virt::Event::add_timeout(20, sub { });
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
$conn->get_storage_volume_by_path($path)->$way($st, 0, 0);
my ($calls, $end) = (0, '');
# libvirt tells the stream of a closed connection nothing: it tells who asked about that.
$conn->register_close_callback(sub { $end = 1 });
my $big = 'x' x 65_536;
my $mask = $way eq 'download' ? Sys::Virt::Stream::EVENT_READABLE : Sys::Virt::Stream::EVENT_WRITABLE;
$st->add_callback($mask, sub {
    kill KILL => $pid if ++$calls == 2;
    $way eq 'download' ? $_[0]->recv(my $data, 65_536) : $_[0]->send($big, 65_536);
});
for (1 .. 500) {
    next if eval { Sys::Virt::Event::run_default(); die $st->finish if $end; 1 };
    print ref $@, "\n";
    last;
}
EOP
for my $way (qw(download upload)) {
    my $path = $daemon->pool_dir . ($way eq 'download' ? '/source' : '/target');
    ok_perl($EVENTS, "Sys::Virt::Error\n", "$way by events: killed",
        args => [$daemon->uri, $path, $way, $daemon->pid]);
    $daemon->kill;
    $daemon->launch;
}

# A broken connection is an error, and no SIGPIPE; but that signal means what it did before
# to a program that has it sent by another, or handles it.
SKIP: {
    skip 'the C binding dies of a signal', 16 unless rust();
    my $PIPE = <<'EOP';
use strict; use warnings; use Sys::Virt;
my ($uri, $dir, $name, $way, $pid, $handler) = @ARGV;
$| = 1;
my $signals = 0;
$SIG{PIPE} = $handler ? sub { $signals++ } : 'DEFAULT';
Sys::Virt::Event::register_default();
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream($name =~ /callback/ ? 1 : 0);
$conn->get_storage_volume_by_path("$dir/" . ($way eq 'upload' ? 'target' : 'source'))->$way($st, 0, 0, $name =~ /hole/ ? 1 : 0);
$st->add_callback(1, sub { }) if $name =~ /callback/;
kill KILL => $pid;
# What is sent while the socket closes may seem to arrive.
sub often { my ($code) = @_; for (1 .. 1000) { $code->(); select undef, undef, undef, 0.02 } return }
my %call = (
    send => sub { often(sub { $st->send('x', 1) }) }, send_hole => sub { often(sub { $st->send_hole(10) }) }, finish => sub { $st->finish }, abort => sub { $st->abort },
    send_all => sub { $st->send_all(sub { $_[1] = 'x'; 1 }) },
    'sending without a block, with a callback' => sub { often(sub { $st->send('x', 1) }) },
    'a hole by sparse_send_all' => sub { $st->sparse_send_all(sub { 0 }, sub { (0, 10) }, sub { 0 }) },
    'finish, with a callback' => sub { $st->finish }, 'abort, with a callback' => sub { $st->abort },
    drop => sub { undef $st; die bless [], 'Sys::Virt::Error' },
);
print eval { $call{$name}->(); 1 } ? "done\n" : ref($@) . "\n";
print $signals ? "signals\n" : "no signal\n";
kill PIPE => $$;
print "lives\n";
require POSIX;
POSIX::_exit(0);
EOP
    for my $name (qw(send send_hole send_all finish abort drop), 'a hole by sparse_send_all',
        map { "$_, with a callback" } 'sending without a block', 'finish', 'abort') {
        for my $way ($name =~ /finish|abort|drop/ ? qw(upload download) : 'upload') {
            my $got = run_perl($PIPE, args => [$daemon->uri, $daemon->pool_dir, $name, $way, $daemon->pid, 0]);
            is_deeply $got, { out => "Sys::Virt::Error\nno signal\n", err => '', status => 0, signal => POSIX::SIGPIPE(), hang => 0 },
                "killed, $way: $name" or diag explain $got;
            $daemon->kill;
            $daemon->launch;
        }
    }
    my $got = run_perl($PIPE, args => [$daemon->uri, $daemon->pool_dir, 'send', 'upload', $daemon->pid, 1]);
    like $got->{out}, qr/\ASys::Virt::Error\n.*lives\n\z/s, 'a handler of the program\'s own stays';
    $daemon->kill;
    $daemon->launch;
}

done_testing;
