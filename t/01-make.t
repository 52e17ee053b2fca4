#!perl
# The Makefile: what is rebuilt, what is not, and what clean leaves.

use strict;
use warnings;
use lib 't/lib';

use Test::More;
use StreamTest::Tree;

my $tree = StreamTest::Tree->new;

my ($ok, $out) = $tree->make('-j2');
ok $ok, 'make -j2' or diag $out;
unlike $out, qr/cargo\b/, 'cargo is not asked for a library that is there';
ok -s $tree->shared, 'the loadable library is linked';
my $made = (stat $tree->shared)[9];

($ok, $out) = $tree->make;
ok $ok, 'make again';
unlike $out, qr/cargo\b|Stream\.so|-shared\b/, 'nothing is built or linked';
is +(stat $tree->shared)[9], $made, 'the loadable library keeps its date';

for my $source ('Cargo.toml', glob_in('rust/*/src/lib.rs'), glob_in('rust/*/build.rs'),
                glob_in('rust/*/src/*.c')) {
    ($ok, $out) = $tree->make('-n');
    unlike $out, qr/cargo\b/, 'up to date' or last;
    $tree->touch($source);
    ($ok, $out) = $tree->make('-n');
    like $out, qr/cargo\b.* build --release --locked\b/, "$source changed: cargo is called";
    like $out, qr/\bcp libsys_virt_stream|cp \S*libsys_virt_stream\.\w+ \S*Stream\.\w+/, '... and the library put in its place again';
    $tree->touch('target/release/libsys_virt_stream.so');
    $tree->make;
}

SKIP: {
    my ($nm) = grep { -x } map { "$_/nm" } split /:/, $ENV{PATH};
    skip 'no nm here (binutils)', 1 unless $nm && $^O ne 'darwin';
    my @seen = map { /^\S+ [A-Z] (\S+)/ ? $1 : () } `"$nm" -D --defined-only "@{[ $tree->shared ]}"`;
    is "@seen", 'boot_Sys__Virt__Stream', 'the boot function is all that the library shows';
}

($ok, $out) = $tree->make('clean');
ok $ok, 'make clean' or diag $out;
ok !-e $tree->path($_), "$_ is gone" for 'blib', 'target';
ok -e $tree->path('Cargo.toml'), 'the sources are not';

($ok, $out) = $tree->perl('Makefile.PL');
($ok, $out) = $tree->make('realclean');
ok $ok, 'make realclean' or diag $out;
ok !-e $tree->path($_), "$_ is gone" for qw(Makefile MYMETA.json);

done_testing;

sub glob_in {
    my ($pattern) = @_;
    my $top = $tree->dir;
    return map { substr $_, 1 + length $top } glob "$top/$pattern";
}
