#!/usr/bin/perl
# Downloads a volume to a file, and shows how far it is.
use strict;
use warnings;
use Sys::Virt;

die "usage: $0 URI VOLUME-PATH FILE\n" if @ARGV != 3;
my ($uri, $path, $file) = @ARGV;
$| = 1;

my $conn   = Sys::Virt->new(uri => $uri);
my $volume = $conn->get_storage_volume_by_path($path);
my $total  = $volume->get_info->{capacity};

my $st = $conn->new_stream;
$volume->download($st, 0, 0);
my $result = $st->recv_file($file, replace => 1, progress => sub {
    my ($bytes) = @_;
    printf "\r%3d %%", $total ? 100 * $bytes / $total : 100;
});
printf "\r%d bytes in %.1f s\n", @$result{qw(bytes seconds)};
