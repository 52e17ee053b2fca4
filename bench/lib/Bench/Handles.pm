package Bench::Handles;

# What Perl's habits with handles cost over a stream's handle.

use strict;
use warnings;

use Bench::Clients;
use Bench::Table;

# What handles.pl calls it, and what it is compared with.
my @HABITS = (
    ['lines',    '`while (<$h>)`, a million lines', 'hand', '`recv` and `index`'],
    ['lines',    '`while (<$h>)`, a million lines', 'pipe', '`<$pipe>` from `virsh vol-download`'],
    ['print',    '`print $h $line`, a million times', 'hand', 'a string and `send`'],
    ['store_fd', 'Storable, 200,000 integers', 'file', 'a file'],
    ['json',     'JSON::PP, 20,000 documents', 'file', 'a file'],
    ['csv',      'CSV, 100,000 rows', 'file', 'a file'],
    ['gzip',     'IO::Compress::Gzip, 100,000 lines', 'file', 'a file'],
);

# What was measured, for one of Bench::Clients' clients: rows.
sub measure {
    my ($here, $client, $volumes, $rounds) = @_;
    my $file = Bench::Clients::dir() . '/lines';
    my $down = $volumes->lines(join '', map { "this is line number $_ of a million\n" } 1 .. 1_000_000);
    my ($perl, $lib) = @{ $client->{command} };
    my @rows;
    for my $habit (@HABITS) {
        my ($name, $title, $base, $than) = @$habit;
        next if $base eq 'pipe' && !Bench::Clients::find('virsh');
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
        push @rows, { name => $name, base => $base, title => $title, than => $than,
            seconds => Bench::Table::median(@ours), times => \@times };
    }
    return \@rows;
}

sub table {
    my ($rows) = @_;
    my @rows = map {
        [$_->{title}, sprintf('%.2f', $_->{seconds}), $_->{than}, @{ $_->{times} } ? Bench::Table::spread(@{ $_->{times} }) : '-']
    } @$rows;
    return Bench::Table::markdown(['over a handle', 'CPU s', 'compared with', 'times'], @rows);
}

1;
