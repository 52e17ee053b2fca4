package StreamTest::Tree;

# A copy of the built tree for the tests of make and Makefile.PL, so that the tree itself
# stays as it is and may be read-only. The Rust library comes along as built: what is
# tried here is make, not the compiler.

use strict;
use warnings;

use Cwd ();
use File::Copy ();
use File::Find ();
use File::Path qw(make_path);
use File::Temp ();
use Test::More ();

my $LIBRARY = 'target/release/libsys_virt_stream.so';

# Skips the test file where there is no built tree (the tests of an installed package).
sub new {
    my ($class, @arguments) = @_;
    my @missing = grep { !-e } 'Makefile', 'Makefile.PL', $LIBRARY;
    if (@missing) {
        my $why = "no built source tree here: @missing";
        Test::More::plan(skip_all => $why) unless $ENV{SYS_VIRT_STREAM_TEST_ALL};
        Test::More::BAIL_OUT($why);
    }
    # Where this perl looks without the blib that the test itself runs on.
    delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES PERL_MM_OPT PERL_MB_OPT)};
    $ENV{PERL5LIB} = join ':', grep { !m{\bblib\b} } split /:/, $ENV{PERL5LIB} || '';
    my $self = bless { dir => File::Temp->newdir }, $class;
    $self->_copy($_) for grep { -e } qw(Makefile.PL Cargo.toml Cargo.lock .cargo MANIFEST.SKIP inc lib bin share examples typemap rust);
    $self->_copy_file($LIBRARY);
    my ($ok, $out) = $self->perl('Makefile.PL', @arguments);
    Test::More::BAIL_OUT("Makefile.PL fails in a copy of the tree:\n$out") unless $ok;
    $self->touch($LIBRARY);
    return $self;
}

sub dir     { "$_[0]{dir}" }
sub path    { "$_[0]{dir}/$_[1]" }
sub library { $_[0]->path($LIBRARY) }
sub shared  { $_[0]->path('blib/arch/auto/Sys/Virt/Stream/Stream.' . do { require Config; $Config::Config{dlext} }) }

sub make {
    my ($self, @arguments) = @_;
    require Config;
    return $self->_run($Config::Config{make} || 'make', @arguments);
}

sub perl {
    my ($self, @arguments) = @_;
    return $self->_run($^X, @arguments);
}

# Both in one: what a shell would say of a command run in the copy.
sub _run {
    my ($self, @command) = @_;
    my $pid = open my $out, '-|';
    die "fork: $!\n" unless defined $pid;
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDERR, '>&', \*STDOUT;
        chdir $self->dir && exec { $command[0] } @command;
        print "$command[0]: $!\n";
        require POSIX;
        POSIX::_exit(127);
    }
    local $/;
    my $said = <$out>;
    close $out;
    return ($? == 0, $said);
}

# Later than every file made so far, by more than a tick of the file system's clock.
sub touch {
    my ($self, $file) = @_;
    select undef, undef, undef, 0.05;
    utime undef, undef, $self->path($file) or die "$file: $!\n";
    select undef, undef, undef, 0.05;
    return;
}

sub _copy {
    my ($self, $from) = @_;
    File::Find::find({ no_chdir => 1, wanted => sub {
        $self->_copy_file($_) if -f;
    } }, $from);
    return;
}

sub _copy_file {
    my ($self, $file) = @_;
    my $to = $self->path($file);
    make_path($to =~ m{^(.*)/});
    File::Copy::copy($file, $to) or die "$file: $!\n";
    my ($mode, $date) = (stat $file)[2, 9];
    chmod $mode & 07777 | 0200, $to;
    utime $date, $date, $to;
    return;
}

1;
