# recv_file with replace: the old file or the new one, at any time, and nothing else left.
use strict;
use warnings;

use Config ();
use Fcntl ();
use POSIX ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Files;

plan skip_all => 'the C binding has no such methods' unless rust();

my $daemon = daemon();
my $content = pattern(6 << 20);
$daemon->volume('source', undef, $content);
my $dir = scratch() . '/replace';
mkdir $dir or die "cannot make $dir: $!";
my ($target, $sha, $old) = ("$dir/disk.img", sha($content), 'as it was');

sub old_stays {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is slurp($target), $old, "$name: the old file stays";
    is_deeply left_in($dir), ['disk.img'], '... and nothing beside it';
    return;
}

subtest 'a good end' => sub {
    unlink $target;
    umask 026;
    counts(download('source')->recv_file($target, replace => 1), length $content, 0, 'where there was none');
    is sha_file($target), $sha, 'the content';
    is +(stat $target)[2] & 07777, 0640, 'the permissions of a new file';
    umask 022;
    is_deeply left_in($dir), ['disk.img'], 'nothing beside it';

    spew($target, $old);
    chmod 0604, $target;
    my $inode = (stat $target)[1];
    open my $reader, '<', $target or die "cannot read: $!";
    download('source')->recv_file($target, replace => 1);
    is sha_file($target), $sha, 'over an old one: the content';
    isnt +(stat $target)[1], $inode, 'it is another file';
    is +(stat _)[2] & 07777, 0604, 'the permissions of the old one';
    is scalar <$reader>, $old, 'who reads the old one goes on with it';
    SKIP: {
        skip 'only root gives files away', 1 if $>;
        chown 1, 2, $target;
        download('source')->recv_file($target, replace => 1);
        is_deeply [(stat $target)[4, 5]], [1, 2], 'and the owner';
    }
    chdir $dir or die "chdir: $!";
    download('source', length => 5)->recv_file('disk.img', replace => 1, progress => sub { chdir '/' });
    is -s $target, 5, 'a path from where the program was';
    chdir '/';
    my $long = 'n' x 255;
    download('source', length => 5)->recv_file("$dir/$long", replace => 1);
    is -s "$dir/$long", 5, 'the longest of names';
    unlink "$dir/$long";
    is_deeply left_in($dir), ['disk.img'], 'nothing beside it';
};

# Linux's numbers of setxattr and getxattr.
my %XATTR = ('x86_64' => [188, 191], 'aarch64' => [5, 8], 'i386' => [226, 229]);
subtest 'extended attributes and access lists' => sub {
    my ($processor) = map { /^(x86_64|aarch64|i[3-6]86)/ ? $1 =~ s/^i./i3/r : '' } $Config::Config{archname};
    my ($set, $get) = @{ $XATTR{$processor} || plan skip_all => 'the numbers of these calls are not known here' };
    # The owner and nobody may write, the group may do nothing.
    my $list = pack 'L<' . '(S<S<L<)5', 2, 1, 6, 2**32 - 1, 2, 6, 65_534, 4, 0, 2**32 - 1, 16, 6, 2**32 - 1, 32, 0, 2**32 - 1;
    my %value = ('user.origin' => "a\0b", 'system.posix_acl_access' => $list);
    spew($target, $old);
    for my $name (sort keys %value) {
        syscall($set, $target, $name, $value{$name}, length $value{$name}, 0) == 0
            or plan skip_all => "this file system has no $name: $!";
    }
    my $mode = (stat $target)[2] & 07777;
    download('source')->recv_file($target, replace => 1);
    is sha_file($target), $sha, 'the content is new';
    for my $name (sort keys %value) {
        my $space = "\xff" x 1000;
        my $length = syscall $get, $target, $name, $space, length $space;
        is unpack('H*', $length < 0 ? '' : substr $space, 0, $length), unpack('H*', $value{$name}), "$name is the old one's";
    }
    is +(stat $target)[2] & 07777, $mode, 'and so is the mode';
    unlink $target;
};

subtest 'symbolic links' => sub {
    my $links = scratch() . '/links';
    mkdir $links or die "cannot make $links: $!";
    symlink "$links/two", "$links/one";
    symlink '../replace/disk.img', "$links/two";
    spew($target, $old);
    download('source')->recv_file("$links/one", replace => 1);
    is sha_file($target), $sha, 'what it leads to is replaced';
    is_deeply [map { readlink "$links/$_" } qw(one two)], ["$links/two", '../replace/disk.img'], 'they stay';
    unlink $target;
    download('source')->recv_file("$links/one", replace => 1);
    is sha_file($target), $sha, 'also where that was nothing';
    is_deeply left_in($links), [qw(one two)], 'nothing beside them';
    symlink 'round', "$links/round";
    error_is(sub { download('source')->recv_file("$links/round", replace => 1) },
        { message => qr{^recv_file failed: cannot replace \S+/round: Too many levels of symbolic links} }, 'round in a circle');
};

