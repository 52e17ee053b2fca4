# What send and send_hole make of the values they are given, and what no method
# changes behind the program's back.
use strict;
use warnings;

use Config;
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Slots;

my $daemon = daemon();
my %slot = map { $_->{name} => $_ } slots($daemon);
my $up = $slot{send_all};

{
    package Some::Tie;
    our $fetched = 0;
    sub TIESCALAR { my ($class, $value) = @_; return bless { value => $value }, $class }
    sub FETCH { $fetched++; return $_[0]{value} }
    sub STORE { $_[0]{value} = $_[1]; return }
}
{ package Some::Text; use overload '""' => sub { $_[0][0] }, fallback => 1 }
{ package Dying::Text; use overload '""' => sub { die { no => 'text' } }, fallback => 0 }
{ package Some::Number; use overload '0+' => sub { $_[0][0] }, fallback => 1 }
{ package Dying::Tie; sub TIESCALAR { bless [] } sub FETCH { die "no value\n" } }

sub upgraded { my ($text) = @_; utf8::upgrade($text); return $text }
sub tied_to { tie my $data, 'Some::Tie', $_[0]; return \$data }

# A value (or a reference to it, to keep its magic), the nbytes, and what is sent;
# a pattern is an exception before anything is sent.
my @array = (1, 2);
my %hash = (key => 'element');
my $match = 'abc';
my $wide = qr/^Wide character in send at \S*46-send\.t line \d+/;
my %value = (
    'bytes' => [\"a\0\xff", 3, "a\0\xff"],
    'fewer than there are' => [\'abcdef', 3, 'abc'],
    'more than there are' => [\'abc', 1000, 'abc'],
    'far more' => [\'abc', 1e15, 'abc'],
    'as many as can be' => [\'abc', ~0, 'abc'],
    'a negative count' => [\'abc', -1, 'abc'],
    'none' => [\'abc', 0, ''],
    'an empty string' => [\'', 10, ''],
    'undef' => [\undef, 10, ''],
    'the utf8 flag' => [\upgraded("\xe9\xff"), 2, "\xe9\xff"],
    'the utf8 flag, more asked for' => [\upgraded("\xe9\xff"), 10, "\xe9\xff"],
    'the utf8 flag, a part' => [\upgraded("\xe9\xff"), 1, "\xe9"],
    'the utf8 flag on ascii' => [\upgraded('abc'), 3, 'abc'],
    'a wide character' => [\"a\x{100}", 2, $wide],
    'a wide character that would not count' => [\"ab\x{263a}", 2, $wide],
    'only wide characters' => [\("\x{10ffff}" x 1000), 10, $wide],
    'a surrogate' => [\do { no warnings; chr 0xd800 }, 1, $wide],
    'a number' => [\1234, 4, '1234'],
    'a negative one' => [\-5, 4, '-5'],
    'a float' => [\1.25, 4, '1.25'],
    'true' => [\!!1, 4, '1'],
    'false' => [\!!0, 4, ''],
    'a tied scalar' => [tied_to('tied'), 10, 'tied'],
    'a tied scalar, undef' => [tied_to(undef), 10, ''],
    'a tied scalar with the flag' => [tied_to(upgraded("\xe9")), 10, "\xe9"],
    'a tied scalar, wide' => [tied_to("\x{100}"), 10, $wide],
    'a tied scalar with an object' => [tied_to(bless ['text'], 'Some::Text'), 10, 'text'],
    'a tied scalar that dies' => [do { tie my $data, 'Dying::Tie'; \$data }, 10, qr/^no value$/],
    'an object with a text' => [\(bless ['text'], 'Some::Text'), 10, 'text'],
    'an object with a wide text' => [\(bless ["\x{100}"], 'Some::Text'), 10, $wide],
    'an object that has none' => [\(bless [], 'Dying::Text'), 10, qr/^HASH/],
    'an object with a number' => [\(bless [17], 'Some::Number'), 10, '17'],
    'a substr' => [\substr('abcdef', 2, 3), 10, 'cde'],
    'a substr with the flag' => [\substr(my $flagged = "\xe9\x{100}", 0, 1), 10, "\xe9"],
    'an element' => [\$hash{key}, 10, 'element'],
    'an element that is not there' => [\$array[10], 10, ''],
    'a vec' => [\vec(my $bits = 'A', 0, 8), 10, '65'],
    'a match' => [do { $match =~ /b(c)/; \"$1" }, 10, 'c'],
    'a glob' => [\*STDOUT, 100, '*main::STDOUT'],
    'a version' => [\v97.98, 10, 'ab'],
    'a regex' => [\qr/x/, 10, qr/x/ . ''],
    'a shared buffer' => [do { my $one = 's' x 5000; my $two = $one; \$two }, 5000, 's' x 5000],
    'a chopped string' => [do { my $one = 'xxabc'; substr $one, 0, 2, ''; \$one }, 10, 'abc'],
);
for my $what (sort keys %value) {
    my ($data, $nbytes, $want) = @{ $value{$what} };
    subtest $what => sub {
        $daemon->volume('slots-up', 6000, "\1" x 6000);
        my $st = $up->{open}->();
        is $st->send('<', 1), 1, 'one byte ahead';
        my ($count, $copy) = (undef, $what =~ /dies/ ? undef : $$data);
        $Some::Tie::fetched = 0;
        my $error = error_of(sub { no warnings 'uninitialized'; $count = $st->send($$data, $nbytes) });
        is $Some::Tie::fetched, 1, 'read once' if $what =~ /^a tied/ && $what !~ /dies|object/;
        if (ref $want) {
            like $error, $want, 'an ordinary exception';
            $want = '';
        }
        else {
            is $error, undef, 'no exception';
            is $count, length $want, 'the count';
        }
        my $all = "<$want";
        # A packet of nothing is an end to libvirt, where it is not refused before.
        if ($error || $count) {
            is $st->send('>', 1), 1, 'and one after it';
            $all .= '>';
        }
        eval { $st->finish; 1 } or $count or $error or eval { $st->abort };
        is substr(slurp($up->{path}), 0, length($all) + 1), "$all\1", 'these bytes';
        is $$data, $copy, 'and the value is what it was' if $what !~ /dies/ && !ref $copy;
        is utf8::is_utf8($$data), utf8::is_utf8($copy), 'with its flag' if $what =~ /flag/ && $what !~ /tied|substr/;
    };
}

