# One program with sockets, unchanged under every event loop.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd qemu console);
use StreamTest::Sockets;

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

done_testing;
