# What thousands of rounds of every method leave behind: scalars, and memory.
#
# LEAK_ROUNDS is how many (2000). Scalars are counted by Test::LeakTrace, where that is
# installed; memory is what /proc says, where there is one.
use strict;
use warnings;
no warnings 'uninitialized'; # handlers that return undef

use Digest::SHA ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use Tie::Scalar ();

my $ROUNDS = $ENV{LEAK_ROUNDS} || 2000;
my $TRACE  = eval { require Test::LeakTrace; 1 };
# What the C library's allocator may take once, whatever the number of rounds.
my $SLACK = 1024;
deadline(7200);

my $daemon = daemon();
my %conn = (local => connect_test(), remote => $daemon->conn);
my $source = $daemon->volume('source', undef, pattern(5000));
my $target = $daemon->volume('target', 5000);
sparse_file($daemon->pool_dir . '/holes', hole => 65_536, data => 4096, hole => 65_536);
my $holes = $daemon->adopt('holes');
my $dir = scratch();
spew("$dir/source", pattern(5000));
sparse_file("$dir/holes", hole => 65_536, data => 4096, hole => 65_536);
my $screen = $conn{local}->get_domain_by_name('test');
my ($SPARSE_DOWN, $SPARSE_UP) = (
    Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM(), Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM());
my ($NONBLOCK, $READABLE, $WRITABLE) = (
    Sys::Virt::Stream::NONBLOCK(), Sys::Virt::Stream::EVENT_READABLE(), Sys::Virt::Stream::EVENT_WRITABLE());
Sys::Virt::Event::register_default();
our $last_event;

