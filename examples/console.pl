#!/usr/bin/perl
# A guest's console: what is typed goes to the guest, what it says is printed. It ends with the
# input (Ctrl-D), or with the console.
use strict;
use warnings;
use Sys::Virt;

die "usage: $0 URI DOMAIN\n" if @ARGV != 2;
my ($uri, $name) = @ARGV;
my ($READ, $WRITE) = (Sys::Virt::Stream::EVENT_READABLE, Sys::Virt::Stream::EVENT_WRITABLE);
$| = 1;

# A loop has to be there before the connection.
Sys::Virt::Event::register_default();
my $conn = Sys::Virt->new(uri => $uri);
my $st   = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
$conn->get_domain_by_name($name)->open_console($st, undef, 0);

my ($unsent, $over) = ('', 0);
$st->add_callback($READ, sub {
    my ($st, $events) = @_;
    send_some() if $events & $WRITE;
    return if !($events & ~$WRITE);
    my $count = $st->recv(my $data, 4096);    # -2: nothing yet
    $over = 1   if $count == 0;
    print $data if $count > 0;
});
my $watch = Sys::Virt::Event::add_handle(fileno STDIN, Sys::Virt::Event::HANDLE_READABLE, sub {
    sysread(STDIN, $unsent, 4096, length $unsent) or $over = 1;
    send_some();
});

# What the guest does not take now waits until the stream can be written to.
sub send_some {
    my $count = length $unsent ? $st->send($unsent, length $unsent) : 0;
    substr($unsent, 0, $count) = '' if $count > 0;
    $st->update_callback(length $unsent ? $READ | $WRITE : $READ);
}

Sys::Virt::Event::run_default() until $over;
Sys::Virt::Event::remove_handle($watch);
$st->abort;    # a console is left, not finished
