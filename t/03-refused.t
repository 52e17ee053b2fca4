#!perl
# A library that was built for another version of the module is refused, and so is a
# library that is not one; neither leaves half a module behind.

use strict;
use warnings;
use lib 't/lib';

use Test::More;
use StreamTest::Tree;

my $tree = StreamTest::Tree->new;
my ($ok, $out) = $tree->make;
ok $ok, 'make' or BAIL_OUT($out);
my @try = ('-w', '-Mblib', '-e', 'use Sys::Virt::Stream; print Sys::Virt::Stream->implementation');
($ok, $out) = $tree->perl(@try);
like $out, qr/rust$/, 'the library and the module are of one version';

my $module = $tree->path('blib/lib/Sys/Virt/Stream.pm');
my $text   = slurp($module);
my ($version) = $text =~ /^our \$VERSION = '([0-9.]+)';/m;
ok $version, 'the version of the module';
spew($module, $text =~ s/^our \$VERSION = '\K[0-9.]+/9.8.7/mr);
($ok, $out) = $tree->perl(@try);
ok !$ok, 'a module of another version does not load';
like $out, qr/^Sys::Virt::Stream object version \Q$version\E does not match .*9\.8\.7/m,
    '... and both versions are named';
unlike $out, qr/rust$/, '... and the program does not go on';

spew($module, $text);
spew($tree->shared, 'no library');
($ok, $out) = $tree->perl(@try);
ok !$ok, 'a broken library does not load';
like $out, qr/^Can't load '.*Stream\.\w+' for module Sys::Virt::Stream/m, '... and it is named';

done_testing;

sub slurp {
    my ($file) = @_;
    open my $fh, '<:raw', $file or die "$file: $!";
    local $/;
    return scalar <$fh>;
}

sub spew {
    my ($file, $text) = @_;
    chmod 0644, $file;
    open my $fh, '>:raw', $file or die "$file: $!";
    print {$fh} $text;
    close $fh or die "$file: $!";
    return;
}
