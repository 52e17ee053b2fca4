#!perl
# What `make install` and `make uninstall` do beyond MakeMaker:
#   keep      ARCH MAN3 EXT          keep a C binding that stands where we install
#   uninstall ARCH MAN3 EXT DESTDIR  remove what the packlist names, put it back
# Usually the C binding is in another folder of @INC (the distribution's own) and there is
# nothing to keep; a Sys::Virt from CPAN lives in the same folder as this module. It may be
# upgraded or removed while this module is there, by tools that know nothing of it.

use strict;
use warnings;
use ExtUtils::Packlist;
use File::Basename qw(dirname);
use File::Copy qw(copy);

my $ASIDE = '.c-binding';

my ($what, $arch, $man, $ext, $destdir) = @ARGV;
my %do = (keep => \&keep, uninstall => \&uninstall);
die "usage: place.pl keep|uninstall ARCH MAN3 EXT [DESTDIR]\n"
    unless defined $what && $do{$what} && defined $ext;

# The files that both bindings have. Perl reads the first, so it says whose they are.
my $module = "$arch/Sys/Virt/Stream.pm";
my @shared = ($module, "$man/Sys::Virt::Stream.$ext");
my $theirs = -e $module && !ours($module);
$do{$what}->();

# A copy: should the installation fail, the C binding is still in its place.
sub keep {
    return unless $theirs;
    for my $file (grep { -e } @shared) {
        my ($mode, $date) = (stat $file)[2, 9];
        copy($file, "$file$ASIDE") && chmod($mode & 07777, "$file$ASIDE") && utime($date, $date, "$file$ASIDE")
            or die "$file cannot be kept: $!\n";
        print "Keeping $file\n";
    }
}

sub uninstall {
    my $list = "$arch/auto/Sys/Virt/Stream/.packlist";
    die "Sys::Virt::Stream is not installed here: no $list\n" unless -e $list;
    my $packlist = ExtUtils::Packlist->new($list) or die "$list cannot be read\n";
    my %shared = map { $_ => 1 } @shared;
    for my $file (sort keys %$packlist) {
        $file = "$destdir$file" if length $destdir && index($file, $destdir) != 0;
        # A Sys::Virt that was installed later owns the files that both have.
        next if !-e $file || $theirs && $shared{$file} && !ours($file);
        remove($file);
    }
    remove($list);
    for my $file (grep { -e "$_$ASIDE" } @shared) {
        # What was kept is of no use to a newer Sys::Virt, nor where there is none any more.
        if ($theirs || !-e "$arch/Sys/Virt.pm") {
            remove("$file$ASIDE");
            next;
        }
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

# The C binding has no such method, neither in its module nor in its manual page.
sub ours {
    my ($file) = @_;
    open my $fh, '<', $file or die "$file: $!\n";
    return !!grep { /^\s*sub implementation\b|->implementation\b/ } <$fh>;
}
