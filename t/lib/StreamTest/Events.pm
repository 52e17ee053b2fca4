package StreamTest::Events;

# What a stream's callback is promised, whoever runs the event loop. A loop is
# chosen once in a process, so each has a test file that calls check().

use strict;
use warnings;

use Scalar::Util ();
use StreamTest qw(Sys::Virt);
use Test::More;

use constant {
    READABLE => Sys::Virt::Stream::EVENT_READABLE(),
    WRITABLE => Sys::Virt::Stream::EVENT_WRITABLE(),
    NONBLOCK => Sys::Virt::Stream::NONBLOCK(),
};

my $step;

# The argument runs one turn of the loop, which may find nothing to do.
sub check {
    ($step) = @_;
    my %on = (local => connect_test());
    $on{remote} = Sys::Virt->new(uri => daemon()->test_uri) if StreamTest::has('libvirtd');
    for my $where (sort keys %on) {
        subtest "$where: download" => sub { download($on{$where}) };
        subtest "$where: registration" => sub { registration($on{$where}, $where) };
        subtest "$where: mask" => sub { mask($on{$where}) };
        subtest "$where: kinds of callback" => sub { kinds($on{$where}) };
        subtest "$where: lifetime" => sub { lifetime($on{$where}) };
        subtest "$where: two at a time" => sub { pair($on{$where}) };
    }
    if ($on{remote}) {
        subtest 'volumes' => \&volumes;
        subtest 'a callback after blocking calls' => \&afterwards;
    }
    return;
}

sub shot {
    my ($conn) = @_;
    my $st = $conn->new_stream(NONBLOCK);
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    return $st;
}

# The same by blocking calls.
sub reference {
    my ($conn) = @_;
    my ($st, $all) = ($conn->new_stream, '');
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    while ($st->recv(my $data, 65_536)) { $all .= $data }
    $st->finish;
    return sha($all);
}

# Turns of the loop, until this is true; and some more that must change nothing.
sub turn_until { my ($done) = @_; return within(120, sub { $step->(); $done->() }, 0) }
sub turn_idly { $step->() for 1 .. 8; return }

# A callback that collects what comes, and unregisters itself at the end.
sub collector {
    my ($into) = @_;
    return sub {
        my ($st, $events) = @_;
        $into->{calls}++;
        $into->{mask} |= $events;
        $into->{arguments} = @_;
        my $count = $st->recv(my $data, 5_000);
        return if $count == -2;
        if ($count == 0) {
            $st->remove_callback;
            $st->finish;
            $into->{end} = 1;
            return;
        }
        $into->{all} .= $data;
        return;
    };
}

sub download {
    my ($conn) = @_;
    my %got = (all => '', mask => 0);
    {
        # As programs do: the callback is all that keeps the stream.
        my $st = shot($conn);
        is_deeply [$st->add_callback(READABLE, collector(\%got))], [], 'add_callback returns nothing';
    }
    ok turn_until(sub { $got{end} }), 'came to its end' or return;
    is sha($got{all}), reference($conn), 'all of it';
    is $got{arguments}, 2, 'called with the stream and the events';
    ok $got{mask} & READABLE, 'which was readable';
    my $calls = $got{calls};
    turn_idly();
    is $got{calls}, $calls, 'and not called again once removed';
    return;
}

sub registration {
    my ($conn, $where) = @_;
    my $st = shot($conn);
    my $none = 'stream does not have a callback registered';
    $none = 'no stream callback registered' if $where eq 'remote';
    my $twice = $where eq 'remote' ? 'multiple stream callbacks not supported'
        : 'stream already has a callback registered';

    error_is(sub { $st->remove_callback }, { code => 1, message => "internal error: $none" },
        'remove without add');
    error_is(sub { $st->update_callback(READABLE) }, { code => 1, message => "internal error: $none" },
        'update without add');
    my @called = (0, 0);
    $st->add_callback(READABLE, sub { $called[0]++ });
    error_is(sub { $st->add_callback(READABLE, sub { $called[1]++ }) },
        { code => 1, message => "internal error: $twice" }, 'a second add');
    ok turn_until(sub { $called[0] }), 'the first one stays';
    is $called[1], 0, 'the second is never called';
    is_deeply [$st->remove_callback], [], 'remove_callback returns nothing';
    error_is(sub { $st->remove_callback }, { code => 1, message => "internal error: $none" },
        'a second remove');

    $st->add_callback(READABLE, sub { $called[1]++ });
    ok turn_until(sub { $called[1] }), 'there may be another after it';
    $st->remove_callback;
    $st->abort;
    return;
}

sub mask {
    my ($conn) = @_;
    my $st = shot($conn);
    my %got = (all => '', mask => 0);
    my $calls = 0;
    my $collect = collector(\%got);
    $st->add_callback(0, sub { $calls++; $collect->(@_) });
    turn_idly();
    is $calls, 0, 'no event was asked for';
    is_deeply [$st->update_callback(READABLE)], [], 'update_callback returns nothing';
    ok turn_until(sub { $calls }), 'then one was';
    if (!$got{end}) {
        $st->update_callback(0);
        $step->() for 1 .. 2;
        my $before = $calls;
        turn_idly();
        is $calls, $before, 'none again';
        $st->update_callback(READABLE);
    }
    ok turn_until(sub { $got{end} }), 'came to its end' or return;
    is sha($got{all}), reference($conn), 'all of it';
    return;
}

