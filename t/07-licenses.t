#!perl
# Every crate that the build takes is listed with the license of its manifest, in
# licenses/README.md and for the packages, and its license's text is in the release.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

my ($cargo) = -e 'Makefile' && -e 'Cargo.lock' ? map { /^CARGO = (.+)/ ? $1 : () } lines('Makefile') : ();
if (!$cargo) {
    BAIL_OUT('no configured source tree here') if $ENV{SYS_VIRT_STREAM_TEST_ALL} && -e 'Makefile.PL';
    plan skip_all => 'no configured source tree here';
}

my $said = `"$cargo" metadata --locked --format-version 1`;
is $?, 0, 'cargo metadata' or BAIL_OUT('cargo does not say what the crates are');
my @crates = sort { $a->{name} cmp $b->{name} } grep { $_->{source} }
    @{ JSON::PP->new->utf8->decode($said)->{packages} };

my (%listed, %linked);
for (lines('licenses/README.md')) {
    my ($crate, $license, $text, $part) = /^\| (\S+) \| ([^|]+) \| ([^|]+) \| (.+) \|/ or next;
    next if $crate =~ /^(?:crate|---)$/;
    $listed{$crate} = [$license, $text =~ /\((.+)\)/ ? "licenses/$1" : undef];
    $linked{$crate} = 1 if $part !~ /^nothing/;
}
for my $crate (@crates) {
    my $name = $crate->{name};
    my ($license, $text) = @{ delete $listed{$name} || [] };
    is $license, $crate->{license}, "$name: the license of its manifest is listed";
    my $folder = $crate->{manifest_path} =~ s{[^/]+\z}{}r;
    my @texts = defined $text ? $text : glob "'${folder}LICENSE*' '${folder}COPYING*'";
    ok scalar(grep { -s } @texts), '... and its text is there';
}
is_deeply [sort keys %listed], [], 'no crate is listed that is not taken';

SKIP: {
    skip 'no debian folder here', 1 unless -e 'debian/copyright';
    my %debian = join('', lines('debian/copyright')) =~ m{^Files: vendor/(\S+)/\*\nCopyright: .+\n(?: .+\n)*License: (.+)$}gm;
    # That format has other names for two things.
    is_deeply \%debian, { map { $_->{name} => $_->{license} =~ s/\bMIT\b/Expat/gr =~ s{ OR |/}{ or }gr } @crates },
        'debian/copyright has each crate, and its license';
}

SKIP: {
    my $spec = 'fedora/perl-Sys-Virt-Stream.spec';
    skip 'no fedora folder here', 1 unless -e $spec;
    my %fedora = join('', lines($spec)) =~ /^Provides:\s+bundled\(crate\((\S+)\)\) = (\S+)$/gm;
    is_deeply \%fedora, { map { $linked{ $_->{name} } ? @$_{qw(name version)} : () } @crates },
        'the spec names what is linked, and its version';
}

done_testing;

sub lines {
    my ($file) = @_;
    open my $fh, '<', $file or die "$file: $!";
    return <$fh>;
}
