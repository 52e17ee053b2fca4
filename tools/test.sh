#!/bin/sh
# usage: sh tools/test.sh [FILE...]
# Builds the module and runs its tests, after installing what they need.
# With SYS_VIRT_STREAM_TEST_ALL=1 a test that would skip fails instead.
# Six files run side by side, since most of them wait most of the time; JOBS sets another number.
set -eu
cd "$(dirname "$0")/.."
. tools/needs.sh
needs test
"$PERL" Makefile.PL
make
[ $# -gt 0 ] || set -- t/
exec "$PERL" -S prove -b -j "${JOBS:-6}" "$@"
