# virt-stream --continue and --retry: what was cut off is gone on with, and not begun again.
use strict;
use warnings;

use List::Util qw(max sum);
use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;
use StreamTest::Files;
use StreamTest::Cut;

plan skip_all => 'the C binding has no whole files' unless rust();

$SIG{PIPE} = 'IGNORE';
my $daemon = daemon();
my $dir = scratch();
my $uri = $daemon->uri;
my $cut = StreamTest::Cut->new($daemon, $dir);

subtest $_ => sub { $cut->rounds($_, 1) } for $cut->ways;

my $content = $cut->content;
sub command { my ($arguments, %opt) = @_; return StreamTest::Command->run(['-c', $uri, @$arguments], %opt) }
sub silent {
    my ($name, $arguments, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got = command($arguments, %opt);
    is_deeply $got, { out => '', err => '', status => 0, signal => 0, hang => 0 }, $name or diag explain $got;
    return;
}
sub fails {
    my ($name, $arguments, $says, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got = command($arguments, %opt);
    like $got->{err}, qr/\Avirt-stream: [^\n]*$says[^\n]*\n\z/, $name;
    is $got->{status}, 1, '... status 1';
    return;
}

subtest 'a part that is not the volume\'s' => sub {
    my @download = ('download', '--continue', 'streams/source', "$dir/part");
    my $begin = sub {
        my ($name) = @_;
        my $run = StreamTest::Command->start(['-c', $uri, '--limit', '2M', 'download', 'streams/source', "$dir/part"]);
        within(60, sub { (-s "$dir/part.partial" // 0) > 2 << 20 }) or diag 'it has not begun';
        kill KILL => $run->pid;
        $run->end;
        ok !-e "$dir/part", "$name: it is not taken for the whole";
        return;
    };
    $begin->('continued');
    silent('it goes on', [@download]);
    is sha_file("$dir/part"), sha($content), '... to the end';
    is_deeply [glob "$dir/part.*"], [], '... and nothing else is left';
    unlink "$dir/part";

    $begin->('begun again');
    silent('without --continue', [grep { $_ ne '--continue' } @download]);
    is sha_file("$dir/part"), sha($content), '... it begins again';
    unlink "$dir/part";

    $begin->('a byte near its end is another');
    my $size = -s "$dir/part.partial";
    my $change = sub {
        my ($at, $byte) = @_;
        open my $fh, '+<:raw', "$dir/part.partial" or die "open: $!";
        sysseek $fh, $at, 0;
        sysread $fh, my $was, 1;
        sysseek $fh, $at, 0;
        syswrite $fh, $byte // chr(255 ^ ord $was);
        return $was;
    };
    my $was = $change->($size - 1000);
    fails('it is refused', [@download], '\S+part.partial is no part of streams/source as it is now; remove it to begin again');
    $change->($size - 1000, $was);
    $was = $change->(5);
    fails('one near the beginning', ['--verify', @download], 'is no part of streams/source as it is now');
    $change->(5, $was);
    silent('put right', ['--verify', @download]);
    is sha_file("$dir/part"), sha($content), '... it goes on to the end';
    unlink "$dir/part";

    $begin->('the volume is written to');
    open my $fh, '+<:raw', volume_path('source') or die "open: $!";
    syswrite $fh, substr $content, 0, 1;
    close $fh;
    fails('another time', [@download], 'is no part of streams/source as it is now');
    unlink glob "$dir/part.*";
    silent('where there is none', [@download]);
    is sha_file("$dir/part"), sha($content), '... it begins';

    $begin->('another writes to it') if unlink "$dir/part";
    open my $other, '<', "$dir/part.partial" or die "open: $!";
    flock $other, 2 or die "flock: $!";
    fails('it is refused', [@download], 'another transfer writes to \S+part.partial');
    close $other;
    unlink glob "$dir/part.*";
    fails('what is no file', [qw(download --continue streams/source -)], '--continue needs a file, and - is none');
    fails('a pipe', [qw(upload --continue - streams/source)], 'how long it is is not known', in => do { pipe my $in, my $out or die $!; $in });
};

subtest 'it keeps what has come' => sub {
    my $run = StreamTest::Command->start(['-c', $uri, '--limit', '2M', 'download', '--continue', 'streams/source', "$dir/part"]);
    within(60, sub { (-s "$dir/part.partial" // 0) > 1 << 20 }) or diag 'it has not begun';
    kill TERM => $run->pid;
    is $run->end->{signal}, 15, 'interrupted';
    cmp_ok -s "$dir/part.partial", '>', 1 << 20, '... the part stays';
    is command(['download', '--continue', '--digest', 'sha256', 'streams/source', "$dir/part"])->{out}, sha($content) . "  $dir/part\n",
        '... and the digest is that of all of it';
    silent('one that is whole', ['download', '--continue', 'streams/source', "$dir/part"]);
    is sha_file("$dir/part"), sha($content), '... the content';
    my $file = spew("$dir/file", $content);
    $daemon->volume('up', length $content);
    silent('upload --continue where there is nothing', ['upload', '--continue', $file, 'streams/up']);
    is command(['upload', '--continue', '--digest=sha256', '--verify', $file, 'streams/up'])->{out}, sha($content) . "  $file\n", '... where there is all';
};

subtest 'retry' => sub {
    my $proxy = $cut->proxy;
    for my $way ('download', 'upload') {
        $daemon->volume('up', length $content);
        unlink "$dir/part";
        $proxy->rule(moved => "$dir/moved.$way.0");
        my ($from, @what) = $way eq 'download' ? ('server', 'streams/source', "$dir/part") : ('client', "$dir/file", 'streams/up');
        my $run = StreamTest::Command->start(['-c', $daemon->uri($proxy->socket), '--limit', '4M', '--retry', 5, $way, @what]);
        for my $cut (1 .. 2) {
            within(60, sub { $proxy->moved($from) > 500_000 }) or diag "$way does not go on";
            $proxy->rule(moved => "$dir/moved.$way.$cut");
        }
        my $got = $run->end;
        is_deeply $got, { out => '', err => '', status => 0, signal => 0, hang => 0 }, "$way, with a connection that breaks" or diag explain $got;
        is sha_file($way eq 'download' ? "$dir/part" : volume_path('up')), sha($content), '... the content';
    }
    my $run = StreamTest::Command->start(['-c', $daemon->uri($proxy->socket), qw(--limit 4M --retry 0 download streams/source), "$dir/part"]);
    within(60, sub { -s "$dir/part.partial" });
    $proxy->cut;
    is $run->end->{status}, 1, 'no more tries: status 1';
    ok -s "$dir/part.partial", '... the part stays';
};

done_testing;
