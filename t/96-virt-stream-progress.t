# How far virt-stream has come, for programs; and a limit of how fast it is.
use strict;
use warnings;

use JSON::PP ();
use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;

plan skip_all => 'the C binding has no whole files' unless rust();

my $daemon = daemon();
my $dir = scratch();
my $bytes = 2 << 20;
my $hole = 1 << 20;
sparse_file("$dir/file", data => $bytes, hole => $hole);
sparse_file($daemon->pool_dir . '/source', data => $bytes, hole => $hole);
$daemon->adopt('source');

sub command { my ($arguments, %opt) = @_; return StreamTest::Command->run(['-c', $daemon->uri, @$arguments], %opt) }

sub steps {
    my ($got, $what, $name) = @_;
    is_deeply [@$got{qw(out status)}], ['', 0], $name or diag explain $got;
    my @steps = map { JSON::PP::decode_json($_) } split /\n/, $got->{err};
    is_deeply [grep { join(' ', sort keys %$_) ne 'bytes complete holes seconds total what' } @steps], [], '... each step has all fields';
    is_deeply [grep { $_->{what} ne $what } @steps], [], '... of what is being done';
    is_deeply [map { $_->{bytes} } @steps], [sort { $a <=> $b } map { $_->{bytes} } @steps], '... it only grows';
    is scalar(grep { $_->{complete} } @steps), 1, '... it is complete once';
    my $last = $steps[-1];
    is_deeply [@$last{qw(bytes total complete)}], [$bytes + $hole, $bytes + $hole, JSON::PP::true()], '... at the end';
    return @steps;
}

my @steps = steps(command([qw(--progress json download streams/source), "$dir/down"]), 'download', 'download');
is sha_file("$dir/down"), sha_file("$dir/file"), '... the content';
$daemon->volume('target', $bytes + $hole);
@steps = steps(command(['--progress=json', '--limit', '1M', 'upload', "$dir/file", 'streams/target']), 'upload', 'upload, slowly');
is sha_file($daemon->pool_dir . '/target'), sha_file("$dir/file"), '... the content';
cmp_ok $steps[-1]{seconds}, '>=', $bytes / (1 << 20) - 1, '... no faster than that';
cmp_ok scalar @steps, '>=', 3, '... it is told in between';
@steps = steps(command([qw(-q --progress=json --limit 1MB download streams/source), "$dir/down"]), 'download', 'download, slowly and quietly');
cmp_ok $steps[-1]{seconds}, '>=', $bytes / 1e6 - 1, '... no faster than that';

for ([[qw(--progress xml)], "--progress is json, not 'xml'"], [[qw(--limit 0)], 'a --limit of 0 lets nothing through'],
    [[qw(--limit fast)], "--limit is a number of bytes, with k, M, G, T or P if need be, not 'fast'"]) {
    my ($options, $says) = @$_;
    my $got = command([@$options, qw(download streams/source -)]);
    is_deeply [@$got{qw(out err status)}], ['', "virt-stream: $says\n", 1], "@$options";
}
my $got = command(['--progress=json', 'download', 'streams/source', "$dir/none/x"]);
my @lines = split /\n/, $got->{err};
like $lines[-1], qr{\Avirt-stream: cannot \S+ \Q$dir\E/none/x: No such file or directory\z}, 'a failure is said as ever';
is $got->{status}, 1, '... status 1';

done_testing;
