package Sys::Virt::Stream::Command::Report;

# Who is told how far a transfer has come, and how fast it may be.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';

our @EXPORT_OK = qw(watched check);

# What is wrong with the options is said before anything is done.
sub check {
    my ($run) = @_;
    my $progress = $run->option('progress') // 'json';
    die "--progress is json, not '$progress'\n" if $progress ne 'json';
    my $digest = $run->option('digest') // 'sha256';
    die "--digest is sha256, not '$digest'\n" if $digest ne 'sha256';
    $run->whole('retry');
    die "a --limit of 0 lets nothing through\n" unless $run->size('limit') // 1;
    return;
}

# Calls $code with the options of recv_file or send_file that have it watched; what is told ends with
# the code's own end. $total is undef where nobody knows it.
sub watched {
    my ($run, $what, $total, $code) = @_;
    my @limit = (limit => scalar $run->size('limit'));
    my $report = _report($run, $what, $total) or return $code->(@limit);
    my $result = $code->(@limit, progress => sub { $report->show(@_) });
    $report->complete;
    return $result;
}

sub _report {
    my ($run, $what, $total) = @_;
    if ($run->option('progress')) {
        require Sys::Virt::Stream::Command::Steps;
        return Sys::Virt::Stream::Command::Steps->new(to => \*STDERR, what => $what, total => $total);
    }
    return unless $run->talks;
    require Sys::Virt::Stream::Command::Progress;
    return Sys::Virt::Stream::Command::Progress->new(to => \*STDERR, total => $total);
}

1;
