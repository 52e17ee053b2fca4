# As curl does it: each call that an operation makes to libvirt fails in turn, with an
# error of libvirt's and without one, and each big allocation. Every failure is an
# exception, or does no harm; nothing leaks, and nothing is left running.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

plan skip_all => 'the calls are those of this module' unless rust();
my $cc = (grep { defined } map { StreamTest::find_program($_) } qw(cc gcc clang))[0]
    or plan skip_all => 'no C compiler to build the failing library with';
my $library = scratch() . '/fail.so';
my $said = qx('$cc' -O1 -fno-builtin -shared -fPIC -o '$library' t/torture/fail.c -ldl -pthread 2>&1);
plan skip_all => "the failing library does not build here: $said" if $? || !-e $library;

my $daemon = daemon();
my $content = pattern(600_000);
$daemon->volume('source', undef, $content);
$daemon->volume('target', length $content);
sparse_file($daemon->pool_dir . '/holes', hole => 1 << 20, data => 100_000, hole => 1 << 20, data => 100_000);
$daemon->adopt('holes');

my $PROGRAM = <<'EOP';
use strict;
use warnings;
use Sys::Virt;
use Time::HiRes ();
$| = 1;
my ($uri, $dir, $operation, $how, $control, $handler) = @ARGV;
open my $file, '+<:raw', $control or die "no $control: $!";
sub said { sysseek $file, 0, 0; sysread $file, my $all, 64; return unpack 'l4 Z48', $all }
sub say_ { sysseek $file, 0, 0; syswrite $file, pack 'l3', @_; return }
sub tasks { my @all = glob '/proc/self/task/*'; return scalar @all }
sub descriptors { my @all = glob '/proc/self/fd/*'; return scalar @all }

$SIG{USR1} = sub { } if $handler;
Sys::Virt::Event::register_default();
Sys::Virt::Event::add_timeout(5, sub { });
my $conn = Sys::Virt->new(uri => $uri);
my $content = 'x' x 600_000;
my @registered;
sub opened {
    my ($way, $name, $flags) = @_;
    my $st = $conn->new_stream($flags || 0);
    $conn->get_storage_volume_by_path("$dir/$name")->$way($st, 0, 0, $name eq 'holes' ? 1 : 0);
    return $st;
}
my %operation = (
    new => sub { my $st = $conn->new_stream },
    recv => sub { my $st = opened(download => 'source'); 1 while $st->recv(my $data, 150_000) > 0; $st->finish },
    'recv into an element' => sub { my ($st, %h) = opened(download => 'source'); 1 while $st->recv($h{a}{b}, 150_000) > 0; $st->finish },
    'recv with a flag' => sub { my $st = opened(download => 'holes');
        for (1 .. 99) { my $got = $st->recv(my $data, 150_000, 1); last if !$got; $st->recv_hole if $got == -3 } $st->finish },
    send => sub { my $st = opened(upload => 'target'); $st->send($content, 200_000) for 1 .. 3; $st->finish },
    recv_all => sub { my $st = opened(download => 'source'); $st->recv_all(sub { $_[2] }); $st->finish },
    send_all => sub { my ($st, $n) = (opened(upload => 'target'), 0);
        $st->send_all(sub { return 0 if $n++ > 1; $_[1] = 'y' x $_[2]; $_[2] }); $st->finish },
    sparse_recv_all => sub { my $st = opened(download => 'holes'); $st->sparse_recv_all(sub { $_[2] }, sub { 0 }); $st->finish },
    sparse_send_all => sub { my ($st, @s) = (opened(upload => 'holes'), [0, 9000], [1, 150_000], [0, 9000], [0, 0]);
        $st->sparse_send_all(sub { $_[1] = 'z' x $_[2]; $_[2] }, sub { @{ shift @s } }, sub { 0 }); $st->finish },
    recv_file => sub { opened(download => 'source')->recv_file("$dir/file") },
    'recv_file, sparse' => sub { opened(download => 'holes')->recv_file("$dir/file", sparse => 1, detect_zeroes => 1, replace => 1) },
    send_file => sub { opened(upload => 'target')->send_file("$dir/file") },
    'send_file, sparse' => sub { opened(upload => 'holes')->send_file("$dir/file", sparse => 1, detect_zeroes => 1) },
    abort => sub { my $st = opened(download => 'source'); $st->recv(my $data, 1000); $st->abort },
    drop => sub { my $st = opened(download => 'source'); $st->recv(my $data, 1000); undef $st },
    'a handler that dies' => sub { my $st = opened(download => 'source'); $st->recv_all(sub { die "mine\n" }) },
    events => sub {
        my ($st, $end) = (opened(download => 'source', 1), 0);
        push @registered, $st;
        $st->add_callback(1, sub {
            my $got = $_[0]->recv(my $data, 150_000);
            $_[0]->update_callback(1);
            return if $got;
            $_[0]->remove_callback; $_[0]->finish; $end = 1;
        });
        for (1 .. 400) { last if $end; Sys::Virt::Event::run_default() }
        die "no end\n" if !$end;
    },
    'events, dropped' => sub { my $st = opened(download => 'source', 1); push @registered, $st; $st->add_callback(1, sub { }); Sys::Virt::Event::run_default(); $st->finish },
);
my $code = $operation{$operation};
eval { $code->() };    # what is made once is made now
# Threads that wait for the next call are no leak.
my $idle = sub { Sys::Virt::Stream::_release_callbacks() };
$idle->();
my ($tasks, $descriptors) = (tasks(), descriptors());
my $round = 0;
my (%bad, %silent);
while (++$round < 60) {
    say_($round, $how, 0);
    my $lived = eval { $code->(); 1 };
    my $error = $@;
    my ($at, undef, $count, undef, $name) = said();
    say_(0, 0, 0);
    last if $count < $round;
    # A callback that stays registered keeps its stream.
    for my $st (splice @registered) { eval { $st->remove_callback }; eval { $st->abort } }
    my $kind = ref $error || $error;
    $silent{$name}++ if $lived;
    $bad{"$name: $kind"}++ if !$lived && ref $error ne 'Sys::Virt::Error' && $error ne "mine\n";
    eval { Sys::Virt::Event::run_default() for 1 .. 2; 1 } or $bad{"$name: a turn: $@"}++;
    my $streams = (said())[3];
    $bad{"$name: $streams streams left"}++ if $streams;
    eval { $conn->get_library_version; 1 } or $bad{"$name: the connection: $@"}++;
}
my $lived = eval { $code->(); 1 };
$bad{"at last: $@"}++ if !$lived && $@ ne "mine\n";
$idle->();
# One that was joined may be in /proc for a moment more, while the kernel takes it down.
my $late = time + 60;
Time::HiRes::sleep(0.01) while tasks() > $tasks && time < $late;
$bad{'threads'}++ if tasks() > $tasks;
$bad{'descriptors'}++ if descriptors() > $descriptors;
print "bad: $_\n" for sort keys %bad;
print "silent: $_\n" for sort keys %silent;
print $round > 1 ? "tried\n" : "nothing to fail\n";
EOP

