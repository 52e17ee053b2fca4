# virt-stream's options when the daemon dies, the connection is cut, the disk is full or the program
# is ended: one line that says why, and nothing is left, or what is to be gone on with.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;
use StreamTest::Files;
use StreamTest::Proxy;

plan skip_all => 'the C binding has no whole files' unless rust();

$SIG{PIPE} = 'IGNORE';
my $daemon = daemon();
my $dir = scratch();
my $content = pattern(4 << 20);
my $file = spew("$dir/file", $content);
$daemon->volume('source', undef, $content);
my $proxy = StreamTest::Proxy->start($daemon->socket);
my $uri = $daemon->uri($proxy->socket);
our $MIDDLE = 700_000;

# What is moved, and whose data goes through the proxy.
my $down = { side => 'server', command => ['download', 'streams/source', "$dir/got"], path => "$dir/got" };
my $up = { side => 'client', command => ['upload', $file, 'streams/new'], path => volume_path('new') };
my $copy_to = { side => 'client', command => ['copy', '--from', $daemon->uri, 'streams/source', 'streams/new'], path => volume_path('new') };
my $copy_from = { side => 'server', command => ['copy', '--to', $daemon->uri, 'streams/source', 'streams/new'], path => volume_path('new') };

# Who cuts it off when it is half-way, and how that ends.
my %FAULT = (
    connection => sub { $proxy->cut },
    daemon => sub { $daemon->kill },
    program => sub { kill TERM => $_[0]->pid },
    disk => sub { $daemon->limit_files(1 << 20) },
);

sub left { return join ' ', map { s{.*/}{}r } grep { !-d } glob "$dir/got* $dir/.got*" }
sub there { return -e volume_path('new') || eval { $daemon->pool->refresh; $daemon->pool->get_volume_by_name('new') } ? 1 : 0 }

# Starts it, and sees to its fault.
sub half_way {
    my ($what, $fault, @options) = @_;
    unlink glob("$dir/got*"), "$dir/moved";
    $proxy->rule(moved => "$dir/moved");
    my $run = StreamTest::Command->start(['-c', $uri, qw(--limit 4M), @options, @{ $what->{command} }]);
    within(120, sub { $proxy->moved($what->{side}) > $MIDDLE || $run->reap });
    $FAULT{$fault}->($run);
    return $run->end;
}

sub mend {
    my ($fault) = @_;
    $daemon->kill if $fault eq 'disk';
    $daemon->launch if $fault =~ /disk|daemon/;
    $proxy->rule;
    return $daemon->pool;
}

sub failed {
    my ($got, $fault, $name) = @_;
    my @want = $fault eq 'program' ? ('', 0, 15) : ('', 1, 0);
    is_deeply [@$got{qw(out status signal)}], \@want, $name or diag explain $got;
    like $got->{err}, $fault eq 'program' ? qr/\A\z/ : qr/\Avirt-stream: [^\n]+\n\z/, '... one line says why';
    return;
}

sub goes_on {
    my ($what, @options) = @_;
    my $got = StreamTest::Command->run(['-c', $uri, '--continue', @options, @{ $what->{command} }]);
    is_deeply [@$got{qw(err status)}], ['', 0], '... it goes on' or diag explain $got;
    is sha_file($what->{path}), sha($content), '... to the end';
    return;
}

for my $fault (qw(connection daemon program)) {
    failed(half_way($down, $fault, qw(--verify --digest sha256)), $fault, "download --verify --digest: $fault");
    is left(), '', '... nothing is left';
    mend($fault);
    failed(half_way($down, $fault, '--continue'), $fault, "download --continue: $fault");
    is left(), 'got.partial got.partial.from', '... the part is';
    mend($fault);
    goes_on($down, '--verify');
}

for ([upload => $up], ['copy, its target' => $copy_to], ['copy, its source' => $copy_from]) {
    my ($name, $what) = @$_;
    for my $fault (qw(connection daemon program disk)) {
        next if $fault eq 'disk' && (!$daemon->bears_failed_uploads || !StreamTest::find_program('prlimit'));
        my $got = half_way($what, $fault, qw(--create --verify --digest sha256));
        failed($got, $fault, "$name --create --verify --digest: $fault");
        # Without a daemon nobody can remove it.
        like $got->{err}, qr/; the volume new of pool streams can't be removed$/, '... and what is left' if $fault eq 'daemon';
        mend($fault);
        is there(), $fault eq 'daemon' ? 1 : 0, '... whether the volume is left';
        unlink volume_path('new');
        next if $fault eq 'program';
        $daemon->volume('new', 1000);
        failed(half_way($what, $fault, '--resize'), $fault, "$name --resize: $fault");
        mend($fault);
        goes_on($what);
        unlink volume_path('new');
        $daemon->pool->refresh;
    }
}

