#!/usr/bin/perl
# Saves a volume in a file that zstd has compressed, or restores it from there. zstd is a child process, which has a
# stream's socket for its standard input or output.
use strict;
use warnings;
use POSIX ();
use Sys::Virt;

die "usage: $0 URI save|restore VOLUME-PATH FILE\n" if @ARGV != 4 || $ARGV[1] !~ /\A(?:save|restore)\z/;
my ($uri, $what, $path, $file) = @ARGV;
my $save = $what eq 'save';

my $conn   = Sys::Virt->new(uri => $uri);
my $volume = $conn->get_storage_volume_by_path($path);
my $st     = $conn->new_stream;
$save ? $volume->download($st, 0, 0) : $volume->upload($st, 0, 0);
my $socket = $st->socket;

my $pid = fork // die "cannot fork: $!\n";
if (!$pid) {
    my @command = $save ? qw(zstd -q -f -o) : qw(zstd -q -d -c);
    ($save ? open STDIN, '<&', $socket : open STDOUT, '>&', $socket)
        and exec { $command[0] } @command, $save ? "$file.part" : $file;
    warn "zstd: $!\n";
    POSIX::_exit(127);
}
# From here on the child alone has that end: when it closes it, all is over.
close $socket;
waitpid $pid, 0;
my $status = $?;
# Each can fail alone. A stream that breaks looks like the end of the volume to zstd, and a zstd that breaks looks like
# the end of the data to the stream.
my $error = eval { $st->finish; 1 } ? '' : "the stream: $@";
$error .= "zstd: status $status\n" if $status;
if ($save) {
    rename "$file.part", $file or $error = "$file: $!\n" unless $error;
    unlink "$file.part";
}
die $error if $error;
