# From one stream to another, with no file in between.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Files;

plan skip_all => 'the C binding has no such methods' unless rust();

$SIG{PIPE} = 'IGNORE';
my $daemon = daemon();
my $dir = scratch();
my $content = pattern(3_000_001);
my $sha = sha($content);
$daemon->volume('source', undef, $content);
my $path = volume_path('up');
my $other;    # another connection: what comes over one waits while the other is written to
sub other { return $other ||= Sys::Virt->new(uri => $daemon->uri) }
sub up { $daemon->volume('up', $_[0] // length $content); return upload('up', conn => other(), @_[1 .. $#_]) }

my %way = (
    send_file => sub { my ($from, $to, @options) = @_; return $to->send_file($from, @options) },
    recv_file => sub { my ($from, $to, @options) = @_; return $from->recv_file($to, @options) },
);
for my $call (sort keys %way) {
    my $copy = $way{$call};
    subtest $call => sub {
        my ($from, $to) = (download('source'), up());
        my @told;
        my $got = $copy->($from, $to, digest => 'sha256', progress => sub { @told = @_ });
        is delete $got->{digest}, $sha, 'the digest';
        counts($got, length $content, 0, 'all of it');
        is_deeply \@told, [length $content, 0, undef], 'and it is told';
        is sha_file($path), $sha, 'the content';
        is error_of(sub { $_->finish }), undef, 'both are finished' for $from, $to;

        counts($copy->(download('source'), up(), length => 70_000), 70_000, 0, 'a length');
        is sha(substr slurp($path), 0, 70_000), sha(substr $content, 0, 70_000), 'the content';
        error_is(sub { $copy->(download('source'), up(), length => 4_000_000) },
            { message => "$call failed: the stream has ended after 3000001 of 4000000 bytes" }, 'a length that is not there');

        my $head;
        $from = download('source');
        $from->recv($head, 100);
        counts($copy->($from, up()), length($content) - 100, 0, 'what was received ahead comes first');
        is sha(substr slurp($path), 0, length($content) - 100), sha(substr $content, 100), 'the content';
    };

    subtest "$call: holes" => sub {
        plan skip_all => 'no holes in this file system' unless keeps_holes($dir);
        my $holes = sparse_file(volume_path('holes'), hole => 20 << 20, data => 65_536, hole => 1 << 20, data => 4096, hole => 3 << 20);
        $daemon->adopt('holes');
        my $size = -s $holes;
        my $digest = sha_file($holes);
        my $got = $copy->(download('holes', sparse => 1), up($size, sparse => 1), sparse => 1, digest => 'sha256');
        is delete $got->{digest}, $digest, 'the digest';
        counts($got, $size, (24 << 20), 'stay holes');
        is sha_file($path), $digest, 'the content';
        same_extents($path, $holes, 'the same places');
        counts($copy->(download('holes', sparse => 1), up($size)), $size, 0, 'or become zeroes');
        is sha_file($path), $digest, 'the content';
        spew(volume_path('zeroes'), slurp($holes));
        $daemon->adopt('zeroes');
        counts($copy->(download('zeroes'), up($size, sparse => 1), sparse => 1, detect_zeroes => 1), $size, (24 << 20), 'zeroes become holes');
        same_extents($path, $holes, 'the same places');
    };
}

subtest 'refused' => sub {
    my ($from, $to) = (download('source'), up());
    for (['recv_file', $from, $to], ['send_file', $to, $from]) {
        my ($call, $one, $two) = @$_;
        like error_of(sub { $one->$call($one) }), qr/^$call: a stream has no use of itself at /, "$call: itself";
        like error_of(sub { $one->$call($two, offset => 0) }), qr/^$call: a stream has no offset at /, "$call: an offset";
        error_is(sub { $one->$call($daemon->conn->new_stream(1)) },
            { message => "Requested operation is not valid: $call cannot be used for non-blocking streams" }, "$call: one that does not block");
    }
    for my $option (qw(replace sync)) {
        like error_of(sub { $from->recv_file($to, $option => 1) }), qr/^recv_file: a stream has no $option at /, $option;
    }
    counts($from->recv_file($to), length $content, 0, 'and both are as they were');
    is sha_file($path), $sha, 'the content';
};

subtest 'failures end both' => sub {
    my ($from, $to) = (download('source'), up());
    is error_of(sub { $to->send_file($from, progress => sub { die "mine\n" }) }), "mine\n", 'die in progress';
    ok error_of(sub { $from->recv(my $data, 1) }), '... the source is over' ;
    ok error_of(sub { $to->send('x', 1) }), '... and the target';
    $from = download('source');
    isa_ok error_of(sub { $from->recv_file(other()->new_stream) }), 'Sys::Virt::Error', 'a target that is not open';
    $to = up();
    isa_ok error_of(sub { $daemon->conn->new_stream->recv_file($to) }), 'Sys::Virt::Error', 'a source that is not open';
    ok error_of(sub { $to->send('x', 1) }), '... the target is over';
    # Two streams of one connection.
    counts(download('source')->recv_file(upload('up')), length $content, 0, 'on one connection');
    ($from, $to) = (download('source', conn => Sys::Virt->new(uri => $daemon->uri)), up());
    my $error = while_paused(sub { $from->recv_file($to) }, sub { kill KILL => $daemon->pid });
    isa_ok $error, 'Sys::Virt::Error', 'the daemon is killed';
    undef $other;
    $daemon->kill;
    $daemon->launch;
};

done_testing;
