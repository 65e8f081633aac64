#!/usr/bin/env bash
# Type-checks the whole package for macOS, tests and benches included, and the guest programs for the Linux that runs beside it,
# on the same processor. Nothing is linked or run.
#
# Where this toolchain has a target it is used. Elsewhere, on Linux as root, a Rust is taken from Debian unstable, which packages
# the source of `std` with it: the standard library is then checked for the target as well. Takes 1.5 GB in target/macos-check/, and
# some ten minutes the first time. Not part of what must hold before a change lands.
#
# Usage: ci/macos-check.sh [aarch64|x86_64]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

processor=${1:-aarch64}
place=$(realpath -m "${CARGO_TARGET_DIR:-target}/macos-check")
root=$place/root
log=$place/log

# With every target that is not this machine's own.
in_debian() { # TARGET ARGUMENT…
  local target=$1
  # shellcheck disable=SC2016 # for the other shell
  local enter='
    mount --bind "$2" "$1/cargo"
    mount --bind "$3" "$1/source"
    mount --bind "$4" "$1/target"
    mount -t proc proc "$1/proc"
    exec chroot "$1" env -i -C /source HOME=/root PATH=/usr/local/bin:/usr/bin:/bin RUSTC_BOOTSTRAP=1 \
      CARGO_HOME=/cargo CARGO_TARGET_DIR=/target "CC_${5//-/_}=no-cc" "AR_${5//-/_}=no-ar" \
      /usr/bin/cargo check -Zbuild-std --target "${@:5}"
  '
  unshare --mount --fork bash -euc "$enter" _ "$root" "$cargo_home" "$PWD" "$place/target" "$target" "${@:2}"
}

is_installed() {
  [[ -d $(rustc --print sysroot)/lib/rustlib/$1 ]]
}

# A warning is an error here, as it is elsewhere; those of dependencies are not shown.
check() { # TARGET ARGUMENT…
  printf '==> %s\n' "$*"
  local -a run=(in_debian "$@")
  ! is_installed "$1" || run=(cargo check --target "$@")
  "${run[@]}" 2>&1 | tee "$log"
  if grep -q '^warning: `claude-bottle' "$log"; then
    echo 'there are warnings' >&2
    return 1
  fi
}

macos=$processor-apple-darwin guest=$processor-unknown-linux-musl
mkdir -p "$place/target"
if ! is_installed "$macos" || ! is_installed "$guest"; then
  if ((EUID != 0)); then
    printf 'this toolchain lacks a target (rustup target add %s %s), and to take one from Debian needs root\n' "$macos" "$guest" >&2
    exit 2
  fi
  if [[ ! -x $root/usr/bin/cargo ]]; then
    rm -rf -- "$root"
    ci/debootstrap.sh "$place" --variant=minbase --include=ca-certificates,cargo,gcc,libc6-dev,rust-src,rustc \
      sid "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
  fi
  # This machine's way to the registry: its certificates, its resolver, and what cargo has fetched and been told already.
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp -L /etc/resolv.conf "$root/etc/"
  cargo_home=${CARGO_HOME:-$HOME/.cargo}
  mkdir -p "$cargo_home" "$root/cargo" "$root/source" "$root/target"
  # Dependencies with C code in them are not built, only checked.
  printf '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" != -o ] || : >"$2"; shift; done\n' >"$root/usr/local/bin/no-cc"
  printf '#!/bin/sh\nfor at; do case $at in *.a) : >"$at" ;; esac; done\n' >"$root/usr/local/bin/no-ar"
  chmod 0755 "$root"/usr/local/bin/no-*
fi

check "$macos" --package claude-bottle --all-targets --keep-going
check "$guest" --package claude-bottle-guest --package claude-bottle-gateway --all-targets --keep-going
