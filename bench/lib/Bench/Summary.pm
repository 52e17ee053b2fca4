package Bench::Summary;

# What comes out of a run, in three lines.

use strict;
use warnings;

use Bench::Table;

sub lines {
    my ($seen, $ops, $habits, $handles) = @_;
    my %times = map { $_->{op} => times_c($_, $seen) } grep { !$_->{extra} } @$ops;
    my @small = map { delete $times{$_} } 'recv:1024', 'send:1024';
    my ($least, $most) = least_and_most(values %times);
    my ($fast, $slow) = least_and_most(
        map { Bench::Table::median(@{ $_->{times} }) } grep { $_->{handler} } @{ $habits->{rows} });
    my %over = map { ("$_->{name} $_->{base}" => Bench::Table::median(@{ $_->{times} })) } @$handles;
    my ($good, $bad) = least_and_most(map { $over{$_} } grep { / file$/ } keys %over);

    my @lines = (
        sprintf('Loops, whole files and calls of 64 KiB and more take %.2f to %.2f times the instructions'
            . ' of a C program; a `recv` of 1 KiB takes %.2f, a `send` %.2f.', $least, $most, @small),
        sprintf('With a signal handler set, calls, loops and aborts take %.2f to %.2f times as long as with the C binding;'
            . ' a handler runs %.1f ms after its signal.', $fast, $slow, 1000 * $habits->{median}),
        sprintf('Over a handle, a million lines take %.2f times the CPU of a loop by hand%s, and printing them'
            . ' %.2f times; Storable, JSON, CSV and gzip take %.2f to %.2f times what they take over a file.', $over{'lines hand'},
            exists $over{'lines pipe'} ? sprintf(' (%.2f of a pipe from virsh)', $over{'lines pipe'}) : '',
            $over{'print hand'}, $good, $bad),
    );
    return join '', map { "- $_\n" } @lines;
}

sub times_c {
    my ($op, $seen) = @_;
    my ($ours, $c) = map { (Bench::Table::instructions($op, $seen->{ $op->{op} }{$_}))[0] } qw(rust client);
    return $ours / $c;
}

sub least_and_most {
    return (sort { $a <=> $b } @_)[0, -1];
}

1;
