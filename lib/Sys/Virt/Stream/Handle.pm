package Sys::Virt::Stream::Handle;

use strict;
use warnings;

our $VERSION = '0.2.0';

use IO::Handle ();
use IO::Seekable ();
use Symbol ();
use Sys::Virt::Stream ();

# An upgrade of Sys::Virt in the same folder puts the C binding's file in place of ours.
Sys::Virt::Stream->can('implementation') or die "Sys::Virt was installed over Sys-Virt-Stream: "
    . "install Sys-Virt-Stream again, as $INC{'Sys/Virt/Stream.pm'} is the C binding's\n";

# The methods that Perl's own handles have.
our @ISA = ('IO::Handle', 'IO::Seekable');

sub new {
    my ($class, $stream) = @_;
    my $self = bless Symbol::gensym(), $class;
    Sys::Virt::Stream::_open_handle($stream, $self);
    return $self;
}

# The object behind a handle is in the scalar of its glob, also when the handle is closed.
sub stream_error { return Sys::Virt::Stream::_handle_error(${ *{ $_[0] } }) }

sub binmode {
    my ($self, $layer) = @_;
    return CORE::binmode $self, $layer // ':raw';
}

# What Perl's operators call of a handle and touches no data. The rest is in tied.c.
package Sys::Virt::Stream::Handle::Tied;

use Errno qw(EINVAL ESPIPE);

sub FILENO { return -1 }
sub TELL   { return -1 }
sub SEEK   { $! = ESPIPE; return '' }

# The data are bytes: only layers that change nothing are taken.
sub BINMODE {
    my ($self, $layer) = @_;
    return 1 if ($layer // ':raw') =~ /\A[\s:]*(?:raw|bytes)?[\s:]*\z/;
    $! = EINVAL;
    return '';
}

# An ordinary handle from now on.
sub OPEN {
    my ($self, $mode, @rest) = @_;
    my $io = $self->_let_go or return;
    return @rest ? open *$io, $mode, @rest : open *$io, $mode;
}

1;

__END__

=encoding utf8

=head1 NAME

Sys::Virt::Stream::Handle - a libvirt stream as a filehandle

=head1 SYNOPSIS

    use Digest::SHA;
    use Sys::Virt;

    my $conn = Sys::Virt->new(uri => 'qemu:///system');
    my $st   = $conn->new_stream;
    $conn->get_storage_volume_by_path('/images/disk')->download($st, 0, 0);

    my $fh = $st->handle;
    print Digest::SHA->new(256)->addfile($fh)->hexdigest, "\n";
    close $fh or die $fh->stream_error;

=head1 DESCRIPTION

C<< $st->handle >> (see L<Sys::Virt::Stream>) makes a filehandle of a blocking
stream. Code that takes a filehandle takes this one. It reads and writes bytes.

All of Perl's operators for handles work on it, with C<$/>, C<$,>, C<$\> and
C<$.> as anywhere: C<< <$fh> >>, C<read>, C<sysread>, C<getc>, C<eof>,
C<print>, C<printf>, C<say>, C<syswrite>, C<binmode>, C<close>, C<fileno>, and
the methods of L<IO::Handle> and L<IO::Seekable>. It is a handle to XS code as
well. What arrives is kept until it is read. C<sysread> returns what has
arrived, C<read> waits for all it was asked for, or the end. C<eof> waits for a
byte or the end, as on a terminal, and loses none.

What is printed to a stream that was opened for an upload is buffered, as for a
file: it is sent when there are 64 KiB of it, at C<close>, C<flush> or
C<syswrite>, before a C<fork> or C<system>, and at once after C<$|> or
C<autoflush>. Any other stream (a console, a channel) is sent each C<print> at
once, as a socket is.

The program may go on using the stream itself. Its methods do not deliver what the
handle has received already. Handle and stream may be dropped in any order.

=head2 Failures

Where the stream fails, a read or a write returns undef (C<print> false) and
C<$!> is EIO, as of any handle; the stream is aborted then. An incomplete line
or block is not returned. XS code that reads may not look at C<$!>, so the
exception itself comes out there.

What is buffered can fail only when it is sent: the error comes at a later
C<print>, or at C<close>, as on a full disk.

Reading from an upload, or printing to a download, fails with EBADF and changes
nothing.

=over 4

=item close $fh

Finishes the stream. False, with C<$!> set, where the stream has failed, now or
before: an upload is whole only when this has returned true.

=item $error = $fh->stream_error

Returns what the stream has failed with: a L<Sys::Virt::Error>, or what a signal handler
threw; undef if nothing failed.

=back

A signal handler that dies during a read or a write ends it with its exception,
and the stream is lost, as with the calls of the stream.

A handle that is dropped before it is closed aborts its stream, also at the end
of the program and when it is opened as something else. What was printed may or
may not have arrived by then. A warning (category C<io>) tells of that where anything
was printed to an upload. As in a destructor, it is never an exception.

A child of C<fork> can neither use the handle nor send what its parent has
printed: C<$!> is EBADF there.

Printing a character over 255 is an exception, and nothing is sent.

=head2 What it lacks

The handle has no descriptor, no position and no further layers: C<fileno> is -1,
C<seek> fails, and C<binmode> takes C<:raw> and C<:bytes> only. XS code that needs a
descriptor or a C<FILE *> finds none; L<GD>, for one, takes the data instead. L<File::Copy> asks for the
file behind each handle, and warns where there is none ("stat() on unopened
filehandle"), as it does for a handle on a string.

In a new thread a handle neither reads nor writes: C<$!> is EBADF.

=head1 SEE ALSO

L<Sys::Virt::Stream>, L<IO::Handle>

=head1 LICENSE

This library is free software; you can redistribute it and/or modify it under
the same terms as Perl itself.

=cut
