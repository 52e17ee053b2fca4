package StreamTest::Daemon;

# A libvirtd of the test's own, in a directory of its own, sharing no socket,
# configuration or process with the machine's daemons.

use strict;
use warnings;
no warnings "exec"; # what stands behind an exec runs where that failed

use Fcntl ();
use File::Path ();
use File::Spec ();
use File::Temp ();
use IO::Socket::UNIX ();
use POSIX ();
use Time::HiRes ();

# Run as a program, this file is the guard of one daemon: see start_guard.
exit guard(@ARGV) unless caller;

# What is only needed inside a test.
require StreamTest;

# The paths below it have to fit a socket address of 108 bytes.
sub short_tmpdir {
    my $tmp = File::Spec->tmpdir;
    return length $tmp <= 40 ? $tmp : '/tmp';
}

my @running;

# With SYS_VIRT_STREAM_TEST_MODULAR=1, virtqemud takes libvirtd's place. What it leaves to daemons
# of their own comes before it.
my @PROGRAMS = $ENV{SYS_VIRT_STREAM_TEST_MODULAR} ? qw(virtstoraged virtqemud) : 'libvirtd';
sub program { return $PROGRAMS[-1] }

# Options: set_up (called with the daemon before it runs; what it returns goes into its
# configuration), arguments (of libvirtd).
sub start {
    my ($class, %opt) = @_;
    my $dir = File::Temp::tempdir('svsXXXXXX', DIR => short_tmpdir());
    my $self = bless { dir => $dir, owner => $$, guests => 0, arguments => $opt{arguments} || [] }, $class;
    push @running, $self;
    start_guard($self);

    # Root's processes must not run the daemon as root: it would then be a
    # system daemon, with the machine's own sockets.
    if ($> == 0) {
        @$self{qw(uid gid)} = (getpwnam 'nobody')[2, 3];
        defined $self->{uid} or die 'there is no user "nobody" to run a daemon as';
    }
    $self->own($dir, 0755);
    for my $sub (qw(r c k d h pool)) {
        mkdir "$dir/$sub" or die "mkdir $dir/$sub: $!";
        $self->own("$dir/$sub", 0700);
    }
    for my $sub ('c/libvirt') {
        mkdir "$dir/$sub" or die "mkdir $dir/$sub: $!";
        $self->own("$dir/$sub", 0700);
    }
    # Without virtlogd in between there is one process less to start.
    $self->own(StreamTest::spew("$dir/c/libvirt/qemu.conf",
        qq(stdio_handler = "file"\nsecurity_driver = "none"\n)), 0600);
    my $more = $opt{set_up} ? $opt{set_up}->($self) : '';
    $self->own(StreamTest::spew("$dir/libvirtd.conf", <<"CONF"), 0644);
auth_unix_rw = "none"
log_outputs = "3:file:$dir/libvirtd.log"
$more
CONF
    $self->launch;
    return $self;
}

# Hands a file to whom the daemon runs as.
sub own {
    my ($self, $path, $mode) = @_;
    defined $self->{uid} and (chown $self->{uid}, $self->{gid}, $path or die "chown $path: $!");
    chmod $mode, $path or die "chmod $path: $!";
    return $path;
}

sub launch {
    my ($self) = @_;
    # Those beside it stay when it is stopped, and are swept away at the end.
    $self->{beside} ||= [map { $self->run($_) } @PROGRAMS[0 .. $#PROGRAMS - 1]];
    $self->{pid} = $self->run(program());
    my $up = StreamTest::within(120, sub {
        $self->reap and die $self->report(program() . " ended with $self->{wait}");
        IO::Socket::UNIX->new(Peer => $self->socket);
    });
    $up or die $self->report(program() . ' opened no socket');
    return;
}

sub run {
    my ($self, $name) = @_;
    my $dir = $self->{dir};
    my $program = StreamTest::find_program($name) // die "$name is missing\n";
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        eval {
            # Its own group: a terminal's Ctrl-C is for the test to act on.
            setpgrp;
            $SIG{XFSZ} = 'IGNORE';    # as on a full disk: an error and no end
            chdir '/';
            %ENV = (
                PATH => join(':', StreamTest::path()), LC_ALL => 'C', HOME => "$dir/h",
                XDG_RUNTIME_DIR => "$dir/r", XDG_CONFIG_HOME => "$dir/c",
                XDG_CACHE_HOME => "$dir/k", XDG_DATA_HOME => "$dir/d", TMPDIR => $dir,
                map { ("DBUS_${_}_BUS_ADDRESS" => "unix:path=$dir/no-bus") } qw(SYSTEM SESSION),
            );
            open STDIN,  '<',  '/dev/null'          or die "stdin: $!";
            open STDOUT, '>>', "$dir/libvirtd.out"  or die "stdout: $!";
            open STDERR, '>&', \*STDOUT             or die "stderr: $!";
            if (defined $self->{uid}) {
                $) = "$self->{gid} $self->{gid}";
                POSIX::setgid($self->{gid}) or die "setgid: $!";
                POSIX::setuid($self->{uid}) or die "setuid: $!";
            }
            exec { $program } $program, '--config', "$dir/libvirtd.conf", @{ $self->{arguments} };
        };
        print STDERR "cannot run $name: $@ $!\n";
        POSIX::_exit(127);
    }
    open my $pids, '>>', "$dir/pids" or die "$dir/pids: $!";
    print {$pids} "$pid\n";
    close $pids;
    return $pid;
}

