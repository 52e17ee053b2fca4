# What a handler's answer means to the loops that call it.
use strict;
use warnings;

use Errno qw(ENOSPC EACCES);
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

my $daemon = daemon();
my $conn = $daemon->conn;
my $content = pattern(700_000);
$daemon->volume('source', undef, $content);
$daemon->volume('target', 700_000);
sparse_file($daemon->pool_dir . '/holes', hole => 4 << 20, data => 65_536, hole => 4 << 20);
$daemon->adopt('holes');

my %flag = (
    download => Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM,
    upload => Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM,
);

sub opened {
    my ($way, $name, $sparse) = @_;
    my $st = $conn->new_stream;
    my $volume = $daemon->pool->get_volume_by_name($name);
    $volume->$way($st, 0, 0, $sparse ? $flag{$way} : 0);
    return $st;
}

# Where each handler is called, and what libvirt calls it in an error.
my %fails = (
    'recv handler' => sub { opened(download => 'source')->recv_all($_[0]) },
    'send handler' => sub { opened(upload => 'target')->send_all($_[0]) },
    'recv handler, sparse' =>
        sub { opened(download => 'holes', 1)->sparse_recv_all($_[0], sub { 0 }) },
    'recv holeHandler' =>
        sub { opened(download => 'holes', 1)->sparse_recv_all(sub { $_[2] }, $_[0]) },
    'send handler, sparse' =>
        sub { opened(upload => 'target', 1)->sparse_send_all($_[0], sub { (1, 10) }, sub { 0 }) },
    'send skipHandler' =>
        sub { opened(upload => 'target', 1)->sparse_send_all(sub { 0 }, sub { (0, 10) }, $_[0]) },
);
my %answer = (
    'no errno' => [sub { $! = 0; return -1 }, 'Input/output error'],
    'its errno' => [sub { $! = ENOSPC; return -1 }, 'No space left on device'],
    'another errno' => [sub { $! = EACCES; return -1 }, 'Permission denied'],
    'any negative number' => [sub { $! = ENOSPC; return -7 }, 'No space left on device'],
    'a negative text' => [sub { $! = ENOSPC; return '-1' }, 'No space left on device'],
);
for my $what (sort keys %fails) {
    (my $who = $what) =~ s/,.*//;
    for my $how (sort keys %answer) {
        my ($handler, $errno) = @{ $answer{$how} };
        my $calls = 0;
        my $st;
        error_is(sub { $fails{$what}->(sub { $calls++; $st = $_[0]; $handler->() }) },
            { code => 38, domain => 38, level => 2, message => "$who failed: $errno" }, "$what: $how");
        is $calls, 1, 'it is not called again';
        ok error_of(sub { $st->recv(my $data, 1); $st->send('x', 1) }), 'the stream is over';
        error_is(sub { $st->abort }, { message => qr/stream is closed/ }, 'and was aborted');
    }
}

subtest 'the hole handler of a source fails by the count of its answers' => sub {
    for my $count (0, 1, 3) {
        my $st = opened(upload => 'target', 1);
        error_is(sub { $st->sparse_send_all(sub { 0 }, sub { $! = 0; return (0) x $count }, sub { 0 }) },
            { code => 38, message => 'send holeHandler failed: Input/output error' }, "$count values");
    }
};

subtest 'a failure late' => sub {
    my $calls = 0;
    my $st = opened(download => 'source');
    error_is(sub { $st->recv_all(sub { return $_[2] if ++$calls < 3; $! = ENOSPC; return -1 }) },
        { message => 'recv handler failed: No space left on device' }, 'is reported alike');
    is $calls, 3, 'when it happens';
};

