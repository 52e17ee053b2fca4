#!perl
# Installed into a folder of its own, the module is the one that runs; uninstalled, the C
# binding's is. Both ways of naming that folder, and the folder where a Sys::Virt from CPAN
# has its own Stream.pm.

use strict;
use warnings;
use lib 't/lib';

use Config;
use Digest::SHA;
use ExtUtils::MakeMaker ();
use File::Copy qw(copy);
use File::Find ();
use File::Path qw(make_path);
use File::Temp ();
use Test::More;
use StreamTest::Tree;

my $prefix = File::Temp->newdir;
my $based  = StreamTest::Tree->new("INSTALL_BASE=$prefix/base");
my $plain  = StreamTest::Tree->new('INSTALLDIRS=site');
my ($c_binding) = grep { -e && !/\bblib\b/ } map { "$_/Sys/Virt/Stream.pm" } split /\n/, said('-e', 'print "$_\n" for @INC');
my $with_sys_virt = said('-e', 'print eval { require Sys::Virt; 1 } ? 1 : 0');

# Where the command goes, its manual page, and what completes it.
my %beside = (
    INSTALL_BASE => ["$prefix/base/bin", "$prefix/base/man/man1", "$prefix/base/share"],
    DESTDIR      => [map { "$prefix/dest$_" } @Config{qw(installsitescript installsiteman1dir)}, "$Config{siteprefix}/share"],
);
my %way = (
    INSTALL_BASE => [$based, "$prefix/base/lib/perl5/$Config{archname}"],
    DESTDIR      => [$plain, "$prefix/dest$Config{installsitearch}", "DESTDIR=$prefix/dest"],
);
for my $way (sort keys %way) {
    my ($tree, $arch, @more) = @{ $way{$way} };
    my ($ok, $out) = $tree->make('install', @more);
    ok $ok, "$way: make install" or diag $out;
    ok -s "$arch/Sys/Virt/Stream.pm", '... the module is there';
    ok -s "$arch/ExtUtils/typemap",   '... and the typemap, in a folder that ParseXS reads';
    runs_rust($arch);
    my ($script, $man, $share) = @{ $beside{$way} };
    ok -s "$share/$_", "... and $_" for qw(bash-completion/completions/virt-stream zsh/site-functions/_virt-stream);
    is said("-I$arch", "$script/virt-stream", '--version'), "virt-stream " . MM->parse_version('lib/Sys/Virt/Stream.pm') . "\n",
        '... and its command' if $with_sys_virt;
    my $pages = $Config{man1dir} =~ /\S/ ? 1 : 0;    # a perl can be built to have none
    is scalar(() = glob "$man/virt-stream.*"), $pages, '... with a manual page, if this perl has any';

    ($ok, $out) = $tree->make('uninstall', @more);
    ok $ok, "$way: make uninstall" or diag $out;
    is_deeply [left($arch), left($script), left($man), left($share)], [], '... leaves nothing behind';
    runs_c($arch);

    ($ok, $out) = $tree->make('uninstall', @more);
    ok !$ok, '... and has nothing to do a second time';
    like $out, qr/is not installed here/, '... and says so';
}

SKIP: {
    skip 'no Sys::Virt here, so no C binding that could be in the way', 7 unless $c_binding;
    my ($tree, $arch, @more) = @{ $way{DESTDIR} };
    make_path("$arch/Sys/Virt");
    copy($c_binding, "$arch/Sys/Virt/Stream.pm") or die "$c_binding: $!";
    my $before = sha("$arch/Sys/Virt/Stream.pm");
    my ($ok, $out) = $tree->make('install', @more);
    ok $ok, 'make install into the folder of the C binding' or diag $out;
    runs_rust($arch);
    ($ok, $out) = $tree->make('install', @more);
    is sha("$arch/Sys/Virt/Stream.pm.c-binding"), $before, 'installed twice, it is still kept';
    ($ok, $out) = $tree->make('uninstall', @more);
    ok $ok, 'make uninstall' or diag $out;
    is sha("$arch/Sys/Virt/Stream.pm"), $before, 'the C binding has its file back';
    is_deeply [left($arch)], ['Sys/Virt/Stream.pm'], '... and nothing else is left';
}

done_testing;

sub runs_rust {
    my ($arch) = @_;
    is said('-w', "-I$arch", '-e', 'use Sys::Virt::Stream; print Sys::Virt::Stream->implementation,
            " ", $INC{"Sys/Virt/Stream.pm"}'), "rust $arch/Sys/Virt/Stream.pm", '... and what a program gets';
  SKIP: {
        skip 'no Sys::Virt here', 1 unless $with_sys_virt;
        is said('-w', "-I$arch", '-e', 'use Sys::Virt; my $c = Sys::Virt->new(uri => "test:///default");
            print Sys::Virt::Stream->implementation, " ", ref $c->new_stream'),
            'rust Sys::Virt::Stream', '... through Sys::Virt too';
    }
}

sub runs_c {
    my ($arch) = @_;
  SKIP: {
        skip 'no Sys::Virt here', 1 unless $with_sys_virt;
        is said('-w', "-I$arch", '-e', 'use Sys::Virt; my $c = Sys::Virt->new(uri => "test:///default");
            print Sys::Virt::Stream->can("implementation") ? "rust" : "c", " ", ref $c->new_stream'),
            'c Sys::Virt::Stream', '... and the C binding is back';
    }
}

sub said {
    my ($ok, $out) = $plain->perl(@_);
    return $out;
}

# Files under the folder; MakeMaker's own log of installations is not ours to remove.
sub left {
    my ($arch) = @_;
    my @left;
    File::Find::find({ no_chdir => 1, wanted => sub {
        push @left, substr $_, 1 + length $arch if -f && !/perllocal\.pod$/;
    } }, $arch) if -d $arch;
    return sort @left;
}

sub sha { return Digest::SHA->new(256)->addfile(shift)->hexdigest }
