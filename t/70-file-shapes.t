# Files of every shape, by recv_file and send_file: down and up, plain and sparse, the
# content by digest, the holes by extents.
use strict;
use warnings;

use Config ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Files;

plan skip_all => 'the C binding has no such methods' unless rust();
use constant { KIB => 1 << 10, MIB => 1 << 20, GIB => 1 << 30 };

my $daemon = daemon();
my $dir = scratch();
my $keeps = keeps_holes($dir) && keeps_holes($daemon->pool_dir);
note 'no holes in this file system' unless $keeps;

my %shape = (
    'empty' => [],
    'one byte' => [data => 1],
    'hole first' => [hole => 5 * MIB, data => MIB],
    'hole last' => [data => MIB, hole => 5 * MIB],
    'all hole' => [hole => 16 * MIB],
    'holes around data' => [hole => MIB, data => 64 * KIB, hole => 3 * MIB, data => 2 * MIB, hole => MIB],
    'not a multiple of anything' => [data => 1_000_003, hole => 777_777, data => 99_991, hole => 13],
    'a block and a packet' => [data => 262_144 + 262_120],
);

# What comes back is the file; sparse, it takes no more space.
sub same {
    my ($made, $from, $sparse, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is -s $made, -s $from, "$name: the size";
    is sha_file($made), sha_file($from), "$name: the content";
    same_extents($made, $from, "$name: the same blocks") if $sparse && $keeps;
    return;
}

for my $name (sort keys %shape) {
    subtest $name => sub {
        my @sections = @{ $shape{$name} };
        my $source = sparse_file("$dir/source", @sections);
        my ($size, $holes) = (-s $source, 0);
        if ($keeps) {
            $holes = $size;
            $holes -= $_->[1] - $_->[0] for @{ extents($source) };
        }
        for my $sparse (0, 1) {
            my $kind = $sparse ? 'sparse' : 'plain';
            # A plain upload needs a volume of that size.
            $daemon->volume('volume', $sparse ? 0 : $size);
            my $got = upload('volume', sparse => $sparse)->send_file($source, sparse => $sparse);
            counts($got, $size, $sparse ? $holes : 0, "$kind up: what it returns");
            same(volume_path('volume'), $source, $sparse, "$kind up");

            $daemon->pool->refresh;
            my $target = "$dir/target";
            $got = download('volume', sparse => $sparse)->recv_file($target, sparse => $sparse);
            counts($got, $size, $sparse ? $holes : 0, "$kind down: what it returns");
            same($target, $source, $sparse, "$kind down");
            unlink $target;
        }
    };
}

# A hole every 8 KiB. A daemon takes its time for each, so a million is for who asks.
subtest 'many small holes' => sub {
    plan skip_all => 'no holes in this file system' unless $keeps;
    my $count = $ENV{SYS_VIRT_STREAM_TEST_LONG} ? 1_000_000 : 20_000;
    deadline(3600) if $ENV{SYS_VIRT_STREAM_TEST_LONG};
    my $source = "$dir/many";
    open my $out, '>:raw', $source or die "cannot write $source: $!";
    for my $n (0 .. $count - 1) {
        sysseek $out, $n * 8 * KIB, 0;
        syswrite $out, pack('N', $n + 1) x KIB;
    }
    truncate $out, $count * 8 * KIB or die "cannot extend $source: $!";
    close $out or die "cannot write $source: $!";

    my $extents = extents($source);
    plan skip_all => 'such small holes are none in this file system' unless @$extents == $count;
    $daemon->volume('many', 0);
    my $got = upload('many', sparse => 1)->send_file($source, sparse => 1);
    counts($got, $count * 8 * KIB, $count * 4 * KIB, 'up: what it returns');
    same(volume_path('many'), $source, 1, 'up');
    $daemon->pool->refresh;
    my $target = "$dir/target";
    $got = download('many', sparse => 1)->recv_file($target, sparse => 1);
    counts($got, $count * 8 * KIB, $count * 4 * KIB, 'down: what it returns');
    same($target, $source, 1, 'down');
    unlink $target, $source, volume_path('many');
};

subtest 'larger than 4 GiB' => sub {
    plan skip_all => 'no holes in this file system' unless $keeps;
    # 9.0; the C binding's, too.
    plan skip_all => 'a libvirt of 32 bits makes a smaller hole of it' if $Config::Config{ptrsize} < 8;
    my @sections = (data => MIB, hole => 5 * GIB, data => MIB + 5, hole => 100 * KIB);
    my $source = sparse_file("$dir/large", @sections);
    my $size = -s $source;
    $daemon->volume('large', 0);
    my $got = upload('large', sparse => 1)->send_file($source, sparse => 1);
    is $got->{bytes}, $size, 'up: the bytes';
    is -s volume_path('large'), $size, 'the size';
    same_extents(volume_path('large'), $source, 'the same blocks');
    $daemon->pool->refresh;
    $got = download('large', sparse => 1)->recv_file("$dir/target", sparse => 1);
    is $got->{bytes}, $size, 'down: the bytes';
    same_extents("$dir/target", $source, 'the same blocks');
    # The data by itself: digests of gigabytes of zeros take their time.
    for my $at (0, MIB + 5 * GIB) {
        my @read = map {
            open my $in, '<:raw', $_ or die "cannot read $_: $!";
            seek $in, $at, 0;
            read $in, my $data, MIB + 5;
            sha($data);
        } $source, volume_path('large'), "$dir/target";
        is $read[1], $read[0], "up: the data at $at";
        is $read[2], $read[0], "down: the data at $at";
    }
    unlink "$dir/target", $source, volume_path('large');
};

subtest 'a local stream' => sub {
    my ($conn, $target) = (connect_test(), "$dir/screen");
    my $st = $conn->new_stream;
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    counts($st->recv_file($target), 33_443, 0, 'what it returns');
    my $whole = '';
    my $again = $conn->new_stream;
    $conn->get_domain_by_name('test')->screenshot($again, 0);
    $again->recv_all(sub { $whole .= $_[1]; $_[2] });
    is sha_file($target), sha($whole), 'the content';
    is error_of(sub { $st->finish }), undef, 'a finish after it is harmless';
};

done_testing;
