# Modules that hook into Perl's stacks and ops: profilers, coroutines, and ways out of a
# handler that are no exceptions.
use strict;
use warnings;

use File::Temp ();
use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);

my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt;
$| = 1;
our $conn = Sys::Virt->new(uri => 'test:///default');
sub opened {
    my $st = $conn->new_stream;
    $conn->get_domain_by_name('test')->screenshot($st, 0);
    return $st;
}
sub whole {
    my ($bytes, $next) = (0, opened());
    $next->recv_all(sub { $bytes += $_[2]; $_[2] });
    $next->finish;
    print $bytes > 30_000 ? "whole\n" : "$bytes\n";
    return;
}
EOP

my $USES = $HEAD . <<'EOP';
my $st = opened();
for my $round (1 .. 20) {
    my $n = 0;
    my $st = opened();
    $st->recv_all(sub { my @copy = @_; $n += helper($_[2]); $_[2] });
    $st->finish;
    $st = opened();
    eval { $st->recv_all(sub { die "out\n" }) };
    $st = opened();
    eval { $st->recv_all(sub { helper(); -1 }) };
    $st = opened();
    while (1) { last unless $st->recv(my $data, 7_000) }
    $st->finish;
}
sub helper { my ($n) = @_; return $n }
whole();
EOP

# C keeps what a handler that died had closed over.
my $says = "whole\n";
if (rust()) {
    $says .= "freed\nwhole\n";
    $USES .= <<'EOP';
our @log;
sub Some::Guard::DESTROY { push @log, 'freed' }
{
    my $guard = bless [], 'Some::Guard';
    my $st = opened();
    eval { $st->recv_all(sub { my $held = $guard; die "out\n" }) };
}
print "@log\n";
whole();
EOP
}

SKIP: {
    skip 'Devel::NYTProf is missing: install libdevel-nytprof-perl (Debian)', 4
        unless has_module('Devel::NYTProf', 'libdevel-nytprof-perl');
    my %nytprof = ('' => '', ', slow ops' => ':slowops=2', ', by blocks' => ':blocks=1', ', no statements' => ':stmts=0');
    for my $what (sort keys %nytprof) {
        my $file = scratch() . '/nytprof.out';
        ok_perl($USES, $says, "Devel::NYTProf$what", switches => ['-d:NYTProf'],
            env => { NYTPROF => "file=$file$nytprof{$what}", PERL5DB => undef });
        unlink $file;
    }
}

SKIP: {
    skip 'Devel::Cover is missing: install libdevel-cover-perl (Debian)', 1
        unless has_module('Devel::Cover', 'libdevel-cover-perl');
    my $db = File::Temp::tempdir(DIR => scratch());
    ok_perl($USES, $says, 'Devel::Cover', switches => ["-MDevel::Cover=-silent,1,-db,$db"]);
}

my %coro = (
    'cancelled inside a handler' => [<<'EOP', "in\ncancelled\nwhole\nwhole\n"],
my $st = opened();
my $coro = async { $st->recv_all(sub { print "in\n"; Coro::schedule(); $_[2] }); print "not reached\n" };
cede;
$coro->cancel;
print "cancelled\n";
whole();
undef $st;
whole();
EOP
    'ends inside a handler' => [<<'EOP', "in\njoined 7\nwhole\nwhole\n"],
my $st = opened();
my $coro = async { $st->recv_all(sub { print "in\n"; Coro::terminate(7) }); print "not reached\n" };
print 'joined ', $coro->join, "\n";
whole();
undef $st;
whole();
EOP
    'thrown into a handler' => [<<'EOP', "in\nthrown\nwhole\n"],
my $st = opened();
my $coro = async { eval { $st->recv_all(sub { print "in\n"; Coro::schedule(); $_[2] }) }; print $@ };
cede;
$coro->throw("thrown\n");
$coro->ready;
$coro->join;
whole();
EOP
    'hands on in a handler' => [<<'EOP', "33443 33443\nwhole\n"],
my @bytes = (0, 0);
my @coro = map { my $me = $_; async { my $st = opened(); $st->recv_all(sub { cede; $bytes[$me] += $_[2]; cede; $_[2] }); $st->finish } } 0, 1;
$_->join for @coro;
print "@bytes\n";
whole();
EOP
    'ends, with another in a handler' => [<<'EOP', "33443\nwhole\n"],
my $bytes = 0;
my $long = async { my $st = opened(); $st->recv_all(sub { cede for 1 .. 3; $bytes += $_[2]; $_[2] }); $st->finish };
my @short = map { async { my $st = opened(); $st->recv_all(sub { Coro::terminate() }) } } 1 .. 5;
$_->join for @short, $long;
print "$bytes\n";
whole();
EOP
);
SKIP: {
    skip 'Coro is missing: install libcoro-perl (Debian)', scalar keys %coro
        unless has_module('Coro', 'libcoro-perl');
    # A coroutine that has variables of its own crashes when it is cancelled within a sub that
    # one of its subs has called, in plain Perl, too: Coro leaves their scopes in a wrong pad.
    # Coro never returns to the C stack of one that ends within a sub, and what is there is lost.
    my @coro = grep { !$ENV{SYS_VIRT_STREAM_TEST_VALGRIND} || !/^cancelled|^ends/ } sort keys %coro;
    ok_perl("use Coro;\n$HEAD$coro{$_}[0]", $coro{$_}[1], "Coro: $_", deadline => 30) for @coro;
}

