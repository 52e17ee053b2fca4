# What a file may be given as: paths, and filehandles of every kind; and what is refused,
# before anything is moved.
use strict;
use warnings;

use IO::File ();
use POSIX ();
use Symbol ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Files;

plan skip_all => 'the C binding has no such methods' unless rust();

my $daemon = daemon();
my $dir = scratch();
my $content = pattern(700_003);
$daemon->volume('source', undef, $content);
my $file = spew("$dir/file", $content);
my $sha = sha($content);
my $target = "$dir/target";
sub up { $daemon->volume('up', $_[0] // length $content); return upload('up') }
sub sent { return sha_file(volume_path('up')) }

subtest 'paths' => sub {
    { package Some::Path; use overload '""' => sub { $_[0][0] }, fallback => 1 }
    my %path = (
        'a string' => $target, 'an object that is a string' => bless([$target], 'Some::Path'),
        'bytes that are no text' => "$dir/\xe9\xff", 'a name with a wide character' => "$dir/\x{263a}",
        'a tied one' => do { tie my $tied, 'Some::Tie', $target; \$tied },
    );
    { package Some::Tie; sub TIESCALAR { bless [$_[1]] } sub FETCH { $_[0][0] } sub STORE { } }
    for my $name (sort keys %path) {
        my $path = $name =~ /tied/ ? $path{$name} : \$path{$name};
        download('source')->recv_file($$path);
        # The file that Perl's own open would take.
        is sha_file("$$path"), $sha, "$name, down";
        my $st = up();
        $st->send_file($$path);
        is sent(), $sha, "$name, up";
        unlink "$$path";
    }
    umask 027;
    download('source')->recv_file($target);
    is +(stat $target)[2] & 07777, 0640, 'a new file has what the umask leaves';
    chmod 0604, $target;
    download('source')->recv_file($target);
    is +(stat $target)[2] & 07777, 0604, 'an old one what it has';
    symlink $target, "$dir/link";
    download('source')->recv_file("$dir/link");
    ok -l "$dir/link", 'a link stays one';
    umask 022;
    spew($target, 'old' x 1_000_000);
    download('source')->recv_file($target);
    is sha_file($target), $sha, 'what stood there is gone';
    is error_of(sub { download('source')->recv_file('/dev/null') }), undef, 'a device';
    unlink $target;
};

subtest 'handles, down' => sub {
    my %open = (
        'a glob' => sub { no strict 'refs'; my $name = 'main::HANDLE'; open *$name, '>', $target or die $!; *$name },
        'a reference to one' => sub { open my $fh, '>', $target or die $!; $fh },
        'its IO' => sub { open my $fh, '>', $target or die $!; *$fh{IO} },
        'an IO::File' => sub { IO::File->new($target, 'w') },
        'an object with a handle' => sub { open my $fh, '>', $target or die $!; bless { fh => $fh }, 'Has::Handle' },
        'binmode' => sub { open my $fh, '>:encoding(UTF-8)', $target or die $!; binmode $fh; $fh },
        ':unix' => sub { open my $fh, '>:unix', $target or die $!; $fh },
        ':stdio' => sub { open my $fh, '>:stdio', $target or die $!; $fh },
        'opened twice' => sub { open my $fh, '>', $target or die $!; open my $two, '>&', $fh or die $!; $two },
    );
    { package Has::Handle; use overload '*{}' => sub { no overloading; $_[0]{fh} }, fallback => 1 }
    for my $name (sort keys %open) {
        my $fh = $open{$name}->();
        counts(download('source')->recv_file($fh), length $content, 0, $name);
        is sha_file($target), $sha, 'the content';
    }

    open my $fh, '+>', $target or die "cannot write: $!";
    print {$fh} 'before';    # is still in Perl's buffer
    download('source')->recv_file($fh);
    is tell $fh, 6 + length $content, 'its position: behind what was written';
    print {$fh} 'after';
    seek $fh, 3, 0;
    download('source', length => 4)->recv_file($fh);
    is tell $fh, 7, 'from where it was';
    download('source')->recv_file($fh, offset => 10, length => 5);
    is tell $fh, 15, 'or at an offset';
    close $fh or die "close: $!";
    my $becomes = "before${content}after";
    substr $becomes, 3, 4, substr $content, 0, 4;
    substr $becomes, 10, 5, substr $content, 0, 5;
    is sha_file($target), sha($becomes), 'all of it is there, and nothing was cut off';

    spew($target, 'old');
    open $fh, '>>', $target or die "cannot append: $!";
    print {$fh} 'and ';
    sparse_file(volume_path('holes'), data => 5000, hole => 100_000, data => 10);
    $daemon->adopt('holes');
    download('holes', sparse => 1)->recv_file($fh, sparse => 1);
    print {$fh} 'end';
    close $fh or die "close: $!";
    is sha_file($target), sha('oldand ' . slurp(volume_path('holes')) . 'end'), 'append, holes being zeroes';

    pipe my $out, my $in or die "pipe: $!";
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        close $in;
        local $/;
        my $read = <$out>;
        spew("$dir/read", $read);
        POSIX::_exit(0);
    }
    close $out;
    is(download('holes', sparse => 1)->recv_file($in, sparse => 1)->{bytes}, 105_010, 'a pipe');
    close $in;
    waitpid $pid, 0;
    is sha_file("$dir/read"), sha_file(volume_path('holes')), 'holes are zeroes there';
};

subtest 'a handle that does not block is waited for' => sub {
    for my $way (qw(down up)) {
        pipe my $out, my $in or die "pipe: $!";
        (my $ours = $way eq 'down' ? $in : $out)->blocking(0);
        my $pid = fork // die "cannot fork: $!";
        if (!$pid) {
            close $ours;
            select undef, undef, undef, 0.3;    # by now it would have blocked
            if ($way eq 'up') { syswrite $in, $content }
            else { local $/; spew("$dir/read", scalar <$out>) }
            POSIX::_exit(0);
        }
        close($way eq 'down' ? $out : $in);
        counts($way eq 'down' ? download('source')->recv_file($ours) : up()->send_file($ours), length $content, 0, $way);
        close $ours;
        waitpid $pid, 0;
        is $way eq 'down' ? sha_file("$dir/read") : sent(), $sha, '... all of it';
    }
};

subtest 'handles, up' => sub {
    open my $fh, '<', $file or die "cannot read: $!";
    is scalar(read $fh, my $head, 10), 10, 'what Perl has read ahead';
    up(length($content) - 10)->send_file($fh);
    is sent(), sha(substr $content, 10), '... is sent, and what was had is not';
    ok eof $fh, 'the handle is at its end';
    is tell $fh, length $content, '... and says so';
    seek $fh, 100, 0;
    up(50)->send_file($fh, length => 50);
    is sent(), sha(substr $content, 100, 50), 'from where it was';
    is scalar(read $fh, $head, 10), 10, 'and on';
    is $head, substr($content, 150, 10), '... behind what was sent';
    up(50)->send_file($fh, length => 50, offset => 7);
    is sent(), sha(substr $content, 7, 50), 'at an offset';
    is tell $fh, 57, '... its position';

    open $fh, '-|', $^X, '-pe', '', $file or die "no pipe: $!";
    binmode $fh;
    read $fh, $head, 10;
    up(length($content) - 10)->send_file($fh);
    is sent(), sha(substr $content, 10), 'a pipe, less what was read of it';
    ok eof $fh, 'it is at its end';
    ok close $fh, '... and can be closed';
    my $st = up(7);
    $st->send_file('/dev/zero', length => 7);
    is sent(), sha("\0" x 7), 'a device without an end, as far as is asked for';
    open $fh, '<', '/proc/version' or plan skip_all => 'no /proc';
    my $version = slurp('/proc/version');
    up(length $version)->send_file('/proc/version');
    is sent(), sha($version), 'a file that says it is empty, and is not';
    my ($claims) = grep { -r && -s _ > length slurp($_) } glob '/sys/kernel/{uevent_seqnum,profiling,fscaps}';
    SKIP: {
        skip 'no file of the kernel that says it is longer than it is', 5 unless $claims;
        my $has = slurp($claims);
        for my $sparse (0, 1) {
            $daemon->volume('up', 4096);
            $st = upload('up', sparse => $sparse);
            my @told;
            counts($st->send_file($claims, sparse => $sparse, progress => sub { @told = @_ }), length $has, 0,
                "$claims, which says it is longer than it is");
            is_deeply \@told, [length $has, 0, length $has], '... its length is known at the end';
        }
        error_is(sub { up()->send_file($claims, length => 4096) },
            { message => "send_file failed: $claims has ended after ${\ length $has} of 4096 bytes" }, '... as many as it says');
    }
};

subtest 'refused' => sub {
    no warnings;
    open my $memory, '+<', \my $buffer;
    tie *TIED, 'Some::HandleTie';
    { package Some::HandleTie; sub TIEHANDLE { bless [] } }
    open my $closed, '<', $file;
    close $closed;
    my %layered = map { my $layer = $_; ($_ => do { open my $fh, "+<:$layer", $file or die $!; $fh }) }
        'utf8', 'encoding(UTF-8)', 'crlf', 'encoding(latin1)';
    opendir my $folder, $dir;
    my %refused = (    # both ways
        'a handle in memory' => [$memory, qr/: the filehandle has no file descriptor at /],
        'a tied handle' => [\*TIED, qr/: the filehandle is tied, and has no file descriptor at /],
        'a closed handle' => [$closed, qr/: the filehandle is not open at /],
        'one that never was open' => [Symbol::gensym(), qr/: the filehandle is not open at /],
        'a directory handle' => [$folder, qr/: the filehandle is not open at /],
        undef => [undef, qr/: the file is undefined, /],
        (map { ("a reference to $_->[0]" => [$_->[1], qr/: the file is a reference, /]) }
            ['an array' => []], ['a hash' => {}], ['code' => sub { }], ['an object' => bless [], 'Some']),
        (map { my ($layer) = /^(\w+)/; ("a layer $_" => [$layered{$_},
            qr/: the filehandle has a layer :$layer; bytes need one that is :raw at /]) } keys %layered),
        'a digest of another kind' => [[$file, digest => 'md5'], qr/: digest is none of: sha256 at /],
        'a limit of nothing' => [[$file, limit => 0], qr/: a limit of 0 lets nothing through at /],
        'an option without a value' => [[$file, 'sparse'], qr/: options are pairs of a name and a value, /],
        'an unknown option' => [[$file, Sparse => 1], qr/: there is no option "Sparse"; there are detect_zeroes, digest, length, /],
        (map { my $option = $_; map { ("$option of " . ($_ // 'undef') => [[$file, $option => $_],
            qr/: $option is not a whole number of bytes, from 0 up at /]) } -1, 1.5, 'x', '', '10k', 9**9**9, -sin(9**9**9), [], 2**60 } qw(offset length)),
        (map { ("progress of $_" => [[$file, progress => $_], qr/: progress is not a code reference at /]) } 1, 'main::sent', [], \1),
    );
    my %own = (
        down => {
            'a handle to read from' => [do { open my $fh, '<', $file; $fh }, qr/: the filehandle is not open to write at /],
            'replace with a handle' => [[do { open my $fh, '>', $target; $fh }, replace => 1], qr/: replace needs a path, /],
            'replace with an offset' => [["$dir/none", replace => 1, offset => 0], qr/: a file that replaces another has no use of an offset at /],
            'partial alone' => [["$dir/none", partial => "$dir/some"], qr/: partial needs replace at /],
            'an offset in a pipe' => [[do { pipe my $out, my $in; push our @keep, $out; $in }, offset => 0], qr/: the file has no positions for an offset at /],
            'an offset in a file to append to' => [[do { open my $fh, '>>', $target; $fh }, offset => 0], qr/: the file has no positions for an offset at /],
        },
        up => {
            'a handle to write to' => [do { open my $fh, '>', $target; $fh }, qr/: the filehandle is not open to read at /],
            'detect_zeroes alone' => [[$file, detect_zeroes => 1], qr/: detect_zeroes needs sparse, /],
            'an offset in a pipe' => [[do { pipe my $out, my $in; push our @keep, $in; $out }, offset => 0], qr/: the file has no positions for an offset at /],
            (map { ($_ => [[$file, $_ => 1], qr/: there is no option "$_"/]) } qw(replace sync)),
        },
    );
    for my $way (qw(down up)) {
        my ($st, $call) = $way eq 'down' ? (download('source'), 'recv_file') : (up(), 'send_file');
        my %all = (%refused, %{ $own{$way} });
        for my $name (sort keys %all) {
            my ($args, $says) = @{ $all{$name} };
            my @args = $name =~ /array/ ? $args : ref $args eq 'ARRAY' ? @$args : $args;
            my $error = error_of(sub { $st->$call(@args) });
            like $error, qr/^$call$says/, "$way: $name";
        }
        my %fails = (    # where the system says why
            'a directory' => [$dir, 'Is a directory'], 'no such file' => ["$dir/none/x", 'No such file or directory'],
            'an empty name' => ['', 'No such file or directory'], 'a name within a file' => ["$file/x", 'Not a directory'],
            'a name with a NUL' => ["$dir/a\0b", qr/nul/],
            'a name too long' => ["$dir/" . 'x' x 300, 'File name too long'],
        );
        if ($> != 0) {
            chmod 0, spew("$dir/secret", 'x');
            $fails{'no permission'} = ["$dir/secret", 'Permission denied'];
        }
        for my $name (sort keys %fails) {
            my ($path, $why) = @{ $fails{$name} };
            my $error = error_of(sub { $st->$call($path) });
            isa_ok $error, 'Sys::Virt::Error', "$way: $name";
            like $error->{message}, qr/^$call failed: cannot (?:open|read|write) \Q$path\E: .*$why/, '... and says so';
        }
        # Nothing of this has touched the stream.
        if ($way eq 'down') { usable($st, $sha, 'down: the stream is as it was') }
        else {
            is error_of(sub { $st->send_file($file) }), undef, 'up: the stream is as it was';
            is sent(), $sha, '... and the volume becomes whole';
        }
        my $nonblocking = $way eq 'down' ? download('source', flags => 1) : upload('up', flags => 1);
        error_is(sub { $nonblocking->$call($file) }, {
            code => 55, message => "Requested operation is not valid: $call cannot be used for non-blocking streams",
        }, "$way: a non-blocking stream");
        is error_of(sub { $nonblocking->abort }), undef, '... which is still open';
    }
    is sha_file($file), $sha, 'the file is whole';
};

subtest 'a stream that gives nothing costs nothing' => sub {
    spew($target, 'old');
    unlink "$dir/new";
    for my $name ('unopened', 'aborted') {
        my $st = $name eq 'unopened' ? $daemon->conn->new_stream : download('source');
        $st->abort if $name eq 'aborted';
        isa_ok error_of(sub { $st->recv_file($_) }), 'Sys::Virt::Error', "$name: an exception" for $target, "$dir/new";
        is slurp($target), 'old', 'the old file stays';
        ok !-e "$dir/new", 'and no new one';
    }
    my $gone = $daemon->volume('gone', 1 << 20);
    my $st = $daemon->conn->new_stream;
    unlink volume_path('gone');
    ok error_of(sub { $gone->download($st, 0, 0); $st->recv_file($target) }), 'a volume that is gone';
    is slurp($target), 'old', 'the old file stays';
};

subtest 'what was received ahead comes first' => sub {
    my $st = download('source');
    $st->recv(my $head, 100);
    counts($st->recv_file($target), length($content) - 100, 0, 'the rest');
    is sha($head . slurp($target)), $sha, 'nothing is lost';
};

done_testing;
