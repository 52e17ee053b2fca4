package Company::Connection;

# -MCompany::Connection=KIND: every connection has something that programs give it.

use strict;
use warnings;

use Company ();
use Sys::Virt ();

my %KIND = (
    close => sub { my ($conn) = @_; eval { $conn->register_close_callback(sub { }) }; return },
    keepalive => sub { my ($conn) = @_; local $SIG{__DIE__}; eval { $conn->set_keep_alive(5, 3) }; return },
);

sub import {
    my ($class, $kind) = @_;
    return if Company::is_guard();
    my $give = $KIND{$kind} || die "no kind $kind";
    # Both are libvirt's timers and watches.
    Sys::Virt::Event::register_default();
    my $new = \&Sys::Virt::new;
    no warnings;
    *Sys::Virt::new = sub { my $conn = $new->(@_); $give->($conn); return $conn };
    *Sys::Virt::Event::register_default = sub { return };
    return;
}

1;
