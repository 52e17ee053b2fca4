# One program with sockets, unchanged under every event loop.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd qemu console);
use StreamTest::Sockets;
use StreamTest::Turns;

plan skip_all => 'the C binding has no socket' unless rust();

my $daemon = daemon();
my $size = 6_000_001;
$daemon->volume('down', undef, pattern($size));
my $guest = $daemon->guest;

for my $loop (StreamTest::Sockets::names()) {
    my $module = StreamTest::Sockets::module($loop);
    SKIP: {
        my $package = 'lib' . lc(($module // '') =~ s/::/-/gr) . '-perl';
        skip "$module is missing", 2 if $module && !has_module($module, $package);
        $daemon->volume('up', $size);
        ok_perl(<<'PERL', "console=answered down=same up=$size\n", "$loop: a download, an upload, a console",
            use Sys::Virt;
            use StreamTest::Sockets;
            StreamTest::Sockets::run(@ARGV);
PERL
            args => [$loop, $daemon->uri, $guest->get_name, $size]);
        is sha_file($daemon->pool_dir . '/up'), sha(pattern($size)), "$loop: what was uploaded";
    }
}

subtest 'a console whose input has ended' => sub {
    my $conn = $daemon->conn;
    $conn->get_domain_by_name($guest->get_name)->open_console(my $st = $conn->new_stream, undef, 0);
    my $socket = $st->socket;
    syswrite $socket, 'half';
    shutdown $socket, 1;
    my $said = '';
    while ($said !~ /half/) { sysread $socket, $said, 100, length $said or last }
    like $said, qr/half/, 'still says something';
    is_deeply [$st->finish], [], 'and is finished';
};

StreamTest::Turns::every('a picture, also without a daemon', <<'PERL', out => "3 times the same\n");
use IO::Select;
my $want = '';
my $st = opened(0);
$st->recv_all(sub { $want .= $_[1]; $_[2] });
$st->finish;
my @streams = map { opened(0) } 1 .. 3;
my $same = 0;
for my $st (@streams) {
    my $socket = $st->socket;
    my $got = '';
    turns_until(sub { IO::Select->new($socket)->can_read(0) && !sysread $socket, $got, 4000, length $got });
    $st->finish;
    $same++ if $got eq $want;
}
print "$same times the same\n";
PERL

done_testing;
