# virt-stream's console: a guest that echoes, on a terminal and on pipes.
use strict;
use warnings;

use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd qemu console);
use StreamTest::Command;

plan skip_all => 'virt-stream is of no use on the C binding' unless rust();

$SIG{PIPE} = 'IGNORE';
my $daemon = daemon();
my $says = $daemon->guest_says;
my ($guest, $name);

sub fresh {
    $guest->destroy if $guest && $guest->is_active;
    $guest = $daemon->guest(paused => 1);
    return $name = $guest->get_name;
}

sub console { return StreamTest::Command->start(['-c', $daemon->uri, 'console', @{ $_[0] }, $name], @_[1 .. $#_]) }

# Everything comes through as it is, each way.
my $all = join '', map { chr } grep { $_ != 0x1d } 0 .. 255;

# --- on a terminal

SKIP: {
    my $why = StreamTest::Command::no_terminal();
    skip $why, 7 if $why;

    my $begun = sub {
        my (@options) = @_;
        fresh();
        my $run = console([@options], terminal => 80);
        if (!@options) { $run->sees(qr/Connected to \Q$name\E, leave with Ctrl-\]/) or diag $run->seen }
        within(60, sub { $run->settings ne $run->{before} }) or diag 'it is never raw';
        $guest->resume;
        $run->type('?');    # at which the guest begins to speak
        $run->sees(qr/\Q$says\E/) or diag $run->seen;
        return $run;
    };
    # In whatever way it ends, the terminal is as it was.
    my $restored = sub {
        my ($run, $name, %want) = @_;
        my $got = $run->end;
        is $run->settings, $run->{before}, "$name: the terminal is restored";
        is_deeply { map { $_ => $got->{$_} } qw(status signal hang) }, { status => 0, signal => 0, hang => 0, %want },
            '... and how it ends' or diag explain $got;
        return $got;
    };

    subtest 'a conversation' => sub {
        my $run = $begun->();
        isnt $run->settings, $run->{before}, 'the terminal is raw';
        $run->type("hello\r");
        ok $run->sees(qr/hello\r/), 'bytes go in and come back';
        for my $key ("\x03", "\x1a", "\x04", "\x1c") {
            my $before = length $run->seen;
            $run->type("<$key>");
            ok $run->sees(qr/\A.{$before}<\Q$key\E>/s), sprintf 'so does Ctrl-%s', chr(64 + ord $key);
        }
        my $before = length $run->seen;
        $run->type($all);
        ok $run->sees(qr/\Q$all\E/), 'and every other byte' or diag unpack 'H*', substr $run->seen, $before;
        my $long = join '', map { "line $_ of a longer text\n" } 1 .. 200;
        $run->type($long);
        ok $run->sees(qr/\Q$long\E/), 'and much at a time';
        $run->type("last\x1dnot sent");
        $restored->($run, 'Ctrl-]');
        ok $guest->is_active, 'the guest goes on';
    };

    my %number = (INT => 2, TERM => 15, HUP => 1, QUIT => 3, USR1 => 10, USR2 => 12, ALRM => 14, VTALRM => 26, RTMIN => 34);
    for my $signal (sort keys %number) {
        my $run = $begun->('-q');
        kill $number{$signal}, $run->pid;
        $restored->($run, $signal, signal => $number{$signal});
    }

    subtest 'stopped and continued' => sub {
        my $run = $begun->('-q');
        my $stopped = sub { (slurp('/proc/' . $run->pid . '/stat') =~ /\) (\w)/)[0] eq 'T' };
        kill TSTP => $run->pid;
        ok within(60, $stopped), 'it stops';
        is $run->settings, $run->{before}, 'and the terminal is restored';
        kill CONT => $run->pid;
        ok within(60, sub { $run->settings ne $run->{before} }), 'it goes on, and the terminal is raw';
        $run->type('again');
        ok $run->sees(qr/again/), '... with the conversation';
        $run->type("\x1d");
        $restored->($run, 'Ctrl-]');
    };

    {
        my $run = $begun->();
        $guest->destroy;
        my $got = $restored->($run, 'the guest is shut down');
        unlike $got->{seen}, qr/virt-stream:/, 'which is no failure';
    }
    {
        my $run = $begun->();
        $daemon->kill;
        my $got = $restored->($run, 'the daemon is killed', status => 1);
        like $got->{seen}, qr/virt-stream: the console of \Q$name\E: \S/, 'and what is said';
        undef $guest;
        $daemon->launch;
    }
    subtest 'nothing is said by a quiet one' => sub {
        my $run = $begun->('--quiet');
        $run->type("\x1d");
        my $got = $restored->($run, 'Ctrl-]');
        is $got->{seen}, $says, 'but what the guest says';
    };
    subtest 'a console in use' => sub {
        my $run = $begun->();
        my $second = console(['-q'], terminal => 80);
        my $got = $restored->($second, 'the second', status => 1);
        like $got->{seen}, qr/virt-stream: the console of \Q$name\E: .*console/, 'is refused';
        my $third = console([qw(-q --safe)], terminal => 80);
        $restored->($third, 'a safe one', status => 1);
        my $forced = console([qw(-q --force)], terminal => 80);
        $restored->($run, 'the first, when another is forced', status => 1);
        $forced->type('mine');
        ok $forced->sees(qr/mine/), '... which goes on';
        $forced->type("\x1d");
        $restored->($forced, 'the other');
        fresh();
    };
}

# --- on pipes

sub piped {
    my ($name, $code) = @_;
    fresh();
    my $out = scratch() . '/console';
    unlink $out;
    pipe my $reader, my $writer or die "pipe: $!";
    my $run = console([], in => $reader, out => $out);
    close $reader;
    $writer->autoflush(1);
    my $has = sub { my ($what) = @_; within(120, sub { -e $out && slurp($out) =~ $what }) };
    ok connected(), "$name: it is there";
    $guest->resume;
    print {$writer} '?';    # at which the guest begins to speak
    $code->($run, $writer, $has);
    close $writer if fileno $writer;
    my $got = $run->end;
    is_deeply [@$got{qw(err status signal hang)}], ['', 0, 0, 0], "$name: it ends with the console" or diag explain $got;
    return $got->{out};
}

# The daemon has opened the guest's console for somebody. What the guest says before is lost.
sub connected {
    my ($path) = $guest->get_xml_description =~ m{<console [^>]*tty='([^']+)'};
    return within(60, sub { grep { (readlink // '') eq $path } glob '/proc/' . $daemon->pid . '/fd/*' });
}

subtest 'input and output are pipes' => sub {
    my $long = pattern(5_000);
    my $out = piped('a pipe', sub {
        my ($run, $writer, $has) = @_;
        print {$writer} "\x1d", $long;
        close $writer;
        ok $has->(qr/\A\Q$says\E\x1d\Q$long\E\z/), 'all bytes come back, after the end of the input, too';
        Time::HiRes::sleep(0.5);
        ok !$run->reap, 'which is not the console\'s';
        my $before = times_of($run->pid);
        Time::HiRes::sleep(2);
        cmp_ok times_of($run->pid) - $before, '<', 100, 'it does not spin while nothing comes';
        $guest->destroy;
    });
    is sha($out), sha("$says\x1d$long"), 'nothing more';
};

subtest 'a log' => sub {
    fresh();
    my $log = spew(scratch() . '/console.log', "before\n");
    pipe my $reader, my $writer or die "pipe: $!";
    $writer->autoflush(1);
    my $run = console(['--log', $log], in => $reader);
    close $reader;
    ok connected(), 'it is there';
    $guest->resume;
    print {$writer} '?', $all;
    ok within(120, sub { slurp($log) eq "before\n$says$all" }), 'what the guest says goes there, behind what there was'
        or diag unpack 'H*', slurp($log);
    $guest->destroy;
    is $run->end->{out}, "$says$all", 'and to standard output';
    fresh();
    is console(['--log', scratch() . '/none/x'])->end->{err},
        'virt-stream: cannot write ' . scratch() . "/none/x: No such file or directory\n", 'a folder that is not there';
    SKIP: {
        skip 'no full device here', 1 unless -c '/dev/full';
        my $full = console([qw(--log /dev/full)], in => do { pipe my $in, $writer or die $!; $writer->autoflush(1); $in });
        ok connected(), 'it is there';
        $guest->resume;
        print {$writer} '?';
        is $full->end->{err}, "virt-stream: cannot write /dev/full: No space left on device\n", 'a full disk ends it';
    }
    $guest->destroy;
};

subtest 'no input' => sub {
    fresh();
    # Standard input has layers, which a console has no use of.
    my $run = console([], env => { PERL_UNICODE => 'SDA' });
    ok connected(), 'it is there';
    $guest->destroy;
    my $got = $run->end;
    is_deeply [@$got{qw(err status)}], ['', 0], '... and ends with the guest' or diag explain $got;
};

subtest 'which device' => sub {
    fresh();
    my $got = console([qw(--devname nosuch)])->end;
    like $got->{err}, qr/\Avirt-stream: the console of \Q$name\E: [^\n]*nosuch[^\n]*\n\z/, 'one that is not there';
    is $got->{status}, 1, '... status 1';
    my ($alias) = $guest->get_xml_description =~ m{<serial .*?<alias name='([^']+)'}s;
    my $run = console(['--devname', $alias]);
    ok connected(), "$alias is";
    $guest->destroy;
    is $run->end->{status}, 0, '... status 0';
};

subtest 'standard descriptors that are closed' => sub {
    fresh();
    my $through = spew(scratch() . '/through.sh', 'exec "$@" <&-');
    my $run = console([], through => ['sh', $through]);
    ok connected(), 'no input: it is there';
    $guest->resume;
    Time::HiRes::sleep(1);
    $guest->destroy;
    my $got = $run->end;
    is_deeply [@$got{qw(out err status)}], ['', '', 0], '... and types nothing';
    fresh();
    spew($through, 'exec "$@" >&-');
    is console([], through => ['sh', $through])->end->{err}, "virt-stream: cannot write standard output: it is closed\n", 'no output';
    $guest->destroy;
};

subtest 'a signal while it connects' => sub {
    fresh();
    spew(scratch() . '/EarlySignal.pm', <<'EOP');
package EarlySignal;
use Sys::Virt;
no warnings 'redefine';
my $was = \&Sys::Virt::register_close_callback;
*Sys::Virt::register_close_callback = sub { kill TERM => $$; goto &$was };
1;
EOP
    my $run = console([], env => { PERL5OPT => '-I' . scratch() . ' -MEarlySignal' });
    ok within(60, sub { $run->reap }), 'it does not go on';
    is $run->end->{signal}, 15, 'but ends by that';
    $guest->destroy;
};

subtest 'a slow reader' => sub {
    fresh();
    pipe my $in, my $writer or die "pipe: $!";
    pipe my $reader, my $out or die "pipe: $!";
    my $run = console([], in => $in, out => '/dev/fd/' . fileno $out);
    close $_ for $in, $out;
    $writer->autoflush(1);
    ok connected(), 'it is there';
    $guest->resume;
    my $text = pattern(20_000, 'slow');
    my $pid = fork // die "cannot fork: $!";
    if (!$pid) { print {$writer} '?', $text; close $writer; POSIX::_exit(0) }
    close $writer;
    my $got = '';
    while (length $got < length "$says$text") {
        sysread $reader, $got, 700, length $got or last;
        Time::HiRes::sleep(0.001);
    }
    waitpid $pid, 0;
    is sha($got), sha("$says$text"), 'has all of it';
    $guest->destroy;
    is $run->end->{status}, 0, 'to the end';
};

# Of a process, in ticks of the processor.
sub times_of {
    my ($pid) = @_;
    my ($after) = slurp("/proc/$pid/stat") =~ /\) (.*)/;
    my @fields = split ' ', $after;
    return $fields[11] + $fields[12];
}

$guest->destroy if $guest && $guest->is_active;
done_testing;
