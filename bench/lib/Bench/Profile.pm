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
    my %own = difference($units, map { $_->{no} } @got);
    my %all = difference($units, map { $_->{yes} } @got);
    my %object;
    $object{ /(\[.*\])$/ ? $1 : 'elsewhere' } += $own{$_} for keys %own;
    $text .= "  by object:\n" . list($total, \%object, $MOST);
    $text .= "  in functions themselves:\n" . list($total, \%own, $MOST);
    # However little they take: these are what can be written otherwise.
    my %ours = map { $_ => $own{$_} } grep { /\[(?:Stream|Virt)\.so\]$/ } keys %own;
    $text .= "  in functions of the binding:\n" . list($total, \%ours, 2 * $MOST) if %ours;
    $text .= "  with what they call:\n" . list($total, \%all, $MOST);
    return "$text\n";
}

sub difference {
    my ($units, $one, $two) = @_;
    return map { $_ => ($two->{$_} - ($one->{$_} || 0)) / $units } keys %$two;
}

sub list {
    my ($total, $cost, $most) = @_;
    my @top = grep { $cost->{$_} >= 1 }
        sort { $cost->{$b} <=> $cost->{$a} || $a cmp $b } keys %$cost;
    splice @top, $most if @top > $most;
    return join '', map { sprintf "  %12.1f %5.1f%%  %s\n", $cost->{$_}, 100 * $cost->{$_} / $total, $_ } @top;
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