my $named;
sub by_name { return $named->(@_) }

sub kinds {
    my ($conn) = @_;
    my %kind = ('a name' => __PACKAGE__ . '::by_name', 'a glob' => *by_name, 'a reference' => \&by_name);
    for my $what (sort keys %kind) {
        my %got = (all => '', mask => 0);
        $named = collector(\%got);
        my $st = shot($conn);
        no strict 'refs';
        $st->add_callback(READABLE, $kind{$what});
        ok turn_until(sub { $got{end} }), "$what is called";
    }
    return;
}

sub lifetime {
    my ($conn) = @_;
    my $probe = [];
    my $same = 0;
    my $weak;
    {
        my $st = shot($conn);
        my $held = $probe;
        my $address = Scalar::Util::refaddr($st);
        $st->add_callback(READABLE, sub { $held->[0]++; $same = Scalar::Util::refaddr($_[0]) == $address });
        Scalar::Util::weaken($weak = $st);
    }
    ok $weak, 'the callback keeps the stream';
    ok turn_until(sub { $probe->[0] }), 'and is called';
    ok $same, 'with the very stream that was given';
    $weak->remove_callback;
    Scalar::Util::weaken(my $closure = $probe);
    undef $probe;
    turn_idly();
    SKIP: {
        skip 'the C binding never lets go', 2 unless rust();
        ok !$weak, 'removed, it lets go of the stream';
        ok !$closure, 'and of what it had closed over';
    }
    SKIP: {
        # There the callback is given whatever the caller's variable now holds.
        skip 'the C binding keeps the variable of the stream, not its value', 2 unless rust();
        my $st = shot($conn);
        my %got = (all => '', mask => 0);
        my $callback = sub { die 'the first callback' };
        $st->add_callback(READABLE, $callback);
        $callback = collector(\%got);
        undef $st;
        ok turn_until(sub { $got{end} }), 'what is in the variable is called, with the stream' or last;
        is sha($got{all}), reference($conn), 'all of it';
    }
    $weak->abort if $weak;
    return;
}

sub pair {
    my ($conn) = @_;
    my @got = map { { all => '', mask => 0 } } 1, 2;
    shot($conn)->add_callback(READABLE, collector($_)) for @got;
    ok turn_until(sub { $got[0]{end} && $got[1]{end} }), 'both come to their end' or return;
    is sha($_->{all}), reference($conn), 'all of it' for @got;
    return;
}

# Small calls first: what they leave of a message is an event like any other. The
# daemon stands still meanwhile, so that there is no other.
sub afterwards {
    my $content = pattern(600_000);
    my $path = daemon()->volume('afterwards', undef, $content)->get_path;
    my $conn = Sys::Virt->new(uri => daemon()->uri);
    for my $mask (READABLE, 0) {
        my $st = $conn->new_stream;
        $conn->get_storage_volume_by_path($path)->download($st, 0, 0);
        my $all = '';
        $all .= $_ for map { $st->recv(my $data, $_); $data } 262_000, 10;
        daemon()->pause;
        my ($calls, $got) = (0, length $all);
        $st->add_callback($mask, sub { $calls++; $got += $st->recv(my $data, 7); $all .= $data });
        if (!$mask) {
            turn_idly();
            is $calls, 0, 'no event was asked for';
            $st->update_callback(READABLE);
        }
        ok turn_until(sub { $got >= 262_120 }), 'the rest of the message is an event';
        $st->update_callback(0);
        my $before = $calls;
        turn_idly();
        is $calls, $before, 'and none without a mask';
        daemon()->resume;
        $st->remove_callback;
        while ($st->recv(my $data, 100_000)) { $all .= $data }
        $st->finish;
        is sha($all), sha($content), 'the content';
    }
    return;
}

# What takes more than one message, and the way up.
sub volumes {
    my $conn = Sys::Virt->new(uri => daemon()->uri);
    my $content = pattern((2 << 20) + 1_234);
    daemon()->volume('events', undef, $content);
    daemon()->volume('filled', length $content);
    my $path = daemon()->pool_dir;

    my %got = (all => '', mask => 0);
    my $st = $conn->new_stream(NONBLOCK);
    $conn->get_storage_volume_by_path("$path/events")->download($st, 0, 0);
    $st->add_callback(READABLE, collector(\%got));
    ok turn_until(sub { $got{end} }), 'a download comes to its end' or return;
    is sha($got{all}), sha($content), 'all of it';

    my $up = $conn->new_stream(NONBLOCK);
    $conn->get_storage_volume_by_path("$path/filled")->upload($up, 0, 0);
    my ($at, $seen, $end) = (0, 0, 0);
    $up->add_callback(WRITABLE, sub {
        my ($self, $events) = @_;
        $seen |= $events;
        my $piece = substr $content, $at, 50_000;
        if ($piece eq '') {
            $self->remove_callback;
            $end = 1;
            return;
        }
        my $sent = $self->send($piece, length $piece);
        $at += $sent if $sent > 0;
    });
    ok turn_until(sub { $end }), 'an upload comes to its end' or return;
    is_deeply [$up->finish], [], 'and finishes';
    ok $seen & WRITABLE, 'it was writable';
    is sha_file("$path/filled"), sha($content), 'all of it';
    return;
}

1;
