#!/usr/bin/perl
# Saves a screenshot of a guest. Without any daemon: screenshot.pl test:///default test test.png
use strict;
use warnings;
use Sys::Virt;

die "usage: $0 URI DOMAIN FILE\n" if @ARGV != 3;
my ($uri, $name, $file) = @ARGV;

my $conn = Sys::Virt->new(uri => $uri);
my $st   = $conn->new_stream;
my $type = $conn->get_domain_by_name($name)->screenshot($st, 0);
my $result = $st->recv_file($file, replace => 1);
print "$file: $type, $result->{bytes} bytes\n";