subtest 'a long string' => sub {
    my ($st, $long, $sent) = ($up->{open}->(), pattern(2_000_000), 0);
    while ($sent < length $long) {
        my $count = $st->send(substr($long, $sent), length $long);
        cmp_ok $count, '>', 0, 'a piece of it' or last;
        $sent += $count;
    }
    $st->finish;
    is sha(substr slurp($up->{path}), 0, length $long), sha($long), 'all of it, by what each call took';
};

# What cannot be a count is one anyway, or an exception, as in Perl.
subtest 'nbytes' => sub {
    my %nbytes = (
        undef => [undef, 0], text => ['abc', 0], empty => ['', 0], 'a float' => [2.9, 2], infinite => [9**9**9, 3],
        'minus infinite' => [-9**9**9, qr/^[0-3]$/], 'no number' => [-sin(9**9**9), 0], 'an array' => [[], 3], 'a hash' => [{}, 3],
        code => [sub { }, 3], 'a glob' => [*STDOUT, 0], 'a reference to one' => [\*STDOUT, 3],
        'an object' => [bless([2], 'Some::Number'), 2], 'a dying object' => [bless([], 'Dying::Text'), undef],
        'wide text' => ["\x{263a}", 0], '2**32' => [2**32, 3], '2**32 + 1' => [2**32 + 1, 3], '2**64' => [2**64, 3],
    );
    for my $what (sort keys %nbytes) {
        no warnings;
        my ($nbytes, $want) = @{ $nbytes{$what} };
        my ($st, $count) = $up->{open}->();
        my $error = error_of(sub { $count = $st->send('abc', $nbytes) });
        if    (!defined $want) { ok $error, "$what: an exception" }
        elsif (ref $want)      { like $count, $want, "$what: a value" }
        else                   { is $count, $want, "$what: a value" }
        eval { $st->abort };
    }
};

# Lengths that are none in each of these ways, each in a child: libvirt sends a
# hole of nothing, or of less, and its finish and abort may then hang.
my $holes = <<'CODE';
use strict; no warnings; use Sys::Virt;
{ package Some::Number; use overload '0+' => sub { 4096 }, fallback => 1 }
{ package Some::Tie; sub TIESCALAR { bless [] } sub FETCH { 4096 } }
my ($uri, $what) = @ARGV;
$| = 1;
my $conn = Sys::Virt->new(uri => $uri);
tie my $tied, 'Some::Tie';
my %length = (zero => 0, undef => undef, text => 'abc', 'minus one' => -1, 'minus much' => -2**63, 'minus text' => '-1',
    'minus infinite' => -9**9**9, float => 4096.9, object => bless([], 'Some::Number'), tied => \$tied, large => '5000000000');
