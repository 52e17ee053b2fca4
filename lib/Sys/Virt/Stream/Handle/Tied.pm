package Sys::Virt::Stream::Handle::Tied;

# What stands behind a handle: the stream, and what was received of it but not read yet.
# Perl's own operators call it by the tie, XS code by the layer at the end of this file.

use strict;
use warnings;

our $VERSION = '0.1.0';

use Carp qw(croak);
use Errno qw(EBADF EINVAL EIO ESPIPE);
use Scalar::Util qw(blessed);

our @CARP_NOT = qw(IO::Handle Sys::Virt::Stream::Handle Sys::Virt::Stream::Handle::Layer);

# The most that one message of libvirt's carries to any daemon.
my $PIECE = 262_120;

sub new {
    my ($class, $stream) = @_;
    return bless { stream => $stream, buffer => '' }, $class;
}

sub TIEHANDLE { return $_[1] }

sub failed { return $_[0]{failed} }
sub error  { return $_[0]{error} }

# --- the stream

# A call of the stream; undef where that fails, and $! is set. What a signal handler throws
# goes on as it is, and the stream is lost as well.
sub _call {
    my ($self, $method) = (shift, shift);
    my ($answer, $error);
    {
        local ($@, $SIG{__DIE__});
        return $answer // 0 if eval { $answer = $self->{stream}->$method(@_); 1 };
        $error = $@;
    }
    $self->{failed} = 1;
    $self->{error}  = $error;
    $self->{buffer} = '';
    $self->_abandon;
    die $error unless blessed $error && $error->isa('Sys::Virt::Error');
    $! = EIO;
    return;
}

# The stream may be gone before us at the very end of a program.
sub _abandon {
    my ($self) = @_;
    my $stream = delete $self->{stream};
    return unless blessed $stream;
    local ($@, $!, $SIG{__DIE__});
    eval { $stream->_abandon };
    return;
}

# In a new thread there is no stream: what perl puts in its place is no object.
sub _usable {
    my ($self) = @_;
    return 1 if blessed $self->{stream};
    $! = $self->{failed} && !$self->{closed} ? EIO : EBADF;
    return;
}

# Receives at least something into the buffer: 0 at the end, undef on a failure.
sub _fill {
    my ($self) = @_;
    return unless $self->_usable;
    return 0 if $self->{ended};
    my $count = $self->_call(recv => my $data, $PIECE) // return;
    $count ? $self->{buffer} .= $data : ($self->{ended} = 1);
    return $count;
}

# Takes up to $length bytes: all of them if there are as many, or what is there.
sub _take {
    my ($self, $length, $all) = @_;
    my $enough = $all || !$length ? $length : 1;
    while (length $self->{buffer} < $enough) {
        my $count = $self->_fill // return;
        last unless $count;
    }
    return substr $self->{buffer}, 0, $length, '' if $self->_usable;
    return;
}

sub _send {
    my ($self, $operator, $data) = @_;
    utf8::downgrade($data, 1) or croak "Wide character in $operator";
    return unless $self->_usable;
    for (my $sent = 0; $sent < length $data; ) {
        $sent += $self->_call(send => substr($data, $sent, $PIECE), $PIECE) // return;
    }
    return 1;
}

sub DESTROY {
    my ($self) = @_;
    $self->_abandon;
    return;
}

# --- Perl's operators, but for those that read lines

sub READ {
    my ($self, undef, $length, $offset) = @_;
    my $all = !Sys::Virt::Stream::_under_sysread();
    croak 'Negative length' if $length < 0;
    $_[1] //= '';
    my $has = length $_[1];
    my $at  = _offset($offset, $has);
    my $data = $self->_take($length, $all) // return undef;
    if ($at) {
        $_[1] .= "\0" x ($at - $has) if $at > $has;
        substr($_[1], $at) = $data;
    }
    else {
        $_[1] = $data;
    }
    return length $data;
}

sub WRITE {
    my ($self, undef, $length, $offset) = @_;
    my $data = $_[1] // '';
    $length //= length $data;
    croak 'Negative length' if $length < 0;
    my $at = _offset($offset, length $data);
    croak 'Offset outside string' if $at > length $data;
    $data = substr $data, $at, $length if $at || $length < length $data;
    return $self->_send('syswrite', $data) ? length $data : undef;
}

sub _offset {
    my ($offset, $length) = @_;
    $offset //= 0;
    $offset += $length if $offset < 0;
    croak 'Offset outside string' if $offset < 0;
    return $offset;
}

sub PRINT {
    my $self = shift;
    my $data = join $, // '', @_;
    $data .= $\ if defined $\;
    return $self->_send('print', $data);
}

