# Every order of loading: which implementation runs, and that perl -w is silent.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);

# Each program ends by taking the screenshot of the test domain.
my $BODY = <<'EOP';
print Sys::Virt::Stream->can('implementation') ? Sys::Virt::Stream->implementation : 'none', "\n";
my $conn = Sys::Virt->new(uri => 'test:///default');
my $st = $conn->new_stream(0);
my $bytes = 0;
$conn->get_domain_by_name('test')->screenshot($st, 0);
$st->recv_all(sub { $bytes += $_[2]; return $_[2] });
$st->finish;
print $bytes > 10_000 ? "sent\n" : "lost\n";
print join(' ', ref $st, Sys::Virt::Stream::NONBLOCK(), Sys::Virt::Stream::EVENT_HANGUP()), "\n";
EOP
my $SENT = "sent\nSys::Virt::Stream 1 8\n";

my %order = (
    'Sys::Virt alone'             => 'use Sys::Virt;',
    'the stream first'            => 'use Sys::Virt::Stream; use Sys::Virt;',
    'the stream last'             => 'use Sys::Virt; use Sys::Virt::Stream;',
    'the stream without import'   => 'use Sys::Virt::Stream (); use Sys::Virt ();',
    'at run time'                 => 'require Sys::Virt;',
    'the stream at run time'      => 'require Sys::Virt::Stream; require Sys::Virt;',
    'the stream at run time last' => 'require Sys::Virt; require Sys::Virt::Stream;',
    'half and half'               => 'use Sys::Virt::Stream; require Sys::Virt;',
    'run time, then compile time' => 'BEGIN { require Sys::Virt::Stream } use Sys::Virt;',
    'another part first'          => 'use Sys::Virt::Event; use Sys::Virt::Error; use Sys::Virt;',
    'in an eval'                  => 'eval q{use Sys::Virt; 1} or die;',
    'the stream in an eval'       => 'eval q{use Sys::Virt::Stream; 1} or die; eval { require Sys::Virt } or die;',
    'twice'                       => 'use Sys::Virt; use Sys::Virt; require Sys::Virt::Stream;',
    'constants at compile time'   => 'use Sys::Virt; my $mode = Sys::Virt::Stream::NONBLOCK; die if $mode != 1;',
    'with fatal warnings'         => 'use warnings FATAL => q{all}; use Sys::Virt;',
    'the stream first, fatal'     => 'use warnings FATAL => q{all}; use Sys::Virt::Stream; use Sys::Virt;',
    'a handler for warnings'      => 'BEGIN { $SIG{__WARN__} = sub { die @_ } } use Sys::Virt::Stream; use Sys::Virt;',
    'a handler for exceptions'    => 'BEGIN { $SIG{__DIE__} = sub { print STDERR @_ } } use Sys::Virt;',
);
my $can = Sys::Virt::Stream->can('implementation');
# What to expect of the child programs, whatever was asked of this one.
my $mine = $can ? "rust\n" : "none\n";
my $theirs = $can ? "c\n" : "none\n";
rust();

for my $name (sort keys %order) {
    # -W also warns inside modules that have switched warnings off.
    for my $switch ('-w', '-W') {
        next if $switch eq '-W' && !quiet_at_all($order{$name});
        ok_perl("$order{$name}\n$BODY", $mine . $SENT, "$name, $switch",
            switches => [$switch], env => { SYS_VIRT_STREAM => undef });
    }
    ok_perl("$order{$name}\n$BODY", $theirs . $SENT, "$name, in C",
        env => { SYS_VIRT_STREAM => 'c' });
}

# Some perls' own modules are noisy under -W; they are not what is tested.
my %quiet;
sub quiet_at_all {
    my ($program) = @_;
    return $quiet{$program} //= run_perl("$program\n$BODY", switches => ['-W'],
        env => { SYS_VIRT_STREAM => 'c' })->{err} eq '';
}

ok_perl($BODY, $mine . $SENT, 'by a switch', switches => [qw(-w -MSys::Virt)],
    env => { SYS_VIRT_STREAM => undef });
ok_perl($BODY, $mine . $SENT, 'by two switches',
    switches => [qw(-w -MSys::Virt::Stream -MSys::Virt)], env => { SYS_VIRT_STREAM => undef });

SKIP: {
    skip 'the C binding has constants only once Sys::Virt is loaded', 4 unless $can;
    my %env = (env => { SYS_VIRT_STREAM => undef });
    my $constants = <<'EOP';
use strict;
use warnings;
use Sys::Virt::Stream;
my @all = (Sys::Virt::Stream::NONBLOCK, Sys::Virt::Stream::EVENT_READABLE,
    Sys::Virt::Stream::EVENT_WRITABLE, Sys::Virt::Stream::EVENT_ERROR,
    Sys::Virt::Stream::EVENT_HANGUP, Sys::Virt::Stream::RECV_STOP_AT_HOLE);
print "@all ", Sys::Virt::Stream->implementation, "\n";
EOP
    ok_perl($constants, "1 1 2 4 8 1 rust\n", 'no Sys::Virt loaded', %env);

    # A machine without Sys::Virt, as far as this perl can tell.
    my $without = <<'EOP';
BEGIN { unshift @INC, sub { die "Can't locate $_[1] in \@INC\n" if $_[1] =~ m{^Sys/Virt(?:/(?!Stream\b)|\.pm)} ; return } }
EOP
    ok_perl($without . $constants, "1 1 2 4 8 1 rust\n", 'no Sys::Virt installed', %env);
    ok_perl("$without$constants" . 'print eval { require Sys::Virt } ? "yes\n" : "no\n";',
        "1 1 2 4 8 1 rust\nno\n", 'and it stays away', %env);
    ok_perl('use Sys::Virt::Stream; print Sys::Virt->can("new") ? "yes\n" : "no\n";', "no\n",
        'the stream alone does not bring in the rest', %env);
}

# A program keeps references to what it found in the package.
ok_perl(<<'EOP', "same\n", 'the subs stay the same ones', env => { SYS_VIRT_STREAM => undef });
use Sys::Virt;
my %was = map { $_ => Sys::Virt::Stream->can($_) } qw(recv send recv_all finish abort);
require Sys::Virt::Stream;
eval { require Sys::Virt };
Sys::Virt->new(uri => 'test:///default')->new_stream;
print grep({ $was{$_} != Sys::Virt::Stream->can($_) } keys %was) ? "changed\n" : "same\n";
EOP

# The boot is the one that Sys::Virt asks for: where it fails, the message says the same.
{
    my $broken = scratch() . '/broken';
    mkdir "$broken$_" or die "mkdir: $!" for '', map { "/$_" } qw(Sys auto auto/Sys auto/Sys/Virt);
    spew("$broken/Sys/Virt.pm", slurp($INC{'Sys/Virt.pm'}));
    spew("$broken/auto/Sys/Virt/Virt.so", 'no library');
    my ($ours, $c) = map {
        run_perl('print eval { require Sys::Virt; 1 } ? "loaded" : $@ =~ s/\S+(?= line \d+\.\n\z)//r',
            inc => [$broken], env => { SYS_VIRT_STREAM => $_ })->{out};
    } undef, 'c';
    like $ours, qr{^Can't load '\Q$broken\E/auto/Sys/Virt/Virt\.so' .* at \Q$broken\E/Sys/Virt\.pm line}s,
        'a boot that fails: what and where';
    is $ours, $c, 'as without this module';
}

done_testing;
