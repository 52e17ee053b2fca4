# Every option of recv_file and send_file.
use strict;
use warnings;

use POSIX ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Files;

plan skip_all => 'the C binding has no such methods' unless rust();
use constant { KIB => 1 << 10, MIB => 1 << 20 };

my $daemon = daemon();
my $dir = scratch();
my $keeps = keeps_holes($dir) && keeps_holes($daemon->pool_dir);
my $content = pattern(3 * MIB + 777);
$daemon->volume('source', undef, $content);
my ($file, $target) = (spew("$dir/file", $content), "$dir/target");

sub up_volume { my $size = $_[0] // 0; $daemon->volume('up', $size); return volume_path('up') }

subtest 'offset and length, down' => sub {
    my $old = pattern(2 * MIB, 'old');
    # [offset, length, what the file becomes], given what stood there
    my $with = sub {
        my ($old, $at, $new) = @_;
        my $whole = $old . "\0" x ($at > length $old ? $at - length $old : 0);
        substr($whole, $at, length $new) = $new;
        return $whole;
    };
    for (
        ['from the beginning', { offset => 0 }, $with->($old, 0, $content)],
        ['inside', { offset => 1000, length => 5000 }, $with->($old, 1000, substr $content, 0, 5000)],
        ['past the end', { offset => 3 * MIB, length => MIB }, $with->($old, 3 * MIB, substr $content, 0, MIB)],
        ['no offset', { length => 10 }, substr $content, 0, 10],
        ['nothing, in place', { offset => 5, length => 0 }, $old],
        ['nothing', { length => 0 }, ''],
        ['all of it', { length => length $content }, $content],
        ['undefined', { offset => undef, length => undef, progress => undef }, $content],
    ) {
        my ($name, $options, $becomes) = @$_;
        spew($target, $old);
        my $st = download('source');
        my $got = $st->recv_file($target, %$options);
        is sha_file($target), sha($becomes), "$name: the file";
        is $got->{bytes}, $options->{length} // length $content, '... the bytes';
        is error_of(sub { $st->finish }), undef, '... a finish after it is harmless';
    }
};

subtest 'offset and length, up' => sub {
    for (
        ['offset', { offset => MIB + 3 }, substr $content, MIB + 3],
        ['length', { length => 100_000 }, substr $content, 0, 100_000],
        ['both', { offset => 5, length => 5 }, substr $content, 5, 5],
        ['at the end', { offset => length $content }, ''],
        ['nothing', { offset => 7, length => 0 }, ''],
    ) {
        my ($name, $options, $sent) = @$_;
        my $path = up_volume(length $sent);
        my $st = upload('up');
        is $st->send_file($file, %$options)->{bytes}, length $sent, "$name: the bytes";
        is sha_file($path), sha($sent), '... the volume';
        is error_of(sub { $st->finish }), undef, '... a finish after it is harmless';
    }
};

subtest 'a source that ends before' => sub {
    error_is(sub { download('source')->recv_file($target, length => 4 * MIB) }, {
        code => 38, domain => 38,
        message => 'recv_file failed: the stream has ended after ' . length($content) . ' of 4194304 bytes',
    }, 'down');
    up_volume(4 * MIB);
    my $has = length $content;
    error_is(sub { upload('up')->send_file($file, length => 4 * MIB) }, {
        code => 38, message => "send_file failed: $file has ended after $has of 4194304 bytes",
    }, 'up');
    error_is(sub { upload('up')->send_file($file, offset => $has - 10, length => 20) }, {
        code => 38, message => "send_file failed: $file has ended after 10 of 20 bytes",
    }, 'up, with an offset');
    error_is(sub { upload('up')->send_file($file, offset => $has + 10) }, {
        code => 38, message => "send_file failed: $file has ended after $has of " . ($has + 10) . ' bytes',
    }, 'an offset past the end');
    open my $pipe, '-|', $^X, '-e', 'print "x" x 10' or die "no pipe: $!";
    error_is(sub { upload('up')->send_file($pipe, length => 20) }, {
        code => 38, message => qr/^send_file failed: file descriptor \d+ has ended after 10 of 20 bytes$/,
    }, 'a pipe');
    SKIP: {
        # What stands at 0 of a process's memory nobody can read.
        skip 'no such file', 1 unless -r '/proc/self/mem';
        my $st = upload('up');
        error_is(sub { $st->send_file('/proc/self/mem') },
            { code => 38, message => 'send_file failed: cannot read /proc/self/mem: Input/output error' }, 'a read that fails');
        ok error_of(sub { $st->finish }), '... and the stream is aborted';
    }
    # One that shrinks while a paused daemon takes no more of it.
    for my $sparse (0, 1) {
        my $shrinks = spew("$dir/shrinks", $content x 3);
        up_volume(9 * MIB);
        my $st = upload('up', sparse => $sparse);
        my $error = while_paused(sub { $st->send_file($shrinks, sparse => $sparse) }, sub { truncate $shrinks, 1000 });
        like ref $error && $error->{message}, qr/^send_file failed: \Q$shrinks\E has ended after \d+ of \d+ bytes$/,
            'one that shrinks' . ($sparse ? ', sparse' : '');
    }
};

subtest 'sparse and detect_zeroes, down' => sub {
    plan skip_all => 'no holes in this file system' unless $keeps;
    my $block = 4 * KIB;
    # Zeroes that are data in the volume, and a hole among them.
    my $zeroes = pattern(10 * $block) . "\0" x (20 * $block) . pattern(100) . "\0" x (30 * $block);
    $daemon->volume('zeroes', length $zeroes, $zeroes);
    my $size = length $zeroes;
    # What is left of the last run once its first block, begun by data, is none of it.
    my $found = 20 * $block + 30 * $block - ($block - 100);
    my $st = download('zeroes');
    counts($st->recv_file($target, detect_zeroes => 1), $size, $found, 'over a plain stream');
    is sha_file($target), sha($zeroes), 'the content';
    is_deeply extents($target), [[0, 10 * $block], [30 * $block, 31 * $block]], 'the blocks';

    sparse_file(volume_path('mixed'), data => $block, hole => MIB, data => $block);
    open my $out, '+<:raw', volume_path('mixed') or die "cannot write: $!";
    sysseek $out, MIB - $block, 0;
    syswrite $out, "\0" x (2 * $block);
    close $out;
    $daemon->adopt('mixed');
    counts(download('mixed', sparse => 1)->recv_file($target, sparse => 1, detect_zeroes => 1),
        MIB + 2 * $block, MIB, 'zeroes within a hole are of the hole');
    is sha_file($target), sha_file(volume_path('mixed')), 'the content';
    is_deeply extents($target), [[0, $block], [MIB + $block, MIB + 2 * $block]], 'the blocks';
    counts(download('mixed', sparse => 1)->recv_file($target, sparse => 1), MIB + 2 * $block, MIB - 2 * $block,
        'without: only the holes of the volume');

    # Over what is there: a hole is made, or else zeroes are written.
    my $old = pattern(2 * MIB, 'old');
    spew($target, $old);
    download('mixed', sparse => 1)->recv_file($target, sparse => 1, offset => 2 * $block);
    substr($old, 2 * $block, -s volume_path('mixed')) = slurp(volume_path('mixed'));
    is sha_file($target), sha($old), 'holes over an old content read as zeroes';
    cmp_ok blocks($target) * 512, '<', 2 * MIB, '... and are holes';
};

subtest 'sparse and detect_zeroes, up' => sub {
    plan skip_all => 'no holes in this file system' unless $keeps;
    my $block = 4 * KIB;
    my $zeroes = pattern(70 * $block) . "\0" x (80 * $block) . pattern(1) . "\0" x (3 * $block);
    my $source = spew("$dir/zeroes", $zeroes);
    my $found = 80 * $block + 3 * $block - ($block - 1);
    my $path = up_volume();
    counts(upload('up', sparse => 1)->send_file($source, sparse => 1, detect_zeroes => 1),
        length $zeroes, $found, 'zeroes become holes on the wire');
    is sha_file($path), sha($zeroes), 'the content';
    is_deeply extents($path), [[0, 70 * $block], [150 * $block, 151 * $block]], 'the blocks';
    $path = up_volume();
    counts(upload('up', sparse => 1)->send_file($source, sparse => 1), length $zeroes, 0, 'without: none');
    # Off a pipe, which knows of no holes, in pieces of any size.
    $path = up_volume();
    open my $pipe, '-|', $^X, '-e', 'open F, "<", shift; $| = 1; while (read F, $d, 5555) { print $d }', $source
        or die "no pipe: $!";
    counts(upload('up', sparse => 1)->send_file($pipe, sparse => 1, detect_zeroes => 1),
        length $zeroes, $found, 'off a pipe');
    is_deeply extents($path), [[0, 70 * $block], [150 * $block, 151 * $block]], 'the same blocks';
    like error_of(sub { upload('up')->send_file($source, detect_zeroes => 1) }),
        qr/^send_file: detect_zeroes needs sparse, /, 'a plain stream has none';
    error_is(sub { my $st = upload('up'); $st->send_file(sparse_file("$dir/hole", hole => MIB), sparse => 1) },
        {}, 'sparse, over a stream that is not');
};

subtest 'progress' => sub {
    my %way = (
        down => [sub { my ($st, @o) = (download('source'), @_); $st->recv_file($target, @o) }, undef],
        'down, a length' => [sub { my ($st, @o) = (download('source'), @_);
            $st->recv_file($target, length => length $content, @o) }, length $content],
        up => [sub { up_volume(length $content); my ($st, @o) = (upload('up'), @_); $st->send_file($file, @o) }, length $content],
        'up, off a pipe' => [sub { up_volume(length $content); open my $in, '-|', 'cat', $file; my $st = upload('up');
            $st->send_file($in, @_) }, undef],
    );
    for my $name (sort keys %way) {
        my ($run, $total) = @{ $way{$name} };
        my @told;
        my @back = $run->(progress => sub { push @told, [@_]; return -1 });
        is scalar @back, 1, "$name: one value comes back";
        cmp_ok scalar @told, '>=', 1, 'it was called';
        is_deeply $told[-1], [length $content, 0, $total], '... at last with all there is';
        is scalar(grep { @$_ != 3 } @told), 0, '... always with three values';
    }
    # A daemon that pauses is time for it to be called.
    my ($st, @seen) = (download('source'));
    is while_paused(sub { $st->recv_file($target, progress => sub { push @seen, $_[0] }) }), undef, 'after a while';
    cmp_ok scalar @seen, '>=', 2, 'it is called in between';
    is_deeply \@seen, [sort { $a <=> $b } @seen], 'it only grows';
    # A hole that has to be written takes its time as well: its reader pauses in the middle.
    sparse_file(volume_path('hole'), data => 4 * KIB, hole => 32 * MIB);
    $daemon->adopt('hole');
    pipe my $out, my $in or die "pipe: $!";
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        close $in;
        my $paused;
        while (my $count = read $out, my $data, MIB) {
            select undef, undef, undef, 0.5 if ($paused += $count) == 8 * MIB;
        }
        POSIX::_exit(0);
    }
    close $out;
    my @holes;
    download('hole', sparse => 1)->recv_file($in, sparse => 1, progress => sub { push @holes, $_[1] });
    close $in;
    waitpid $pid, 0;
    is $holes[-1], $keeps ? 32 * MIB : 0, 'a hole into a pipe';
    cmp_ok scalar(grep { $_ > 0 && $_ < 32 * MIB } @holes), '>=', 1, '... is told of in between' if $keeps;
    our $called = 0;
    { package Callable; use overload '&{}' => sub { sub { $main::called++ } } }
    is error_of(sub { download('source')->recv_file($target, progress => bless [], 'Callable') }), undef, 'an object';
    cmp_ok $called, '>=', 1, 'is called as well';
};

