#!perl
# A Linux guest's console by the socket of its stream: a login under Expect, a megabyte pasted, reboots, and the
# time from a typed byte to its echo beside virsh's.
use strict;
use warnings;

use IO::Select ();
use POSIX ();
use Test::More;
use Time::HiRes ();
use lib 't/lib', 'xt/lib';
use StreamTest qw(libvirtd qemu console);
use LoginGuest;

plan skip_all => 'the C binding has no sockets' unless rust();
plan skip_all => 'Expect is missing: install libexpect-perl (Debian)' unless eval { require Expect };
my ($kernel, $missing) = LoginGuest::parts();
plan skip_all => $missing unless $kernel;
deadline(1_800);

my $PATIENCE = 300;
# The shell asks the terminal for its cursor's place with every prompt.
my $PROMPT = qr/login\d+# (?:\e\[6n)?\z/;
my $daemon = daemon();

# A console, and Expect on it. The guest has not run an instruction yet.
sub started {
    my ($guest) = @_;
    $guest->create(Sys::Virt::Domain::START_PAUSED());
    my ($st, $exp) = opened($guest);
    $guest->resume;
    return ($st, $exp);
}

sub opened {
    my ($guest, $device) = @_;
    my $st = $daemon->conn->new_stream;
    $guest->open_console($st, $device, 0);
    return ($st, Expect->exp_init($st->socket));
}

sub sees {
    my ($exp, $what, $name) = @_;
    my @got = $exp->expect($PATIENCE, ref $what ? ('-re', $what) : $what);
    return ok(defined $got[0], $name) || diag $got[1] // 'nothing', "\n", $got[3];
}

sub log_in {
    my ($exp) = @_;
    sees($exp, 'login: ', 'the guest asks who it is') or return;
    $exp->send(LoginGuest::user() . "\r");
    sees($exp, 'Password: ', '... and for a password') or return;
    $exp->send(LoginGuest::password() . "\r");
    return sees($exp, $PROMPT, '... and lets in');
}

sub runs {
    my ($exp, $command, $says) = @_;
    $exp->send("$command\r");
    return sees($exp, $says, $command) && sees($exp, $PROMPT, '... and it ends');
}

# Nothing comes but the end.
sub ends {
    my ($st, $exp, $name) = @_;
    my @got = $exp->expect($PATIENCE, '-re', qr/login: \z/);
    is $got[1], '2:EOF', "$name: end of file" or diag explain \@got;
    is error_of(sub { $st->finish }), undef, '... and the stream has no error';
}

my $guest = LoginGuest::define($daemon);
my ($st, $exp) = started($guest);
log_in($exp) or BAIL_OUT('the guest cannot be used');

subtest 'a command' => sub { runs($exp, 'echo $((6 * 7))', qr/\r\n42\r\n/) };

subtest 'a line of a megabyte' => sub {
    # The serial port takes minutes for that much.
    my ($st, $exp) = opened($guest, LoginGuest::fast());
    $exp->send("\r");
    log_in($exp);
    my $line = pattern(1 << 20) =~ tr/\x21-\x7e/./cr;
    my $bytes = 1 + length $line;
    # A terminal's own lines end at 4,096 bytes: raw, it has none. The quotes keep the echo from being the answer.
    $exp->send("stty raw -echo; echo rea''dy; head -c $bytes | sha256sum; stty sane\r");
    sees($exp, 'ready', 'the guest waits for it');
    my $from = Time::HiRes::time();
    $exp->send("$line\r");
    sees($exp, sha("$line\r"), 'it arrives whole');
    diag sprintf '%d bytes in %.1f s', $bytes, Time::HiRes::time() - $from;
    sees($exp, $PROMPT, '... and the shell goes on');
    is_deeply [$st->abort], [], 'abort leaves it';
};

# The seconds from a byte to its echo, many times.
sub echoes {
    my ($fh) = @_;
    my $ready = IO::Select->new($fh);
    my @took;
    for my $byte ('a' .. 'z', 'a' .. 'z', 'a' .. 'z', 'a' .. 'z') {
        my $from = Time::HiRes::time();
        syswrite $fh, $byte or die "cannot type: $!";
        $ready->can_read($PATIENCE) && sysread $fh, my $echo, 100 or die 'no echo';
        push @took, Time::HiRes::time() - $from;
        die "$echo for $byte" if $echo ne $byte;
    }
    return @took;
}

