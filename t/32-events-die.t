# A callback that dies, in programs of their own: the C binding leaves libvirt's
# frames behind as it was when that happened.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);

my $START = <<'EOP';
use strict;
use warnings;
use Sys::Virt;
Sys::Virt::Event::register_default();
my $timer = Sys::Virt::Event::add_timeout(20, sub { });
my $conn = Sys::Virt->new(uri => $ARGV[0]);
my $st = $conn->new_stream(Sys::Virt::Stream::NONBLOCK);
$conn->get_domain_by_name('test')->screenshot($st, 0);
my ($calls, $bytes, $end) = (0, 0, 0);
EOP

my $DIES = $START . <<'EOP';
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { die { reason => 'mine' } });
for (1 .. 100) {
    next if eval { Sys::Virt::Event::run_default(); 1 };
    print "$@->{reason}\n";
    last;
}
EOP

# Only where the loop is left in order can it be used again.
my $GOES_ON = $START . <<'EOP';
my @caught;
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub {
    my ($self) = @_;
    die "call $calls\n" if ++$calls <= 3;
    my $count = $self->recv(my $data, 5_000);
    return if $count == -2;
    if ($count == 0) { $self->remove_callback; $self->finish; $end = 1 }
    $bytes += $count;
});
for (1 .. 10_000) {
    last if $end;
    eval { Sys::Virt::Event::run_default(); 1 } or push @caught, $@;
}
print @caught, $end ? "end\n" : "stuck\n", $bytes > 10_000 ? "sent\n" : "lost\n";
EOP

my %on = (local => 'test:///default');
$on{remote} = daemon()->test_uri if StreamTest::has('libvirtd');
for my $where (sort keys %on) {
    # Left by an _exit: what the C binding skipped may hang its destructors.
    ok_perl($DIES . 'use POSIX (); $| = 1; print ""; POSIX::_exit(0);', "mine\n",
        "$where: the exception comes out of run_default", args => [$on{$where}]);
    SKIP: {
        skip 'the C binding\'s loop is lost after that', 1 unless rust();
        ok_perl($GOES_ON, "call 1\ncall 2\ncall 3\nend\nsent\n",
            "$where: later events still arrive", args => [$on{$where}]);
    }
}

done_testing;