# What may fail without a word: nothing depends on it any more, or it is tried again.
my %HARMLESS = map { ($_ => 1) } qw(virStreamFree virStreamAbort virStreamEventRemoveCallback virGetLastError malloc);
# Whether a stream was opened, which its drop asks by this call: one that was not is aborted in vain.
my %HARMLESS_IN = (new => { virStreamEventUpdateCallback => 1 });
my @operations = $PROGRAM =~ /^    (?:'([^']+)'|(\w+)) => sub/mg;
@operations = grep { defined } @operations;
my $control = scratch() . '/control';

sub torture {
    my ($operation, $how, $handler) = @_;
    spew($control, "\0" x 4096);
    my $got = run_perl($PROGRAM,
        args => [$daemon->uri, $daemon->pool_dir, $operation, $how, $control, $handler],
        env => { LD_PRELOAD => $library, STREAM_TORTURE => $control });
    my @lines = split /\n/, $got->{out};
    my @bad = grep { !/^(?:silent: (\w+)|tried|nothing to fail)$/ || ($1 && !$HARMLESS{$1} && !$HARMLESS_IN{$operation}{$1}) } @lines;
    $got->{err} = '' if $got->{err} =~ /\A(?:\t\(in cleanup\).*\n)*\z/;
    my $name = unpack 'x16 Z48', slurp($control);
    return ($got, \@bad, $lines[-1] // "ended in $name");
}

for my $operation (@operations) {
    for my $how ([1, 'with an error'], [2, 'without an error']) {
        for my $handler (0, 1) {
            next if $handler && $operation !~ /^(?:recv|send_all|recv_file|send_file|abort|drop)$/;
            my ($got, $bad, $last) = torture($operation, $how->[0], $handler);
            my $name = "$operation, $how->[1]" . ($handler ? ', with a signal handler set' : '');
            is_deeply [@$bad, @$got{qw(err signal hang status)}, $last], ['', 0, 0, 0, 'tried'], $name
                or diag explain $got;
        }
    }
}

# Perl ends the program where an allocation of its own fails, so only this library's own
# are in reach: buffers to receive into, and copies of what is sent.
for my $operation (qw(recv recv_all send send_all sparse_recv_all recv_file send_file), 'recv into an element') {
    for my $handler (0, 1) {
        my ($got, $bad, $last) = torture($operation, 3, $handler);
        is_deeply [@$bad, @$got{qw(err signal hang status)}], ['', 0, 0, 0],
            "$operation, no memory" . ($handler ? ', with a signal handler set' : '')
            or diag explain [$got, $last];
    }
}

done_testing;
