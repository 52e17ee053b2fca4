package Bench::Habits;

# What programs do around their transfers: with a handler of signals set, streams that
# are dropped and aborted.

use strict;
use warnings;

use Bench::Clients;
use Bench::Table;

# What habits.pl calls it, whether a handler is set, and what it is.
my @HABITS = (
    ['recv:1024',  1, '`recv` of 1 KiB, a handler in %SIG'],
    ['recv:65536', 1, '`recv` of 64 KiB, a handler'],
    ['recv_all',   1, '`recv_all`, a handler'],
    ['send:1024',  1, '`send` of 1 KiB, a handler'],
    ['send_all',   1, '`send_all`, a handler'],
    ['drop',       0, '20,000 streams made and dropped'],
    ['abort',      0, '200 streams opened, a little received, aborted'],
    ['abort',      1, '200 streams aborted, a handler'],
);

# What was measured, for the two of Bench::Clients' clients: rows, and figures of signals.
sub measure {
    my ($here, $c, $ours, $volumes, $rounds) = @_;
    my (@rows, @signals);
    for my $habit (@HABITS) {
        my ($name, $handler, $title) = @$habit;
        my (%took, @times);
        for my $round (1 .. $rounds) {
            my @turns = $round % 2 ? ($c, $ours) : ($ours, $c);
            my %once = map { $_->{name} => once($here, $_, $volumes, $name, $handler) } @turns;
            push @{ $took{$_} }, $once{$_} for keys %once;
            push @times, $once{ $ours->{name} } / $once{ $c->{name} };
        }
        push @rows, { title => $title, handler => $handler,
            (map { $_ => Bench::Table::median(@{ $took{$_} }) } keys %took), times => \@times };
    }
    for (1 .. $rounds) {
        my @got = split ' ', once($here, $ours, $volumes, 'signal', 1);
        push @{ $signals[$_] }, $got[$_] for 0 .. 2;
    }
    return { rows => \@rows, median => Bench::Table::median(@{ $signals[0] }),
        map { ($_->[0] => (sort { $a <=> $b } @{ $signals[ $_->[1] ] })[-1]) } ['most', 1], ['woken', 2] };
}

sub once {
    my ($here, $client, $volumes, $name, $handler) = @_;
    my ($perl, $lib) = @{ $client->{command} };
    my ($status, $out, $err) = Bench::Clients::run($client->{env}, $perl, $lib, "$here/habits.pl",
        $volumes->uri, $volumes->path('recv'), $volumes->path('send'), $name, $handler, $volumes->pid);
    die "$client->{title}: $name\n$out$err" if $status;
    return $out + 0 if $name ne 'signal';
    return $out;
}

sub table {
    my ($habits) = @_;
    my @rows = ['around a transfer', 'C binding, s', 'this library, s', 'times the C binding'];
    for my $row (@{ $habits->{rows} }) {
        push @rows, [$row->{title}, (map { sprintf '%.3f', $row->{$_} } qw(c rust)),
            Bench::Table::spread(@{ $row->{times} })];
    }
    return Bench::Table::markdown(@rows) . sprintf "\nFrom a signal to its handler, in a call that waits: "
        . "%.1f ms (at most %.1f); until then the call wakes up %d times a second.\n"
        . "(The C binding runs the handler when the call has returned.)\n",
        1000 * $habits->{median}, 1000 * $habits->{most}, $habits->{woken};
}

1;