subtest 'what counts as a count' => sub {
    my %taken = (
        'a number as text' => sub { "$_[0]" },
        'a float' => sub { $_[0] + 0.5 },
        'text after it' => sub { no warnings 'numeric'; "$_[0] bytes" },
    );
    for my $how (sort keys %taken) {
        my ($all, $st) = ('', opened(download => 'source'));
        no warnings 'numeric';
        $st->recv_all(sub { $all .= $_[1]; $taken{$how}->($_[2]) });
        $st->finish;
        is sha($all), sha($content), $how;
    }
};

subtest 'more than was given' => sub {
    my ($bytes, $st) = (0, opened(download => 'source'));
    $st->recv_all(sub { $bytes += $_[2]; $_[2] + 5 });
    $st->finish;
    is $bytes, length $content, 'is as good as all of it';
};

subtest 'a handler is called in scalar context' => sub {
    my @context;
    my $st = opened(download => 'source');
    $st->recv_all(sub { push @context, wantarray; my @many = (1, 2, $_[2]); return @many[0 .. 2] });
    $st->finish;
    is_deeply [grep { $_ } @context], [], 'the last value of a list counts';
    $st = opened(upload => 'target', 1);
    my $hole;
    $st->sparse_send_all(sub { 0 }, sub { $hole = wantarray; (0, 0) }, sub { 0 });
    $st->abort;
    ok $hole, 'the hole handler of a source in list context';
};

# Whatever call_sv takes.
my $seen = '';
sub by_name { $seen .= $_[1]; return $_[2] }
{ package Some::Handlers; sub method { return main::by_name(@_) } }
{
    package Some::Callable;
    use overload '&{}' => sub { my $self = shift; sub { $self->{calls}++; main::by_name(@_) } };
}
my $callable = bless { calls => 0 }, 'Some::Callable';
my %handler = (
    'a code reference' => \&by_name,
    'a closure' => sub { by_name(@_) },
    'a name' => 'by_name',
    'a full name' => 'main::by_name',
    'a name elsewhere' => 'Some::Handlers::method',
    'a glob' => *by_name,
    'an overloaded object' => $callable,
    'a blessed code reference' => bless(sub { by_name(@_) }, 'Some::Code'),
);
for my $what (sort keys %handler) {
    my $st = opened(download => 'source');
    $seen = '';
    # As in Perl's own calls, a name is not for strict programs to use.
    no strict 'refs';
    $st->recv_all($handler{$what});
    $st->finish;
    is sha($seen), sha($content), "handled by $what";
}
ok $callable->{calls}, 'the object was asked';

subtest 'names for all handlers' => sub {
    our @log = ();
    no warnings 'once';
    *main::note_data = sub { push @log, 'data'; $_[2] };
    *main::note_hole = sub { push @log, 'hole'; 0 };
    no strict 'refs';
    my $st = opened(download => 'holes', 1);
    $st->sparse_recv_all('note_data', 'note_hole');
    $st->finish;
    like "@log", qr/^hole data (?:data )*hole$/, 'in order';
};

subtest 'a name of nothing' => sub {
    no strict 'refs';
    my $st = opened(download => 'source');
    like error_of(sub { $st->recv_all('no_such_handler') }),
        qr/^Undefined subroutine &main::no_such_handler called/, 'is Perl\'s own error';
    error_of(sub { $st->abort });
};

subtest 'what the loops leave of the caller\'s' => sub {
    local $_ = 'mine';
    local $@ = 'kept';
    my $st = opened(download => 'source');
    $st->recv_all(sub { $_[2] });
    $st->finish;
    is $_, 'mine', '$_';
    is $@, 'kept', '$@';
};

subtest 'a loop in an eval in a loop' => sub {
    my ($inner, $outer) = ('', '');
    my $st = opened(download => 'source');
    $st->recv_all(sub {
        $outer .= $_[1];
        if ($inner eq '') {
            my $other = opened(download => 'source');
            $other->recv_all(sub { $inner .= $_[1]; $_[2] });
            $other->finish;
        }
        return $_[2];
    });
    $st->finish;
    is sha($_), sha($content), 'both arrive' for $inner, $outer;
};

done_testing;
