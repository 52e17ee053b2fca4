package Sys::Virt::Stream::Command::Compare;

# How far two transfers have the same bytes. Each is a reader: code that gives the next bytes, or the
# length of the next hole, or nothing at the end.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';
use List::Util qw(min);

our @EXPORT_OK = qw(common file_reader stream_reader);

my $MOST = 1 << 20;
my ($SEEK_DATA, $SEEK_HOLE) = (3, 4);    # Linux's and FreeBSD's

# Of $length bytes at $at in a file.
sub file_reader {
    my ($fh, $at, $length) = @_;
    my $end = $at + $length;
    my $until = 0;    # the end of the data that $at is in
    return sub {
        return if $at >= $end;
        if ($at >= $until) {
            my $data = sysseek $fh, $at, $SEEK_DATA;
            # No data up to the end, or a file that tells of no holes.
            $data = defined $data ? $data + 0 : $!{ENXIO} ? $end : $at;
            if ($data > $at) {
                my $hole = min($data, $end) - $at;
                $at += $hole;
                return (undef, $hole);
            }
            $until = sysseek($fh, $at, $SEEK_HOLE) || $end;
        }
        sysseek $fh, $at, 0;
        my $count = sysread($fh, my $bytes, min($MOST, $until - $at, $end - $at)) || return;
        $at += $count;
        return ($bytes, $count);
    };
}

# Of what a stream delivers.
sub stream_reader {
    my ($st, $sparse) = @_;
    my $flags = $sparse ? Sys::Virt::Stream::RECV_STOP_AT_HOLE() : 0;
    return sub {
        my $count = $st->recv(my $bytes, $MOST, $flags);
        return (undef, $st->recv_hole) if $count == -3;
        return $count ? ($bytes, $count) : ();
    };
}

sub common {
    my ($one, $two) = @_;
    my $same = 0;
    my (@a, @b);    # the bytes, undef for a hole, and how many they are
    while (1) {
        @a = $one->() or return $same if !@a || !$a[1];
        @b = $two->() or return $same if !@b || !$b[1];
        my $length = min($a[1], $b[1]);
        my $differs = _differs($a[0], $b[0], $length);
        return $same + $differs if defined $differs;
        $same += $length;
        for my $side (\@a, \@b) {
            $side->[0] = substr $side->[0], $length if defined $side->[0];
            $side->[1] -= $length;
        }
    }
}

# Where the first $length bytes first differ.
sub _differs {
    my ($one, $two, $length) = @_;
    return unless defined $one || defined $two;
    my $bits = substr($one // $two, 0, $length);
    $bits ^= substr $two, 0, $length if defined $one && defined $two;
    return $bits =~ /[^\0]/g ? $-[0] : undef;
}

1;