subtest 'a partial file' => sub {
    my $partial = "$dir/disk.img.partial";
    spew($target, $old);
    chmod 0604, $target;
    ok error_of(sub { download('source')->recv_file($target, replace => 1, partial => $partial, length => 7 << 20) }), 'a failure';
    is slurp($target), $old, '... the old file stays';
    is sha_file($partial), $sha, '... and so does what has come';
    truncate $partial, 1 << 20;
    my $st = download('source', offset => 1 << 20);
    counts($st->recv_file($target, replace => 1, partial => $partial, offset => 1 << 20), (5 << 20), 0, 'the rest');
    is sha_file($target), $sha, '... makes it whole';
    is +(stat $target)[2] & 07777, 0604, '... with the old permissions';
    is_deeply left_in($dir), ['disk.img'], '... and nothing beside it';
    spew($partial, 'x' x (2 << 20));
    download('source', offset => 10)->recv_file($target, replace => 1, partial => $partial, offset => 10);
    is sha_file($target), sha('x' x 10 . substr $content, 10), 'what is behind the offset goes';
    spew($partial, 'x');
    $st = download('source');
    error_is(sub { $st->recv_file($target, replace => 1, partial => $partial, offset => 2) },
        { message => qr/: the file at hand is shorter than what it is said to have/ }, 'one that is shorter');
    open my $other, '>', $partial or die "cannot write: $!";
    flock $other, Fcntl::LOCK_EX() or die "flock: $!";
    error_is(sub { $st->recv_file($target, replace => 1, partial => $partial) },
        { message => qr/: another transfer writes to it/ }, 'one that another writes to');
    close $other;
    unlink $partial;
    usable($st, $sha, 'the stream is as it was');
    unlink $target;
};

subtest 'what is no file' => sub {
    # Not a device of the machine's: root could replace that, if nothing stood in the way.
    POSIX::mkfifo("$dir/pipe", 0600) or die "mkfifo: $!";
    error_is(sub { download('source')->recv_file($_->[0], replace => 1) },
        { code => 38, message => qr/^recv_file failed: cannot replace \Q$_->[0]\E: $_->[1]/ }, $_->[0])
        for [$dir, 'Is a directory'], ["$dir/", 'Is a directory'], (map { ["$dir/$_", 'Is a directory'] } 'new/', 'new/.', 'new//'),
            ["$dir/pipe", 'it is no ordinary file'], ["$dir/none/x", 'No such file'];
    unlink "$dir/pipe";
    # Before anything is moved.
    my $st = download('source');
    ok error_of(sub { $st->recv_file("$dir/new/", replace => 1) }), 'a name that means a folder';
    usable($st, $sha, '... leaves the stream as it was');
};

# Everything that can go wrong on the way.
my %fails = (
    'die in progress' => sub { my ($st) = @_; $st->recv_file($target, replace => 1, progress => sub { die "mine\n" }) },
    'a stream that is unopened' => sub { $daemon->conn->new_stream->recv_file($target, replace => 1) },
    'a stream that ends too soon' => sub { $_[0]->recv_file($target, replace => 1, length => 7 << 20) },
    'an argument' => sub { $_[0]->recv_file($target, replace => 1, lenght => 5) },
    'a signal handler that dies' => sub {
        local $SIG{USR1} = sub { die "signal\n" };
        my ($st, $parent) = ($_[0], $$);
        die while_paused(sub { $st->recv_file($target, replace => 1) }, sub { kill USR1 => $parent; select undef, undef, undef, 0.5 });
    },
);
for my $name (sort keys %fails) {
    spew($target, $old);
    my $st = download('source');
    ok error_of(sub { $fails{$name}->($st) }), "$name: an exception";
    old_stays($name);
}

subtest 'the daemon is killed' => sub {
    spew($target, $old);
    local $SIG{PIPE} = 'IGNORE';
    my $st = download('source', conn => Sys::Virt->new(uri => $daemon->uri));
    my $error = while_paused(sub { $st->recv_file($target, replace => 1) }, sub { kill KILL => $daemon->pid });
    isa_ok $error, 'Sys::Virt::Error', 'an exception';
    old_stays('killed');
    undef $st;
    $daemon->kill;
    $daemon->launch;
};

