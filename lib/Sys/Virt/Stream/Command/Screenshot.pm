package Sys::Virt::Stream::Command::Screenshot;

# virt-stream screenshot: what a domain's screen shows.

use strict;
use warnings;

our $VERSION = '0.1.0';

use POSIX ();
use Sys::Virt::Stream::Command::Failure qw(trying);
use Sys::Virt::Stream::Command::Files qw(target);
use Sys::Virt::Stream::Command::Objects qw(connection domain);

my %ENDING = ('image/png' => '.png', 'image/x-portable-pixmap' => '.ppm');

sub run {
    my ($class, $run, $name, $file) = @_;
    my $screen = $run->whole('screen') // 0;
    my $conn = connection($run->option('connect'));
    my $domain = domain($conn, $name);
    $run->catch_signals;
    my $st = $conn->new_stream;
    my $type = trying("cannot take a screenshot of $name", sub { $domain->screenshot($st, $screen, 0) });
    my $named = defined $file;
    $file //= _name($domain) . ($ENDING{$type} // '');
    my ($target, $replace) = target($run, $file);
    my $got = trying("cannot take a screenshot of $name", sub { $st->recv_file($target, replace => $replace) });
    print "$file\n" unless $named;
    $run->note("$file: $type, $got->{bytes} bytes");
    return;
}

# As virsh names it.
sub _name {
    my ($domain) = @_;
    return $domain->get_name =~ tr{/}{_}r . POSIX::strftime('-%Y-%m-%d-%H:%M:%S', localtime);
}

1;
