#!/usr/bin/perl
# What programs do with a handle, over a stream's, over a file's, over a pipe from virsh, and
# by hand. Usage: handles.pl URI DOWN UP FILE HABIT WAY. DOWN holds lines of text, FILE the same.
# Says the seconds of CPU that the habit alone takes, virsh included.
use strict;
use warnings;

use IO::Compress::Gzip ();
use JSON::PP ();
use Storable ();
use Sys::Virt;
use Time::HiRes ();

my ($uri, $down, $up, $file, $habit, $way) = @ARGV;
my $conn = Sys::Virt->new(uri => $uri);
my $line = "this is a line of text that is neither long nor short\n";
my $PIECE = 262_120;

sub stream {
    my ($how, $path) = @_;
    my $st = $conn->new_stream;
    $conn->get_storage_volume_by_path($path)->$how($st, 0, 0);
    return $st;
}

# Where the habit writes to, and from where it reads.
sub out {
    return stream(upload => $up)->handle if $way eq 'handle';
    open my $fh, '>:raw', $file or die "$file: $!\n";
    return $fh;
}

sub in {
    return stream(download => $down)->handle if $way eq 'handle';
    if ($way eq 'pipe') {
        open my $pipe, '-|', qw(virsh -q -c), $uri, 'vol-download', $down, '/dev/stdout' or die "virsh: $!\n";
        return $pipe;
    }
    open my $fh, '<:raw', $file or die "$file: $!\n";
    return $fh;
}

sub lines_by_hand {
    my $st = stream(download => $down);
    my $text = '';
    while ($st->recv(my $data, $PIECE)) {
        $text .= $data;
        my $from = 0;
        while ((my $at = index $text, "\n", $from) >= 0) {
            my $one = substr $text, $from, $at + 1 - $from;
            $from = $at + 1;
        }
        substr $text, 0, $from, '';
    }
    return $st->finish;
}

sub print_by_hand {
    my $st = stream(upload => $up);
    my $text = '';
    my $send = sub {
        for (my $at = 0; $at < length $text; ) { $at += $st->send(substr($text, $at), $PIECE) }
        $text = '';
    };
    for (1 .. 1_000_000) {
        $text .= $line;
        $send->() if length $text >= 65_536;
    }
    $send->();
    return $st->finish;
}

sub csv { return join ',', map { '"' . s/"/""/gr . '"' } @_ }

my @numbers = map { 7 * $_ } 1 .. 200_000;
my @rows = map { { id => $_, name => "name $_" } } 1 .. 20_000;
my $json = JSON::PP->new;
my %write = (
    print    => sub { my ($fh) = @_; for (1 .. 1_000_000) { print {$fh} $line } },
    store_fd => sub { Storable::store_fd(\@numbers, $_[0]) },
    json     => sub { my ($fh) = @_; print {$fh} $json->encode($_), "\n" for @rows },
    csv      => sub { my ($fh) = @_; for (1 .. 5) { print {$fh} csv(@$_{qw(id name)}), "\n" for @rows } },
    gzip     => sub { my $z = IO::Compress::Gzip->new($_[0]); print {$z} $line for 1 .. 100_000; $z->close },
);
my %habit = map {
    my $write = $write{$_};
    ($_ => sub { my $fh = out(); $write->($fh); close $fh or die "close: $!\n" })
} keys %write;
$habit{lines} = sub {
    my ($fh, $lines) = (in(), 0);
    while (<$fh>) { $lines++ }
    close $fh or die "close: $!\n";
    die "$lines lines\n" if $lines != 1_000_000;
};
my %by_hand = (lines => \&lines_by_hand, print => \&print_by_hand);

my $code = ($way eq 'hand' ? \%by_hand : \%habit)->{$habit} or die "no $habit by $way\n";
my $before = cpu();
$code->();
print cpu() - $before, "\n";

# Of this process, and of children that have ended.
sub cpu {
    my (undef, undef, @children) = times;
    return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_PROCESS_CPUTIME_ID()) + $children[0] + $children[1];
}
