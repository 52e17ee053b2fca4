package Bench::Table;

# What was measured, as Markdown that can also be read on a terminal.

use strict;
use warnings;

use POSIX ();
use Bench::Clients;

sub report {
    my (%run) = @_;
    my @parts = (about(%run), main_table(%run));
    push @parts, memory_table(%run), start_table(%run) if $run{opt}{time};
    return join "\n", @parts;
}

sub median {
    my @sorted = sort { $a <=> $b } @_;
    my $half = int(@sorted / 2);
    return @sorted % 2 ? $sorted[$half] : ($sorted[$half - 1] + $sorted[$half]) / 2;
}

sub least { return (sort { $a <=> $b } @_)[0] }

sub medians {
    my ($runs, $field) = @_;
    return $runs ? median(map { $_->{$field} } @$runs) : undef;
}

# Waiting can only add instructions (a poll more), so the least of several runs
# is what the work takes. Of several layouts of the heap it is the median, with the
# least and the most.
sub instructions {
    my ($op, $got) = @_;
    return if !$got || !$got->{count2};
    my ($longer, $shorter) = @$got{qw(count2 count1)};
    my @more = $op->{layouts}
        ? map { $longer->[$_] - $shorter->[$_] } 0 .. $#$longer : least(@$longer) - least(@$shorter);
    my $units = $op->{unit} eq 'call' ? $got->{calls2} - $got->{calls1} : $op->{count} / (1 << 20);
    return map { $_ / $units } median(@more), @more > 1 ? (sort { $a <=> $b } @more)[0, -1] : ();
}

# A ratio to the C client of the same round, and how far the rounds lie apart.
sub ratio {
    my ($runs, $base, $field) = @_;
    my @each = map { $base->[$_]{$field} ? $runs->[$_]{$field} / $base->[$_]{$field} : () }
        0 .. $#$runs;
    return '' if !@each;
    return $runs == $base ? sprintf('%.2f', $each[0]) : spread(@each);
}

# The median of some ratios, with the least and the most.
sub spread {
    my (@each) = @_;
    my @sorted = sort { $a <=> $b } @each;
    return sprintf '%.2f', $each[0] if @each == 1;
    return sprintf '%.2f (%.2f-%.2f)', median(@each), @sorted[0, -1];
}

sub commas {
    my $number = reverse sprintf '%.0f', $_[0];
    $number =~ s/(\d{3})(?=\d)/$1,/g;
    return scalar reverse $number;
}

sub main_table {
    my (%run) = @_;
    my @rows = [qw(operation program), 'instructions', 'times C', 'CPU s', 'times C',
        'wall s', 'times C', 'peak MiB', 'times C', 'page faults'];
    for my $op (@{ $run{ops} }) {
        my $seen = $run{seen}{ $op->{op} } or next;
        my $base = $seen->{client};
        my ($base_count) = instructions($op, $base);
        for my $client (@{ $run{clients} }) {
            my $got = $seen->{ $client->{name} } or next;
            my ($count, @range) = instructions($op, $got);
            my @row = ("$op->{title}, a $op->{unit}", $client->{title},
                defined $count ? (commas($count) . (@range ? ' (' . join('-', map { commas($_) } @range) . ')' : ''),
                    sprintf '%.3f', $count / $base_count) : ('', ''));
            for my $field (qw(cpu wall peak)) {
                my $runs = $got->{full};
                push @row, $runs
                    ? (sprintf($field eq 'peak' ? '%.1f' : '%.3f', medians($runs, $field)),
                    ratio($runs, $base->{full}, $field))
                    : ('', '');
            }
            push @row, $got->{full} ? commas(medians($got->{full}, 'faults')) : '';
            push @rows, \@row;
        }
    }
    return markdown(@rows);
}

