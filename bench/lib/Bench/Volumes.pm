package Bench::Volumes;

# A private libvirtd with the volumes that clients read and write.

use strict;
use warnings;

use File::Spec ();
use Bench::Clients;

my $SECTION = 1 << 20;

# A disk's own pace is no client's merit, so the volumes are kept in memory if
# there is plenty of it.
sub place {
    my ($bytes) = @_;
    my $memory = '/dev/shm';
    if (-d $memory && -w _ && (my $df = Bench::Clients::find('df'))) {
        my (undef, $out) = Bench::Clients::run({}, $df, '-Pk', $memory);
        my $free = ($out =~ /^\S+\s+\d+\s+\d+\s+(\d+)\s/m)[0] || 0;
        my $swap = (Bench::Clients::slurp('/proc/meminfo') =~ /^MemAvailable:\s+(\d+)/m)[0] || 0;
        return $memory if $free > $bytes / 1024 * 1.2 && $swap > $bytes / 1024 * 2;
    }
    return File::Spec->tmpdir;
}

sub start {
    my ($class, $bytes, $where) = @_;
    # One volume to read, one to write, and a file, each with that much data.
    local $ENV{TMPDIR} = $where // place(3 * $bytes);
    print STDERR "bench: starting a libvirtd, volumes in $ENV{TMPDIR}\n";
    require StreamTest::Daemon;
    my $daemon = StreamTest::Daemon->start;
    my $self = bless { daemon => $daemon, place => $ENV{TMPDIR} }, $class;

    # Data and holes by turns: for a plain download the holes are zeros, so it
    # takes the file's first half, for a sparse one all of it.
    $self->{down} = $daemon->pool_dir . '/down';
    $self->{$_} = $daemon->pool_dir . "/$_" for qw(up lines);
    my $section = join '', map { chr($_ % 251) } 1 .. $SECTION;
    open my $out, '>:raw', $self->{down} or die "$self->{down}: $!";
    for (my $at = 0; $at < 2 * $bytes; $at += 2 * $SECTION) {
        seek $out, $at, 0;
        print {$out} $section or die "$self->{down}: $!";
    }
    $out->flush;
    truncate $out, 2 * $bytes or die "$self->{down}: $!";
    close $out or die "$self->{down}: $!";
    for my $empty (@$self{qw(up lines)}) {
        open my $fh, '>', $empty or die "$empty: $!";
        close $fh;
    }
    $daemon->own($self->{$_}, 0600) for qw(down up lines);
    Bench::Clients::ok('pool', Bench::Clients::dir() . '/client',
        $self->uri, 'pool', $daemon->pool_dir, 0);
    return $self;
}

# A volume of text.
sub lines {
    my ($self, $text) = @_;
    return StreamTest::spew($self->{lines}, $text);
}

sub uri { return $_[0]{daemon}->uri }
sub pid { return $_[0]{daemon}->pid }

sub one_processor { return Bench::Clients::one_processor($_[0]{daemon}->pid, $_[1]) }

# The volume that an operation is for; one to write always starts out empty.
sub path {
    my ($self, $op) = @_;
    return $self->{down} if $op !~ /send/;
    truncate $self->{up}, 0 or die "$self->{up}: $!";
    return $self->{up};
}

1;
