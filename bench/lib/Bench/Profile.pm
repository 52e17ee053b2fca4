package Bench::Profile;

# On what the instructions of an operation are spent: callgrind's figures of two
# run lengths, subtracted function by function and divided by the units.

use strict;
use warnings;

use Bench::Clients;

my $MOST = 25;

sub of {
    my ($client, $op, $uri, $path) = @_;
    my @got = map {
        my $length = $_;
        my $out = Bench::Clients::dir() . "/callgrind.$length";
        my $run = Bench::Clients::instructions($client, $out, $uri, $op->{op}, $path->(),
            $length * $op->{count});
        { run => $run, map { $_ => functions($out, $_) } qw(no yes) };
    } 1, 2;
    my $units = $op->{unit} eq 'call'
        ? $got[1]{run}{calls} - $got[0]{run}{calls} : $op->{count} / (1 << 20);
    my $total = ($got[1]{run}{instructions} - $got[0]{run}{instructions}) / $units;

    my $text = sprintf "%s, %s: %.0f instructions a %s, %d units\n",
        $op->{title}, $client->{title}, $total, $op->{unit}, $units;
    for my $inclusive (qw(no yes)) {
        my ($one, $two) = map { $_->{$inclusive} } @got;
        my %cost = map { $_ => ($two->{$_} - ($one->{$_} || 0)) / $units } keys %$two;
        my @top = grep { $cost{$_} >= $total / 1000 }
            sort { $cost{$b} <=> $cost{$a} || $a cmp $b } keys %cost;
        splice @top, $MOST if @top > $MOST;
        $text .= $inclusive eq 'yes' ? "  with what they call:\n" : "  in functions themselves:\n";
        $text .= sprintf "  %12.1f %5.1f%%  %s\n", $cost{$_}, 100 * $cost{$_} / $total, $_ for @top;
    }
    return "$text\n";
}

# name [object] => instructions
sub functions {
    my ($file, $inclusive) = @_;
    my $annotate = Bench::Clients::find('callgrind_annotate') || die "no callgrind_annotate\n";
    my %cost;
    for (split /\n/, Bench::Clients::ok('annotating', $annotate,
        '--threshold=100', "--inclusive=$inclusive", '--auto=no', $file)) {
        my ($instructions, $name) = /^\s*([\d,]+)\s+\([^)]*\)\s+(\S.*)$/ or next;
        next if $name =~ /PROGRAM TOTALS/;
        # Neither source paths, nor all of an object's.
        $name =~ s{^\S*:(?=\S)}{} if $name !~ /^\?\?\?:/;
        $name =~ s{^\?\?\?:}{};
        $name =~ s{\[\S*/}{[};
        $cost{$name} += $instructions =~ tr/,//dr;
    }
    return \%cost;
}

1;
