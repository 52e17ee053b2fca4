package Sys::Virt::Stream::Command::Upload;

# virt-stream upload: a file into a volume.

use strict;
use warnings;

our $VERSION = '0.1.0';

use Fcntl qw(SEEK_CUR SEEK_END SEEK_SET);
use Sys::Virt::Stream::Command::Failure qw(trying attempt);
use Sys::Virt::Stream::Command::Files qw(source);
use Sys::Virt::Stream::Command::Objects qw(connection volume);
use Sys::Virt::Stream::Command::Report qw(watched check);
use Sys::Virt::Stream::Command::Volume qw(opened capacity_of is_empty);

sub run {
    my ($class, $run, $file, $name) = @_;
    check($run);
    my ($offset, $length) = ($run->size('offset') // 0, $run->size('length') // 0);
    my $source = source($run, $file);
    my $conn = connection($run->option('connect'));
    my $volume = volume($conn, $name, pool => $run->option('pool'));
    $run->catch_signals;
    my $there = _left_in($source);
    $length = $there if defined $there && (!$length || $there < $length);
    # Holes leave what the volume has there, so they are for one that has nothing there.
    my $sparse = $run->option('sparse') // (is_empty($conn, $volume, $offset) ? undef : 0);
    my $capacity = capacity_of($volume);
    (my $st, $sparse) = opened($conn, $volume, upload => $offset, 0, $sparse);
    watched($run, 'upload', $length || undef, sub {
        my @watch = @_;
        return trying("cannot upload to $name", sub {
            $st->send_file($source, @watch, sparse => $sparse, length => $length || undef,
                detect_zeroes => $sparse && $run->option('detect-zeroes'));
        });
    });
    _restore($volume, $capacity) if $sparse;
    return;
}

# How many bytes the file has from its position on; undef where it does not say.
sub _left_in {
    my ($source) = @_;
    return unless -f $source || -b _;
    my $at = sysseek $source, 0, SEEK_CUR or return;
    my $end = sysseek $source, 0, SEEK_END;
    sysseek $source, $at, SEEK_SET;
    return $end > $at ? $end - $at : undef;
}

# libvirt cuts a file off at the end of each hole that is uploaded.
sub _restore {
    my ($volume, $capacity) = @_;
    trying('cannot give ' . $volume->get_name . ' its size again', sub {
        $volume->resize($capacity) if capacity_of($volume) < $capacity;
    });
    return;
}

1;
