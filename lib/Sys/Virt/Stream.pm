package Sys::Virt::Stream;

use strict;
use warnings;

our $VERSION = '0.2.0';

require XSLoader;

our $loaded;

# Where this file is loaded again, its subs go first, so that perl -W has nothing to warn of.
BEGIN {
    no strict 'refs';
    undef *{ __PACKAGE__ . "::$_" } for grep { $loaded } qw(
        implementation new _new handle socket CLONE_SKIP);
}

# Which code stands behind the package: this module's Rust, or the C binding's
# own, which SYS_VIRT_STREAM=c leaves in place.
my $implementation = ($ENV{SYS_VIRT_STREAM} || '') eq 'c' ? 'c' : 'rust';

sub implementation { return $implementation }

# The rest of Sys::Virt makes its streams with this.
sub _new {
    my $proto  = shift;
    my $class  = ref($proto) || $proto;
    my %params = @_;

    die "connection parameter is required" unless exists $params{connection};
    return bless Sys::Virt::Stream::_new_obj($params{connection}, $params{flags}), $class;
}

sub new {
    my ($class, $connection, $flags) = @_;
    return $class->_new(connection => $connection, flags => $flags || 0);
}

sub handle {
    my ($self) = @_;
    require Sys::Virt::Stream::Handle;
    return Sys::Virt::Stream::Handle->new($self);
}

sub socket {
    my ($self) = @_;
    require IO::Socket::UNIX;
    my ($theirs, $ours) = IO::Socket::UNIX->socketpair(
        Socket::AF_UNIX(), Socket::SOCK_STREAM(), Socket::PF_UNSPEC()) or die "no socket pair: $!";
    _open_socket($self, fileno $ours, fileno $theirs);
    binmode $theirs;
    return $theirs;
}

# libvirt's objects belong to the thread that made them. perl makes them undef in a new
# thread, whose end would give back what the first one still uses.
sub CLONE_SKIP { return 1 }

if ($implementation eq 'c') {
    delete @Sys::Virt::Stream::{qw(new handle socket CLONE_SKIP)};
}
elsif (!$loaded) {
    XSLoader::load(__PACKAGE__, $VERSION);
    # No exception may pass through Rust. So the boot function, which is Rust's, only installs
    # an XSUB in C, which dies if it was not made for this perl, or for this version.
    __PACKAGE__->can('_install')->(__PACKAGE__, $VERSION);
    delete $Sys::Virt::Stream::{_install};
    $loaded = 1;
    require Sys::Virt::Stream::TakeOver;
    Sys::Virt::Stream::TakeOver::take_over();
}

END { _release_callbacks() if $loaded }

1;

__END__

=encoding utf8

=head1 NAME

Sys::Virt::Stream - move disk images, screenshots and consoles of virtual machines

=head1 SYNOPSIS

    use Sys::Virt;

    my $conn   = Sys::Virt->new(uri => 'test:///default');
    my $domain = $conn->get_domain_by_name('test');

    # a picture of its screen, by a handler
    my $st = $conn->new_stream;
    $domain->screenshot($st, 0, 0);
    open my $png, '>:raw', 'screenshot.png' or die "screenshot.png: $!";
    $st->recv_all(sub {
        my ($st, $data, $nbytes) = @_;
        return syswrite $png, $data, $nbytes;
    });
    $st->finish;
    close $png or die "screenshot.png: $!";

    # the same in one call
    $st = $conn->new_stream;
    $domain->screenshot($st, 0, 0);
    $st->recv_file('screenshot.png');

    # a volume to a file and back, with its holes
    my $volume = $conn->get_storage_volume_by_path($path);
    my $sparse = Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM;
    $volume->download($st = $conn->new_stream, 0, 0, $sparse);
    my $moved = $st->recv_file('disk.img', sparse => 1, digest => 'sha256');
    print "$moved->{bytes} bytes, SHA-256 $moved->{digest}\n";

    $sparse = Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM;
    $volume->upload($st = $conn->new_stream, 0, 0, $sparse);
    $st->send_file('disk.img', sparse => 1);

    # a stream as a filehandle
    $volume->download($st = $conn->new_stream, 0, 0);
    my $fh = $st->handle;
    while (my $line = <$fh>) { print $line if $line =~ /error/ }
    close $fh or die $fh->stream_error;

    # a stream as a socket, for select, event loops and child processes
    $domain->open_console($st = $conn->new_stream, undef, 0);
    my $socket = $st->socket;

