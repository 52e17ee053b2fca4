# recv_file and send_file when the daemon is killed, restarted or stopped for a while, and
# when the connection is cut: an exception in bounded time, and the program goes on.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Files;
use StreamTest::Proxy;

plan skip_all => 'the C binding has no such methods' unless rust();

my $daemon = daemon();
my $dir = scratch();
my $content = pattern(6 << 20);
$daemon->volume('source', undef, $content);
my $file = spew("$dir/file", $content);
my @holes = map { (hole => 1 << 20, data => 1 << 20) } 1 .. 4;
sparse_file("$dir/holes", @holes);
sparse_file(volume_path('holes'), @holes);
$daemon->adopt('holes');
$daemon->volume('target', length $content);
my $proxy = StreamTest::Proxy->start($daemon->socket);
$SIG{PIPE} = 'IGNORE';

# On a connection of its own: the stream, and the call.
my %way = (
    recv_file => ['server', sub { download('source', conn => $_[0]) }, sub { $_[0]->recv_file("$dir/target") }],
    'recv_file, sparse' => ['server', sub { download('holes', conn => $_[0], sparse => 1) },
        sub { $_[0]->recv_file("$dir/target", sparse => 1, detect_zeroes => 1) }],
    send_file => ['client', sub { upload('target', conn => $_[0]) }, sub { $_[0]->send_file($file) }],
    'send_file, sparse' => ['client', sub { upload('target', conn => $_[0], sparse => 1) },
        sub { $_[0]->send_file("$dir/holes", sparse => 1, detect_zeroes => 1) }],
);
sub transfer {
    my ($way, $uri, $meanwhile) = @_;
    my (undef, $open, $run) = @$way;
    # A cut may come as early as the opening.
    return error_of(sub { $run->($open->(Sys::Virt->new(uri => $uri))) }) if !$meanwhile;
    my $st = $open->(Sys::Virt->new(uri => $uri));
    return while_paused(sub { $run->($st) }, $meanwhile);
}
sub descriptors { my @all = glob '/proc/self/fd/*'; return scalar @all }

for my $name (sort keys %way) {
    my ($way, $uri) = ($way{$name}, $daemon->uri);
    my $before = descriptors();
    is transfer($way, $uri), undef, "$name: undisturbed";
    is transfer($way, $uri, sub { }), undef, 'stopped for a while';
    for my $handler (0, 1) {
        local $SIG{USR1} = sub { } if $handler;
        my $with = $handler ? ', with a signal handler set' : '';
        isa_ok transfer($way, $uri, sub { kill KILL => $daemon->pid }), 'Sys::Virt::Error', "killed$with";
        $daemon->kill;
        $daemon->launch;
    }
    is transfer($way, $uri), undef, 'it works on a new connection';
    cmp_ok descriptors(), '<=', $before, 'no descriptor is left open';
}

for my $name (sort keys %way) {
    my ($way, $uri) = ($way{$name}, $daemon->uri($proxy->socket));
    subtest "$name: the connection" => sub {
        $proxy->rule;
        is transfer($way, $uri), undef, 'undisturbed';
        my $before = descriptors();
        for my $nth (1, 2) {
            for my $at (0, 4, 28, 29, 50_000) {
                $proxy->rule(do => 'cut', side => $way->[0], nth => $nth, at => $at);
                isa_ok transfer($way, $uri), 'Sys::Virt::Error', "message $nth cut at byte $at";
            }
        }
        $proxy->rule(do => 'trickle', side => $way->[0], nth => 2);
        is transfer($way, $uri), undef, 'a message that trickles in';
        is descriptors(), $before, 'no descriptor is left open';
    };
}

subtest 'the answer to the end is cut off' => sub {
    $proxy->rule(do => 'cut', side => 'server', nth => 1, at => 0);
    isa_ok transfer($way{send_file}, $daemon->uri($proxy->socket)), 'Sys::Virt::Error', 'an upload is not whole without it';
};

# A daemon that does not answer: an alarm gets out.
for my $name (sort keys %way) {
    my (undef, $open, $run) = @{ $way{$name} };
    my $st = $open->($daemon->conn);
    local $SIG{ALRM} = sub { $daemon->resume; die "alarm\n" };
    $daemon->pause;
    my $error = error_of(sub { alarm 1; $run->($st) });
    $daemon->resume;
    deadline();
    is $error, "alarm\n", "$name: a daemon that does not answer";
}
ok $daemon->conn->get_library_version, 'the connection goes on';

done_testing;
