# Sourced by the scripts that a new user runs: `needs build`, `needs test`, `needs check`
# install, on Debian and Ubuntu, what this machine lacks for that, and nothing that it has.
# Sets PERL (Debian's, as that is the one with a packaged Sys::Virt) and PATH.

PERL=${PERL:-/usr/bin/perl}
# rustup's folder is not yet in the PATH of the shell that installed it, nor in sudo's.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin
export PERL PATH

has() { command -v "$1" >/dev/null 2>&1; }

has_module() { # without loading it: a profiler would begin to write
    "$PERL" -e '$file = shift =~ s{::}{/}gr; exit !grep { -e "$_/$file.pm" } @INC' "$1" 2>/dev/null
}

linkable() {
    for library in /usr/lib/*/lib"$1".so /usr/lib/lib"$1".so /usr/lib64/lib"$1".so; do
        [ -e "$library" ] && return 0
    done
    return 1
}

# The packages that `needs $1` is short of.
lacking() {
    # Debian's perl-base is no whole Perl, and the build needs the rest of it.
    "$PERL" -MExtUtils::MakeMaker -MTest::More -MPod::Man -e 1 2>/dev/null || echo perl
    has make || echo make
    has gcc || has cc || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    has pkg-config || echo pkg-config
    pkg-config --exists libvirt 2>/dev/null || echo libvirt-dev
    "$PERL" -MConfig -e 'exit !-e "$Config{archlibexp}/CORE/perl.h"' 2>/dev/null || echo libperl-dev
    "$PERL" -e 'use Sys::Virt' 2>/dev/null || echo libsys-virt-perl
    has cargo || echo cargo
    has rustc || echo rustc
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    if [ "$1" = check ]; then
        # The unit tests of the Rust side have a Perl of their own inside.
        linkable perl || echo libperl-dev
        has_module Module::CPANTS::Analyse || echo libmodule-cpants-analyse-perl
        has_module Test::CPAN::Changes || echo libcpan-changes-perl
        # The other transports.
        has openssl || echo openssl
        has sshd || echo openssh-server
        has ssh || echo openssh-client
        has nc || echo netcat-openbsd
    fi
    [ "$1" = test ] || return 0
    has libvirtd || echo libvirt-daemon libvirt-daemon-system
    has virsh || echo libvirt-clients
    has qemu-system-x86_64 || echo qemu-system-x86
    has qemu-img || echo qemu-utils
    has setpriv || echo util-linux
    # What tests run beside, where none may skip.
    [ -n "${SYS_VIRT_STREAM_TEST_ALL:-}" ] || return 0
    has zsh || echo zsh
    has zstd || echo zstd
    for module in AnyEvent Coro Devel::NYTProf EV Future::IO IO::Async Module::Refresh Mojolicious POE Return::MultiLevel Scope::Upper Test::MockModule; do
        has_module "$module" || echo "lib$module-perl" | sed 's/::/-/g' | tr '[:upper:]' '[:lower:]'
    done
}

needs() {
    packages=$(lacking "$1" | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    if ! has apt-get; then
        echo "Missing: $packages" >&2
        echo "This script knows apt-get only, which is not here. 'perl Makefile.PL' says what" \
             "the build needs, with the packages of Fedora too." >&2
        exit 1
    fi
    root=
    if [ "$(id -u)" != 0 ]; then
        has sudo || ask_for "there is no sudo here"
        root=sudo
        $root true || ask_for "sudo refuses"
    fi
    # One unreachable source among several is no reason to give up.
    $root apt-get -qq update </dev/null || echo "apt-get update did not reach every source; going on" >&2
    case " $packages" in *" cargo "*) choose_rust ;; esac
    echo "Installing what is missing: $packages"
    # shellcheck disable=SC2086 # a list of packages
    log=$(mktemp)
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o Dpkg::Use-Pty=0 install $packages </dev/null >"$log" 2>&1 || {
        cat "$log" >&2
        rm -f "$log"
        echo "apt-get could not install: $packages" >&2
        exit 1
    }
    rm -f "$log"
}

# For a user who may not install anything: what to have installed.
ask_for() {
    # Where apt has no list of packages yet, the names stay the usual ones.
    [ -z "$(packaged rustc)" ] || case " $packages" in *" cargo "*) choose_rust ;; esac
    echo "Packages are missing, $1, and you are not root. Ask whoever is root here for" \
         "these, then run this again:" >&2
    # shellcheck disable=SC2086 # a list of packages
    echo "    apt-get update && apt-get install --no-install-recommends" $packages >&2
    exit 1
}

# Debian 11 packages Rust 1.48, which cannot build this. Debian 12's own cargo can, but it
# asks the registry in the old way, a download of hundreds of megabytes; the same release
# has a newer one too, as cargo-web.
choose_rust() {
    candidate=$(packaged rustc)
    if ! dpkg --compare-versions "${candidate:-0}" ge 1.63; then
        echo "This release packages Rust ${candidate:-not at all}; 1.63 or newer is needed." \
             "Install it with rustup, then run this again." >&2
        exit 1
    fi
    if dpkg --compare-versions "$candidate" lt 1.70 && [ -n "$(packaged cargo-web)" ] && ! has rustc; then
        packages=$(echo " $packages" | sed 's/ cargo / cargo-web /; s/ rustc / rustc-web /')
    fi
}

packaged() { LC_ALL=C apt-cache policy "$1" | sed -n '/(none)/d; s/^ *Candidate: //p'; }
