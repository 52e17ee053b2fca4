#!/usr/bin/perl
# The same operations as client.c, for the C binding and for this library:
# one unchanged program, so a difference is the library's.
# Usage: client.pl URI OP PATH BYTES
use strict;
use warnings;
use Fcntl ();
use Sys::Virt;

use constant { SECTION => 1048576, SEEK_DATA => 3, SEEK_HOLE => 4 };

my ($uri, $op, $path, $total) = @ARGV;

# Which shared object answers recv: the run checks that it measures what it says.
if ($op eq 'which') {
    require B;
    Sys::Virt::Stream->can('recv') or die "no recv\n";
    my $at = B::svref_2object(\&Sys::Virt::Stream::recv)->XSUB;
    open my $maps, '<', '/proc/self/maps' or die "maps: $!\n";
    while (<$maps>) {
        my ($from, $to, $file) = /^([0-9a-f]+)-([0-9a-f]+)\s.*?(\/\S+)?$/ or next;
        next if $at < hex $from or $at >= hex $to;
        print "$Sys::Virt::VERSION ", $Sys::Virt::Stream::VERSION // '-', ' ', $file // '-', "\n";
    }
    exit 0;
}

my $conn = Sys::Virt->new(uri => $uri);
if ($op eq 'start') {
    print "0 0\n";
    exit 0;
}

my $sparse = $op =~ /^sparse_/;
$total *= 2 if $sparse;
my ($bytes, $calls, $pos) = (0, 0, 0);

my $vol = $conn->get_storage_volume_by_path($path);
my $st = $conn->new_stream;
if ($op =~ /send/) {
    $vol->upload($st, 0, $total, $sparse ? Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM : 0);
} else {
    $vol->download($st, 0, $total, $sparse ? Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM : 0);
}

my $sink = sub { $bytes += $_[2]; $calls++; $_[2] };
my $named = sub { my ($st, $data, $n) = @_; $bytes += $n; $calls++; $n };

my $prepared = '';
my $whole = '';
# A constant repeat would be made when perl compiles, for every operation.
my $section = SECTION;
$prepared = 'x' x $section if $op =~ /send_all/;
$whole = substr $prepared, 0, 262_120 if $op eq 'send_all_assign';
my $source = sub {
    my $n = $_[2];
    $n = $total - $pos if $n > $total - $pos;
    $_[1] = substr $prepared, 0, $n;
    $pos += $n;
    $bytes += $n;
    $calls++;
    $n;
};
# The same with a string that is there already, which perl need not copy.
my $assign = sub {
    my $n = $_[2];
    $n = $total - $pos if $n > $total - $pos;
    $_[1] = $n == 262_120 ? $whole : substr $prepared, 0, $n;
    $pos += $n;
    $bytes += $n;
    $calls++;
    $n;
};

# The files of client.c. What has no call for it does it by handlers.
sub whole_file {
    my $up = $op =~ /send/;
    my $name = $up ? $path =~ s{[^/]*\z}{down}r : "$path.file";
    if (Sys::Virt::Stream->can('recv_file')) {
        my $got = $up ? $st->send_file($name, sparse => $sparse, length => $total)
            : $st->recv_file($name, sparse => $sparse);
        return ($got->{bytes} - $got->{holes}, 1);
    }
    open my $fh, $up ? '<:raw' : '>:raw', $name or die "$name: $!\n";
    my $write = sub { my $n = syswrite $fh, $_[1], $_[2]; $bytes += $n; $calls++; $n };
    my $read = sub {
        my $n = $_[2];
        $n = $total - $pos if $n > $total - $pos;
        $n = sysread $fh, $_[1], $n;
        $pos += $n;
        $bytes += $n;
        $calls++;
        $n;
    };
    my $section = sub {
        return (0, 0) if $pos >= $total;
        my $data = sysseek $fh, $pos, SEEK_DATA;
        my $in_data = defined $data && $data == $pos;
        my $until = $in_data ? sysseek $fh, $pos, SEEK_HOLE : $data;
        $until = $total if !defined $until || $until > $total;
        sysseek $fh, $pos, Fcntl::SEEK_SET;
        return ($in_data ? 1 : 0, $until - $pos);
    };
    my $skip = sub { $pos += $_[1]; sysseek $fh, $_[1], Fcntl::SEEK_CUR; 0 };
    my $hole = sub { truncate $fh, sysseek $fh, $_[1], Fcntl::SEEK_CUR; 0 };
    if    ($op eq 'recv_file')        { $st->recv_all($write) }
    elsif ($op eq 'send_file')        { $st->send_all($read) }
    elsif ($op eq 'sparse_recv_file') { $st->sparse_recv_all($write, $hole) }
    else                              { $st->sparse_send_all($read, $section, $skip) }
    $st->finish;
    close $fh or die "$name: $!\n";
    return ($bytes, $calls);
}
if ($op =~ /_file$/) {
    printf "%d %d\n", whole_file();
    exit 0;
}

if    ($op eq 'recv_all')        { $st->recv_all($sink) }
elsif ($op eq 'recv_all_named')  { $st->recv_all($named) }
elsif ($op eq 'send_all')        { $st->send_all($source) }
elsif ($op eq 'send_all_assign') { $st->send_all($assign) }
elsif ($op eq 'sparse_recv_all') { $st->sparse_recv_all($sink, sub { $pos += $_[1]; 0 }) }
elsif ($op eq 'sparse_send_all') {
    $st->sparse_send_all(
        $source,
        sub {
            return (0, 0) if $pos >= $total;
            return (($pos / SECTION) % 2 == 0 ? 1 : 0, SECTION - $pos % SECTION);
        },
        sub { $pos += $_[1]; 0 });
} elsif ($op =~ /^recv:(\d+)$/) {
    my $size = $1 + 0;
    my ($data, $n);
    while (($n = $st->recv($data, $size)) > 0) {
        $bytes += $n;
        $calls++;
    }
} elsif ($op =~ /^send:(\d+)$/) {
    my $size = $1 + 0;
    my $data = 'x' x $size;
    while ($pos < $total) {
        $pos += $st->send($data, $size);
        $calls++;
    }
    $bytes = $pos;
} else {
    die "client: no operation $op\n";
}
$st->finish;
print "$bytes $calls\n";
