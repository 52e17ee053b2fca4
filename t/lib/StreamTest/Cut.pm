package StreamTest::Cut;

# Transfers of virt-stream that are cut off at random points, and continued, until they are whole.

use strict;
use warnings;

use JSON::PP ();
use StreamTest ();
use StreamTest::Command;
use StreamTest::Files;
use StreamTest::Proxy;
use Test::More ();

my $MOST = 4 << 20;         # what may be sent again for a cut
my $CALLS = 128 << 10;      # what else is said on a connection, at most
my %CUT = (
    client     => sub { my ($self, $run) = @_; kill KILL => $run->pid },
    connection => sub { my ($self) = @_; $self->{proxy}->rule(moved => $self->{moved}) },
    daemon     => sub { my ($self) = @_; $self->{daemon}->kill; $self->{daemon}->launch; $self->{daemon}->pool },
);

sub new {
    my ($class, $daemon, $dir) = @_;
    my $self = bless { daemon => $daemon, dir => $dir, content => StreamTest::pattern(12 << 20), moved => "$dir/cut.moved" }, $class;
    $daemon->volume('source', undef, $self->{content});
    StreamTest::spew("$dir/file", $self->{content});
    $self->{proxy} = StreamTest::Proxy->start($daemon->socket);
    return $self;
}

sub content { return $_[0]{content} }
sub proxy   { return $_[0]{proxy} }

# What is moved, and what is cut.
sub ways { return map { my $what = $_; map { "$what, $_" } sort keys %CUT } qw(copy download upload) }

# So many rounds, each of one cut or more, until the transfer is whole. Returns the number of cuts,
# and how many bytes were sent again.
sub rounds {
    my ($self, $way, $rounds) = @_;
    my ($what, $cut) = split /, /, $way;
    my ($dir, $whole) = ($self->{dir}, StreamTest::sha($self->{content}));
    my $side = $what eq 'download' ? 'server' : 'client';
    my $proxy = $self->{proxy};
    my ($all, $again) = (0, 0);
    for my $round (1 .. $rounds) {
        unlink glob "$dir/cut*";
        $self->{daemon}->volume('cut', length $self->{content}) if $what ne 'download';
        my @command = $what eq 'download' ? ('streams/source', "$dir/cut")
            : $what eq 'upload' ? ("$dir/file", 'streams/cut') : qw(streams/source streams/cut);
        my ($cuts, $tries, $wrong, $ended, $got) = (0, 0, 0, 0);
        for my $try (1 .. 20) {
            $tries = $try;
            $proxy->rule(moved => $self->{moved});
            # The first is begun without a thought of being cut off.
            my @continue = $try > 1 ? '--continue' : ();
            my @keep = $what eq 'download' && $cut ne 'client' ? '--continue' : @continue;
            my $last = $try > 3;
            # The proxy is one process, which two connections of one program would stall.
            my @from = $what eq 'copy' ? ('--from', $self->{daemon}->uri) : ();
            my $run = StreamTest::Command->start(['-c', $self->{daemon}->uri($self->{proxy}->socket), @from, '--progress', 'json',
                $last ? () : qw(--limit 16M), @keep, $what, @command]);
            my $until = $proxy->moved($side) + int rand length($self->{content}) / 3;
            if (!$last && StreamTest::within(60, sub { $ended = $run->reap; $ended || $proxy->moved($side) > $until }) && !$ended) {
                $CUT{$cut}->($self, $run);
                $cuts++;
            }
            $got = $run->end;
            $wrong += grep { !/\Avirt-stream: \S/ && !eval { JSON::PP::decode_json($_) } } split /\n/, $got->{err};
            last if $got->{status} == 0 && $got->{signal} == 0;
        }
        Test::More::is("$got->{status} $got->{signal}", '0 0', "$way, round $round: it ends after $cuts cuts") or Test::More::diag($got->{err});
        my $file = $what eq 'download' ? "$dir/cut" : volume_path('cut');
        Test::More::is(StreamTest::sha_file($file), $whole, '... and is whole');
        Test::More::is($wrong, 0, '... each line that was said is one of progress, or an error');
        my $more = $proxy->moved($side) - length $self->{content};
        Test::More::cmp_ok($more, '<=', $cuts * $MOST + $tries * $CALLS, '... and little of it was sent again');
        $all += $cuts;
        $again += $more;
    }
    return ($all, $again);
}

1;
