package Needs;

# What a build needs, looked for before anything compiles, with the package
# that brings it where it is missing.

use strict;
use warnings;
use Config;
use File::Spec;
use File::Temp ();

our $MAKEMAKER = '6.76';  # the first that can leave its log of installations alone
our $RUST    = '1.63';    # the compiler that Debian 12 packages
our $LIBVIRT = '7.0.0';   # what Debian 11 packages

# need => [ what to say, Debian's package, Fedora's package ]
my %NEED = (
    makemaker => ["ExtUtils::MakeMaker $MAKEMAKER or newer", 'perl', 'perl-ExtUtils-MakeMaker'],
    make      => ['make', 'make', 'make'],
    cc        => ['a C compiler that works', 'gcc libc6-dev', 'gcc'],
    headers   => ["Perl's headers (perl.h)", 'libperl-dev', 'perl-devel'],
    pkgconfig => ['pkg-config', 'pkg-config', 'pkgconf-pkg-config'],
    libvirt   => ["libvirt's headers and library, $LIBVIRT or newer", 'libvirt-dev', 'libvirt-devel'],
    cargo     => ["cargo, $RUST or newer", 'cargo', 'cargo'],
    rustc     => ["rustc with its standard library, $RUST or newer", 'rustc', 'rust'],
);

# Looks for everything. Returns what was found, and the list of what was not,
# each as [ need, why ].
sub look {
    my (%found, @missing);
    for my $step (
        [makemaker => \&_makemaker], [make  => \&_make],
        [cc        => \&_cc],        [headers => \&_headers],
        [pkgconfig => \&_pkgconfig], [libvirt => \&_libvirt],
        [cargo     => \&_cargo],     [rustc   => \&_rustc],
    ) {
        my ($need, $look) = @$step;
        my $why = $look->(\%found);
        push @missing, [$need, $why] if defined $why;
    }
    return (\%found, @missing);
}

# The text for a user whose machine lacks something.
sub report {
    my @missing = @_;
    my $text = "Sys::Virt::Stream cannot be built here yet. Missing:\n\n";
    my (@debian, @fedora);
    for (@missing) {
        my ($need, $why) = @$_;
        my ($what, $deb, $rpm) = @{ $NEED{$need} };
        $text .= "  $what" . (length $why ? ": $why" : '') . "\n"
               . "      Debian, Ubuntu: $deb    Fedora: $rpm\n";
        push @debian, split ' ', $deb;
        push @fedora, split ' ', $rpm;
    }
    $text .= "\nAll of it:\n"
           . "  Debian, Ubuntu:  apt-get install " . join(' ', _uniq(@debian)) . "\n"
           . "  Fedora:          dnf install " . join(' ', _uniq(@fedora)) . "\n";
    $text .= "\nWhere the system's Rust is older than $RUST (Debian 11, say), put a newer one in\n"
           . "with rustup, or name another with CARGO=... and RUSTC=... in the environment.\n"
        if grep { $_->[0] =~ /cargo|rustc/ } @missing;
    return $text;
}

sub _uniq { my %seen; return grep { !$seen{$_}++ } @_ }

sub _makemaker {
    return eval { require ExtUtils::MakeMaker; ExtUtils::MakeMaker->VERSION($MAKEMAKER); 1 }
        ? undef : 'not found';
}

sub _make {
    my $make = $Config{make} || 'make';
    return _which($make) ? undef : "no '$make' in PATH";
}

sub _cc {
    my ($found) = @_;
    my ($cc) = split ' ', $Config{cc};
    return "no '$cc' in PATH" unless _which($cc);
    my ($ok, $said) = _compile('', "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n");
    return $ok ? undef : "'$cc' fails: $said";
}

