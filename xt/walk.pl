# One walk: see xt/walk, which runs it. Arguments: URI SEED STEPS WITHOUT FOLDER.
use strict;
use warnings;

use Cwd ();
use POSIX ();
use Sys::Virt;
use Tie::Scalar ();
use Time::HiRes ();

my ($uri, $seed, $steps, $without, $folder) = @ARGV;
my %without = map { $_ => 1 } split /,/, $without // '';
srand $seed;
$| = 1;
sub any { return $_[rand @_] }
sub chance { return rand() < $_[0] }

our ($depth, $ticks, $in_event) = (0, 0, 0);
sub say_step { print '  ' x $depth, "@_\n"; return }

# How the program around it is: an event loop in Perl or libvirt's, signal handlers or none.
my $perl_loop = chance(0.25);
my $signals = chance(0.4) && !$without{signals};
# A call that waits can be left where no loop in Perl has to be asked: see SIGNALS.
my $leaves = $signals && !$perl_loop;
# In some programs the loop comes when there are streams already.
my $late = chance(0.3) && !$without{late} ? int rand 80 : 0;
my ($loop, $has_loop, $in_child);
unshift @INC, 't/lib';
require StreamTest::Loop if $perl_loop;
sub begin_loop {
    say_step('(the loop begins)') if $late;
    # It is refused once there was a socket; one in Perl also while a call that was left is under way.
    my $begins = eval { $perl_loop ? $loop = StreamTest::Loop->new : Sys::Virt::Event::register_default(); 1 };
    return say_step("  ! $@") if !$begins;
    $has_loop = 1;
    return;
}
begin_loop() if !$late;
$SIG{PIPE} = 'IGNORE';    # a socket's other side may be gone
$SIG{ALRM} = sub { $ticks++; say_step('(alarm)'); die "alarm\n" } if $signals;
say_step("seed $seed", $perl_loop ? 'perl loop' : 'default loop', $signals ? 'signals' : ());

