package Sys::Virt::Stream::Command::Files;

# The files that the user names: by a path, or by what stands for a descriptor.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Digest::SHA ();
use Errno qw(EAGAIN EINTR);
use Exporter 'import';

our @EXPORT_OK = qw(source target write_all digest_of_file);

my @STANDARD = qw(stdin stdout stderr);

# The descriptor that a name stands for. To open such a name would be another way to the file, from
# its beginning, or from a file that has no name any more.
sub _descriptor {
    my ($name, $dash) = @_;
    return $dash if $name eq '-';
    return $1 if $name =~ m{\A(?:/dev/fd|/proc/(?:self|thread-self|$$)/fd)/([0-9]{1,9})\z};
    for my $number (0 .. $#STANDARD) { return $number if $name eq "/dev/$STANDARD[$number]" }
    return;
}

sub _opened {
    my ($run, $number, $mode, $doing) = @_;
    my $called = $number <= 2 ? ('standard input', 'standard output', 'standard error')[$number] : "file descriptor $number";
    die "cannot $doing $called: it is closed\n" if $run->closed($number);
    open my $fh, "$mode&=", $number or die "cannot $doing $called: $!\n";
    binmode $fh;    # bytes, whatever layers the environment asks for
    return $fh;
}

# An open handle, and whether the name is a path.
sub source {
    my ($run, $name) = @_;
    my $number = _descriptor($name, 0);
    return (_opened($run, $number, '<', 'read'), 0) if defined $number;
    open my $fh, '<:raw', $name or die "cannot read $name: $!\n";
    die "cannot read $name: it is a directory\n" if -d $fh;
    return ($fh, 1);
}

# A handle, or a path; and whether what stands there is to be replaced. A device or a pipe keeps its
# place.
sub target {
    my ($run, $name) = @_;
    my $number = _descriptor($name, 1);
    return (_opened($run, $number, '>', 'write'), 0) if defined $number;
    die "cannot write $name: it is a directory\n" if -d $name || $name =~ m{/\.?\z};
    return ($name, !-e $name || -f _);
}

# The digest of $length bytes at $at.
sub digest_of_file {
    my ($fh, $at, $length) = @_;
    my $digest = Digest::SHA->new(256);
    sysseek $fh, $at, 0;
    while ($length > 0) {
        my $count = sysread $fh, my $bytes, $length < 1 << 20 ? $length : 1 << 20;
        die "cannot read what was written: $!\n" unless defined $count;
        last if !$count;
        $digest->add($bytes);
        $length -= $count;
    }
    return $digest->hexdigest;
}

# Whoever shares the file may have made it non-blocking.
sub write_all {
    my ($fh, $name, $data) = @_;
    for (my $at = 0; $at < length $data; ) {
        my $count = syswrite $fh, $data, length($data) - $at, $at;
        if (defined $count) {
            $at += $count;
        }
        elsif ($! == EAGAIN) {
            my $ready = '';
            vec($ready, fileno $fh, 1) = 1;
            select undef, $ready, undef, undef;
        }
        elsif ($! != EINTR) {
            die "cannot write $name: $!\n";
        }
    }
    return;
}

1;
