package Company::Loop;

# -MCompany::Loop=KIND: libvirt's events are those of a well-known loop. What a test knows
# as libvirt's own loop is that one then: a turn of it is one of run_default.

use strict;
use warnings;

use Company ();
use Sys::Virt ();
use Sys::Virt::Event ();

our @ISA = (eval { require Sys::Virt::EventImpl; 1 }) ? 'Sys::Virt::EventImpl' : 'Sys::Virt::Event';

# libvirt closes its descriptors by itself.
my @kept;

# Each has: watch a descriptor (to read, to write, code), which returns what ends that;
# wait (seconds, code), the same for a timer, once; a turn.
my %KIND = (
    EV => sub {
        require EV;
        return (
            watch => sub {
                my ($fd, $read, $write, $code) = @_;
                my $own = EV::io($fd, ($read ? EV::READ() : 0) | ($write ? EV::WRITE() : 0), $code);
                return sub { undef $own };
            },
            wait => sub { my ($seconds, $code) = @_; my $own = EV::timer($seconds, 0, $code); return sub { undef $own } },
            turn => sub { EV::run(EV::RUN_ONCE()) },
        );
    },
    AnyEvent => sub {
        require AnyEvent;
        return (
            watch => sub {
                my ($fd, $read, $write, $code) = @_;
                my @own = map { AnyEvent->io(fh => $fd, poll => $_, cb => $code) } ('r') x !!$read, ('w') x !!$write;
                return sub { @own = () };
            },
            wait => sub { my ($seconds, $code) = @_; my $own = AnyEvent->timer(after => $seconds, cb => $code); return sub { undef $own } },
            turn => sub { AnyEvent->can('_poll') ? AnyEvent->_poll : do { my $cv = AnyEvent->condvar; my $own = AnyEvent->timer(after => 0.02, cb => sub { $cv->send }); $cv->recv } },
        );
    },
    'IO::Async' => sub {
        require IO::Async::Loop;
        require IO::Handle;
        my $loop = IO::Async::Loop->new;
        return (
            watch => sub {
                my ($fd, $read, $write, $code) = @_;
                open my $handle, '+<&=', $fd or die "descriptor $fd: $!";
                push @kept, $handle;
                $loop->watch_io(handle => $handle, ($read ? (on_read_ready => $code) : ()), ($write ? (on_write_ready => $code) : ()));
                return sub { $loop->unwatch_io(handle => $handle, ($read ? (on_read_ready => 1) : ()), ($write ? (on_write_ready => 1) : ())) };
            },
            wait => sub { my ($seconds, $code) = @_; my $own = $loop->watch_time(after => $seconds, code => $code); return sub { $loop->unwatch_time($own) } },
            turn => sub { $loop->loop_once(0.02) },
        );
    },
    'Mojo::IOLoop' => sub {
        require Mojo::IOLoop;
        require Mojo::Reactor::Poll;
        my $reactor = Mojo::Reactor::Poll->new;
        $reactor->on(error => sub { die $_[1] });
        return (
            watch => sub {
                my ($fd, $read, $write, $code) = @_;
                open my $handle, '+<&=', $fd or die "descriptor $fd: $!";
                push @kept, $handle;
                $reactor->io($handle => sub { $code->() })->watch($handle, $read, $write);
                return sub { $reactor->remove($handle) };
            },
            wait => sub { my ($seconds, $code) = @_; my $own = $reactor->timer($seconds => sub { $code->() }); return sub { $reactor->remove($own) } },
            turn => sub { my $own = $reactor->timer(0.02 => sub { }); $reactor->one_tick; $reactor->remove($own) },
        );
    },
    POE => sub {
        require POE;
        POE->import;
        POE::Kernel->run;    # with no session yet: else POE says that it was forgotten
        my %jobs;
        my $session = POE::Session->create(inline_states => {
            _start => sub { $_[POE::Session::KERNEL()]->alias_set('company') },
            watch  => sub {
                my ($kernel, $handle, $read, $write) = @_[POE::Session::KERNEL(), POE::Session::ARG0() .. POE::Session::ARG0() + 2];
                $kernel->select_read($handle => $read ? 'ready' : ());
                $kernel->select_write($handle => $write ? 'ready' : ());
            },
            ready => sub { my $handle = $_[POE::Session::ARG0()]; my $job = $jobs{fileno $handle} or return; $job->() },
            due   => sub { my $job = $_[POE::Session::ARG0()]; $job->[0]->() if $job->[0] },
            set   => sub { my ($kernel, $seconds, $job) = @_[POE::Session::KERNEL(), POE::Session::ARG0(), POE::Session::ARG0() + 1]; $kernel->delay_add(due => $seconds, $job) },
        });
        return (
            watch => sub {
                my ($fd, $read, $write, $code) = @_;
                open my $handle, '+<&=', $fd or die "descriptor $fd: $!";
                push @kept, $handle;
                $jobs{$fd} = $code;
                POE::Kernel->call(company => watch => $handle, $read, $write);
                return sub { POE::Kernel->call(company => watch => $handle, 0, 0); delete $jobs{$fd} };
            },
            wait => sub { my ($seconds, $code) = @_; my $job = [$code]; POE::Kernel->call(company => set => $seconds, $job); return sub { @$job = () } },
            turn => sub { my $job = [sub { }]; POE::Kernel->call(company => set => 0.02, $job); POE::Kernel->run_one_timeslice },
        );
    },
);

