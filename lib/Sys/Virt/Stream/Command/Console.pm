package Sys::Virt::Stream::Command::Console;

# A guest's console on this program's standard input and output, by libvirt's own event loop.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Errno qw(EAGAIN EINTR);
use Sys::Virt::Event;
use Sys::Virt::Stream::Command::Failure qw(trying);
use Sys::Virt::Stream::Command::Files qw(write_all);
use Sys::Virt::Stream::Command::Objects qw(connection domain);

my $LEAVE = "\x1d";    # Ctrl-]

# The most that is done for one side at a time, and that waits for the guest.
my $MOST = 65_536;

# Perl's signal handlers run when libvirt's loop has returned: for a signal that comes just
# before it waits, that is so many milliseconds later.
my $PAUSE = 500;

# virt-stream console DOMAIN.
sub run {
    my ($class, $run, $name) = @_;
    die "cannot write standard output: it is closed\n" if $run->closed(1);
    Sys::Virt::Event::register_default();    # before there is a connection
    my ($log, $logged) = (undef, $run->option('log'));
    if (defined $logged) { open $log, '>>:raw', $logged or die "cannot write $logged: $!\n" }
    my $conn = connection($run->option('connect'));
    my $domain = domain($conn, $name);
    $run->catch_signals;
    my $flags = ($run->option('force') ? Sys::Virt::Domain::OPEN_CONSOLE_FORCE() : 0)
        | ($run->option('safe') ? Sys::Virt::Domain::OPEN_CONSOLE_SAFE() : 0);
    trying("the console of $name", sub {
        _converse($class, $conn, $domain, quiet => $run->option('quiet'), devname => $run->option('devname'),
            flags => $flags, log => $log, logged => $logged);
    });
    return;
}

# Returns when the user has left or the console has ended. Options: quiet, devname, flags, log (a handle), logged (its name).
sub _converse {
    my ($class, $conn, $domain, %with) = @_;
    my $self = bless { conn => $conn, domain => $domain, unsent => '', map { $_ => $with{$_} } qw(log logged) }, $class;
    $self->{stream} = $conn->new_stream(Sys::Virt::Stream::NONBLOCK());
    $domain->open_console($self->{stream}, $with{devname}, $with{flags});
    my $terminal = -t STDIN;
    my $says = $terminal && !$with{quiet};
    print STDERR 'Connected to ', $domain->get_name, ", leave with Ctrl-].\n" if $says;

    $self->{leave} = $terminal ? $LEAVE : undef;
    binmode $_ for \*STDIN, \*STDOUT;    # bytes, whatever layers the environment asks for
    my $raw = $terminal ? Sys::Virt::Stream::Command::Console::Raw->new(\*STDIN) : undef;
    # Whoever stops the program has the terminal as it was. SIGSTOP can't be seen, but its end can.
    local @SIG{qw(TSTP CONT)} = (sub { $raw->off if $raw; kill STOP => $$ }, sub { $raw->on if $raw }) if $raw;
    $self->_attach;
    my $lived = eval { Sys::Virt::Event::run_default() until $self->{ended}; 1 };
    my $error = $@;
    $self->_detach;
    undef $raw;
    print STDERR "\n" if $says;
    die $error unless $lived;
    die $self->{error} if defined $self->{error};
    return;
}

sub _attach {
    my ($self) = @_;
    # A stream whose connection is lost is told nothing. Without a daemon there is nothing to lose.
    eval { $self->{conn}->register_close_callback(sub { $self->_end("the connection to libvirt is lost\n") }); 1 }
        || ref $@ || die $@;    # as a signal handler does
    $self->{stream}->add_callback($self->{events} = $self->_wanted, sub {
        my (undef, $events) = @_;
        $self->_to_guest   if $events & Sys::Virt::Stream::EVENT_WRITABLE();
        $self->_from_guest if $events & ~Sys::Virt::Stream::EVENT_WRITABLE() && !$self->{ended};
    });
    $self->{watch} = Sys::Virt::Event::add_handle(fileno STDIN, $self->_input_events, sub { $self->_from_user })
        if defined fileno STDIN;
    $self->{timer} = Sys::Virt::Event::add_timeout($PAUSE, sub { });
    return;
}

sub _detach {
    my ($self) = @_;
    $self->_ignore_input;
    Sys::Virt::Event::remove_timeout($self->{timer});
    local $@;
    eval { $self->{conn}->unregister_close_callback };
    # Where the console has not ended by itself, the user has left it.
    eval { $self->{stream}->abort };
    return;
}

# Notes the end; only the first counts. Without $error it is no failure.
sub _end {
    my ($self, $error) = @_;
    return if $self->{ended};
    $self->{ended} = 1;
    # When a guest is shut down libvirt reports an error for its console.
    my $over = defined $error && ref $error && !eval { $self->{domain}->is_active };
    $self->{error} = $error unless $over && $self->{conn}->is_alive;
    return;
}

