#!/usr/bin/env bash
# Fetches smolvm's real command line, of several versions, into target/smolvm/VERSION/: the wheels of `smolmachines` on PyPI
# bring it whole, as `smol-vmm`. The tests of tests/smolvm then run against it; where it cannot be had, they say so and are
# skipped. Nothing is installed, and nothing of it is run here.
#
# Usage: ci/smolvm.sh [VERSION]…
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

versions=("$@")
# One of each kind: which tells its allow-lists and packs archives; which does neither; which drops an allow-list.
((${#versions[@]} > 0)) || versions=(1.32.2 1.9.1 1.4.0)
target=${CARGO_TARGET_DIR:-target}/smolvm

missing() {
  printf 'not fetched: smolvm %s (%s); tests that need it are skipped\n' "${versions[*]}" "$1"
  exit 0
}

[[ $(uname -sm) == 'Linux x86_64' ]] || missing 'these wheels are for Linux on x86-64'
command -v python3 >/dev/null || missing 'no python3 here'
python3 -m pip --version >/dev/null 2>&1 || missing 'no pip here'

for version in "${versions[@]}"; do
  folder=$target/$version
  if [[ -x $folder/smolvm ]]; then
    continue
  fi
  rm -rf -- "$folder.new"
  mkdir -p "$folder.new/wheel"
  timeout 600 python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$folder.new/wheel" "smolmachines==$version" || missing 'pip failed'
  python3 -m zipfile -e "$folder.new"/wheel/smolmachines-*.whl "$folder.new"
  mv "$folder.new/smol" "$folder.new/files"
  # By any other name it takes itself for a packed program.
  mv "$folder.new/files/smol-vmm" "$folder.new/files/smolvm"
  # An old release looks for its agent's file system in a folder, a new one unpacks it by itself.
  mkdir -p "$folder.new/agent"
  [[ ! -f $folder.new/files/agent-rootfs.tar ]] || tar -xf "$folder.new/files/agent-rootfs.tar" -C "$folder.new/agent"
  # The way in that a person would have: the libraries are found by it.
  cat >"$folder.new/smolvm" <<'WAY_IN'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
export SMOLVM_LIB_DIR="$here/files"
if [ -f "$here/files/agent-rootfs.tar.zst" ]; then
  export SMOLVM_AGENT_ROOTFS_TAR="$here/files/agent-rootfs.tar.zst"
else
  export SMOLVM_AGENT_ROOTFS="$here/agent"
fi
exec "$here/files/smolvm" "$@"
WAY_IN
  chmod 0755 "$folder.new/smolvm" "$folder.new/files/smolvm"
  rm -rf -- "$folder.new/wheel" "$folder"
  mv "$folder.new" "$folder"
done
printf 'smolvm is there: %s\n' "${versions[*]}"
