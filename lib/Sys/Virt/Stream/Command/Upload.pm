package Sys::Virt::Stream::Command::Upload;

# virt-stream upload: a file into a volume.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Fcntl qw(SEEK_CUR SEEK_END SEEK_SET);
use Sys::Virt::Stream::Command::Compare qw(file_reader);
use Sys::Virt::Stream::Command::Files qw(source digest_of_file);
use Sys::Virt::Stream::Command::Image ();
use Sys::Virt::Stream::Command::Report qw(check);
use Sys::Virt::Stream::Command::Retry qw(keeps);
use Sys::Virt::Stream::Command::Sending qw(send_to);

sub run {
    my ($class, $run, $file, $name) = @_;
    check($run);
    my $most = $run->size('length') || undef;
    my ($fh, $is_path) = source($run, $file);
    my $self = bless { name => $file eq '-' ? 'standard input' : $file, fh => $fh }, $class;
    @$self{qw(begins length)} = _measured($fh);
    $self->{path} = $file if $is_path && defined $self->{length};
    # A file of the kernel's has no blocks, and its length may be wrong.
    $self->{exact} = $most // (defined $self->{length} && (-b $fh || (stat $fh)[12]) ? $self->{length} : undef);
    $self->{length} = $most if defined $self->{length} && defined $most && $most < $self->{length};
    die "cannot continue with $self->{name}: how long it is is not known\n" if !defined $self->{length} && keeps($run);
    return send_to($run, 'upload', $self, $run->option('connect'), $name);
}

# The file's position, and how many bytes it has from there on: undef where that is not known, as of a
# file of the kernel's that claims to be empty.
sub _measured {
    my ($fh) = @_;
    return (0, undef) unless -f $fh || -b _;
    my $at = sysseek($fh, 0, SEEK_CUR) // return (0, undef);
    my $end = sysseek $fh, 0, SEEK_END;
    sysseek $fh, $at, SEEK_SET;
    my $empty = $at >= $end && !sysread $fh, my $byte, 1;
    sysseek $fh, $at, SEEK_SET;
    return ($at + 0, $end > $at ? $end - $at : $empty ? 0 : undef);
}

sub name   { return $_[0]{name} }
sub length { return $_[0]{length} }

sub begin { return }

sub image {
    my ($self) = @_;
    my $head = '';
    if (defined $self->{length}) {
        sysseek $self->{fh}, $self->{begins}, SEEK_SET;
        sysread $self->{fh}, $head, 32;
        sysseek $self->{fh}, $self->{begins}, SEEK_SET;
    }
    return Sys::Virt::Stream::Command::Image::image($head, $self->{length});
}

sub reader {
    my ($self, $at, $length) = @_;
    return file_reader($self->{fh}, $self->{begins} + $at, $length);
}

sub move {
    my ($self, $st, $at, @options) = @_;
    my $length = $self->{exact};
    $length = $self->{length} - $at if defined $length && defined $self->{length};
    # By its path, so that an error names it.
    return $st->send_file($self->{path}, @options, length => $length, offset => $at) if defined $self->{path};
    sysseek $self->{fh}, $self->{begins} + $at, SEEK_SET if defined $self->{length};
    return $st->send_file($self->{fh}, @options, length => $length);
}

sub digest {
    my ($self) = @_;
    return digest_of_file($self->{fh}, $self->{begins}, $self->{length});
}

1;
