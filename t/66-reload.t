# The module loaded again, and its subs replaced, as tests and servers under development do.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);

my $TAIL = <<'EOP';
sub opened {
    our $conn ||= Sys::Virt->new(uri => 'test:///default');
    my $st = $conn->new_stream;
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    return $st;
}
sub whole {
    my ($bytes, $next) = (0, opened());
    $next->recv_all(sub { $bytes += $_[2]; $_[2] });
    $next->finish;
    print $bytes > 30_000 ? "whole\n" : "$bytes\n";
    my $class = ref $next;
    my $error = eval { our $conn; $conn->new_stream->recv_hole; 1 } ? 'none' : ref $@;
    print "$class, $error\n" if "$class, $error" ne 'Sys::Virt::Stream, Sys::Virt::Error';
    return;
}
EOP
my $RELOAD = "delete \$INC{'Sys/Virt/Stream.pm'}; require Sys::Virt::Stream;\n";

my %reload = (
    'reloaded' => ["use Sys::Virt;\n$RELOAD whole();", "whole\n"],
    'reloaded after use' => ["use Sys::Virt;\nwhole();\n$RELOAD whole();", "whole\nwhole\n"],
    'reloaded three times' => ["use Sys::Virt;\nwhole();\nfor (1 .. 3) { $RELOAD whole() }", "whole\n" x 4],
    'reloaded before Sys::Virt' => ["use Sys::Virt::Stream;\n$RELOAD require Sys::Virt; whole();", "whole\n"],
    'reloaded with a stream open' => ["use Sys::Virt;\nmy \$st = opened();\n\$st->recv(my \$data, 10);\n$RELOAD" . <<'EOP', "whole\n33443\n"],
whole();
my $bytes = 10;
while (my $got = $st->recv($data, 4_000)) { $bytes += $got }
$st->finish;
print "$bytes\n";
EOP
    'Sys::Virt reloaded too' => ["use Sys::Virt;\nwhole();\n" . <<'EOP', "whole\nwhole\n"],
delete @INC{grep { m{^Sys/Virt/(?:Stream|Domain|StorageVol|Event)\.pm$} } keys %INC};
{ no warnings 'redefine'; require $_ for map { "Sys/Virt/$_.pm" } qw(Event StorageVol Domain Stream) }
whole();
EOP
    'reloaded, and events' => ["use Sys::Virt;\nSys::Virt::Event::register_default();\n$RELOAD" . <<'EOP', "called\nwhole\n"],
Sys::Virt::Event::add_timeout(20, sub { });
my ($called, $st) = (0, opened());
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, sub { $called++; $_[0]->remove_callback });
for (1 .. 100) { last if $called; Sys::Virt::Event::run_default() }
print $called ? "called\n" : "not called\n";
$st->abort;
whole();
EOP
    'reloaded in the middle of a handler' => ["use Sys::Virt;\n" . <<"EOP", "33443\nwhole\n"],
