#!/bin/sh
# usage: sh examples/screenshot.sh FILE.png
# Builds the module, after installing what that needs, and has libvirt's test driver send
# a screenshot of its domain over a stream. No daemon takes part in it.
set -eu
[ $# -eq 1 ] || { echo "usage: sh examples/screenshot.sh FILE.png" >&2; exit 2; }
case $1 in /*) file=$1 ;; *) file=$PWD/$1 ;; esac
cd "$(dirname "$0")/.."
. tools/needs.sh
needs build
"$PERL" Makefile.PL
make
exec "$PERL" -w -Mblib examples/screenshot.pl test:///default test "$file"
