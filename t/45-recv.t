# What recv may be given to store into, and how much it may be asked for.
use strict;
use warnings;

use B ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

my $daemon = daemon();
my %slot = map { $_->{name} => $_ } slots($daemon);
my %whole = ('recv_all' => pattern(6 << 20), 'recv_all, local' => '');
{
    my $st = $slot{'recv_all, local'}{open}->();
    $st->recv_all(sub { $whole{'recv_all, local'} .= $_[1]; $_[2] });
    $st->finish;
}
my @both = @slot{'recv_all, local', 'recv_all'};

{
    package Some::Tie;
    our @log;
    sub TIESCALAR { my ($class, $value) = @_; return bless { value => $value }, $class }
    sub FETCH { push @log, 'fetch'; return $_[0]{value} }
    sub STORE { push @log, 'store'; $_[0]{value} = $_[1]; return }
}
{ package Some::Hash; require Tie::Hash; our @ISA = 'Tie::StdHash' }
{ package Some::Array; require Tie::Array; our @ISA = 'Tie::StdArray' }
{ package Some::Object; use overload '""' => sub { 'text' }, fallback => 1; our $freed = 0; sub DESTROY { $freed++; return } }
{ package Dying::Tie; sub TIESCALAR { bless [] } sub FETCH { 1 } sub STORE { die "not stored\n" } }
our ($package, %package, @package);
my $lvalue = 'lvalue';
sub lvalue :lvalue { $lvalue }

