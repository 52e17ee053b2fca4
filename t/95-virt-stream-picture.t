# virt-stream screenshot: a PNG whatever comes, and a PPM where that is asked for.
use strict;
use warnings;

use Compress::Zlib ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd qemu);
use StreamTest::Command;
use Sys::Virt::Stream::Command::Picture;

plan skip_all => 'the C binding has no whole files' unless rust();

my $dir = scratch();

# What a PNG shows, by the specification: its width, height and depth, and the bytes of its rows.
sub shown {
    my ($png) = @_;
    $png =~ s/\A\x89PNG\r\n\x1a\n// or return 'no PNG';
    my ($head, $data, $ended) = ('', '', 0);
    while (length $png) {
        return 'something behind the end' if $ended;
        my ($length, $name) = unpack 'N a4', $png;
        my $chunk = substr $png, 8, $length;
        return "a wrong sum of $name" if unpack('N', substr $png, 8 + $length, 4) != Compress::Zlib::crc32($name . $chunk);
        $head = $chunk if $name eq 'IHDR';
        $data .= $chunk if $name eq 'IDAT';
        $ended = 1 if $name eq 'IEND';
        substr($png, 0, 12 + $length) = '';
    }
    return 'no end' unless $ended;
    my ($width, $height, $bits, $colours, @rest) = unpack 'N2C5', $head;
    return "another kind: $colours @rest" if "$colours @rest" ne '2 0 0 0';
    my $raw = Compress::Zlib::uncompress($data) // return 'no pixels';
    my $row = $width * 3 * $bits / 8;
    my $pixels = '';
    for my $n (0 .. $height - 1) {
        return 'a filter' if substr($raw, $n * ($row + 1), 1) ne "\0";
        $pixels .= substr $raw, $n * ($row + 1) + 1, $row;
    }
    return 'too many rows' if length $raw != $height * ($row + 1);
    return "$width x $height of $bits bits: " . sha($pixels);
}

sub converted {
    my ($ppm, $piece) = @_;
    my $png = '';
    my $picture = Sys::Virt::Stream::Command::Picture->new(sub { $png .= $_[0] });
    for (my $at = 0; $at < length $ppm; $at += $piece) { $picture->take(substr $ppm, $at, $piece) }
    $picture->complete;
    return $png;
}

subtest 'pixels' => sub {
    my %ppm = (
        '7 x 5 of 8 bits'     => ["P6\n7 5\n255\n", 7 * 5 * 3],
        '1 x 1 of 8 bits'     => ["P6 1\t1\r255 ", 3],
        '3 x 4 of 16 bits'    => ["P6\n3 4\n65535\n", 3 * 4 * 6],
        '640 x 480 of 8 bits' => ["P6\n# made by hand\n640 #wide\n480\n255\n", 640 * 480 * 3],
    );
    for my $is (sort keys %ppm) {
        my ($head, $length) = @{ $ppm{$is} };
        my $pixels = pattern($length);
        for my $piece (1, 1000, 262_120) {
            next if $piece == 1 && $length > 10_000;
            is shown(converted($head . $pixels, $piece)), "$is: " . sha($pixels), "$is, in pieces of $piece";
        }
    }
    for (['', qr/no PPM/], ["P5\n1 1\n255\n.", qr/no PPM/], ["P6\n1 1\n7\n...", qr/colours up to 7/], ["P6\n2 2\n255\n" . 'x' x 6, qr/1 of its rows are missing/],
        ['P6 ' . '#' x 9000, qr/no PPM/], ["P6\n0 1\n255\n", qr/empty/]) {
        my ($ppm, $why) = @$_;
        like error_of(sub { converted($ppm, 100) }), $why, "none of it: $why";
    }
};

