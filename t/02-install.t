#!perl
# Installed into a folder of its own, the module is the one that runs; uninstalled, the C
# binding's is. Both ways of naming that folder, and the folder where a Sys::Virt from CPAN
# has its own Stream.pm.

use strict;
use warnings;
use lib 't/lib';

use Config;
use ExtUtils::MakeMaker ();
use File::Basename qw(dirname);
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

# In the folder of a Sys::Virt from CPAN: who comes and goes there, in which order, and what is left.
SKIP: {
    skip 'no Sys::Virt here, so no C binding that could be in the way', 1 unless $c_binding;
    my ($tree, $arch, @more) = @{ $way{DESTDIR} };
    my $page = $Config{installsiteman3dir} =~ /\S/
        && "$prefix/dest$Config{installsiteman3dir}/Sys::Virt::Stream.$Config{man3ext}";
    my $theirs = sub {
        my ($version) = @_;
        put("$arch/Sys/Virt.pm", "package Sys::Virt; # $version\n1;\n");
        put("$arch/Sys/Virt/Stream.pm", slurp($c_binding) . "# $version\n");
        put($page, "a manual page # $version\n") if $page;
        return 1;
    };
    my %step = (
        install   => sub { $tree->make('install', @more) },
        uninstall => sub { $tree->make('uninstall', @more) },
        old       => sub { $theirs->('old') },
        new       => sub { $theirs->('new') },
        gone      => sub { unlink "$arch/Sys/Virt.pm", "$arch/Sys/Virt/Stream.pm", $page || () },
    );
    for (
        ['old install uninstall'          => 'old'],
        ['old install install uninstall'  => 'old'],
        ['old install new uninstall'      => 'new'],
        ['old install new install uninstall' => 'new'],
        ['install old uninstall'          => 'old'],
        ['install old install uninstall'  => 'old'],
        ['old install gone uninstall'],
        ['old install gone install uninstall'],
        ['install old gone uninstall'],
    ) {
        my ($order, $whose) = @$_;
        for my $step (split ' ', $order) {
            my ($ok, $out) = $step{$step}->();
            ok $ok, "$order: $step" or diag $out;
            says_what_to_do($arch) if $step eq 'new';
        }
        my @theirs = ("$arch/Sys/Virt.pm", "$arch/Sys/Virt/Stream.pm", $page || ());
        is_deeply [map { "$arch/$_" } left($arch)], $whose ? [@theirs[0, 1]] : [], '... leaves the files of Sys::Virt';
        like slurp($_), qr{# $whose$}m, "... as they were: $_" for $whose ? @theirs : ();
        is_deeply [left("$prefix/dest$Config{installsiteman3dir}")], [$whose ? "Sys::Virt::Stream.$Config{man3ext}" : ()],
            '... and no other manual page' if $page;
        $step{gone}->();
    }
    my ($ok, $out) = $tree->make('-n', 'install', 'UNINST=1');
    unlike $out, qr/uninstall_shadows => (?!0)/, 'no way of installing removes the C binding from another folder';
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

# The C binding's file cannot, but what is left of ours does.
sub says_what_to_do {
    my ($arch) = @_;
    like said("-I$arch", '-e', 'use Sys::Virt::Stream::Handle'),
        qr{\ASys::Virt was installed over .* install Sys-Virt-Stream again, as \Q$arch\E/Sys/Virt/Stream\.pm is}m,
        '... upgraded over ours: one line says what to do';
}

sub said {
    my ($ok, $out) = $plain->perl(@_);
    return $out;
}

# Files under the folder.
sub left {
    my ($arch) = @_;
    my @left;
    File::Find::find({ no_chdir => 1, wanted => sub {
        push @left, substr $_, 1 + length $arch if -f;
    } }, $arch) if -d $arch;
    return sort @left;
}

sub slurp {
    my ($file) = @_;
    open my $fh, '<', $file or die "$file: $!";
    local $/;
    return scalar <$fh>;
}

sub put {
    my ($file, $text) = @_;
    make_path(dirname($file));
    unlink $file;
    open my $fh, '>', $file or die "$file: $!";
    print {$fh} $text;
    close $fh or die "$file: $!";
}