subtest 'digest' => sub {
    my $got = download('source')->recv_file($target, digest => 'sha256');
    is delete $got->{digest}, sha($content), 'down';
    counts($got, length $content, 0, '... and the rest as ever');
    up_volume(length $content);
    is upload('up')->send_file($file, digest => 'sha256')->{digest}, sha($content), 'up';
    is upload('up')->send_file($file, digest => 'sha256', offset => 10, length => 70_000)->{digest},
        sha(substr $content, 10, 70_000), 'of the part that is moved';
    ok !exists download('source')->recv_file($target, digest => undef)->{digest}, 'none that was not asked for';
    my $holes = sparse_file("$dir/holes", hole => 40 * MIB, data => 100_000, hole => MIB);
    my $sha = sha_file($holes);
    up_volume(-s $holes);
    for my $zeroes (0, 1) {
        is upload('up', sparse => 1)->send_file($holes, sparse => 1, digest => 'sha256', detect_zeroes => $zeroes)->{digest}, $sha, 'holes, up';
        is download('up', sparse => 1)->recv_file($target, sparse => 1, digest => 'sha256', detect_zeroes => $zeroes)->{digest}, $sha, 'and down';
    }
};

subtest 'limit' => sub {
    my $bytes = 1 << 20;
    $daemon->volume('slow', undef, pattern($bytes));
    # No faster than that; how much slower is the machine's matter.
    my $least = $bytes / 500_000 - 1;
    cmp_ok(download('slow')->recv_file($target, limit => 500_000)->{seconds}, '>=', $least, 'down');
    is sha_file($target), sha(pattern($bytes)), '... the content';
    up_volume($bytes);
    cmp_ok(upload('up')->send_file($target, limit => 500_000)->{seconds}, '>=', $least, 'up');
    my $hole = sparse_file("$dir/hole", hole => 1 << 40);
    $daemon->volume('far', 1 << 40);
    is error_of(sub { upload('far', sparse => 1)->send_file($hole, sparse => 1, limit => 1) }), undef, 'a hole takes no time';
    unlink volume_path('far');
    my ($st, $parent) = (download('slow'), $$);
    local $SIG{USR1} = sub { die "signal\n" };
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) { select undef, undef, undef, 0.5; kill USR1 => $parent; POSIX::_exit(0) }
    is error_of(sub { $st->recv_file($target, limit => 10) }), "signal\n", 'a signal need not wait';
    waitpid $pid, 0;
};

