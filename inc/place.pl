#!perl
# What `make install` and `make uninstall` do beyond MakeMaker:
#   keep      ARCH MAN3 EXT          put aside a C binding that stands where we install
#   uninstall ARCH MAN3 EXT DESTDIR  remove what the packlist names, put it back
# Usually the C binding is in another folder of @INC (the distribution's own) and there is
# nothing to put aside; a Sys::Virt from CPAN lives in the same folder as this module.

use strict;
use warnings;
use ExtUtils::Packlist;
use File::Basename qw(dirname);

my $ASIDE = '.c-binding';

my ($what, $arch, $man, $ext, $destdir) = @ARGV;
my %do = (keep => \&keep, uninstall => \&uninstall);
die "usage: place.pl keep|uninstall ARCH MAN3 EXT [DESTDIR]\n"
    unless defined $what && $do{$what} && defined $ext;

my $module = "$arch/Sys/Virt/Stream.pm";
my @shared = ($module, "$man/Sys::Virt::Stream.$ext");
$do{$what}->();

sub keep {
    return if !-e $module || ours($module);
    for my $file (grep { -e } @shared) {
        rename $file, "$file$ASIDE" or die "$file cannot be put aside: $!\n";
        print "Putting aside $file\n";
    }
}

sub uninstall {
    my $list = "$arch/auto/Sys/Virt/Stream/.packlist";
    die "Sys::Virt::Stream is not installed here: no $list\n" unless -e $list;
    my $packlist = ExtUtils::Packlist->new($list) or die "$list cannot be read\n";
    for my $file (sort keys %$packlist) {
        $file = "$destdir$file" if length $destdir && index($file, $destdir) != 0;
        # A Sys::Virt that was installed later owns its Stream.pm.
        next if !-e $file || $file eq $module && !ours($file);
        remove($file);
    }
    remove($list);
    for my $file (grep { -e "$_$ASIDE" && !-e } @shared) {
        rename "$file$ASIDE", $file or die "$file$ASIDE cannot be put back: $!\n";
        print "Putting back $file\n";
    }
}

# Removes a file, and the folders that are empty then.
sub remove {
    my ($file) = @_;
    unlink $file or die "$file cannot be removed: $!\n";
    print "Removing $file\n";
    my $dir = dirname($file);
    while ($dir =~ m{/(?:Sys|ExtUtils|auto|bash-completion|zsh)(?:/|\z)} && rmdir $dir) { $dir = dirname($dir) }
}

# The C binding's module has no such method.
sub ours {
    my ($file) = @_;
    open my $fh, '<', $file or die "$file: $!\n";
    return !!grep { /^\s*sub implementation\b/ } <$fh>;
}