=head1 DESCRIPTION

A stream is a pipe between a program and libvirt. Storage volumes are
downloaded and uploaded through streams, screenshots are taken through them,
and serial consoles and channels are connected to them. This module provides
the C<Sys::Virt::Stream> package of L<Sys::Virt>, Perl's binding of libvirt,
and takes the place of the one that comes with it. Connections, domains,
volumes and everything else are those of the installed Sys::Virt. A program
needs no change, and may load the two modules in any order.
L<Sys::Virt::Stream::Differences> lists what differs.

Data are bytes everywhere. Sizes and lengths are in bytes.

If libvirt or the system refuses something, the method dies with a
L<Sys::Virt::Error>, which has C<level>, C<code>, C<domain> and C<message>. If the
program itself is wrong (an unknown option, too few arguments, a character over
255, a variable that is read-only), the method dies with a string.

=head1 METHODS

=head2 Beginning and end

=over 4

=item $st = $conn->new_stream($flags)

=item $st = Sys::Virt::Stream->new($conn, $flags)

Makes a stream of the connection. It is not open yet: C<< $vol->download >>,
C<< $vol->upload >>, C<< $domain->screenshot >>, C<< $domain->open_console >>,
C<< $domain->open_channel >> and the like open it. C<$flags> is 0 or
L</NONBLOCK>.

=item $st->finish

Ends a transfer that is complete, and waits for the other side to confirm it.
An upload is whole only when C<finish> has returned.

=item $st->abort

Ends a transfer before it is complete. Data that has not arrived is lost.
Aborting a stream that was never opened does nothing.

A program calls C<finish> or C<abort> for every stream that it has opened. If an
open stream goes out of scope before that, it is aborted.

=item Sys::Virt::Stream->implementation

Returns C<rust> for this module, and C<c> where C<SYS_VIRT_STREAM=c> in the
environment has left the C binding's own stream in place. Only this module has
this method.

=back

=head2 Receiving and sending

=over 4

=item $count = $st->recv($data, $nbytes, $flags = 0)

Receives up to C<$nbytes> bytes into C<$data>. Returns how many bytes were
received: 0 at the end of the data, -2 where a non-blocking stream has nothing
ready, -3 at a hole if C<$flags> is L</RECV_STOP_AT_HOLE>. C<$data> is anything
that can be assigned to, and keeps its value unless data has arrived. One call
delivers at most 16 MiB, whatever C<$nbytes> says.

=item $count = $st->send($data, $nbytes)

Sends the first C<$nbytes> bytes of C<$data>, or all of them if there are fewer.
Returns how many bytes were taken, or -2 where a non-blocking stream can take
none now. A call without any bytes, as with an undefined C<$data>, ends an upload:
the volume takes no more after it. A character over 255 is an error, and nothing
is sent.

=item $length = $st->recv_hole($flags = 0)

Returns the length of the hole that C<recv> has stopped at. C<$flags> is 0.

=item $st->send_hole($length, $flags = 0)

Has the other side skip C<$length> bytes, which read as zeroes and take no
space. C<$flags> is 0; any other value is an error, and nothing is sent. The
stream must have been opened as a sparse one.

=back

=head2 Whole transfers by handlers

These methods call a handler for each piece until the transfer is complete; the
program calls C<finish> afterwards. They need a blocking stream. A handler is a
code reference, or whatever else Perl can call.

=over 4

=item $st->recv_all($handler)

C<< $handler->($st, $data, $nbytes) >> is given at most 262,120 bytes at a time,
and returns how many of them it has dealt with. If some are left, it is called
again with the rest. It returns -1 to say that it failed.

=item $st->send_all($handler)

