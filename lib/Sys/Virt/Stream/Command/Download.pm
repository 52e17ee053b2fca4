package Sys::Virt::Stream::Command::Download;

# virt-stream download: a volume into a file.

use strict;
use warnings;

our $VERSION = '0.1.0';

use List::Util qw(max min);
use Sys::Virt::Stream::Command::Failure qw(trying);
use Sys::Virt::Stream::Command::Files qw(target);
use Sys::Virt::Stream::Command::Objects qw(connection volume);
use Sys::Virt::Stream::Command::Report qw(watched check);
use Sys::Virt::Stream::Command::Volume qw(opened length_of);

sub run {
    my ($class, $run, $name, $file) = @_;
    check($run);
    my ($offset, $length) = ($run->size('offset') // 0, $run->size('length') // 0);
    my $conn = connection($run->option('connect'));
    my $volume = volume($conn, $name, pool => $run->option('pool'));
    my $size = length_of($volume);
    my $total = defined $size ? max(0, $size - $offset) : undef;
    $total = defined $total ? min($total, $length) : $length if $length;
    my ($target, $replace) = target($run, $file);
    $run->catch_signals;
    my ($st, $sparse) = opened($conn, $volume, download => $offset, $length, $run->option('sparse'));
    watched($run, 'download', $total, sub {
        my @watch = @_;
        return trying("cannot download $name", sub {
            $st->recv_file($target, @watch, sparse => $sparse, detect_zeroes => $run->option('detect-zeroes'),
                replace => $replace);
        });
    });
    return;
}

1;