sub PRINTF {
    my ($self, $format, @values) = @_;
    return $self->_send('printf', sprintf $format, @values);
}

sub GETC {
    my ($self) = @_;
    my $byte = $self->_take(1, 1);
    return defined $byte && length $byte ? $byte : undef;
}

sub EOF {
    my ($self) = @_;
    return !$self->_usable || !length $self->{buffer} && !$self->_fill;
}

sub CLOSE {
    my ($self) = @_;
    my $usable = $self->_usable;
    $self->{closed} = 1;
    $self->{buffer} = '';
    return '' unless $usable && defined $self->_call('finish');
    delete $self->{stream};
    return 1;
}

# Bytes are all there is to have.
sub BINMODE {
    my ($self, $layer) = @_;
    return 1 if ($layer // ':raw') =~ /\A[\s:]*(?:raw|bytes)?[\s:]*\z/ && $self->_usable;
    $! = EINVAL if $self->_usable;
    return '';
}

sub FILENO { return $_[0]{closed} ? undef : -1 }
sub TELL   { return -1 }
sub SEEK   { $! = ESPIPE; return '' }

# --- lines

sub READLINE {
    my ($self) = @_;
    return $self->_line(1) unless wantarray;
    my @lines;
    while (defined(my $line = $self->_line)) { push @lines, $line }
    return @lines;
}

sub _line {
    my ($self, $scalar) = @_;
    return undef unless $self->_usable;
    my $line =
          !defined $/ ? $self->_rest($scalar && !$self->{lines})
        : ref $/      ? $self->_take(${$/}, 1)
        : length $/   ? $self->_until($/)
        :               $self->_paragraph;
    return undef unless defined $line && (length $line || !defined $/);
    $self->{lines} = 1;
    $.++;
    return $line;
}

# An empty stream has one empty rest, as an empty file has.
sub _rest {
    my ($self, $may_be_empty) = @_;
    my $count;
    1 while $count = $self->_fill;
    return unless defined $count;
    my $rest = delete $self->{buffer};
    $self->{buffer} = '';
    return length $rest || $may_be_empty ? $rest : undef;
}

# A line that goes on over many pieces is searched once.
sub _until {
    my ($self, $end) = @_;
    for (my $from = 0; ; ) {
        my $at = index $self->{buffer}, $end, $from;
        return substr $self->{buffer}, 0, $at + length $end, '' if $at >= 0;
        $from = length($self->{buffer}) - length($end) + 1;
        my $count = $self->_fill // return;
        return substr $self->{buffer}, 0, length $self->{buffer}, '' unless $count;
    }
}

# Paragraphs are what stands between empty lines, however many.
sub _paragraph {
    my ($self) = @_;
    $self->_skip_newlines // return;
    my $text = $self->_until("\n\n");
    $self->_skip_newlines if defined $text && $text =~ /\n\n\z/;
    return $text;
}

sub _skip_newlines {
    my ($self) = @_;
    for (;;) {
        $self->{buffer} =~ s/\A\n+//;
        return 1 if length $self->{buffer};
        my $count = $self->_fill;
        return $count unless $count;
    }
}

# --- XS code, which knows no ties

package Sys::Virt::Stream::Handle::Layer;

# What the layer that is being pushed is to read from.
our $pushed;

sub PUSHED { return $pushed ? bless { tied => $pushed }, $_[0] : -1 }
sub FILENO { return -1 }
sub CLOSE  { return 0 }    # its last owner is gone: closing by name is the tie's
sub FLUSH  { return 0 }
sub BINMODE { return 0 }
sub SEEK   { return -1 }
sub TELL   { return -1 }

# A layer has no way to tell a failure from the end of the data, so it has to be thrown.
sub READ {
    my ($self, undef, $length) = @_;
    my $tied = $self->{tied};
    my $data = $tied->_take($length, 1);
    die $tied->error if !defined $data && $tied->failed;
    $_[1] = $data // '';
    return length $_[1];
}

sub WRITE {
    my ($self, $data) = @_;
    my $tied = $self->{tied};
    return $tied->_send('print', $data) ? length $data : -1;
}

sub UNREAD {
    my ($self, $data) = @_;
    my $tied = $self->{tied};
    substr($tied->{buffer}, 0, 0) = $data;
    return length $data;
}

sub EOF {
    my $tied = $_[0]{tied};
    return !length $tied->{buffer} && ($tied->{ended} || !$tied->_usable) ? 1 : 0;
}

# Perl asks when the handle is dropped, too, and would warn.
sub ERROR {
    my $tied = $_[0]{tied};
    return $tied->failed && !$tied->{dropped} ? 1 : 0;
}

1;
