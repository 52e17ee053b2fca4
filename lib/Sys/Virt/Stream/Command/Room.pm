package Sys::Virt::Stream::Command::Room;

# The volume that something is to be written to: made, grown, or refused.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';
use List::Util qw(min);
use Sys::Virt::Stream::Command::Failure qw(trying attempt);
use Sys::Virt::Stream::Command::Objects qw(connection volume);
use Sys::Virt::Stream::Command::Progress;
use Sys::Virt::Stream::Command::Volume qw(capacity_of);
use Time::HiRes ();

our @EXPORT_OK = qw(room settle remove regrow);

# The volume called $name, with room for the source at $offset; and its pool if it was made here.
# Where a transfer is gone on with, it may be there although it is to be made, and `part` says how much of the
# source it has.
sub room {
    my ($run, $conn, $name, $source, $offset, %with) = @_;
    my $create = $run->option('create');
    my ($volume, $pool, $called) = volume($conn, $name, pool => $run->option('pool'), missing => $create);
    return (_made($run, $pool, $called, $source, $offset), $pool) if !$volume;
    die "there is a volume $name already, which --create does not overwrite\n" if $create && !$with{part};
    _fit($run, $volume, $name, $source, $offset, $with{part});
    return $volume;
}

# Makes a raw volume that the file fits into. libvirt looks at the content when it has all of it. A
# volume that is made with another format has a content at once.
sub _made {
    my ($run, $pool, $name, $source, $offset) = @_;
    my $length = $source->length // die "cannot make a volume: how long ${\ $source->name} is is not known\n";
    my $format = $run->option('format') // 'raw';
    my $image = $source->image;
    die "cannot make a qcow2 volume: ${\ $source->name} is no qcow2 image\n" if $format eq 'qcow2' && $image->{format} ne 'qcow2';
    my $capacity = $format eq 'raw' ? $offset + $length : $image->{capacity};
    my $thin = $run->option('sparse') // 1;
    # More would make libvirt's file longer than its volume.
    my $allocation = min($run->size('allocation') // ($thin ? 0 : $capacity), $capacity);
    my ($called, $as) = map { s/([&<>'"])/sprintf '&#%d;', ord $1/gre } $name, $format;
    return trying("cannot make the volume $name", sub { $pool->create_volume(<<"XML") });
<volume><name>$called</name><capacity>$capacity</capacity><allocation>$allocation</allocation>
<target><format type='$as'/></target></volume>
XML
}

sub _fit {
    my ($run, $volume, $name, $source, $offset, $part) = @_;
    my $length = $source->length // return;
    my $needs = _is_raw($volume) ? $offset + $length : $source->image->{capacity};
    my $capacity = capacity_of($volume);
    return if $needs <= $capacity;
    # One that was cut off has left it too small (see regrow).
    if ($run->option('resize') || $part && $capacity > $offset && $part->($volume) >= $capacity - $offset) {
        trying("cannot resize $name", sub { $volume->resize($needs) });
        return;
    }
    my ($more, $most) = map { Sys::Virt::Stream::Command::Progress::size($_) . " ($_ bytes)" } $needs, $capacity;
    die "${\ $source->name} does not fit into $name: it takes $more of $most; --resize makes the volume larger\n";
}

# Whether what is written is the disk itself, not a file of which libvirt knows the format.
sub _is_raw {
    my ($volume) = @_;
    return 1 if $volume->get_info->{type} != Sys::Virt::StorageVol::TYPE_FILE();
    my ($format) = $volume->get_xml_description =~ m{<target>.*?<format type='([^']+)'/>}s;
    return ($format // 'raw') eq 'raw';
}

# Has libvirt look at what the new volume holds. It does so by itself, too, and may just be at it.
sub settle {
    my ($pool) = @_;
    for (1 .. 50) {
        return if attempt(sub { $pool->refresh; 1 });
        Time::HiRes::sleep(0.1);
    }
    return;
}

# Gives a volume its size again, if need be over another connection: libvirt cuts a file off at the end
# of each hole that is uploaded. A daemon may still be at what was cut off.
sub regrow {
    my ($uri, $volume, $capacity) = @_;
    for (1 .. 20) {
        return 1 if eval { _regrown($volume, $capacity) };
        $volume = eval { connection($uri)->get_storage_volume_by_key($volume->get_key) } // return 0;
        Time::HiRes::sleep(0.1);
    }
    return 0;
}

sub _regrown {
    my ($volume, $capacity) = @_;
    $volume->resize($capacity) if capacity_of($volume) < $capacity;
    return 1;
}

# Removes a volume that was made in vain, if need be over another connection.
sub remove {
    my ($uri, $pool, $volume) = @_;
    my ($of, $name) = eval { ($pool->get_name, $volume->get_name) };
    return if eval { $volume->delete; 1 };
    eval { connection($uri)->get_storage_pool_by_name($of)->get_volume_by_name($name)->delete; 1 }
        or die "the volume $name of pool $of can't be removed\n";
    return;
}

1;
