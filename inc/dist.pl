#!perl
# The two steps of `make dist` that are this distribution's own:
#   copy   DIR   the files of the release, and the MANIFEST made of them
#   vendor DIR   the crates, and the setting that makes cargo look nowhere else

use strict;
use warnings;
use ExtUtils::Manifest qw(manicopy manifind maniskip);
use File::Find ();

my ($what, $dir) = @ARGV;
my %do = (copy => \&copy, vendor => \&vendor);
die "usage: dist.pl copy|vendor DIR\n" unless defined $what && $do{$what} && defined $dir;
$do{$what}->();

sub copy {
    my $skip  = maniskip();
    # What is made anew. CPAN's tools take MANIFEST.SKIP for what a release may not have.
    my $made  = qr{^(?:MANIFEST|META\.(?:json|yml)|\Q$dir\E/.*)$};
    my %files = map { $_ => '' } grep { !$skip->($_) && $_ !~ $made } keys %{ manifind() };
    # In a checkout, only what is or could be committed; what .gitignore names stays out.
    if (-e '.git') {
        open my $git, '-|', qw(git ls-files -z --cached --others --exclude-standard)
            or die "git ls-files: $!\n";
        local $/ = "\0";
        my %known = map { chomp; $_ => 1 } <$git>;
        close $git or die "git ls-files failed\n";
        delete @files{ grep { !$known{$_} } keys %files };
    }
    manicopy(\%files, $dir, 'cp');
    manifest(keys %files, 'MANIFEST');
}

sub vendor {
    return if -d "$dir/vendor";    # packed again from a release
    my $cargo = $ENV{CARGO} || 'cargo';
    # What cargo prints is the setting for the place it was called from.
    system("\"$cargo\" vendor --locked --manifest-path Cargo.toml \"$dir/vendor\" >\"$dir/vendor.log\"") == 0
        or die "cargo vendor failed\n";
    unlink "$dir/vendor.log";
    my $settings = "$dir/.cargo/config.toml";
    chmod 0644, $settings;    # a copy is read-only
    open my $fh, '>>', $settings or die "$settings: $!\n";
    print {$fh} <<'TOML';

[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"
TOML
    close $fh or die "$settings: $!\n";
    my @files = listed();
    File::Find::find({ no_chdir => 1, wanted => sub {
        push @files, substr $_, 1 + length $dir if -f;
    } }, "$dir/vendor", "$dir/.cargo");
    manifest(@files);
}

sub listed {
    open my $fh, '<', "$dir/MANIFEST" or die "MANIFEST: $!\n";
    return map { /^'((?:[^'\\]|\\.)*)'/ ? $1 =~ s/\\(.)/$1/gr : /^(\S+)/ ? $1 : () } <$fh>;
}

sub manifest {
    my %seen;
    open my $fh, '>', "$dir/MANIFEST" or die "MANIFEST: $!\n";
    for my $file (sort grep { !$seen{$_}++ } @_) {
        my $quoted = $file =~ /[\s'\\]/ ? "'" . $file =~ s/([\\'])/\\$1/gr . "'" : $file;
        print {$fh} "$quoted\n";
    }
    close $fh or die "MANIFEST: $!\n";
}