C<< $handler->($st, $data, $nbytes) >> puts about C<$nbytes> bytes into
C<$_[1]>, and returns how many it has put there: 0 at the end, -1 if it failed.

=item $st->sparse_recv_all($handler, $hole_handler)

Works as C<recv_all> does, and calls C<< $hole_handler->($st, $length) >> for
each hole. That handler returns 0, or -1 if it failed.

=item $st->sparse_send_all($handler, $hole_handler, $skip_handler)

C<< $hole_handler->($st) >> returns two values: whether the source is in data,
and how many bytes are left of that data or hole. In data, C<$handler> is called
as by C<send_all>, for no more than is left. In a hole that is not empty,
C<< $skip_handler->($st, $length) >> is called to skip it, and returns 0, or -1
if it failed. At the end of the source the length is 0.

=back

=head2 Events

These methods are for non-blocking streams in a program with an event loop: see
L<Sys::Virt::Event>.

=over 4

=item $st->add_callback($events, $coderef)

Has C<< $coderef->($st, $events) >> called whenever one of C<$events> has come
up. C<$events> is a sum of the EVENT constants. A stream has one callback at a
time, and the callback keeps the stream alive. Each event calls the code that
the variable given as C<$coderef> holds at that time.

=item $st->update_callback($events)

Changes the events that the callback is called for.

=item $st->remove_callback

Removes the callback. The end of the stream removes it too; C<remove_callback>
does nothing after that.

=back

=head1 BEYOND THE C BINDING

Only this module has these methods, so C<< Sys::Virt::Stream->can('recv_file') >>
tells whether they are there.

=over 4

=item $result = $st->recv_file($target, %options)

=item $result = $st->send_file($source, %options)

Moves a whole file through the stream, and finishes it: see L<Sys::Virt::Stream::Files>.

=item $fh = $st->handle

Returns a filehandle over a blocking stream, for code that reads from a handle or writes to
one: see L<Sys::Virt::Stream::Handle>.

=item $socket = $st->socket

Returns a socket whose other end is the stream. The end of the file on it alone is no success: only a
C<finish> that returns says that all has arrived. See L<Sys::Virt::Stream::Socket>.

=back

=head2 Which of them to take

    for                                                  take
    ---------------------------------------------------  -----------------------
    a loop of the program's own over the pieces          recv, send
    a handler for each piece, as with the C binding      recv_all, send_all, and
                                                         sparse_recv_all, ...
    many streams under libvirt's loop or one in Perl     add_callback
    a whole volume from or to a file: holes, digest,     recv_file, send_file
    replacement in one step, the highest speed
    code that wants a Perl filehandle, such as lines     handle
    of a volume; close finishes the stream
    code that wants a descriptor: select, any event      socket
    loop, a child process, Expect; costs two copies
    of the data

=head1 CONSTANTS

=over 4

=item NONBLOCK

For C<new_stream>: calls that would wait return -2 instead.

=item RECV_STOP_AT_HOLE

For C<recv>: it returns -3 at a hole, and not the hole's zeroes.

=item EVENT_READABLE

There is data to receive, or the end of it.

=item EVENT_WRITABLE

Data can be sent.

=item EVENT_ERROR

The stream has failed.

=item EVENT_HANGUP

The other side has closed the stream.

=back

=head1 ENVIRONMENT

=over 4

=item SYS_VIRT_STREAM

C<c> leaves the C binding's own stream in place, for comparisons and as a way
out.

=back

=head1 SEE ALSO

L<Sys::Virt::Stream::Differences> lists what differs from the C binding, and the faults of libvirt.

L<Sys::Virt::Stream::Handlers> says what handlers, signals, threads and processes may do.

L<Sys::Virt::Stream::Files>, L<Sys::Virt::Stream::Handle>, L<Sys::Virt::Stream::Socket>, L<Sys::Virt>, L<Sys::Virt::Error>,
L<Sys::Virt::Event>, L<Sys::Virt::StorageVol>, L<Sys::Virt::Domain>,
L<https://libvirt.org/>

=head1 LICENSE

This library is free software; you can redistribute it and/or modify it under
the same terms as Perl itself.

=cut
