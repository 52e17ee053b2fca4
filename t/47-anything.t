# Any invocant and any argument, in any state of a stream: a value or an ordinary
# exception. Child programs, so that a signal or a hang is a failure like others.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

plan skip_all => 'the C binding crashes' unless rust();
my $daemon = daemon();
slots($daemon);

mkdir(my $folder = scratch() . '/anything') or die "no folder: $!";

my $common = <<'CODE';
use strict; no warnings; use Sys::Virt; use Scalar::Util 'weaken';
$| = 1;
$SIG{__WARN__} = sub { };
$SIG{PIPE} = 'IGNORE';
Sys::Virt::Event::register_default();
my ($uri, @args) = @ARGV;
chdir $ENV{STREAM_TEST_FOLDER} or die;    # any string is a path
my $conn = Sys::Virt->new(uri => $uri);
my $test = Sys::Virt->new(uri => 'test:///default');
my $volume = $conn->get_storage_pool_by_name('streams')->get_volume_by_name('slots-down');
my $target = $conn->get_storage_pool_by_name('streams')->get_volume_by_name('slots-up');
{ package Some::Class; sub new { bless $_[1], $_[0] } }
{ package Some::Number; use overload '0+' => sub { 3 }, fallback => 1 }
{ package Dying::Value; use overload '0+' => sub { die "no number\n" }, '""' => sub { die "no text\n" },
    'bool' => sub { die "no truth\n" }, '&{}' => sub { die "no code\n" }, fallback => 0 }
{ package Some::Tie; sub TIESCALAR { bless [$_[1]] } sub FETCH { $_[0][0] } sub STORE { } }
{ package Dying::Tie; sub TIESCALAR { bless [] } sub FETCH { die "no value\n" } sub STORE { die "no store\n" } }
sub tied_to { my ($class, $value) = @_; tie my $data, $class, $value; return \$data }