# Each receives ten bytes with the given code and returns what it has then.
my %target = (
    'a new variable' => sub { $_[0]->(my $new); $new },
    'undef' => sub { my $data = undef; $_[0]->($data); $data },
    'a string' => sub { my $data = 'x' x 100; $_[0]->($data); $data },
    'a short string' => sub { my $data = 'x'; $_[0]->($data); $data },
    'a number' => sub { my $data = 12; $_[0]->($data); $data },
    'a float' => sub { my $data = 1.5; $_[0]->($data); $data },
    'a number used as text' => sub { my $data = 12; my $text = "$data"; $_[0]->($data); $data },
    'text used as a number' => sub { my $data = '12'; my $number = $data + 1; $_[0]->($data);
        no warnings 'numeric'; cmp_ok $data + 0, '==', $data =~ /^\s*(\d+)/ ? $1 : 0, 'no old number'; $data },
    'wide characters' => sub { my $data = "\x{263a}" x 50; $_[0]->($data); ok !utf8::is_utf8($data), 'no flag'; $data },
    'the utf8 flag' => sub { my $data = "\xe9"; utf8::upgrade($data); $_[0]->($data); $data },
    'a reference' => sub { my $data = [1]; $_[0]->($data); $data },
    'an object' => sub {
        $Some::Object::freed = 0; my $data = bless [], 'Some::Object'; $_[0]->($data);
        is $Some::Object::freed, 1, 'which goes'; $data },
    'a weak reference' => sub { my $ref = []; my $data = $ref; Scalar::Util::weaken($data); $_[0]->($data); $data },
    'a copy of a string' => sub { my $one = 'c' x 5000; my $data = $one; $_[0]->($data); is $one, 'c' x 5000, 'the other stays'; $data },
    'a string that has a copy' => sub { my $data = 'c' x 5000; my $one = $data; $_[0]->($data); is $one, 'c' x 5000, 'the copy stays'; $data },
    'a copied constant' => sub { my $data = 'constant'; $_[0]->($data); $data },
    'a copied hash key' => sub { my %h = (key => 1); my ($data) = keys %h; $_[0]->($data); is_deeply [keys %h], ['key'], 'the key stays'; $data },
    'a chopped string' => sub { my $data = 'x' x 100; substr $data, 0, 50, ''; $_[0]->($data); $data },
    'a matched string' => sub { my $data = 'x' x 100; $data =~ /x{5}/g; $_[0]->($data); is pos $data, 5, 'its pos stays, as in the C binding'; $data },
    'a version' => sub { my $data = v1.2.3; $_[0]->($data); is ref \$data, 'SCALAR', 'none now'; $data },
    'a regex' => sub { my $data = ${ qr/x/ }; $_[0]->($data); $data },
    'a copy of a glob' => sub { my $data = *STDOUT; $_[0]->($data); is fileno STDOUT, 1, 'the glob stays'; $data },
    'a truth value' => sub { my $data = !!1; $_[0]->($data); $data },
    'a package variable' => sub { $_[0]->($package); $package },
    'a local one' => sub { local $package = 'x'; $_[0]->($package); my $got = $package; $got },
    'a hash element' => sub { my %h; $_[0]->($h{new}); is_deeply [keys %h], ['new'], 'made'; $h{new} },
    'a hash element of old' => sub { my %h = (old => 1); $_[0]->($h{old}); $h{old} },
    'a deep element' => sub { my $h; $_[0]->($h->{a}[3]{b}); is @{ $h->{a} }, 4, 'made'; $h->{a}[3]{b} },
    'an array element' => sub { my @a; $_[0]->($a[2]); is @a, 3, 'made'; $a[2] },
    'a negative element' => sub { my @a = (1, 2); $_[0]->($a[-1]); $a[1] },
    'a local hash element' => sub { local $package{x} = 1; $_[0]->($package{x}); $package{x} },
    'a new local hash element' => sub { my $got; { local $package{y}; $_[0]->($package{y}); $got = $package{y} } ok !exists $package{y}, 'gone'; $got },
    'a local array element' => sub { @package = (1, 2); my $got; { local $package[1]; $_[0]->($package[1]); $got = $package[1] } is $package[1], 2, 'back'; $got },
    'an element of a slice' => sub { my %h; $_[0]->($_) for @h{qw(s)}; $h{s} },
    'an array, aliased' => sub { my @a = (1); $_[0]->($_) for @a; $a[0] },
    'a substr' => sub { my $data = '<..>'; $_[0]->(substr $data, 1, 2); $data =~ s/^<//; $data =~ s/>$//; $data },
    'a substr of four arguments\' kin' => sub { my $data = '>'; my $ref = \substr $data, 0, 0; $_[0]->($$ref); $data =~ s/>$//; $data },
    'a substr of wide characters' => sub {
        my $data = "\x{263a}..\x{263b}"; $_[0]->(substr $data, 1, 2); is substr($data, 0, 1), "\x{263a}", 'around it';
        substr $data, 1, 10 },
    'a reference to an element' => sub { my %h; my $ref = \$h{x}; $_[0]->($$ref); $h{x} },
    'an lvalue sub' => sub { $_[0]->(lvalue()); $lvalue },
    'a conditional' => sub { my ($one, $two); $_[0]->(1 ? $one : $two); $one },
    'an assignment' => sub { $_[0]->(my $data = 'x'); $data },
    'a chained one' => sub { my $data; $_[0]->(($data) = 'x'); $data },
    'a tied scalar' => sub {
        my $tie = tie my $data, 'Some::Tie', 'old'; @Some::Tie::log = (); $_[0]->($data);
        is_deeply [grep { $_ eq 'store' } @Some::Tie::log], ['store'], 'stored once'; $tie->{value} },
    'a tied scalar of wide characters' => sub { my $tie = tie my $data, 'Some::Tie', "\x{100}"; $_[0]->($data); $tie->{value} },
    'a tied hash\'s element' => sub { my $tie = tie my %h, 'Some::Hash'; $_[0]->($h{x}); $tie->{x} },
    'a tied array\'s element' => sub { my $tie = tie my @a, 'Some::Array'; $_[0]->($a[1]); $tie->[1] },
    '$_' => sub { local $_ = 'x'; $_[0]->($_); $_ },
    '$@' => sub { local $@ = 'x'; $_[0]->($@); $@ },
    'the handler\'s @_' => sub { my @a = (1); my $code = $_[0]; sub { $code->($_[0]) }->(@a); $a[0] },
    'a closed over variable' => sub { my $data; my $in = sub { $data }; $_[0]->($data); $in->() },
    'a state' => sub { use feature 'state'; state $data = 'x'; $_[0]->($data); $data },
    'an environment variable' => sub { local $ENV{STREAM_TEST} = 'x'; $_[0]->($ENV{STREAM_TEST}); $ENV{STREAM_TEST} },
);
for my $slot (@both) {
    subtest "$slot->{name}: targets" => sub {
        my $st = $slot->{open}->();
        my $at = 0;
        for my $what (sort keys %target) {
            my $count;
            my $step = sub { $count = $st->recv($_[0], 10) };
            my $got = eval { $target{$what}->($step) };
            my $want = substr $whole{ $slot->{name} }, $at, 10;
            is $count, 10, "$what: the count" or diag $@;
            is unpack('H*', $got // 'undef'), unpack('H*', $want), "$what: the data";
            $at += 10;
        }
        $st->abort;
    };
}

# vec stores a number, as it does in Perl.
subtest 'a vec' => sub {
    my ($st, $data) = ($both[0]{open}->(), "\0\0");
    no warnings 'numeric';
    is $st->recv(vec($data, 0, 8), 4), 4, 'the count';
    is unpack('H*', $data), '0000', 'data that is no number';
    $st->abort;
};

# What can't be stored into is said before data is lost.
use constant CONSTANT => 'constant';
my %readonly = (
    'a literal' => sub { $_[0]->('literal') },
    'a number' => sub { $_[0]->(12) },
    'undef' => sub { $_[0]->(undef) },
    'a constant' => sub { $_[0]->(CONSTANT) },
    'a truth value' => sub { $_[0]->(!!1) },
    'a loop over literals' => sub { $_[0]->($_) for 'literal' },
    'a variable made so' => sub { my $data = 'x'; Internals::SvREADONLY($data, 1); $_[0]->($data) },
    'a long one made so' => sub { my $data = 'x' x 10_000; Internals::SvREADONLY($data, 1); $_[0]->($data) },
    'a glob' => sub { $_[0]->(*STDOUT) },
    'a glob behind a reference' => sub { my $ref = \*STDOUT; $_[0]->($$ref) },
    'a numbered match' => sub { 'abc' =~ /(b)/; $_[0]->($1) },
    'an element that can\'t be' => sub { my @a; $_[0]->($a[-1]) },
    'a locked hash\'s element' => sub { require Hash::Util; my %h = (a => 1); Hash::Util::lock_hash(%h); $_[0]->($h{a}) },
);
for my $slot (@both) {
    subtest "$slot->{name}: what can't be stored into" => sub {
        for my $what (sort keys %readonly) {
            my $st = $slot->{open}->();
            my $error = error_of(sub { $readonly{$what}->(sub { $st->recv($_[0], 10) }) });
            like $error, qr/^(?:Modification of (?:a read-only value|non-creatable array value) attempted|Can't \w+ )/,
                "$what: an ordinary exception";
            $st->recv(my $data, 10);
            is unpack('H*', $data), unpack('H*', substr $whole{ $slot->{name} }, 0, 10), "$what: no data is lost";
            is fileno STDOUT, 1, 'STDOUT is what it was';
            $st->abort;
        }
    };
}

subtest 'a tie that dies' => sub {
    my $st = $both[0]{open}->();
    tie my $data, 'Dying::Tie';
    is error_of(sub { $st->recv($data, 10) }), "not stored\n", 'says so';
    $st->abort;
};

# --- how much

{ package Some::Number; use overload '0+' => sub { 10 }, fallback => 1 }
{ package Dying::Number; use overload '0+' => sub { die "no number\n" }, fallback => 0 }
my %nbytes = (
    'zero' => 0, 'one' => 1, 'negative' => -1, 'very negative' => -2**63, '1e15' => 1e15, '2**31' => 2**31, '2**32' => 2**32,
    '2**32 + 5' => 2**32 + 5, '2**53' => 2**53, '2**63' => 2**63, '2**64' => 2**64, 'the largest' => ~0, 'infinite' => 9**9**9,
    'negative infinite' => -9**9**9, 'no number' => -sin(9**9**9), 'text' => 'abc', 'text of a number' => '10', 'numbers and text' => '10 bytes',
    'empty' => '', 'undef' => undef, 'a float' => 10.9, 'a small float' => 0.5, 'true' => !!1, 'false' => !!0,
    'a reference' => [], 'a hash' => {}, 'code' => sub { }, 'a glob' => *STDOUT, 'a number object' => bless([], 'Some::Number'),
    'a number object that dies' => bless([], 'Dying::Number'), 'wide text' => "\x{663}", 'a regex' => qr/x/,
);
for my $slot (@both) {
    subtest "$slot->{name}: nbytes" => sub {
        my $before = memory_kib('VmHWM') if -r '/proc/self/status';
        my @kept;
        for my $what (sort keys %nbytes) {
            no warnings;
            my $st = $slot->{open}->();
            my ($count, $data) = (undef, 'as it was');
            my $error = error_of(sub { $count = $st->recv($data, $nbytes{$what}) });
            if (defined $error) {
                ok !ref $error || $error->isa('Sys::Virt::Error'), "$what: an ordinary exception";
                is $data, 'as it was', 'leaves the variable alone';
            }
            else {
                $count
                    ? is($data, substr($whole{ $slot->{name} }, 0, $count), "$what: data")
                    : is($data, 'as it was', "$what: nothing");
                my $asked = $nbytes{$what};
                cmp_ok $count, '<=', $asked, 'no more than that' if !ref $asked && ($asked // '') =~ /^\d{1,9}$/;
                push @kept, \$data;
            }
            $st->abort;
        }
        my $held = 0;
        $held += B::svref_2object($_)->LEN for @kept;
        my $used = 0;
        $used += length $$_ for @kept;
        cmp_ok $held, '<', 2 * $used + 4096 * @kept, 'memory follows what arrived';
        cmp_ok memory_kib('VmHWM') - $before, '<', 64 << 10, 'also meanwhile' if $before;
    };
}

subtest 'a huge request that brings nothing' => sub {
    my $st = $daemon->conn->new_stream(Sys::Virt::Stream::NONBLOCK);
    $daemon->pool->get_volume_by_name('slots-up')->upload($st, 0, 0);
    my @kept;
    for (1 .. 20) {
        my $data = 'x';
        is $st->recv($data, 1e15), -2, 'nothing' if $_ == 1;
        error_of(sub { $st->recv($data, 1e15) });
        push @kept, \$data;
    }
    $st->abort;
    my $held = 0;
    $held += B::svref_2object($_)->LEN for @kept;
    cmp_ok $held, '<', 1 << 20, 'leaves no memory behind';
};

subtest 'huge requests get all of it' => sub {
    for my $slot (@both) {
        my ($st, $all) = ($slot->{open}->(), '');
        while ($st->recv(my $data, 1e15)) { $all .= $data }
        $st->finish;
        ok $all eq $whole{ $slot->{name} }, $slot->{name};
    }
};

# A program with little room for itself.
subtest 'where memory is short' => sub {
    ok_perl(<<'CODE', "data\n", '1e15 under a limit');
use strict; use warnings; use Sys::Virt;
my $conn = Sys::Virt->new(uri => 'test:///default');
my @kept;
for (1 .. 50) {
    my $st = $conn->new_stream;
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    my $data = 'old';
    my $count = eval { $st->recv($data, 1e15) };
    die 'no data' if !defined $count && "$@" !~ /memory/ || $count && length $data != $count;
    push @kept, \$data;
}
print "data\n";
CODE
};

SKIP: {
    skip 'perl is built without threads', 1 unless StreamTest::has('threads');
    subtest 'shared variables' => sub {
        ok_perl(<<'CODE', "10 10\n" x 3, 'each kind');
use strict; use warnings; use threads; use threads::shared; use Sys::Virt;
my $conn = Sys::Virt->new(uri => 'test:///default');
my $st = $conn->new_stream;
$conn->get_domain_by_name('test')->screenshot($st, 0);
my $scalar :shared = "\x{263a}"; my %hash :shared; my @array :shared;
for my $ref (\$scalar, \$hash{x}, \$array[2]) {
    my $count = $st->recv($$ref, 10);
    print "$count ", threads->create(sub { length $$ref })->join, "\n";
}
$st->abort;
CODE
    };
}

done_testing;
