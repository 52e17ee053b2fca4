package Transport;

# A private libvirtd that listens on the loopback interface, and an sshd beside it, with keys and
# certificates made on the spot. Both end with the test, as the daemon's guard ends all that has
# its folder in the environment.

use strict;
use warnings;

use IO::Socket::INET ();
use POSIX ();
use StreamTest ();
use StreamTest::Daemon ();

sub start {
    my ($class) = @_;
    my $self = bless { tcp => free_port(), tls => free_port(), ssh => free_port() }, $class;
    $self->{no_tcp} = $self->{no_tls} = 'it does not listen' if StreamTest::Daemon->program ne 'libvirtd';
    $self->{daemon} = StreamTest::Daemon->start(
        # Of the modular daemons, virtproxyd would listen.
        arguments => [$self->{no_tcp} ? () : '--listen'],
        set_up    => sub { $self->{dir} = $_[0]->dir; return $self->{no_tcp} ? '' : $self->listening($_[0]) },
    );
    $self->run_sshd;
    return $self;
}

sub daemon { return $_[0]{daemon} }

# Each way's URI, or what is missing for it.
sub ways {
    my ($self) = @_;
    my ($daemon, $dir, $user) = ($self->{daemon}, $self->{dir}, scalar getpwuid $>);
    my $tls = "qemu+tls://127.0.0.1:$self->{tls}/session?pkipath=$dir/pki";
    my $ssh = "qemu+ssh://$user\@127.0.0.1:$self->{ssh}/session?command=$dir/ssh/ssh&socket=" . $daemon->socket;
    return (
        unix => { uri => $daemon->uri },
        tcp  => $self->{no_tcp} ? { missing => $self->{no_tcp} } : { uri => "qemu+tcp://127.0.0.1:$self->{tcp}/session" },
        tls  => $self->{no_tls} ? { missing => $self->{no_tls} } : { uri => $tls, refused => "${tls}2" },
        ssh  => $self->{no_ssh} ? { missing => $self->{no_ssh} } : { uri => $ssh },
    );
}

sub free_port {
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "no port: $!";
    return $socket->sockport;
}

sub listening {
    my ($self, $daemon) = @_;
    my $text = qq(listen_addr = "127.0.0.1"\nlisten_tcp = 1\ntcp_port = "$self->{tcp}"\nauth_tcp = "none"\n);
    $self->{no_tls} = 'openssl is missing' unless StreamTest::find_program('openssl');
    return "${text}listen_tls = 0\n" if $self->{no_tls};
    authority("$self->{dir}/pki");
    authority("$self->{dir}/pki2");    # of someone else
    $daemon->own("$self->{dir}/pki/$_.pem", 0600) for qw(serverkey);
    return $text . <<"CONF";
listen_tls = 1
tls_port = "$self->{tls}"
auth_tls = "none"
ca_file = "$self->{dir}/pki/cacert.pem"
cert_file = "$self->{dir}/pki/servercert.pem"
key_file = "$self->{dir}/pki/serverkey.pem"
CONF
}

# A CA, and the certificates of a server and a client, by the names that libvirt looks for.
sub authority {
    my ($dir) = @_;
    mkdir $dir or die "$dir: $!";
    my @key = qw(-newkey rsa:2048 -nodes);
    openssl('req', '-x509', @key, '-keyout', "$dir/cakey.pem", '-out', "$dir/cacert.pem", '-days', 2,
        '-subj', '/CN=CA', '-addext', 'keyUsage=critical,keyCertSign');
    for (['server', 'serverAuth'], ['client', 'clientAuth']) {
        my ($name, $use) = @$_;
        openssl('req', @key, '-keyout', "$dir/${name}key.pem", '-out', "$dir/$name.csr", '-subj', "/CN=$name");
        StreamTest::spew("$dir/$name.ext", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=$use\n"
            . "keyUsage=digitalSignature,keyEncipherment\nbasicConstraints=CA:FALSE\n");
        openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/cacert.pem", '-CAkey', "$dir/cakey.pem",
            '-CAcreateserial', '-days', 2, '-extfile', "$dir/$name.ext", '-out', "$dir/${name}cert.pem");
    }
    return;
}

sub openssl { return quietly('openssl', @_) }

sub quietly {
    my ($program, @arguments) = @_;
    my $log = StreamTest::scratch() . "/$program.out";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        exec $program, @arguments or POSIX::_exit(127);
    }
    waitpid $pid, 0;
    $? == 0 or die "$program @arguments failed:\n" . StreamTest::slurp($log);
    return;
}

sub run_sshd {
    my ($self) = @_;
    my $sshd = StreamTest::find_program('sshd');
    ($self->{no_ssh}) = map { "$_ is missing" } grep { !StreamTest::find_program($_) } qw(sshd ssh ssh-keygen nc);
    return if $self->{no_ssh};
    my ($dir, $port) = ("$self->{dir}/ssh", $self->{ssh});
    mkdir $dir or die "$dir: $!";
    quietly('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', "$dir/$_") for qw(host user);
    my $host = StreamTest::slurp("$dir/host.pub");
    StreamTest::spew("$dir/known", "[127.0.0.1]:$port $host");
    StreamTest::spew("$dir/client.conf", "UserKnownHostsFile $dir/known\nIdentityFile $dir/user\n"
        . "IdentitiesOnly yes\nBatchMode yes\n");
    StreamTest::spew("$dir/ssh", qq(#!/bin/sh\nexec ssh -F "$dir/client.conf" "\$@"\n));
    chmod 0755, "$dir/ssh";
    StreamTest::spew("$dir/server.conf", <<"CONF");
ListenAddress 127.0.0.1:$port
HostKey $dir/host
AuthorizedKeysFile $dir/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
CONF
    # sshd of root wants this folder, which its service makes.
    $self->{made} = $> == 0 && mkdir '/run/sshd';
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        $ENV{XDG_DATA_HOME} = "$self->{dir}/d";
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', "$dir/log";
        open STDERR, '>&', \*STDOUT;
        exec $sshd, '-D', '-e', '-f', "$dir/server.conf" or POSIX::_exit(127);
    }
    $self->{sshd} = $pid;
    StreamTest::within(60, sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") })
        or die "sshd does not listen:\n" . StreamTest::slurp("$dir/log");
    return;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!);
    if ($self->{sshd}) {
        kill 'TERM', $self->{sshd};
        waitpid $self->{sshd}, 0;
    }
    rmdir '/run/sshd' if $self->{made};
    return;
}

1;
