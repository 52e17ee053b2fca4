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
# Builds and the command take longest, and so begin first.
[ $# -gt 0 ] || set -- t/0*.t t/9*.t t/[1-8]*.t
exec "$PERL" -S prove -b -j "${JOBS:-8}" "$@"
