package Sys::Virt::Stream::Command::Download;

# virt-stream download: a volume into a file.

use strict;
use warnings;

our $VERSION = '0.2.0';

use List::Util qw(max min);
use Sys::Virt::Stream::Command::Failure qw(trying);
use Sys::Virt::Stream::Command::Files qw(target digest_of_file);
use Sys::Virt::Stream::Command::Objects qw(connection volume);
use Sys::Virt::Stream::Command::Partial ();
use Sys::Virt::Stream::Command::Report qw(watched check);
use Sys::Virt::Stream::Command::Retry qw(persistently keeps);
use Sys::Virt::Stream::Command::Volume qw(opened length_of);

sub run {
    my ($class, $run, $name, $file) = @_;
    check($run);
    my ($target, $replace) = target($run, $file);
    if (!$replace) {
        for my $option (qw(continue retry verify)) {
            die "--$option needs a file, and $file is none\n" if defined $run->option($option);
        }
    }
    my $self = bless { run => $run, name => $name, file => $file, target => $target }, $class;
    $self->{partial} = Sys::Virt::Stream::Command::Partial->new($target) if $replace;
    @$self{qw(offset most)} = ($run->size('offset') // 0, $run->size('length') // 0);
    my $digest;
    my $done = eval { $digest = persistently($run, sub { $self->_received(@_) }); 1 };
    my $error = $@;
    my $partial = $self->{partial};
    $partial->end($done || !keeps($run)) if $partial;
    die $error unless $done;
    $run->show_digest($digest, $file, !$replace);
    return;
}

# Returns the digest, if one is asked for.
sub _received {
    my ($self, $again) = @_;
    my ($run, $name, $partial) = @$self{qw(run name partial)};
    my $conn = connection($run->option('connect'));
    my $volume = volume($conn, $name, pool => $run->option('pool'));
    my $size = length_of($volume);
    my $total = defined $size ? max(0, $size - $self->{offset}) : undef;
    $total = defined $total ? min($total, $self->{most}) : $self->{most} if $self->{most};
    $run->catch_signals;
    my $at = $partial ? $partial->begin($run, $conn, $volume, $name, $self->{offset}, $self->{most}, $total, $again) : 0;
    $run->note("$at bytes are there already") if $at;
    my ($st, $sparse) = opened($conn, $volume, download => $self->{offset} + $at, $self->{most} ? $self->{most} - $at : 0,
        $run->option('sparse'));
    my $checks = $run->option('verify') || $run->option('digest') ? 'sha256' : undef;
    my $got = watched($run, 'download', defined $total ? $total - $at : undef, sub {
        my @watch = @_;
        return trying("cannot download $name", sub {
            $st->recv_file($self->{target}, @watch, sparse => $sparse, detect_zeroes => $run->option('detect-zeroes'),
                digest => $checks, sync => $run->option('verify'), $partial ? $partial->options($at) : ());
        });
    });
    my $whole = $at + $got->{bytes};
    my $found;
    if ($run->option('verify') || $at && $run->option('digest')) {
        open my $fh, '<:raw', $self->{target} or die "cannot read $self->{file} back: $!\n";
        my $rest = digest_of_file($fh, $at, $got->{bytes});
        die "$self->{file} does not hold what was sent: its digest is $rest, not $got->{digest}\n" if $rest ne $got->{digest};
        $found = $at ? digest_of_file($fh, 0, $whole) : $rest;
    }
    return unless $run->option('digest');
    return $found // $got->{digest};
}

1;