# --- open streams of each kind
sub shot { my $st = $conn{local}->new_stream($_[0] // 0); $screen->screenshot($st, 0, 0); return $st }
sub down { my $st = $conn{remote}->new_stream($_[0] // 0); $source->download($st, 0, 0); return $st }
sub up { my $st = $conn{remote}->new_stream($_[0] // 0); $target->upload($st, 0, 0); return $st }
sub sparse_down { my $st = $conn{remote}->new_stream; $holes->download($st, 0, 0, $SPARSE_DOWN); return $st }
sub sparse_up { my $st = $conn{remote}->new_stream; $target->upload($st, 0, 0, $SPARSE_UP); return $st }

# --- what is done with them; none of it may die
sub dies (&) { my ($code) = @_; eval { $code->(); 1 } and die 'this should have failed'; return }
sub whole { my ($st) = @_; my $all = ''; $st->recv_all(sub { $all .= $_[1]; length $_[1] }); $st->finish; return }

# Runs libvirt's loop until the callback has been called, or for a tenth of a second.
sub events {
    my ($step) = @_;
    local $last_event = 0;
    my $timer = Sys::Virt::Event::add_timeout(20, sub { $last_event++ });
    eval { Sys::Virt::Event::run_default(); 1 } or $step->() for 1 .. 2;
    Sys::Virt::Event::remove_timeout($timer);
    return;
}

# libvirt lets go of a removed callback, and of what its stream has received, in the loop's
# next turn: one that waits for nothing else.
sub settle {
    my $timer = Sys::Virt::Event::add_timeout(0, sub { });
    Sys::Virt::Event::run_default();
    Sys::Virt::Event::remove_timeout($timer);
    Sys::Virt::Event::run_default();
    return;
}

my @not_streams = (undef, 0, 'text', [], {}, \1, sub { 1 }, bless([], 'Some'), bless(\(my $zero = 0), 'Sys::Virt::Stream'),
    bless(\(my $wrong = 4096), 'Sys::Virt::Stream'), bless(\(my $text = 'x'), 'Sys::Virt::Stream'));
my @methods = (
    [recv => (undef, 10)], [send => ('x', 1)], ['recv_hole'], [send_hole => 1], ['finish'], ['abort'],
    [recv_all => sub { 0 }], [send_all => sub { 0 }], [sparse_recv_all => (sub { 0 }) x 2],
    [sparse_send_all => (sub { 0 }) x 3], [add_callback => (1, sub { })], [update_callback => 1], ['remove_callback'],
    [recv_file => ('/dev/null', length => 10)], [send_file => '/dev/null'],
);
sub call_each {
    my ($on) = @_;
    local $SIG{__WARN__} = sub { };
    for (@methods) {
        my ($name, @args) = @$_;
        my $method = Sys::Virt::Stream->can($name);
        # The prototypes are for calls written out.
        eval { my $data = ''; $args[0] = $data if $name eq 'recv'; &$method($on, @args) };
    }
    return;
}

my %failing = (
    'dies' => sub { die "failed\n" },
    'dies with an object' => sub { die { code => 1 } },
    'returns -1' => sub { $! = 5; return -1 },
    'returns undef' => sub { $! = 5; return undef },
    'leaves by last' => sub { no warnings 'exiting'; last },
    'keeps its scalar' => sub { push @main::kept, \$_[1]; shift @main::kept if @main::kept > 3; die "kept\n" },
    'makes it something else' => sub { bless \$_[1], 'Some'; tie $_[1], 'Tie::StdScalar'; die "tied\n" },
    'drops the stream' => sub { $_[0] = undef; die "dropped\n" },
    'ends the stream' => sub { $_[0]->abort; $_[2] },
);
our @kept;

my %round = (
    'a stream never used' => sub { $_->new_stream for values %conn },
    'a stream made by new' => sub { Sys::Virt::Stream->new($conn{local}, $NONBLOCK) },
    'each method on a stream never opened' => sub { call_each($conn{local}->new_stream) },
    'each method on a stream that has ended' => sub { my $st = shot(); $st->abort; call_each($st) },
    'each method on no stream' => sub { call_each($_) for @not_streams },
    # Non-blocking: nobody would ever send what is waited for there.
    'each method on an upload' => sub { call_each(up($NONBLOCK)) },
    'each method on a download' => sub { call_each(down()) },
    'local recv_all' => sub { whole(shot()) },
    'remote recv_all' => sub { whole(down()) },
    'local stream dropped' => sub { my $st = shot(); $st->recv(my $data, 10) },
    'remote stream dropped' => sub { my $st = down(); $st->recv(my $data, 10) },
    'upload dropped' => sub { my $st = up(); $st->send('x' x 1000, 1000) },
    'recv into a tie' => sub { my $st = shot(); tie my $data, 'Tie::StdScalar'; 1 while $st->recv($data, 10_000) > 0; $st->finish },
    'recv into an element' => sub { my $st = shot(); my %h; 1 while $st->recv($h{data}, 10_000) > 0; $st->finish },
    'recv refused' => sub { my $st = shot(); dies { $st->recv('constant', 10) } },
    'recv with a sub that dies for a number' => sub { my $st = shot(); dies { $st->recv(my $data, bless [], 'Dies') } },
    'recv, non-blocking' => sub { my $st = down($NONBLOCK); $st->recv(my $data, 10); $st->abort },
    'send' => sub { my $st = up(); $st->send('x' x 5000, 5000); $st->finish },
    'send of wide characters' => sub { my $st = up(); dies { $st->send("\x{100}", 1) } },
    'send_all' => sub { my $st = up(); my $n = 0; $st->send_all(sub { return 0 if $n++; $_[1] = 'y' x 5000; 5000 }); $st->finish },
    'send_all that claims too much' => sub { my $st = up(); dies { $st->send_all(sub { $_[1] = 'y'; 100 }) } },
    'sparse_recv_all' => sub { my $st = sparse_down(); $st->sparse_recv_all(sub { $_[2] }, sub { 0 }); $st->finish },
    'sparse_send_all' => sub {
        my ($st, @left) = (sparse_up(), [1, 1000], [0, 2000], [1, 0]);
        my $n = 0;
        $st->sparse_send_all(sub { return 0 if $n++; $_[1] = 'y' x 1000; 1000 }, sub { @{ shift @left || [1, 0] } }, sub { 0 });
        $st->finish;
    },
    'a handle, closed' => sub { my $fh = down()->handle; () = <$fh>; close $fh or die $! },
    'a handle, dropped' => sub { no warnings 'io'; my $fh = up()->handle; print {$fh} 'x'; undef $fh },
    'a handle, written to' => sub { my $fh = up()->handle; print {$fh} 'x', 'y'; syswrite $fh, 'z'; printf {$fh} '%s', 1; close $fh or die $! },
    'a handle that fails' => sub {
        my $st = up();
        my $fh = $st->handle;
        $st->abort;
        print {$fh} 'x';
        close $fh and die 'this should have failed';
    },
    'a handle opened as another' => sub { my $fh = shot()->handle; getc $fh; $fh->ungetc(1) for 1 .. 100; open $fh, '<', '/dev/null' or die $! },
    'a handle under a signal handler that dies' => sub {
        my $fh = $conn{local}->new_stream->handle;
        local $SIG{USR1} = sub { die 'now' };
        my $in = shot()->handle;
        dies { kill USR1 => $$; my @all = <$in>; die 'later' };
    },
    'a handle under XS code' => sub { my $fh = shot()->handle; Digest::SHA->new(1)->addfile($fh) },
    'a handle that fails under XS code' => sub { my $fh = $conn{local}->new_stream->handle; dies { Digest::SHA->new(1)->addfile($fh) } },
    'recv_file to a path' => sub { down()->recv_file("$dir/file", progress => sub { }) },
    'recv_file to a handle' => sub { open my $fh, '>', "$dir/file" or die $!; shot()->recv_file($fh, sync => 0) },
    'recv_file, replace' => sub { down()->recv_file("$dir/file", replace => 1, detect_zeroes => 1) },
    'recv_file, sparse' => sub { sparse_down()->recv_file("$dir/file", sparse => 1) },
    'send_file from a path' => sub { up()->send_file("$dir/source", progress => sub { }) },
    'send_file from a handle' => sub { open my $fh, '<', "$dir/source" or die $!; read $fh, my $head, 10; up()->send_file($fh) },
    'send_file, sparse' => sub { sparse_up()->send_file("$dir/holes", sparse => 1, detect_zeroes => 1) },
    'recv_file whose progress dies' => sub { my $st = down(); dies { $st->recv_file("$dir/file", replace => 1, progress => sub { die { an => 'object' } }) } },
    'recv_file that is refused' => sub {
        my $st = down();
        for my $args ([undef], [[]], ['/'], ["$dir/file", 'sparse'], ["$dir/file", other => 1], ["$dir/file", offset => -1],
            ["$dir/file", progress => 1], [\*STDIN], ["$dir/file", replace => 1, offset => 1]) {
            dies { $st->recv_file(@$args) };
        }
    },
    'recv_hole, send_hole' => sub {
        my $st = sparse_down();
        $st->recv(my $data, 10, Sys::Virt::Stream::RECV_STOP_AT_HOLE());
        $st->recv_hole;
        my $up = sparse_up();
        $up->send_hole(10);
    },
    'local callback, removed' => sub { my $st = shot($NONBLOCK); $st->add_callback($READABLE, sub { $st }); $st->remove_callback; $st->abort; undef $st },
    'remote callback, removed' => sub { my $st = down($NONBLOCK); $st->add_callback($READABLE, sub { $st }); $st->remove_callback; $st->abort; undef $st },
    'local callback, ended with its stream' => sub { my $st = shot($NONBLOCK); $st->add_callback($READABLE, sub { $st }); $st->abort; undef $st },
    'remote callback, ended with its stream' => sub { my $st = down($NONBLOCK); $st->add_callback($READABLE, sub { $st }); $st->abort; undef $st },
);
for my $kind (qw(local remote)) {
    my $open = $kind eq 'local' ? \&shot : \&down;
    $round{"$kind callback that ends its stream"} = sub {
        my $st = $open->($NONBLOCK);
        $st->add_callback($READABLE, sub { my ($in) = @_; $in->recv(my $data, 100); $in->abort });
        undef $st;
        events(sub { });
    };
    $round{"$kind callback that dies"} = sub {
        my $st = $open->($NONBLOCK);
        $st->add_callback($READABLE, sub { die { an => 'object' } });
        events(sub { });
        eval { $st->abort };    # runs a local stream's callback a last time
    };
    $round{"$kind callback that removes itself"} = sub {
        my $st = $open->($NONBLOCK);
        $st->add_callback($READABLE, sub { $_[0]->remove_callback });
        events(sub { });
        $st->abort;
    };
}
for my $how (sort keys %failing) {
    my $code = $failing{$how};
    $round{"local sink that $how"} = sub { my $st = shot(); dies { $st->recv_all($code) } };
    $round{"remote sink that $how"} = sub { my $st = down(); dies { $st->recv_all($code) } };
    $round{"source that $how"} = sub { my $st = up(); dies { $st->send_all($code) } };
    $round{"hole handler that $how"} = sub { my $st = sparse_down(); dies { $st->sparse_recv_all(sub { $_[2] }, $code) } }
        unless $how =~ /scalar|something/;
}
# Where their last answer is a count, the transfer may well succeed.
$round{$_} = tolerant($round{$_}) for grep { /ends the stream|drops the stream/ } keys %round;
sub tolerant { my ($code) = @_; return sub { eval { $code->() } } }

{ package Dies; use overload '0+' => sub { die "no number\n" }, fallback => 1 }

sub rss {
    open my $in, '<', '/proc/self/statm' or return;
    return (split ' ', <$in>)[1] * 4;
}

for my $name (@ARGV ? grep { my $n = $_; grep { $n =~ /$_/ } @ARGV } sort keys %round : sort keys %round) {
    my $code = $round{$name};
    # A turn of libvirt's loop may take its timer's 20 ms.
    my $rounds = $name =~ /callback that/ ? $ROUNDS / 20 : $ROUNDS;
    my $lived = eval { $code->() for 1 .. 1 + $rounds / 10; 1 };
    ok $lived, "$name: works" or do { diag ref $@ eq 'Sys::Virt::Error' ? $@->stringify : explain($@); next };
    if ($TRACE) {
        my $scalars = Test::LeakTrace::leaked_count(sub { $code->() for 1 .. 10 });
        cmp_ok $scalars, '<', 10, "$name: $scalars scalars left by 10 rounds";
    }
    defined(my $before = rss()) or next;
    for my $round (1 .. $rounds) { $code->(); settle() if $round % 50 == 0 }
    settle();
    my $grown = rss() - $before;
    cmp_ok $grown, '<=', $SLACK, "$name: $grown KiB more after $rounds rounds";
}
done_testing;
