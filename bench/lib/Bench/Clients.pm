package Bench::Clients;

# The programs that are compared, and how one of them is run.

use strict;
use warnings;

use Cwd ();
use File::Temp ();
use POSIX ();

# Where a run's own files are; gone at its end.
my $dir = File::Temp->newdir('svsbenchXXXXXX', TMPDIR => 1);
my $owner = $$;
my $child;

sub dir { return "$dir" }

# An interrupted run ends like any other, so that all that cleans up does.
sub take_signals {
    for my $name (qw(INT TERM HUP PIPE)) {
        $SIG{$name} = sub {
            kill 'KILL', $child if $child && $$ == $owner;
            print STDERR "bench: ended by SIG$name\n";
            exit 130;
        };
    }
    return;
}

# Runs a command to its end: (exit status, what it printed, what it complained of).
sub run {
    my ($env, @command) = @_;
    my ($out, $err) = map { "$dir/$_" } qw(out err);
    $child = fork // die "cannot fork: $!";
    if (!$child) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        # One and the same order of hashes makes instructions repeat.
        %ENV = (%ENV, PERL_HASH_SEED => 0, PERL_PERTURB_KEYS => 0, PYTHONHASHSEED => 0,
            PYTHONDONTWRITEBYTECODE => 1, LC_ALL => 'C', %$env);
        delete @ENV{ grep { !defined $ENV{$_} } keys %ENV };
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', $out or POSIX::_exit(126);
        open STDERR, '>', $err or POSIX::_exit(126);
        no warnings 'exec';
        exec { $command[0] } @command;
        print STDERR "cannot run $command[0]: $!\n";
        POSIX::_exit(127);
    }
    waitpid $child, 0;
    my $status = $?;
    undef $child;
    return ($status, slurp($out), slurp($err));
}

sub slurp {
    my ($file) = @_;
    open my $in, '<:raw', $file or return '';
    local $/;
    return scalar(<$in>) // '';
}

sub ok {
    my ($what, @command) = @_;
    my ($status, $out, $err) = run({}, @command);
    die "$what: @command\n$out$err" if $status;
    return $out;
}

sub find {
    my ($name) = @_;
    return (grep { -f && -x _ } map { "$_/$name" } split(/:/, $ENV{PATH} // ''), '/usr/bin')[0];
}

sub build {
    my ($source) = @_;
    my $cc = $ENV{CC} || find('cc') || find('gcc') || die "no C compiler: set CC\n";
    my $config = find('pkg-config') || die "no pkg-config\n";
    my @libvirt = split ' ', ok('libvirt-dev', $config, qw(--cflags --libs libvirt));
    ok('building', $cc, qw(-O2 -Wall -o), "$dir/client", "$source/client.c", @libvirt);
    ok('building', $cc, qw(-O2 -Wall -o), "$dir/timed", "$source/timed.c");
    return;
}

# The machine's first python3 may be one without the binding.
sub python {
    my %seen;
    for my $try (grep { defined && !$seen{$_}++ }
        $ENV{BENCH_PYTHON}, '/usr/bin/python3', map { "$_/python3" } split /:/, $ENV{PATH} // '') {
        next if !-x $try;
        my ($status, $out) = run({}, $try, '-c',
            'import sys, libvirt; v = libvirt.getVersion();'
            . ' print(sys.version.split()[0], "%d.%d.%d" % (v // 1000000, v // 1000 % 1000, v % 1000))');
        return ($try, split ' ', $out) if !$status;
    }
    return;
}

# The clients there are, the one to compare with first. Each: name, title,
# command, env, version.
sub all {
    my ($source, $blib) = @_;
    my @found = {
        name => 'client', title => 'C client', command => ["$dir/client"], env => {},
        version => 'libvirt ' . ok('libvirt', find('pkg-config'), '--modversion', 'libvirt') =~ s/\s+//gr,
    };
    # In one folder, as when it is installed: so it is found without more modules.
    my $lib = Cwd::abs_path($dir) . '/lib';
    mkdir $lib;
    ok('copying', 'cp', '-R', "$blib/lib/.", "$blib/arch/.", $lib) if -d $blib;
    my @perl = ($^X, "-I$lib", "$source/client.pl");

    for my $perl (
        { name => 'c',    title => 'C binding',    env => { SYS_VIRT_STREAM => 'c' } },
        { name => 'rust', title => 'this library', env => { SYS_VIRT_STREAM => undef } },
    ) {
        if ($perl->{name} eq 'rust' && !-d $blib) {
            print STDERR "bench: this library is not built (no $blib): left out\n";
            next;
        }
        my ($status, $out, $err) = run($perl->{env}, @perl, '-', 'which');
        $status and die "$perl->{title}: $err";
        my ($virt, $version, $object) = split ' ', $out;
        my $ours = $object =~ m{^\Q$lib/} ? 1 : 0;
        $ours == ($perl->{name} eq 'rust')
            or die "$perl->{title}: recv is answered by $object\n";
        push @found, { %$perl, command => [@perl],
            version => $ours ? "Sys::Virt::Stream $version, Sys::Virt $virt" : "Sys::Virt $virt" };
    }

    if (my ($python, $version, $libvirt) = python()) {
        push @found, { name => 'python', title => 'Python binding', env => {},
            command => [$python, "$source/client.py"],
            version => "Python $version, libvirt $libvirt" };
    } else {
        print STDERR "bench: no Python with libvirt's binding: left out\n";
    }
    return @found;
}

# Runs one client once, in front of it whatever is to measure it. Gives what it
# moved and what it cost; dies if it moved something else than it was to.
sub once {
    my ($client, $in_front, @args) = @_;
    my ($status, $out, $err) = run($client->{env}, "$dir/timed", "$dir/cost",
        @$in_front, @{ $client->{command} }, @args);
    die "$client->{title}: @args\n$out$err" if $status || $out !~ /^(\d+) (\d+)$/m;
    my %got = (bytes => $1, calls => $2, err => $err);
    my ($user, $system, $wall, $peak, $faults) = split ' ', slurp("$dir/cost");
    die "$client->{title}: @args: $got{bytes} bytes\n"
        if $args[1] ne 'start' && $got{bytes} != $args[3];
    return { %got, cpu => $user + $system, wall => $wall, peak => $peak / 1024,
        faults => $faults };
}

# With both on one processor, client and daemon take turns in one way only: the
# pieces in which a packet arrives, and so the polls it takes, repeat.
my @on_one;
sub one_processor {
    my ($daemon, $one) = @_;
    my $taskset = find('taskset') || return;
    my ($all, $first) = ok('taskset', $taskset, '-cp', $$) =~ /:\s*((\d+)\S*)/ or return;
    ok('taskset', $taskset, '-acp', $one ? $first : $all, $daemon);
    @on_one = $one ? ($taskset, '-c', $first) : ();
    return;
}

# Instructions of a whole run, of all its threads.
sub instructions {
    my ($client, $out, @args) = @_;
    my $valgrind = find('valgrind') || die "no valgrind\n";
    my $got = once($client, [@on_one, $valgrind, '--tool=callgrind', "--callgrind-out-file=$out"], @args);
    $got->{err} =~ /Collected\s*:\s*(\d+)/ or die "callgrind: $got->{err}";
    return { %$got, instructions => $1 };
}

1;
