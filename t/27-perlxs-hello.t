# Another extension in Rust on the same layers: examples/perlxs-hello, built beside this module.
use strict;
use warnings;

use File::Copy ();
use File::Path ();
use Test::More;
use lib 't/lib';
use StreamTest;

my $source = 'examples/perlxs-hello';
my %made = map { /^(CARGO|CARGO_FLAGS|MYEXTLIB) = (.+)/ ? ($1 => $2) : () } -e 'Makefile' ? split /\n/, slurp('Makefile') : ();
if (!-d $source || !-e ($made{MYEXTLIB} // '')) {
    plan skip_all => 'no built source tree here' unless $ENV{SYS_VIRT_STREAM_TEST_ALL} && -d $source;
    BAIL_OUT('no built source tree here');
}

# As make builds the module: what both need is there already.
delete @ENV{qw(CARGO_BUILD_TARGET CARGO_MAKEFLAGS MAKEFLAGS MFLAGS)};
my $log = scratch() . '/log';
system("PERL=$^X CARGO_TARGET_DIR=target '$made{CARGO}' build $made{CARGO_FLAGS} -p perlxs_hello >$log 2>&1");
is $?, 0, 'it builds' or BAIL_OUT(slurp($log));
my $dir = scratch();
File::Path::make_path("$dir/auto/Greeter");
File::Copy::copy("$source/lib/Greeter.pm", $dir) or die "Greeter.pm: $!";
File::Copy::copy($made{MYEXTLIB} =~ s/sys_virt_stream/perlxs_hello/r, "$dir/auto/Greeter/Greeter.so") or die "Greeter.so: $!";

sub greets {
    my ($name, $code, $out, %opt) = @_;
    return ok_perl("use strict; use Greeter; my \$greeter = Greeter->new('world');\n$code", $out, $name, inc => [$dir], %opt);
}

greets('a method', 'print $greeter->greet', 'Hello, world');
greets('a callback', 'print $greeter->greet_by(sub { print "<$_[0]> "; return 42 })', '<Hello, world> 42');
greets('a callback that dies', <<'EOP', '<sorry> <Hello, world> 1');
eval { $greeter->greet_by(sub { die "sorry\n" }) };
print '<', $@ =~ s/\n//r, '> ';
$greeter->greet_by(sub { print "<$_[0]> " });
print Greeter->can('alive')->();
EOP
greets('a destructor', <<'EOP', '1 2 1 0');
print Greeter::alive();
{ my $other = Greeter->new('moon'); print ' ', Greeter::alive(); }
print ' ', Greeter::alive();
undef $greeter;
print ' ', Greeter::alive();
EOP
greets('what is no object', <<'EOP', "Greeter: this is none at LINE\nUsage: Greeter::greet(self) at LINE\n");
for my $call (sub { Greeter::greet(bless \(my $slot = 0), 'Greeter') }, sub { &Greeter::greet() }) {
    eval { $call->() };
    print $@ =~ s/at \S+ line \d+\.$/at LINE/r;
}
EOP
SKIP: {
    skip 'Sys::Virt is missing', 1 unless StreamTest::has('Sys::Virt');
    skip 'this is about the two of them', 1 if ($ENV{SYS_VIRT_STREAM} // '') eq 'c';
    greets('beside Sys::Virt::Stream', <<'EOP', 'Hello, world rust sorry ');
use Sys::Virt;
my $st = Sys::Virt->new(uri => 'test:///default')->new_stream;
print $greeter->greet, ' ', $st->implementation, ' ';
eval { $greeter->greet_by(sub { eval { $st->recv(my $data, 1) }; die 'sorry ' }) };
print $@ =~ s/ at .*\n//r;
EOP
}

done_testing;
