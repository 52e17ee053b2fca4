package StreamTest::Loop;

# An event loop in Perl, as a program with a loop of its own would write one.

use strict;
use warnings;

use IO::Poll ();
use Sys::Virt::Event ();
use Time::HiRes ();

# Since 9.5 Sys::Virt warns about a loop that is a Sys::Virt::Event.
our @ISA = (eval { require Sys::Virt::EventImpl; 1 }) ? 'Sys::Virt::EventImpl' : 'Sys::Virt::Event';

my %POLL = (
    Sys::Virt::Event::HANDLE_READABLE() => IO::Poll::POLLIN(),
    Sys::Virt::Event::HANDLE_WRITABLE() => IO::Poll::POLLOUT(),
    Sys::Virt::Event::HANDLE_ERROR()    => IO::Poll::POLLERR(),
    Sys::Virt::Event::HANDLE_HANGUP()   => IO::Poll::POLLHUP(),
);

sub new {
    my ($class) = @_;
    my $self = bless { id => 0, handle => {}, timeout => {} }, $class;
    Sys::Virt::Event::register($self);
    return $self;
}

sub add_handle {
    my ($self, $fd, $events, $cb, $opaque, $ff) = @_;
    my $id = ++$self->{id};
    $self->{handle}{$id} = { fd => $fd, events => $events, cb => $cb, opaque => $opaque, ff => $ff };
    return $id;
}

sub update_handle {
    my ($self, $id, $events) = @_;
    $self->{handle}{$id}{events} = $events if $self->{handle}{$id};
    return;
}

sub add_timeout {
    my ($self, $every, $cb, $opaque, $ff) = @_;
    my $id = ++$self->{id};
    $self->{timeout}{$id} = { cb => $cb, opaque => $opaque, ff => $ff };
    $self->update_timeout($id, $every);
    return $id;
}

# Milliseconds; a negative number switches it off.
sub update_timeout {
    my ($self, $id, $every) = @_;
    my $timeout = $self->{timeout}{$id} or return;
    @$timeout{qw(every due)} = ($every, Time::HiRes::time() + $every / 1000);
    return;
}

sub remove_handle  { return $_[0]->_remove(handle => $_[1]) }
sub remove_timeout { return $_[0]->_remove(timeout => $_[1]) }

sub _remove {
    my ($self, $kind, $id) = @_;
    my $gone = delete $self->{$kind}{$id} or return -1;
    # libvirt wants its data freed later, not from inside the call that removes.
    push @{ $self->{gone} }, $gone if $gone->{ff};
    return 0;
}

# One turn: waits for at most this many seconds, then calls what is due.
sub step {
    my ($self, $wait) = @_;
    $self->_free;
    my @due = map { $_->{due} } grep { $_->{every} >= 0 } values %{ $self->{timeout} };
    for my $due (@due) {
        my $left = $due - Time::HiRes::time();
        $wait = $left < 0 ? 0 : $left if $left < $wait;
    }
    my %mask;
    for my $handle (values %{ $self->{handle} }) {
        $mask{ $handle->{fd} } |= $POLL{$_}
            for grep { $handle->{events} & $_ } keys %POLL;
    }
    my @poll = %mask;
    IO::Poll::_poll($wait * 1000, @poll);
    my %got = @poll;

    for my $id (sort { $a <=> $b } keys %{ $self->{handle} }) {
        # A callback may have removed the ones after it.
        my $handle = $self->{handle}{$id} or next;
        my $events = 0;
        $events |= $_ for grep { ($got{ $handle->{fd} } // 0) & $POLL{$_} } keys %POLL;
        $self->_run_handle_callback($id, @$handle{qw(fd)}, $events, @$handle{qw(cb opaque)})
            if $events;
    }
    my $now = Time::HiRes::time();
    for my $id (sort { $a <=> $b } keys %{ $self->{timeout} }) {
        my $timeout = $self->{timeout}{$id} or next;
        next if $timeout->{every} < 0 || $timeout->{due} > $now;
        $timeout->{due} = $now + $timeout->{every} / 1000;
        $self->_run_timeout_callback($id, @$timeout{qw(cb opaque)});
    }
    $self->_free;
    return;
}

# No turn comes any more.
sub DESTROY { local ($@, $!); $_[0]->_free; return }

sub _free {
    my ($self) = @_;
    my $gone = delete $self->{gone} or return;
    $self->_free_callback_opaque(@$_{qw(ff opaque)}) for @$gone;
    return;
}

1;
