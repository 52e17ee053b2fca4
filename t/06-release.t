#!perl
# What a release says of itself: META, and a documentation that is whole and in order.

use strict;
use warnings;
use lib 't/lib';

use CPAN::Meta;
use Pod::Checker;
use StreamTest::Tree;
use Test::More;

my $tree = StreamTest::Tree->new;
my $meta = eval { CPAN::Meta->load_file($tree->path('MYMETA.json')) };
ok $meta, 'META is valid' or BAIL_OUT($@);
is $meta->name, 'Sys-Virt-Stream', 'name';
is_deeply [$meta->license], ['perl_5'], 'license';
my $provides = $meta->provides;
is $provides->{'Sys::Virt::Stream'}{file}, 'lib/Sys/Virt/Stream.pm', 'provides';
is(version->parse($provides->{'Sys::Virt::Stream'}{version}), version->parse($meta->version), '... of this version');
my $needs = $meta->effective_prereqs;
ok $needs->requirements_for($_->[0], 'requires')->as_string_hash->{ $_->[1] }, "$_->[0] requires $_->[1]"
    for ['configure', 'ExtUtils::MakeMaker'], ['build', 'ExtUtils::MakeMaker'], ['test', 'Test::More'], ['runtime', 'perl'];
is(version->parse($needs->requirements_for('runtime', 'requires')->as_string_hash->{perl}), v5.32.0,
    'the oldest perl that xt/matrix tests');
ok !$needs->requirements_for('runtime', 'requires')->as_string_hash->{'Sys::Virt'},
    'the module can be had without Sys::Virt';
ok $needs->requirements_for('runtime', 'recommends')->as_string_hash->{'Sys::Virt'}, '... which it is made for';

my ($changes) = map { /^(\d\S*)/ ? $1 : () } lines('Changes');
is(version->parse($changes // 0), version->parse($meta->version), 'Changes begins with this version');

SKIP: {
    skip 'no debian folder here', 1 unless -e 'debian/changelog';
    my ($packaged) = (lines('debian/changelog'))[0] =~ /\(([^)]+)\)/;
    is(version->parse($packaged), version->parse($meta->version), 'so does the Debian package');
}

for my $module (glob 'lib/Sys/Virt/Stream.pm lib/Sys/Virt/Stream/*.pm bin/*') {
    my $said = '';
    open my $to, '>', \$said or die $!;
    my $checker = Pod::Checker->new(-warnings => 1);
    $checker->parse_from_file($module, $to);
    is $checker->num_errors, 0, "$module: no error in its POD" or diag $said;
    is $checker->num_warnings, 0, '... nor a warning' or diag $said;
}

# Everything a program can name is documented.
my $pod = join '', lines('lib/Sys/Virt/Stream.pm');
my ($ok, $out) = $tree->make;
ok $ok, 'make' or diag $out;
($ok, $out) = $tree->perl('-Mblib', '-e', 'use Sys::Virt::Stream; my $s = \%Sys::Virt::Stream::;
    print map { defined &{"Sys::Virt::Stream::$_"} ? "$_\n" : () } sort keys %$s');
# What Perl itself calls is nobody else's to name.
my @names = grep { !/^(?:_.*|DESTROY|CLONE|CLONE_SKIP|bootstrap|dl_load_flags|import|unimport)$/ } split /\n/, $out;
cmp_ok scalar @names, '>=', 21, 'the package has its names';
ok $pod =~ /^=(?:item|head\d) .*\b\Q$_\E\b/m, "$_ is documented" for @names;

done_testing;

sub lines {
    my ($file) = @_;
    open my $fh, '<', $file or die "$file: $!";
    return <$fh>;
}
