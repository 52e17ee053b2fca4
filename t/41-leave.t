# A handler that leaves by exit, or by last, next or goto to a place outside.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

my $daemon = daemon();
my @slots = slots($daemon);

# Each gets a call to wrap in the loop or the label that its handler aims at,
# and the handler. The warnings are Perl's about leaving a sub that way.
my %jump = (
    'last' => sub {
        my ($call) = @_;
        my $rounds = 0;
        for (1, 2) { $rounds++; $call->(sub { last }) }
        return $rounds;
    },
    'last LABEL' => sub {
        my ($call) = @_;
        my $rounds = 0;
        OUT: for (1, 2) { $rounds++; $call->(sub { last OUT }) }
        return $rounds;
    },
    'next' => sub {
        my ($call) = @_;
        my $rounds = 0;
        for (1, 2) { $rounds++; $call->(sub { next }) }
        return $rounds;
    },
    'next LABEL' => sub {
        my ($call) = @_;
        my $rounds = 0;
        OUT: while ($rounds < 2) { $rounds++; $call->(sub { next OUT }) }
        return $rounds;
    },
    'redo' => sub {
        my ($call) = @_;
        my $rounds = 0;
        for (1) { die 'redone' if $rounds++; $call->(sub { redo }) }
        return $rounds;
    },
    'last from a loop in an eval' => sub {
        my ($call) = @_;
        my $rounds = 0;
        OUT: for (1) { $rounds++; $call->(sub { for (1, 2) { eval { last OUT } } die $@ }) }
        return $rounds;
    },
    'goto' => sub {
        my ($call) = @_;
        my $rounds = 0;
        $call->(sub { goto OUT });
        $rounds = 7;
        OUT: return $rounds;
    },
    'last of a bare block' => sub {
        my ($call) = @_;
        { $call->(sub { last }); return 0 }
        return 5;
    },
);
for my $slot (@slots) {
    subtest $slot->{name} => sub {
        for my $how (sort keys %jump) {
            my $st = $slot->{open}->();
            my ($calls, $after) = (0);
            my $error = error_of(sub {
                local $SIG{__WARN__} = sub { warn @_ if $_[0] !~ /^Exiting (?:subroutine|eval) via/ };
                $jump{$how}->(sub {
                    my ($handler) = @_;
                    $slot->{run}->($st, sub { $calls++; goto &$handler });
                    $after = 1;
                });
            });
            subtest $how => sub {
                like $error, qr/^(?:Label not found for "\w+ OUT"|Can't "\w+" outside a loop block|Can't find label OUT) at \S*41-leave\.t line \d+/,
                    'an ordinary exception';
                is $calls, 1, 'after one call';
                is $after, undef, 'nothing after the transfer runs';
                is_over($slot, $st, $daemon);
            };
        }
    };
}
ok $daemon->conn->get_library_version, 'the connection goes on';

# What stays inside is nobody's business.
subtest 'jumps that stay inside' => sub {
    for my $slot (grep { $_->{sink} } @slots) {
        my ($bytes, $st) = (0, $slot->{open}->());
        $slot->{run}->($st, sub {
            OUT: for (1 .. 3) { for (1, 2) { next OUT if $_ == 2 } last OUT }
            my $bare = 0;
            { $bare++; redo if $bare < 2 }
            goto HERE;
            return -1;
            HERE: $bytes += $_[2];
            @_ = ($_[2]);
            goto &took;
        });
        $st->finish;
        cmp_ok $bytes, '>', 1000, $slot->{name};
    }
};
sub took { return $_[0] }

