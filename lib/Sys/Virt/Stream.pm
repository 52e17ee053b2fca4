package Sys::Virt::Stream;

use strict;
use warnings;

our $VERSION = '0.1.0';

require XSLoader;

# Which code stands behind the package: this module's Rust, or the C binding's
# own, which SYS_VIRT_STREAM=c leaves in place.
my $implementation = ($ENV{SYS_VIRT_STREAM} || '') eq 'c' ? 'c' : 'rust';

sub implementation { return $implementation }

# The rest of Sys::Virt makes its streams with this.
sub _new {
    my $proto  = shift;
    my $class  = ref($proto) || $proto;
    my %params = @_;

    die "connection parameter is required" unless exists $params{connection};
    return bless Sys::Virt::Stream::_new_obj($params{connection}, $params{flags}), $class;
}

if ($implementation eq 'rust') {
    XSLoader::load(__PACKAGE__, $VERSION);

    no warnings 'once';
    *new = sub {
        my ($class, $connection, $flags) = @_;
        return $class->_new(connection => $connection, flags => $flags || 0);
    };

    # libvirt's objects belong to the thread that made them: in another, its
    # end would give back what the first still uses. Perl makes them undef there.
    *CLONE_SKIP = sub { return 1 };

    _take_over();
}

# Puts this module's subs and constants where the C binding's boot puts its own:
# now, if Sys::Virt has been booted, else as soon as that is done.
sub _take_over {
    my %own = map { ($_ => \&$_) } qw(
        NONBLOCK EVENT_READABLE EVENT_WRITABLE EVENT_ERROR EVENT_HANGUP RECV_STOP_AT_HOLE
        _new_obj DESTROY finish abort recv send recv_hole send_hole
        recv_all sparse_recv_all send_all sparse_send_all
        add_callback update_callback remove_callback
    );
    my $install = sub {
        no strict 'refs';
        no warnings 'redefine';
        *$_ = $own{$_} for keys %own;
        _guard_event_loops();
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
        require DynaLoader;
        my @result = do {
            local $^W = 0;    # the boot redefines what stands here
            &DynaLoader::bootstrap_inherit;
        };
        $install->();
        return wantarray ? @result : $result[0];
    };
    return;
}

# No exception may cross libvirt's frames: neither one thrown by an event loop
# written in Perl, nor one by an event callback under libvirt's loop.
sub _guard_event_loops {
    no strict 'refs';
    no warnings 'redefine';
    for my $sub (qw(run_default _run_handle_callback_helper _run_timeout_callback_helper)) {
        my $name = "Sys::Virt::Event::$sub";
        *$name = _relay(\&$name) if defined &$name;
    }
    for my $sub (map { ("_add_$_", "_update_$_", "_remove_$_") } qw(handle timeout)) {
        my $name = "Sys::Virt::Event::$sub";
        my $code = defined &$name ? \&$name : next;
        *$name = sub { _guarded($code, @_) };
    }
    return;
}

# The connection that a stream needs, and all else that has a pointer of libvirt's.
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

END { _release_callbacks() if $implementation eq 'rust' }

1;
