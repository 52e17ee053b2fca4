#!/usr/bin/perl
# Prints the SHA-256 digests of volumes, which are all read at the same time, in one event loop.
use strict;
use warnings;
use Digest::SHA;
use Sys::Virt;

die "usage: $0 URI VOLUME-PATH...\n" if @ARGV < 2;
my ($uri, @paths) = @ARGV;

# A loop has to be there before the connection.
Sys::Virt::Event::register_default();
my $conn = Sys::Virt->new(uri => $uri);

my $open = 0;
for my $path (@paths) {
    my $digest = Digest::SHA->new(256);
    my $st     = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
    $conn->get_storage_volume_by_path($path)->download($st, 0, 0);
    $open++;
    # The callback keeps the stream. What it dies of comes out of run_default.
    $st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
        my ($st) = @_;
        my $count = $st->recv(my $data, 262_120);
        return if $count == -2;    # nothing yet
        return $digest->add($data) if $count > 0;
        $st->finish;               # the callback is removed, too
        $open--;
        print $digest->hexdigest, "  $path\n";
    });
}
Sys::Virt::Event::run_default() while $open;
