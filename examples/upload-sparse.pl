#!/usr/bin/perl
# Uploads a file into a volume. Holes of the file are not sent, and become holes of the volume.
use strict;
use warnings;
use Sys::Virt;

die "usage: $0 URI FILE VOLUME-PATH\n" if @ARGV != 3;
my ($uri, $file, $path) = @ARGV;

my $conn = Sys::Virt->new(uri => $uri);
my $st   = $conn->new_stream;
# Length 0 stands for all that comes.
$conn->get_storage_volume_by_path($path)
    ->upload($st, 0, 0, Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM);
my $result = $st->send_file($file, sparse => 1);
printf "%d bytes, %d of them in holes\n", @$result{qw(bytes holes)};
