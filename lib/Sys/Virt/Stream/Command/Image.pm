package Sys::Virt::Stream::Command::Image;

# What kind of disk image a file holds.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';

our @EXPORT_OK = qw(image);

# The format, and how many bytes the disk has, of an image of $length bytes that begins with $head:
# of qcow2 the header says it, and anything else is a raw image.
sub image {
    my ($head, $length) = @_;
    return { format => 'raw', capacity => $length } if length $head < 32;
    # A perl with integers of 32 bits has no Q.
    my ($magic, $version, $high, $low) = unpack 'a4 N x16 N N', $head;
    return { format => 'raw', capacity => $length } if $magic ne "QFI\xfb" || $version < 2;
    return { format => 'qcow2', capacity => $high * 2**32 + $low };
}

1;
