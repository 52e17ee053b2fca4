# The scalar that a handler is given: what it may put there, and what it may do to it.
use strict;
use warnings;

use Scalar::Util qw(weaken);
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

my $daemon = daemon();
my @slots = slots($daemon);
my %slot = map { $_->{name} => $_ } @slots;
my $content = pattern(6 << 20);
my $shot = '';
{
    my $st = $slot{'recv_all, local'}{open}->();
    $st->recv_all(sub { $shot .= $_[1]; $_[2] });
    $st->finish;
}
# What each sink has to see.
my %whole = (
    'recv_all, local' => $shot, 'recv_all' => $content,
    'sparse_recv_all' => pattern(6 << 20, 'sparse ' . (4 << 20)),
);

{ package Some::Scalar; our $freed = 0; sub DESTROY { $freed++; return } }
{
    package Some::Tie;
    sub TIESCALAR { my ($class, $value) = @_; return bless [$value], $class }
    sub FETCH { return $_[0][0] }
    sub STORE { $_[0][0] = $_[1]; return }
}
{ package Some::Text; use overload '""' => sub { $_[0][0] }, fallback => 1 }

# --- what a source fills it with

# Each gives a value and the bytes it stands for; undef: it can't be sent.
my %fill = (
    'bytes' => sub { return ($_[0] = "a\xe9\0z", "a\xe9\0z") },
    'a string with the utf8 flag' => sub { $_[0] = "a\xe9\0z"; utf8::upgrade($_[0]); return (4, "a\xe9\0z") },
    'ascii with the utf8 flag' => sub { $_[0] = 'abc'; utf8::upgrade($_[0]); return (3, 'abc') },
    'a part of one with the flag' => sub { $_[0] = "\xe9" x 10; utf8::upgrade($_[0]); return (4, "\xe9" x 4) },
    'a wide character' => sub { $_[0] = "ab\x{100}"; return (3, undef) },
    'a wide character after what counts' => sub { $_[0] = "ab\x{100}"; return (2, undef) },
    'only wide characters' => sub { $_[0] = "\x{263a}" x 1000; return (1000, undef) },
    'a number' => sub { $_[0] = 1234; return (4, '1234') },
    'a float' => sub { $_[0] = 1.5; return (3, '1.5') },
    'an object with a text' => sub { $_[0] = bless ['text'], 'Some::Text'; return (4, 'text') },
    'an object with a wide text' => sub { $_[0] = bless ["\x{100}"], 'Some::Text'; return (1, undef) },
    'a tied scalar' => sub { tie $_[0], 'Some::Tie', 'tied'; return (4, 'tied') },
    'a tied scalar with the utf8 flag' => sub {
        my $text = "\xe9"; utf8::upgrade($text); tie $_[0], 'Some::Tie', $text; return (1, "\xe9") },
    'a tied scalar with a wide one' => sub { tie $_[0], 'Some::Tie', "\x{100}"; return (1, undef) },
    'a blessed one' => sub { $_[0] = 'blessed'; bless \$_[0], 'Some::Scalar'; return (7, 'blessed') },
    'a chopped one' => sub { $_[0] = 'xxxtext'; substr $_[0], 0, 3, ''; return (4, 'text') },
    'a glob' => sub { $_[0] = *STDOUT; return (12, '*main::STDOUT') },
    'a version' => sub { $_[0] = v97.98; return (2, 'ab') },
    'a regex match behind it' => sub { $_[0] = 'abc'; $_[0] =~ /b/g; return (3, 'abc') },
    'a copy of a constant' => sub { $_[0] = 'constant' x 200; return (1600, 'constant' x 200) },
    'a shared buffer' => sub { my $own = 's' x 5000; $_[0] = $own; return (5000, 's' x 5000) },
    'a read-only one' => sub { $_[0] = 'fixed'; Internals::SvREADONLY($_[0], 1); return (5, 'fixed') },
    'a kept one' => sub { our @kept; push @kept, \$_[0]; $_[0] = 'kept'; return (4, 'kept') },
    'an alias' => sub { our $alias; *alias = \$_[0]; $alias = 'alias'; return (5, 'alias') },
    'by sysread' => sub { open my $in, '<:raw', $0 or die; return (sysread($in, $_[0], 24), '# The scalar that a hand') },
    'by sysread at an offset' => sub {
        open my $in, '<:raw', $0 or die; sysread $in, $_[0], 5, 3; return (8, "\0\0\0# The") },
    'by a localized element' => sub { local $_[0] = 'x'; return (0, '') },
);
for my $slot (@slot{'send_all', 'sparse_send_all'}) {
    subtest "$slot->{name}: what is sent" => sub {
        for my $what (sort keys %fill) {
            $daemon->volume('slots-up', 6 << 20);
            my $st = $slot->{open}->();
            my ($round, $odd, $bytes) = (0, 0);
            my $error = error_of(sub {
                $slot->{run}->($st, sub {
                    # Around it ordinary ones, which must not be touched by it.
                    $round++;
                    $odd++ if !defined $_[1] || utf8::is_utf8($_[1]) || $_[1] ne '' || tied $_[1] || pos $_[1];
                    return $round == 4 ? 0 : length($_[1] = "<$round>") if $round != 2;
                    (my $count, $bytes) = $fill{$what}->($_[1]);
                    # A source that has nothing is at its end.
                    $round = 3 if $count eq '0';
                    return $count =~ /^\d+$/ ? $count : length $count;
                });
            });
            ok !$odd, "$what: every call has a fresh scalar";
            if (defined $bytes) {
                is $error, undef, $what;
                $st->finish if !$error;
                my $want = $bytes eq '' ? '<1>' : '<1>' . substr($bytes, 0, 12e6) . '<3>';
                $want =~ s/STDOUT<3>/STDOU<3>/;    # as many bytes as it said
                is substr(slurp($slot->{path}), 0, length($want) + 1), "$want\0", "$what: the bytes";
            }
            else {
                like $error, qr/^Wide character in send handler at \S+ line \d+/, $what;
                is_over($slot, $st);
                like substr(slurp($slot->{path}), 0, 4), qr/^(?:<1>)?\0+$/, "$what: nothing of it is sent";
            }
        }
    };
}
{ no warnings 'once'; is_deeply [map { $$_ } @main::kept], ['kept', 'kept'], 'what a source kept stays what it was' }

