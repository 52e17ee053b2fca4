#!perl
# What a release says of itself: META, and a documentation that is whole and in order.

use strict;
use warnings;
use lib 't/lib';

use CPAN::Meta;
use File::Find ();
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

is_deeply [$meta->authors], ['The Sys-Virt-Stream project'], 'the author is the project';

# What the code names, it can count on. The rest of Sys::Virt is recommended; threads, and the modules
# of t/26 and t/64, are looked for.
for (
    ['configure', 'Makefile.PL', 'inc/Needs.pm'],
    ['build', files('inc', qr/\.pl$/)],
    ['runtime', files('lib', qr/\.pm$/), files('bin', qr/./)],
    ['test', files('t', qr/\.(?:t|pm)$/)],
) {
    my ($phase, @files) = @$_;
    my $named = $needs->requirements_for($phase, 'requires')->as_string_hash;
    my %used = map { $_ => 1 } map { used($_) } @files;
    is_deeply [grep { !defined $named->{$_} } sort keys %used], [], "what is used is a prerequisite: $phase";
}

for my $module (files('lib', qr/\.pm$/)) {
    my $name = $module =~ s{^lib/|\.pm$}{}gr =~ s{/}{::}gr;
    is $provides->{$name}{version}, $provides->{'Sys::Virt::Stream'}{version}, "$name has the version";
}

my ($changes) = map { /^(\d\S*)/ ? $1 : () } lines('Changes');
is(version->parse($changes // 0), version->parse($meta->version), 'Changes begins with this version');

for (['debian/changelog', qr/^\S+ \(([^)]+)\)/], ['fedora/perl-Sys-Virt-Stream.spec', qr/^Version:\s+(\S+)/]) {
    my ($file, $version) = @$_;
  SKIP: {
        skip "no $file here", 1 unless -e $file;
        my ($packaged) = map { $_ =~ $version ? $1 : () } lines($file);
        is(version->parse($packaged // 0), version->parse($meta->version), "... and so does $file");
    }
}

for my $module (glob 'lib/Sys/Virt/Stream.pm lib/Sys/Virt/Stream/*.pm lib/Sys/Virt/Stream/*.pod bin/*') {
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
ok -e $tree->path("blib/$_"), "$_ is to be installed" for files('lib', qr/\.(?:pm|pod)$/);
($ok, $out) = $tree->perl('-Mblib', '-e', 'use Sys::Virt::Stream; my $s = \%Sys::Virt::Stream::;
    print map { defined &{"Sys::Virt::Stream::$_"} ? "$_\n" : () } sort keys %$s');
# What Perl itself calls is nobody else's to name.
my @names = grep { !/^(?:_.*|DESTROY|CLONE|CLONE_SKIP|bootstrap|dl_load_flags|import|unimport)$/ } split /\n/, $out;
cmp_ok scalar @names, '>=', 21, 'the package has its names';
ok $pod =~ /^=(?:item|head\d) .*\b\Q$_\E\b/m, "$_ is documented" for @names;

done_testing;

# The modules that a file uses, its programs for children included.
sub used {
    my ($file) = @_;
    my ($code) = split /^__END__$/m, join '', lines($file);
    return grep { !/^(?:Sys::Virt|StreamTest|Needs|Other|strict|warnings|threads|Mojo|Scope::Upper|Return::MultiLevel)\b/ }
        $code =~ /^\s*(?:use|require)\s+([A-Za-z]\w*(?:::\w+)*)\b/gm;
}

sub files {
    my ($dir, $fits) = @_;
    my @files;
    File::Find::find({ no_chdir => 1, wanted => sub { push @files, $_ if -f && /$fits/ } }, $dir);
    return sort @files;
}

sub lines {
    my ($file) = @_;
    open my $fh, '<', $file or die "$file: $!";
    return <$fh>;
}