# --- the guest

sub _wanted {
    my ($self) = @_;
    return Sys::Virt::Stream::EVENT_READABLE() | Sys::Virt::Stream::EVENT_ERROR() | Sys::Virt::Stream::EVENT_HANGUP()
        | (length $self->{unsent} ? Sys::Virt::Stream::EVENT_WRITABLE() : 0);
}

# What a call of the stream returns; undef where it fails, and that is the end.
sub _try {
    my ($self, $method) = (shift, shift);
    my $count = eval { $self->{stream}->$method(@_) };
    return $count if defined $count;
    ref $@ && $@->isa('Sys::Virt::Error') ? $self->_end($@) : die $@;
    return;
}

sub _from_guest {
    my ($self) = @_;
    for (my $had = 0; $had < $MOST; ) {
        my $count = $self->_try(recv => my $data, $MOST) // return;
        return if $count == -2;
        return $self->_end if $count == 0;
        write_all(\*STDOUT, 'standard output', $data);
        write_all($self->{log}, $self->{logged}, $data) if $self->{log};
        $had += $count;
    }
    return;
}

sub _to_guest {
    my ($self) = @_;
    while (length $self->{unsent}) {
        my $count = $self->_try(send => $self->{unsent}, $MOST) // return;
        last if $count == -2;
        substr($self->{unsent}, 0, $count) = '';
    }
    $self->_update;
    return;
}

# Waits for what can be gone on with.
sub _update {
    my ($self) = @_;
    my $events = $self->_wanted;
    $self->{stream}->update_callback($self->{events} = $events) if $events != $self->{events};
    Sys::Virt::Event::update_handle($self->{watch}, $self->_input_events) if defined $self->{watch};
    return;
}

# --- the user

sub _input_events {
    my ($self) = @_;
    return length $self->{unsent} < $MOST ? Sys::Virt::Event::HANDLE_READABLE() : 0;
}

sub _from_user {
    my ($self) = @_;
    my $count = sysread STDIN, (my $data), $MOST;
    return if !defined $count && ($! == EAGAIN || $! == EINTR);
    if (!$count) {
        my $why = defined $count ? undef : "cannot read standard input: $!\n";
        $self->_ignore_input;
        # The end of a terminal ends the console; the end of a file does not.
        $self->_end($why) if defined $why || defined $self->{leave};
        return;
    }
    my $left = defined $self->{leave} ? index $data, $self->{leave} : -1;
    $self->{unsent} .= $left < 0 ? $data : substr $data, 0, $left;
    $self->_to_guest;
    $self->_end if $left >= 0;
    return;
}

sub _ignore_input {
    my ($self) = @_;
    Sys::Virt::Event::remove_handle(delete $self->{watch}) if defined $self->{watch};
    return;
}

# A terminal that gives each byte as it is typed, until this value goes.
package Sys::Virt::Stream::Command::Console::Raw;

use POSIX ();

sub new {
    my ($class, $fh) = @_;
    my $fd = fileno $fh;
    my ($was, $raw) = map { POSIX::Termios->new } 1, 2;
    $_->getattr($fd) // die "cannot read the terminal's settings: $!\n" for $was, $raw;
    $raw->setiflag($raw->getiflag & ~(POSIX::BRKINT() | POSIX::ICRNL() | POSIX::IGNBRK() | POSIX::IGNCR()
        | POSIX::INLCR() | POSIX::INPCK() | POSIX::ISTRIP() | POSIX::IXON() | POSIX::PARMRK()));
    $raw->setoflag($raw->getoflag & ~POSIX::OPOST());
    $raw->setcflag($raw->getcflag & ~(POSIX::CSIZE() | POSIX::PARENB()) | POSIX::CS8());
    $raw->setlflag($raw->getlflag & ~(POSIX::ECHO() | POSIX::ECHONL() | POSIX::ICANON() | POSIX::IEXTEN()
        | POSIX::ISIG()));
    $raw->setcc(POSIX::VMIN(), 1);
    $raw->setcc(POSIX::VTIME(), 0);
    my $self = bless { fd => $fd, was => $was, raw => $raw }, $class;
    $self->on;
    return $self;
}

sub on {
    my ($self) = @_;
    $self->{raw}->setattr($self->{fd}, POSIX::TCSADRAIN()) // die "cannot set the terminal: $!\n";
    return;
}

sub off {
    my ($self) = @_;
    $self->{was}->setattr($self->{fd}, POSIX::TCSADRAIN());
    return;
}

sub DESTROY { $_[0]->off; return }

1;
