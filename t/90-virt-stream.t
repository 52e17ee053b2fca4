# virt-stream without a terminal: what it moves, what it says, how it ends.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;

plan skip_all => 'the C binding has no whole files' unless rust();

$SIG{PIPE} = 'IGNORE';
my $daemon = daemon();
my $uri = $daemon->uri;
my $dir = scratch();
my $content = pattern(3_000_001);
my ($source, $target) = map { $daemon->pool_dir . "/$_" } qw(source target);
$daemon->volume('source', undef, $content);
$daemon->volume('target', 4 << 20);

sub command { my ($arguments, %opt) = @_; return StreamTest::Command->run($arguments, %opt) }

my $SILENT = { out => '', err => '', status => 0, signal => 0, hang => 0 };

# Ends well, and says nothing.
sub silent {
    my ($name, $arguments, %opt) = @_;
    my $got = command(['-c', $uri, @$arguments], %opt);
    $got->{out} = '' if defined $opt{out};
    is_deeply $got, $SILENT, $name or diag explain $got;
    return;
}

# One line that says what and why.
sub fails {
    my ($name, $arguments, $like, %opt) = @_;
    my $got = command($arguments, env => { LIBVIRT_DEFAULT_URI => $uri }, %opt);
    like $got->{err}, qr/\Avirt-stream: [^\n]*$like[^\n]*\n\z/, $name;
    is_deeply [@$got{qw(out status signal hang)}], ['', 1, 0, 0], '... with status 1' or diag explain $got;
    return;
}

sub reset_target { return spew($target, "\xff" x (4 << 20)) }

for my $volume ($source, 'streams/source') {
    silent("download $volume", ['download', $volume, "$dir/down"]);
    is sha_file("$dir/down"), sha($content), 'the content';
    unlink "$dir/down";
}
silent('over a file', ['download', $source, spew("$dir/down", 'x' x 5_000_000)]);
is sha_file("$dir/down"), sha($content), 'nothing of that is left';
silent('to standard output', [qw(download streams/source -)], out => "$dir/out");
is sha_file("$dir/out"), sha($content), 'the content';
is_deeply [glob "$dir/.down*"], [], 'no other file is left';

reset_target();
silent('upload', ['upload', "$dir/down", 'streams/target']);
is sha(slurp($target)), sha($content . "\xff" x ((4 << 20) - length $content)), 'the content';
reset_target();
silent('from standard input', [qw(upload - streams/target)], in => "$dir/down");
is sha(substr slurp($target), 0, length $content), sha($content), 'the content';
reset_target();
pipe my $reader, my $writer or die "pipe: $!";
my $piped = StreamTest::Command->start(['-c', $uri, qw(upload - streams/target)], in => $reader);
close $reader;
print {$writer} $content;
close $writer;
is_deeply $piped->end, $SILENT, 'from a pipe';
is sha(substr slurp($target), 0, length $content), sha($content), 'the content';

# Which environment a user has is not seen in the data.
silent('layers asked for by the environment', [qw(download streams/source -)], out => "$dir/out",
    env => { PERL_UNICODE => 'SDA', SYS_VIRT_STREAM => 'c' });
is sha_file("$dir/out"), sha($content), 'the content';

subtest 'sparse' => sub {
    my @holes = (hole => 2 << 20, data => 65_536, hole => 1 << 20, data => 65_536, hole => 3 << 20);
    sparse_file("$dir/holes", @holes);
    sparse_file($daemon->pool_dir . '/holes', @holes);
    $daemon->adopt('holes');
    my $sha = sha_file("$dir/holes");
    silent('download', [qw(--sparse download streams/holes), "$dir/sparse"]);
    is sha_file("$dir/sparse"), $sha, 'the content';
    cmp_ok blocks("$dir/sparse"), '<=', blocks("$dir/holes"), 'and the holes';

    $daemon->volume('into', -s "$dir/holes");
    silent('upload', ['--sparse', 'upload', "$dir/holes", 'streams/into']);
    is sha_file($daemon->pool_dir . '/into'), $sha, 'the content';
    cmp_ok blocks($daemon->pool_dir . '/into'), '<=', blocks("$dir/holes"), 'and the holes';

    my $full = spew("$dir/full", slurp("$dir/holes"));
    $daemon->volume('zeroes', undef, slurp($full));
    cmp_ok blocks($full), '>', 2 * blocks("$dir/holes"), 'a file without holes';
    silent('download', [qw(--detect-zeroes download streams/zeroes), "$dir/detected"]);
    is sha_file("$dir/detected"), $sha, 'the content';
    cmp_ok blocks("$dir/detected"), '<=', blocks("$dir/holes"), 'and holes where it had zeroes';
    $daemon->volume('again', -s $full);
    silent('upload', ['--detect-zeroes', 'upload', $full, 'streams/again']);
    is sha_file($daemon->pool_dir . '/again'), $sha, 'the content';
    cmp_ok blocks($daemon->pool_dir . '/again'), '<=', blocks("$dir/holes"), 'and holes where it had zeroes';
};