my (\$bytes, \$st) = (0, opened());
\$st->recv_all(sub { if (!\$bytes) { $RELOAD } \$bytes += \$_[2]; \$_[2] });
print "\$bytes\\n";
whole();
EOP
);
# Nothing is said, but what -W has Perl's own modules say, and a reload Sys::Virt's.
sub silent {
    my ($code, $out, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $switch ('-w', '-W') {
        my $got = run_perl("use strict; our \$conn;\n$code\n$TAIL", switches => [$switch]);
        $got->{err} =~ s{^.* is experimental at \S+/overload\.pm line .*\n|^.* at \S+/Test/MockModule\.pm .*\n|^Subroutine \w+ redefined at \S+/Sys/Virt/(?!Stream).*\n}{}mg;
        is_deeply $got, { out => $out, err => '', status => 0, signal => 0, hang => 0 }, "$name, $switch"
            or diag explain $got;
    }
    return;
}
silent($reload{$_}[0], $reload{$_}[1], $_) for sort keys %reload;

SKIP: {
    skip 'Module::Refresh is missing: install libmodule-refresh-perl (Debian)', 2
        unless has_module('Module::Refresh', 'libmodule-refresh-perl');
    silent("use Module::Refresh; use Sys::Virt;\nwhole();\n"
        . "Module::Refresh->refresh_module('Sys/Virt/Stream.pm') for 1, 2;\nwhole();", "whole\nwhole\n", 'Module::Refresh');
}

# Subs of the package replaced: called by others of the package as in the C binding.
my %replaced = (
    '_new_obj' => [<<'EOP', "asked Sys::Virt 1\nOwn::Stream\n"],
{
    no warnings;
    *Sys::Virt::Stream::_new_obj = sub { print "asked ", ref $_[0], " $_[1]\n"; my $none = 0; return bless \$none, 'Own::Stream' };
    *Sys::Virt::Stream::_new = sub { my ($class, %p) = @_; return Sys::Virt::Stream::_new_obj($p{connection}, $p{flags}) };
}
$conn = Sys::Virt->new(uri => 'test:///default');
print ref $conn->new_stream(1), "\n";
EOP
    '_new_obj alone' => [<<'EOP', "asked Sys::Virt 1\nSys::Virt::Stream 7\n"],
{
    no warnings;
    *Sys::Virt::Stream::_new_obj = sub { print "asked ", ref $_[0], " $_[1]\n"; my $own = 7; return bless \$own, 'Own' };
    *Sys::Virt::Stream::DESTROY = sub { };
}
$conn = Sys::Virt->new(uri => 'test:///default');
my $st = $conn->new_stream(1);
print ref $st, " $$st\n";
EOP
    '_new_obj around the old one' => [<<'EOP', "asked\nwhole\n"],
{
    no warnings;
    my $old = \&Sys::Virt::Stream::_new_obj;
    my $asked = 0;
    *Sys::Virt::Stream::_new_obj = sub { print "asked\n" if !$asked++; return $old->(@_) };
}
whole();
EOP
    'recv, and given back' => [<<'EOP', "faked\nwhole\n"],
{
    no warnings;
    local *Sys::Virt::Stream::recv = sub { $_[1] = 'faked'; return 5 };
    my $st = opened();
    $st->recv(my $data, 10);
    print "$data\n";
}
whole();
EOP
    'recv_all and finish' => [<<'EOP', "7 faked\n"],
{
    no warnings;
    *Sys::Virt::Stream::recv_all = sub { my ($st, $handler) = @_; return $handler->($st, 'faked', 7) };
    *Sys::Virt::Stream::finish = sub { return };
}
my $st = opened();
$st->recv_all(sub { print "$_[2] $_[1]\n" });
$st->finish;
EOP
    'DESTROY around the old one' => [<<'EOP', "whole\ndestroyed\n"],
my $destroyed = 0;
{
    no warnings;
    my $old = \&Sys::Virt::Stream::DESTROY;
    *Sys::Virt::Stream::DESTROY = sub { $destroyed++; return $old->(@_) };
}
whole();
print $destroyed ? "destroyed\n" : "not destroyed\n";
EOP
    'download' => [<<'EOP', "faked\n"],
{
    no warnings;
    *Sys::Virt::Domain::screenshot = sub { print "faked\n"; return 'image/png' };
}
opened();
EOP
    'a constant' => [<<'EOP', "5\n"],
{
    no warnings;
    no strict 'refs';
    *Sys::Virt::Stream::NONBLOCK = sub () { 5 };
}
print eval 'Sys::Virt::Stream::NONBLOCK()', "\n";
EOP
);
for my $what (sort keys %replaced) {
    my ($code, $out) = @{ $replaced{$what} };
    ok_perl("use strict; use Sys::Virt; our \$conn;\n$code\n$TAIL", $out, "replaced: $what");
}

SKIP: {
    skip 'Test::MockModule is missing: install libtest-mockmodule-perl (Debian)', 2
        unless has_module('Test::MockModule', 'libtest-mockmodule-perl');
    silent("use Sys::Virt; use Test::MockModule;\n" . <<'EOP', <<'OUT', 'Test::MockModule');
{
    my $mock = Test::MockModule->new('Sys::Virt::Stream');
    $mock->mock(recv => sub { $_[1] = 'mocked'; return 6 });
    $mock->mock(finish => sub { print "finished\n"; return });
    my $calls = 0;
    $mock->mock(recv_all => sub { $calls++; return $mock->original('recv_all')->(@_) });
    my $st = opened();
    $st->recv(my $data, 10);
    print "$data\n";
    $st->finish;
    whole();
    print "$calls\n";
    $mock->unmock('recv');
    my $got = opened()->recv($data, 10);
    print "$got ", length $data, "\n";
    $mock->mock(_new_obj => sub { die "no stream today\n" });
    print eval { $conn->new_stream; 1 } ? "made\n" : $@;
    $mock->unmock_all;
}
whole();
EOP
mocked
finished
finished
whole
1
10 10
no stream today
whole
OUT
}

# A relay is for XSUBs. A sub of the program's in the place of one stays what it is.
ok_perl(<<'EOP', "mine\nmine\n", 'a sub in the place of run_default') if rust();
use strict; use warnings; use Sys::Virt;
{ no warnings 'redefine'; *Sys::Virt::Event::run_default = sub () { print "mine\n" } }
Sys::Virt::Event::run_default();
Sys::Virt::Stream::_surround();
Sys::Virt::Event::run_default();
EOP

done_testing;
