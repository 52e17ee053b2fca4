package StreamTest::Sockets;

# One program with sockets, for every event loop: it reads a volume, writes another and
# talks to a guest, all at once. And each loop as three subs.

use strict;
use warnings;

use IO::Select ();
use StreamTest ();

# What a loop is: its module, and a sub that returns { watch, run, stop }.
#   watch($handle, 'r' or 'w', $code)  calls $code when the handle is ready; returns what
#                                      ends that
#   run                                returns once stop was called
my %LOOP = (
    select => [undef, sub {
        my %set = map { $_ => IO::Select->new } qw(r w);
        my (%code, $stopped);
        return {
            watch => sub {
                my ($handle, $way, $code) = @_;
                $code{$way}{$handle} = $code;
                $set{$way}->add($handle);
                return sub { $set{$way}->remove($handle); delete $code{$way}{$handle}; return };
            },
            run => sub {
                until ($stopped) {
                    my ($readable, $writable) = IO::Select::select($set{r}, $set{w}, undef);
                    for ([r => $readable || []], [w => $writable || []]) {
                        my ($way, $ready) = @$_;
                        $_->() for map { $code{$way}{$_} || () } @$ready;
                    }
                }
            },
            stop => sub { $stopped = 1 },
        };
    }],
    EV => ['EV', sub {
        return {
            watch => sub {
                my ($handle, $way, $code) = @_;
                my $watcher = EV::io($handle, $way eq 'r' ? EV::READ() : EV::WRITE(), $code);
                return sub { undef $watcher };
            },
            run  => sub { EV::run() },
            stop => sub { EV::break() },
        };
    }],
    AnyEvent => ['AnyEvent', sub {
        my $over = AnyEvent->condvar;
        return {
            watch => sub {
                my ($handle, $way, $code) = @_;
                my $watcher = AnyEvent->io(fh => $handle, poll => $way, cb => $code);
                return sub { undef $watcher };
            },
            run  => sub { $over->recv },
            stop => sub { $over->send },
        };
    }],
    'IO::Async' => ['IO::Async::Loop', sub {
        my $loop = IO::Async::Loop->new;
        return {
            watch => sub {
                my ($handle, $way, $code) = @_;
                my $ready = $way eq 'r' ? 'read' : 'write';
                $loop->watch_io(handle => $handle, "on_${ready}_ready" => $code);
                return sub { $loop->unwatch_io(handle => $handle, "on_${ready}_ready" => 1) };
            },
            run  => sub { $loop->run },
            stop => sub { $loop->stop },
        };
    }],
    'Mojo::IOLoop' => ['Mojo::IOLoop', sub {
        my $reactor = Mojo::IOLoop->singleton->reactor;
        my %wanted;
        my $arrange = sub {
            my ($handle) = @_;
            my ($r, $w) = @{ $wanted{$handle} }{qw(r w)};
            return $reactor->remove($handle) unless $r || $w;
            return $reactor->io($handle => sub {
                my ($reactor, $writable) = @_;
                my $code = $wanted{$handle}{ $writable ? 'w' : 'r' };
                $code->() if $code;
            })->watch($handle, $r ? 1 : 0, $w ? 1 : 0);
        };
        return {
            watch => sub {
                my ($handle, $way, $code) = @_;
                $wanted{$handle}{$way} = $code;
                $arrange->($handle);
                return sub { delete $wanted{$handle}{$way}; $arrange->($handle) };
            },
            run  => sub { Mojo::IOLoop->start },
            stop => sub { Mojo::IOLoop->stop },
        };
    }],
    POE => ['POE', sub {
        my @wanted;
        my $select = sub {
            my ($handle, $way, $code) = @_;
            my $method = $way eq 'r' ? 'select_read' : 'select_write';
            $POE::Kernel::poe_kernel->state("$way$handle", sub { $code->() });
            $POE::Kernel::poe_kernel->$method($handle, "$way$handle");
            return sub { $POE::Kernel::poe_kernel->$method($handle) };
        };
        my $runs;
        return {
            # Handles belong to a session, which begins with the run.
            watch => sub {
                return $select->(@_) if $runs;
                push @wanted, [@_, \my $end];
                return sub { $end->() };
            },
            run => sub {
                $runs = 1;
                POE::Session->create(inline_states => {
                    _start => sub { ${ $_->[3] } = $select->(@$_[0 .. 2]) for @wanted },
                });
                POE::Kernel->run;
            },
            stop => sub { },    # the last handle's end is the session's
        };
    }],
    'Future::IO' => ['Future::IO', sub {
        my (@under_way, $over);
        return {
            watch => sub {
                my ($handle, $way, $code) = @_;
                my $ended;
                my $ready = Future::IO->can('poll')
                    ? sub { Future::IO->poll($handle, $way eq 'r' ? 1 : 4) }
                    : sub { my $method = "ready_for_" . ($way eq 'r' ? 'read' : 'write'); Future::IO->$method($handle) };
                my $again; $again = sub {
                    return if $ended || $over;
                    push @under_way, $ready->()->on_done(sub { $code->() unless $ended; $again->() });
                };
                $again->();
                return sub { $ended = 1 };
            },
            run => sub {
                until ($over) { @under_way = grep { !$_->is_ready } @under_way; Future->wait_any(@under_way)->await }
            },
            stop => sub { $over = 1 },
        };
    }],
    # The last two are loops of libvirt's, and move the data as well.
    'libvirt' => [undef, sub {
        Sys::Virt::Event::register_default();
        return _loop_of_libvirt(sub { Sys::Virt::Event::run_default() });
    }],
    'loop in Perl' => [undef, sub {
        require StreamTest::Loop;
        my $loop = StreamTest::Loop->new;
        return _loop_of_libvirt(sub { $loop->step(10) });
    }],
);

