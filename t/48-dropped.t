# A stream that is dropped while active: aborted, quietly, and by nobody but the
# process that made it.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

plan skip_all => 'the C binding goes on queueing' unless rust();
my $daemon = daemon();
my @slots = slots($daemon);
my %slot = map { $_->{name} => $_ } @slots;
my $down = $slot{recv_all};
my $size = -s $down->{path};

sub whole {
    my ($name) = @_;
    my ($bytes, $st) = (0, $down->{open}->());
    $st->recv_all(sub { $bytes += $_[2]; $_[2] });
    $st->finish;
    return is $bytes, $size, $name;
}

my %drop = (
    'at the end of a block' => sub { my ($slot) = @_; my $st = $slot->{open}->(); return },
    'by undef' => sub { my ($slot) = @_; my $st = $slot->{open}->(); undef $st },
    'by an assignment' => sub { my ($slot) = @_; my $st = $slot->{open}->(); $st = 'text' },
    'by DESTROY' => sub { my ($slot) = @_; my $st = $slot->{open}->(); $st->DESTROY },
    'by a delete' => sub { my ($slot) = @_; my %h = (st => $slot->{open}->()); delete $h{st} },
    'by an exception' => sub { my ($slot) = @_; eval { my $st = $slot->{open}->(); die "out\n" }; $@ = 'kept' },
    'after some data' => sub { my ($slot) = @_; my $st = $slot->{open}->(); $st->recv(my $data, 10) if $slot->{sink}; undef $st },
    'from a circle, broken' => sub { my ($slot) = @_; my $h = { st => $slot->{open}->() }; $h->{h} = $h; delete $h->{h} },
);
for my $slot (@slots) {
    subtest $slot->{name} => sub {
        for my $how (sort keys %drop) {
            my @warnings = warnings_of(sub {
                local $SIG{__DIE__} = sub { warn "a die: $_[0]" if $_[0] !~ /^out/ };
                $@ = 'kept';
                $! = 13;
                $drop{$how}->($slot);
                # What opened it may have set errno; what dropped it not: see below.
                is $@, 'kept', "$how: \$\@";
            });
            is_deeply \@warnings, [], "$how: nothing is said";
            next if !$slot->{path};
            ok within(60, sub { daemon_fds($daemon, $slot->{path}) == 0 }), "$how: the daemon's side is over";
        }
        my $st = $slot->{open}->();
        { local $@ = 'kept'; $! = 13; undef $st; is $! + 0, 13, '$! as it was'; is $@, 'kept', '$@ as well' }
    };
}
whole('the connection goes on');

{ package WithoutSuper; our @ISA = 'Sys::Virt::Stream'; sub DESTROY { } }
subtest 'of a class whose DESTROY does not go on to ours' => sub {
    my $st = bless $down->{open}->(), 'WithoutSuper';
    { local $@ = 'kept'; $! = 13; undef $st; is $! + 0, 13, '$! as it was'; is $@, 'kept', '$@ as well' }
    ok within(60, sub { daemon_fds($daemon, $down->{path}) == 0 }), "the daemon's side is over";
    whole('the connection goes on');
};

