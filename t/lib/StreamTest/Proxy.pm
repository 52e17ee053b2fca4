package StreamTest::Proxy;

# Stands between a program and a daemon, on a socket of its own, and spoils a connection
# at a chosen byte of a chosen message. A rule holds for the connections made after it.
#   side  whose messages count: client or server (the default)
#   type  which kind of message counts; stream data by default
#   nth   which one of them, from 1 on
#   at    the byte of the message (its length comes first, then six header words)
#   do    cut, silence (that side is never heard again), garble, or trickle
#   with  what to write there instead, for garble
#   ends  a file that gets a line for each finish or abort of the client's
#   moved  a file that gets a line for what each side sends: its name and the number of bytes

use strict;
use warnings;

use IO::Select ();
use IO::Socket::UNIX ();
use List::Util ();
use POSIX ();
use StreamTest ();

my $made = 0;
use constant { STREAM => 3, CONTINUE => 2 };

sub start {
    my ($class, $daemon) = @_;
    my $dir = StreamTest::scratch();
    my $self = bless {
        socket => "$dir/p.$$." . ++$made, daemon => $daemon, owner => $$,
    }, $class;
    $self->{listen} = IO::Socket::UNIX->new(Local => $self->{socket}, Listen => 8)
        or die "no socket at $self->{socket}: $!";
    return $self->rule;
}

# The rule for what connects from now on; what was connected is cut.
sub rule {
    my ($self, %rule) = @_;
    $self->_end;
    $self->{moved} = $rule{moved} // '';
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) {
        my $parent = getppid;
        $SIG{$_} = 'DEFAULT' for qw(ALRM TERM);
        $SIG{PIPE} = 'IGNORE';
        alarm 0;
        eval { _serve($self->{listen}, $self->{daemon}, $parent, %rule) };
        POSIX::_exit(0);
    }
    $self->{pid} = $pid;
    return $self;
}

sub socket { return $_[0]{socket} }
sub cut    { return $_[0]->rule }

# How many bytes that side has sent, by the rule's file of those.
sub moved {
    my ($self, $side) = @_;
    my $lines = -e $self->{moved} ? StreamTest::slurp($self->{moved}) : '';
    return List::Util::sum(0, $lines =~ /^$side ([0-9]+)$/mg);
}

sub _end {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill 'KILL', $pid;
    waitpid $pid, 0;
    return;
}

sub DESTROY {
    my ($self) = @_;
    return if $self->{owner} != $$;
    local ($?, $!, $@);
    $self->_end;
    unlink $self->{socket};
    return;
}

# --- the process between

sub _serve {
    my ($listen, $daemon, $parent, %rule) = @_;
    my $select = IO::Select->new($listen);
    my %other;
    while (getppid == $parent) {
        for my $ready ($select->can_read(0.5)) {
            if ($ready == $listen) {
                my $client = $listen->accept or next;
                my $server = IO::Socket::UNIX->new(Peer => $daemon) or next;
                my %common = (seen => 0, rule => \%rule);
                $other{$client} = { %common, from => $client, to => $server, side => 'client', held => '' };
                $other{$server} = { %common, from => $server, to => $client, side => 'server', held => '' };
                $select->add($client, $server);
                next;
            }
            my $way = $other{$ready} or next;
            next if _move($way);
            for my $end (@$way{qw(from to)}) {
                $select->remove($end);
                delete $other{$end};
                shutdown $end, 2;
                close $end;
            }
        }
    }
    return;
}

# Moves what has come; false when the connection is over.
sub _move {
    my ($way) = @_;
    my $got = sysread $way->{from}, my $data, 1 << 18 or return 0;
    return 1 if $way->{silent};
    my $rule = $way->{rule};
    _add_line($rule->{moved}, "$way->{side} $got") if $rule->{moved};
    my $spoils = $rule->{do} && $way->{side} eq ($rule->{side} // 'server') && !$way->{done};
    my $ends   = $way->{side} eq 'client' && $rule->{ends};
    return _write($way, $data) unless $spoils || $ends;
    $way->{held} .= $data;
    while (length $way->{held} >= 28) {
        my ($length, $type, $status) = (unpack 'N7', $way->{held})[0, 4, 6];
        last if length $way->{held} < $length;
        my $message = substr $way->{held}, 0, $length, '';
        _add_line($ends, $status ? 'abort' : 'finish') if $ends && $type == STREAM && $status != CONTINUE;
        my $counts = $spoils && $type == ($rule->{type} // STREAM);
        if (!$counts || ++$way->{seen} != ($rule->{nth} // 1)) {
            _write($way, $message) or return 0;
            next;
        }
        $way->{done} = 1;
        my $at = $rule->{at} // 0;
        if ($rule->{do} eq 'garble') {
            substr($message, $at, length $rule->{with}) = $rule->{with};
        }
        elsif ($rule->{do} eq 'trickle') {
            for my $byte (split //, substr $message, 0, 40, '') {
                _write($way, $byte) or return 0;
                select undef, undef, undef, 0.005;
            }
        }
        else {
            _write($way, substr $message, 0, $at);
            $way->{silent} = 1;
            return $rule->{do} eq 'silence';
        }
        my $ok = _write($way, $message . $way->{held});
        $way->{held} = '';
        return $ok;
    }
    return 1;
}

sub _add_line {
    my ($file, $line) = @_;
    open my $out, '>>', $file or return;
    print {$out} "$line\n";
    close $out;
    return;
}

sub _write {
    my ($way, $data) = @_;
    while (length $data) {
        my $count = syswrite $way->{to}, $data or return 0;
        substr $data, 0, $count, '';
    }
    return 1;
}

1;
