#!perl
# XS code of someone else's takes and returns these streams by the typemap, which xsubpp
# finds by itself.

use strict;
use warnings;
use lib 't/lib';

use Config;
use StreamTest qw(Sys::Virt);
use StreamTest::Tree;
use Test::More;

my $tree = StreamTest::Tree->new;
my ($ok, $out) = $tree->make;
ok $ok, 'make' or BAIL_OUT($out);

mkdir $tree->path('other') or die $!;
spew($tree->path('other/Makefile.PL'), <<'PERL');
use ExtUtils::MakeMaker;
WriteMakefile(NAME => 'Other', VERSION => 1, LIBS => [$ENV{OTHER_LIBS}], INC => $ENV{OTHER_CFLAGS});
PERL
spew($tree->path('other/Other.pm'), "package Other; require XSLoader; XSLoader::load('Other', 1); 1;\n");
spew($tree->path('other/Other.xs'), <<'XS');
#include "EXTERN.h"
#include "perl.h"
#include "XSUB.h"
#include <libvirt/libvirt.h>

MODULE = Other  PACKAGE = Other

int
abort_it(st)
    virStreamPtr st
  CODE:
    RETVAL = virStreamAbort(st);
  OUTPUT:
    RETVAL

virStreamPtr
same(st)
    virStreamPtr st
  CODE:
    virStreamRef(st);
    RETVAL = st;
  OUTPUT:
    RETVAL
XS

my $pkg_config = $ENV{PKG_CONFIG} || 'pkg-config';
local $ENV{OTHER_LIBS}   = `$pkg_config --libs libvirt`;
local $ENV{OTHER_CFLAGS} = `$pkg_config --cflags libvirt`;
chomp @ENV{qw(OTHER_LIBS OTHER_CFLAGS)};
local $ENV{PERL5LIB} = join ':', $tree->path('blib/lib'), $tree->path('blib/arch'), $ENV{PERL5LIB} || ();

($ok, $out) = $tree->perl('-e', 'chdir "other"; system($^X, "Makefile.PL") == 0 && exec @ARGV; exit 1',
    $Config{make} || 'make');
ok $ok, 'a module that names no typemap of its own builds' or BAIL_OUT($out);

($ok, $out) = $tree->perl('-w', '-Mblib=other/blib', '-e', <<'PERL');
use Sys::Virt;
use Other;
my $st = Sys::Virt->new(uri => 'test:///default')->new_stream;
print Sys::Virt::Stream->implementation, "\n";
my $same = Other::same($st);
print ref $same, "\n";
print Other::abort_it($same), "\n";
for my $no (undef, 7, {}, bless(\(my $x = 5), 'Else'), Sys::Virt->new(uri => 'test:///default')) {
    eval { Other::abort_it($no) };
    print $@ =~ /^Other::abort_it: st is not an open Sys::Virt::Stream/ ? "refused\n" : "taken: $@\n";
}
PERL
is $out, join('', map { "$_\n" } 'rust', 'Sys::Virt::Stream', 0, ('refused') x 5),
    'streams go in and come out, and nothing else goes in';

done_testing;
