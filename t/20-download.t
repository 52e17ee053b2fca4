# Volumes to this program, through a daemon.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

my $daemon = daemon();
my $conn = $daemon->conn;
my $content = pattern((3 << 20) + 12_345);
my $volume = $daemon->volume('down', undef, $content);
my $sha = sha($content);

sub opened {
    my ($flags, @range) = @_;
    my $st = $conn->new_stream($flags);
    $volume->download($st, @range ? @range : (0, 0));
    return $st;
}

for my $nbytes (1000, 1024, 262_120, 1 << 24) {
    my $st = opened(0);
    my ($all, $largest) = ('', 0);
    while (my $count = $st->recv(my $data, $nbytes)) {
        die "count $count, length " . length $data if $count != length $data;
        $largest = $count if $count > $largest;
        $all .= $data;
    }
    is_deeply [$st->finish], [], 'finish';
    is sha($all), $sha, "recv by $nbytes";
    cmp_ok $largest, '<=', $nbytes, 'never more than was asked';
}

subtest 'one variable for all' => sub {
    my $st = opened(0);
    my ($all, $data) = ('', 'longer than nothing');
    while ($st->recv($data, 100_000) > 0) { $all .= $data }
    $st->finish;
    is sha($all), $sha, 'the content';
    isnt length $data, 0, 'the last piece stays in the variable';
};

# Whatever was received ahead of small calls is not seen anywhere.
subtest 'small calls among others' => sub {
    my $st = opened(0);
    my ($all, $short) = ('', 0);
    for my $nbytes ((1, 7, 1000, 2048, 3, 100_000, 0) x 3) {
        my $count = $st->recv(my $data, $nbytes);
        $all .= substr $data, 0, $count if $count;
        $short++ if $nbytes <= 2048 && $count < $nbytes;
    }
    is $short, 0, 'small ones get what they ask for';
    my @back = $st->recv_all(sub { $all .= $_[1]; $_[2] });
    is_deeply \@back, [], 'recv_all takes up where they stopped';
    is $st->recv(my $data, 10), 0, 'and leaves nothing';
    $st->finish;
    is sha($all), $sha, 'the content';

    for my $end (qw(finish abort)) {
        $st = opened(0);
        $st->recv($data, 10);
        is_deeply [$st->$end], [], "$end, long before the end";
        isa_ok error_of(sub { $st->recv($data, 10) }), 'Sys::Virt::Error', 'a recv after it';
    }
};

# The same object may serve again.
subtest 'a second volume' => sub {
    my $st = opened(0);
    for my $turn (1 .. 3) {
        my $all = '';
        while ($st->recv(my $data, 1000)) { $all .= $data }
        $st->finish;
        is sha($all), $sha, "turn $turn";
        $volume->download($st, 0, 0);
        $st->recv(my $data, 10);
        is $data, substr($content, 0, 10), 'opened again, it begins at the beginning';
        $st->abort;
        $volume->download($st, 0, 0);
    }
    $st->abort;
};

subtest 'recv_all' => sub {
    my $st = opened(0);
    my ($all, $largest) = ('', 0);
    $st->recv_all(sub {
        my ($self, $data, $nbytes) = @_;
        $largest = $nbytes if $nbytes > $largest;
        $all .= $data;
        return $nbytes;
    });
    $st->finish;
    is sha($all), $sha, 'the content';
    cmp_ok $largest, '<=', 262_120, 'pieces of at most 262,120 bytes';
    cmp_ok $largest, '>', 65_536, 'but large ones';
};

subtest 'a sink that takes a part' => sub {
    my $st = opened(0, 0, 600_000);
    my ($all, $expect, $odd) = ('', undef, 0);
    $st->recv_all(sub {
        my ($self, $data, $nbytes) = @_;
        # What was not taken comes again, and nothing else.
        $odd++ if defined $expect && $data ne $expect;
        my $take = $nbytes > 50_000 ? 50_000 : $nbytes;
        $expect = $take < $nbytes ? substr $data, $take : undef;
        $all .= substr $data, 0, $take;
        return $take;
    });
    $st->finish;
    is $odd, 0, 'is called again with the rest';
    is sha($all), sha(substr $content, 0, 600_000), 'the content';
};

subtest 'a range' => sub {
    my $st = opened(0, 1_000_000, 500_001);
    my $all = '';
    $st->recv_all(sub { $all .= $_[1]; $_[2] });
    $st->finish;
    is sha($all), sha(substr $content, 1_000_000, 500_001), 'the content';
};

subtest 'an empty volume' => sub {
    my $empty = $daemon->volume('empty', 0);
    my $called = 0;
    my $st = $conn->new_stream;
    $empty->download($st, 0, 0);
    $st->recv_all(sub { $called++; $_[2] });
    $st->finish;
    is $called, 0, 'never calls the handler';
};

subtest 'non-blocking' => sub {
    my $st = opened(Sys::Virt::Stream::NONBLOCK);
    my ($all, $waits) = ('', 0);
    my $data = 'as it was';
    my $done = within(120, sub {
        my $count = $st->recv($data, 65_536);
        if ($count == -2) {
            $waits++;
            is $data, 'as it was', 'the variable is left alone' if $waits == 1;
            # Nothing else reads from the connection here.
            $conn->is_alive;
            $conn->get_library_version;
            return 0;
        }
        $all .= $data if $count > 0;
        return $count == 0;
    });
    ok $done, 'came to its end';
    cmp_ok $waits, '>', 0, 'would have blocked at first';
    is_deeply [$st->finish], [], 'finish';
    is sha($all), $sha, 'the content';
};

subtest 'two at a time on one connection' => sub {
    my %one = map { $_ => { st => opened(0), all => '' } } 1, 2;
    my @open = values %one;
    while (@open) {
        for my $one (@open) {
            my $count = $one->{st}->recv(my $data, 50_000);
            $count ? $one->{all} .= $data : ($one->{end} = 1);
        }
        @open = grep { !$_->{end} } @open;
    }
    $_->{st}->finish for values %one;
    is sha($one{$_}{all}), $sha, "stream $_" for sort keys %one;
};

subtest 'an abort half way' => sub {
    my $st = opened(0);
    $st->recv(my $data, 1000);
    is_deeply [$st->abort], [], 'returns nothing';
    ok error_of(sub { $st->recv($data, 1000) }), 'nothing comes after it';
    ok $conn->get_library_version, 'the connection goes on';
};

subtest 'a stream that reads cannot be written' => sub {
    my $st = opened(0);
    my $error = error_of(sub { $st->send('x' x 10, 10); $st->finish });
    isa_ok $error, 'Sys::Virt::Error';
};

done_testing;
