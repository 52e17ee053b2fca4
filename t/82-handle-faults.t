# A handle whose stream fails, is interrupted, dropped, closed twice, forked or cloned.
use strict;
use warnings;

use Errno ();
use POSIX ();
use Scalar::Util qw(weaken);
use Test::More;
use Time::HiRes ();
use lib 't/lib';
use StreamTest qw(libvirtd qemu);

plan skip_all => 'the C binding has no handle' unless rust();

my $daemon = daemon();
my $content = pattern(6 << 20);
$daemon->volume('source', undef, $content);
$daemon->volume('target', 6 << 20);
$SIG{PIPE} = 'IGNORE';

sub opened {
    my ($way, $conn) = @_;
    my $st = ($conn // $daemon->conn)->new_stream;
    $daemon->pool->get_volume_by_name($way eq 'download' ? 'source' : 'target')->$way($st, 0, 0) if !$conn;
    $conn->get_storage_volume_by_path($daemon->pool_dir . ($way eq 'download' ? '/source' : '/target'))
        ->$way($st, 0, 0) if $conn;
    return $st;
}

error_is(sub { $daemon->conn->new_stream(Sys::Virt::Stream::NONBLOCK)->handle },
    { message => 'handle failed: the stream does not block' }, 'a non-blocking stream is refused');
error_is(sub { Sys::Virt::Stream::handle(bless \(my $other = 7), 'Other') }, { message => qr/invalid stream pointer/ },
    'so is what is no stream');

subtest 'a stream that was never opened' => sub {
    my $fh = $daemon->conn->new_stream->handle;
    is scalar(<$fh>), undef, 'nothing to read';
    ok $!{EIO}, '$!';
    isa_ok $fh->stream_error, 'Sys::Virt::Error', 'stream_error';
};

# Every operator on a stream that has failed, the first time and from then on.
my %fails = (
    read => sub { read $_[0], my $data, 1 << 23 }, sysread => sub { sysread $_[0], my $data, 10 },
    readline => sub { scalar readline $_[0] }, getc => sub { getc $_[0] },
    slurp => sub { local $/; readline $_[0] }, record => sub { local $/ = \10; readline $_[0] },
    paragraph => sub { local $/ = ''; readline $_[0] },
    print => sub { print {$_[0]} 'x' }, printf => sub { printf {$_[0]} 'x' }, syswrite => sub { syswrite $_[0], 'x' },
);
for my $name (sort keys %fails) {
    my $st = opened($name =~ /print|write/ ? 'upload' : 'download');
    my $fh = $st->handle;
    $st->abort;
    my @warned = warnings_of(sub {
        for my $turn ('at first', 'again') {
            local $@ = 'kept';
            local $SIG{__DIE__} = sub { fail 'a handler for exceptions is not called' };
            $! = 0;
            is $fails{$name}->($fh), undef, "$name: undef $turn";
            is $! + 0, Errno::EIO(), '... and $!';
            is $@, 'kept', '... not $@';
        }
        isa_ok $fh->stream_error, 'Sys::Virt::Error', '... stream_error';
        ok eof $fh, '... eof';
        $! = 0;
        ok !close $fh, '... close fails';
        is $! + 0, Errno::EIO(), '... with $!';
        ok !close $fh, '... close again, too';
        is $! + 0, Errno::EBADF(), '... as on what is closed';
        undef $fh;
    });
    is_deeply \@warned, [], '... no warning';
}

# An incomplete line, block or rest of the data is not to be had.
for my $name (qw(readline read slurp)) {
    my $conn = Sys::Virt->new(uri => $daemon->uri);
    my $fh = opened('download', $conn)->handle;
    local $/ = $name eq 'readline' ? "\0never\0" : undef;
    is read($fh, my $data, 1000), 1000, "$name: begun";
    $daemon->kill;
    is $fails{$name}->($fh), undef, '... and undef, when the daemon was killed';
    ok $!{EIO}, '... $!';
    ok !close $fh, '... close';
    $daemon->launch;
}
{
    my $conn = Sys::Virt->new(uri => $daemon->uri);
    my $fh = opened('upload', $conn)->handle;
    ok print({$fh} 'x' x 1000), 'print: begun';
    $daemon->kill;
    my ($data, $done) = ('x' x 100_000, 1);
    for (1 .. 100) { $done &&= print {$fh} $data }
    ok !(close($fh) && $done), '... and a failure, when the daemon was killed';
    $daemon->launch;
}

subtest 'a signal handler that dies' => sub {
    my $guest = $daemon->guest(paused => 1);
    for my $throws ("time is up\n", bless({ n => 7 }, 'Some::Alarm')) {
        for my $name (qw(readline read sysread getc slurp eof)) {
            my $st = $daemon->conn->new_stream;
            $guest->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
            my $fh = $st->handle;
            local $SIG{ALRM} = sub { die $throws };
            is error_of(sub { Time::HiRes::alarm(0.5); $name eq 'eof' ? eof $fh : $fails{$name}->($fh) }), $throws, "$name: its exception";
            is $fails{read}->($fh), undef, '... the stream is lost';
            ok !close $fh, '... and close says so';
            deadline();
        }
    }
    $guest->destroy;
};

subtest 'a console' => sub {
    plan skip_all => 'no console here' unless StreamTest::has('console');
    my $guest = $daemon->guest(paused => 1);
    my $st = $daemon->conn->new_stream;
    $guest->open_console($st, undef, Sys::Virt::Domain::OPEN_CONSOLE_FORCE);
    my $fh = $st->handle;
    $guest->resume;
    ok print({$fh} '?'), 'a byte in';
    ok !eof $fh, 'eof waits for one that comes out';
    is scalar(<$fh>), $daemon->guest_says, 'and loses none';
    my ($text, $got) = ("a line\nand more", '');
    ok print({$fh} $text), 'print';
    is scalar(<$fh>), "a line\n", 'a line comes back';
    while (length $got < 8) { sysread $fh, $got, 10_000, length $got or last }
    is $got, 'and more', 'sysread waits for no more than there is';
    ok close $fh, 'close';
    $guest->destroy;
};

subtest 'dropped' => sub {
    my $st = opened('download');
    my $fh = $st->handle;
    <$fh>;
    undef $fh;
    ok error_of(sub { $st->recv(my $data, 10) }), 'unclosed: the stream is aborted';

    $st = opened('download');
    $fh = $st->handle;
    weaken(my $kept = $st);
    undef $st;
    is read($fh, my $data, 20), 20, 'a handle keeps its stream';
    ok $kept, 'which is there';
    undef $fh;
    is $kept, undef, 'as long as it is itself';

    $st = opened('upload');
    $fh = $st->handle;
    close $fh;
    weaken($kept = $st);
    undef $st;
    is $kept, undef, 'a closed one keeps none';
    ok $daemon->conn->get_library_version, 'the connection goes on';
};

# The warning of data that is lost comes when the stream has been aborted, and may run any code.
my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt;
my ($way, $uri, $path) = @ARGV;
$| = 1;
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream;
$conn->get_storage_volume_by_path($path)->$way($st, 0, 0);
our $fh = $st->handle;
EOP
my $UPLOADS = $HEAD . <<'EOP';
print $fh 'hello';
sub is_over { print eval { $st->send('x', 1); 1 } ? "goes on\n" : "is over\n" }
EOP
my $warns = qr/A stream's handle was written to and not closed: the stream is aborted at \S+ line \d+\.\n/;
my %loses = (
    'fatal warnings' => [<<'EOP', "the real reason\nis over\n", $warns],
eval { use warnings FATAL => 'all'; my $own = $fh; undef $fh; die "the real reason\n" };
print $@;
is_over();
EOP
    'a warning that is thrown' => [<<'EOP', "the real reason\nis over\n", qr/\A\z/],
eval { local $SIG{__WARN__} = sub { die 'another' }; my $own = $fh; undef $fh; die "the real reason\n" };
print $@;
is_over();
EOP
    'closed in $SIG{__WARN__}' => [<<'EOP', "warned\nis over\nopen\nis over\n", qr/\A\z/],
$SIG{__WARN__} = sub { print "warned\n"; is_over(); close $fh; my @other = map { 'y' x 400 } 1 .. 50 };
print open($fh, '<', '/dev/null') ? "open\n" : "open: $!\n";
is_over();
EOP
    'untied, and closed in $SIG{__WARN__}' => [<<'EOP', "warned\nis over\n", qr/\A\z/],
no warnings 'untie';
$SIG{__WARN__} = sub { print "warned\n"; close $fh; open my $other, '<', '/dev/null' };
untie *$fh;
undef ${*$fh};
is_over();
EOP
    'untied, and closed' => [<<'EOP', "warned\nis over\n", qr/\A\z/],
no warnings 'untie';
$SIG{__WARN__} = sub { print "warned\n"; close $fh; open my $other, '<', '/dev/null' };
untie *$fh;
close $fh;
is_over();
EOP
);
for my $how (sort keys %loses) {
    my ($code, $out, $err) = @{ $loses{$how} };
    my $got = run_perl($UPLOADS . $code, args => ['upload', $daemon->uri, $daemon->pool_dir . '/target']);
    like delete $got->{err}, $err, "dropped with data in it, $how: what is warned";
    is_deeply $got, { out => $out, status => 0, signal => 0, hang => 0 }, '... and the stream' or diag explain $got;
}

my $PROGRAM = $HEAD . <<'EOP';
read $fh, my $data, 100;
EOP
my %program = (
    'left open at the end' => ['print "end\n"', "end\n"],
    'left open at the end, in error' => ['$st->abort; print defined read($fh, $data, 1e7) ? "" : "undef\n"', "undef\n"],
    'exit in a destructor\'s reach' => ['my $keep = sub { $fh }; $keep->(); print "end\n"; exit', "end\n"],
    'a fork' => [<<'EOP', "child\n5999900\nclosed\n"],
my $pid = fork // die;
if (!$pid) { undef $fh; undef $st; print "child\n"; exit }
waitpid $pid, 0;
print read($fh, $data, 10_000_000) - 291_456, "\n";
print close $fh ? "closed\n" : "lost: $!\n";
EOP
    'closed in a destructor' => [<<'EOP', "before\nclosed\n"],
{ package Closes; sub new { bless { fh => $_[1] } } sub DESTROY { print close $_[0]{fh} ? "closed\n" : "lost\n" } }
my $it = Closes->new($fh);
undef $fh;
print "before\n";
undef $it;
EOP
);
$program{'a thread'} = [<<'EOP', "closed, Bad file descriptor\n100\nclosed\n"] if StreamTest::has('threads');
use threads;
print threads->create(sub { (defined <$fh> || read($fh, my $data, 1) || print({$fh} 1) ? "open" : "closed") . ", $!\n" })->join;
print read($fh, $data, 100), "\n";
print close $fh ? "closed\n" : "lost: $!\n";
EOP
ok_perl("$PROGRAM$program{$_}[0]", $program{$_}[1], $_, args => ['download', $daemon->uri, $daemon->pool_dir . '/source'])
    for sort keys %program;

done_testing;