sub median { return sprintf '%.2f ms', 1_000 * (sort { $a <=> $b } @_)[@_ / 2] }

subtest 'the time to an echo' => sub {
    plan skip_all => 'virsh is missing' unless StreamTest::find_program('virsh');
    # The guest's terminal echoes, and nobody else.
    $exp->send("exec sh -c \"echo rea''dy; exec cat >/dev/null\"\r");
    sees($exp, "ready\r\n", 'a guest that echoes');
    my %took;
    for my $round (1 .. 4) {
        push @{ $took{socket} }, echoes($exp);
        $exp->send("\r");
        sees($exp, "\r\n", 'by the socket');
        $st->abort;
        my $virsh = Expect->new;
        $virsh->raw_pty(1);
        $virsh->log_stdout(0);
        $virsh->spawn('virsh', '-q', '-c', $daemon->uri, 'console', $guest->get_name) or die "virsh: $!";
        # It says nothing when it is ready, and drops what is typed earlier.
        ok within($PATIENCE, sub { $virsh->send("\r"); defined $virsh->expect(1, "\n") }), 'virsh is there';
        1 while defined $virsh->expect(1, "\n");
        push @{ $took{virsh} }, echoes($virsh);
        $virsh->send("\r\x1d");
        $virsh->soft_close;
        ($st, $exp) = opened($guest);
    }
    diag "a byte to its echo: $_ ", median(@{ $took{$_} }) for sort keys %took;
};

subtest 'a reboot that keeps the machine' => sub {
    $exp->send("\x03");
    log_in($exp);
    $exp->send("reboot -f\r");
    log_in($exp);
    $guest->destroy;
    ends($st, $exp, 'the machine goes');
};

subtest 'a reboot that ends the machine' => sub {
    my $guest = LoginGuest::define($daemon, on_reboot => 'destroy');
    for my $round (1, 2) {
        my ($st, $exp) = started($guest);
        log_in($exp);
        runs($exp, 'echo $((6 * 7))', qr/\r\n42\r\n/);
        $exp->send("reboot -f\r");
        ends($st, $exp, "round $round");
        ok within($PATIENCE, sub { !$guest->is_active }), 'the guest is off';
    }
};

# The small guests of t/, which send back what comes.
subtest 'examples/console-log, 100 guests' => sub {
    plan skip_all => 'IO::Async is missing: install libio-async-perl (Debian)' unless eval { require IO::Async };
    $_->destroy for $daemon->conn->list_all_domains(Sys::Virt::Domain::LIST_ACTIVE());
    my @guests = map { $daemon->guest(paused => 1) } 1 .. 100;
    my %log = map { $_->get_name => scratch() . '/' . $_->get_name . '.serial0.log' } @guests;
    my %tty = map { $_->get_name => $_->get_xml_description =~ m{<console [^>]*tty='([^']+)'} } @guests;
    my $pid = fork // die "cannot fork: $!";
    exec { $^X } $^X, (map { "-I$_" } grep { !ref } @INC), 'examples/console-log.pl', $daemon->uri, scratch() if !$pid;
    my $opened = sub { my %is = map { (readlink // '') => 1 } glob '/proc/' . $daemon->pid . '/fd/*'; return \%is };
    ok within($PATIENCE, sub { my $is = $opened->(); !grep { !$is->{$_} } values %tty }, 1), 'all consoles are open';
    # One after the other, as a hundred that run take all of a processor.
    my $whole = 0;
    for my $guest (@guests) {
        my $name = $guest->get_name;
        my $text = $name . 'x' x 1_000 . "\n";
        $guest->resume;
        open my $tty, '>', $tty{$name} or die "$tty{$name}: $!";
        syswrite $tty, "?$text";
        $whole += within($PATIENCE, sub { slurp($log{$name}) eq $daemon->guest_says . $text });
        $guest->suspend;
    }
    is $whole, @guests, 'each log has what its guest says';
    diag join ', ', slurp("/proc/$pid/status") =~ /^(Threads:.*|VmRSS:.*)$/mg;
    $_->destroy for @guests;
    ok within($PATIENCE, sub { waitpid($pid, POSIX::WNOHANG()) == $pid }), 'it ends with the last guest' or kill KILL => $pid;
    is $?, 0, '... well';
};

done_testing;