# libvirt cuts a volume off at the end of a hole that it is sent.
subtest 'a volume with holes' => sub {
    plan skip_all => 'no holes in this file system' unless keeps_holes($dir);
    my @holes = map { (data => 1 << 20, hole => 2 << 20) } 1 .. 3;
    my $sha = sha_file(sparse_file("$dir/holes", @holes));
    sparse_file(volume_path('holes'), @holes);
    $daemon->adopt('holes');
    my $all = -s "$dir/holes";
    for ([upload => $up, "$dir/holes"], [copy => $copy_to, 'streams/holes']) {
        my ($name, $what, $from) = @$_;
        my %thin = (%$what, command => [map { $_ eq $file || $_ eq 'streams/source' ? $from : $_ } @{ $what->{command} }]);
        for my $fault (qw(connection program killed)) {
            local $FAULT{killed} = sub { kill KILL => $_[0]->pid };
            local $MIDDLE = 1_300_000;
            $daemon->volume('new', $all + 1000);
            half_way(\%thin, $fault);
            mend($fault);
            # A program that was killed leaves it cut off, if the daemon has come to a hole by then.
            is -s volume_path('new'), $all + 1000, "$name: $fault: the size" if $fault ne 'killed';
            my $got = StreamTest::Command->run(['-c', $uri, '--continue', '--verify', @{ $thin{command} }]);
            is_deeply [@$got{qw(err status)}], ['', 0], "$name: $fault: it goes on" or diag explain $got;
            is sha(substr slurp(volume_path('new')), 0, $all), $sha, '... to the end';
        }
    }
    unlink volume_path('new');
};

# By itself, whatever has broken the connection.
for ([download => $down], [upload => $up], ['copy, its target' => $copy_to], ['copy, its source' => $copy_from]) {
    my ($name, $what) = @$_;
    unlink volume_path('new');
    $daemon->pool->refresh;
    for my $fault (qw(connection daemon)) {
        local $FAULT{daemon} = sub { $daemon->kill; $daemon->launch; $daemon->pool };
        my $got = half_way($what, $fault, '--retry', 5, '--digest', 'sha256', $what == $down ? () : $fault eq 'daemon' ? '--resize' : '--create');
        is_deeply [@$got{qw(err status)}], ['', 0], "$name --retry: $fault" or diag explain $got;
        like $got->{out}, qr/\A${\ sha($content) }  /, '... the digest is that of all of it';
        is sha_file($what->{path}), sha($content), '... and it is there';
        $daemon->volume('new', 1000);
    }
}

# What is written is whole, and the connection is cut while it is read back.
unlink volume_path('new');
$daemon->pool->refresh;
$proxy->rule(do => 'cut', side => 'server', nth => 10);
failed(StreamTest::Command->run(['-c', $uri, qw(--create --verify --digest sha256), @{ $up->{command} }]), 'connection', 'upload --verify: reading back');
$proxy->rule;
is there(), 0, '... nothing is left';

subtest 'a full disk here' => sub {
    my $limited = spew("$dir/limited.sh", qq{ulimit -f 1024; exec "\$@"\n});
    for my $options ([qw(--verify --digest sha256)], ['--continue'], [qw(--retry 3)]) {
        unlink glob "$dir/got*";
        my $got = StreamTest::Command->run(['-c', $uri, @$options, @{ $down->{command} }], through => ['sh', $limited]);
        failed($got, 'disk', "download @$options");
        is left(), $options->[0] eq '--verify' ? '' : 'got.partial got.partial.from', '... what is left';
    }
    goes_on($down);
};

subtest 'a picture' => sub {
    plan skip_all => 'no full device here' unless -c '/dev/full';
    my $got = StreamTest::Command->run([qw(-c test:///default screenshot --format png test /dev/full)]);
    failed($got, 'disk', 'screenshot --format');
};

done_testing;
