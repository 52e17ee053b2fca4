# Handlers that reach for the stream they belong to, or for others; and many calls.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

# Without a loop, libvirt refuses a callback, and keeps the stream for it.
Sys::Virt::Event::register_default() if @ARGV;
my $daemon = daemon();
my @slots = slots($daemon);
my %slot = map { $_->{name} => $_ } @slots;
my $down = $slot{recv_all};
my $size = -s $down->{path};

# What a handler answers when it goes on.
sub goes_on {
    my ($slot, @args) = @_;
    return $args[2] if $slot->{sink};
    return if !@args;
    $_[3] = 'x' x 100 if $slot->{source};    # @_ holds the slot in front
    return $slot->{sections} ? (1, 0) : $slot->{source} ? 100 : 0;
}

# Each does something in the first call of the handler and then goes on as if
# nothing had been. No more is asked than no crash, and an exception of libvirt's
# or Perl's where there is one; the transfer itself may end either way.
our ($st, $slot);
my %meddle = (
    'undefines $st' => sub { undef $st },
    'undefines $_[0]' => sub { undef $_[0] },
    'drops every reference' => sub { undef $_[0]; undef $st; @_ = () },
    'puts another stream in $st' => sub { $st = $down->{open}->() },
    'puts something else in $st' => sub { $st = 'a string' },
    'puts another stream in $_[0]' => sub { $_[0] = $down->{open}->() },
    'finishes' => sub { eval { $_[0]->finish } },
    'finishes and lets it out' => sub { $_[0]->finish },
    'aborts' => sub { eval { $_[0]->abort } },
    'aborts twice' => sub { eval { $_[0]->abort } for 1, 2 },
    'destroys' => sub { $_[0]->DESTROY },
    'destroys twice' => sub { $_[0]->DESTROY; $_[0]->DESTROY },
    'destroys, and drops it' => sub { $_[0]->DESTROY; undef $st; undef $_[0] },
    'zeroes the slot' => sub { ${ $_[0] } = 0 },
    'puts text in the slot' => sub { ${ $_[0] } = 'text' },
    'undefines the slot' => sub { undef ${ $_[0] } },
    'blesses it elsewhere' => sub { bless $_[0], 'Some::Class' },
    'receives' => sub { eval { $_[0]->recv(my $data, 10, 0) } if $slot->{sink} || $slot->{told} && $slot->{who} =~ /recv/ },
    'sends' => sub { eval { $_[0]->send('x', 1) } },
    'sends a hole' => sub { eval { $_[0]->send_hole(10) } },
    'receives all' => sub { eval { $_[0]->recv_all(sub { $_[2] }) } if $slot->{who} =~ /recv/ },
    'sends all' => sub { my $n = 0; eval { $_[0]->send_all(sub { return 0 if $n++; $_[1] = 'y'; 1 }) } },
    'sends all, and dies' => sub { eval { $_[0]->send_all(sub { die "inner\n" }) } },
    'receives all, and dies' => sub { eval { $_[0]->recv_all(sub { die "inner\n" }) } if $slot->{who} =~ /recv/ },
    'opens it again' => sub { eval { $daemon->pool->get_volume_by_name('slots-down')->download($_[0], 0, 0) } },
    'adds a callback' => sub { eval { $_[0]->add_callback(1, sub { }) }; eval { $_[0]->remove_callback } },
);
# In child programs, which are this file again: each slot one, each meddling a
# stream of its own.
if (@ARGV) { meddle_all(@ARGV); exit 0 }

sub meddle_all {
    my ($name) = @_;
    $| = 1;
    $slot = $slot{$name};
    for my $how (sort keys %meddle) {
        local $SIG{__WARN__} = sub { };
        local $st = $slot->{open}->();
        my $held = $how =~ /^(?:fin|ab|rec|sen|add|open)/ ? $st : undef;
        my $calls = 0;
        eval {
            $slot->{run}->($st, sub {
                $meddle{$how}->(@_ ? $_[0] : ()) if !$calls++;
                return 0 if $slot->{source} && $calls > 3;
                return goes_on($slot, @_) if !$slot->{source};
                $_[1] = 'x' x 100;
                return 100;
            });
            1;
        };
        my $error = ref $@ || $@;
        $error =~ s/ at \S+ line.*//s;
        print "$how: ", $error eq '' ? 'went on' : $error, "\n";
    }
    my ($bytes, $after) = (0, $down->{open}->());
    $after->recv_all(sub { $bytes += $_[2]; $_[2] });
    $after->finish;
    print "then $bytes bytes\n";
    return;
}
for my $one (@slots) {
    my $got = run_perl(slurp($0), args => [$one->{name}]);
    is_deeply [@$got{qw(signal status hang)}], [0, 0, 0], "$one->{name}: no crash"
        or diag explain $got;
    my %said = map { /^(.*?): (.*)/ ? ($1, $2) : () } split /\n/, $got->{out};
    is_deeply [sort keys %said], [sort keys %meddle], "$one->{name}: came through everything";
    like $got->{out}, qr/^then $size bytes$/m, "$one->{name}: the connection goes on";
    my @odd = grep { !/^(?:went on|Sys::Virt::Error)$/ } values %said;
    is_deeply \@odd, [], "$one->{name}: errors are libvirt's";
}