# A jump out of a handler. Under C the rest of the program runs inside of it, and the
# transfer fails at the very end. Here the jump arrives, or the transfer dies in its place.
my %jump = (
    'Scope::Upper: unwind' => ['Scope::Upper', 'libscope-upper-perl', <<'EOP'],
use Scope::Upper qw(unwind SUB UP);
my $st = opened();
sub outer { $st->recv_all(sub { unwind 5 => SUB UP SUB }); print "not reached\n"; return 6 }
print eval { 'left ' . outer() } // 'refused', "\n";
whole();
undef $st;
EOP
    'Scope::Upper: unwind, by a helper' => ['Scope::Upper', 'libscope-upper-perl', <<'EOP'],
use Scope::Upper qw(unwind SUB UP);
sub helper { unwind 5 => SUB UP SUB UP SUB }
sub outer { my $st = opened(); $st->recv_all(sub { helper(); $_[2] }); print "not reached\n"; return 6 }
print eval { 'left ' . outer() } // 'refused', "\n";
EOP
    'Return::MultiLevel' => ['Return::MultiLevel', 'libreturn-multilevel-perl', <<'EOP'],
use Return::MultiLevel qw(with_return);
my $st = opened();
my $left = eval { with_return { my ($return) = @_; $st->recv_all(sub { $return->(5) }); print "not reached\n"; 6 } };
print defined $left ? "left $left" : 'refused', "\n";
whole();
undef $st;
EOP
    'Return::MultiLevel, twice' => ['Return::MultiLevel', 'libreturn-multilevel-perl', <<'EOP'],
use Return::MultiLevel qw(with_return);
for my $n (1, 2) {
    my $left = eval { with_return { my ($return) = @_; my $st = opened(); $st->recv_all(sub { $return->($n) }); 9 } };
    print !defined $left ? 'refused' : $left == $n ? 'left 5' : "left $left", "\n";
}
EOP
    'Return::MultiLevel, in pure Perl' => ['Return::MultiLevel', 'libreturn-multilevel-perl', <<'EOP'],
BEGIN { $ENV{RETURN_MULTILEVEL_PP} = 1; $INC{'Scope/Upper.pm'} = undef }
use Return::MultiLevel qw(with_return);
my $st = opened();
my $left = eval { with_return { my ($return) = @_; $st->recv_all(sub { no warnings 'exiting'; $return->(5) }); 6 } };
print defined $left ? "left $left" : 'refused', "\n";
EOP
);
for my $what (sort keys %jump) {
    my ($module, $package, $code) = @{ $jump{$what} };
    SKIP: {
        skip 'the C binding runs the rest of the program in the handler', 1 unless rust();
        skip "$module is missing: install $package (Debian)", 1 unless has_module($module, $package);
        my $got = run_perl($HEAD . $code . "whole();\n", deadline => 30);
        # Scope::Upper's own words where it finds no way.
        $got->{err} =~ s/^No targetable subroutine scope.*\n//mg;
        my $out = $got->{out};
        # Where it will not leave Perl's stack of a handler, that goes on, and returns.
        $got->{err} =~ s/^Cannot target a scope outside of the current stack.*\n//mg;
        $got->{out} =~ s/^(?:not reached\n)?left [69]$/left 5/mg;
        $got->{out} =~ s/^refused$/left 5/mg;
        $got->{out} =~ s/(\w+ 5\n|whole\n)\K\1//g;
        is_deeply $got, { out => "left 5\nwhole\n", err => '', status => 0, signal => 0, hang => 0 }, $what
            or diag explain $got, $out;
    }
}
SKIP: {
    skip 'Scope::Upper is missing: install libscope-upper-perl (Debian)', 1
        unless has_module('Scope::Upper', 'libscope-upper-perl');
    ok_perl($HEAD . <<'EOP', "reaped\n33443\nwhole\n", 'Scope::Upper: reap and localize');
use Scope::Upper qw(reap localize SUB);
our $global = 1;
sub outer {
    my ($st, $bytes) = (opened(), 0);
    $st->recv_all(sub { my $first = !$bytes; $bytes += $_[2]; reap { print "reaped\n" } SUB if $first; localize '$main::global', 2, SUB; $_[2] });
    return $bytes;
}
print outer(), "\n";
whole();
EOP
}

done_testing;
