# What handlers answer: undef with and without a failure behind it, counts that
# are no counts, and claims that nothing backs.
use strict;
use warnings;

use Errno qw(EBADF ENOSPC EPIPE);
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

my $daemon = daemon();
my @slots = slots($daemon);
my %slot = map { $_->{name} => $_ } @slots;
my %strerror = map { my $n = $_; ($n => do { local $! = $n; "$!" }) } EBADF, ENOSPC, EPIPE;

# Real failures, as handlers meet them. /dev/full is a disk that is.
sub closed { open my $fh, '+<', $0 or die; close $fh; return $fh }
my %failure = (
    'sysread of a closed handle' => [EBADF, sub { no warnings; sysread closed(), $_[1], 100 }],
    'read of a closed handle' => [EBADF, sub { no warnings; read closed(), $_[1], 100 }],
    'syswrite to a closed handle' => [EBADF, sub { no warnings; syswrite closed(), $_[1] // 'x' }],
    'a bare return after a failure' => [EBADF, sub { no warnings; sysread closed(), $_[1], 100 or return }],
    'a list of nothing after a failure' => [EBADF, sub {
        no warnings; defined(sysread closed(), $_[1], 100) or return (); 1 }],
    'a broken pipe' => [EPIPE, sub {
        local $SIG{PIPE} = 'IGNORE'; pipe my $out, my $in or die; close $out; syswrite $in, 'x' }],
);
if (-c '/dev/full') {
    $failure{'a full disk'} = [ENOSPC, sub { open my $fh, '>', '/dev/full' or die $!; syswrite $fh, 'x' x 10 }];
    $failure{'a full disk, buffered'} = [ENOSPC, sub {
        open my $fh, '>', '/dev/full' or die $!;
        print {$fh} 'x';
        close $fh or return undef;
        return 1;
    }];
}
for my $slot (@slots) {
    subtest "$slot->{name}: its own I/O failed" => sub {
        for my $how (sort keys %failure) {
            my ($errno, $handler) = @{ $failure{$how} };
            my ($calls, $st) = (0, $slot->{open}->());
            error_is(sub {
                $slot->{run}->($st, sub {
                    # An endless loop would be one of these calls.
                    die "called again\n" if ++$calls > 1;
                    return $handler->(@_);
                });
            }, { code => 38, domain => 38, level => 2, message => "$slot->{who} failed: $strerror{$errno}" }, $how);
            is_over($slot, $st, $daemon);
        }
    };
}

subtest 'two values without a value, from the hole handler of a source' => sub {
    my $slot = $slot{'sparse_send_all, hole'};
    for my $answer ([undef, undef], [1, undef], [0, undef]) {
        my $st = $slot->{open}->();
        error_is(sub { $slot->{run}->($st, sub { $! = EBADF; return @$answer }) },
            { code => 38, message => "send holeHandler failed: $strerror{+EBADF}" },
            join ', ', map { $_ // 'undef' } @$answer);
        eval { $st->abort };
    }
};

# An errno from before the handler, or of what it got over, is no failure.
subtest 'undef with no failure' => sub {
    for my $slot (@slots) {
        for my $answer (sub { undef }, sub { return }, sub { () }) {
            my ($calls, $st) = (0, $slot->{open}->());
            $! = ENOSPC;
            my $call = sub { $slot->{run}->($st, sub { die "called again\n" if ++$calls > 40; $answer->() }) };
            if ($slot->{source}) {
                is_deeply [$call->()], [], "$slot->{name}: the end of the file";
                is $calls, 1, 'at once';
                $st->finish;
            }
            elsif ($slot->{sink}) {
                error_is($call, { code => 38, message => qr/^recv handler failed: .*undef/ }, "$slot->{name}: an error");
                is $calls, 1, 'at once';
                is_over($slot, $st, $daemon);
            }
            elsif ($slot->{sections}) {
                error_is($call, { message => 'send holeHandler failed: Input/output error' }, "$slot->{name}: an error");
                is_over($slot, $st, $daemon);
            }
            else {
                is error_of($call), undef, "$slot->{name}: as good as 0";
                eval { $st->finish; 1 } or $st->abort;
            }
        }
    }
};

subtest 'a handler that got over a failure' => sub {
    my ($bytes, $st) = (0, $slot{recv_all}{open}->());
    $st->recv_all(sub { $! = ENOSPC; $bytes += $_[2]; return $_[2] });
    $st->finish;
    is $bytes, -s $slot{recv_all}{path}, 'a sink that says what it took';
    my @pieces = ('x' x 1000, 'y' x 500);
    $st = $slot{send_all}{open}->();
    $st->send_all(sub { $! = ENOSPC; $_[1] = shift(@pieces) // ''; return length $_[1] });
    $st->finish;
    is substr(slurp($slot{send_all}{path}), 0, 1501), 'x' x 1000 . 'y' x 500 . "\0", 'a source with its 0 at the end';
    @pieces = ('z' x 1000);
    $st = $slot{send_all}{open}->();
    no warnings 'uninitialized';
    open my $fh, '<', \'' or die;
    $st->send_all(sub { () = eof $fh; $_[1] = shift(@pieces) // return; return length $_[1] });
    $st->finish;
    is substr(slurp($slot{send_all}{path}), 0, 1000), 'z' x 1000, 'and one with undef';
};

# --- claims

sub claim {
    my ($slot, $fill, $claim) = @_;
    $daemon->volume('slots-up', 1 << 20, 'V' x (1 << 20));
    my ($calls, $st) = (0, $slot->{open}->());
    $claim = sprintf '%d', $claim;
    my $error = error_of(sub {
        local $SIG{__WARN__} = sub { };
        $slot->{run}->($st, sub { die "called again\n" if $calls++; $fill->(\$_[1]); return $claim });
    });
    return ($st, $error);
}
my %claims = (
    'nothing set, one byte' => [sub { }, 1, 0],
    'one too many' => [sub { ${ $_[0] } = 'abc' }, 4, 3],
    'all that was asked for' => [sub { ${ $_[0] } = 'abc' }, 262_120, 3],
    'undef in the scalar' => [sub { undef ${ $_[0] } }, 5, 0],
    'an empty string' => [sub { ${ $_[0] } = '' }, 5, 0],
    'a shortened scalar' => [sub { ${ $_[0] } = 'x' x 100; substr ${ $_[0] }, 0, 90, '' }, 100, 10],
    'characters that are fewer bytes than their encoding' => [
        sub { ${ $_[0] } = "\xe9" x 5; utf8::upgrade(${ $_[0] }) }, 10, 5],
    'a number' => [sub { ${ $_[0] } = 12345 }, 6, 5],
    'the largest int' => [sub { ${ $_[0] } = 'abc' }, 2**31 - 1, 3],
    'a multiple of 2**32' => [sub { ${ $_[0] } = 'abc' }, 2**32, 3],
    'just over a multiple of 2**32' => [sub { ${ $_[0] } = 'abc' }, 2**32 + 3, 3],
    'a float far out' => [sub { ${ $_[0] } = 'abc' }, 10**15, 3],
);
# libvirt takes what a handler returns as a C int: these are negative.
for my $slot (@slot{'send_all', 'sparse_send_all'}) {
    for my $claim (2**31, 2**32 - 1) {
        next if $claim > ~0 >> 1;
        my ($st, $error) = claim($slot, sub { ${ $_[0] } = 'abc' }, $claim);
        is ref $error ? $error->{message} : $error, 'send handler failed: Input/output error',
            "$slot->{name}: a handler that returns $claim has failed";
    }
}
for my $slot (@slot{'send_all', 'sparse_send_all'}) {
    for my $what (sort keys %claims) {
        my ($fill, $claim, $holds) = @{ $claims{$what} };
        next if $claim > ~0 >> 1;    # no integer of this perl
        subtest "$slot->{name} claims: $what" => sub {
            my ($st, $error) = claim($slot, $fill, $claim);
            isa_ok $error, 'Sys::Virt::Error';
            like ref $error ? $error->{message} : $error,
                qr/^send handler failed: .*\b$claim\b.*\b$holds\b/, 'both numbers';
            is_over($slot, $st, $daemon);
            ok slurp($slot->{path}) !~ /[^V]/, 'nothing was sent';
        };
    }
}

# More than was asked for, and really there: in the loop of send_all there is no
# reason to lose it; in a section there is no room for it.
subtest 'more than was asked for' => sub {
    my $much = pattern(700_000);
    my @pieces = ($much, 'tail');
    my $st = $slot{send_all}{open}->();
    $st->send_all(sub { $_[1] = shift(@pieces) // ''; return length $_[1] });
    $st->finish;
    is sha(substr slurp($slot{send_all}{path}), 0, 700_004), sha("${much}tail"), 'send_all sends it all';

    my ($st2, $error) = claim($slot{sparse_send_all}, sub { ${ $_[0] } = $much }, 700_000);
    like $error->{message}, qr/^send handler failed: .*\b700000\b.*\b262120\b/, 'sparse_send_all refuses';
    is_over($slot{sparse_send_all}, $st2, $daemon);
} if rust();

# --- counts, against the C binding

my $counts = <<'CODE';
use strict; no warnings; use Sys::Virt;
use Digest::SHA 'sha256_hex';
{ package Some::Number; use overload '0+' => sub { ${ $_[0] } }, fallback => 1 }
{ package Some::Text; use overload '""' => sub { ${ $_[0] } }, fallback => 1 }
{ package Some::Tie; sub TIESCALAR { bless [$_[1]] } sub FETCH { $_[0][0] } }
my ($uri) = @ARGV;
my %count = (
    integer => sub { $_[0] }, string => sub { "$_[0]" }, 'string and text' => sub { "$_[0] bytes" },
    float => sub { $_[0] + 0.9 }, 'negative zero' => sub { $_[1] ? $_[0] : -0.5 },
    exponent => sub { sprintf '%.10e', $_[0] }, spaces => sub { "  $_[0]" }, 'hex text' => sub { $_[1] ? $_[0] : '0x10' },
    number => sub { my $n = $_[0]; bless \$n, 'Some::Number' }, text => sub { my $n = $_[0]; bless \$n, 'Some::Text' },
    tied => sub { tie my $n, 'Some::Tie', $_[0]; $n }, list => sub { my @l = (1, $_[0]); @l[0, 1] },
    array => sub { my @l = (0) x $_[0]; @l }, less => sub { int($_[0] / 2) || $_[0] }, 'one more' => sub { $_[0] + 1 },
    true => sub { $_[1] ? $_[0] : !!1 }, text => sub { $_[1] ? $_[0] : 'abc' }, 'much more' => sub { $_[0] + 1e6 },
    'a reference' => sub { 1 == 1 ? $_[0] : \1 }, 'negative float' => sub { -1.5 }, 'negative text' => sub { '-3x' },
    'far negative' => sub { -2**31 }, local => sub { local $_ = $_[0]; $_ }, lvalue => sub { my %h; $h{n} = $_[0] },
);
$| = 1;
my $test = Sys::Virt->new(uri => 'test:///default');
my $conn = Sys::Virt->new(uri => $uri);
my $pool = $conn->get_storage_pool_by_name('streams');
for my $name (sort keys %count) {
    my ($st, $calls, $last, $all) = ($test->new_stream, 0, 0, '');
    $test->get_domain_by_name('test')->screenshot($st, 0);
    my $how = $count{$name};
    eval { $st->recv_all(sub { $calls++; $all .= $_[1]; $last = $_[2]; $how->($_[2], $calls > 1) }); $st->finish };
    print "recv $name: $calls calls, last of $last, ", sha256_hex($all), " $@\n";
    next if $name =~ /more|^text$|true|hex/;   # a claim of what is not there
    my $up = $conn->new_stream;
    my $volume = $pool->get_volume_by_name('counts');
    $volume->upload($up, 0, 0);
    my @pieces = ('a' x 1000, 'b' x 500);
    eval { $up->send_all(sub { $_[1] = shift(@pieces) // ''; $how->(length $_[1], 1) }); $up->finish };
    my $error = $@;
    my $down = $conn->new_stream;
    $volume->download($down, 0, 2000);
    my $got = '';
    $down->recv_all(sub { $got .= $_[1]; $_[2] });
    $down->finish;
    print "send $name: ", length($got), ' ', sha256_hex($got), " $error\n";
}
CODE
subtest 'counts of every kind' => sub {
    my %got;
    for my $which ('rust', 'c') {
        $daemon->volume('counts', 4096);
        $got{$which} = run_perl($counts, args => [$daemon->uri], switches => [], env => { SYS_VIRT_STREAM => $which });
    }
    # That of Sys::Virt 12.7 may crash here, and has no answer from there on.
    my $compared = $got{c}{signal} ? length $got{c}{out} : length $got{rust}{out};
    is substr($got{rust}{out}, 0, $compared), $got{c}{out}, 'mean the same as in the C binding';
    cmp_ok length $got{rust}{out}, '>', 2000, 'all of them' or diag explain \%got;
    diag "the C binding died of signal $got{c}{signal}" if $got{c}{signal};
    is_deeply [@{ $got{rust} }{qw(err status signal hang)}], ['', 0, 0, 0], 'no crash';
} if rust();

# What is left to the caller after a success, against the C binding.
subtest '$@, $_ and $! after a success' => sub {
    my $program = <<'CODE';
use strict; use warnings; use Sys::Virt;
my $conn = Sys::Virt->new(uri => 'test:///default');
my %handler = (
    plain => sub { $_[2] }, eval => sub { eval { die "x\n" }; $_[2] }, errno => sub { $! = 28; $_[2] },
    topic => sub { $_ .= '.' if length $_ < 9; $_[2] }, local => sub { local ($@, $_, $!) = ('a', 'b', 3); $_[2] },
    assign => sub { $@ = 'assigned'; $_[2] },
);
for my $name (sort keys %handler) {
    for my $before ('', 'kept') {
        my $st = $conn->new_stream;
        $conn->get_domain_by_name('test')->screenshot($st, 0);
        local $_ = 'topic';
        $@ = $before;
        $! = 2;
        my @back = $st->recv_all($handler{$name});
        my $errno = $! + 0;
        $st->finish;
        print "$name: <$@> <$_> ", scalar @back, ' ', $name eq 'errno' ? $errno : '', "\n";
    }
}
CODE
    my ($rust, $c) = map { run_perl($program, env => { SYS_VIRT_STREAM => $_ }) } 'rust', 'c';
    is $rust->{out}, $c->{out}, 'as in the C binding';
    is $rust->{err}, '', 'and no warning';
    like $c->{out}, qr/^assign: <assigned>/m, 'which leaves them alone';
} if rust();

done_testing;
