# A daemon confirms every end of an upload. libvirt's client takes the first confirmation for all
# ends, and closes the connection over another one that finds no call waiting. So an end that is
# left without an answer is not followed by another.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Proxy;

plan skip_all => 'the C binding never leaves such a call' unless rust();
my $daemon = daemon();
my $path = $daemon->pool_dir . '/target';
$daemon->volume('target', 6 << 20);
my $proxy = StreamTest::Proxy->start($daemon->socket);

# What is called, what ends it, and what the daemon is told.
for my $case ([finish => 'alarm', 'finish'], [abort => 'alarm', 'abort'], [send_all => 'refused', 'abort']) {
    my ($name, $by, $end) = @$case;
    my $told = scratch() . "/$name";
    $proxy->rule(do => 'silence', ends => $told);
    ok_perl(<<'EOP', "$by\n", "$name is left", args => [$daemon->uri($proxy->socket), $path, $name]);
use strict; use warnings; use Sys::Virt; use POSIX ();
my ($uri, $path, $name) = @ARGV;
$| = 1;
my $conn = Sys::Virt->new(uri => $uri);
my $all = $name eq 'send_all';
# One that does not block is refused, and aborted.
my $st = $conn->new_stream($all ? Sys::Virt::Stream::NONBLOCK : 0);
$conn->get_storage_volume_by_path($path)->upload($st, 0, 0);
$SIG{ALRM} = sub { die "alarm\n" };
print eval { alarm 1 if !$all; $st->$name($all ? sub { 0 } : ()); 1 } ? "ended\n"
    : !ref $@ ? $@ : $@->{code} == 55 ? "refused\n" : "$@\n";
undef $st;
POSIX::_exit(0);    # the connection would wait for an answer to its own end
EOP
    is slurp($told), "$end\n", 'and the daemon was told of one end';
}

done_testing;
