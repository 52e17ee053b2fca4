package Sys::Virt::Stream;

use strict;
use warnings;

our $VERSION = '0.2.0';

require XSLoader;

our $loaded;

# Where this file is loaded again, nothing is redefined that perl -W would warn of.
BEGIN {
    no strict 'refs';
    undef *{ __PACKAGE__ . "::$_" } for grep { $loaded } qw(
        implementation new _new handle CLONE_SKIP _take_over _put _stay_in_thread);
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

# libvirt's objects belong to the thread that made them: in another, its
# end would give back what the first still uses. Perl makes them undef there.
sub CLONE_SKIP { return 1 }

if ($implementation eq 'c') {
    delete @Sys::Virt::Stream::{qw(new handle CLONE_SKIP)};
}
elsif (!$loaded) {
    XSLoader::load(__PACKAGE__, $VERSION);
    # The library's boot function is Rust's, which no exception may cross: it only brings
    # the XSUB that can refuse this perl, or this version.
    __PACKAGE__->can('_install')->(__PACKAGE__, $VERSION);
    delete $Sys::Virt::Stream::{_install};
    $loaded = 1;
    _take_over();
}

# Puts this module's subs and constants where the C binding's boot puts its own:
# now, if Sys::Virt has been booted, else as soon as that is done.
sub _take_over {
    my %own = map { ($_ => \&$_) } qw(
        NONBLOCK EVENT_READABLE EVENT_WRITABLE EVENT_ERROR EVENT_HANGUP RECV_STOP_AT_HOLE
        _new_obj DESTROY finish abort recv send recv_hole send_hole
        recv_all sparse_recv_all send_all sparse_send_all
        add_callback update_callback remove_callback
    );
    my $install = sub {
        _put("Sys::Virt::Stream::$_", $own{$_}) for keys %own;
        return unless defined &Sys::Virt::_open;    # the boot has failed
        require Sys::Virt::Event;                   # Sys::Virt does not, and it must not come later
        _surround();
        _stay_in_thread();
    };
    if (defined &Sys::Virt::_open) {
        $install->();
        return;
    }

    # XSLoader leaves the boot to a bootstrap that is there already.
    no warnings 'once';
    *Sys::Virt::bootstrap = sub {
        undef *Sys::Virt::bootstrap;
        # XSLoader looks for the shared object beside the file that asks. (DynaLoader,
        # which looks everywhere, takes a fifth of a MiB.)
        my ($package, $file, $line) = caller;
        my $load = $file =~ /[\n"]/ ? \&XSLoader::bootstrap_inherit
            : eval qq{package $package;\n#line $line "$file"\nsub { XSLoader::load(\@_) }};
        # The boot would say that it redefines what stands here, so nothing does.
        { no strict 'refs'; undef *{"Sys::Virt::Stream::$_"} for keys %own }
        my @result;
        my $booted = eval { @result = &$load; 1 };
        my $error  = $@;
        $install->();
        die $error unless $booted;
        return wantarray ? @result : $result[0];
    };
    return;
}

# Puts a sub in another's place, in the glob that compiled code has. perl -W warns
# whatever a module says, so the other one goes first and nothing is redefined.
sub _put {
    my ($name, $code) = @_;
    no strict 'refs';
    undef *$name;
    *$name = $code;
    return;
}

# The connection that a stream needs, and all else that has a pointer of libvirt's.
sub _stay_in_thread {
    no strict 'refs';
    for my $class ('Sys::Virt', map { "Sys::Virt::$_" } qw(
        Domain DomainCheckpoint DomainSnapshot Interface Network NetworkPort
        NodeDevice NWFilter NWFilterBinding Secret StoragePool StorageVol
    )) {
        *{"${class}::CLONE_SKIP"} = sub { return 1 } unless $class->can('CLONE_SKIP');
    }
    return;
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

    # a picture of its screen
    my $st = $conn->new_stream;
    $domain->screenshot($st, 0, 0);
    open my $png, '>:raw', 'screenshot.png' or die "screenshot.png: $!";
    $st->recv_all(sub {
        my ($st, $data, $nbytes) = @_;
        return syswrite $png, $data, $nbytes;
    });
    $st->finish;
    close $png or die "screenshot.png: $!";

=head1 DESCRIPTION

A stream is a pipe between a program and libvirt: storage volumes are
downloaded and uploaded through it, screenshots are taken through it, and
serial consoles and channels are connected to it. This module provides the
C<Sys::Virt::Stream> package of L<Sys::Virt>, Perl's binding of libvirt, and
takes the place of the one that comes with it. Connections, domains, volumes
and everything else are those of the installed Sys::Virt; a program needs no
change, in whatever order it loads the two.

Data are bytes everywhere. Sizes and lengths are in bytes.

Unless said otherwise, a method that fails dies with a L<Sys::Virt::Error>,
which has C<level>, C<code>, C<domain> and C<message>.

=head1 METHODS

=head2 Beginning and end

=over 4

=item $st = $conn->new_stream($flags)

=item $st = Sys::Virt::Stream->new($conn, $flags)

A new stream of the connection, not open yet: C<< $vol->download >>,
C<< $vol->upload >>, C<< $domain->screenshot >>, C<< $domain->open_console >>,
C<< $domain->open_channel >> and the like open it. C<$flags> is 0 or
L</NONBLOCK>.

=item $st->finish

Ends a transfer that is complete, and waits for the other side to agree. An
upload is whole only when this has returned.

=item $st->abort

Ends a transfer before it is complete. What has not arrived is lost. Aborting
a stream that was never opened does nothing.

One of these two ends every stream that was opened. A stream that goes out of
scope without is aborted.

=item Sys::Virt::Stream->implementation

C<rust> for this module, C<c> where C<SYS_VIRT_STREAM=c> in the environment has
left the C binding's own stream in place. Only this module has this method.

=back

=head2 Receiving and sending

=over 4

=item $count = $st->recv($data, $nbytes, $flags = 0)

Receives up to C<$nbytes> bytes into C<$data>. Returns how many they were: 0 at
the end of the data, -2 where a non-blocking stream has nothing ready, -3 at a
hole, if C<$flags> is L</RECV_STOP_AT_HOLE>. C<$data> is anything that can be
assigned to, and keeps its value unless data has arrived. One call delivers at
most 16 MiB, whatever C<$nbytes> says.

=item $count = $st->send($data, $nbytes)

Sends the first C<$nbytes> bytes of C<$data>, or all if there are fewer.
Returns how many were taken, or -2 where a non-blocking stream can take none
now. An undefined C<$data> sends nothing. A character over 255 is an error, and
nothing is sent.

=item $length = $st->recv_hole($flags = 0)

The length of the hole that C<recv> has stopped at. C<$flags> is 0.

=item $st->send_hole($length, $flags = 0)

Has the other side skip C<$length> bytes, which read as zeroes and take no
space. C<$flags> is 0. The stream must have been opened as a sparse one.

=back

=head2 Whole transfers

These call a handler for each piece, until the transfer is complete; C<finish>
is still to be called. They need a blocking stream. A handler is a code
reference, or whatever else Perl can call.

=over 4

=item $st->recv_all($handler)

C<< $handler->($st, $data, $nbytes) >> is given at most 262,120 bytes at a time
and returns how many of them it has dealt with; it is called again with the
rest. -1 says that it failed.

=item $st->send_all($handler)

C<< $handler->($st, $data, $nbytes) >> puts about C<$nbytes> bytes into
C<$_[1]> and returns how many they are; 0 at the end, -1 if it failed.

=item $st->sparse_recv_all($handler, $hole_handler)

Like C<recv_all>; C<< $hole_handler->($st, $length) >> is called for a hole. It
returns 0, or -1 if it failed.

=item $st->sparse_send_all($handler, $hole_handler, $skip_handler)

C<< $hole_handler->($st) >> returns two values: whether the source is in data,
and how many bytes are left of that data or hole. In data, C<$handler> is called
as by C<send_all>, for no more than is left. In a hole that is not empty,
C<< $skip_handler->($st, $length) >> is called to skip it, and returns 0, or -1
if it failed. At the end of the source the length is 0.

=back

=head2 Events

For non-blocking streams, in a program with an event loop: see
L<Sys::Virt::Event>.

=over 4

=item $st->add_callback($events, $coderef)

Has C<< $coderef->($st, $events) >> called whenever one of C<$events> has come
up: a sum of the EVENT constants. A stream has one callback at a time, which
keeps it alive.

=item $st->update_callback($events)

Changes the events that are waited for.

=item $st->remove_callback

Removes the callback. The end of the stream does so too; this is harmless then.

=back

=head1 WHOLE FILES

Only this module has these two methods, so C<< Sys::Virt::Stream->can('recv_file') >>
asks for them. Each is a whole transfer: no Perl code runs for a piece of it, and when
it returns the stream is finished (a C<finish> by habit is harmless). They need a
blocking stream.

=over 4

=item $result = $st->recv_file($target, %options)

Writes what the stream delivers to a file.

=item $result = $st->send_file($source, %options)

Sends a file.

=back

The file is a path or a filehandle. A path to be written is created if need be; an
existing file is truncated when the stream has delivered something, or its end, not
before. A transfer through a handle begins at the handle's position, if it has one, and
leaves it behind what was moved; one that does not block is waited for. A handle needs a
descriptor of its own, and no layers but Perl's plain ones: not an encoding, not a string,
not a tie.

Both return a reference to a hash:

=over 4

=item bytes

All bytes of the file that were moved or passed over.

=item holes

How many of them lie in holes.

=item seconds

How long it took, with a fraction.

=item digest

The digest that was asked for.

=back

In the place of the file there may be another stream: C<< $to->send_file($from) >> and
C<< $from->recv_file($to) >> move all that C<$from> delivers, holes included, and finish both.
A failure aborts both. The two belong on connections of their own: what one connection
receives while it sends is kept in memory.

=head2 Options

C<offset>, C<length> and C<progress> count as not given where their value is undefined.

=over 4

=item sparse => 1

Keeps holes: those that the file system tells of are sent as holes, and those that arrive
become holes of the file. The stream has to be opened as a sparse one. Where a file can
have none (a pipe, a terminal, a device), a hole is written as zeroes.

=item detect_zeroes => 1

Blocks of 4 KiB, aligned in the file, that hold nothing but zeroes become holes as well: in
the file, or on the stream, which has to be C<sparse> then.

=item offset => $bytes

Where in the file the transfer begins, from its start. A file to be written is then not
truncated. A file without positions, as a pipe, can't have one.

=item length => $bytes

Moves just as many bytes. A file or a stream that ends before is an error. Without it,
all is moved up to the end: for an ordinary file the end that it has at the beginning.

=item digest => 'sha256'

Computes that digest of what is moved, a hole being as many zeroes, and returns it in
hexadecimal digits: what C<sha256sum> says of the file. It takes the processor about a second
for a GiB, also of a hole, where that has instructions for it.

=item limit => $bytes

Moves no more bytes in a second. Holes do not count.

=item progress => $coderef

C<< $coderef->($bytes, $holes, $total) >> is called about four times a second, and once at
the end: the bytes so far, those of them in holes, and how many there will be, undef where
that is not known. A die ends the transfer.

=item sync => 1

C<recv_file> only: the file is on disk when the call returns.

=item replace => 1

C<recv_file> with a path only: what stands there is replaced in one step when all has
arrived and the stream has finished without an error. Until then, and on any failure, it
stays as it is. The new file has the old one's permissions, extended attributes and access
control lists, and its owner where that is allowed; of a symbolic link the file that it leads
to is replaced. Meanwhile there is a file F<.NAME.XXXXXX> in the same folder, which a failure
removes; a signal that ends the process, with no handler set for it, leaves it there.

=item partial => $path

With C<replace> only: the new file is this one meanwhile, in the same file system. A failure
leaves it there, for another transfer to go on with: C<offset> then says how many of its bytes
are right, and the stream has to begin behind them. No two transfers write to it at a time.

=back

=head2 When they fail

An argument that is wrong (an option that is not there, a directory, a handle with an
encoding, a non-blocking stream) is an exception before anything has been moved, and the
stream stays as it was.

Later failures abort the stream. What the system refuses is a L<Sys::Virt::Error> that
names the file and the reason: "recv_file failed: cannot write /images/disk: No space left
on device". Without C<replace> a file then keeps what has been written of it.

Signal handlers run between pieces and while the stream or the file is waited for: see
L</SIGNALS>.

=head1 A STREAM AS A FILEHANDLE

=over 4

=item $fh = $st->handle

A filehandle over a blocking stream, for whatever reads from a handle or writes to
one: see L<Sys::Virt::Stream::Handle>. Only this module has this method.

=back

=head1 CONSTANTS

=over 4

=item NONBLOCK

For C<new_stream>: calls that would wait return -2 instead.

=item RECV_STOP_AT_HOLE

For C<recv>: return -3 at a hole, rather than its zeroes.

=item EVENT_READABLE

There is data to receive, or the end of it.

=item EVENT_WRITABLE

Data can be sent.

=item EVENT_ERROR

The stream has failed.

=item EVENT_HANGUP

The other side has closed the stream.

=back

=head1 WHAT A HANDLER MAY RELY ON

=over 4

=item *

It may die, with anything: the stream is aborted, and the exception is what the
transfer dies with, the same object. C<exit> ends the program as anywhere else.
C<last>, C<next> and C<goto> out of a handler are exceptions.

=item *

If it returns undef, or nothing, and C<$!> was set meanwhile, it has failed, and
the transfer dies with C<$!>'s text, as for -1: C<return syswrite ...> and
C<return sysread ...> are all that a handler needs. Where C<$!> was not set,
undef is the end of the data from a source, and a failure of a sink.

=item *

It may do what it likes with its data scalar: keep it, change it, bless it. The
next piece is right, and what was kept stays.

=item *

It may use the stream, and others. Ending the stream makes the transfer fail.

=item *

C<$@>, C<$_> and C<$^S> are those of the program around the transfer.

=back

=head1 SIGNALS

Perl's signal handlers run between the pieces of a transfer. If the program has
set a handler in C<%SIG>, they also run while a call waits for libvirt, within
a fraction of a second: the call is made from a second thread then, which runs
no Perl and takes no signals. A handler that dies ends the call with its
exception, and the stream is aborted. If libvirt does not come back from an
aborted call within some seconds (because the daemon does not answer), the
thread is left behind to do so when it can.

A stream that is dropped, or whose transfer fails, is aborted from a second
thread as well, and waited for as long at most: a daemon that has lost sight of
a stream never answers. C<abort> waits for ten seconds, and then dies with a
C<VIR_ERR_OPERATION_TIMEOUT>; the stream is closed all the same, and so ends what
is asked of it later where libvirt would wait for ever. C<finish> of an open one waits
as long as the daemon takes to store what it was sent: only a signal handler that
dies ends that.

C<set_keep_alive> of a connection does not end a call that waits for a silent daemon
while no event loop runs. A signal handler that dies does.

No SIGPIPE ends the program while a method writes to a connection that is broken:
the method dies with libvirt's error.

Where the event loop is written in Perl (L<Sys::Virt::Event/register>) the call
can't be made from a second thread, since libvirt would call that loop from
there: handlers run when the call returns, and an abort takes as long as it takes. The same holds for
C<Sys::Virt::Event::run_default>, which is not a stream's.

=head1 THREADS AND PROCESSES

An object of libvirt's belongs to the thread that made it. In a thread that is
created while streams, connections, domains and the like exist, they are
undefined values; make new ones there. A callback is called by the thread that
added it, and no other.

A forked child has no use of its parent's streams: the connection behind them
is the parent's. They are left alone when the child ends. One forked in an event
callback leaves by C<exec> or C<POSIX::_exit>: a way back, and C<exit> is one,
leads through libvirt, which may wait there for a thread that only the parent has.

=head1 DIFFERENCES FROM THE C BINDING

A program that works with the C binding's stream works with this one. Where the
C binding crashes, hangs, leaks or loses data, this is what happens here.

=over 4

=item *

C<new>, C<implementation>, C<recv_file>, C<send_file> and C<handle> exist.

=item *

A handler that returns undef because its own I/O failed ends the transfer with
that error. There a sink is called again for ever, and a source's failure is
taken for the end of the data. An undef without an error from a sink is an
error as well.

=item *

A C<send_all> handler that claims more than its scalar holds is an error which
says both numbers; there the memory behind the scalar is sent. One that supplies
more than it was asked for has all of it sent, where there the rest is dropped
silently; in C<sparse_send_all> that is an error.

=item *

A transfer whose handler dies has been aborted. Leaving a handler by C<last>,
C<next> or C<goto> is an exception; there the rest of the program runs inside
the handler.

=item *

A stream that is dropped while it is open is aborted. There both sides go on
queueing its data.

=item *

C<recv> stores into all that can be assigned to: ties, elements that do not
exist yet, C<substr>; what it stores has never the utf8 flag. A read-only target
is refused before data is received; what another target could not take is
delivered by the next C<recv>. C<nbytes> is cut to 16 MiB.

=item *

C<send>, and the handlers of C<send_all>, send the characters of a string as
bytes, whatever its utf8 flag, and refuse characters over 255. There the
internal encoding is sent.

A value with magic (a tie, a C<substr>, a numbered match) is read before it is
looked at; there it may count as undefined.

=item *

A hole of a negative length is refused, and one of no length needs nothing to be
sent; there the daemon may be told, and then never answer again. C<send_hole>
on a local stream that has ended is an error; there it crashes.

=item *

What is no stream is never followed as a pointer: each method dies with
libvirt's "invalid stream pointer" for an object that is none, C<recv_all> and
its kin and C<add_callback> for anything else too.

=item *

A stream that was opened for one direction, by C<< $vol->download >>,
C<< $vol->upload >> or C<< $domain->screenshot >>, refuses calls for the other:
sending to what only receives, and a blocking C<recv> on what only sends, die with
"cannot write to stream: Bad file descriptor" or "cannot read from stream: Bad
file descriptor". There what is sent is lost, or comes back as data, and the daemon
answers nothing any more; a hole crashes; and the C<recv> waits for ever.

=item *

A stream that is opened again, after its end, is as good as new. Opening one that
is open aborts what it was open for; there that goes on unseen.

=item *

An C<abort> that the daemon does not answer, what is asked of a stream that ended
so, and a broken connection, are exceptions: see L</SIGNALS>. There the call waits
for ever, and the program dies of SIGPIPE.

=item *

Objects of libvirt's are undefined in a new thread. There its end frees the
first thread's.

=item *

What a callback holds is released when it is removed, and when the stream ends.
There it is never released on a connection to a daemon. A stream that ends takes
its callback out of the event loop, which otherwise would call it for ever.

=item *

The callback keeps the stream, not the variable that C<add_callback> was called
on: that variable may be undefined or used again.

=item *

An exception in a callback, and one in an event loop written in Perl (a signal
handler's too, which comes up there), leaves libvirt's own calls in order before
it comes out: of the call of this module, of C<Sys::Virt::Event::run_default>, or
of C<_run_timeout_callback> and C<_run_handle_callback>. There it jumps out of
libvirt while that holds locks.
Of several exceptions in one turn the next turn begins with the second. What a
loop's methods throw under a call that is none of this module's (while a
connection is opened, say) comes out of the next turn.

=item *

A loop in Perl that is run from within a callback leaves out the watch or timer
that is being dispatched, as libvirt's own loop does; libvirt does not survive
the other.

=item *

Signal handlers run while a call waits: see L</SIGNALS>.

=item *

Many short calls of a handler leave nothing on Perl's stack.

=back

=head1 ENVIRONMENT

=over 4

=item SYS_VIRT_STREAM

C<c> leaves the C binding's own stream in place, for comparisons and as a way
out.

=back

=head1 SEE ALSO

L<Sys::Virt::Stream::Handle>, L<Sys::Virt>, L<Sys::Virt::Error>,
L<Sys::Virt::Event>, L<Sys::Virt::StorageVol>, L<Sys::Virt::Domain>,
L<https://libvirt.org/>

=head1 LICENSE

This library is free software; you can redistribute it and/or modify it under
the same terms as Perl itself.

=cut