sub _headers {
    my $core = File::Spec->catdir($Config{archlibexp}, 'CORE');
    my $file = File::Spec->catfile($core, 'perl.h');
    return "no $file" unless -e $file;
    my ($cc) = split ' ', $Config{cc};
    return undef unless _which($cc);    # already told
    my ($ok, $said) = _compile("$Config{ccflags} -I$core",
        qq{#include "EXTERN.h"\n#include "perl.h"\n#include "XSUB.h"\nint x;\n}, 'c');
    return $ok ? undef : "they do not compile: $said";
}

sub _pkgconfig {
    my ($found) = @_;
    my $name = $ENV{PKG_CONFIG} || 'pkg-config';
    $found->{pkgconfig} = _which($name) or return "no '$name' in PATH";
    return undef;
}

sub _libvirt {
    my ($found) = @_;
    my $tool = $found->{pkgconfig} or return 'cannot be looked for without pkg-config';
    my $have = _ask($tool, '--modversion', 'libvirt');
    return 'pkg-config knows no libvirt' unless defined $have && $have =~ /^(\d+(?:\.\d+)*)/;
    $have = $1;
    return "found $have" if _older($have, $LIBVIRT);
    $found->{libvirt_version} = $have;
    $found->{libvirt_libs}    = _ask($tool, '--libs', 'libvirt');
    my $cflags = _ask($tool, '--cflags', 'libvirt');
    my ($cc) = split ' ', $Config{cc};
    return undef unless _which($cc);    # already told
    # The newest call that the library makes (3.4.0): a libvirt without it is refused here.
    my ($ok, $said) = _compile($cflags,
        "#include <libvirt/libvirt.h>\n#include <libvirt/virterror.h>\n"
      . "int main(void) { return virStreamSparseSendAll(0, 0, 0, 0, 0); }\n", $found->{libvirt_libs});
    return $ok ? undef : "version $have is there but does not compile and link: $said";
}

sub _cargo {
    my ($found) = @_;
    my $cargo = _rust('cargo') or return 'not found in PATH';
    my $said = _ask($cargo, '--version');
    return "'$cargo --version' fails" unless defined $said && $said =~ /^cargo (\d+)\.(\d+)/;
    # Debian numbers cargo as the crate of that name does: 0.66 is that of 1.65.
    my $version = $1 == 0 ? '1.' . ($2 - 1) : "$1.$2";
    return "found $version ($cargo)" if _older($version, $RUST);
    $found->{cargo} = $cargo;
    return undef;
}

sub _rustc {
    my ($found) = @_;
    my $rustc = _rust('rustc') or return 'not found in PATH';
    my $said = _ask($rustc, '--version');
    return "'$rustc --version' fails" unless defined $said && $said =~ /^rustc (\d+\.\d+)/;
    return "found $1 ($rustc)" if _older($1, $RUST);
    # A library of nothing shows that the standard library is there.
    my $dir = File::Temp->newdir;
    my $src = "$dir/nothing.rs";
    _write($src, '');
    my $out = `"$rustc" --crate-type rlib -o "$dir/libnothing.rlib" "$src" 2>&1`;
    return "'$rustc' fails: " . _first_error($out) if $?;
    $found->{rustc} = $rustc;
    return undef;
}

# A Rust tool: the one the environment names, else PATH's, else rustup's own folder.
sub _rust {
    my ($tool) = @_;
    my $named = $ENV{ uc $tool };
    return _which($named) if defined $named && length $named;
    my $home = $ENV{CARGO_HOME} || (defined $ENV{HOME} ? "$ENV{HOME}/.cargo" : undef);
    return _which($tool) || (defined $home ? _which("$home/bin/$tool") : undef);
}

sub _which {
    my ($name) = @_;
    return -x $name && !-d _ ? File::Spec->rel2abs($name) : undef if $name =~ m{/};
    for my $dir (File::Spec->path) {
        my $file = File::Spec->catfile($dir, $name);
        return File::Spec->rel2abs($file) if -x $file && !-d _;
    }
    return undef;
}

# The output of a command, on one line; undef where it fails.
sub _ask {
    my ($tool, @args) = @_;
    my $out = `"$tool" @args 2>/dev/null`;
    return undef if $?;
    $out =~ s/\s+/ /g;
    $out =~ s/ $//;
    return $out;
}

# Compiles a text, to an object when $libs is 'c', else to a program with $libs.
sub _compile {
    my ($flags, $text, $libs) = @_;
    my $dir = File::Temp->newdir;
    _write("$dir/try.c", $text);
    my $only = defined $libs && $libs eq 'c';
    my $tail = $only ? '' : defined $libs ? $libs : '';
    my $out  = `$Config{cc} $flags @{[ $only ? '-c' : '' ]} -o "$dir/try" "$dir/try.c" $tail 2>&1`;
    return ($? == 0, _first_error($out));
}

sub _first_error {
    my ($out) = @_;
    my @lines = split /\n/, $out;
    my ($line) = grep { /error|undefined/i } @lines;
    $line = $lines[-1] unless defined $line;
    return defined $line ? $line : 'it says nothing';
}

sub _older {
    my ($have, $want) = @_;
    my @have = split /\./, $have;
    for my $w (split /\./, $want) {
        my $h = @have ? shift @have : 0;
        return $h < $w if $h != $w;
    }
    return 0;
}

sub _write {
    my ($file, $text) = @_;
    open my $fh, '>', $file or die "$file: $!\n";
    print {$fh} $text;
    close $fh or die "$file: $!\n";
}

1;
