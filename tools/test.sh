#!/bin/sh
# Builds the module and runs all its tests, after installing what they need.
# With SYS_VIRT_STREAM_TEST_ALL=1 a test that would skip fails instead.
set -eu
cd "$(dirname "$0")/.."
. tools/needs.sh
needs test
"$PERL" Makefile.PL
make
exec "$PERL" -S prove -b t/