subtest 'a PNG that comes' => sub {
    my @on = qw(-c test:///default screenshot);
    my $png = StreamTest::Command->run([@on, qw(test -)])->{out};
    for (['-'], [qw(--format png -)], ['/dev/stdout']) {
        my $got = StreamTest::Command->run([@on, 'test', @$_]);
        is $got->{out}, $png, "@$_";
    }
    for (['test', "$dir/shot.ppm"], [qw(--format ppm test -)]) {
        my $got = StreamTest::Command->run([@on, @$_]);
        is $got->{err}, "virt-stream: the hypervisor sends image/png, of which no PPM is made\n", "@$_";
    }
    ok !-e "$dir/shot.ppm", 'and there is no file';
    my $got = StreamTest::Command->run([@on, qw(--format gif test -)]);
    is $got->{err}, "virt-stream: --format is png or ppm, not 'gif'\n", 'no such format';
};

# QEMU has come to send PNG. What an older one sends comes out of a volume, in the same way.
my $daemon = daemon();
my $guest = $daemon->guest(paused => 1);
subtest 'a PPM that comes' => sub {
    my $name = $guest->get_name;
    my ($width, $height) = (720, 400);
    my $ppm = "P6\n$width $height\n255\n" . pattern($width * $height * 3);
    $daemon->volume('ppm', undef, $ppm);
    spew("$dir/SendsPPM.pm", <<'EOP');
package SendsPPM;
use Sys::Virt; use Sys::Virt::Stream;
no warnings 'redefine';
my ($conn, $was) = (undef, \&Sys::Virt::new_stream);
*Sys::Virt::new_stream = sub { $conn = $_[0]; goto &$was };
*Sys::Virt::Domain::screenshot = sub ($$$;$) {
    die bless { level => 2, code => 8, domain => 0, message => "no screen $_[2]" }, 'Sys::Virt::Error' if $_[2] != 0;
    $conn->get_storage_volume_by_path($ENV{PPM})->download($_[1], 0, 0);
    return 'image/x-portable-pixmap';
};
1;
EOP
    my %sends = (env => { PERL5OPT => "-I$dir -MSendsPPM", PPM => $daemon->pool_dir . '/ppm' });
    my $command = sub { StreamTest::Command->run(['-c', $daemon->uri, 'screenshot', @_], %sends) };
    my $is = "$width x $height of 8 bits: " . sha(substr $ppm, -$width * $height * 3);
    is $command->($name, '-')->{out}, $ppm, 'as it comes';
    is $command->($name, "$dir/shot.ppm")->{status}, 0, '.ppm';
    is slurp("$dir/shot.ppm"), $ppm, '... stays that';
    umask 026;
    is_deeply $command->($name, "$dir/shot.png"), { out => '', err => '', status => 0, signal => 0, hang => 0 }, '.png';
    is shown(slurp("$dir/shot.png")), $is, '... is a PNG';
    is +(stat "$dir/shot.png")[2] & 07777, 0640, '... with the permissions of a new file';
    umask 022;
    chmod 0604, "$dir/shot.png";
    symlink 'shot.png', "$dir/link.PNG";
    is $command->($name, "$dir/link.PNG")->{status}, 0, 'over an old one, through a link';
    is shown(slurp("$dir/shot.png")), $is, '... is a PNG';
    ok -l "$dir/link.PNG", '... the link stays';
    is +(stat "$dir/shot.png")[2] & 07777, 0604, '... and the permissions';
    is shown($command->(qw(--format png), $name, '-')->{out}), $is, 'to standard output';
    is_deeply [grep { /shot/ } glob "$dir/.[!.]*"], [], 'no other file is left';
    my $got = $command->($name, "$dir/none/shot.png");
    like $got->{err}, qr{\Avirt-stream: cannot write \Q$dir\E/none/shot.png: No such file or directory\n\z}, 'no such folder';
    SKIP: {
        skip 'no full device here', 1 unless -c '/dev/full';
        $got = $command->(qw(--format png), $name, '/dev/full');
        like $got->{err}, qr{\Avirt-stream: cannot [^\n]*No space left on device\n\z}, 'a full disk';
    }
    $got = $command->(qw(--screen 7), $name, '-');
    like $got->{err}, qr/\Avirt-stream: cannot take a screenshot of \Q$name\E: \S/, 'a screen that is not there';
    is $got->{status}, 1, '... status 1';
};
$guest->destroy if $guest;

done_testing;
