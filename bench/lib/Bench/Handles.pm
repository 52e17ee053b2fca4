package Bench::Handles;

# What Perl's habits with handles cost over a stream's handle.

use strict;
use warnings;

use Bench::Clients;
use Bench::Table;

# What handles.pl calls it, and what it is compared with.
my @HABITS = (
    ['lines',    '`while (<$h>)`, a million lines', 'hand', '`recv` and `index`'],
    ['print',    '`print $h $line`, a million times', 'hand', 'a string and `send`'],
    ['store_fd', 'Storable, 200,000 integers', 'file', 'a file'],
    ['json',     'JSON::PP, 20,000 documents', 'file', 'a file'],
    ['csv',      'CSV, 100,000 rows', 'file', 'a file'],
    ['gzip',     'IO::Compress::Gzip, 100,000 lines', 'file', 'a file'],
);

# A table of the medians, for one of Bench::Clients' clients.
sub table {
    my ($here, $client, $volumes, $rounds) = @_;
    my $file = Bench::Clients::dir() . '/lines';
    my $down = $volumes->lines(join '', map { "this is line number $_ of a million\n" } 1 .. 1_000_000);
    my @rows = ['over a handle', 'seconds', 'compared with', 'times'];
    my ($perl, $lib) = @{ $client->{command} };
    for my $habit (@HABITS) {
        my ($name, $title, $base, $than) = @$habit;
        my (@ours, @times);
        for (1 .. $rounds) {
            my %took = map {
                my $out = Bench::Clients::ok($title, $perl, $lib, "$here/handles.pl", $volumes->uri, $down,
                    $volumes->path('send'), $file, $name, $_);
                ($_ => $out + 0)
            } 'handle', $base;
            push @ours, $took{handle};
            push @times, $took{$base} ? $took{handle} / $took{$base} : ();
        }
        push @rows, [$title, sprintf('%.2f', Bench::Table::median(@ours)), $than,
            @times ? sprintf('%.2f', Bench::Table::median(@times)) : '-'];
    }
    return Bench::Table::markdown(@rows);
}

1;
