package StreamTest::Files;

# Streams for recv_file and send_file, and what is to be seen of files afterwards.

use strict;
use warnings;

use Exporter 'import';
use POSIX ();
use StreamTest ();
use Test::More ();
use Time::HiRes ();

our @EXPORT = qw(qcow2 download upload volume_path extents same_extents keeps_holes left_in usable counts while_paused);

# An open stream of a volume, on a connection of its own if one is given.
sub opened {
    my ($way, $name, %opt) = @_;
    my $daemon = StreamTest::daemon();
    my $conn   = $opt{conn} || $daemon->conn;
    my $st     = $conn->new_stream($opt{flags} // 0);
    my $volume = $conn->get_storage_volume_by_path(volume_path($name));
    $volume->$way($st, $opt{offset} // 0, $opt{length} // 0, $opt{sparse} ? 1 : 0);
    return $st;
}
sub download { return opened(download => @_) }
sub upload   { return opened(upload => @_) }

sub volume_path { return StreamTest::daemon()->pool_dir . "/$_[0]" }

# The stretches of data in a file, as [begin, end].
sub extents {
    my ($file) = @_;
    my ($at, $size, @found) = (0, -s $file);
    open my $in, '<:raw', $file or die "cannot read $file: $!";
    while ($at < $size) {
        my $data = sysseek($in, $at, 3) // last;    # SEEK_DATA
        $at = sysseek $in, $data, 4;                # SEEK_HOLE
        push @found, [$data + 0, $at + 0];
    }
    return \@found;
}

# Two files with data in the same places. There may be a million: by a digest, and where
# that differs, where they part.
sub same_extents {
    my ($made, $from, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @all = map { my $of = extents($_); [map { "@$_" } @$of] } $made, $from;
    my ($is, $want) = map { StreamTest::sha(join ',', @$_) } @all;
    return 1 if Test::More::is($is, $want, $name);
    my $n = 0;
    $n++ while ($all[0][$n] // '') eq ($all[1][$n] // '');
    Test::More::diag("extent $n: ", $all[0][$n] // 'none', ' and not ', $all[1][$n] // 'none');
    return 0;
}

# Makes a file with the header of a qcow2 image whose disk has so many bytes, and something behind it. It
# packs no Q, which a perl with integers of 32 bits does not have.
sub qcow2 {
    my ($path, $size) = @_;
    my $high = int($size / 2**32);
    my @wide = map { (0, $_) } 65_536, 131_072;
    my $head = pack 'a4 N x8 N12 x8', "QFI\xfb", 2, 0, 16, $high, $size - $high * 2**32, 0, 0, @wide, 1, 0;
    return StreamTest::spew($path, $head . StreamTest::pattern(200_000));
}

# Whether the file system under a directory keeps holes.
sub keeps_holes {
    my ($dir) = @_;
    my $probe = StreamTest::sparse_file("$dir/probe", hole => 8 << 20, data => 65_536);
    my $keeps = StreamTest::blocks($probe) * 512 < 1 << 20;
    unlink $probe;
    return $keeps;
}

# Names in a directory, hidden ones too.
sub left_in {
    my ($dir) = @_;
    opendir my $handle, $dir or die "cannot read $dir: $!";
    return [sort grep { !/^\.\.?$/ } readdir $handle];
}

# Has the daemon pause under a call. Another process sees to what happens meanwhile, and
# to the daemon's going on.
sub while_paused {
    my ($call, $meanwhile) = @_;
    my $daemon = StreamTest::daemon();
    $daemon->pause;
    my $other = fork // die "cannot fork: $!";
    if (!$other) {
        Time::HiRes::sleep(0.4);    # longer than progress waits
        eval { $meanwhile->() if $meanwhile };
        kill CONT => $daemon->pid;
        POSIX::_exit(0);
    }
    my $error = StreamTest::error_of($call);
    $daemon->resume;
    waitpid $other, 0;
    return $error;
}

# The stream as it was: a whole transfer comes over it.
sub usable {
    my ($st, $sha, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $all = '';
    my $error = StreamTest::error_of(sub { $st->recv_all(sub { $all .= $_[1]; $_[2] }); $st->finish });
    return Test::More::is($error // StreamTest::sha($all), $sha, $name);
}

# What a transfer returns, but for the seconds.
sub counts {
    my ($got, $bytes, $holes, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %rest = %$got;
    my $seconds = delete $rest{seconds};
    return Test::More::is_deeply(\%rest, { bytes => $bytes, holes => $holes }, $name)
        && Test::More::cmp_ok($seconds, '>=', 0, 'and seconds');
}

1;
