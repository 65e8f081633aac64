#!/usr/bin/env bash
# Type-checks the whole package for macOS, tests and benches included; nothing of it is linked or run.
#
# Where this toolchain has the target it is used. Elsewhere, on Linux as root with debootstrap, a Rust is taken from Debian
# unstable, which packages the source of `std` with it: the standard library is then checked for the target as well. Takes
# 1.5 GB in target/macos-check/, and some ten minutes the first time. Not part of what must hold before a change lands.
#
# Usage: ci/macos-check.sh [TARGET]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

triple=${1:-aarch64-apple-darwin}
place=$PWD/${CARGO_TARGET_DIR:-target}/macos-check
root=$place/root
log=$place/log

# A warning is an error here, as it is elsewhere; those of dependencies are not shown.
check() {
  "$@" 2>&1 | tee "$log"
  if grep -q '^warning: `claude-bottle' "$log"; then
    echo 'there are warnings' >&2
    return 1
  fi
}

mkdir -p "$place"
if [[ -d $(rustc --print sysroot)/lib/rustlib/$triple ]]; then
  check cargo check --keep-going --package claude-bottle --all-targets --target "$triple"
  exit
fi

if ((EUID != 0)) || ! command -v debootstrap >/dev/null; then
  printf 'this toolchain has no target %s (rustup target add %s), and to take one from Debian needs root and debootstrap\n' \
    "$triple" "$triple" >&2
  exit 2
fi

if [[ ! -x $root/usr/bin/cargo ]]; then
  rm -rf -- "$root"
  debootstrap --variant=minbase --include=ca-certificates,cargo,gcc,libc6-dev,rust-src,rustc \
    sid "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
fi
# This machine's way to the registry: its certificates, its resolver, and what cargo has fetched and been told already.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp -L /etc/resolv.conf "$root/etc/"
cargo_home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$cargo_home" "$root/cargo" "$root/source" "$root/target" "$place/target"
# Dependencies with C code in them are not built, only checked.
printf '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" != -o ] || : >"$2"; shift; done\n' >"$root/usr/local/bin/no-cc"
printf '#!/bin/sh\nfor at; do case $at in *.a) : >"$at" ;; esac; done\n' >"$root/usr/local/bin/no-ar"
chmod 0755 "$root"/usr/local/bin/no-*

# shellcheck disable=SC2016 # for the other shell
enter='
  mount --bind "$2" "$1/cargo"
  mount --bind "$3" "$1/source"
  mount --bind "$4" "$1/target"
  mount -t proc proc "$1/proc"
  exec chroot "$1" env -i -C /source HOME=/root PATH=/usr/local/bin:/usr/bin:/bin RUSTC_BOOTSTRAP=1 \
    CARGO_HOME=/cargo CARGO_TARGET_DIR=/target "CC_${5//-/_}=no-cc" "AR_${5//-/_}=no-ar" \
    /usr/bin/cargo check -Zbuild-std --keep-going --package claude-bottle --all-targets --target "$5"
'
check unshare --mount --fork bash -euc "$enter" _ "$root" "$cargo_home" "$PWD" "$place/target" "$triple"