sub _loop_of_libvirt {
    my ($turn) = @_;
    my $stopped;
    return {
        watch => sub {
            my ($handle, $way, $code) = @_;
            my $event = $way eq 'r' ? Sys::Virt::Event::HANDLE_READABLE() : Sys::Virt::Event::HANDLE_WRITABLE();
            my $watch = Sys::Virt::Event::add_handle(fileno $handle, $event, sub { $code->() });
            return sub { Sys::Virt::Event::remove_handle($watch) };
        },
        run  => sub { $turn->() until $stopped },
        stop => sub { $stopped = 1 },
    };
}

sub names { return sort keys %LOOP }

sub module { return $LOOP{ $_[0] }[0] }

# The program. Prints what it has seen.
sub run {
    my ($name, $uri, $guest, $size) = @_;
    my ($module, $make) = @{ $LOOP{$name} };
    if ($module) {
        eval "require $module; $module->import; 1" or die $@;
    }
    my $loop = $make->();
    my $conn = Sys::Virt->new(uri => $uri);
    my ($pool) = grep { $_->get_name eq 'streams' } $conn->list_all_storage_pools;
    my $content = StreamTest::pattern($size);

    my $left = 0;
    my %seen;
    my $ended = sub {
        my ($what, $saw) = @_;
        $seen{$what} = $saw;
        $loop->{stop}->() if --$left == 0;
    };

    {    # a download, to its end
        my $st = $conn->new_stream;
        $pool->get_volume_by_name('down')->download($st, 0, 0);
        my $socket = $st->socket;
        $socket->blocking(0);
        my $got = '';
        $left++;
        my $end; $end = $loop->{watch}->($socket, r => sub {
            my $count = sysread $socket, $got, 65536, length $got;
            return if !defined $count && $!{EAGAIN};
            return if $count;
            $end->();
            $st->finish;
            $ended->(down => defined $count && $got eq $content ? 'same' : 'differs');
        });
    }
    {    # an upload
        my $st = $conn->new_stream;
        $pool->get_volume_by_name('up')->upload($st, 0, 0);
        my $socket = $st->socket;
        $socket->blocking(0);
        my $sent = 0;
        $left++;
        my $end; $end = $loop->{watch}->($socket, w => sub {
            my $count = syswrite $socket, $content, 65536, $sent;
            return if !defined $count && $!{EAGAIN};
            $sent += $count // 0;
            return if $count && $sent < $size;
            $end->();
            shutdown $socket, 1;
            $st->finish;
            $ended->(up => $sent);
        });
    }
    if ($guest) {    # a console: a guest that sends back what it gets
        my $st = $conn->new_stream;
        $conn->get_domain_by_name($guest)->open_console($st, undef, 0);
        my $socket = $st->socket;
        $socket->blocking(0);
        syswrite $socket, "hello, guest\n";
        my $said = '';
        $left++;
        my $end; $end = $loop->{watch}->($socket, r => sub {
            my $count = sysread $socket, $said, 65536, length $said;
            return if !defined $count && $!{EAGAIN};
            return if $count && $said !~ /guest\n/;    # the first byte wakes it
            $end->();
            $st->finish;
            $ended->(console => $count ? 'answered' : 'ended');
        });
    }
    $loop->{run}->();
    print join(' ', map { "$_=$seen{$_}" } sort keys %seen), "\n";
    return;
}

1;
