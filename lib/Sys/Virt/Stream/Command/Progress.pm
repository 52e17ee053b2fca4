package Sys::Virt::Stream::Command::Progress;

# One line on a terminal that says how far a transfer has come.

use strict;
use warnings;

our $VERSION = '0.2.0';

use List::Util qw(min);
use Time::HiRes ();

# The number on most of Linux's processors, and the number elsewhere. The wrong one is refused.
my @TIOCGWINSZ = (0x5413, 0x40087468);

# Over how many seconds the rate is taken, and how long a transfer lasts before it gets a line.
my ($WINDOW, $SHORT) = (10, 0.5);

sub new {
    my ($class, %with) = @_;
    my $now = $with{now} // Time::HiRes::time();
    return bless { to => $with{to}, total => $with{total}, began => $now, seen => [[$now, 0]], shown => 0 }, $class;
}

# To be called now and then.
sub show {
    my ($self, $done, $holes, $total) = @_;
    $self->{total} = $total if defined $total;
    @$self{qw(done holes)} = ($done, $holes);
    my $now = Time::HiRes::time();
    $self->_draw($self->line($now, $self->width)) if $self->{shown} || $now - $self->{began} > $SHORT;
    return;
}

# The transfer is complete.
sub complete {
    my ($self) = @_;
    return unless $self->{shown};
    $self->_draw($self->line(Time::HiRes::time(), $self->width, 1));
    print { $self->{to} } "\n";
    $self->{shown} = 0;
    return;
}

# The transfer is not complete, and something else is to be printed.
sub clear {
    my ($self) = @_;
    print { $self->{to} } "\r", ' ' x $self->{shown}, "\r" if $self->{shown};
    $self->{shown} = 0;
    return;
}

sub DESTROY { $_[0]->clear; return }

sub _draw {
    my ($self, $line) = @_;
    my $rest = $self->{shown} - length $line;
    print { $self->{to} } "\r", $line, $rest > 0 ? ' ' x $rest : ();
    $self->{to}->flush;
    $self->{shown} = length $line;
    return;
}

sub width {
    my ($self) = @_;
    for my $number (@TIOCGWINSZ) {
        my $size = "\0" x 8;
        next unless ioctl $self->{to}, $number, $size;
        my (undef, $columns) = unpack 'S4', $size;
        return $columns if $columns;
    }
    return ($ENV{COLUMNS} // '') =~ /\A([1-9]\d{0,4})\z/ ? $1 : 80;
}

# The line to show, one column shorter than the terminal, whose last column would wrap.
sub line {
    my ($self, $now, $columns, $complete) = @_;
    my ($done, $holes, $total) = @$self{qw(done holes total)};
    my $rate = $complete ? $done / (($now - $self->{began}) || 1) : $self->_rate($now, $done);
    my $share = $total ? min(1, $done / $total) : undef;
    # The least important part is the last, and is left out first.
    my @parts = (
        defined $share && !$complete ? size($done) . ' of ' . size($total) : size($done),
        defined $rate ? size($rate) . '/s' : (),
        $complete ? 'in ' . duration($now - $self->{began})
            : defined $share && $rate ? duration(($total - $share * $total) / $rate) . ' left' : (),
        $holes ? int(100 * $holes / $done + 0.5) . '% holes' : (),
    );
    my $percent = $complete ? '100% ' : defined $share ? sprintf '%3d%% ', 100 * $share : '';
    my $most = $columns - 1 - length $percent;
    pop @parts while @parts > 1 && length(join ', ', @parts) > $most;
    my $text = join ', ', @parts;
    my $cells = $most - length($text) - 3;
    $cells = 40 if $cells > 40;
    my $bar = '';
    if (defined $share && $cells >= 8) {
        my $full = int($share * $cells);
        $bar = '[' . '=' x $full . ' ' x ($cells - $full) . '] ';
    }
    return substr "$percent$bar$text", 0, $columns - 1;
}

# Bytes in a second, of late; undef as long as there is too little to tell.
sub _rate {
    my ($self, $now, $done) = @_;
    my $seen = $self->{seen};
    push @$seen, [$now, $done];
    shift @$seen while @$seen > 2 && $seen->[0][0] < $now - $WINDOW;
    my $seconds = $now - $seen->[0][0];
    return $seconds > 0.1 ? ($done - $seen->[0][1]) / $seconds : undef;
}

sub size {
    my ($bytes) = @_;
    my @units = qw(B KiB MiB GiB TiB PiB);
    while ($bytes >= 1000 && @units > 1) { $bytes /= 1024; shift @units }
    return sprintf $units[0] eq 'B' || $bytes >= 100 ? '%.0f %s' : '%.1f %s', $bytes, $units[0];
}

sub duration {
    my ($seconds) = @_;
    $seconds = int($seconds + 0.5);
    my ($hours, $minutes) = (int($seconds / 3600), int($seconds / 60) % 60);
    return $hours ? sprintf '%d:%02d:%02d', $hours, $minutes, $seconds % 60
        : sprintf '%d:%02d', $minutes, $seconds % 60;
}

1;
