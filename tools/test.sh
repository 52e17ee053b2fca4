#!/bin/sh
# usage: sh tools/test.sh [FILE...]
# Builds the module and runs its tests, after installing what they need.
# With SYS_VIRT_STREAM_TEST_ALL=1 a test that would skip fails instead.
# Eight files run side by side, since most of them wait most of the time; JOBS sets another number.
set -eu
cd "$(dirname "$0")/.."
. tools/needs.sh
needs test
"$PERL" Makefile.PL
make
# What takes longest begins first, so that nothing runs alone at the end.
[ $# -gt 0 ] || set -- t/0*.t t/9*.t t/3*.t t/[5-8]*.t t/4*.t t/[12]*.t
exec "$PERL" -S prove -b -j "${JOBS:-8}" "$@"
