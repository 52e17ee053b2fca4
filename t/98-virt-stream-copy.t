# virt-stream copy: from volume to volume, and from daemon to daemon.
use strict;
use warnings;

use Config;
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;
use StreamTest::Files;

plan skip_all => 'the C binding has no whole files' unless rust();

my $daemon = daemon();
my $uri = $daemon->uri;
my $dir = scratch();
my $content = pattern(3_000_001);
$daemon->volume('source', undef, $content);
my $silent = { out => '', err => '', status => 0, signal => 0, hang => 0 };

# A second pool of the daemon.
mkdir "$dir/more" or die "mkdir: $!";
chmod 0755, $dir;
$daemon->own("$dir/more", 0700);
my $more = $daemon->conn->define_storage_pool("<pool type='dir'><name>more</name><target><path>$dir/more</path></target></pool>");
$more->create;

sub command { my ($arguments, %opt) = @_; return StreamTest::Command->run(['-c', $uri, 'copy', @$arguments], %opt) }

$daemon->volume('target', 4 << 20);
is_deeply command([qw(streams/source streams/target)]), $silent, 'over a volume';
is sha(slurp(volume_path('target'))), sha($content . "\0" x ((4 << 20) - length $content)), '... the content';
is_deeply command([qw(--create --verify streams/source more/copy)]), $silent, 'to one that is made, in another pool';
is sha_file("$dir/more/copy"), sha($content), '... the content';
is $more->get_volume_by_name('copy')->get_info->{capacity}, length $content, '... its size';
is_deeply command(['--from', $uri, '--to', $uri, '--pool', 'streams', '--create', '--digest', 'sha256', 'source', 'again']),
    { %$silent, out => sha($content) . "  source\n" }, 'from address to address';
is sha_file(volume_path('again')), sha($content), '... the content';

$daemon->volume('small', 1000);
my $got = command([qw(streams/source streams/small)]);
like $got->{err}, qr{\Avirt-stream: streams/source does not fit into streams/small: [^\n]+\n\z}, 'into one that is too small';
is_deeply command([qw(--resize streams/source streams/small)]), $silent, '... which grows';
is sha_file(volume_path('small')), sha($content), '... the content';
$got = command([qw(--to nosuch:///x streams/source streams/small)]);
like $got->{err}, qr{\Avirt-stream: cannot connect to nosuch:///x: [^\n]+\n\z}, 'to nowhere';
is command([@$_])->{status}, 1, "@$_" for [qw(streams/none streams/small)], [qw(streams/source streams/none)];
is command([qw(--offset 1 a b)])->{status}, 2, 'it has no offset';

subtest 'holes' => sub {
    plan skip_all => 'no holes in this file system' unless keeps_holes($dir);
    # A daemon of 32 bits counts bytes in 32 bits, and fails with more than 2 GiB.
    my $large = $Config{ptrsize} == 4 ? 1 << 29 : 5 << 30;
    my @holes = (hole => $large, data => 65_536, hole => 1 << 20, data => 4096, hole => $large);
    sparse_file(volume_path('thin'), @holes);
    $daemon->adopt('thin');
    my $got = command([qw(--create --progress json streams/thin streams/thinner)], out => "$dir/out");
    is $got->{status}, 0, 'some GiB of them' or diag explain $got;
    same_extents(volume_path('thinner'), volume_path('thin'), '... stay where they are');
    is -s volume_path('thinner'), -s volume_path('thin'), '... the size';
    unlink map { volume_path($_) } qw(thin thinner);
};

subtest 'what fails leaves nothing' => sub {
    $daemon->volume('large', 8 << 20);
    my $run = StreamTest::Command->start(['-c', $uri, qw(copy --create --no-sparse --limit 1M streams/large more/failed)]);
    ok within(60, sub { eval { $more->get_volume_by_name('failed') } }), 'it is made';
    Time::HiRes::sleep(0.5);
    kill INT => $run->pid;
    is $run->end->{signal}, 2, 'and interrupted';
    ok !-e "$dir/more/failed", '... gone';
};

done_testing;
