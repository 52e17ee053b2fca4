# Small answers, each beside the C binding's own: the same program runs on both, in
# children, and the one that the C binding gives is the right one.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

my $daemon = daemon();
$daemon->volume('source', undef, pattern(600_000));
$daemon->volume('target', 4 << 20);

my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt;
our ($uri, $dir) = @ARGV;
$| = 1;
our $conn = Sys::Virt->new(uri => $uri);
our $local = Sys::Virt->new(uri => 'test:///default');
sub opened {
    my ($way, $sparse) = @_;
    my $st = $conn->new_stream;
    $conn->get_storage_volume_by_path($dir . ($way eq 'download' ? '/source' : '/target'))->$way($st, 0, 0, $sparse || 0);
    return $st;
}
sub shot { my $st = $local->new_stream; $local->get_domain_by_name('test')->screenshot($st, 0); return $st }
sub ended { my $st = opened(@_); $st->abort; return $st }
# What a call answers: its values or its error, after its warnings in their order.
sub says {
    my ($call) = @_;
    local $SIG{__WARN__} = sub { print 'warns: ', $_[0] =~ s/ at \S+ line \d+\.?\n//r, "\n" };
    my @got;
    my $lived = eval { @got = $call->(); 1 };
    my $error = $@;
    print $lived ? 'returns: ' . join(' ', map { $_ // 'undef' } @got)
        : ref $error ? "code $error->{code}, domain $error->{domain}: $error->{message}"
        : 'dies: ' . $error =~ s/ at \S+ line \d+\.?\n//r, "\n";
    return;
}
EOP

my %case = (
    'a hole on an ended plain stream' => 'says(sub { ended("upload")->send_hole(10) });',
    'a hole on an ended plain stream, finished' => 'my $st = opened("upload"); $st->send("x", 1); $st->finish; says(sub { $st->send_hole(10) });',
    'a hole on an ended sparse stream' => 'says(sub { ended("upload", 1)->send_hole(10) });',
    'a hole on an open plain stream' => 'says(sub { my $st = opened("upload"); $st->send_hole(10) });',
    'recv_hole on an ended plain stream' => 'says(sub { ended("download")->recv_hole });',
    'recv_hole on an ended sparse stream' => 'says(sub { ended("download", 1)->recv_hole });',
    'a destroyed stream: recv with a flag' => 'my $st = $conn->new_stream; $st->DESTROY; says(sub { $st->recv(my $d, 1, 1) });',
    'a destroyed stream: recv with no flag' => 'my $st = $conn->new_stream; $st->DESTROY; says(sub { $st->recv(my $d, 1, 0) }); says(sub { $st->recv(my $d, 1) });',
    'a destroyed stream: the others' => <<'EOP',
my $st = $conn->new_stream;
$st->DESTROY;
says($_) for sub { $st->send('x', 1) }, sub { $st->recv_hole }, sub { $st->send_hole(1) }, sub { $st->finish }, sub { $st->abort },
    sub { $st->update_callback(1) }, sub { $st->remove_callback };
EOP
    map({ my $value = $_; ("a handler that returns $value" => "says(sub { my \$st = shot(); \$st->recv_all(sub { $value }) }); says(sub { my \$st = opened('upload'); \$st->send_all(sub { \$_[1] = 'x'; $value }) });") }
        '2**31', '2**32 - 1', '-1', '-2', '2**31 + 5', '"-1"', '-2**31', '-1.9'),
    'a handler that returns 2**32 + all' => 'my $n = 0; says(sub { my $st = shot(); $st->recv_all(sub { $n += $_[2]; 2**32 + $_[2] }) }); print "$n\n";',
    'a handler of holes that returns 2**32 - 1' => 'says(sub { my $st = opened("download", 1); $st->sparse_recv_all(sub { $_[2] }, sub { 2**32 - 1 }) });',
    'a bad nbytes beside a bad stream' => 'says(sub { Sys::Virt::Stream::recv("no stream", my $d, "ten") }); says(sub { Sys::Virt::Stream::send("no stream", "x", "ten") });',
    'an undefined nbytes beside a bad stream' => 'says(sub { Sys::Virt::Stream::recv(undef, my $d, undef, "no") }); says(sub { Sys::Virt::Stream::send(undef, undef, undef) });',
    'bad flags beside a bad stream' => 'says(sub { Sys::Virt::Stream::recv("no stream", my $d, "ten", "flag") }); says(sub { Sys::Virt::Stream::recv_hole("no stream", "flag") }); says(sub { Sys::Virt::Stream::send_hole("no stream", "long", "flag") });',
    'bad events beside a bad stream' => 'says(sub { Sys::Virt::Stream::update_callback("no stream", "events") });',
    'a bad nbytes of a good stream' => 'my $st = opened("download"); says(sub { $st->recv(my $d, "10x", "0x") }); says(sub { $st->recv(my $d, undef) });',
    'a blessed word as a number' => <<'EOP',
my $word = bless \(my $w = 'word'), 'Sys::Virt::Stream';
my $st = opened('download');
says(sub { my $count = $st->recv(my $d, 'word'); $count });
{ no warnings; *Sys::Virt::Stream::DESTROY = sub { } }
EOP
    'pos after recv' => <<'EOP',
my $st = opened('download');
my $data = 'aXbXcX';
$data =~ /X/g;
print 'before ', pos $data, "\n";
$st->recv($data, 6);
print 'after ', pos($data) // 'undef', "\n";
$data = 'aXbXcX';
pos($data) = 3;
$st->recv($data, 100);
print 'after ', pos($data) // 'undef', "\n";
EOP
    'study, and vec, after recv' => 'my $st = opened("download"); my $data = "abc"; study $data; $st->recv($data, 16); print length $data, " ", vec($data, 0, 8), "\n";',
    'a pointer held as a string' => <<'EOP',
my $st = opened('download');
my $address = "$$st";
my $other = bless \(my $copy = $address), 'Sys::Virt::Stream';
says(sub { $other->recv(my $data, 10) });
{ no warnings; $$other = 0; }
print $$st == $address ? "same\n" : "other\n";
EOP
    'the version' => 'print defined $Sys::Virt::Stream::VERSION ? "defined\n" : "undef\n"; says(sub { Sys::Virt::Stream->VERSION(0); 1 });',
);

for my $what (sort keys %case) {
    my %got = map {
        $_ => run_perl($HEAD . $case{$what}, args => [$daemon->uri, $daemon->pool_dir], deadline => 30,
            env => { SYS_VIRT_STREAM => $_ eq 'c' ? 'c' : $ENV{SYS_VIRT_STREAM} })
    } qw(c own);
    if ($got{c}{signal} || $got{c}{hang}) {
        fail("$what: the C binding does not bear this: " . ($got{c}{hang} ? 'it hangs' : "signal $got{c}{signal}"));
    }
    is_deeply $got{own}, $got{c}, $what or diag explain @got{qw(own c)};
}

# C calls what the program's variable holds, at the time.
my $CHANGED = $HEAD . <<'EOP';
Sys::Virt::Event::register_default();
Sys::Virt::Event::add_timeout(20, sub { });
my $st = $local->new_stream(Sys::Virt::Stream::NONBLOCK);
$local->get_domain_by_name('test')->screenshot($st, 0);
my @called;
my $cb = sub { push @called, 'first'; $_[0]->remove_callback if rust() };
sub rust { return Sys::Virt::Stream->can('implementation') && Sys::Virt::Stream->implementation eq 'rust' }
$st->add_callback(1, $cb);
CHANGE;
for (1 .. 20) { last if @called; Sys::Virt::Event::run_default() }
print "@called[0 .. ($#called < 0 ? -1 : 0)]\n";
eval { $st->remove_callback };
EOP
ok_perl($CHANGED =~ s/CHANGE/\$cb = sub { push \@called, 'second' }/r, "second\n", 'another callback in the variable',
    args => [$daemon->uri, $daemon->pool_dir]);
SKIP: {
    skip 'the C binding crashes', 2 unless rust();
    for my $change ('undef $cb', '$cb = 5') {
        my $got = run_perl($CHANGED =~ s/CHANGE/$change/r, args => [$daemon->uri, $daemon->pool_dir], deadline => 30);
        is_deeply [@$got{qw(signal hang)}], [0, 0], "$change is safe" or diag explain $got;
    }
    # The handler of a transfer too.
    ok_perl($HEAD . <<'EOP', "safe\n", 'a handler undefined in itself', args => [$daemon->uri, $daemon->pool_dir]);
my ($n, $st, $handler) = (0, opened('download'));
$handler = sub { $n++; undef $handler; $_[2] };
eval { $st->recv_all($handler) };
print "safe\n";
EOP
}

subtest 'a handle that is opened as a file' => sub {
    plan skip_all => 'the C binding has no handle' unless rust();
    my $file = spew(scratch() . '/plain', "a line\n");
    ok_perl($HEAD . <<'EOP', "a line\n10\n", 'after close', args => [$daemon->uri, $daemon->pool_dir, $file]);
my $h = opened('download')->handle;
read $h, my $data, 10;
close $h;
open $h, '<', $ARGV[2] or die $!;
print scalar <$h>, length $data, "\n";
EOP
    ok_perl($HEAD . <<'EOP', "a line\n", 'without close', args => [$daemon->uri, $daemon->pool_dir, $file]);
my $h = opened('download')->handle;
read $h, my $data, 10;
open $h, '<', $ARGV[2] or die $!;
print scalar <$h>;
EOP
    ok_perl($HEAD . <<'EOP', "written\n", 'to write', args => [$daemon->uri, $daemon->pool_dir, "$file.out"]);
my $h = opened('upload')->handle;
print {$h} 'x';
close $h or die "close: $!";
open $h, '>', $ARGV[2] or die $!;
print {$h} "written\n";
close $h or die $!;
open $h, '<', $ARGV[2] or die $!;
print <$h>;
EOP
};

done_testing;
