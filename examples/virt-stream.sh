#!/bin/sh
# usage: sh examples/virt-stream.sh ARGUMENTS OF virt-stream
# Builds the module, after installing what that needs, and runs its command from where it was built.
set -eu
[ $# -gt 0 ] || { echo "usage: sh examples/virt-stream.sh -c test:///default screenshot test FILE.png" >&2; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/tools/needs.sh"
needs build
(cd "$top" && "$PERL" Makefile.PL && make)
exec "$PERL" -I"$top/blib/lib" -I"$top/blib/arch" "$top/blib/script/virt-stream" "$@"
