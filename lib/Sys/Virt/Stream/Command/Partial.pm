package Sys::Virt::Stream::Command::Partial;

# The part of a file that a download has brought, FILE.partial, and what it is a part of,
# FILE.partial.from: both are there until the file is whole.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Cwd ();
use Fcntl qw(LOCK_EX LOCK_NB);
use Sys::Virt::Stream::Command::Compare qw(common file_reader stream_reader);
use Sys::Virt::Stream::Command::Failure qw(trying attempt);
use Sys::Virt::Stream::Command::Volume qw(opened);

# How much of the end of a part is compared with the volume, before it is gone on with.
my $COMPARED = 1 << 20;

# A name that is as long as a file system allows leaves no room for an ending.
my ($ENDING, $LONGEST) = ('.partial', 255 - length '.partial.from');

sub new {
    my ($class, $target) = @_;
    my $real = -l $target ? Cwd::realpath($target) // $target : $target;
    my ($folder, $name) = $real =~ m{\A(.*/)?([^/]*)\z}s;
    my $path = ($folder // '') . substr($name, 0, $LONGEST) . $ENDING;
    return bless { target => $target, path => $path, from => "$path.from" }, $class;
}

# How many bytes are there already of the volume as it is now: none unless it is to be gone on with.
sub begin {
    my ($self, $run, $conn, $volume, $name, $offset, $most, $total, $again) = @_;
    $self->_free;
    my $is = _identity($volume, $offset, $most, $total);
    my $at = $again ? $self->_there($run, $conn, $volume, $name, $is, $offset) : 0;
    $self->_write($is) unless $at;
    $self->{begun} = 1;
    return $at;
}

sub options {
    my ($self, $at) = @_;
    return (replace => 1, partial => $self->{path}, offset => $at);
}

# Removes the part where the file is whole, or where nothing is to be continued.
sub end {
    my ($self, $over) = @_;
    return unless $over && $self->{begun};
    unlink @$self{qw(path from)};
    return;
}

# Dies where another program writes to the part.
sub _free {
    my ($self) = @_;
    open my $fh, '<', $self->{path} or return;
    flock $fh, LOCK_EX | LOCK_NB or die "another transfer writes to $self->{path}\n";
    return;
}

# What the volume and the part of it are, as the lines of FILE.partial.from; a volume that is written
# to has another time.
sub _identity {
    my ($volume, $offset, $most, $total) = @_;
    my ($time) = $volume->get_xml_description =~ m{<mtime>([^<]+)</mtime>};
    my @lines = (['volume', $volume->get_key], [time => $time], [offset => $offset], [length => $most], [size => $total]);
    return join '', map { my ($name, $value) = @$_; "$name " . ($value // '-') =~ s/([^!-~]|%)/sprintf '%%%X', ord $1/gre . "\n" } @lines;
}

sub _there {
    my ($self, $run, $conn, $volume, $name, $is, $offset) = @_;
    my $have = -s $self->{path} or return 0;
    my $same = ($self->_read // return 0) eq $is;
    my $from = $run->option('verify') || $have < $COMPARED ? 0 : $have - $COMPARED;
    if ($same) {
        open my $fh, '<:raw', $self->{path} or die "cannot read $self->{path}: $!\n";
        my ($st, $sparse) = opened($conn, $volume, download => $offset + $from, $have - $from, undef);
        my $count = trying("cannot compare $self->{path} with $name",
            sub { common(file_reader($fh, $from, $have - $from), stream_reader($st, $sparse)) });
        attempt(sub { $st->abort });
        $same = $count == $have - $from;
    }
    return $have if $same;
    die "$self->{path} is no part of $name as it is now; remove it to begin again\n";
}

sub _read {
    my ($self) = @_;
    open my $fh, '<:raw', $self->{from} or return;
    local $/;
    return <$fh>;
}

# Written before the first byte of the part, and whole or not at all.
sub _write {
    my ($self, $is) = @_;
    unlink $self->{path};
    my $new = "$self->{from}~";
    my $refused = sub { die "cannot write $self->{target}: $!\n" };
    open my $fh, '>:raw', $new or $refused->();
    print {$fh} $is;
    close $fh or $refused->();
    rename $new, $self->{from} or $refused->();
    return;
}

1;