# What it said, for a test that could not go on.
sub report {
    my ($self, $what) = @_;
    my $said = join '', map { -e ? StreamTest::slurp($_) : '' }
        map { "$self->{dir}/libvirtd.$_" } qw(out log);
    return "$what\n$said";
}

sub dir      { return $_[0]{dir} }
sub pid      { return $_[0]{pid} }
sub socket   { return "$_[0]{dir}/r/libvirt/" . (program() eq 'libvirtd' ? 'libvirt' : program()) . '-sock' }
sub uri      { return 'qemu+unix:///session?socket=' . ($_[1] // $_[0]->socket) }
sub test_uri { return 'test+unix:///default?socket=' . ($_[1] // $_[0]->socket) }

# A connection to it, the same one until the daemon is stopped.
sub conn { return $_[0]{conn} ||= Sys::Virt->new(uri => $_[0]->uri) }

# --- its life

# True once the process has ended.
sub reap {
    my ($self) = @_;
    return 1 if !$self->{pid};
    my $got = waitpid $self->{pid}, POSIX::WNOHANG();
    return 0 if $got == 0;
    $self->{wait} = $?;
    delete $self->{pid};
    return 1;
}

sub signal {
    my ($self, $name) = @_;
    $$ == $self->{owner} or die 'the daemon is not this process\'s own';
    kill $name, $self->{pid} if $self->{pid};
    return;
}

sub pause  { $_[0]->signal('STOP'); return }
sub resume { $_[0]->signal('CONT'); return }

sub stop {
    my ($self) = @_;
    $self->signal('TERM');
    $self->signal('CONT');
    $self->kill unless StreamTest::within(60, sub { $self->reap });
    delete @$self{qw(conn pool)};
    return;
}

sub kill {
    my ($self) = @_;
    $self->signal('KILL');
    StreamTest::within(60, sub { $self->reap });
    delete @$self{qw(conn pool)};
    return;
}

sub restart {
    my ($self) = @_;
    $self->stop;
    $self->launch;
    return;
}

# A libvirtd 11.3 that cannot write what it is sent spins in its message queue, or
# crashes, whoever the client is; 7.0, 9.0 and 12.8 do not.
sub bears_failed_uploads { return !$_[0]->_is_11_3 }

# A libvirtd 11.3 that finds a connection cut when it has data of a stream to send may wait for ever for
# a lock that it holds itself: daemonStreamEvent takes the client's, and closes the client, at which
# remoteClientFreePrivateCallbacks takes that lock again. In 9.0 it takes none.
sub bears_cuts { return !$_[0]->_is_11_3 }

sub _is_11_3 {
    my ($self) = @_;
    return int($self->conn->get_library_version / 1_000) == 11_003;
}

# From now on it writes no file further than that: what is as good as a full disk.
sub limit_files {
    my ($self, $bytes) = @_;
    my @as = defined $self->{uid} ? ('setpriv', "--reuid=$self->{uid}", "--regid=$self->{gid}", '--clear-groups') : ();
    system(@as, 'prlimit', '--pid', $self->{pid}, "--fsize=$bytes:") == 0 or die "prlimit: $?";
    return;
}

# Starts it again if it has ended by itself.
sub revive {
    my ($self) = @_;
    return 0 unless $self->reap;
    local $SIG{PIPE} = 'IGNORE';    # the connection says goodbye
    delete @$self{qw(conn pool)};
    $self->launch;
    $self->pool;
    return 1;
}

# --- volumes

# A directory pool; files put into pool_dir become volumes by a refresh.
sub pool_dir { return "$_[0]{dir}/pool" }

sub pool {
    my ($self) = @_;
    return $self->{pool} if $self->{pool};
    my $conn = $self->conn;
    my ($pool) = grep { $_->get_name eq 'streams' } $conn->list_all_storage_pools;
    $pool ||= $conn->define_storage_pool(<<"XML");
<pool type='dir'><name>streams</name><target><path>@{[ $self->pool_dir ]}</path></target></pool>
XML
    $pool->create unless $pool->is_active;
    return $self->{pool} = $pool;
}

# A raw volume: with this content, or else of zeros that take no space.
sub volume {
    my ($self, $name, $bytes, $content) = @_;
    $bytes //= defined $content ? length $content : 4 << 20;
    my $path = $self->pool_dir . "/$name";
    # Written here and not uploaded: uploading is what is under test.
    open my $out, '>:raw', $path or die "cannot write $path: $!";
    print {$out} $content if defined $content;
    $out->flush;
    truncate $out, $bytes or die "cannot extend $path: $!";
    close $out or die "cannot write $path: $!";
    return $self->adopt($name);
}

# A file already put into the pool's directory, as a volume.
sub adopt {
    my ($self, $name) = @_;
    $self->own($self->pool_dir . "/$name", 0600);
    my $pool = $self->pool;
    $pool->refresh;
    return $pool->get_volume_by_name($name);
}

# --- a guest

# Options: paused (started, but no instruction run yet).
sub guest {
    my ($self, %opt) = @_;
    require StreamTest::Guest;
    my $name = 'guest' . ++$self->{guests};
    my $image = "$self->{dir}/$name.img";
    $self->own(StreamTest::spew($image, StreamTest::Guest::image()), 0600);
    my $domain = $self->conn->define_domain(StreamTest::Guest::xml($name, $image));
    eval { $domain->create($opt{paused} ? Sys::Virt::Domain::START_PAUSED() : 0); 1 }
        or die $self->report("the guest did not start: $@");
    return $domain;
}

sub guest_says {
    require StreamTest::Guest;
    return StreamTest::Guest::says();
}

# --- the end

# Each process of the daemon (libvirtd, QEMU, and the short-lived ones that ask
# QEMU what it can do) has one of these directories in its environment.
sub processes_of {
    my ($dir) = @_;
    my @found;
    for my $file (glob '/proc/[0-9]*/environ') {
        open my $in, '<', $file or next;
        local $/;
        my $environment = <$in> // next;
        push @found, $file =~ /(\d+)/
            if $environment =~ /(?:\A|\0)XDG_[A-Z]+_(?:HOME|DIR)=\Q$dir\E\//;
    }
    return @found;
}

sub sweep {
    my ($dir) = @_;
    # Again, until none is left that another had started meanwhile.
    for (1 .. 500) {
        my @left = processes_of($dir) or last;
        CORE::kill('KILL', @left);
        Time::HiRes::sleep(0.02);
    }
    remove_locks($dir);
    File::Path::remove_tree($dir, { safe => 0, error => \my $ignored });
    return;
}

# The one thing outside the directory: a lock for each open console, which holds
# the number of the libvirtd that a kill kept from removing it.
sub remove_locks {
    my ($dir) = @_;
    my %ours = map { $_ => 1 } lines("$dir/pids");
    for my $lock (glob '/var/lock/LCK.._pts_*') {
        unlink $lock if grep { /(\d+)/ && $ours{$1} } lines($lock);
    }
    return;
}

sub lines {
    my ($file) = @_;
    open my $in, '<', $file or return;
    chomp(my @lines = <$in>);
    return @lines;
}

# The test may be killed, or crash, or hang in a call and then be interrupted.
# No handler of its own could be relied on to clean up, so a second process does.
sub start_guard {
    my ($self) = @_;
    my $owner = $$;
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        # A new program, holding none of the test's descriptors or memory.
        exec { $^X } $^X, __FILE__, $owner, $self->{dir}
            or POSIX::_exit(127);
    }
    $self->{guard} = $pid;
    return;
}

sub guard {
    my ($owner, $dir) = @_;
    POSIX::setsid();
    open STDIN,  '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    open STDERR, '>', '/dev/null';
    Time::HiRes::sleep(0.2) while getppid == $owner;
    sweep($dir);
    return 0;
}

END {
    for my $running (grep { $_->{owner} == $$ } @running) {
        local ($?, $!, $@);
        # Connections that live on say goodbye to a daemon that is gone.
        $SIG{PIPE} = 'IGNORE';
        delete @$running{qw(pool conn)};
        sweep($running->{dir});
        CORE::kill('KILL', $running->{guard});
        waitpid $_, 0 for grep { $_ } @$running{qw(pid guard)}, @{ $running->{beside} || [] };
    }
}

1;
