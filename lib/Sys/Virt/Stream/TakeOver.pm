package Sys::Virt::Stream::TakeOver;

use strict;
use warnings;

our $VERSION = '0.2.0';

# Puts this module's subs and constants where the C binding's boot puts its own:
# now, if Sys::Virt has been booted, else as soon as that is done.
sub take_over {
    my %own = map { ($_ => \&{"Sys::Virt::Stream::$_"}) } qw(
        NONBLOCK EVENT_READABLE EVENT_WRITABLE EVENT_ERROR EVENT_HANGUP RECV_STOP_AT_HOLE
        _new_obj DESTROY finish abort recv send recv_hole send_hole
        recv_all sparse_recv_all send_all sparse_send_all
        add_callback update_callback remove_callback
    );
    my $install = sub {
        _put("Sys::Virt::Stream::$_", $own{$_}) for keys %own;
        return unless defined &Sys::Virt::_open;    # the boot has failed
        require Sys::Virt::Event;                   # Sys::Virt does not, and it must not come later
        Sys::Virt::Stream::_surround();
        _stay_in_thread();
    };
    if (defined &Sys::Virt::_open) {
        $install->();
        return;
    }

    # XSLoader leaves the boot to a bootstrap that is there already.
    no warnings 'once';
    *Sys::Virt::bootstrap = sub {
        undef *Sys::Virt::bootstrap;
        # XSLoader looks for the shared object beside the file that asks. (DynaLoader,
        # which looks everywhere, takes a fifth of a MiB.)
        my ($package, $file, $line) = caller;
        my $load = $file =~ /[\n"]/ ? \&XSLoader::bootstrap_inherit
            : eval qq{package $package;\n#line $line "$file"\nsub { XSLoader::load(\@_) }};
        # The boot would warn of every sub that it redefines, so they go first.
        { no strict 'refs'; undef *{"Sys::Virt::Stream::$_"} for keys %own }
        my @result;
        my $booted = eval { @result = &$load; 1 };
        my $error  = $@;
        $install->();
        die $error unless $booted;
        return wantarray ? @result : $result[0];
    };
    return;
}

# Puts a sub in another's place, in the glob that compiled code has. perl -W warns
# whatever a module says, so the other one goes first and nothing is redefined.
sub _put {
    my ($name, $code) = @_;
    no strict 'refs';
    undef *$name;
    *$name = $code;
    return;
}

# The other classes whose objects hold a pointer of libvirt's: perl makes them undef, too.
sub _stay_in_thread {
    no strict 'refs';
    for my $class ('Sys::Virt', map { "Sys::Virt::$_" } qw(
        Domain DomainCheckpoint DomainSnapshot Interface Network NetworkPort
        NodeDevice NWFilter NWFilterBinding Secret StoragePool StorageVol
    )) {
        *{"${class}::CLONE_SKIP"} = sub { return 1 } unless $class->can('CLONE_SKIP');
    }
    return;
}

1;

__END__

=head1 NAME

Sys::Virt::Stream::TakeOver - takes the package over from the C binding

=head1 DESCRIPTION

L<Sys::Virt::Stream> uses this when it is loaded. It has nothing for other programs.

=cut
