# What virt-stream's files may be: descriptors that are closed, that are shared, or that have no
# name; and which Sys::Virt::Stream it runs on.
use strict;
use warnings;

use File::Copy qw(copy);
use File::Path qw(make_path);
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;

plan skip_all => 'the C binding has no whole files' unless rust();

my $daemon = daemon();
my $uri = $daemon->uri;
my $dir = scratch();
my $content = pattern(300_001);
$daemon->volume('source', undef, $content);
my $zeroes = "\0" x 400_000;
my $volume = $daemon->pool_dir . '/target';
$daemon->volume('target', length $zeroes);

# Through a shell, in which "$@" is the command.
sub shell {
    my ($script, @arguments) = @_;
    my $through = spew("$dir/through.sh", "$script\n");
    return StreamTest::Command->run(['-c', $uri, @arguments], through => ['sh', $through]);
}

sub fails {
    my ($got, $why, $name) = @_;
    is_deeply [@$got{qw(err out status)}], ["virt-stream: $why\n", '', 1], $name or diag explain $got;
    return;
}

subtest 'closed descriptors' => sub {
    for my $in ('-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0') {
        fails(shell('exec "$@" <&-', 'upload', $in, 'streams/target'), 'cannot read standard input: it is closed', "upload $in");
    }
    is slurp($volume), $zeroes, '... and nothing is uploaded';
    fails(shell('exec "$@" >&-', qw(download streams/source), $_), 'cannot write standard output: it is closed', "download $_")
        for '-', '/dev/stdout';
    fails(shell('exec "$@" 9>&-', qw(download streams/source /dev/fd/9)), 'cannot write file descriptor 9: Bad file descriptor', 'one that is not open');
    # The file must not get the number that standard error has, nor must a connection.
    my $got = shell('exec "$@" <&- >&- 2>&-', qw(download streams/source), "$dir/all-closed");
    is $got->{status}, 0, 'none is needed for a file';
    is sha_file("$dir/all-closed"), sha($content), '... which is whole';
    $got = shell('exec "$@" 2>&-', qw(download streams/nosuch -));
    is_deeply [@$got{qw(out status)}], ['', 1], 'without standard error an error is its status';
};

subtest 'descriptors are what they are' => sub {
    for my $name ('-', qw(/dev/stdout /dev/fd/1 /proc/self/fd/1)) {
        my $got = shell(qq({ echo head; "\$@"; echo tail; } >$dir/shared), qw(download streams/source), $name);
        is_deeply [@$got{qw(err status)}], ['', 0], "download $name" or diag explain $got;
        is sha_file("$dir/shared"), sha("head\n${content}tail\n"), '... between what the shell writes';
    }
    shell(qq({ "\$@"; echo tail >&3; } 3>$dir/shared), qw(download streams/source /dev/fd/3));
    is sha_file("$dir/shared"), sha("${content}tail\n"), 'the third';
    shell(qq({ rm $dir/shared; "\$@"; echo tail; cat <&4 >$dir/kept; } >$dir/shared 4<$dir/shared), qw(download streams/source /dev/stdout));
    is sha_file("$dir/kept"), sha("${content}tail\n"), 'a file that has no name any more';
    is_deeply [grep { /deleted/ } glob "$dir/*"], [], '... gets none';

    spew("$dir/from", "line\n$content");
    for my $name ('-', qw(/dev/stdin /dev/fd/0)) {
        spew($volume, $zeroes);
        my $got = shell(qq({ read line; "\$@"; } <$dir/from), 'upload', $name, 'streams/target');
        is_deeply [@$got{qw(err status)}], ['', 0], "upload $name" or diag explain $got;
    }
    # dash reads byte by byte, so that the rest of the line's buffer is not lost.
    is sha(substr slurp($volume), 0, length $content), sha($content), '... from where the shell has left it';
    fails(shell(qq(exec "\$@" 3<$dir/from), qw(download streams/source /dev/fd/3)),
        'cannot download streams/source: the filehandle is not open to write', 'a descriptor that is only read from');
};

subtest 'a name that means a folder' => sub {
    for my $name ('new/', 'new/.') {
        fails(shell('exec "$@"', qw(download streams/source), "$dir/$name"), "cannot write $dir/$name: it is a directory", $name);
    }
};

# Beside the command's own modules there is the C binding's file, as when Sys::Virt is installed again.
subtest 'another Stream.pm' => sub {
    # Our Debian package puts the C binding's file aside.
    my ($c_binding) = grep { -e && slurp($_) !~ /sub implementation/ }
        map { my $file = "$_/Sys/Virt/Stream.pm"; ($file, "$file.c-binding") } grep { !ref && m{^/} && !/\bblib\b/ } @INC;
    plan skip_all => 'no C binding here' unless $c_binding;
    make_path("$dir/lib/Sys/Virt");
    copy($c_binding, "$dir/lib/Sys/Virt/Stream.pm") or die "copy: $!";
    for my $arguments (['--version'], [qw(download streams/source -)]) {
        my $got = StreamTest::Command->run(['-c', $uri, @$arguments], env => { PERL5OPT => "-Mlib=$dir/lib" });
        fails($got, "$dir/lib/Sys/Virt/Stream.pm is not the Sys::Virt::Stream that virt-stream is a part of: "
            . 'install that one again, or name its folder in PERL5LIB', "@$arguments");
    }
};

done_testing;
