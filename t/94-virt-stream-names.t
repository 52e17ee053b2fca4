# What virt-stream's volumes and domains may be called, the part of them that is asked for, and holes.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;
use StreamTest::Files;

plan skip_all => 'the C binding has no whole files' unless rust();

my $daemon = daemon();
my $uri = $daemon->uri;
my $dir = scratch();
my $KIB = 1024;
my $content = pattern(300_001);
my $source = $daemon->volume('source', undef, $content);
my $volume = $daemon->pool_dir . '/target';

sub command { my ($arguments, %opt) = @_; return StreamTest::Command->run(['-c', $uri, @$arguments], %opt) }

sub silent {
    my ($name, $arguments, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got = command($arguments, %opt);
    is_deeply $got, { out => '', err => '', status => 0, signal => 0, hang => 0 }, $name or diag explain $got;
    return;
}

subtest 'volumes' => sub {
    my $uuid = $daemon->pool->get_uuid_string;
    for (['streams/source'], [$daemon->pool_dir . '/source'], [$source->get_key], ["$uuid/source"], [qw(--pool streams source)],
        ['--pool', $uuid, 'source'], [qw(--pool=streams -- source)]) {
        my @name = @$_;
        unlink "$dir/down";
        silent("@name", ['download', @name, "$dir/down"]);
        is sha_file("$dir/down"), sha($content), '... the content';
    }
    chdir $dir or die "chdir: $!";
    silent('a file whose name begins like an option', [qw(download streams/source -- -file)]);
    is sha_file("$dir/-file"), sha($content), '... the content';
    chdir '/';
    $daemon->volume('target', length $content);
    silent('upload', ['upload', '--pool', 'streams', "$dir/down", 'target']);
    is sha_file($volume), sha($content), '... the content';
    my $got = command([qw(--pool streams download nosuch -)]);
    like $got->{err}, qr/\Avirt-stream: no volume 'nosuch' in pool 'streams'; there are source, target; what is new there is seen after virsh pool-refresh streams\n\z/,
        'an unknown one';
};

subtest 'a part' => sub {
    my $end = length $content;
    for ([100, 1000], [70_000, undef], [undef, 5], [$end - 10, 500], [$end - 10, undef], [0, 0]) {
        my ($offset, $length) = @$_;
        my @part = ((defined $offset ? ('--offset', $offset) : ()), (defined $length ? ('--length', $length) : ()));
        for my $sparse ('--sparse', '--no-sparse') {
            silent("download @part $sparse", ['download', @part, $sparse, 'streams/source', "$dir/part"]);
            is sha_file("$dir/part"), sha(substr $content, $offset // 0, $length || $end), '... the content';
        }
        my $old = "\xff" x 700_000;
        spew("$dir/from", $content);
        for my $in ("$dir/from", '-') {
            spew($volume, $old);
            $daemon->pool->refresh;
            silent("upload @part", ['upload', @part, $in, 'streams/target'], in => "$dir/from");
            my $want = $old;
            my $piece = substr $content, 0, $length || $end;
            substr $want, $offset // 0, length $piece, $piece;
            is sha_file($volume), sha($want), '... the content';
        }
    }
    silent('a unit', [qw(download --offset 1k --length 2KB streams/source), "$dir/part"]);
    is sha_file("$dir/part"), sha(substr $content, 1024, 2000), '... the content';
    for my $wrong (qw(x -1 1.5 1X 10000P)) {
        my $got = command([qw(download), "--length=$wrong", 'streams/source', '-']);
        like $got->{err}, qr/\Avirt-stream: --length [^\n]*\Q$wrong\E[^\n]*\n\z/, "no size: $wrong";
        is $got->{status}, 1, '... status 1';
    }
};

subtest 'holes are kept unless told otherwise' => sub {
    plan skip_all => 'no holes in this file system' unless keeps_holes($dir);
    my $file = sparse_file("$dir/holes", hole => 2048 * $KIB, data => 64 * $KIB, hole => 1024 * $KIB, data => 4 * $KIB, hole => 512 * $KIB);
    my $sha = sha_file($file);
    sparse_file($daemon->pool_dir . '/holes', hole => 2048 * $KIB, data => 64 * $KIB, hole => 1024 * $KIB, data => 4 * $KIB, hole => 512 * $KIB);
    $daemon->adopt('holes');
    silent('download', [qw(download streams/holes), "$dir/thin"]);
    same_extents("$dir/thin", $file, '... thin');
    is sha_file("$dir/thin"), $sha, '... the content';
    silent('download --no-sparse', [qw(download --no-sparse streams/holes), "$dir/thick"]);
    is scalar @{ extents("$dir/thick") }, 1, '... all written';

    $daemon->volume('thin', -s $file);
    silent('upload', ['upload', $file, 'streams/thin']);
    same_extents($daemon->pool_dir . '/thin', $file, '... thin');
    is sha_file($daemon->pool_dir . '/thin'), $sha, '... the content';
    $daemon->volume('thick', -s $file);
    silent('upload --no-sparse', ['upload', '--no-sparse', $file, 'streams/thick']);
    is scalar @{ extents($daemon->pool_dir . '/thick') }, 1, '... all written';

    my $longer = 100 * $KIB + -s $file;
    $daemon->volume('longer', $longer);
    silent('a volume that is longer', ['upload', $file, 'streams/longer']);
    is -s $daemon->pool_dir . '/longer', $longer, '... keeps its size';
    is sha_file($daemon->pool_dir . '/longer'), sha(slurp($file) . "\0" x (100 * $KIB)), '... the content';
    is scalar @{ extents($daemon->pool_dir . '/longer') }, 2, '... thin';

    # What a volume has under a hole would stay there.
    my $old = "\xff" x (-s $file);
    for my $option ([], ['--detect-zeroes']) {
        $daemon->volume('old', undef, $old);
        silent("a volume with an old content @$option", ['upload', @$option, $file, 'streams/old']);
        is sha_file($daemon->pool_dir . '/old'), $sha, '... has the new one';
    }
    my $head = pattern(64 * $KIB, 'head');
    sparse_file($daemon->pool_dir . '/behind', hole => $longer);
    open my $in, '+<:raw', $daemon->pool_dir . '/behind' or die "open: $!";
    print {$in} $head;
    close $in;
    $daemon->adopt('behind');
    silent('one with an old content before the offset', ['upload', '--offset', length $head, $file, 'streams/behind']);
    is sha(substr slurp($daemon->pool_dir . '/behind'), 0, length($head) + -s $file), sha($head . slurp($file)), '... the content';
    cmp_ok blocks($daemon->pool_dir . '/behind') * 512, '<', 300 * $KIB, '... thin';
};

subtest 'a driver that has no holes' => sub {
    # Every driver of the daemons that this is tested on has them.
    spew("$dir/NoHoles.pm", <<'EOP');
package NoHoles;
use Sys::Virt; use Sys::Virt::Stream;
no warnings 'redefine';
for my $name (qw(download upload)) {
    no strict 'refs';
    my $was = \&{"Sys::Virt::StorageVol::$name"};
    *{"Sys::Virt::StorageVol::$name"} = sub ($$$$;$) {
        die bless { level => 2, code => 8, domain => 0, message => 'unsupported flags (0x1)' }, 'Sys::Virt::Error' if $_[4];
        goto &$was;
    };
}
1;
EOP
    my %without = (env => { PERL5OPT => "-I$dir -MNoHoles" });
    silent('download', [qw(download streams/source), "$dir/plain"], %without);
    is sha_file("$dir/plain"), sha($content), '... the content';
    $daemon->volume('target', length $content);
    silent('upload', ['upload', "$dir/plain", 'streams/target'], %without);
    is sha_file($volume), sha($content), '... the content';
    my $got = command([qw(download --sparse streams/source -)], %without);
    is $got->{err}, "virt-stream: cannot download source: unsupported flags (0x1)\n", '--sparse is refused';
};

subtest 'domains and screens' => sub {
    my $domain = connect_test()->get_domain_by_name('test');
    my @on = qw(-c test:///default screenshot);
    my $shot = StreamTest::Command->run([@on, 'test', '-'])->{out};
    like $shot, qr/\A\x89PNG\r\n/, 'by its name';
    for my $name ($domain->get_id, $domain->get_uuid_string) {
        is sha(StreamTest::Command->run([@on, $name, '-'])->{out}), sha($shot), "by $name";
    }
    is sha(StreamTest::Command->run([@on, qw(--screen 0 test -)])->{out}), sha($shot), 'its first screen';
    my $got = StreamTest::Command->run([@on, qw(--screen x test -)]);
    is $got->{err}, "virt-stream: --screen is a whole number, not 'x'\n", 'no number';
    mkdir "$dir/shots" or die "mkdir: $!";
    chdir "$dir/shots" or die "chdir: $!";
    $got = StreamTest::Command->run([@on, 'test']);
    chdir '/';
    is_deeply [@$got{qw(err status)}], ['', 0], 'without a file' or diag explain $got;
    like $got->{out}, qr/\Atest-\d{4}-\d\d-\d\d-\d\d:\d\d:\d\d\.png\n\z/, '... it says where it is';
    chomp(my $name = $got->{out});
    is sha_file("$dir/shots/$name"), sha($shot), '... and there it is';
};

done_testing;