subtest 'sync' => sub {
    for my $name (qw(file replaced)) {
        counts(download('source')->recv_file($target, sync => 1, replace => $name eq 'replaced'),
            length $content, 0, $name);
        is sha_file($target), sha($content), 'the content';
    }
    SKIP: {
        # A file of the kernel's that takes data, and has no disk to put it on.
        my $kernel = '/proc/self/oom_score_adj';
        skip 'no such file', 2 unless -w $kernel;
        $daemon->volume('score', undef, slurp($kernel));
        is error_of(sub { download('score')->recv_file($kernel) }), undef, 'without it the system is not asked';
        error_is(sub { download('score')->recv_file($kernel, sync => 1) },
            { message => "recv_file failed: cannot sync $kernel: Invalid argument" }, 'with it, it is');
    }
    my $got = run_perl(<<'EOP', args => [$daemon->uri, volume_path('source')]);
use Sys::Virt; my ($uri, $path) = @ARGV;
my $conn = Sys::Virt->new(uri => $uri); my $st = $conn->new_stream;
$conn->get_storage_volume_by_path($path)->download($st, 0, 10);
$st->recv_file(\*STDOUT, sync => 1);
EOP
    is $got->{out}, substr($content, 0, 10), 'a file or a pipe by its handle' or diag explain $got;
};

subtest 'the last of a name counts, and truth is Perl\'s' => sub {
    my $st = download('source');
    is $st->recv_file($target, length => 5, sparse => '', sync => 0, replace => undef, length => '10')->{bytes}, 10, 'ten';
    my %number = ('a string' => '1000', 'a float' => 1e3, 'an object' => bless([], 'Thousand'), 'hexadecimal' => 0x3e8);
    { package Thousand; use overload '0+' => sub { 1000 }, fallback => 1 }
    is(download('source')->recv_file($target, length => $number{$_})->{bytes}, 1000, $_) for sort keys %number;
};

done_testing;
