package Sys::Virt::Stream::Command::Report;

# Who is told how far a transfer has come.

use strict;
use warnings;

our $VERSION = '0.1.0';

use Exporter 'import';

our @EXPORT_OK = qw(watched);

# Calls $code with the options of recv_file or send_file that have it watched; what is told ends with
# the code's own end. $total is undef where nobody knows it.
sub watched {
    my ($run, $total, $code) = @_;
    my $report = _report($run, $total) or return $code->();
    my $result = $code->(progress => sub { $report->show(@_) });
    $report->complete;
    return $result;
}

sub _report {
    my ($run, $total) = @_;
    return unless $run->talks;
    require Sys::Virt::Stream::Command::Progress;
    return Sys::Virt::Stream::Command::Progress->new(to => \*STDERR, total => $total);
}

1;