# As references, so that magic comes along.
sub values_of {
    my @plain = (undef, '', 'text', 'Sys::Virt::Stream', 0, 1, -1, 3.5, 1e15, 2**31, 2**32, 2**63, 9**9**9, -sin(9**9**9), ~0,
        "\x{263a}", 'x' x 100_000, v1.2.3, !!0, [], {}, sub { 1 }, sub { die "out\n" }, \1, \\1, \undef, qr/x/, *STDOUT, \*STDOUT,
        *STDOUT{IO}, \&CORE::push, \substr('abc', 1), \v1.2, \pos,
        (map { Some::Class->new($_) } [], {}, sub { 1 }, \my $undef, \do { my $n = 0 }, \do { my $n = 1 }, \do { my $n = 4096 },
            \do { my $n = -1 }, \do { my $n = 'text' }, \do { my $n = 1.5 }, \do { my $n = ~0 }, \do { my $n = 0xdeadbeef000 },
            \do { my $n = $$conn }, \do { my $n = \1 }, \do { local *GLOB }, \do { my $n = 2**62 }),
        (bless \do { my $n = $$test }, 'Sys::Virt::Stream'), (bless \do { my $n = 8 }, 'Sys::Virt::Stream'),
        (bless [], 'Sys::Virt::Stream'), (bless \do { my $n }, 'Sys::Virt::Stream'), (bless qr/x/, 'Some::Class'),
        (bless \do { my $n = \my $own }, 'Sys::Virt::Stream'), $conn, $volume, (bless [], 'Some::Number'), (bless [], 'Dying::Value'));
    return (\(@plain), tied_to('Some::Tie', 'text'), tied_to('Some::Tie', $conn), tied_to('Dying::Tie'),
        \substr(my $text = 'abcdef', 2, 2), \$ENV{PATH}, \$0, \$!, \$1, \$@);
}
my %method = (    # ordinary arguments; those that are handlers come as such
    recv => [\my $data, \10, \0], send => [\'x', \1], recv_hole => [\0], send_hole => [\1, \0], finish => [], abort => [],
    add_callback => [\1, \sub { }], update_callback => [\1], remove_callback => [], _new_obj => [\0], DESTROY => [],
    recv_all => [\sub { $_[2] }], send_all => [\sub { 0 }], sparse_recv_all => [\sub { $_[2] }, \sub { 0 }],
    sparse_send_all => [\sub { 0 }, \sub { (1, 0) }, \sub { 0 }],
    recv_file => [\'file', \'length', \0], send_file => [\'/dev/null', \'progress', \sub { }],
);
my $calls = 0;
sub try {
    my ($name, @refs) = @_;
    no strict 'refs';
    my $what = "$name(" . join(', ', map { eval { substr defined $$_ ? "$$_" : 'undef', 0, 30 } // '?' } @refs) . ')';
    if ($ENV{STREAM_TEST_TRACE}) { local ($@, $!); print STDERR "$what\n" }
    # Element by element, since a list of dereferences would copy.
    my $code = 'sub { &{"Sys::Virt::Stream::$name"}(' . join(', ', map { "\${\$refs[$_]}" } 0 .. $#refs) . ') }';
    my $sub = eval $code;
    my $lived = eval { my @back = $sub->(); 1 };
    $calls++;
    return if $lived;
    my $error = $@;
    my $kind = ref $error;
    print "odd: $what: $error\n" if $kind && $kind ne 'Sys::Virt::Error' || !$kind && $error !~ / at \S+ line |\n/;
    return;
}
CODE

# --- invocants

my $invocants = $common . <<'CODE';
for my $name (sort keys %method) {
    for my $value (values_of()) {
        try($name, $value, @{ $method{$name} });
    }
    my $st = $conn->new_stream;
    try($name, map { \$_ } (undef) x $_) for 0 .. 6;
    try($name, map { \$_ } ($st) x $_) for 1 .. 6;
    # Two objects of one stream, one of them foreign; what one ends the other has too.
    my $down = $conn->new_stream;
    $volume->download($down, 0, 0);
    my $twin = bless \do { my $n = $$down }, 'Sys::Virt::Stream';
    try($name, \$twin, @{ $method{$name} });
    undef $down;
    try($name, \$twin, @{ $method{$name} });
    # One that is gone.
    my $gone = $test->new_stream;
    my $address = $$gone;
    undef $gone;
    my $stale = bless \$address, 'Sys::Virt::Stream';
    try($name, \$stale, @{ $method{$name} });
    my $weak = $conn->new_stream;
    weaken($weak);
    try($name, \$weak, @{ $method{$name} });
    # Objects that are more than a scalar with a number.
    my $tied = $conn->new_stream;
    tie my $in_tie, 'Some::Tie', $tied;
    try($name, \$in_tie, @{ $method{$name} });
    my $inner = $conn->new_stream;
    eval { $$inner = 'changed' }; try($name, \$inner, @{ $method{$name} });
    my $odd = $conn->new_stream;
    eval { $$odd = [] }; try($name, \$odd, @{ $method{$name} });
    my $other = $conn->new_stream;
    my $third = $conn->new_stream;
    $$other = $$third; try($name, \$other, @{ $method{$name} });
}
print "alive\n" if $conn->get_library_version;
print "did $calls\n";
CODE
sub ok_child {
    my ($program, $least, $name, @args) = @_;
    my $got = run_perl($program, args => [$daemon->uri, @args], switches => [],
        env => { STREAM_TEST_FOLDER => $folder });
    my ($calls) = $got->{out} =~ /^did (\d+)$/m;
    is_deeply [@$got{qw(signal hang status)}], [0, 0, 0], "$name: no signal, no hang"
        or diag substr join('', explain($got)), 0, 2000;
    cmp_ok $calls // 0, '>=', $least, "$name: everything was tried";
    my @odd = grep { /^odd/ } split /\n/, $got->{out};
    is_deeply \@odd, [], "$name: only ordinary exceptions";
    return $got;
}
{
    my $got = ok_child($invocants, 1000, 'invocants');
    like $got->{out}, qr/^alive$/m, 'the connection goes on';
}

# Perl looks for the sub around an lvalue vec when it is read under an op with the
# bit that a call with & has.
{
    my $vecs = $common . <<'CODE';
for my $name (sort keys %method) {
    for my $st (\$conn->new_stream, \my $none) {
        for my $at (0 .. $#{ $method{$name} }) {
            my @with = @{ $method{$name} };
            my $bits = 'ab';
            $with[$at] = \vec $bits, 3, 4;
            try($name, $name eq '_new_obj' ? \$conn : $st, @with);
        }
    }
}
print "did $calls\n";
CODE
    ok_child($vecs, 30, 'a vec');
}

# --- arguments, in each state

my $states = $common . <<'CODE';
my $state = $args[0];
sub opened {
    my ($way, $flags) = @_;
    for my $try (1, 2) {
        my $st = eval {
            my $st = $conn->new_stream($flags || 0);
            $way eq 'up' ? $target->upload($st, 0, 0) : $volume->download($st, 0, 0);
            $st;
        };
        return $st if $st;
        # A daemon hangs up on who sends it a hole for what has none.
        die $@ if $try == 2 || $state =~ /cut|killed/;
        $conn = Sys::Virt->new(uri => $uri);
        ($volume, $target) = map { $conn->get_storage_pool_by_name('streams')->get_volume_by_name($_) } 'slots-down', 'slots-up';
    }
}
sub local_one { my $st = $test->new_stream; $test->get_domain_by_name('test')->screenshot($st, 0); return $st }
# Shuts down this program's sockets, as a network would.
sub cut {
    opendir my $dir, '/proc/self/fd' or die;
    for my $fd (grep { /^\d+$/ && $_ > 2 } readdir $dir) {
        next if (readlink("/proc/self/fd/$fd") // '') !~ /^socket:/;
        open my $socket, '+<&=', $fd or next;
        shutdown $socket, 2;
        CORE::push @main::keep, $socket;
    }
}
my %open = (
    unopened => sub { $conn->new_stream },
    'unopened, non-blocking' => sub { $conn->new_stream(1) },
    'active' => sub { my $st = opened('down'); eval { $st->recv(my $d, 1) }; $st },
    'active, non-blocking' => sub { opened('down', 1) },
    'active, local' => sub { local_one() },
    'active upload' => sub { opened('up') },
    'active upload, non-blocking' => sub { opened('up', 1) },
    'with a callback' => sub { my $st = opened('down', 1); $st->add_callback(3, sub { }); $st },
    'with a callback, local' => sub { my $st = local_one(); $st->add_callback(1, sub { }); $st },
    'at its end' => sub { my $st = opened('down'); 1 while $st->recv(my $d, 1 << 20); $st },
    'at its end, local' => sub { my $st = local_one(); 1 while $st->recv(my $d, 1 << 20); $st },
    finished => sub { my $st = local_one(); 1 while $st->recv(my $d, 1 << 20); $st->finish; $st },
    'finished early' => sub { my $st = opened('up'); $st->finish; $st },
    aborted => sub { my $st = opened('down'); $st->abort; $st },
    'aborted, local' => sub { my $st = local_one(); $st->abort; $st },
    failed => sub { my $st = opened('down'); eval { $st->recv_all(sub { -1 }) }; $st },
    'failed by a die' => sub { my $st = local_one(); eval { $st->recv_all(sub { die "x\n" }) }; $st },
    'failed at the daemon' => sub { my $st = $conn->new_stream; eval { $volume->download($st, 1 << 40, 10) }; eval { $st->recv(my $d, 1) }; $st },
    destroyed => sub { my $st = opened('down'); $st->DESTROY; $st },
    'its connection gone' => sub { my $own = Sys::Virt->new(uri => $uri); my $st = $own->new_stream;
        $own->get_storage_pool_by_name('streams')->get_volume_by_name('slots-down')->download($st, 0, 0); undef $own; $st },
    'its connection cut' => sub { my $st = $main::cut ? eval { opened('down') } : opened('down'); $st ||= $conn->new_stream;
        if (!$main::cut) { cut(); $main::cut = 1 } $st },
    'daemon killed' => sub { my $st = $main::killed ? $conn->new_stream : opened('down');
        if (!$main::killed) { print "kill me\n"; my $n = 0; select undef, undef, undef, 0.05 while !-e $args[1] && $n++ < 1200; $main::killed = 1 } $st },
);
my $over = $state !~ /^active|^with|^at its end|gone|^unopened/;
my $st = $open{$state}->();
for my $name (sort keys %method) {
    next if $name eq '_new_obj';
    my @ordinary = @{ $method{$name} };
    for my $at (0 .. $#ordinary) {
        for my $value (values_of()) {
            # A handler that takes nothing, again and again, is a handler's right.
            next if $name =~ /_all/ && eval { ref $$value eq 'CODE' } && $at == 0;
            $st = $open{$state}->() if !$over && $calls % 10 == 0 || !ref $st;
            my @with = @ordinary;
            $with[$at] = $value;
            try($name, \$st, @with);
        }
    }
    $st = $open{$state}->() if !$over;
    try($name, \$st, @ordinary);
    try($name, \$st, @ordinary);
    $st = $open{$state}->() if $name eq 'DESTROY';
}
undef $st;
print "did $calls\n";
CODE
my @states = $states =~ s/.*^my %open//msr =~ /^ {4}(?:'([\w ,-]+)'|(\w+)) => sub/mg;
@states = grep { defined } @states;
cmp_ok scalar @states, '>=', 22, 'states';
for my $state (grep { $_ ne 'daemon killed' } @states) {
    # Should it crash under one state, that is not the next one's fault.
    $daemon->revive and diag "libvirtd had ended by itself before '$state'";
    next if $state =~ /upload/ && !$daemon->bears_failed_uploads;
    ok_child($states, 400, $state, $state);
}
ok $daemon->conn->get_library_version, 'the daemon goes on';

# The number of a connection says nothing of its life. What is freed is overwritten here, so that
# whoever follows it crashes.
ok_perl(<<'EOP', "made\ninvalid connection pointer in virStreamNew\n", 'a second object of a connection that has gone',
use strict; use warnings; use Sys::Virt;
my $conn = Sys::Virt->new(uri => 'test:///default');
my $twin = bless \(my $number = $$conn), 'Sys::Virt';
print $twin->new_stream ? "made\n" : '';
undef $conn;
print eval { $twin->new_stream; 1 } ? "made of nothing\n" : $@->message . "\n";
$number = 0;
EOP
    env => { MALLOC_PERTURB_ => 165, G_SLICE => 'always-malloc', GLIBC_TUNABLES => 'glibc.malloc.tcache_count=0' });

# The last: there is no daemon after it.
{
    my $flag = scratch() . '/killed';
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        require POSIX;
        within(60, sub { daemon_fds($daemon, $daemon->pool_dir . '/slots-down') });
        kill 'KILL', $daemon->pid;
        spew($flag, 'killed');
        POSIX::_exit(0);
    }
    ok_child($states, 400, 'daemon killed', 'daemon killed', $flag);
    waitpid $pid, 0;
    unlink $flag;
}

done_testing;
