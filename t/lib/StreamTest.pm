package StreamTest;

# What every test file shares: the parts a machine may lack, child programs,
# digests, sparse files and error objects. The private libvirtd is in
# StreamTest::Daemon, an event loop in Perl in StreamTest::Loop.

use strict;
use warnings;

use Cwd ();
use Digest::SHA ();
use Exporter ();
use File::Temp ();
use POSIX ();
use Test::More ();
use Time::HiRes ();

our @EXPORT = qw(
    daemon connect_test rust has_module run_perl ok_perl deadline within
    sha sha_file pattern slurp spew sparse_file blocks scratch
    error_of error_is warnings_of
);

# Error texts are compared, so they have to be the untranslated ones.
BEGIN {
    $ENV{LC_ALL} = 'C';
    delete $ENV{LANGUAGE};
    POSIX::setlocale(POSIX::LC_ALL(), 'C');
}

my %PART = (
    'Sys::Virt' => {
        there  => sub { grep { !ref && -e "$_/Sys/Virt.pm" } @INC },
        debian => 'libsys-virt-perl',
        fedora => 'perl-Sys-Virt',
    },
    'libvirtd' => {
        there  => sub { find_program('libvirtd') },
        debian => 'libvirt-daemon libvirt-daemon-system',
        fedora => 'libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-driver-storage-core',
    },
    'qemu' => {
        there  => sub { find_program('qemu-system-x86_64') },
        debian => 'qemu-system-x86',
        fedora => 'qemu-system-x86-core',
    },
    # What libvirtd looks at before it opens a guest's console; a bare chroot may
    # lack it.
    'console' => {
        there => sub { -d '/sys/devices/system/cpu' && -d '/dev/pts' && -d '/var/lock' },
        why   => 'a guest\'s console is out of reach: mount /sys and /dev/pts, and make /var/lock',
    },
    'zsh' => { there => sub { find_program('zsh') }, debian => 'zsh', fedora => 'zsh' },
    'threads' => {
        there  => sub { require Config; $Config::Config{useithreads} },
        debian => 'perl (Debian\'s own, built with threads)',
        fedora => 'perl (Fedora\'s own, built with threads)',
    },
);

# use StreamTest qw(libvirtd qemu);  names what the file needs. Sys::Virt is
# loaded along with anything that needs it, so that its constants compile.
sub import {
    my ($class, @needs) = @_;
    need(@needs);
    deadline();
    require Sys::Virt if grep { $_ ne 'threads' } @needs;
    local $Exporter::ExportLevel = 1;
    Exporter::import($class);
    return;
}

# For a part of a file that needs more than the rest of it.
sub has {
    my ($name) = @_;
    my $there = $PART{$name}{there}->();
    die "$name is missing\n" if !$there && $ENV{SYS_VIRT_STREAM_TEST_ALL};
    return $there;
}

# A module that only a part of a file is about; it is not loaded, as that may start it.
sub has_module {
    my ($module, $package) = @_;
    my $file = ($module =~ s{::}{/}gr) . '.pm';
    my $there = grep { !ref && -e "$_/$file" } @INC;
    die "$package is missing\n" if !$there && $ENV{SYS_VIRT_STREAM_TEST_ALL};
    return $there;
}

sub need {
    my %seen;
    # A daemon is of no use without the binding to talk to it.
    my @parts = grep { !$seen{$_}++ } map { ('Sys::Virt', $_) } @_;
    for my $name (@parts) {
        my $part = $PART{$name} || die "no part called $name";
        next if $part->{there}->();
        my $why = $part->{why} // "$name is missing: install $part->{debian} (Debian, Ubuntu)"
            . " or $part->{fedora} (Fedora)";
        Test::More::plan(skip_all => $why) unless $ENV{SYS_VIRT_STREAM_TEST_ALL};
        Test::More::plan(tests => 1);
        Test::More::fail($why);
        exit 1;
    }
    return;
}

sub find_program {
    my ($name) = @_;
    return (grep { -f && -x _ } map { "$_/$name" } path())[0];
}

