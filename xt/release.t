#!perl
# What CPAN makes of the release: `make dist && prove xt/release.t`.

use strict;
use warnings;

use Test::More;

for my $module (qw(Module::CPANTS::Kwalitee Module::CPANTS::Analyse Test::CPAN::Changes)) {
    eval "require $module" or plan skip_all => "$module is missing: install "
        . 'libmodule-cpants-analyse-perl and libcpan-changes-perl (Debian, Ubuntu)';
}
my ($release) = sort { -M $a <=> -M $b } glob 'Sys-Virt-Stream-*.tar.gz'
    or plan skip_all => 'no release here: make dist';
my ($version) = $release =~ /-([0-9.]+)\.tar\.gz\z/;

# There is no public repository to name.
my %excused = map { $_ => 1 } qw(meta_yml_has_repository_resource);
my $analysis = Module::CPANTS::Analyse->new({ dist => $release });
$analysis->run;
my $found = $analysis->d;
delete $found->{kwalitee}{kwalitee};    # the sum
cmp_ok scalar keys %{ $found->{kwalitee} }, '>', 20, "$release is looked at";
for my $what (sort keys %{ $found->{kwalitee} }) {
    ok $found->{kwalitee}{$what} || $excused{$what}, $what or diag explain $found->{error}{$what};
}

Test::CPAN::Changes::changes_file_ok('Changes', { version => $version });

done_testing;