sub import {
    my ($class, $kind) = @_;
    return if Company::is_guard();
    my $self = bless { ($KIND{$kind} || die "no kind $kind")->(), id => 0, of => {} }, $class;
    Sys::Virt::Event::register($self);
    no warnings;
    *Sys::Virt::Event::register_default = sub { return };
    *Sys::Virt::Event::run_default = sub { $self->{turn}->(); $self->_free; return };
    return;
}

# In Perl's last cleanup no object is whole any more, and libvirt still calls.
END {
    no strict 'refs';
    no warnings;
    *{"Sys::Virt::Event::$_"} = sub { return 0 } for map { ("_add_$_", "_update_$_", "_remove_$_") } qw(handle timeout);
}

sub add_handle {
    my ($self, $fd, $events, $cb, $opaque, $ff) = @_;
    my $id = ++$self->{id};
    $self->{of}{$id} = { fd => $fd, cb => $cb, opaque => $opaque, ff => $ff };
    $self->update_handle($id, $events);
    return $id;
}

sub update_handle {
    my ($self, $id, $events) = @_;
    my $own = $self->{of}{$id} or return;
    local $@;    # which these loops' own evals change
    (delete $own->{end})->() if $own->{end};
    my ($read, $write) = map { $events & $_ } Sys::Virt::Event::HANDLE_READABLE(), Sys::Virt::Event::HANDLE_WRITABLE();
    return unless $read || $write;
    $own->{end} = $self->{watch}->($own->{fd}, $read, $write, sub {
        my $now = $self->{of}{$id} or return;
        my $bits = '';
        vec($bits, $own->{fd}, 1) = 1;
        my @ready = ($read ? $bits : '', $write ? $bits : '');
        select $ready[0], $ready[1], undef, 0;
        my $got = (length $ready[0] && vec($ready[0], $own->{fd}, 1) ? Sys::Virt::Event::HANDLE_READABLE() : 0)
            | (length $ready[1] && vec($ready[1], $own->{fd}, 1) ? Sys::Virt::Event::HANDLE_WRITABLE() : 0);
        $self->_run_handle_callback($id, $own->{fd}, $got, @$now{qw(cb opaque)}) if $got;
    });
    return;
}

sub add_timeout {
    my ($self, $every, $cb, $opaque, $ff) = @_;
    my $id = ++$self->{id};
    $self->{of}{$id} = { cb => $cb, opaque => $opaque, ff => $ff };
    $self->update_timeout($id, $every);
    return $id;
}

sub update_timeout {
    my ($self, $id, $every) = @_;
    my $own = $self->{of}{$id} or return;
    local $@;
    (delete $own->{end})->() if $own->{end};
    $own->{every} = $every;
    return if $every < 0;
    $own->{end} = $self->{wait}->($every / 1000, sub {
        my $now = $self->{of}{$id} or return;
        (delete $now->{end})->() if $now->{end};
        $self->update_timeout($id, $now->{every});
        $self->_run_timeout_callback($id, @$now{qw(cb opaque)});
    });
    return;
}

sub remove_handle  { return $_[0]->_remove($_[1]) }
sub remove_timeout { return $_[0]->_remove($_[1]) }

sub _remove {
    my ($self, $id) = @_;
    my $gone = delete $self->{of}{$id} or return -1;
    local $@;
    $gone->{end}->() if $gone->{end};
    push @{ $self->{gone} }, $gone if $gone->{ff};
    return 0;
}

# libvirt wants its data freed later, not from inside the call that removes.
sub _free {
    my ($self) = @_;
    my $gone = delete $self->{gone} or return;
    $self->_free_callback_opaque(@$_{qw(ff opaque)}) for @$gone;
    return;
}

1;
