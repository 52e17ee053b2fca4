# The programs of examples/: what they print, and what they move.
use strict;
use warnings;

use POSIX ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

plan skip_all => 'there are no examples here' unless -d 'examples';
plan skip_all => 'they show what the C binding lacks' unless rust();
my $daemon = daemon();
my $dir = scratch();
my $pool = $daemon->pool_dir;
my @layout = (hole => 4 << 20, data => 300_000, hole => 2 << 20, data => 65_536);
sparse_file("$dir/image", @layout);
my $size = -s "$dir/image";
my $sha = sha_file("$dir/image");
$daemon->volume('full', undef, slurp("$dir/image"));
$daemon->volume('other', undef, pattern(700_000));
$daemon->volume('empty', $size);

sub example {
    my ($name, @args) = @_;
    my $got = run_perl(slurp("examples/$name.pl"), args => \@args);
    is "$got->{status}, $got->{signal}, $got->{hang}, $got->{err}", '0, 0, 0, ', "$name ends well";
    return $got->{out};
}

for my $name (map { m{([^/]+)\z} } glob 'examples/*.pl') {
    my $file = "examples/$name";
    my $got = run_perl(slurp($file));
    like $got->{err}, qr/\Ausage: \S+ URI\b.*\n\z/, "$file says how it is called";
    isnt $got->{status}, 0, 'and fails then';
    like slurp('examples/README.md'), qr/`\Q$name\E /, 'README.md names it';
}

my $shown = example('download', $daemon->uri, "$pool/full", "$dir/down");
like $shown, qr/\A(?:\r +\d+ %)*\r100 %\r$size bytes in \d+\.\d s\n\z/, 'a percentage, and the sum';
is sha_file("$dir/down"), $sha, 'all of the volume';

like example('upload-sparse', $daemon->uri, "$dir/image", "$pool/empty"), qr/\A$size bytes, \d+ of them in holes\n\z/,
    'bytes and holes';
is sha_file("$pool/empty"), $sha, 'all of the file';
SKIP: {
    skip 'no holes here', 1 if blocks("$dir/image") * 512 > 1 << 20;
    cmp_ok blocks("$pool/empty") * 512, '<', 1 << 20, 'with its holes';
}

like example('screenshot', 'test:///default', 'test', "$dir/shot.png"),
    qr{\A\S+/shot\.png: image/png, @{[ -s "$dir/shot.png" ]} bytes\n\z}, 'name, type and length';
is substr(slurp("$dir/shot.png"), 0, 8), "\x89PNG\r\n\x1a\n", 'a PNG';

my @lines = split /^/, example('events', $daemon->uri, "$pool/full", "$pool/other");
is_deeply [sort @lines], [sort map { sha_file("$pool/$_") . "  $pool/$_\n" } qw(full other)], 'both digests';

SKIP: {
    skip 'no guest here', 3 if grep { !StreamTest::has($_) } qw(qemu console);
    my $guest = $daemon->guest;
    pipe my $input, my $typed or die "pipe: $!";
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        close $typed;
        open STDIN, '<&', $input and open STDOUT, '>', "$dir/console"
            and exec { $^X } $^X, (map { "-I$_" } grep { !ref } @INC), 'examples/console.pl',
                $daemon->uri, $guest->get_name;
        POSIX::_exit(127);
    }
    close $input;
    my $seen = sub { my ($what) = @_; within(120, sub { slurp("$dir/console") =~ /$what/ }) };
    within(120, sub { -e "$dir/console" });
    syswrite $typed, '?';
    ok $seen->($daemon->guest_says), 'console: what the guest says';
    syswrite $typed, "hello\n";
    ok $seen->("hello\n"), 'and what it echoes';
    close $typed;
    my $ended = within(60, sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
    is $ended && $?, 0, 'the end of the input is its end';
    kill KILL => $pid unless $ended;
}

done_testing;
