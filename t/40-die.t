# A handler that dies: the caller gets that very exception, and the stream is
# over on both sides.
use strict;
use warnings;

use Scalar::Util qw(blessed refaddr weaken);
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

my $daemon = daemon();
my @slots = slots($daemon);

{
    package Some::Exception;
    our $alive = 0;
    sub new { my ($class, %self) = @_; $alive++; return bless {%self}, $class }
    sub DESTROY { $alive--; return }
}
{ package False::Exception; our @ISA = 'Some::Exception'; use overload bool => sub { 0 }, '""' => sub { '' }, fallback => 1 }

# What dies, and what has to come out.
my %way = (
    'a string' => [sub { die "no more\n" }, sub { is $_[0], "no more\n", 'the string' }],
    'a string with its place' => [
        sub { die 'no more' },
        sub { like $_[0], qr/\Ano more at \S*40-die\.t line \d+\.\n\z/, 'the string' }],
    'a string of wide characters' => [
        sub { die "\x{263a}\n" }, sub { is $_[0], "\x{263a}\n", 'the string' }],
    'nothing' => [sub { die }, sub { like $_[0], qr/^Died at/, 'what Perl says' }],
    'an array' => [
        do { my $array = [1]; sub { die $array } },
        sub { is_deeply $_[0], [1], 'the reference' }],
    'under local $@' => [
        sub { local $@ = 'mine'; die "no more\n" }, sub { is $_[0], "no more\n", 'the string' }],
    'after an eval of its own' => [
        sub { eval { die "inner\n" }; die "outer after $@" },
        sub { is $_[0], "outer after inner\n", 'the second' }],
    'again, in an eval' => [
        sub { eval { die "inner\n" } or die }, sub { like $_[0], qr/^inner\n\t\.\.\.propagated/, 'as Perl does it' }],
    'from deep below' => [
        sub { my $down; $down = sub { $_[0] ? $down->($_[0] - 1) : die "deep\n" }; $down->(50) },
        sub { is $_[0], "deep\n", 'the string' }],
    'in a destructor it triggers' => [
        sub { my $guard = bless [], 'Some::Guard'; die "first\n" },
        sub { is $_[0], "first\n", 'the first, though an eval ran in between' }],
    'by Perl itself' => [
        sub { my $none; $none->method }, sub { like $_[0], qr/^Can't call method "method"/, 'what Perl says' }],
    'in a sort' => [
        sub { my @sorted = sort { die "sorting\n" } 2, 1; return 1 },
        sub { is $_[0], "sorting\n", 'the string' }],
    'in a require' => [
        sub { local @INC = sub { die "loading\n" }; require Some::Module::That::Is::Not },
        sub { like $_[0], qr/^loading\n/, 'the string' }],
    'in a string eval that goes on' => [
        sub { eval 'die "text\n"; 1' or die $@ }, sub { is $_[0], "text\n", 'the string' }],
);
sub Some::Guard::DESTROY { eval { die "second\n" }; return }

for my $slot (@slots) {
    subtest "$slot->{name}: ways" => sub {
        for my $how (sort keys %way) {
            my ($handler, $check) = @{ $way{$how} };
            my ($calls, $st) = (0, $slot->{open}->());
            my $error = error_of(sub { $slot->{run}->($st, sub { $calls++; $handler->() }) });
            subtest $how => sub {
                no warnings 'deprecated';
                $check->($error);
                is $calls, 1, 'it is not called again';
                is_over($slot, $st);
            };
        }
    };

    subtest "$slot->{name}: an object" => sub {
        for my $class (qw(Some::Exception False::Exception)) {
            my $thrown = $class->new(n => 5);
            my $st = $slot->{open}->();
            my $lived = eval { $slot->{run}->($st, sub { die $thrown }); 1 };
            my $error = $@;
            ok !$lived, "a $class came out";
            is ref $error, $class, 'of its class';
            is refaddr $error, refaddr $thrown, 'the same object';
            is_over($slot, $st, $daemon);
            undef $_ for $error, $thrown, $@;
            is $Some::Exception::alive, 0, 'and nobody keeps it';
        }
    };

    subtest "$slot->{name}: late, with much under way" => sub {
        plan skip_all => 'called once' if $slot->{told} && $slot->{name} =~ /skip/;
        my ($calls, $st) = (0, $slot->{open}->());
        my $late = $slot->{told} || $slot->{local} ? 1 : 3;
        my $error = error_of(sub {
            $slot->{run}->($st, sub {
                die "late\n" if ++$calls > $late - 1;
                return (0, 4096) if $slot->{sections};
                $_[1] = 'x' x $_[2] if $slot->{source};
                return $_[2];
            });
        });
        is $error, "late\n", 'the exception';
        is $calls, $late, 'from that call';
        is_over($slot, $st, $daemon);
    };

    subtest "$slot->{name}: nothing is kept" => sub {
        my @weak;
        {
            my $st = $slot->{open}->();
            my $captured = { st => \$st };
            my $handler = sub { push @weak, \$_[1] if @_ > 2; $captured->{n}++; die "out\n" };
            error_of(sub { $slot->{run}->($st, $handler) });
            push @weak, $st, $captured, $handler;
        }
        weaken($_) for @weak;
        is_deeply [grep { defined } @weak], [], 'of the stream, the handler and its data';
    };
}
ok $daemon->conn->get_library_version, 'the connection goes on';

subtest 'what the daemon would keep open' => sub {
    my ($slot) = grep { $_->{name} eq 'recv_all' } @slots;
    my $st = $slot->{open}->();
    $st->recv(my $data, 1);
    # After an upload has ended, the daemon opens each volume of the pool for a moment.
    ok within(60, sub { daemon_fds($daemon, $slot->{path}) == 1 }), 'is seen while a transfer is under way';
    error_of(sub { $slot->{run}->($st, sub { die "out\n" }) });
    ok within(60, sub { daemon_fds($daemon, $slot->{path}) == 0 }), 'and gone with the stream still held';
    # The next one of the same volume is whole.
    my ($bytes, $next) = (0, $slot->{open}->());
    $next->recv_all(sub { $bytes += $_[2]; $_[2] });
    $next->finish;
    is $bytes, -s $slot->{path}, 'the next transfer is whole';
};

subtest 'two levels' => sub {
    my ($down) = grep { $_->{name} eq 'recv_all' } @slots;
    my ($outer, $inner) = map { $down->{open}->() } 1, 2;
    my $caught;
    my $error = error_of(sub {
        $outer->recv_all(sub {
            eval { $inner->recv_all(sub { die { at => 'inner' } }) };
            $caught = $@;
            die { at => 'outer' };
        });
    });
    is $caught->{at}, 'inner', 'the inner handler\'s is caught in the outer';
    is $error->{at}, 'outer', 'and the outer one\'s comes out';
    is_over($down, $_, $daemon) for $inner, $outer;

    my $passed = { at => 'inner' };
    ($outer, $inner) = map { $down->{open}->() } 1, 2;
    $error = error_of(sub { $outer->recv_all(sub { $inner->recv_all(sub { die $passed }) }) });
    is $error, $passed, 'one that nobody catches goes through both';
    is_over($down, $_, $daemon) for $inner, $outer;

    # Handled: the outer transfer is as good as new.
    ($outer, $inner) = map { $down->{open}->() } 1, 2;
    my $bytes = 0;
    $outer->recv_all(sub {
        eval { $inner->recv_all(sub { die "caught\n" }) } if !$bytes;
        $bytes += $_[2];
        return $_[2];
    });
    $outer->finish;
    is $bytes, -s $down->{path}, 'one that is caught harms nobody else';
};

# Both implementations say the same of this; one child each.
my $hooks = <<'CODE';
use strict; use warnings; use Sys::Virt;
my $conn = Sys::Virt->new(uri => 'test:///default');
sub opened {
    my $st = $conn->new_stream;
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    return $st;
}
sub show { my $s = defined $_[0] ? $_[0] : 'undef'; $s =~ s{\(0x\w+\)}{}; return $s =~ s/ at \S+ line (\d+)\.\n/ at $1/r }
$| = 1;
my @hooked;
$SIG{__DIE__} = sub { push @hooked, 'hook(' . show($_[0]) . ', ' . show($^S) . ')' };
for my $way (
    ['in eval' => sub { my $st = opened(); eval { $st->recv_all(sub { die 'x' }) } }],
    ['in eval, an object' => sub { my $st = opened(); eval { $st->recv_all(sub { die {} }) }; $@ = ref $@ }],
    ['eval in the handler' => sub { my $st = opened(); $st->recv_all(sub { eval { die 'in' }; $_[2] }) }],
    ['its state' => sub { my $st = opened(); $st->recv_all(sub { push @hooked, 'S ' . show($^S); $_[2] }) }],
    ['its state in eval' => sub { my $st = opened(); eval { $st->recv_all(sub { push @hooked, 'S ' . show($^S); $_[2] }) } }],
    ['its state in its own eval' => sub {
        my $st = opened(); $st->recv_all(sub { eval { push @hooked, 'S ' . show($^S) }; $_[2] }) }],
    ['its caller' => sub { my $st = opened();
        $st->recv_all(sub { push @hooked, join ',', map { show($_) } (caller 0)[2, 3, 4, 5]; $_[2] }) }],
    ['a hook that dies' => sub { my $st = opened(); local $SIG{__DIE__} = sub { push @hooked, 'once'; die "other\n" };
        eval { $st->recv_all(sub { die 'x' }) } }],
    ['a warning in it' => sub { my $st = opened(); local $SIG{__WARN__} = sub { push @hooked, show($_[0]) };
        $st->recv_all(sub { warn 'careful'; $_[2] }) }],
) {
    my ($name, $call) = @$way;
    @hooked = ();
    $@ = '';
    $call->();
    print "$name: ", join(' ', do { my %seen; grep { /^hook|once/ || !$seen{$_}++ } @hooked }), ' -> ', show($@), "\n";
}
open my $fh, '<', $0; my $line = <$fh>;
my $st = opened();
$st->recv_all(sub { die 'the end' });
CODE
subtest '$SIG{__DIE__}, $^S, caller, and an exception that nobody catches' => sub {
    my $rust = run_perl($hooks);
    my $c = run_perl($hooks, env => { SYS_VIRT_STREAM => 'c' });
    # perl -d has the file in the name of such a sub.
    s/__ANON__\[\S+?\]/__ANON__/g for $rust->{out}, $c->{out};
    is $rust->{out}, $c->{out}, 'as in the C binding';
    (my $said = $rust->{err}) =~ s/\S+ line/FILE line/;
    (my $wanted = $c->{err}) =~ s/\S+ line/FILE line/;
    is $said, $wanted, 'the last words as well';
    like $said, qr/^the end at .* line \d+, <\$fh> line 1\.$/, 'which are the handler\'s';
    is $rust->{status}, 255, 'the status of a die';
    is $rust->{signal}, 0, 'and no crash';
    my @hook = $rust->{out} =~ /^in eval: (.*) ->/m;
    is scalar(() = "@hook" =~ /hook/g), 1, 'the hook runs once';
} if rust();

done_testing;
