# virt-stream upload: the volume is made, grown, or refused; digests, and what is read back.
use strict;
use warnings;

use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;
use StreamTest::Files;

plan skip_all => 'the C binding has no whole files' unless rust();

my $daemon = daemon();
my $dir = scratch();
my $pool = $daemon->pool;
my $content = pattern(300_001);
my $file = spew("$dir/file", $content);

sub command { my ($arguments, %opt) = @_; return StreamTest::Command->run(['-c', $daemon->uri, @$arguments], %opt) }

sub silent {
    my ($name, $arguments, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got = command($arguments, %opt);
    is_deeply $got, { out => '', err => '', status => 0, signal => 0, hang => 0 }, $name or diag explain $got;
    return;
}

sub fails {
    my ($name, $arguments, $says, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got = command($arguments, %opt);
    like $got->{err}, qr/\Avirt-stream: [^\n]*$says[^\n]*\n\z/, $name;
    is_deeply [@$got{qw(out status hang)}], ['', 1, 0], '... status 1';
    return;
}

# What libvirt says of a volume.
sub about {
    my ($name) = @_;
    my $xml = $pool->get_volume_by_name($name)->get_xml_description;
    my ($capacity, $format) = $xml =~ m{<capacity unit='bytes'>(\d+)<.*<format type='(\w+)'}s;
    return "$format, $capacity";
}

sub there { my ($name) = @_; return eval { $pool->get_volume_by_name($name); 1 } || -e volume_path($name) ? 1 : 0 }

subtest 'create' => sub {
    silent('a raw image', ['upload', '--create', $file, 'streams/made']);
    is about('made'), 'raw, 300001', '... its size';
    is sha_file(volume_path('made')), sha($content), '... the content';
    fails('a second time', ['upload', '--create', $file, 'streams/made'], 'there is a volume streams/made already');
    silent('a name in a pool, at an offset', [qw(upload --pool streams --offset 1k --length 1000 --create), $file, 'a <b> & c']);
    is about('a <b> & c'), 'raw, 2024', '... its size';
    is slurp(volume_path('a <b> & c')), "\0" x 1024 . substr($content, 0, 1000), '... the content';

    my $image = qcow2("$dir/image", 5 * 2**30);
    silent('a qcow2 image', ['upload', '--create', $image, 'streams/image']);
    is about('image'), 'qcow2, ' . (5 * 2**30), '... its disk\'s size';
    is sha_file(volume_path('image')), sha_file($image), '... the content';
    fails('qcow2 that is none', ['upload', '--create', '--format', 'qcow2', $file, 'streams/none'], 'cannot make a qcow2 volume: \S+ is no qcow2 image');
    fails('a pipe', [qw(upload --create - streams/none)], 'how long standard input is is not known', in => do { pipe my $in, my $out or die $!; $in });
    silent('an empty file', ['upload', '--create', spew("$dir/empty", ''), 'streams/empty']);
    is about('empty'), 'raw, 0', '... its size';
    ok !there('none'), 'what is refused is not made';
};

subtest 'create: holes and allocation' => sub {
    plan skip_all => 'no holes in this file system' unless keeps_holes($dir);
    my $holes = sparse_file("$dir/holes", hole => 4 << 20, data => 65_536, hole => 4 << 20);
    silent('thin', ['upload', '--create', $holes, 'streams/thin']);
    is sha_file(volume_path('thin')), sha_file($holes), '... the content';
    same_extents(volume_path('thin'), $holes, '... the same holes');
    is about('thin'), 'raw, ' . (-s $holes), '... its size';
    silent('allocated', ['upload', '--create', '--allocation', '1M', $holes, 'streams/allocated']);
    is sha_file(volume_path('allocated')), sha_file($holes), '... the content';
    silent('--no-sparse', ['upload', '--create', '--no-sparse', $holes, 'streams/thick']);
    cmp_ok blocks(volume_path('thick')) * 512, '>=', -s $holes, '... takes all of its space';
};

subtest 'create: a failure leaves nothing' => sub {
    # More than the limit on the length of the daemon's files would do; here it is the source that ends it.
    my $run = StreamTest::Command->start(['-c', $daemon->uri, '--limit', '1M', 'upload', '--create', spew("$dir/long", 'x' x (8 << 20)), 'streams/failed']);
    ok within(60, sub { there('failed') }), 'it is made';
    truncate "$dir/long", 100_000;
    my $got = $run->end;
    like $got->{err}, qr{\Avirt-stream: \Q$dir\E/long has ended after \d+ of 8388608 bytes\n\z}, 'the file is cut short';
    ok !there('failed'), '... it is gone';

    spew("$dir/long", 'x' x (8 << 20));
    $run = StreamTest::Command->start(['-c', $daemon->uri, '--limit', '1M', 'upload', '--create', "$dir/long", 'streams/failed']);
    ok within(60, sub { there('failed') && -s volume_path('failed') }), 'another';
    Time::HiRes::sleep(0.5);
    kill TERM => $run->pid;
    is $run->end->{signal}, 15, '... is interrupted';
    ok !there('failed'), '... and gone';
};

subtest 'what does not fit' => sub {
    $daemon->volume('small', undef, "\xff" x 1000);
    fails('is refused', ['upload', $file, 'streams/small'],
        '\S+/file does not fit into streams/small: it takes 293 KiB \(300001 bytes\) of 1.0 KiB \(1000 bytes\); --resize makes the volume larger');
    is slurp(volume_path('small')), "\xff" x 1000, '... before a byte is sent';
    fails('at an offset', [qw(upload --length 10 --offset 991), $file, 'streams/small'], 'does not fit');
    silent('to the last byte', [qw(upload --length 10 --offset 990), $file, 'streams/small']);
    SKIP: {
        skip 'libvirtd 11.3 itself spins or crashes', 2 unless $daemon->bears_failed_uploads;
        pipe my $in, my $out or die "pipe: $!";
        my $run = StreamTest::Command->start(['-c', $daemon->uri, qw(upload - streams/small)], in => $in);
        close $in;
        { local $SIG{PIPE} = 'IGNORE'; print {$out} $content; close $out }
        my $got = $run->end;
        like $got->{err}, qr/\Avirt-stream: cannot upload to streams\/small: [^\n]+\n\z/, 'from a pipe';
        is -s volume_path('small'), 1000, '... it does not grow';
    }
    silent('--resize', ['upload', '--resize', $file, 'streams/small']);
    is sha_file(volume_path('small')), sha($content), '... the content';
    is about('small'), 'raw, 300001', '... the size';
    silent('--resize where that is not needed', ['upload', '--resize', spew("$dir/short", 'short'), 'streams/small']);
    is about('small'), 'raw, 300001', '... leaves the size';
    SKIP: {
        skip 'no qemu-img here', 3 unless StreamTest::find_program('qemu-img');
        $pool->create_volume("<volume><name>disk</name><capacity>1048576</capacity><target><format type='qcow2'/></target></volume>");
        fails('a larger image', ['upload', qcow2("$dir/image", 2 << 20), 'streams/disk'], 'does not fit');
        silent('an image of the same size', ['upload', qcow2("$dir/image", 1 << 20), 'streams/disk']);
    }
};

subtest 'digests' => sub {
    my $sum = sha($content) . "  ";
    $daemon->volume('source', undef, $content);
    is_deeply command(['download', '--digest', 'sha256', 'streams/source', "$dir/down"]),
        { out => "$sum$dir/down\n", err => '', status => 0, signal => 0, hang => 0 }, 'download';
    is_deeply command([qw(download --digest=sha256 streams/source -)]),
        { out => $content, err => "$sum-\n", status => 0, signal => 0, hang => 0 }, 'to standard output';
    $daemon->volume('target', length $content);
    is command(['upload', '--digest=sha256', $file, 'streams/target'])->{out}, "$sum$file\n", 'upload';
    fails('another', [qw(download --digest md5 streams/source -)], "--digest is sha256, not 'md5'");

    silent('download --verify', ['download', '--verify', 'streams/source', "$dir/down"]);
    silent('upload --verify', ['upload', '--verify', $file, 'streams/target']);
    # Something else comes to stand there: a module that has the digest of what was sent wrong.
    spew("$dir/Wrong.pm", <<'EOP');
package Wrong;
use Sys::Virt; use Sys::Virt::Stream;
no warnings 'redefine';
my $calls = 0;
for my $name (qw(recv_file send_file)) {
    no strict 'refs';
    my $was = \&{"Sys::Virt::Stream::$name"};
    *{"Sys::Virt::Stream::$name"} = sub ($$@) { my $got = &$was; $got->{digest} =~ tr/0-9/a-j/ unless $calls++; return $got };
}
1;
EOP
    my %wrong = (env => { PERL5OPT => "-I$dir -MWrong" });
    fails('download', ['download', '--verify', 'streams/source', "$dir/down"], 'does not hold what was sent', %wrong);
    fails('upload', ['upload', '--verify', $file, 'streams/target'], 'streams/target does not hold what was sent', %wrong);
    fails('what can\'t be read back', [qw(download --verify streams/source -)], '--verify needs a file, and - is none');
};

done_testing;