# An ordinary user's PATH may lack the places where daemons are installed.
sub path {
    return (split(/:/, $ENV{PATH} // ''), qw(/usr/local/sbin /usr/sbin /sbin /usr/bin /bin));
}

# --- what runs

# The one private daemon of this process, started when first asked for.
my $daemon;
sub daemon {
    require StreamTest::Daemon;
    return $daemon ||= StreamTest::Daemon->start;
}

# A connection that needs no daemon.
sub connect_test { return Sys::Virt->new(uri => 'test:///default') }

# Some answers only exist here: the C binding has no such method, or crashes.
sub rust {
    my $which = Sys::Virt::Stream->can('implementation');
    my $rust = $which && Sys::Virt::Stream->$which eq 'rust';
    # A build that lost its place to the C binding must not pass for it.
    die "the build under test is not what runs\n"
        if !$rust && ($ENV{SYS_VIRT_STREAM} // '') ne 'c' && grep { m{\bblib/lib$} } @INC;
    return $rust;
}

# A signal that ends the process also ends a call that never returns, which no
# Perl handler could. A file takes seconds: this only has to beat "for ever".
sub deadline {
    alarm($_[0] || $ENV{SYS_VIRT_STREAM_TEST_DEADLINE} || 900);
    return;
}

# Calls a step until it returns true, with pauses; false if that takes
# unreasonably long.
sub within {
    my ($seconds, $step, $pause) = @_;
    my $end = Time::HiRes::time() + $seconds;
    until ($step->()) {
        return 0 if Time::HiRes::time() > $end;
        Time::HiRes::sleep($pause // 0.02);
    }
    return 1;
}

my $scratch;
# Not an object: a thread that ends would destroy its copy, and the directory.
sub scratch { return $scratch ||= File::Temp::tempdir('svsXXXXXX', TMPDIR => 1, CLEANUP => 1) }

# --- child programs

# Runs a program in a perl like this one. Options: args, switches, env, inc (in
# front of @INC), deadline. Gives out, err, status (of exit), signal, hang.
sub run_perl {
    my ($code, %opt) = @_;
    my $dir = scratch();
    my $program = File::Temp->new(DIR => $dir, SUFFIX => '.pl');
    print {$program} $code;
    close $program or die "cannot write a program: $!";
    my %file = map { $_ => "$program.$_" } qw(out err);

    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        eval {
            setpgrp;    # so that a deadline also ends what it started
            %ENV = (%ENV, %{ $opt{env} || {} });
            delete @ENV{ grep { !defined $ENV{$_} } keys %ENV };
            open STDIN,  '<', '/dev/null'  or die "stdin: $!";
            open STDOUT, '>', $file{out}   or die "stdout: $!";
            open STDERR, '>', $file{err}   or die "stderr: $!";
            my @inc = map { "-I$_" } @{ $opt{inc} || [] },
                map { Cwd::abs_path($_) // () } grep { !ref } @INC;
            exec { $^X } $^X, @inc, @{ $opt{switches} || ['-w'] }, "$program",
                @{ $opt{args} || [] };
        };
        print STDERR "cannot run a child: $@ $!";
        POSIX::_exit(127);
    }

    # valgrind is some twenty times slower.
    my $limit = ($opt{deadline} || 240) * ($ENV{SYS_VIRT_STREAM_TEST_VALGRIND} ? 20 : 1);
    my $hang = !within($limit, sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
    my $wait = $?;
    if ($hang) {
        kill 'KILL', -$pid;
        waitpid $pid, 0;
        $wait = $?;
    }
    my %got = (
        out => slurp($file{out}), err => slurp($file{err}), hang => $hang ? 1 : 0,
        status => $wait >> 8, signal => $wait & 127,
    );
    unlink values %file;
    return \%got;
}

# The usual case: it ended well, said exactly this and nothing on stderr.
sub ok_perl {
    my ($code, $out, $name, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got = run_perl($code, %opt);
    my $want = { out => $out, err => '', status => 0, signal => 0, hang => 0 };
    Test::More::is_deeply($got, $want, $name) or Test::More::diag(Test::More::explain($got));
    return $got;
}

# --- contents

sub sha { return Digest::SHA::sha256_hex($_[0]) }
sub sha_file { return Digest::SHA->new(256)->addfile($_[0], 'b')->hexdigest }

# Bytes of every value; no two 64 KiB blocks alike, so a lost, doubled or
# swapped piece changes the digest.
sub pattern {
    my ($bytes, $seed) = @_;
    $seed //= 'stream';
    my $block = join '', map { Digest::SHA::sha512("$seed $_") } 1 .. 1023;
    my $count = int(($bytes + 65535) / 65536);
    return substr join('', map { Digest::SHA::sha512("$seed block $_") . $block } 1 .. $count),
        0, $bytes;
}

sub slurp {
    my ($file) = @_;
    open my $in, '<:raw', $file or die "cannot read $file: $!";
    local $/;
    return scalar(<$in>) // '';
}

sub spew {
    my ($file, $content) = @_;
    open my $out, '>:raw', $file or die "cannot write $file: $!";
    print {$out} $content;
    close $out or die "cannot write $file: $!";
    return $file;
}

# sparse_file($path, hole => 1 << 20, data => 65536, hole => 1 << 20)
sub sparse_file {
    my ($file, @sections) = @_;
    open my $out, '>:raw', $file or die "cannot write $file: $!";
    my $at = 0;
    while (my ($kind, $bytes) = splice @sections, 0, 2) {
        if ($kind eq 'data') {
            seek $out, $at, 0;
            print {$out} pattern($bytes, "sparse $at");
        }
        $at += $bytes;
    }
    $out->flush;
    truncate $out, $at or die "cannot extend $file: $!";
    close $out or die "cannot write $file: $!";
    return $file;
}

# Disk space a file takes, in 512-byte blocks.
sub blocks { return (stat $_[0])[12] }

# --- what goes wrong

sub error_of {
    my ($call) = @_;
    my $lived = eval { $call->(); 1 };
    return $lived ? undef : $@;
}

# A Sys::Virt::Error with these fields; a message may be a pattern.
sub error_is {
    my ($call, $want, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = error_of($call);
    return Test::More::subtest($name => sub {
        Test::More::isa_ok($error, 'Sys::Virt::Error', 'the exception') or do {
            Test::More::diag(Test::More::explain($error));
            return;
        };
        for my $field (sort keys %$want) {
            my $value = $want->{$field};
            ref $value
                ? Test::More::like($error->{$field}, $value, $field)
                : Test::More::is($error->{$field}, $value, $field);
        }
    });
}

sub warnings_of {
    my ($call) = @_;
    my @warnings;
    local $SIG{__WARN__} = sub { push @warnings, @_ };
    $call->();
    return @warnings;
}

1;
