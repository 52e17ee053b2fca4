# What a stream is, and how it passes between this package and the rest of
# Sys::Virt, which makes its own streams and takes anybody's.
use strict;
use warnings;

use B ();
use Scalar::Util qw(blessed reftype);
use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);

my $conn = connect_test();
my $domain = $conn->get_domain_by_name('test');
my $shot = 0;
{
    my $st = $conn->new_stream;
    $domain->screenshot($st, 0);
    while (my $count = $st->recv(my $data, 4096)) { $shot += $count }
    $st->finish;
}
cmp_ok $shot, '>', 10_000, 'the screenshot has a size';

sub check_layout {
    my ($st, $class) = @_;
    is blessed($st), $class, 'blessed';
    is reftype($st), 'SCALAR', 'a scalar reference';
    is ref B::svref_2object($st), 'B::PVMG', 'of the type that Sys::Virt tests for';
    ok B::svref_2object($st)->FLAGS & B::SVf_IOK, 'an integer';
    cmp_ok $$st, '!=', 0, 'with the stream in it';
    return;
}

my %made = (
    'new_stream'       => sub { $conn->new_stream },
    'new_stream flags' => sub { $conn->new_stream(Sys::Virt::Stream::NONBLOCK) },
    '_new'             => sub { Sys::Virt::Stream->_new(connection => $conn, flags => 0) },
    '_new on an object' => sub { $conn->new_stream->_new(connection => $conn, flags => 0) },
);
if (rust()) {
    $made{new} = sub { Sys::Virt::Stream->new($conn) };
    $made{'new flags'} = sub { Sys::Virt::Stream->new($conn, Sys::Virt::Stream::NONBLOCK) };
}
for my $how (sort keys %made) {
    subtest $how => sub { check_layout($made{$how}->(), 'Sys::Virt::Stream') };
}

SKIP: {
    skip '"new" is documented, but absent from the C binding', 2 unless rust();
    error_is(sub { Sys::Virt::Stream->new($conn, 1)->recv_all(sub { 0 }) },
        { message => qr/data sinks cannot be used for non-blocking streams/ }, 'new keeps its flags');
    my $bad = error_of(sub { warnings_of(sub { Sys::Virt::Stream->new(undef) }) });
    ok $bad, 'new without a connection dies';
}

ok ref Sys::Virt::Stream::_new_obj($conn), '_new_obj without flags';
ok ref Sys::Virt::Stream::_new_obj($conn, 1), '_new_obj with flags';

subtest 'a subclass' => sub {
    { package Some::Stream; our @ISA = 'Sys::Virt::Stream'; sub twice { return 2 } }
    my $st = Some::Stream->_new(connection => $conn, flags => 0);
    check_layout($st, 'Some::Stream');
    is $domain->screenshot($st, 0), 'image/png', 'is taken by Sys::Virt';
    my ($seen, $bytes) = ('', 0);
    $st->recv_all(sub { $seen = ref $_[0]; $bytes += $_[2] });
    is $seen, 'Some::Stream', 'and its handlers get the same object';
    is $bytes, $shot, 'and the data';
    is_deeply [$st->finish], [], 'and it finishes';
};

subtest 'a stream of another maker' => sub {
    # Other XS code hands out its own streams, of its own class.
    { package Another::Stream; sub DESTROY { } }
    my $owner = $conn->new_stream;
    my $st = bless \(my $pointer = $$owner), 'Another::Stream';
    is $domain->screenshot($st, 0), 'image/png', 'is taken by Sys::Virt';
    my ($bytes, $class) = (0, '');
    is Sys::Virt::Stream::recv($st, my $data, 100), 100, 'and by recv';
    Sys::Virt::Stream::recv_all($st, sub { $class = ref $_[0]; $bytes += $_[2]; $_[2] });
    is $bytes, $shot - 100, 'by recv_all';
    is $class, 'Another::Stream', 'as it is';
    is_deeply [Sys::Virt::Stream::finish($st)], [], 'by finish';
};

subtest 'a handler gets the very object' => sub {
    my $st = $conn->new_stream;
    $domain->screenshot($st, 0);
    my $same;
    $st->recv_all(sub { $same = $_[0] == $st; $_[2] });
    ok $same, 'the same referent';
    $st->finish;
};

subtest 'DESTROY' => sub {
    my $st = $conn->new_stream;
    is_deeply [$st->DESTROY], [], 'returns nothing';
    is $$st, 0, 'leaves 0';
    is_deeply [$st->DESTROY], [], 'again';
    error_is(sub { $st->recv(my $data, 1) },
        { code => 73, level => 2, message => 'invalid stream pointer in virStreamRecv' },
        'a destroyed stream is invalid, not followed');
    error_is(sub { $st->recv_all(sub { 0 }) },
        { code => 73, message => 'invalid stream pointer in virStreamRecvAll' }, 'recv_all too');
    error_is(sub { $st->abort },
        { code => 73, message => 'invalid stream pointer in virStreamAbort' }, 'abort too');
};

# Sys::Virt keeps a connection open for its streams.
subtest 'a stream outlives the variable of its connection' => sub {
    my $own = connect_test();
    my $st = $own->new_stream;
    my $mime = $own->get_domain_by_name('test')->screenshot($st, 0);
    undef $own;
    my $bytes = 0;
    $st->recv_all(sub { $bytes += $_[2]; $_[2] });
    $st->finish;
    is $bytes, $shot, 'all of it';
};

done_testing;