my $closes = chance(0.4) && !$without{closes};
my (%conn, %vol, $screen, $socket);
sub sockets { return map { m{(\d+)$} } grep { (readlink // '') =~ /^socket/ } glob '/proc/self/fd/*' }
sub connects {
    my %before = map { $_ => 1 } sockets();
    $conn{remote} = Sys::Virt->new(uri => $uri);
    ($socket) = grep { !$before{$_} } sockets();
    $conn{local} = Sys::Virt->new(uri => 'test:///default');
    my ($pool) = grep { $_->get_name eq 'streams' } $conn{remote}->list_all_storage_pools;
    %vol = map { $_ => $pool->get_volume_by_name($_) } 'source', 'holes', map { "target$_" } 0 .. 3;
    $screen = $conn{local}->get_domain_by_name('test');
    $conn{remote}->register_close_callback(\&closed) if $closes;
    return;
}
connects();

# --- streams: [object, kind, non-blocking, spoiled for the rest of Sys::Virt, socket]
my @streams;
my %open = (
    download => sub { $vol{source}->download($_[0], 0, 0) },
    sparse_download => sub { $vol{holes}->download($_[0], 0, 0, 1) },
    upload => sub { $vol{ any(map { "target$_" } 0 .. 3) }->upload($_[0], 0, 0) },
    sparse_upload => sub { $vol{ any(map { "target$_" } 0 .. 3) }->upload($_[0], 0, 0, 1) },
    screenshot => sub { $screen->screenshot($_[0], 0, 0) },
    nothing => sub { },
);
sub new_stream {
    my $kind = any(sort keys %open);
    my $flags = any(0, 0, 1);
    my $st = $conn{ $kind eq 'screenshot' ? 'local' : 'remote' }->new_stream($flags);
    $open{$kind}->($st);
    $streams[rand 6] = [$st, $kind, $flags];
    say_step("new $kind $flags");
    return;
}

{ package Some; sub DESTROY { main::chance(0.05) and die "destroyed\n" } }
{ package Num; use overload '0+' => sub { main::any(3, -1, 1e9) }, '""' => sub { main::any('x', "\x{100}") }, fallback => 1 }
{ package Bad; use overload '0+' => sub { die "no number\n" }, '""' => sub { die "no string\n" }, '&{}' => sub { \&main::handler }, fallback => 1 }
{ package Tie; our @ISA = 'Tie::StdScalar'; sub STORE { main::chance(0.2) and die "no store\n"; $_[0]->SUPER::STORE($_[1]) } }

sub number { return any(0, 1, 10, 1000, 262_120, 1e6, 1e15, -1, '10', '10x', 1.5, undef, bless([], 'Num'), bless([], 'Bad'), ~0) }
sub text {
    my $text = any('', 'x', 'y' x 70_000, "\xe9\x{e9}", "\x{100}wide", undef, 12, [], \1, qr/x/, v1.2, *STDOUT, bless([], 'Num'), bless([], 'Bad'));
    utf8::upgrade($text) if defined $text && !ref $text && ref \$text eq 'SCALAR' && chance(0.2);
    return $text;
}
my @kept;

# --- what code called from a transfer or an event does
my %act = (
    die => sub { die any("died\n", { an => 'object' }, bless([], 'Some'), [1]) },
    last => sub { no warnings 'exiting'; last },
    next => sub { no warnings 'exiting'; next OUTSIDE },
    goto => sub { goto NOWHERE },
    exit => sub { $depth < 3 && chance(0.05) and exit 42 },
    fork => sub {
        my $pid = fork // return;
        POSIX::_exit(42) if !$pid && $in_event;    # see THREADS AND PROCESSES
        exit 42 if !$pid;
        waitpid $pid, 0;
    },
    # A child that goes on has connections of its own, and leaves its parent's alone.
    fork_on => sub {
        return if $in_event || $in_child;
        my $pid = fork // return;
        if ($pid) { waitpid $pid, 0; return }
        $in_child = 1;
        my @parents = (@streams, values %conn);
        @streams = ();
        eval { connects(); step() for 1 .. 5; 1 } or say_step("  ! $@");
        @streams = ();
        POSIX::_exit(42);
    },
    undef_stream => sub { $_[0] = undef },
    drop => sub { my $s = any(grep { $_ } @streams) or return; undef $s->[0]; @streams = grep { $_ && $_ != $s } @streams },
    finish => sub { $_[0]->finish },
    abort => sub { $_[0]->abort },
    nested => sub { step() },
    recv => sub { $_[0]->recv(my $data, 100) if nonblocking($_[0]) },
    keep => sub { push @kept, \$_[1] if @_ > 1; shift @kept if @kept > 5 },
    tie => sub { tie $_[1], 'Tie' if @_ > 1 },
    bless => sub { bless \$_[1], 'Some' if @_ > 1 },
    change => sub { $_[1] = text() if @_ > 1 },
    readonly => sub { Internals::SvREADONLY($_[1], 1) if @_ > 1 },
    weaken => sub { require Scalar::Util; Scalar::Util::weaken($kept[5] = \$_[1]) if @_ > 1 },
    errors => sub { $@ = any('kept', 5, [], undef); $! = any(0, 5, 28) },
    clear_args => sub { undef @_ },
    run_default => sub { turn() },
    add_callback => sub { $_[0]->add_callback(any(0 .. 15), \&callback) },
    update_callback => sub { $_[0]->update_callback(any(0 .. 15)) },
    remove_callback => sub { $_[0]->remove_callback },
    warn => sub { local $SIG{__WARN__} = sub { die @_ }; warn "warned\n" },
    local => sub { local $@ = 'local'; local $_ = 1; eval { die "inside\n" } },
    grow => sub { my @many = (map { [$_] } 1 .. 20_000); scalar(() = deep(50, @many[0 .. 500])) },
);
delete @act{ keys %without };
my @acts = sort keys %act;
sub deep { my ($n, @rest) = @_; return $n ? deep($n - 1, @rest) : @rest }

sub act {
    return if $depth > 4 || !chance(0.3);
    my $name = any(@acts);
    local $depth = $depth + 1;
    say_step("act $name");
    &{ $act{$name} };
    return;
}
my $calls = 0;
sub handler {
    # A handler that never gets on would be called for ever, as in the C binding.
    die "enough\n" if $calls++ > 40;
    &act;
    $_[1] = 'z' x any(10, 1000) if @_ > 2 && chance(0.5);
    return any((@_ > 2 ? $_[2] : 0) x 3, 0, 1, 10, -1, undef, 'text', 1e15, bless([], 'Num'), bless([], 'Bad'), bless([], 'Some'));
}
sub hole_source { &act if chance(0.5); return any([1, 100], [0, 100], [1, 0], [0, 0], [1], [], [1, 1e15], [bless([], 'Bad'), 1]) ->@* }
sub callback { local $in_event = 1; say_step("event $_[1]"); &act; $_[0]->recv(my $data, 1000) if ref $_[0] && chance(0.2) && nonblocking($_[0]); return }
sub nonblocking { my ($st) = @_; return grep { $_ && $_->[0] && $_->[0] == $st && $_->[2] } @streams }
sub closed { local $in_event = 1; say_step('(closed)'); my $st = any(map { $_ && $_->[0] || () } @streams); act($st) if $st; return }
sub code { return any((\&handler) x 6, 'main::handler', undef, 'no_such', [], bless([], 'Bad')) }

# A turn of the event loop, which ends by itself.
sub turn {
    return if !$has_loop || $in_child;
    return $loop->step(0.01) if $perl_loop;
    my $timer = Sys::Virt::Event::add_timeout(5, sub { });
    my $lived = eval { Sys::Virt::Event::run_default(); 1 };
    my $error = $@;
    Sys::Virt::Event::remove_timeout($timer);
    die $error if !$lived;
    return;
}

# --- files, in a folder of their own, since any string is a path
@INC = map { ref ? $_ : Cwd::abs_path($_) // $_ } @INC;
chdir $folder or die "$folder: $!";
sub any_file {
    my ($writes) = @_;
    my $mode = $writes ? any('>', '>>', '+>') : '<';
    open my $fh, $mode, any('one', 'two') or return 'one';
    return any('one', 'two', $fh, *$fh, *$fh{IO}, \*STDIN, $writes ? '/dev/full' : '/dev/null', '/', "$folder/one", undef, text());
}
sub options {
    # No file of gigabytes comes of these.
    my $size = sub { any(0, 1, 1000, 4096, 1e6, 1e15, -1, 1.5, '10x', undef, ~0, bless([], 'Bad')) };
    my %value = (offset => $size, length => $size, progress => sub { any(\&act, \&code) });
    $value{$_} = sub { any(0, 1, text()) } for qw(sparse detect_zeroes replace sync);
    return map { ($_ => $value{$_}->()) } grep { chance(0.3) } sort keys %value;
}

# --- a stream's socket, which does not block
my %on_socket = (
    read => sub { for (1 .. any(1, 50)) { sysread $_[0], my $data, any(1, 65_536) or last } },
    write => sub { syswrite $_[0], 'x' x any(1, 1000, 300_000) },
    shutdown => sub { shutdown $_[0], any(0, 1, 2) },
    close => sub { undef $_[1][4] },
    child => sub {
        my ($socket) = @_;
        my $pid = fork // return;
        if (!$pid) { sysread $socket, my $data, 100; syswrite $socket, 'x'; POSIX::_exit(42) }
        waitpid $pid, 0;
    },
);

# --- the methods
my %target = (
    plain => sub { $_[0]->(my $data) }, old => sub { my $data = text(); $_[0]->($data) },
    element => sub { my %h; $_[0]->($h{a}{b}) }, substr => sub { my $s = 'abcdef'; $_[0]->(substr $s, 1, 2) },
    vec => sub { my $s = ''; $_[0]->(vec $s, 0, 8) }, tie => sub { tie my $t, 'Tie'; $_[0]->($t) },
    constant => sub { $_[0]->('constant') }, itself => sub { $_[0]->($_[1]) }, local => sub { our $global = "\x{100}"; $_[0]->($global) },
);
my %method = (
    recv => sub { my ($st, $s) = @_; $target{ any(sort keys %target) }->(sub { $st->recv($_[0], number(), any(0, 0, 1, 9)) }, $st) },
    send => sub { $_[0]->send(text(), number()) },
    recv_hole => sub { $_[0]->recv_hole(any(0, 0, 1)) },
    send_hole => sub { $_[0]->send_hole(number(), any(0, 0, 1)) },
    recv_all => sub { $calls = 0; $_[0]->recv_all(code()) },
    send_all => sub { $calls = 0; $_[0]->send_all(code()) },
    sparse_recv_all => sub { $calls = 0; $_[0]->sparse_recv_all(code(), code()) },
    sparse_send_all => sub { $calls = 0; $_[0]->sparse_send_all(code(), \&hole_source, code()) },
    recv_file => sub { $calls = 0; $_[0]->recv_file(any_file(1), options()) },
    send_file => sub { $calls = 0; $_[0]->send_file(any_file(0), options()) },
    add_callback => sub { $_[0]->add_callback(any(0 .. 15), \&callback) },
    update_callback => sub { $_[0]->update_callback(any(-1 .. 16)) },
    remove_callback => sub { $_[0]->remove_callback },
    # Without a reader, the finish of a stream with a socket waits for ever, unless a signal ends it.
    finish => sub { my ($st, $s) = @_; undef $s->[4] if !$leaves; $st->finish }, abort => sub { $_[0]->abort }, DESTROY => sub { my ($st, $s) = @_; $s->[3] = 1; $st->DESTROY },
    # The rest of Sys::Virt follows whatever stands in the slot.
    reopen => sub { my ($st, $s) = @_; my $kind = any(sort keys %open); return if $s->[3]; $s->[1] .= " $kind"; $open{$kind}->($st) },
    socket => sub { my ($st, $s) = @_; my $socket = $st->socket; $socket->blocking(0); $s->[4] = $socket },
    use_socket => sub { my $s = any(grep { $_ && $_->[4] } @streams) or return; $on_socket{ any(sort keys %on_socket) }->($s->[4], $s) },
    # The daemon's side of the connection is gone, and the program makes a new one.
    cut => sub {
        return if !chance(0.3) || $in_event;
        open my $fh, '+<&', $socket or return say_step('  ! no socket');
        shutdown $fh, 2 or say_step("  ! $!");
        close $fh;
        eval { $conn{remote}->get_library_version };
        $_->[3] = 1 for grep { $_ } @streams;    # nothing opens them again
        connects();
    },
    rebless => sub { my ($st, $s) = @_; $s->[3] = 1; bless $st, any('Sys::Virt::Stream', 'Some') },
    slot => sub { my ($st, $s) = @_; $s->[3] = 1; $$st = any(0, 4096, $$st, 'x', -8) },
);
# Each on what is no stream, called as a function.
my %count = (recv => 2, send => 2, recv_hole => 0, send_hole => 1, recv_all => 1, send_all => 1, sparse_recv_all => 2,
    sparse_send_all => 3, add_callback => 2, update_callback => 1, remove_callback => 0, recv_file => 3, send_file => 3, finish => 0, abort => 0, DESTROY => 0);
for my $name (keys %count) {
    $method{"no_$name"} = sub {
        my $method = Sys::Virt::Stream->can($name);
        my @args = map { any(number(), text(), code()) } 1 .. $count{$name};
        &$method(any(undef, 1, 'x', [], \1, sub { 1 }, bless([], 'Some'), $conn{local},
            bless(\(my $n = any(0, 8, 4096, -8, 'x')), 'Sys::Virt::Stream')), @args);
    };
}
delete @method{ keys %without };
my @methods = sort keys %method;

sub step {
    local $depth = $depth + 1;
    return if $depth > 4;
    return new_stream() if !(grep { $_ && $_->[0] } @streams) || chance(0.15);
    return turn() if chance(0.15);
    my $stream = any(grep { $_ && $_->[0] } @streams);
    my $name = any(@methods);
    say_step("$name on $stream->[1] $stream->[2]");
    Time::HiRes::alarm(any(0.2, 1)) if $signals;
    OUTSIDE: for (1) {
        my $got = eval { $method{$name}->($stream->[0], $stream); 1 };
        say_step('  ! ', ref $@ eq 'Sys::Virt::Error' ? $@->{message} : $@ =~ s/\n.*//sr) if !$got;
    }
    eval { Time::HiRes::alarm(0) } if $signals;
    return;
}

$SIG{__WARN__} = sub { print STDERR @_ };
for (1 .. $steps) { begin_loop() if $late && $_ == $late; eval { step(); 1 } or do { print STDERR "$@" if "$@" =~ /This is a bug|Bizarre|panic/ } }
say_step('the end');
@kept = ();
exit 0;