# A program that exits in a handler of each slot, of its own connection.
my $exits = <<'CODE';
use strict; use warnings;
use lib 't/lib';
use StreamTest qw(Sys::Virt);
use StreamTest::Slots;
my ($uri, $pick, $how) = @ARGV;
my $conn;
END { print "end $?\n" }
package Some::Guard { sub new { bless [$_[1]], $_[0] } sub DESTROY { print "freed $_[0][0]\n" } }
{
    package Some::Daemon;    # the daemon of the parent, with its volumes
    sub volume { } sub adopt { } sub pool_dir { $ENV{STREAM_TEST_POOL} }
}
BEGIN { no warnings 'redefine'; *StreamTest::sparse_file = sub { } }
my ($slot) = grep { $_->{name} eq $pick } slots('Some::Daemon');
$| = 1;
$conn = Sys::Virt->new(uri => $slot->{local} ? 'test:///default' : $uri);
my $st = $slot->{open}->($conn);
my $held = Some::Guard->new('outer');
my %way = (
    plain => sub { exit 7 },
    zero => sub { exit },
    'in eval' => sub { eval { exit 7 }; print "not reached\n" },
    'in a loop' => sub { for (1) { my $inner = Some::Guard->new('inner'); exit 7 } },
    'in a sort' => sub { my @sorted = sort { exit 7 } 2, 1; print "not reached\n" },
    'in a destructor' => sub { undef $held; { my $exit = bless [], 'Some::Exit' } print "in\n"; exit 7 },
    'two levels' => sub {
        my ($local) = grep { $_->{local} } slots();
        eval { $local->{run}->($local->{open}->(), sub { exit 7 }) };
        print "not reached\n";
    },
    'die in END' => sub { eval 'END { print "first end $?\n"; $? = 9 } 1' or die $@; exit 7 },
);
sub Some::Exit::DESTROY { return }
eval {
    local $SIG{__DIE__} = sub { print "a die: $_[0]" };
    $slot->{run}->($st, $way{$how});
    1;
} or print "caught $@";
print "not reached\n";
CODE
# As a plain exit does it: what is in scope goes before the END blocks run.
my %told = (
    plain => [7, "freed outer\nend 7\n"],
    zero => [0, "freed outer\nend 0\n"],
    'in eval' => [7, "freed outer\nend 7\n"],
    'in a loop' => [7, "freed inner\nfreed outer\nend 7\n"],
    'in a sort' => [7, "freed outer\nend 7\n"],
    'in a destructor' => [7, "freed outer\nin\nend 7\n"],
    'two levels' => [7, "freed outer\nend 7\n"],
    'die in END' => [9, "freed outer\nfirst end 7\nend 9\n"],
);
sub exits {
    my ($slot, $how) = @_;
    my $got = run_perl($exits, args => [$daemon->uri, $slot->{name}, $how],
        env => { STREAM_TEST_POOL => $daemon->pool_dir });
    my ($status, $out) = @{ $told{$how} };
    is_deeply $got, { out => $out, err => '', status => $status, signal => 0, hang => 0 },
        "$slot->{name}: $how" or diag explain $got;
    ok within(60, sub { daemon_fds($daemon, $slot->{path}) == 0 }), 'the daemon has let go'
        if $slot->{path};
    return;
}
exits($_, 'plain') for grep { !$_->{local} } @slots;
{
    my ($down) = grep { $_->{name} eq 'recv_all' } @slots;
    exits($down, $_) for grep { $_ ne 'plain' } sort keys %told;
    exits((grep { $_->{local} } @slots), 'plain');
}

# Both implementations do the same.
subtest 'as in the C binding' => sub {
    my $program = <<'CODE';
use strict; use warnings; use Sys::Virt;
END { print "end $?\n" }
my $conn = Sys::Virt->new(uri => 'test:///default');
my $st = $conn->new_stream;
$conn->get_domain_by_name('test')->screenshot($st, 0);
$| = 1;
my $way = shift;
$st->recv_all($way eq 'exit' ? sub { exit 3 } : sub { die "at the top\n" });
CODE
    for my $way (qw(exit die)) {
        my ($rust, $c) = map { run_perl($program, args => [$way], env => { SYS_VIRT_STREAM => $_ }) } 'rust', 'c';
        is_deeply $rust, $c, $way;
    }
};

done_testing;
