#!/usr/bin/env bash
# Probes bottles on a real smolvm, in a virtual machine that QEMU emulates with its own virtualization: no KVM is needed here.
# Everything is made of Debian's and PyPI's packages, and kept in target/smolvm-rig/; the machine itself is gone at the end.
#
#   ci/smolvm-rig/run.sh [VERSION [BREACH…]]   VERSION of smolvm, 1.32.2 unless given; with BREACH, these instead of a sound bottle
#
# The reports come out as target/smolvm-rig/reports/VERSION/*. A launch that fails is tried again, up to three times: emulated
# machines do not always come up. A verdict is never asked for twice.
#
# Exit: 0 if every report is as it should be.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

if [[ ${1:-} != --inside ]]; then
  version=${1:-1.32.2}
  target=${CARGO_TARGET_DIR:-$PWD/target}
  folder=$target/smolvm-rig
  "$here/build.sh" "$folder"
  ci/smolvm.sh "$version"
  [[ -x $target/smolvm/$version/smolvm ]] || { echo "there is no smolvm $version to run" >&2; exit 1; }
  cargo build
  exec "$here/boot.sh" "$folder" "$here/run.sh" --inside "$folder" "$target" "$version" "${@:2}"
fi

folder=$2 target=$3 version=$4
breaches=("${@:5}")
# shellcheck disable=SC2206 # words
ssh=($RIG_SSH)
rig() { "${ssh[@]}" "$@"; }

rig 'mkdir -p /opt/smolvm /root/.cache /root/reports; (dockerd >/var/log/dockerd.log 2>&1 &)' </dev/null
tar -C "$target/smolvm" -cf - "$version" | rig 'tar -C /opt/smolvm -xf -'
gzip -1 -c "$target/debug/claude-bottle" | rig 'gunzip -c >/root/claude-bottle && chmod 0755 /root/claude-bottle'
# Packs take longest, and are the same the next time.
cache=$folder/cache/$version
mkdir -p "$cache"
tar -C "$cache" -cf - . | rig 'tar -C /root/.cache -xf -'

reports=$folder/reports/$version
mkdir -p "$reports"
status=0
probe() { # NAME OPTION…
  local name=$1 code=0
  shift
  for _ in 1 2 3; do
    code=0
    rig "cd /root && CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1 CLAUDE_BOTTLE_SMOLVM_SLOWNESS=8 SMOLVM_AGENT_READY_TIMEOUT_SECS=170 \
      PATH=/opt/smolvm/$version:\$PATH timeout 1800 ./claude-bottle probe --backend smolmachines -v $* 2>&1" \
      </dev/null >"$reports/$name.txt" || code=$?
    grep -q 'no bottle could be launched' "$reports/$name.txt" || break
    echo "$name: no bottle could be launched; it is tried again"
  done
  cat "$reports/$name.txt"
  printf '%s: exit code %s\n' "$name" "$code"
  ((code == 0)) || status=1
}

if ((${#breaches[@]} == 0)); then
  probe sound --junit reports/junit.xml --json reports/report.json
  rig 'tar -C /root/reports -cf - .' </dev/null | tar -C "$reports" -xf -
else
  for breach in "${breaches[@]}"; do
    probe "$breach" --breach "$breach"
  done
fi
rig 'tar -C /root/.cache -cf - claude-bottle 2>/dev/null || tar -cf - -T /dev/null' </dev/null | tar -C "$cache" -xf -
exit "$status"
