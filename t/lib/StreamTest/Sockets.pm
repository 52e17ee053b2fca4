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
# In the place of watch there may be read and write, as they are made of watch below.
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
    # It tells of no handle that is ready, but reads and writes by itself.
    'Future::IO' => ['Future::IO', sub {
        # Its own implementation knows one handle at a time before 0.15.
        eval { require Future::IO::Impl::IOAsync };
        my (@under_way, $stopped);
        my $go_on = sub {
            my ($next) = @_;
            my $again; $again = sub {
                my $future = $next->() or return;
                push @under_way, $future->on_done(sub { $again->() });
            };
            $again->();
        };
        return {
            read => sub {
                my ($handle, $code) = @_;
                my $ended;
                $go_on->(sub {
                    return if $ended;
                    return Future::IO->sysread($handle, 65536)->on_done(sub { $ended = $code->($_[0] // '') });
                });
            },
            write => sub {
                my ($handle, $bytes, $code) = @_;
                my $at = 0;
                $go_on->(sub {
                    return $code->($at) && undef if $at == length $bytes;
                    return Future::IO->syswrite($handle, substr $bytes, $at, 65536)->on_done(sub { $at += $_[0] });
                });
            },
            run => sub {
                until ($stopped) {
                    @under_way = grep { !$_->is_ready } @under_way;
                    Future->needs_any(map { $_->without_cancel } @under_way)->await;
                }
            },
            stop => sub { $stopped = 1 },
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

# Calls $code with each piece, and '' at the end, until it returns true.
sub _read {
    my ($loop, $socket, $code) = @_;
    my $end; $end = $loop->{watch}->($socket, r => sub {
        my $count = sysread $socket, my $data, 65536;
        return if !defined $count && $!{EAGAIN};
        $code->($count ? $data : '') and $end->();
    });
    return;
}

# Calls $code with how many bytes have been written, when no more can be.
sub _write {
    my ($loop, $socket, $bytes, $code) = @_;
    my $at = 0;
    my $end; $end = $loop->{watch}->($socket, w => sub {
        my $count = syswrite $socket, $bytes, 65536, $at;
        return if !defined $count && $!{EAGAIN};
        $at += $count // 0;
        return if $count && $at < length $bytes;
        $end->();
        $code->($at);
    });
    return;
}

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

    my $read  = $loop->{read}  || sub { _read($loop, @_) };
    my $write = $loop->{write} || sub { _write($loop, @_) };
    my $begin = sub {
        my ($st) = @_;
        $left++;
        my $socket = $st->socket;
        $socket->blocking(0);
        return $socket;
    };

    $pool->get_volume_by_name('down')->download(my $down = $conn->new_stream, 0, 0);
    my $from = $begin->($down);
    my $got = '';
    $read->($from, sub {
        $got .= $_[0];
        return 0 if length $_[0];
        $down->finish;
        $ended->(down => $got eq $content ? 'same' : 'differs');
        return 1;
    });

    $pool->get_volume_by_name('up')->upload(my $up = $conn->new_stream, 0, 0);
    my $to = $begin->($up);
    $write->($to, $content, sub {
        shutdown $to, 1;
        $up->finish;
        $ended->(up => $_[0]);
    });

    # A guest that sends back what it gets.
    $conn->get_domain_by_name($guest)->open_console(my $st = $conn->new_stream, undef, 0);
    my $console = $begin->($st);
    my $said = '';
    $write->($console, "hello, guest\n", sub { });
    $read->($console, sub {
        $said .= $_[0];
        return 0 if length $_[0] && $said !~ /guest\n/;    # the first byte wakes it
        $st->finish;
        $ended->(console => length $_[0] ? 'answered' : 'ended');
        return 1;
    });
    $loop->{run}->();
    print join(' ', map { "$_=$seen{$_}" } sort keys %seen), "\n";
    return;
}

1;