my $length = $what eq 'tied' ? \$tied : \$length{$what};
my %way = (
    'send_hole' => sub { $_[0]->send_hole($$length) },
    'sparse_send_all, data' => sub { my ($n, $calls) = (0, 0);
        $_[0]->sparse_send_all(sub { return 0 if $calls++ > 3; $_[1] = 'x' x 10; 10 }, sub { $n++ ? (1, 0) : (1, $$length) }, sub { 0 }) },
    'sparse_send_all, hole' => sub { my $n = 0; $_[0]->sparse_send_all(sub { 0 }, sub { $n++ ? (1, 0) : (0, $$length) }, sub { 0 }) },
);
for my $way (sort keys %way) {
    next if $way =~ /data/ && $what !~ /minus/;
    my $st = $conn->new_stream;
    $conn->get_storage_pool_by_name('streams')->get_volume_by_name('slots-up')
        ->upload($st, 0, 0, Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM);
    print "$way: ";
    print eval { $way{$way}->($st); 1 } ? 'taken' : 'refused';
    print ', ', (eval { $st->send('x', 1); $st->finish; 1 } ? 'goes on' : 'over'), "\n";
}
CODE
my $taken = "send_hole: taken, goes on\nsparse_send_all, hole: taken, goes on\n";
my $refused = "send_hole: refused, goes on\nsparse_send_all, data: refused, over\nsparse_send_all, hole: refused, over\n";
my %hole = (
    (map { $_ => $taken } qw(zero undef text float object tied large)),
    (map { $_ => $refused } 'minus one', 'minus much', 'minus text', 'minus infinite'),
);
# A length is read from its text there, as the C binding does: "-Inf" is no number.
delete $hole{'minus infinite'} if !defined $Config{use64bitall};
for my $what (rust() ? sort keys %hole : ()) {
    my $got = run_perl($holes, args => [$daemon->uri, $what], switches => []);
    is_deeply $got, { err => '', status => 0, signal => 0, hang => 0, out => $hole{$what} }, "a hole of $what"
        or diag explain $got;
}

# --- what is the program's own, whichever way its arguments are read

subtest '$@, $_ and the caller\'s errno' => sub {
    tie my $tied, 'Some::Tie', 'x';
    my $number = bless [1], 'Some::Number';
    my %call = (
        'recv' => sub { my ($down) = @_; $down->recv(my $data, 10) },
        'recv into a tied one' => sub { my ($down) = @_; $down->recv($tied, 10) },
        'recv by an object' => sub { my ($down) = @_; $down->recv(my $data, $number) },
        'recv into a shared one' => sub { my ($down) = @_; my $one = 'x' x 5000; my $two = $one; $down->recv($two, 10) },
        'send' => sub { $_[1]->send('x', 1) },
        'send of a tied one' => sub { $_[1]->send($tied, 1) },
        'send with the flag' => sub { $_[1]->send(upgraded("\xe9"), 1) },
        'send by an object' => sub { $_[1]->send('x', $number) },
        'send_hole' => sub { $_[1]->send_hole(4096) },
        'send_hole, flags' => sub { $_[1]->send_hole('4096', bless [0], 'Some::Number') },
        'recv_all' => sub { $_[0]->recv_all(sub { $_[2] }) },
        'send_all' => sub { my $n = 0; $_[1]->send_all(sub { return 0 if $n++; $_[1] = 'x'; 1 }) },
        'sparse_send_all' => sub { my $n = 0; $_[1]->sparse_send_all(sub { 0 }, sub { $n++ ? (1, 0) : (0, 10) }, sub { 0 }) },
        'finish' => sub { $_[1]->finish },
        'abort' => sub { $_[0]->abort },
        'DESTROY' => sub { $_[0]->DESTROY },
        'a new stream' => sub { $daemon->conn->new_stream('1'); 1 },
        'a tied invocant' => sub { tie my $st, 'Some::Tie', $_[0]; $st->recv(my $data, 10) },
    );
    for my $what (sort keys %call) {
        my ($down, $sparse) = ($slot{recv_all}{open}->(), $slot{sparse_send_all}{open}->());
        local $_ = 'topic';
        $@ = 'kept';
        $call{$what}->($down, $sparse);
        is $@, 'kept', "$what: \$\@";
        is $_, 'topic', "$what: \$_";
        eval { $down->abort };
        eval { $sparse->abort };
    }
};

done_testing;