subtest 'opened a second time' => sub {
    my $st = $down->{open}->();
    $st->finish;
    $daemon->pool->get_volume_by_name('slots-down')->download($st, 0, 0);
    $st->recv(my $data, 10);
    undef $st;
    ok within(60, sub { daemon_fds($daemon, $down->{path}) == 0 }), q{the daemon's side is over};
    whole('the connection goes on');
};

subtest 'many, of much' => sub {
    plan skip_all => 'memory is looked up in /proc' unless -r '/proc/self/status';
    my $big = $daemon->volume('big', 1 << 30);
    my $before;
    for my $round (1 .. 200) {
        my $st = $daemon->conn->new_stream;
        $big->download($st, 0, 0);
        $st->recv(my $data, 1000) if $round % 2;
        $before = memory_kib('VmRSS') if $round == 20;
    }
    cmp_ok memory_kib('VmRSS') - $before, '<', 32 << 10, 'memory stays flat';
    ok within(60, sub { daemon_fds($daemon, $daemon->pool_dir . '/big') == 0 }), 'nothing is left open';
    whole('the connection goes on');
};

# A child ends in one of these ways, half way through the parent's transfer.
my %end = (
    'exit' => 'exit 0',
    'die' => '$SIG{__DIE__} = sub { exit 0 }; die "out"',
    'uncaught' => 'close STDERR; die "out"',
    '_exit' => 'POSIX::_exit(0)',
    'exec' => 'exec $^X, "-e", "1"',
    'exec of nothing' => '{ no warnings; exec "/no/such/program" } exit 0',
    'its own undef' => 'undef $st; exit 0',
    'its own undef of all' => 'undef $st; undef $volume; undef $conn; exit 0',
    'DESTROY' => '$st->DESTROY; exit 0',
    'a signal' => 'kill KILL => $$; sleep 60',
    'another stream' => 'undef $st; my $own = Sys::Virt->new(uri => "test:///default"); my $s = $own->new_stream;
        $own->get_domain_by_name("test")->screenshot($s, 0); $s->recv(my $d, 10); exit 0',
);
my $fork = <<'CODE';
use strict; use warnings; use POSIX (); use Digest::SHA 'sha256_hex'; use Sys::Virt;
my ($uri, $how, $code) = @ARGV;
Sys::Virt::Event::register_default() if $how =~ /callback/;
my $conn = Sys::Virt->new(uri => $uri);
my $volume = $conn->get_storage_pool_by_name('streams')->get_volume_by_name('slots-down');
my $st = $conn->new_stream($how =~ /callback/ ? 1 : 0);
$volume->download($st, 0, 0);
my $child = eval "sub { $code }" or die $@;
sub forked {
    my $pid = fork // die 'cannot fork';
    if (!$pid) { $child->(); POSIX::_exit(1) }
    waitpid $pid, 0;
}
my ($all, $calls) = ('', 0);
if ($how =~ /handler/) {
    $st->recv_all(sub { forked() if $calls++ == 1; $all .= $_[1]; $_[2] });
}
elsif ($how =~ /callback/) {
    my $done;
    $st->add_callback(1, sub {
        while ((my $n = $st->recv(my $data, 1 << 20)) != -2) { $done = 1, last if !$n; $all .= $data }
        forked() if $calls++ == 1;
        $done and $st->remove_callback;
    });
    Sys::Virt::Event::run_default() until $done;
}
else {
    while ($st->recv(my $data, 100_000)) { $all .= $data; forked() if $calls++ == 1 }
}
$st->finish;
print sha256_hex($all), ' ', $conn->get_library_version ? 'alive' : '', "\n";
CODE
my $want = sha_file($down->{path}) . " alive\n";
for my $end (sort keys %end) {
    for my $where ('between calls', 'inside a handler', 'inside a callback') {
        next if $where ne 'between calls' && $end !~ /^(?:exit|uncaught|_exit|exec|DESTROY|its own undef)$/;
        my $got = run_perl($fork, args => [$daemon->uri, $where, $end{$end}]);
        is_deeply [@$got{qw(out err status signal hang)}], [$want, '', 0, 0, 0], "a child ends by $end, $where"
            or diag explain $got;
    }
}

# The program ends with streams in all places, with a transfer or an exception under way.
my %last = (
    'a package variable' => 'our $keep = opened();',
    'a lexical of the file' => 'my $keep = opened(); sub keep { $keep }',
    'a circle' => 'my $h = { st => opened() }; $h->{h} = $h;',
    'a closure of itself' => 'my $st = opened(); my $sub; $sub = sub { my @own = ($sub, $st) };',
    'a destructor' => '{ package Some::Guard; sub DESTROY { my $st = $_[0]{st}; $st->recv(my $data, 1) } }
        our $guard = bless { st => opened() }, "Some::Guard";',
    'a destructor that opens' => '{ package Some::Guard; sub DESTROY { eval { main::opened() } } } our $guard = bless {}, "Some::Guard"; our $st = opened();',
    'many' => 'our @keep = map { opened() } 1 .. 50;',
    'an END block' => 'our $st; END { $st = opened() }',
    'the connection first' => 'our $st = opened(); undef $conn;',
    'with an exception' => 'our $st = opened(); $SIG{__WARN__} = sub { }; exit 0;',
    'a callback' => 'our $st = opened(1); $st->add_callback(3, sub { $st });',
    'a callback and a circle' => 'my $st = opened(1); my $h = { st => $st }; $h->{h} = $h; $st->add_callback(3, sub { $h });',
);
my $program = <<'CODE';
use strict; use warnings; use Sys::Virt;
our ($uri) = @ARGV;
Sys::Virt::Event::register_default();
our $conn = Sys::Virt->new(uri => $uri);
sub opened {
    my $c = $conn || Sys::Virt->new(uri => $uri);
    my $st = $c->new_stream($_[0] || 0);
    $c->get_storage_pool_by_name('streams')->get_volume_by_name('slots-down')->download($st, 0, 0);
    return $st;
}
BODY
CODE
for my $where (sort keys %last) {
    (my $own = $program) =~ s/BODY/END { print "end\\n" } $last{$where}/;
    ok_perl($own, "end\n", "a program ends with a stream in $where", args => [$daemon->uri]);
    ok within(60, sub { daemon_fds($daemon, $down->{path}) == 0 }), 'the daemon has let go';
}
ok $daemon->conn->get_library_version, 'the daemon goes on';

done_testing;
