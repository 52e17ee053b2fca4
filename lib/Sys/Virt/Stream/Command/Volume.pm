package Sys::Virt::Stream::Command::Volume;

# The stream of a volume, with holes where the volume and what is behind it can have them.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';
use Sys::Virt::Stream::Command::Failure qw(trying attempt code_of);

our @EXPORT_OK = qw(opened length_of capacity_of is_empty digest_of);

# How a driver refuses what it does not have: VIR_ERR_NO_SUPPORT, INVALID_ARG, CONFIG_UNSUPPORTED,
# ARGUMENT_UNSUPPORTED and OPERATION_UNSUPPORTED.
my %UNSUPPORTED = map { $_ => 1 } 3, 8, 67, 74, 84;

# Opens a stream by the volume's method `download` or `upload`, which have the same flag. Returns the
# stream, and whether it is sparse. `sparse` is true, false, or undef for "where that is possible".
sub opened {
    my ($conn, $volume, $method, $offset, $length, $sparse) = @_;
    my $flag = Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM();
    my $open = sub {
        my ($flags) = @_;
        my $st = $conn->new_stream;
        $volume->$method($st, $offset, $length, $flags);
        return $st;
    };
    my $what = "cannot $method " . ($method eq 'upload' ? 'to ' : '') . $volume->get_name;
    if (!defined $sparse) {
        my $st = eval { $open->($flag) };
        return ($st, 1) if $st;
        my $error = $@;
        trying($what, sub { die $error }) unless $UNSUPPORTED{ code_of($error) };
    }
    return (trying($what, sub { $open->($sparse ? $flag : 0) }), $sparse);
}

# How many bytes there are to download; undef where libvirt does not say.
sub length_of {
    my ($volume) = @_;
    return attempt(sub { $volume->get_info(Sys::Virt::StorageVol::GET_PHYSICAL())->{allocation} });
}

sub capacity_of { return $_[0]->get_info->{capacity} }

# The digest of $length bytes at $offset.
sub digest_of {
    my ($conn, $volume, $offset, $length) = @_;
    my ($st, $sparse) = opened($conn, $volume, download => $offset, $length, undef);
    return trying('cannot read ' . $volume->get_name . ' back', sub {
        $st->recv_file('/dev/null', sparse => $sparse, digest => 'sha256')->{digest};
    });
}

# Whether the volume is known to have nothing but a hole from $offset on, up to its end: where it has
# data a hole that is uploaded would leave that in place.
sub is_empty {
    my ($conn, $volume, $offset) = @_;
    return attempt(sub {
        my ($st) = opened($conn, $volume, 'download', $offset, 0, 1);
        my $empty = 0;
        while (1) {
            my $got = $st->recv(my $data, 1, Sys::Virt::Stream::RECV_STOP_AT_HOLE());
            $empty = 1, last if $got == 0;
            last if $got > 0;
            $st->recv_hole;
        }
        $empty ? $st->finish : $st->abort;
        return $empty;
    });
}

1;
