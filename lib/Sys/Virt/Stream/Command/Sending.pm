package Sys::Virt::Stream::Command::Sending;

# What goes into a volume, from a file or from another volume: the source. That has
#   name      what it is called
#   length    how many bytes it has; undef where that is not known
#   image     of what format it is (see Image.pm)
#   begin     makes its connection, if it has any
#   reader    gives a length of it from a place on (see Compare.pm)
#   move      sends it from a place on to a stream, with options of send_file
#   digest    the digest of all of it

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';
use List::Util qw(max);
use Sys::Virt::Stream::Command::Compare qw(common stream_reader);
use Sys::Virt::Stream::Command::Failure qw(trying attempt reason);
use Sys::Virt::Stream::Command::Objects qw(connection);
use Sys::Virt::Stream::Command::Report qw(watched);
use Sys::Virt::Stream::Command::Retry qw(persistently keeps);
use Sys::Virt::Stream::Command::Room qw(room settle remove regrow);
use Sys::Virt::Stream::Command::Volume qw(opened capacity_of is_empty digest_of);

our @EXPORT_OK = qw(send_to);

# Sends the source to the volume $name over a connection to $uri.
sub send_to {
    my ($run, $what, $source, $uri, $name) = @_;
    my $offset = $run->size('offset') // 0;
    my ($made, $pool, $digest, $volume, $capacity);
    my $done = eval {
        $digest = persistently($run, sub {
            my ($again) = @_;
            my $conn = connection($uri);
            $source->begin;
            $run->catch_signals;    # before there is a volume that was made in vain
            my $there;
            my $part = $again && sub { $there //= _there($source, $conn, $_[0], $offset) };
            ($volume, my $new) = room($run, $conn, $name, $source, $offset, part => $part);
            ($made, $pool) = ($volume, $new) if $new;
            $capacity = max($capacity // 0, capacity_of($volume));
            return _sent($run, $what, $source, $conn, $volume, $name, $offset, $part && !$new ? $part->($volume) : 0);
        });
        1;
    };
    my $error = $@;
    my $stays = !$made || $done || keeps($run) || eval { remove($uri, $pool, $made); 1 };
    die reason($error) . "; $@" unless $stays;
    my $has_size = !$capacity || !$done && $made && !keeps($run) || regrow($uri, $volume, $capacity);
    die $error unless $done;
    die "cannot give $name its size again\n" unless $has_size;
    settle($pool) if $pool;
    $run->show_digest($digest, $source->name);
    return;
}

# Returns the digest, if one is asked for.
sub _sent {
    my ($run, $what, $source, $conn, $volume, $name, $offset, $at) = @_;
    my $length = $source->length;
    $run->note("$at bytes are there already") if $at;
    # A hole leaves what the volume has there, so holes are sent only where it has nothing.
    my $sparse = $run->option('sparse') // (is_empty($conn, $volume, $offset + $at) ? undef : 0);
    # If the source's length is not known, the volume must not grow.
    my $most = defined $length ? 0 : capacity_of($volume) - $offset;
    die "there is no room in $name behind $offset bytes\n" if $most < 0 || !defined $length && $most == 0;
    my $checks = $run->option('verify') || $run->option('digest');
    my $sent = { bytes => 0 };
    if (!defined $length || $at < $length) {
        (my $st, $sparse) = opened($conn, $volume, upload => $offset + $at, $sparse ? 0 : $most, $sparse);
        $sent = watched($run, $what, defined $length ? $length - $at : undef, sub {
            my @watch = @_;
            return trying("cannot $what to $name", sub {
                return $source->move($st, $at, @watch, sparse => $sparse, digest => $checks ? 'sha256' : undef,
                    detect_zeroes => $sparse && $run->option('detect-zeroes'));
            });
        });
    }
    _verify($conn, $volume, $name, $offset + $at, $sent) if $run->option('verify') && $sent->{bytes};
    return unless $run->option('digest');
    return $at || !$sent->{bytes} ? $source->digest : $sent->{digest};
}

# How much of the source the volume has. All of it is compared, since nothing but its content says what
# the daemon had written when it was cut off.
sub _there {
    my ($source, $conn, $volume, $offset) = @_;
    my $length = $source->length // die "cannot continue: how long ${\ $source->name} is is not known\n";
    return 0 unless $length;
    return attempt(sub {
        my ($st, $sparse) = opened($conn, $volume, download => $offset, $length, undef);
        my $same = common($source->reader(0, $length), stream_reader($st, $sparse));
        attempt(sub { $st->abort });
        return $same;
    }) // 0;
}

sub _verify {
    my ($conn, $volume, $name, $offset, $sent) = @_;
    my $found = digest_of($conn, $volume, $offset, $sent->{bytes});
    die "$name does not hold what was sent: its digest is $found, not $sent->{digest}\n" if $found ne $sent->{digest};
    return;
}

1;
