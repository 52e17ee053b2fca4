#!/usr/bin/perl
# usage: perl examples/screenshot.pl URI DOMAIN FILE
# What the domain's screen shows, in the format that the hypervisor sends.

use strict;
use warnings;
use Sys::Virt;

my ($uri, $name, $file) = @ARGV;
die "usage: $0 URI DOMAIN FILE\n" unless @ARGV == 3;

my $conn   = Sys::Virt->new(uri => $uri);
my $domain = $conn->get_domain_by_name($name);
my $stream = $conn->new_stream;
my $type   = $domain->screenshot($stream, 0);

open my $out, '>:raw', $file or die "$file: $!\n";
my $bytes = 0;
$stream->recv_all(sub {
    my (undef, $data, $n) = @_;
    my $wrote = syswrite $out, $data, $n;
    die "$file: $!\n" unless defined $wrote;
    $bytes += $wrote;
    return $wrote;
});
$stream->finish;
close $out or die "$file: $!\n";

printf "%s: %s, %d bytes, received by the %s library\n",
    $file, $type, $bytes, Sys::Virt::Stream->implementation;
