package Sys::Virt::Stream::Command::Main;

# What virt-stream's command line says, and how the program ends.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Config ();
use Getopt::Long ();
# Perl would load it at the first method of a handle, and lose what a signal handler throws meanwhile.
use IO::File ();
use Sys::Virt::Stream::Command::Failure qw(reason);

my %COMMAND = (
    download   => ['Download',   'VOLUME', 'FILE'],
    upload     => ['Upload',     'FILE', 'VOLUME'],
    copy       => ['Copy',       'VOLUME', 'VOLUME'],
    screenshot => ['Screenshot', 'DOMAIN', '[FILE]'],
    console    => ['Console',    'DOMAIN'],
);

# What each option is for; the others are for every command.
my %FOR = (
    (map { $_ => [qw(download upload copy)] } qw(pool sparse detect-zeroes limit progress verify digest continue retry)),
    (map { $_ => [qw(download upload)] } qw(offset length)),
    (map { $_ => [qw(upload copy)] } qw(create resize allocation)),
    (map { $_ => ['copy'] } qw(from to)),
    format => [qw(upload copy screenshot)],
    screen => ['screenshot'],
    (map { $_ => ['console'] } qw(devname force safe log)),
);
my @SPECS = qw(
    connect|c=s quiet|q help|h version|V
    pool=s offset=s length=s sparse! detect-zeroes limit=s progress=s
    verify digest=s continue retry=s create resize format=s allocation=s from=s to=s screen=s
    devname=s force safe log=s
);

# Signals that are left alone: they end no program, cannot be caught, or say that it is broken.
my %SPARED = map { $_ => 1 } qw(
    ZERO KILL STOP CONT TSTP TTIN TTOU CHLD CLD URG WINCH PIPE XFSZ SEGV BUS ILL FPE
);
my @SIGNALS = grep { !$SPARED{$_} } split ' ', $Config::Config{sig_name};
my $signal;    # the one that has interrupted the work

# The exit status. @$closed are the standard descriptors that were closed.
sub run {
    my ($class, $name, $closed, @arguments) = @_;
    my $self = bless { name => $name, option => {}, closed => { map { $_ => 1 } @$closed } }, $class;
    {
        my @wrong;
        local $SIG{__WARN__} = sub { push @wrong, @_ };
        my $parser = Getopt::Long::Parser->new(config => [qw(bundling no_ignore_case no_auto_abbrev)]);
        $parser->getoptionsfromarray(\@arguments, $self->{option}, @SPECS) or return $self->_usage(@wrong);
    }
    my $option = $self->{option};
    return $self->_help(@arguments) if $option->{help};
    if ($option->{version}) {
        print "$name $Sys::Virt::Stream::VERSION\n";
        return 0;
    }
    my $command = shift @arguments // return $self->_usage("no command is given\n");
    return $self->_help(@arguments) if $command eq 'help';
    my $known = $COMMAND{$command} // return $self->_usage("there is no command '$command'\n");
    my ($module, @wants) = @$known;
    my $least = grep { !/^\[/ } @wants;
    return $self->_usage("$command takes @wants\n") if @arguments < $least || @arguments > @wants;
    for my $given (sort keys %$option) {
        my $for = $FOR{$given} or next;
        return $self->_usage("$command has no option --$given\n") unless grep { $_ eq $command } @$for;
    }
    return $self->_to_the_end(sub {
        my $class = "Sys::Virt::Stream::Command::$module";
        require "Sys/Virt/Stream/Command/$module.pm";
        $class->run($self, @arguments);
    });
}

# --- what was asked for

sub option { return $_[0]{option}{$_[1]} }

sub closed { return $_[0]{closed}{$_[1]} }

my %POWER = ('' => 0, k => 1, m => 2, g => 3, t => 4, p => 5);

# A number of bytes, such as 512, 10M or 10MiB, and 10MB for ten millions; undef if it was not given.
sub size {
    my ($self, $name) = @_;
    my $given = $self->option($name) // return;
    my ($number, $unit, $bytes) = $given =~ /\A([0-9]+) ?([kmgtp]?)(i?b)?\z/i
        or die "--$name is a number of bytes, with k, M, G, T or P if need be, not '$given'\n";
    my $size = $number * (lc($bytes // '') eq 'b' ? 1000 : 1024) ** $POWER{ lc $unit };
    die "--$name $given is too large\n" if $size > 2**53;
    return $size;
}

sub whole {
    my ($self, $name) = @_;
    my $given = $self->option($name) // return;
    die "--$name is a whole number, not '$given'\n" unless $given =~ /\A[0-9]{1,9}\z/;
    return $given + 0;
}

# Whether there is somebody to talk to.
sub talks { return -t STDERR && !$_[0]->option('quiet') }

sub note {
    my ($self, $text) = @_;
    print STDERR "$text\n" if $self->talks;
    return;
}

# As sha256sum says it; where the data goes to standard output, on standard error.
sub show_digest {
    my ($self, $digest, $of, $aside) = @_;
    print { $aside ? \*STDERR : \*STDOUT } "$digest  $of\n" if defined $digest;
    return;
}

sub _usage {
    my ($self, @why) = @_;
    print STDERR "$self->{name}: ", lcfirst for @why;
    require Pod::Usage;
    Pod::Usage::pod2usage(-exitval => 'NOEXIT', -verbose => 0, -output => \*STDERR, -input => $0);
    return 2;
}

sub _help {
    my ($self, $command) = @_;
    return $self->_usage("there is no command '$command'\n") if defined $command && !$COMMAND{$command};
    require Pod::Usage;
    my $sections = defined $command ? "COMMANDS/\Q$command\E.*" : 'SYNOPSIS|COMMANDS|OPTIONS';
    Pod::Usage::pod2usage(-exitval => 'NOEXIT', -verbose => 99, -sections => $sections, -output => \*STDOUT, -input => $0);
    return 0;
}

# --- how it ends

# From here on a signal interrupts the work, and then ends the program.
sub catch_signals {
    for my $name (@SIGNALS) {
        next if ($SIG{$name} // '') eq 'IGNORE';    # as nohup has it
        $SIG{$name} = sub {
            $signal = $name;
            # A second signal changes nothing: the end takes some seconds at most, and no longer than this
            # where the daemon does not answer.
            $SIG{$_} = 'IGNORE' for @SIGNALS;
            $SIG{ALRM} = 'DEFAULT';
            alarm 30;
            die "interrupted\n";
        };
    }
    return;
}

sub interrupted { return defined $signal }

sub _to_the_end {
    my ($self, $code) = @_;
    # Writing to a daemon that is gone, or to a file at its limit, is an error like any other.
    $SIG{$_} = 'IGNORE' for qw(PIPE XFSZ);
    my $done = eval { $code->(); 1 };
    my $error = $@;
    if (defined $signal) {
        # The parent process sees which signal has ended this one.
        $SIG{$signal} = 'DEFAULT';
        kill $signal, $$;
    }
    return 0 if $done;
    print STDERR "$self->{name}: ", reason($error), "\n";
    return 1;
}

1;
