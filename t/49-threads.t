# Threads that begin and end while streams and callbacks live, and streams that
# belong to a thread.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd threads);
use StreamTest::Slots;

plan skip_all => 'the C binding frees what is not the thread\'s' unless rust();
my $daemon = daemon();
slots($daemon);
my $size = -s $daemon->pool_dir . '/slots-down';

my $common = <<'CODE';
use strict; use warnings; use threads; use threads::shared; use Sys::Virt;
our ($uri) = @ARGV;
$| = 1;
sub volume { return $_[0]->get_storage_pool_by_name('streams')->get_volume_by_name('slots-down') }
sub opened { my ($conn, $flags) = @_; my $st = $conn->new_stream($flags || 0); volume($conn)->download($st, 0, 0); return $st }
sub local_one { my ($conn) = @_; my $st = $conn->new_stream; $conn->get_domain_by_name('test')->screenshot($st, 0); return $st }
sub count { my ($st) = @_; my $n = 0; $st->recv_all(sub { $n += $_[2]; $_[2] }); $st->finish; return $n }
CODE
my %program = (
    'a thread sees no stream' => [<<'CODE', "undef undef\ndefined\n"],
my $conn = Sys::Virt->new(uri => $uri);
our $st = opened($conn);
my $lexical = $st;
print threads->create(sub { join ' ', map { defined && defined $$_ && eval { $_->isa('Sys::Virt::Stream') } ? 'usable' : 'undef' } $lexical, $st })->join, "\n";
print defined $$st ? "defined\n" : "gone\n";
CODE
    'its end leaves the transfer alone' => [<<'CODE', "$size\n"],
my $conn = Sys::Virt->new(uri => $uri);
my ($st, $n) = (opened($conn), 0);
while (my $got = $st->recv(my $data, 200_000)) {
    threads->create(sub { my $copy = $st; undef $st; undef $conn; 1 })->join if $n < 2e6;
    $n += $got;
}
$st->finish;
print "$n\n";
CODE
    'inside a handler' => [<<'CODE', "$size\n"],
my $conn = Sys::Virt->new(uri => $uri);
my ($st, $n, $calls) = (opened($conn), 0, 0);
$st->recv_all(sub { threads->create(sub { my @copy = @_; 1 }, 5)->join if $calls++ < 5; $n += $_[2]; $_[2] });
$st->finish;
print "$n\n";
CODE
    'methods on what a thread sees' => [<<'CODE', "ordinary\n$size\n"],
my $conn = Sys::Virt->new(uri => $uri);
my $st = opened($conn);
print threads->create(sub {
    no warnings;
    local $SIG{__WARN__} = sub { };
    no strict 'refs';
    for my $name (qw(recv send recv_hole send_hole finish abort DESTROY recv_all send_all sparse_recv_all sparse_send_all
        add_callback update_callback remove_callback)) {
        for my $count (1 .. 4) { eval { &{"Sys::Virt::Stream::$name"}($st, (my $data) x ($count - 1)) } }
    }
    return 'ordinary';
})->join, "\n", count($st), "\n";
CODE
    'local streams too' => [<<'CODE', "same\n"],
my $conn = Sys::Virt->new(uri => 'test:///default');
my $want = count(local_one($conn));
my $st = local_one($conn);
threads->create(sub { undef $st; 1 })->join;
print count($st) == $want ? "same\n" : "other\n";
CODE
    'callbacks live on' => [<<'CODE', "$size\nfreed 1\n"],
Sys::Virt::Event::register_default();
{ package Some::Guard; our $freed :shared = 0; our $main = threads->tid; sub DESTROY { $freed++ if threads->tid == $main } }
my $conn = Sys::Virt->new(uri => $uri);
my ($n, $done, $calls) = (0, 0, 0);
{
    my $st = opened($conn, 1);
    my $guard = bless [], 'Some::Guard';
    $st->add_callback(1, sub {
        my ($self) = @_;
        my $held = $guard;
        threads->create(sub { 1 })->join if $calls++ < 3;
        while ((my $got = $self->recv(my $data, 1 << 20)) != -2) {
            $n += $got;
            if (!$got) { $self->remove_callback; $self->finish; return $done = 1 }
        }
    });
}
threads->create(sub { 1 })->join;
Sys::Virt::Event::run_default() until $done;
print "$n\nfreed $Some::Guard::freed\n";
CODE
    'a callback runs nowhere else' => [<<'CODE', "only there\n"],
Sys::Virt::Event::register_default();
my $conn = Sys::Virt->new(uri => 'test:///default');
our $where :shared = '';
my $st = $conn->new_stream(1);
$conn->get_domain_by_name('test')->screenshot($st, 0);
my $home = threads->tid;
$st->add_callback(1, sub { $where .= threads->tid == $home ? 'h' : 'X'; $_[0]->remove_callback });
threads->create(sub {
    my $timer = Sys::Virt::Event::add_timeout(50, sub { });
    Sys::Virt::Event::run_default() for 1 .. 5;
    Sys::Virt::Event::remove_timeout($timer);
})->join;
my $timer = Sys::Virt::Event::add_timeout(50, sub { });
for (1 .. 50) { last if $where; Sys::Virt::Event::run_default() }
Sys::Virt::Event::remove_timeout($timer);
print $where =~ /^h+$/ ? "only there\n" : "<$where>\n";
CODE
    'of its own' => [<<'CODE', "$size $size $size $size\n"],
my @threads = map { threads->create(sub {
    my $conn = Sys::Virt->new(uri => $uri);
    my $n = 0;
    $n = count(opened($conn)) for 1 .. 3;
    return $n;
}) } 1 .. 4;
print join(' ', map { $_->join } @threads), "\n";
CODE
    'of its own, with the parent at work' => [<<'CODE', "$size $size\n"],
my $conn = Sys::Virt->new(uri => $uri);
my $st = opened($conn);
my $thread = threads->create(sub { count(opened(Sys::Virt->new(uri => $uri))) });
my $n = count($st);
print "$n ", $thread->join, "\n";
CODE
    'of its own, dropped' => [<<'CODE', "ok\n$size\n"],
my $conn = Sys::Virt->new(uri => $uri);
print threads->create(sub { my $own = Sys::Virt->new(uri => $uri); our $st = opened($own); $st->recv(my $data, 10); 'ok' })->join, "\n";
print count(opened($conn)), "\n";
CODE
    'of its own, with a callback it forgets' => [<<'CODE', "ok freed\n"],
Sys::Virt::Event::register_default();
our $freed :shared = 0;
{ package Some::Guard; sub DESTROY { $main::freed++ } }
print threads->create(sub {
    my $own = Sys::Virt->new(uri => 'test:///default');
    my $st = local_one($own);
    my $guard = bless [], 'Some::Guard';
    $st->add_callback(1, sub { $guard });
    return 'ok';
})->join;
print $freed == 1 ? " freed\n" : " $freed\n";
my $timer = Sys::Virt::Event::add_timeout(20, sub { });
Sys::Virt::Event::run_default() for 1 .. 3;
CODE
    'dies in a handler' => [<<'CODE', "caught out\n$size\n"],
my $conn = Sys::Virt->new(uri => $uri);
print threads->create(sub {
    my $st = opened(Sys::Virt->new(uri => $uri));
    return eval { $st->recv_all(sub { die "out\n" }); 1 } ? "no\n" : "caught $@";
})->join;
print count(opened($conn)), "\n";
CODE
    'exits in a handler' => [<<'CODE', "joined\n$size\n"],
my $conn = Sys::Virt->new(uri => $uri);
my $thread = threads->create(sub {
    my $st = opened(Sys::Virt->new(uri => $uri));
    $st->recv_all(sub { threads->exit });
    print "not reached\n";
});
$thread->join;
print "joined\n", count(opened($conn)), "\n";
CODE
    'a subclass' => [<<'CODE', "undef\n$size\n"],
{ package Some::Stream; our @ISA = 'Sys::Virt::Stream' }
my $conn = Sys::Virt->new(uri => $uri);
my $st = Some::Stream->_new(connection => $conn, flags => 0);
volume($conn)->download($st, 0, 0);
print threads->create(sub { defined $$st ? 'defined' : 'undef' })->join, "\n", count($st), "\n";
CODE
    'many' => [<<'CODE', "$size\n"],
my $conn = Sys::Virt->new(uri => $uri);
my @streams = map { opened($conn) } 1 .. 5;
$_->join for map { threads->create(sub { @streams = (); 1 }) } 1 .. 10;
my $st = pop @streams;
@streams = ();
print count($st), "\n";
CODE
    # A variable that counted as temporary meanwhile would lose its string in the new thread.
    'a variable that a sub of Sys::Virt has been given' => [<<'CODE', "2002\n"],
use StreamTest::Loop;
our $every = ' ' x 2_000 . '20';
{
    package Some::Loop;
    our @ISA = 'StreamTest::Loop';
    sub add_timeout {
        print threads->create(sub { my $copy = $every; length $every })->join, "\n";
        return shift->SUPER::add_timeout(@_);
    }
}
my $loop = Some::Loop->new;
Sys::Virt::Event::add_timeout($every, sub { });
CODE
    'detached, at the end of the program' => [<<'CODE', "end\n"],
my $conn = Sys::Virt->new(uri => $uri);
our $st = opened($conn);
my $done :shared = 0;
threads->create(sub { my $own = opened(Sys::Virt->new(uri => $uri)); lock $done; $done = 1; cond_signal($done) })->detach;
{ lock $done; cond_wait($done) until $done }
print "end\n";
CODE
);
for my $what (sort keys %program) {
    my ($code, $out) = @{ $program{$what} };
    ok_perl("$common$code", $out, $what, args => [$daemon->uri]);
}
ok $daemon->conn->get_library_version, 'the daemon goes on';

done_testing;
