# What virt-stream's manual page says, run: each option of each command, and each line of its
# examples, on two daemons.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;
use StreamTest::Daemon;
use StreamTest::Files;

plan skip_all => 'the C binding has no whole files' unless rust();
plan skip_all => 'not in a source tree' unless -e 'bin/virt-stream';

my $manual = slurp('bin/virt-stream');
my $dir = scratch();
my $two = StreamTest::Daemon->start;
my $daemon = daemon();
my $uri = $daemon->uri;
my $MIB = 1 << 20;
my ($data, $hole) = (300_000, 4 * $MIB);
my $content = pattern($data) . "\0" x ($hole - $data) . 'end';
my $file = "$dir/disk";
sub make_sparse {
    my ($path) = @_;
    open my $out, '>:raw', $path or die "open: $!";
    print {$out} substr $content, 0, $data;
    seek $out, $hole, 0;
    print {$out} 'end';
    close $out or die "close: $!";
    return $path;
}
make_sparse($file);
my $sha = sha($content);
make_sparse(volume_path('disk.img'));
$daemon->adopt('disk.img');
my $image = qcow2("$dir/debian.qcow2", 1 << 30);

# What each row leaves: a file in $dir/got, or a volume `got` that was empty before.
my $got = "$dir/got";
sub is_whole { my ($path, $want) = @_; return is sha_file($path), $want // $sha, '... the content' }
sub is_thin { my ($path) = @_; return !keeps_holes($dir) || cmp_ok blocks($path) * 512, '<', $hole / 2, '... thin' }
sub is_thick { my ($path) = @_; return cmp_ok blocks($path) * 512, '>=', $hole, '... all written' }
sub volume_is { my ($is, $name) = @_; my $info = $daemon->pool->get_volume_by_name($name // 'got')->get_info; return is $info->{capacity}, $is, '... its size' }
my $into = volume_path('got');
my @down = ('disk.img', $got);
my $sum = sub { my ($said, $name) = @_; is $said->{out}, "$sha  $name\n", '... is printed' };

my $steps = sub { like $_[0]{err}, qr/\A(?:\{.*\}\n)+\z/, '... a line for each step' };

# An upload and a copy have the same options; @from is what is sent.
sub writes {
    my ($command, @from) = @_;
    my @existing = ($command, @from, 'streams/got');
    my @new = ($command, '--create', @from, 'streams/new');
    my $new = volume_path('new');
    return (
        "$command --pool" => [[$command, '--pool', 'streams', map { s{\Astreams/}{}r } @from, 'got'], sub { is_whole($into) }],
        "$command --no-sparse" => [['--no-sparse', @existing], sub { is_whole($into); is_thick($into) }],
        "$command --sparse" => [['--sparse', @existing], sub { is_whole($into); is_thin($into) }],
        "$command --detect-zeroes" => [['--detect-zeroes', map({ $_ eq $file ? "$dir/full" : s/disk\.img/full/r } @existing)], sub { is_whole($into); is_thin($into) }],
        "$command --create" => [[@new], sub { is_whole($new); is_thin($new); volume_is(length $content, 'new') }],
        "$command --format" => [['--format', 'raw', map { $_ eq $file ? $image : s/disk\.img/image/r } @new], sub { is_whole($new, sha_file($image)) }],
        "$command --allocation" => [['--allocation', '8M', @new], sub { is_whole($new) }],
        "$command --resize" => [['--resize', map { s/got/small/r } @existing], sub { is_whole(volume_path('small')); volume_is(length $content, 'small') }],
        "$command --verify" => [['--verify', @existing], sub { is_whole($into) }],
        "$command --digest" => [[qw(--digest sha256), @existing], sub { is_whole($into); $sum->($_[0], $from[0]) }],
        "$command --continue" => [['--continue', @existing], sub { is_whole($into) }],
        "$command --limit" => [[qw(--limit 100M), @existing], sub { is_whole($into) }],
        "$command --progress" => [[qw(--progress json), @existing], sub { is_whole($into); $steps->($_[0]) }],
        "$command --retry" => [[qw(--retry 2), @existing], sub { is_whole($into) }],
    );
}

my @console = ('console', 'GUEST');
my $conversed = sub { is $_[0]{out}, $daemon->guest_says . 'x', '... and says what it says' };
my %TABLE = (
    'download --pool' => [[qw(download --pool streams), @down], sub { is_whole($got) }],
    'download --offset' => [[qw(download --offset 100 streams/disk.img), $got], sub { is_whole($got, sha(substr $content, 100)) }],
    'download --length' => [[qw(download --length 1k streams/disk.img), $got], sub { is_whole($got, sha(substr $content, 0, 1024)) }],
    'download --no-sparse' => [[qw(download --no-sparse streams/disk.img), $got], sub { is_whole($got); is_thick($got) }],
    'download --sparse' => [[qw(download --sparse streams/disk.img), $got], sub { is_whole($got); is_thin($got) }],
    'download --detect-zeroes' => [[qw(download --detect-zeroes streams/full), $got], sub { is_whole($got); is_thin($got) }],
    'download --verify' => [[qw(download --verify streams/disk.img), $got], sub { is_whole($got) }],
    'download --digest' => [[qw(download --digest sha256 streams/disk.img), $got], sub { is_whole($got); $sum->($_[0], $got) }],
    'download --continue' => [[qw(download --continue streams/disk.img), $got], sub { is_whole($got) }],
    'download --retry' => [[qw(download --retry 2 streams/disk.img), $got], sub { is_whole($got) }],
    writes(upload => $file),
    'upload --offset' => [[qw(upload --offset 1), spew("$dir/short", 'short'), 'streams/got'], sub { is substr(slurp($into), 0, 7), "\0short\0", '... the content' }],
    'upload --length' => [['upload', '--length', $data, $file, 'streams/got'], sub { is sha(substr slurp($into), 0, $data), sha(substr $content, 0, $data), '... the content' }],
    writes(copy => 'streams/disk.img'),
    'copy --from' => [['copy', '--from', $uri, 'streams/disk.img', 'streams/got'], sub { is_whole($into) }, 'test:///default', '--to', $uri],
    'copy --to' => [['copy', '--to', $two->uri, '--create', 'streams/disk.img', 'streams/disk.img'], sub { is_whole($two->pool_dir . '/disk.img') }],
    'screenshot --format' => [[qw(screenshot test --format png), $got], sub { like slurp($got), qr/\A\x89PNG/, '... a PNG' }, 'test:///default'],
    'screenshot --screen' => [[qw(screenshot test --screen 0), $got], sub { like slurp($got), qr/\A\x89PNG/, '... a PNG' }, 'test:///default'],
    'console --devname' => [[@console, '--devname', 'serial0'], $conversed],
    'console --force' => [[@console, '--force'], $conversed],
    'console --safe' => [[@console, '--safe'], $conversed],
    'console --log' => [[@console, '--log', $got], sub { $conversed->(@_); is slurp($got), $_[0]{out}, '... and in the file' }],
    '--connect' => [[qw(download streams/disk.img), $got], sub { is_whole($got) }],
    'download --limit' => [[qw(download --limit 100M streams/disk.img), $got], sub { is_whole($got) }],
    'download --progress' => [[qw(download --progress json streams/disk.img), $got], sub { is_whole($got); $steps->($_[0]) }],
    '--quiet' => [[qw(download --quiet streams/disk.img), $got], sub { is_whole($got) }],
    '--help' => [['--help'], sub { like $_[0]{out}, qr/\AUsage:/, '... is shown' }],
    '--version' => [['--version'], sub { like $_[0]{out}, qr/\Avirt-stream [0-9.]+\n\z/, '... is shown' }],
);

# A console's input: the guest speaks at its first byte, and then gives back each.
sub conversation {
    my ($arguments) = @_;
    my $guest = $daemon->guest(paused => 1);
    pipe my $reader, my $writer or die "pipe: $!";
    $writer->autoflush(1);
    my $run = StreamTest::Command->start(['-c', $uri, map { $_ eq 'GUEST' ? $guest->get_name : $_ } @$arguments], in => $reader);
    close $reader;
    within(60, sub { grep { -l && (readlink // '') =~ /pts/ } glob '/proc/' . $daemon->pid . '/fd/*' });
    $guest->resume;
    print {$writer} '?x';
    within(120, sub { (-s "$dir/command.out" // 0) >= 1 + length $daemon->guest_says });
    $guest->destroy;
    return $run->end;
}

my $said = StreamTest::Command::options_said($manual);
my @said = map { my $command = $_; map { $command eq '' ? $_ : "$command $_" } @{ $said->{$command} } } keys %$said;
is join("\n", sort keys %TABLE), join("\n", sort @said), 'the table has what the manual page has';

for my $row (sort keys %TABLE) {
    my ($arguments, $check, $to, @more) = @{ $TABLE{$row} };
    SKIP: {
        skip "$row: no guest to be had here", 1
            if $row =~ /^console/ && (!StreamTest::has('qemu') || !StreamTest::has('console'));
        unlink $got, volume_path('new');
        spew("$dir/full", $content) if !-e "$dir/full";
        $daemon->volume('full', undef, $content) if !-e volume_path('full');
        $daemon->volume('image', undef, slurp($image)) if !-e volume_path('image');
        $daemon->volume('got', length $content);
        $daemon->volume('small', 1000);
        $two->pool;
        my $run = $row =~ /^console/ ? conversation($arguments)
            : StreamTest::Command->run(['-c', $to // $uri, @$arguments, @more]);
        is $run->{status}, 0, $row or diag explain $run;
        $check->($run);
    }
}

# --- the examples

my ($examples) = $manual =~ /^=head1 EXAMPLES\n(.*?)^=head1/ms;
my @lines = $examples =~ /^ +(.*)$/mg;
unlink "$dir/disk.img", volume_path('debian.qcow2'), $two->pool_dir . '/disk.img';
$_->pool->refresh for $daemon, $two;
my @leaves = (
    sub { is_whole("$dir/disk.img") },
    sub { is $_[0]{out}, "$sha  -\n", '... the digest' },
    sub { is_whole(volume_path('debian.qcow2'), sha_file($image)); volume_is(1 << 30, 'debian.qcow2') },
    sub { is_whole($two->pool_dir . '/disk.img') },
    sub { like slurp("$dir/screenshot.png"), qr/\A\x89PNG/, '... a picture' },
);
is scalar @lines, scalar @leaves, 'the examples';
for my $line (@lines) {
    my $script = $line =~ s/\bvirt-stream /"\$@" /r =~ s/\bdefault\//streams\//gr
        =~ s/qemu:\/\/\/system|qemu\+ssh:\/\/one\/system/'$uri'/r =~ s/qemu\+ssh:\/\/two\/system/"'" . $two->uri . "'"/er;
    my $run = StreamTest::Command->run([], through => ['sh', spew("$dir/example.sh", "cd '$dir' && $script\n")],
        env => { LIBVIRT_DEFAULT_URI => $uri });
    is_deeply [@$run{qw(err status)}], ['', 0], $line or diag explain $run;
    (shift @leaves)->($run);
}

done_testing;
