package Sys::Virt::Stream::Command::Picture;

# Makes a PNG of a PPM, as its bytes come.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Compress::Zlib ();

my ($RGB, $UNFILTERED) = (2, "\0");
my $AT_ONCE = 262_144;

# $write is called with what belongs behind what it was given before.
sub new {
    my ($class, $write) = @_;
    return bless { write => $write, rest => '' }, $class;
}

# Takes bytes of the PPM.
sub take {
    my ($self, $bytes) = @_;
    $self->{rest} .= $bytes;
    $self->_begin unless $self->{row};
    my ($row, $at) = ($self->{row}, 0);
    while ($row && $self->{rows} && length($self->{rest}) - $at >= $row) {
        $self->_pack($UNFILTERED . substr $self->{rest}, $at, $row);
        $at += $row;
        $self->{rows}--;
    }
    substr($self->{rest}, 0, $at) = '';
    return;
}

# All of it has come.
sub complete {
    my ($self) = @_;
    die "the picture is no PPM\n" unless $self->{row};
    die "the picture is cut short: $self->{rows} of its rows are missing\n" if $self->{rows};
    my ($packed, $status) = $self->{deflate}->flush;
    die "cannot compress the picture: $status\n" if $status != Compress::Zlib::Z_OK();
    $self->{packed} .= $packed;
    $self->_chunk(IDAT => $self->{packed}) if length $self->{packed};
    $self->_chunk(IEND => '');
    return;
}

# The head: P6, the width, the height, the highest value, and one byte of white space. There may be
# comments before that.
sub _begin {
    my ($self) = @_;
    my $space = qr/(?:\s|#[^\n]*\n)+/;
    if ($self->{rest} !~ /\AP6$space([0-9]{1,9})$space([0-9]{1,9})$space([0-9]{1,5})\s/) {
        die "the picture is no PPM\n" if $self->{rest} !~ /\AP?6?\z|\AP6[\s#]/ || length $self->{rest} > 4096;
        return;
    }
    my ($width, $height, $most) = ($1, $2, $3);
    substr($self->{rest}, 0, $+[0]) = '';
    my $bits = { 255 => 8, 65_535 => 16 }->{ +$most } or die "the picture has colours up to $most, which a PNG does not have\n";
    die "the picture is empty\n" unless $width && $height;
    @$self{qw(row rows packed)} = ($width * 3 * $bits / 8, $height, '');
    $self->{deflate} = Compress::Zlib::deflateInit() or die "cannot compress the picture\n";
    $self->{write}->("\x89PNG\r\n\x1a\n");
    $self->_chunk(IHDR => pack 'N2C5', $width, $height, $bits, $RGB, 0, 0, 0);
    return;
}

sub _pack {
    my ($self, $bytes) = @_;
    my ($packed, $status) = $self->{deflate}->deflate($bytes);
    die "cannot compress the picture: $status\n" if $status != Compress::Zlib::Z_OK();
    $self->{packed} .= $packed;
    return if length $self->{packed} < $AT_ONCE;
    $self->_chunk(IDAT => $self->{packed});
    $self->{packed} = '';
    return;
}

sub _chunk {
    my ($self, $name, $data) = @_;
    $self->{write}->(pack 'N a4 a* N', length $data, $name, $data, Compress::Zlib::crc32($name . $data));
    return;
}

1;