subtest 'where libvirt has an error, it comes' => sub {
    my $slot = $down;
    for my $how ('finish', 'abort', 'DESTROY') {
        my ($calls, $st) = (0, $slot->{open}->());
        my $error = error_of(sub { $slot->{run}->($st, sub { $calls++; $_[0]->$how if $calls == 1; $_[2] }) });
        if ($how eq 'DESTROY') {
            # The loop holds the stream; what it has is the program's no more.
            is $$st, 0, 'a destroyed one is destroyed';
            next;
        }
        isa_ok $error, 'Sys::Virt::Error', "$how in the handler";
        like ref $error && $error->{message}, qr/stream is (?:closed|not open)/, 'says why';
        is $calls, 1, 'at once';
    }
};

subtest 'other transfers in a handler' => sub {
    my ($outer, $inner, $round, $st) = (0, 0, 0, $down->{open}->());
    $st->recv_all(sub {
        $outer += $_[2];
        if ($round++ < 3) {
            my $second = $down->{open}->();
            $second->recv_all(sub { $inner += $_[2]; $_[2] });
            $second->finish;
            my $up = $slot{send_all}{open}->();
            my $n = 0;
            $up->send_all(sub { return 0 if $n++ > 2; $_[1] = 'z' x 1000; 1000 });
            $up->finish;
        }
        return $_[2];
    });
    $st->finish;
    is $outer, $size, 'the outer one is whole';
    is $inner, 3 * $size, 'and so are the inner ones';
};

subtest 'deep nesting' => sub {
    my $local = $slot{'recv_all, local'};
    my ($deepest, @bytes) = (0);
    my $nest;
    $nest = sub {
        my ($level) = @_;
        my $st = $local->{open}->();
        $deepest = $level if $level > $deepest;
        my $first = 1;
        $st->recv_all(sub {
            if ($first && $level < 40) { $first = 0; $nest->($level + 1) }
            $bytes[$level] += $_[2];
            return $_[2];
        });
        $st->finish;
    };
    $nest->(0);
    is $deepest, 40, 'forty deep';
    my %seen = map { $_ => 1 } @bytes;
    is scalar(keys %seen), 1, 'each gets all';
    undef $nest;
};

# --- many calls

# SYS_VIRT_STREAM_TEST_CALLS=10000000 for the whole of it.
my $many = $ENV{SYS_VIRT_STREAM_TEST_CALLS} || 1_000_000;
# KiB; valgrind's own memory counts as the program's.
my $flat = $ENV{SYS_VIRT_STREAM_TEST_VALGRIND} ? 32 << 10 : 4 << 10;
subtest 'many calls' => sub {
    plan skip_all => 'memory is looked up in /proc' unless -r '/proc/self/status';
    my $local = $slot{'recv_all, local'};
    my %kind = (
        # A sink that takes nothing is called again with the same.
        'a sink, nothing at a time' => sub {
            my ($count, $early) = @_;
            my ($calls, $st) = (0, $local->{open}->());
            $st->recv_all(sub {
                $early->() if ++$calls == 1000;
                my @list = map { "$_" } 1 .. 2;
                return $calls < $count ? 0 : $_[2];
            });
            return $calls;
        },
        'a sink, a byte at a time' => sub {
            my ($count, $early) = @_;
            my $calls = 0;
            while ($calls < $count / 5) {
                my $st = $local->{open}->();
                $st->recv_all(sub { $early->() if ++$calls == 1000; return 1 });
                $st->finish;
            }
            return $calls * 5;
        },
        'a source, a byte at a time' => sub {
            my ($count, $early) = @_;
            my ($calls, $st) = (0, $slot{send_all}{open}->());
            $st->send_all(sub {
                $early->() if ++$calls == 1000;
                return 0 if $calls > $count / 50;
                $_[1] = 'x';
                return 1;
            });
            $st->finish;
            return $calls * 50;
        },
        'holes, a byte at a time' => sub {
            my ($count, $early) = @_;
            my ($calls, $st) = (0, $slot{sparse_send_all}{open}->());
            $st->sparse_send_all(sub { 0 }, sub { $early->() if ++$calls == 1000; $calls < $count / 50 ? (0, 1) : (1, 0) },
                sub { 0 });
            $st->finish;
            return $calls * 50;
        },
        'an exception each' => sub {
            my ($count, $early) = @_;
            my ($calls) = 0;
            my $conn = connect_test();
            while ($calls < $count / 500) {
                $early->() if ++$calls == 500;
                my $st = $conn->new_stream;
                $conn->get_domain_by_name('test')->screenshot($st, 0);
                eval { $st->recv_all(sub { die { n => $calls } }) };
            }
            return $calls * 500;
        },
    );
    for my $what (sort keys %kind) {
        my $before;
        my $calls = $kind{$what}->($many, sub { $before = memory_kib('VmRSS') });
        my $after = memory_kib('VmRSS');
        cmp_ok $calls, '>=', $many, "$what: the calls";
        cmp_ok $after - $before, '<', $flat, "$what: memory stays flat";
    }
};

done_testing;
