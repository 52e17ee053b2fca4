#!perl
# Makefile.PL names everything that is missing, at once, with the packages that bring it,
# and leaves no Makefile then.

use strict;
use warnings;
use lib 't/lib';

use File::Temp ();
use Test::More;
use StreamTest::Tree;

my $tree  = StreamTest::Tree->new;
my $tools = File::Temp->newdir;

# [ what is wrong, environment, what the text says ]
my $nothing = { PATH => "$tools/none", HOME => "$tools/none" };
for (
    ['no tool at all', $nothing,
        qr/^  make: /m, qr/^  a C compiler that works: /m, qr/^  pkg-config: /m,
        qr/^  cargo, 1\.63 or newer: not found/m, qr/^  rustc .*: not found/m,
        qr/apt-get install .*\bmake\b.*\bpkg-config\b.*\blibvirt-dev\b.*\bcargo\b/,
        qr/dnf install .*\bpkgconf-pkg-config\b.*\blibvirt-devel\b.*\bcargo\b/],
    ['no libvirt', { PKG_CONFIG => tool('pc-none', 'exit 1') },
        qr/^  libvirt's headers .*: pkg-config knows no libvirt\n.*libvirt-dev .*libvirt-devel$/m],
    ['an old libvirt', { PKG_CONFIG => tool('pc-old', 'echo 6.10.0') }, qr/^  libvirt's .*: found 6\.10\.0$/m],
    ['a libvirt without a call', { PKG_CONFIG => tool('pc-less', 'test "$1" != --modversion || echo 9.0.0') },
        qr/^  libvirt's .*: version 9\.0\.0 is there but does not .* link: .*\bvirStreamSparseSendAll\b/m],
    ['an old cargo', { CARGO => tool('cargo-old', 'echo cargo 0.47.0') },
        qr/^  cargo, 1\.63 or newer: found 1\.46 /m, qr/rustup/],
    ['an old rustc', { RUSTC => tool('rustc-old', 'echo rustc 1.48.0') }, qr/^  rustc .*: found 1\.48 /m],
    ['a rustc without its library', { RUSTC => tool('rustc-bare', 'test "$1" = --version && echo rustc 1.80.0') },
        qr/^  rustc .*: '.*rustc-bare' fails/m],
) {
    my ($name, $environment, @says) = @$_;
    my ($ok, $out) = configure(%$environment);
    ok !$ok, "$name: Makefile.PL fails";
    like $out, $_, '... and says so' for @says;
    ok !-e $tree->path('Makefile'), '... and leaves no Makefile';
}

my ($ok, $out) = configure(%$nothing, AUTOMATED_TESTING => 1);
ok $ok, 'to a CPAN tester that is no failure' or diag $out;
ok !-e $tree->path('Makefile'), '... but a distribution that does not apply';

($ok, $out) = configure(CARGO => tool('cargo-debian', 'echo cargo 0.66.0'));
ok $ok, "Debian's way of numbering cargo is understood" or diag $out;

done_testing;

sub configure {
    my %environment = @_;
    local %ENV = (%ENV, %environment);
    delete @ENV{ grep { !exists $environment{$_} } qw(CARGO RUSTC CARGO_HOME AUTOMATED_TESTING) };
    return $tree->perl('Makefile.PL');
}

sub tool {
    my ($name, $does) = @_;
    my $file = "$tools/$name";
    open my $fh, '>', $file or die "$file: $!";
    print {$fh} "#!/bin/sh\n$does\n";
    close $fh or die "$file: $!";
    chmod 0755, $file;
    return $file;
}
