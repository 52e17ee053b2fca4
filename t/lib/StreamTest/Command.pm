package StreamTest::Command;

# virt-stream as a child process: with files for its input and output, or on a terminal.

use strict;
use warnings;

use Cwd ();
use Fcntl ();
use POSIX ();
use StreamTest ();
use Time::HiRes ();

my ($SCRIPT) = map { Cwd::abs_path($_) } grep { defined && -e } 'blib/script/virt-stream',
    StreamTest::find_program('virt-stream'), 'bin/virt-stream';

# Linux's numbers, for the terminal's other end.
my ($TIOCGPTN, $TIOCSPTLCK, $TIOCSWINSZ) = (0x80045430, 0x40045431, 0x5414);

# Why there can be no terminal here; undef if there can.
sub no_terminal {
    my ($master, $slave) = eval { _terminal(80) };
    return $slave ? undef : "no terminal to be had here: $@";
}

sub _terminal {
    my ($columns) = @_;
    sysopen my $master, '/dev/ptmx', Fcntl::O_RDWR() | Fcntl::O_NOCTTY() or die "/dev/ptmx: $!\n";
    my $number = pack 'i', 0;
    ioctl $master, $TIOCSPTLCK, $number or die "TIOCSPTLCK: $!\n";
    ioctl $master, $TIOCGPTN, $number   or die "TIOCGPTN: $!\n";
    my $path = '/dev/pts/' . unpack 'i', $number;
    sysopen my $slave, $path, Fcntl::O_RDWR() | Fcntl::O_NOCTTY() or die "$path: $!\n";
    my $size = pack 'S4', 24, $columns, 0, 0;
    ioctl $master, $TIOCSWINSZ, $size or die "TIOCSWINSZ: $!\n";
    return ($master, $slave, $path);
}

# What the manual page says: the options of each command, and under '' those of all commands.
sub options_said {
    my ($manual) = @_;
    my ($commands, $everywhere) = $manual =~ /^=head1 COMMANDS\n(.*?)^=head1 OPTIONS\n(.*?)^=head1/ms;
    my (%said, @moving);
    while ($everywhere =~ /^=item .*?(--[a-z]+).*\n\n(.*)/mg) {
        my ($option, $text) = ($1, $2);
        push @{ $text =~ /\AA transfer / ? \@moving : $said{''} }, $option;
    }
    while ($commands =~ /^=head2 ([a-z]+)(.*?)(?=^=head2|\z)/msg) {
        my ($command, $text) = ($1, $2);
        my @options = map { /(--[a-z-]+)/g } $text =~ /^=item (-.*)$/mg;
        push @options, grep { !/\A--(?:offset|length)\z/ } @{ $said{upload} }
            if $text =~ /options are those of C<upload>, but for C<--offset> and C<--length>/;
        push @options, '--sparse', @moving if $text =~ /C<--sparse>/;
        $said{$command} = \@options;
    }
    return \%said;
}

# Starts it. Options: in (a file, or a handle; else nothing), out (a file), env,
# through (a command that runs it), terminal (its columns: then all of input, output and
# errors are that).
sub start {
    my ($class, $arguments, %opt) = @_;
    my $self = bless { seen => '' }, $class;
    my $path;
    if ($opt{terminal}) {
        ($self->{master}, $self->{slave}, $path) = _terminal($opt{terminal});
        $self->{before} = $self->settings;
    }
    $self->{$_} = StreamTest::scratch() . "/command.$_" for qw(out err);
    $self->{out} = $opt{out} if defined $opt{out};
    $self->{pid} = fork // die "cannot fork: $!";
    return $self if $self->{pid};
    eval {
        %ENV = (%ENV, %{ $opt{env} || {} });
        POSIX::setsid();
        # Whoever runs the tests may have these ignored, as a shell has for what it runs behind.
        $SIG{$_} = 'DEFAULT' for qw(INT QUIT HUP TERM);
        if (defined $path) {
            # The first terminal that the leader of a session opens is its own.
            open STDIN, '+<', $path or die "$path: $!";
            open $_, '>&', \*STDIN or die "$path: $!" for \*STDOUT, \*STDERR;
            open STDIN, '<&', $opt{in} or die "stdin: $!" if $opt{in};
        }
        else {
            my @from = ref $opt{in} ? ('<&', $opt{in}) : ('<', $opt{in} // '/dev/null');
            open STDIN,  $from[0], $from[1] or die "stdin: $!";
            open STDOUT, '>', $self->{out}  or die "stdout: $!";
            open STDERR, '>', $self->{err}  or die "stderr: $!";
        }
        my @command = (@{ $opt{through} || [] }, $^X);
        exec { $command[0] } @command, '-w', (map { "-I$_" } map { Cwd::abs_path($_) // () } grep { !ref } @INC), $SCRIPT, @$arguments;
    };
    print STDERR "cannot run virt-stream: $@ $!";
    POSIX::_exit(127);
}

# To its end; the same fields as run_perl's.
sub run {
    my ($class, $arguments, %opt) = @_;
    return $class->start($arguments, %opt)->end;
}

sub pid { return $_[0]{pid} }

sub end {
    my ($self) = @_;
    my $ended = StreamTest::within(120, sub { $self->_read; $self->reap });
    $self->_kill unless $ended;
    $self->_read;
    my %got = (status => $self->{wait} >> 8, signal => $self->{wait} & 127, hang => $ended ? 0 : 1);
    $self->{master} ? ($got{seen} = $self->{seen})
        : ($got{$_} = -f $self->{$_} ? StreamTest::slurp($self->{$_}) : '') for qw(out err);
    return \%got;
}

sub reap {
    my ($self) = @_;
    return 1 if exists $self->{wait};
    return 0 if waitpid($self->{pid}, POSIX::WNOHANG()) != $self->{pid};
    $self->{wait} = $?;
    return 1;
}

sub _kill {
    my ($self) = @_;
    return if exists $self->{wait};
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    $self->{wait} = $?;
    return;
}

sub DESTROY { local $?; $_[0]->_kill if $_[0]{pid}; return }

# --- the terminal

sub type {
    my ($self, $bytes) = @_;
    while (length $bytes) {
        my $count = syswrite $self->{master}, $bytes // die "the terminal: $!";
        substr($bytes, 0, $count) = '';
    }
    return;
}

sub _read {
    my ($self) = @_;
    my $master = $self->{master} or return;
    while (1) {
        my $ready = '';
        vec($ready, fileno $master, 1) = 1;
        return unless select $ready, undef, undef, 0;
        sysread $master, $self->{seen}, 65_536, length $self->{seen} or return;
    }
}

# Whether this comes to be seen.
sub sees {
    my ($self, $what) = @_;
    return StreamTest::within(120, sub { $self->sees_now($what) });
}

sub seen { return $_[0]{seen} }

sub sees_now {
    my ($self, $what) = @_;
    $self->_read;
    return $self->{seen} =~ $what;
}

# The terminal's settings, as one string.
sub settings {
    my ($self) = @_;
    my $termios = POSIX::Termios->new;
    $termios->getattr(fileno $self->{slave}) // die "the terminal: $!";
    return join ' ', map { $termios->$_ } qw(getiflag getoflag getcflag getlflag);
}

1;