subtest 'exit' => sub {
    spew($target, $old);
    my $got = run_perl(<<'EOP', args => [$daemon->uri, volume_path('source'), $target]);
use strict; use warnings; use Sys::Virt;
my ($uri, $path, $target) = @ARGV;
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream;
$conn->get_storage_volume_by_path($path)->download($st, 0, 0);
END { print "end\n" }
$st->recv_file($target, replace => 1, progress => sub { exit 7 });
print "not reached\n";
EOP
    is_deeply $got, { out => "end\n", err => '', status => 7, signal => 0, hang => 0 }, 'in progress'
        or diag explain $got;
    old_stays('exit');
};

subtest 'a child forked in progress' => sub {
    spew($target, $old);
    my @seen;
    download('source')->recv_file($target, replace => 1, progress => sub {
        my $pid = fork // die "cannot fork: $!";
        if (!$pid) { close STDOUT; close STDERR; exit 0 }
        waitpid $pid, 0;
        push @seen, grep { /^\.disk\.img\.\w{6}$/ } @{ left_in($dir) };
    });
    cmp_ok scalar @seen, '>=', 1, 'leaves the file to its parent';
    is sha_file($target), $sha, 'which becomes whole';
    is_deeply left_in($dir), ['disk.img'], 'and nothing is left';
};

# No room for the file: a small file system of a child's own, where one can be had, and
# a limit on the length of files.
my $NO_ROOM = <<'EOP';
use strict; use warnings; use Sys::Virt;
my ($how, $uri, $path, $small, $replace) = @ARGV;
if (!$ENV{INSIDE}++) {
    my @perl = ($^X, (map { "-I$_" } @INC), $0, @ARGV);
    exec 'unshare', '-m', @perl if $how eq 'full';
    exec 'sh', '-c', 'ulimit -f 2048; exec "$@"', 'sh', @perl;
}
if ($how eq 'full') {
    system("mount -t tmpfs -o size=1m none '$small' 2>/dev/null") and print("no mount\n"), exit;
    open my $out, '>', "$small/disk.img"; print {$out} 'as it was'; close $out;
}
$SIG{XFSZ} = 'IGNORE';
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream;
$conn->get_storage_volume_by_path($path)->download($st, 0, 0);
print "done\n" if eval { $st->recv_file("$small/disk.img", replace => $replace); 1 };
print ref $@ ? $@->{message} : $@, "\n";
opendir my $dir, $small; print join(' ', sort grep { !/^\.\.?$/ } readdir $dir), "\n";
open my $in, '<', "$small/disk.img"; my $read = <$in>;
print $read eq 'as it was' ? "old\n" : "new\n";
EOP
for my $how (['full', 'No space left on device'], ['limit', 'File too large']) {
    for my $replace (1, 0) {
        my $small = scratch() . '/small';
        mkdir $small;
        my $image = spew("$small/disk.img", $old);
        my $got = run_perl($NO_ROOM, args => [$how->[0], $daemon->uri, volume_path('source'), $small, $replace]);
        my $name = "$how->[0], " . ($replace ? 'with replace' : 'without');
        SKIP: {
            skip "$name: no file system can be mounted here", 1 if $how->[0] eq 'full' && $got->{out} !~ /^recv/;
            is $got->{out}, "recv_file failed: cannot write $image: $how->[1]\ndisk.img\n" . ($replace ? "old\n" : "new\n"), $name
                or diag explain $got;
        }
    }
}

# A reader who opens the name at any time sees all of the old one or all of the new one.
subtest 'a reader' => sub {
    my %whole = map { ($_ => 1) } my @digests = map { sha(pattern(1 << 20, $_)) } 0, 1;
    $daemon->volume("turn$_", undef, pattern(1 << 20, $_)) for 0, 1;
    download('turn0')->recv_file($target, replace => 1);
    pipe my $out, my $in or die "pipe: $!";
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        close $out;
        my (%seen, $end);
        local $SIG{TERM} = sub { $end = 1 };
        syswrite $in, "ready\n";
        until ($end) { $seen{ eval { sha_file($target) } // 'none' }++ }
        syswrite $in, join ' ', keys %seen;
        POSIX::_exit(0);
    }
    close $in;
    my $ready = <$out>;
    download("turn@{[$_ % 2]}")->recv_file($target, replace => 1) for 1 .. 40;
    kill TERM => $pid;
    my @seen = split ' ', <$out> // '';
    waitpid $pid, 0;
    cmp_ok scalar @seen, '>=', 1, 'it has read';
    is_deeply [grep { !$whole{$_} } @seen], [], 'only whole files';
};

done_testing;