sub memory_table {
    my (%run) = @_;
    my $start = $run{seen}{start};
    my %bare = map { $_ => medians($start->{$_}{full}, 'peak') } keys %$start;
    my @perls = grep { $_->{name} =~ /^(?:c|rust)$/ } @{ $run{clients} };
    my @rows = ['operation', 'MiB moved', 'C client', 'C + bare perl', 'C + connected perl',
        map { ($_->{title}, 'over bare', 'over connected') } @perls];
    for my $op (@{ $run{ops} }) {
        my $seen = $run{seen}{ $op->{op} };
        for my $kind (qw(quarter full)) {
            my $c = medians($seen->{client}{$kind}, 'peak') // next;
            my $sum = $c + $bare{perl};
            my $connected = defined $bare{c} ? $c - $bare{client} + $bare{c} : undef;
            my @row = ($op->{title}, $seen->{client}{$kind}[0]{bytes} / (1 << 20), $c, $sum, $connected // '');
            for my $perl (@perls) {
                my $peak = medians($seen->{ $perl->{name} }{$kind}, 'peak');
                push @row, $peak, $peak - $sum, defined $connected ? $peak - $connected : '';
            }
            push @rows, [@row[0, 1], map { length ? sprintf '%.1f', $_ : '' } @row[2 .. $#row]];
        }
    }
    return "Peak memory, MiB. A bare perl is perl -e 1; a connected perl is the C binding with a connection\n"
        . "open, moving nothing, of which what a C client takes for as much is left out.\n\n" . markdown(@rows);
}

sub start_table {
    my (%run) = @_;
    my @rows = [qw(program), 'CPU s', 'wall s', 'peak MiB'];
    for my $client (@{ $run{start} }) {
        my $runs = $run{seen}{start}{ $client->{name} }{full} or next;
        push @rows, [$client->{title}, map { sprintf $_->[1], medians($runs, $_->[0]) }
            ['cpu', '%.3f'], ['wall', '%.3f'], ['peak', '%.1f']];
    }
    return "Of which starting, connecting and ending take (perl -e 1 does not connect):\n\n"
        . markdown(@rows);
}

sub about {
    my (%run) = @_;
    my $opt = $run{opt};
    my ($model) = Bench::Clients::slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
    my $cores = () = Bench::Clients::slurp('/proc/cpuinfo') =~ /^processor\s*:/mg;
    my ($memory) = Bench::Clients::slurp('/proc/meminfo') =~ /^MemTotal:\s*(\d+)/m;
    my ($system) = Bench::Clients::slurp('/etc/os-release') =~ /^PRETTY_NAME="?([^"\n]*)/m;
    my (undef, $valgrind) = Bench::Clients::run({}, Bench::Clients::find('valgrind') || 'false', '--version');
    my $kept = $run{place} eq '/dev/shm' ? 'in memory' : 'on disk';
    my @lines = (
        'Date: ' . POSIX::strftime('%Y-%m-%d', gmtime) . sprintf('; the run took %.0f minutes', $run{minutes}),
        sprintf('Machine: %s, %d cores, %.0f GiB; %s, Linux %s', $model // (POSIX::uname())[4],
            $cores, ($memory || 0) / (1 << 20), $system // '?', (POSIX::uname())[2] =~ /^([\d.]+)/),
        sprintf('Versions: Perl %vd; %s; ', $^V, $valgrind =~ s/\s+//gr)
            . join('; ', map { "$_->{title}: $_->{version}" } @{ $run{clients} }),
    );
    push @lines, 'Instructions: callgrind, the difference of two run lengths, '
        . "the least of $opt->{repeat}, or (calls of 1 KiB) the median of some layouts of the heap, least-most"
        if $opt->{count};
    push @lines, "CPU, wall and peak: whole processes, $opt->{size} MiB (recv of 1 KiB a quarter, send of "
        . "1 KiB a sixteenth, other calls a half), volumes $kept; median of $opt->{rounds}, ratios within a round (least-most)"
        if $opt->{time};
    return join '', map { "- $_\n" } @lines;
}

# Rows, the first being the heads; figures to the right.
sub markdown {
    my (@rows) = @_;
    my @width;
    for my $row (@rows) {
        for my $i (0 .. $#$row) {
            my $length = length $row->[$i];
            $width[$i] = $length if !defined $width[$i] || $length > $width[$i];
        }
    }
    my @right = map { my $i = $_; !grep { $_->[$i] !~ /^(?:-?\d[\d.,]*.*)?$/ } @rows[1 .. $#rows] } 0 .. $#width;
    my $line = sub {
        my @cells = @_;
        return '| ' . join(' | ', map {
            sprintf $right[$_] ? '%*s' : '%-*s', $width[$_], $cells[$_];
        } 0 .. $#cells) . " |\n";
    };
    my $rule = '|' . join('|', map { '-' x ($width[$_] + 1) . ($right[$_] ? ':' : '-') } 0 .. $#width) . "|\n";
    return join '', $line->(@{ $rows[0] }), $rule, map { $line->(@$_) } @rows[1 .. $#rows];
}

# Into the places that the README keeps for them.
sub into {
    my ($file, %text) = @_;
    my $readme = Bench::Clients::slurp($file);
    for my $place (keys %text) {
        $readme =~ s/(<!-- $place -->\n).*?(<!-- end of $place -->)/$1\n$text{$place}\n$2/s
            or die "$file has no place for a $place\n";
    }
    open my $out, '>:raw', $file or die "$file: $!\n";
    print {$out} $readme;
    close $out or die "$file: $!\n";
    return;
}

1;
