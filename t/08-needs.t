#!perl
# What the scripts that install packages say to a user who may not install any.

use strict;
use warnings;

use File::Copy qw(copy);
use File::Temp ();
use POSIX ();
use Test::More;

my $needs = 'tools/needs.sh';
plan skip_all => "no $needs here" unless -e $needs;

# A machine with a shell, apt's commands, and nothing to build with.
my $dir = File::Temp->newdir;
chmod 0755, $dir or die "$dir: $!";
copy($needs, "$dir/needs.sh") or die "$needs: $!";
for my $tool (qw(sh id tr sed)) {
    my ($found) = grep { -x } map { "$_/$tool" } split /:/, $ENV{PATH};
    symlink $found, "$dir/$tool" or die "$tool: $!";
}
tool('apt-get', 'echo "apt-get must not run" >&2; exit 1');
tool('apt-cache', '');

my ($status, $said) = needs('build');
isnt $status, 0, 'without root and sudo the script ends';
like $said, qr/missing, there is no sudo here, and you are not root/, '... and says why';
like $said, qr/^    apt-get update && apt-get install --no-install-recommends .*\bmake gcc\b.*\bcargo rustc\b/m,
    '... and what to ask for';
unlike $said, qr/must not run/, '... and has not tried to install it';

tool('sudo', 'exit 1');
($status, $said) = needs('test');
isnt $status, 0, 'a user whom sudo does not know';
like $said, qr/missing, sudo refuses, .*\n.*apt-get install .*\bqemu-utils\b/, '... is told, too';

done_testing;

sub tool {
    my ($name, $does) = @_;
    open my $fh, '>', "$dir/$name" or die "$name: $!";
    print {$fh} "#!/bin/sh\n$does\n";
    close $fh or die "$name: $!";
    chmod 0755, "$dir/$name";
}

sub needs {
    my ($what) = @_;
    my $pid = open my $out, '-|';
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        %ENV = (PATH => "$dir", HOME => "$dir", PERL => $^X);
        open STDERR, '>&', \*STDOUT;
        my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
        if ($> == 0) {
            $) = "$gid $gid";
            POSIX::setgid($gid);
            POSIX::setuid($uid);
        }
        exec "$dir/sh", '-c', '. "$0"; needs "$1"', "$dir/needs.sh", $what
            or POSIX::_exit(127);
    }
    local $/;
    my $text = <$out>;
    close $out;
    return ($?, $text);
}
