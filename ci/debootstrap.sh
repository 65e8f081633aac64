#!/usr/bin/env bash
# Debian's debootstrap, which this machine may lack: its package is then unpacked in FOLDER, for this alone, and nothing installed.
# Takes root, as debootstrap does, which makes device files.
#
# Usage: ci/debootstrap.sh FOLDER ARGUMENT…
set -euo pipefail
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
((EUID == 0)) || { echo 'debootstrap takes root: it makes device files' >&2; exit 1; }
! command -v debootstrap >/dev/null || exec debootstrap "$@"
command -v apt-get >/dev/null || { echo 'there is neither debootstrap nor apt-get to take it with' >&2; exit 1; }
if [[ ! -d $folder/debootstrap ]]; then
  rm -rf "$folder/debootstrap.new"
  mkdir "$folder/debootstrap.new"
  (cd "$folder/debootstrap.new" && apt-get download debootstrap 2>&1)
  dpkg-deb -x "$folder"/debootstrap.new/debootstrap_*.deb "$folder/debootstrap.new"
  mv "$folder/debootstrap.new" "$folder/debootstrap"
fi
exec env DEBOOTSTRAP_DIR="$folder/debootstrap/usr/share/debootstrap" "$folder/debootstrap/usr/sbin/debootstrap" "$@"