subtest 'screenshot' => sub {
    my @test = (qw(-c test:///default screenshot test));
    is_deeply command([@test, "$dir/shot"]), $SILENT, 'says nothing';
    like slurp("$dir/shot"), qr/\A\x89PNG\r\n.*IEND....\z/s, 'a picture';
    is sha(command([@test, '-'])->{out}), sha_file("$dir/shot"), 'on standard output, too';
    my $uuid = connect_test()->get_domain_by_name('test')->get_uuid_string;
    is sha(command([qw(-c test:///default screenshot), $uuid, '-'])->{out}), sha_file("$dir/shot"), 'of a domain by its UUID';
};

subtest 'what is not there' => sub {
    fails('a connection', [qw(-c nosuch:///x screenshot test -)], qr{cannot connect to nosuch:///x: \S});
    fails('a domain', [qw(-c test:///default screenshot tset -)], qr/no domain 'tset'; there is test/);
    fails('a pool', [qw(download sterams/source -)], qr/no storage pool 'sterams'; there is streams/);
    fails('a volume', [qw(download streams/suorce -)], qr/no volume 'suorce' in pool 'streams'; there are .*\bsource\b.*; what is new there is seen after virsh pool-refresh streams/);
    fails('a path', [qw(download /nowhere/at/all -)], qr{no volume '/nowhere/at/all': what is new in a pool is seen after virsh pool-refresh POOL});
    fails('neither', [qw(download source -)], qr{a volume is a path, POOL/NAME or a key, or a name with --pool, not 'source'});
    fails('a folder', ['download', $source, "$dir/none/file"], qr{\Q$dir\E/none/file: .*No such file or directory});
    fails('a folder to upload', ['upload', $dir, $target], qr{cannot read \Q$dir\E: it is a directory});
    fails('a file', ['upload', "$dir/none", $target], qr{cannot read \Q$dir\E/none: No such file or directory});
    ok !-e "$dir/none", 'and nothing is made';
    silent('an address from the environment', [qw(--connect), $uri, 'download', $source, "$dir/down"],
        env => { LIBVIRT_DEFAULT_URI => 'nosuch:///x' });
    is_deeply command(['download', $source, "$dir/down"], env => { LIBVIRT_DEFAULT_URI => $uri }), $SILENT, 'libvirt\'s own';
};

subtest 'a command line that makes no sense' => sub {
    for ([[], qr/no command is given/], [['frob'], qr/there is no command 'frob'/], [[qw(download a)], qr/download takes VOLUME FILE/],
        [[qw(console a b)], qr/console takes DOMAIN/], [['--frob'], qr/unknown option: frob/], [['-c'], qr/option c requires an argument/],
        [[qw(console --sparse a)], qr/console has no option --sparse/], [[qw(help frob)], qr/there is no command 'frob'/]) {
        my ($arguments, $like) = @$_;
        my $got = command($arguments);
        is_deeply [@$got{qw(status signal hang out)}], [2, 0, 0, ''], "@$arguments: status 2";
        like $got->{err}, qr/\Avirt-stream: $like[^\n]*\nUsage:\n/s, '... and why';
    }
    my $got = command(['--help']);
    like $got->{out}, qr/\AUsage:\n.*--detect-zeroes.*\n\z/s, '--help' or diag explain $got;
    is_deeply [@$got{qw(status err)}], [0, ''], '... is no failure';
    like command([$_])->{out}, qr/\Avirt-stream \Q$Sys::Virt::Stream::VERSION\E\n\z/, $_ for '--version', '-V';
    is command(['help'])->{out}, $got->{out}, 'help';
    for my $command (qw(download upload screenshot console)) {
        my $out = command(['help', $command])->{out};
        like $out, qr/\A\s*\Q$command\E [A-Z]/, "help $command";
        cmp_ok length $out, '<', length($got->{out}) / 2, '... and only that';
    }
};

SKIP: {
    skip 'no full device here', 4 unless -c '/dev/full';
    fails('a full disk', ['download', $source, '/dev/full'], qr{/dev/full: .*No space left on device});
    fails('standard output, full', ['download', $source, '-'], qr/No space left on device/, out => '/dev/full');
}
{
    my $limited = spew("$dir/limited.sh", qq{ulimit -f 1024; exec "\$@"\n});
    mkdir "$dir/limit" or die "mkdir: $!";
    my $got = command(['-c', $uri, 'download', $source, "$dir/limit/file"], through => ['sh', $limited]);
    is $got->{err}, "virt-stream: cannot write $dir/limit/file: File too large\n",
        'a limit on the length of files' or diag explain $got;
    is_deeply [glob "$dir/limit/{.,}[!.]*"], [], '... no file is left';
}
# Stopped half-way by whatever it is: what stood there stays, and nothing else is left.
# There is time to stop it: it is large, and all holes.
$daemon->volume('large', 1 << 30);
sub half_way {
    my ($how) = @_;
    spew("$dir/kept/file", 'as it was');
    my $run = StreamTest::Command->start(['-c', $uri, qw(--no-sparse download streams/large), "$dir/kept/file"]);
    within(120, sub { -s "$dir/kept/file.partial" }, 0) or diag 'it has not begun';
    $how->($run);
    my $got = $run->end;
    is slurp("$dir/kept/file"), 'as it was', '... the file stays';
    is_deeply [glob "$dir/kept/file.*"], [], '... and no other is left';
    return $got;
}
mkdir "$dir/kept" or die "mkdir: $!";
my %number = (INT => 2, TERM => 15, HUP => 1, QUIT => 3);
for my $signal (sort keys %number) {
    my $got = half_way(sub {
        my ($run) = @_;
        $daemon->pause;
        kill $signal, $run->pid;
        # It is one that acts on it, with or without a daemon that answers.
        within(120, sub { my @left = glob "$dir/kept/file.*"; !@left });
        $daemon->resume;
    });
    is_deeply $got, { out => '', err => '', status => 0, signal => $number{$signal}, hang => 0 }, "$signal ends it"
        or diag explain $got;
}
{
    my $got = half_way(sub { $daemon->kill });
    like $got->{err}, qr{\Avirt-stream: cannot download streams/large: [^\n]+\n\z}, 'the daemon is killed: why';
    is $got->{status}, 1, '... status 1';
    $daemon->launch;
}

done_testing;