# --- what handlers do to it

my %treat = (
    'nothing' => sub { },
    'changed' => sub { $_[0] = 'short' },
    'changed in place' => sub { substr $_[0], 0, 3, 'xyz' },
    'grown' => sub { $_[0] .= 'x' x 1000 },
    'chopped' => sub { substr $_[0], 0, 100, '' },
    'emptied' => sub { $_[0] = '' },
    'undefined' => sub { undef $_[0] },
    'set to undef' => sub { $_[0] = undef },
    'decoded' => sub { utf8::upgrade($_[0]) },
    'wide' => sub { $_[0] .= "\x{263a}" },
    'a number' => sub { no warnings; $_[0] += 1 },
    'a reference' => sub { $_[0] = [1] },
    'a reference to itself' => sub { $_[0] = \$_[0]; weaken($_[0]) },
    'a glob' => sub { $_[0] = *STDOUT },
    'a regex' => sub { $_[0] = ${ qr/x/ } },
    'tied' => sub { tie $_[0], 'Some::Tie', 'tied' },
    'tied and untied' => sub { tie $_[0], 'Some::Tie', 'tied'; untie $_[0] },
    'blessed' => sub { bless \$_[0], 'Some::Scalar' },
    'read-only' => sub { Internals::SvREADONLY($_[0], 1) },
    'matched' => sub { $_[0] =~ /./gs; pos($_[0]) = 7 },
    'taken as @_' => sub { @_ = () },
    'aliased' => sub { our $alias; *alias = \$_[0]; $alias = 'x' },
    'weakly referred to' => sub { our $weak = \$_[0]; weaken($weak) },
    'counted in characters' => sub { utf8::upgrade($_[0]); my $n = length $_[0]; pos($_[0]) = 9 },
    'a lock on a loop' => sub { for ($_[0]) { $_ = 'loop' } },
);
for my $slot (grep { $_->{sink} } @slots) {
    subtest "$slot->{name}: whatever is done to it" => sub {
        for my $how (sort keys %treat) {
            my ($all, $odd, $st) = ('', 0, $slot->{open}->());
            local $SIG{__WARN__} = sub { $odd++ };
            # In parts, so that it also happens to a rest that is to come again.
            $slot->{run}->($st, sub {
                $odd++ if length $_[1] != $_[2] || utf8::is_utf8($_[1]) || ref $_[1] || tied $_[1] || pos $_[1];
                my $take = $_[2] > 200_000 ? 100_000 : $_[2];
                $all .= substr $_[1], 0, $take;
                $treat{$how}->($_[1]);
                return $take;
            });
            $st->finish;
            ok !$odd, "$how: every piece is a fresh one";
            ok $all eq $whole{ $slot->{name} }, "$how: all of the data";
        }
    };

    # The same treatment of what is kept: it stays, and so do the others.
    subtest "$slot->{name}: kept" => sub {
        my (@refs, @copies, @args, @closures, @aliased);
        my $st = $slot->{open}->();
        $slot->{run}->($st, sub {
            push @refs, \$_[1];
            push @copies, $_[1];
            push @args, \@_;
            my $data = \$_[1];
            push @closures, sub { $$data };
            $aliased[@aliased] = $_ for $_[1];
            return $_[2];
        });
        $st->finish;
        my $want = sha($whole{ $slot->{name} });
        is sha(join '', map { $$_ } @refs), $want, 'by reference';
        is sha(join '', @copies), $want, 'by value';
        is sha(join '', map { $_->[1] } @args), $want, 'with all of @_';
        is sha(join '', map { $_->() } @closures), $want, 'by closure';
        $$_ = 'x' for @refs;
        is sha(join '', @copies), $want, 'copies are copies';
        my %seen;
        is scalar(grep { $seen{$_}++ } @refs), 0, 'each its own';
    };

    subtest "$slot->{name}: kept and done to" => sub {
        my ($all, $calls, @kept, @want, $st) = ('', 0);
        my @ways = sort grep { !/reference|regex|taken|tied/ } keys %treat;
        $st = $slot->{open}->();
        $slot->{run}->($st, sub {
            $all .= $_[1];
            $treat{ $ways[$calls++ % @ways] }->($_[1]);
            push @kept, \$_[1];
            push @want, defined $_[1] ? "$_[1]" : undef;
            return $_[2];
        });
        $st->finish;
        ok $all eq $whole{ $slot->{name} }, 'all of the data';
        is scalar(grep { my ($is, $was) = (${ $kept[$_] }, $want[$_]);
            defined $is ? !defined $was || $is ne $was : defined $was } 0 .. $#kept), 0, 'and what was kept is as it was';
    };
}

subtest 'released' => sub {
    $Some::Scalar::freed = 0;
    my ($calls, $st) = (0, $slot{recv_all}{open}->());
    $st->recv_all(sub { $calls++; bless \$_[1], 'Some::Scalar'; $_[2] });
    $st->finish;
    is $Some::Scalar::freed, $calls, 'a blessed one is freed once each';
    my @weak;
    $st = $slot{recv_all}{open}->();
    $st->recv_all(sub { push @weak, \$_[1]; weaken($weak[-1]); $_[2] });
    $st->finish;
    is scalar(grep { defined } @weak), 0, 'one that is not kept goes';
};

# The other arguments are the handler's own too.
subtest 'the other arguments' => sub {
    for my $slot (grep { $_->{sink} } @slots) {
        my ($all, $st) = ('', $slot->{open}->());
        my $mine = $st;
        $slot->{run}->($st, sub {
            my $count = $_[2];
            $all .= $_[1];
            $_[2] = 'changed';
            $#_ = -1;
            return $count;
        });
        $st->finish;
        ok $all eq $whole{ $slot->{name} }, "$slot->{name}: the count is a copy";
        is $st, $mine, 'and the stream untouched';
    }
};

# Perl code that reads one argument may free the stream that another one held.
is_deeply run_perl(<<'EOP'), { out => "10 bytes\nno stream\n", err => '', status => 0, signal => 0, hang => 0 }, 'flags that free the stream';
use strict; use warnings; use Sys::Virt;
our ($st, @fill);
sub Frees::TIESCALAR { return bless [], 'Frees' }
sub Frees::FETCH { undef $main::st; @main::fill = map { my $n = 1 << 40; bless \$n, 'Some' } 1 .. 200; return 0 }
my $conn = Sys::Virt->new(uri => 'test:///default');
tie my $flags, 'Frees';
$st = $conn->new_stream;
$conn->get_domain_by_name('test')->screenshot($st, 0);
print Sys::Virt::Stream::recv($st, my $data, 10, $flags), " bytes\n";
print defined $st ? "a stream\n" : "no stream\n";
EOP

done_testing;
